"""A world model behind an endpoint, asked over loopback, and a judge that is no program of ours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.evaluation import bench_report
from aw_jax.evaluation.bench import observation_of
from aw_jax.evaluation.endpoint import endpoint_predictor, observation_in
from aw_jax.evaluation.examples import TurnExample
from aw_jax.evaluation.fidelity import evaluate
from aw_jax.rewards.chat_endpoint import Endpoint, EndpointError
from aw_jax.rewards.rubric import Scores
from tests.chat_server import Failure, running


def turn(index, history=()):
  return TurnExample(
    'mcp', '', False, f't{index}', index, len(history) + 1, 2, tuple(history), f'call {index}',
    f'answer {index}', None, None, None, system='You are a tool server.')


def test_turns_are_asked_as_a_chat_and_answers_read():
  examples = [turn(0), turn(1, [('call 0', 'answer 0')]), turn(2)]

  def answer(body):
    asked = body['messages'][-1]['content']
    said = f'answer {asked[-1]}'
    return f'<predicted_observation>{said}</predicted_observation>' if asked != 'call 2' else (
      f'**Environment Observation:**\n{said}')

  with running(answer) as server:
    predict = endpoint_predictor(Endpoint('m', server.url))
    assert predict(examples) == ['answer 0', 'answer 1', 'answer 2']
  asked = {body['messages'][-1]['content']: body['messages'] for body in server.requests}
  assert asked['call 1'] == [
    {'role': 'system', 'content': 'You are a tool server.'},
    {'role': 'user', 'content': 'call 0'},
    {'role': 'assistant', 'content':
     '<predicted_observation>answer 0</predicted_observation>'},
    {'role': 'user', 'content': 'call 1'}]


def test_an_endpoint_that_stays_away_is_an_error():
  with running(lambda body: Failure(status=500)) as server:
    with pytest.raises(EndpointError):
      endpoint_predictor(Endpoint('m', server.url, retries=0))([turn(0)])


OPEN, CLOSE = '<predicted_observation>', '</predicted_observation>'
LEAD = '**Environment Observation:**'


@pytest.mark.parametrize(('answer', 'observation'), [
  (f'<think>hm</think>{OPEN}a\nb{CLOSE}', 'a\nb'), (f'{OPEN}a{CLOSE}<|im_end|>', 'a'),
  # As AgentWorldBench asks for it: thinking in the open, then the tags.
  (f'Step 1: it lists files.\n\n{OPEN}\na\n{CLOSE}\nThat is all.', 'a'),
  (f'<think>r</think>\n\n{OPEN}x\n{CLOSE}\n', 'x'), (f'\n\n{OPEN}x{CLOSE}', 'x'),
  # The last text in tags counts, drafts do not.
  (f'{OPEN}a{CLOSE}{OPEN}b{CLOSE}', 'b'), (f'<think>{OPEN}a{CLOSE}</think>{OPEN}b{CLOSE}', 'b'),
  (f'{OPEN}a{CLOSE} and {OPEN} is the tag', 'a'), (f'{OPEN}draft {OPEN}b{CLOSE}', 'b'),
  (f'{OPEN}a{CLOSE} so {CLOSE}', 'a'), (f'{OPEN}cut', 'cut'), (f'so: {OPEN}\ncut\n', 'cut'),
  (f'a{CLOSE}', None), (f'a{CLOSE}{OPEN}b', None), ('a</think>b', 'b'),
  # Thinking that does not end is no answer, whatever was drafted in it.
  ('<think>cut', None), (f'<think>it is {OPEN}a{CLOSE}', None), (f'{OPEN}a<think>b{CLOSE}', None),
  ('plain', 'plain'), (f'{LEAD}\n\n~$', '~$'), ('<think>hm</think>\nplain', 'plain'), ('', ''),
  (f'{OPEN}{LEAD}\n{{"a": 1}}{CLOSE}', '{"a": 1}'), (f'{OPEN}{CLOSE}', ''),
])
def test_observations_in_answers(answer, observation):
  assert observation_in(answer, 'truth') == observation


@pytest.mark.parametrize(('said', 'truth', 'observation'), [
  ('\n\n~$\n', '\n~$', '\n\n~$'), ('\n  1 a\n', '  1 b', '  1 a'), ('  1 a', '1 b', '1 a'),
  ('\n~/a# \n', '~# ', '~/a# '), ('\na\n', 'b\n', 'a\n'), ('\n\n', '', ''), ('\n', '\n', '\n'),
])
def test_space_around_an_answer_counts_where_the_truth_has_some(said, truth, observation):
  assert observation_in(f'{OPEN}{said}{CLOSE}', truth) == observation


PLAIN = st.text(st.characters(exclude_characters='<'), max_size=20)


@settings(max_examples=2000)
@given(st.lists(st.sampled_from([OPEN, CLOSE, '<think>', '</think>', LEAD, 'a', '\n']), max_size=8),
       PLAIN, PLAIN)
def test_only_the_last_text_in_tags_is_read(pieces, inside, outside):
  said = observation_in(''.join(pieces), inside)
  assert said is None or not any(tag in said for tag in (OPEN, CLOSE, '<think>', '</think>'))
  answer = f'{"".join(pieces)}</think>{outside}{OPEN}{inside}{CLOSE}{outside}'
  assert observation_in(answer, inside) == observation_of(inside)


def test_any_judge_gives_the_dimensions():
  class Odd:
    """Judges the first answer alone, and says nothing valid of the others."""

    def judge(self, predictions, references):
      assert [r.observation for r in references] == ['answer 0', 'answer 2']
      return [Scores(1.0, 2.0, 3.0, 4.0, 5.0), None]

  report = evaluate(lambda _: ['answer 0', None, 'answer 2'], [turn(0), turn(1), turn(2)],
                    judge=Odd(), resamples=20)
  assert report.values.tolist() == [
    [1, 1, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]
  assert report.get('judged')[::3] == (0.5, 2) and report.get('valid').mean == pytest.approx(2 / 3)
  assert report.get('rubric')[::3] == (pytest.approx(50 / 3), 3)
  assert report.get('rubric_judged')[::3] == report.get('rubric_judged', 'macro')[::3] == (50, 1)
  figures = report.to_json()
  figures = {'model': figures, 'part': {'mcp': figures['mcp']}}  # which answers some domains alone
  table = bench_report.as_markdown(figures)
  assert '| 16.7 (0.0 to 50.0) | 50.0 (50.0 to 50.0) |' in table
  assert table.count('| model |') == 3 and table.count('| part |') == 1
  assert bench_report.figure(figures)[:4] == b'\x89PNG'
