"""Chat rendering, strict parsing of what a model says, and the system prompts."""

import functools
import re

import hypothesis
import hypothesis.strategies as st
import pytest

from aw_jax.prompts import chat, templates
from aw_jax.prompts.chat import Prediction, parse_prediction
from aw_jax.tokenizer import (
  END_PREDICTED,
  END_THINK,
  IM_END,
  PREDICTED,
  SPECIAL_TOKENS,
  THINK,
  Tokenizer,
)
from aw_jax.trajectories import DOMAINS

TAGS = (THINK, END_THINK, PREDICTED, END_PREDICTED)
PLAIN = st.text(max_size=20).filter(lambda text: not any(tag in text for tag in TAGS))


@functools.cache
def tokenizer() -> Tokenizer:
  return Tokenizer.train([f'ls\necho {i} > file_{i}.txt\n' for i in range(100)], vocab_size=350)


def written(observation: str, thinking: str | None) -> str:
  thought = '' if thinking is None else f'{THINK}{thinking}{END_THINK}'
  return f'{thought}{PREDICTED}{observation}{END_PREDICTED}'


@hypothesis.given(PLAIN, st.none() | PLAIN, st.sampled_from(['', IM_END]))
def test_what_is_well_formed_parses(observation, thinking, end):
  expected = Prediction(observation, thinking or '')
  assert parse_prediction(written(observation, thinking) + end) == expected


def reference_parse(pieces: list[str]) -> Prediction | None:
  """The grammar on pieces, each a tag, the end token or tagless text, without a regex."""
  rest = list(pieces)

  def texts() -> str:
    found = []
    while rest and rest[0] not in TAGS:
      found.append(rest.pop(0))
    return ''.join(found)

  def take(tag: str) -> bool:
    return bool(rest) and rest.pop(0) == tag

  thinking = ''
  if rest[:1] == [THINK]:
    rest.pop(0)
    thinking = texts()
    if not take(END_THINK):
      return None
    if rest[:1] == ['\n']:
      rest.pop(0)
  if not take(PREDICTED):
    return None
  observation = texts()
  if not take(END_PREDICTED) or rest not in ([], [IM_END]):
    return None
  return Prediction(observation, thinking)


@hypothesis.settings(max_examples=1000)
@hypothesis.given(st.lists(st.sampled_from([*TAGS, *TAGS, IM_END, 'a', '\n', 'x y']), max_size=8))
def test_parsing_agrees_with_the_grammar(pieces):
  assert parse_prediction(''.join(pieces)) == reference_parse(pieces)


@hypothesis.given(PLAIN, PLAIN, st.data())
def test_one_tag_too_many_or_too_few_is_refused(observation, thinking, data):
  text = written(observation, thinking)
  tag = data.draw(st.sampled_from(TAGS))
  assert parse_prediction(text.replace(tag, '', 1)) is None
  place = data.draw(st.integers(0, len(text)))
  assert parse_prediction(text[:place] + tag + text[place:]) is None


@pytest.mark.parametrize('text', [
  '', 'a.txt', f' {PREDICTED}a{END_PREDICTED}', f'{PREDICTED}a{END_PREDICTED} ',
  f'{PREDICTED}a{END_PREDICTED}{IM_END}{IM_END}', f'{PREDICTED}a',
  f'{PREDICTED}a{END_PREDICTED}{THINK}b{END_THINK}', f'{THINK}b{END_THINK}',
  f'{THINK}b{END_THINK}\n\n{PREDICTED}a{END_PREDICTED}', f'{PREDICTED.upper()}a{END_PREDICTED}',
])
def test_malformed_predictions_are_refused(text):
  assert parse_prediction(text) is None


HISTORY = [('echo hi > a.txt', ''), ('cat a.txt', 'hi\n')]

WORLD_MODEL_CHAT = """\
<|im_start|>system
You are a Linux terminal.<|im_end|>
<|im_start|>user
echo hi > a.txt<|im_end|>
<|im_start|>assistant
<predicted_observation></predicted_observation><|im_end|>
<|im_start|>user
cat a.txt<|im_end|>
<|im_start|>assistant
<predicted_observation>hi
</predicted_observation><|im_end|>
<|im_start|>user
ls<|im_end|>
<|im_start|>assistant
<think>One file.</think><predicted_observation>a.txt
</predicted_observation><|im_end|>
"""

