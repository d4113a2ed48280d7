"""What judges share, the three content types, and golden scores of the reference judge."""

import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aw_jax.rewards.content import CONTENT_TYPES, Reference
from aw_jax.rewards.judges import REFERENCE_JUDGE
from aw_jax.rewards.reward import rewards
from aw_jax.rewards.rubric import Scores, judge

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'golden' / 'judge_scores.json'
REFERENCE = Reference('terminal', 'cat a', 'alpha\nbeta\n~$', known='alpha beta')


def turn(text):
  return f'<predicted_observation>{text}</predicted_observation>'


def test_golden_scores():
  """Of real terminal and MCP observations; UPDATE_GOLDEN=1 rewrites them, which shows in review."""
  cases = json.loads(GOLDEN.read_text(encoding='utf-8'))
  assert {case['reference']['domain'] for case in cases} == {'terminal', 'mcp'}
  for case in cases:
    spans = tuple(map(tuple, case['reference']['runtime_metadata']))
    reference = Reference(**case['reference'] | {'runtime_metadata': spans})
    scores = [round(score, 9) for score in judge(case['predicted'], reference)]
    if os.environ.get('UPDATE_GOLDEN'):
      case['scores'] = scores
    assert scores == case['scores'], case
  if os.environ.get('UPDATE_GOLDEN'):
    GOLDEN.write_text(json.dumps(cases, indent=1) + '\n', encoding='utf-8')


def test_the_reference_judge_of_a_batch():
  texts = [REFERENCE.observation, 'alpha\n~$']
  assert REFERENCE_JUDGE.judge(texts, [REFERENCE] * 2) == [judge(text, REFERENCE) for text in texts]
  assert REFERENCE_JUDGE.judge([], []) == []
  with pytest.raises(ValueError):
    REFERENCE_JUDGE.judge(texts, [REFERENCE])


class Recorder:
  """A judge that gives what it is told to, and remembers what it saw."""

  def __init__(self, *scores):
    self.scores, self.seen = scores, []

  def judge(self, predictions, references):
    self.seen += zip(predictions, references, strict=True)
    return list(self.scores)


def test_only_the_text_inside_the_tag_reaches_a_judge():
  recorder = Recorder(Scores(*[3.0] * 5), None)
  texts = ['<think>give me 5</think>' + turn('a'), 'no tags', turn('b')]
  found = rewards(texts, [REFERENCE] * 3, judge=recorder)
  assert recorder.seen == [('a', REFERENCE), ('b', REFERENCE)]
  assert list(found.total) == [13.5, 0, 0] and list(found.invalid) == [0, 1, 1]


def test_an_invalid_judgement_counts_nothing_beside_the_rule():
  found = rewards([turn(REFERENCE.observation)], [REFERENCE], judge=Recorder(None))
  assert found == (2.5, 0, 25, 1)


def test_content_types_of_an_observation():
  text = 'pid 4312 of Ann\n~$'
  reference = Reference('terminal', 'ps', text, ((4, 8),), 'of pid', hidden_state=True)
  found = [(text[start:end], name) for start, end, name in reference.content_types]
  fixed, unseen, runtime = CONTENT_TYPES
  assert found == [('pid', fixed), (' 4312 ', runtime), ('of ', fixed), ('Ann', unseen),
                   ('\n~$', fixed)]


@given(st.text(max_size=80), st.booleans(), st.integers(0, 40), st.integers(0, 40))
def test_content_types_cover_the_observation(text, hidden, start, length):
  reference = Reference('mcp', 'do', text, ((start, start + length),), 'known', hidden)
  spans = reference.content_types
  assert ''.join(text[start:end] for start, end, _ in spans) == text
  assert all(one[2] != other[2] for one, other in zip(spans, spans[1:], strict=False))
  assert {name for _, _, name in spans} <= set(CONTENT_TYPES)
