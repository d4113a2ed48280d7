"""A world model behind an endpoint, asked over loopback, and a judge that is no program of ours."""

import pytest

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


@pytest.mark.parametrize(('answer', 'observation'), [
  ('<think>hm</think><predicted_observation>a\nb</predicted_observation>', 'a\nb'),
  ('plain', 'plain'), ('**Environment Observation:**\n\n~$', '\n~$'),
  ('<think>hm</think>\nplain', 'plain'), ('', ''),
  ('<predicted_observation>cut', None), ('<think>cut', None), ('a</think>b', 'b'),
  ('<think>r</think>\n\n<predicted_observation>x\n</predicted_observation>\n', 'x\n'),
  ('\n\n<predicted_observation>x</predicted_observation>', 'x'),
  ('<predicted_observation>x</predicted_observation> so', None),
  ('<predicted_observation>a</predicted_observation><predicted_observation>b'
   '</predicted_observation>', None),
])
def test_observations_in_answers(answer, observation):
  assert observation_in(answer) == observation


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