AGENT_CHAT = """\
<|im_start|>system
Write a file.<|im_end|>
<|im_start|>user
(empty)<|im_end|>
<|im_start|>assistant
echo hi > a.txt<|im_end|>
<|im_start|>user
<|im_end|>
<|im_start|>assistant
cat a.txt<|im_end|>
<|im_start|>user
hi
<|im_end|>
<|im_start|>assistant
<submit> done<|im_end|>
"""


def test_world_model_chat():
  t = tokenizer()
  ids = chat.world_model_context(t, 'You are a Linux terminal.', HISTORY)
  ids += chat.action_message(t, 'ls') + chat.prediction(t, 'a.txt\n', 'One file.')
  assert t.decode(ids) == WORLD_MODEL_CHAT


def test_agent_chat():
  t = tokenizer()
  ids = chat.agent_context(t, 'Write a file.', '(empty)', HISTORY)
  ids += chat.agent_action(t, '<submit> done')
  assert t.decode(ids) == AGENT_CHAT
  assert ids.count(t.special('<submit>')) == 1


@hypothesis.given(PLAIN, PLAIN)
def test_a_rendered_prediction_parses_back(observation, thinking):
  t = tokenizer()
  block = '\N{LOWER ONE EIGHTH BLOCK}'  # SentencePiece reads it as a space
  observation = observation.replace(block, ' ')
  thinking = thinking.replace(block, ' ')
  said = t.decode(chat.prediction(t, observation, thinking))
  assert parse_prediction(said) == Prediction(observation, thinking)
  assert chat.parse_thinking(said) == thinking


@pytest.mark.parametrize('text', ['', 'words', f'{PREDICTED}x', f'{THINK}no end',
                                  f' {THINK}t{END_THINK}', f'{THINK}{PREDICTED}t{END_THINK}'])
def test_a_turn_that_begins_without_thinking(text):
  assert chat.parse_thinking(text) == ''


@hypothesis.given(st.lists(st.sampled_from([*SPECIAL_TOKENS, 'ls', '\n']), max_size=4).map(''.join))
def test_nobody_can_forge_a_turn(text):
  """Whatever an action or observation says, the chat has the markup of its turns alone."""
  t = tokenizer()
  specials = [t.special(token) for token in SPECIAL_TOKENS]
  markup = [i for i in chat.world_model_context(t, text, [(text, text)]) if i in specials]
  plain = [i for i in chat.world_model_context(t, 's', [('a', 'o')]) if i in specials]
  assert markup == plain


def test_only_a_leading_submit_is_one_token():
  t = tokenizer()
  submit = t.special('<submit>')
  assert chat.agent_action(t, '<submit>') == [submit, t.special(IM_END)]
  assert submit not in chat.agent_action(t, 'echo <submit>')


def test_history_makes_a_longer_chat_with_the_same_beginning():
  """A cache that holds the chat so far is never invalidated by the next turn."""
  t = tokenizer()
  shorter = chat.world_model_context(t, 's', HISTORY[:1])
  assert chat.world_model_context(t, 's', HISTORY)[:len(shorter)] == shorter
  shorter = chat.agent_context(t, 's', 'f', HISTORY[:1])
  assert chat.agent_context(t, 's', 'f', HISTORY)[:len(shorter)] == shorter


def test_stages_share_no_template():
  used = [name for names in templates.STAGE_TEMPLATES.values() for name in names]
  assert len(used) == len(set(used))
  rendered = {templates.world_model_prompt('terminal', 'STATE', name) for name in used}
  assert len(rendered) == len(used)


def test_prompts_hold_the_state_and_the_instruction():
  state = 'a.txt: {world} {0}\n'
  for names in templates.STAGE_TEMPLATES.values():
    for name in names:
      prompt = templates.world_model_prompt('terminal', state, name, 'Be brief.')
      assert state in prompt and prompt.endswith('\nBe brief.')
  assert 'unknown' in templates.world_model_prompt('mcp', None)
  assert 'Count the {files}.' in templates.agent_prompt('terminal', 'Count the {files}.')


@pytest.mark.parametrize('domain', ['shell', *sorted(DOMAINS)])
def test_a_domain_has_prompts_or_says_which_do(domain):
  try:
    assert templates.world_model_prompt(domain, 'x') and templates.agent_prompt(domain, 'y')
  except templates.PromptError as error:
    assert repr(domain) in str(error) and 'terminal, mcp' in str(error)
    with pytest.raises(templates.PromptError):
      templates.agent_prompt(domain, 'y')
    assert domain not in ('terminal', 'mcp')


def test_unknown_template_lists_those_there_are():
  with pytest.raises(templates.PromptError, match=re.escape("no template 'v99'; there are v0, v1")):
    templates.world_model_prompt('terminal', None, 'v99')
