"""The world model on the host: what it is asked, and how its answers are taken apart."""

import pytest

from aw_jax.imagination.world_model import Query, WorldModel
from aw_jax.prompts import chat
from aw_jax.sampling.sampler import Sample
from aw_jax.tokenizer import (
  END_PREDICTED,
  END_THINK,
  IM_END,
  PREDICTED,
  THINK,
  Tokenizer,
)

HISTORY = (('ls', 'a.txt\n~$'), ('cat a.txt', 'hello\n~$'))


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train(['Files: cat a.txt\nhello world ls ~$\n'] * 20, vocab_size=300)


class ScriptedSampler:
  """Says what it is told to, and notes what it was asked."""

  def __init__(self, tokenizer, *answers, finished=True):
    self.tokenizer, self.answers, self.finished = tokenizer, list(answers), finished
    self.prompts, self.settings, self.max_prompt = [], {}, 999

  def sample(self, prompts, **settings):
    self.prompts += prompts
    self.settings = settings
    return [[Sample(self.answers.pop(0), [1, 2], [-0.25, -0.5], self.finished)
             for _ in range(settings.get('group', 1))] for _ in prompts]


def test_the_prompt_is_the_chat_so_far(tokenizer):
  sampler = ScriptedSampler(tokenizer, f'x{END_PREDICTED}')
  WorldModel(sampler).predict('Files:', HISTORY, 'ls')
  text = tokenizer.decode(sampler.prompts[0])
  # Without thinking, the opening tag of the answer is given.
  assert text == (
    f'<|im_start|>system\nFiles:{IM_END}'
    f'<|im_start|>user\nls{IM_END}'
    f'<|im_start|>assistant\n{PREDICTED}a.txt\n~${END_PREDICTED}{IM_END}'
    f'<|im_start|>user\ncat a.txt{IM_END}'
    f'<|im_start|>assistant\n{PREDICTED}hello\n~${END_PREDICTED}{IM_END}'
    f'<|im_start|>user\nls{IM_END}'
    f'<|im_start|>assistant\n{PREDICTED}')


def test_a_thinking_model_is_left_to_begin_itself(tokenizer):
  sampler = ScriptedSampler(tokenizer, f'{THINK}t{END_THINK}{PREDICTED}x{END_PREDICTED}')
  thoughts = ('', 'a.txt is read')
  WorldModel(sampler, thinking=True).predict('Files:', HISTORY, 'ls', thoughts=thoughts)
  context = chat.world_model_context(tokenizer, 'Files:', HISTORY, thoughts)
  assert sampler.prompts == [context + chat.action_message(tokenizer, 'ls')]
  assert f'{THINK}a.txt is read{END_THINK}{PREDICTED}hello' in tokenizer.decode(context)
  assert tokenizer.decode(context).count(THINK) == 1


def test_thoughts_of_a_history_are_recalled_turn_by_turn_and_once(tokenizer):
  """Two queries share their past; the third has none; the fourth brings its thoughts along."""
  answers = [f'{THINK}first{END_THINK}{PREDICTED}', PREDICTED, 'no form', f'x{END_PREDICTED}']
  sampler = ScriptedSampler(tokenizer, *answers)
  queries = [Query('Files:', HISTORY, 'pwd'), Query('Files:', HISTORY, 'ls'),
             Query('Files:', (), 'ls'), Query('Other:', HISTORY, 'ls', ('mine', ''))]
  model = WorldModel(sampler, thinking=True)
  found = model.recall(queries)
  assert [query.thoughts for query in found] == [('first', ''), ('first', ''), (), ('mine', '')]
  assert sampler.settings['stop'] == PREDICTED and sampler.settings['max_tokens'] == 72
  assert sampler.prompts == [
    chat.world_model_context(tokenizer, 'Files:', ()) + chat.action_message(tokenizer, 'ls'),
    chat.world_model_context(tokenizer, 'Files:', HISTORY[:1], ('first',))
    + chat.action_message(tokenizer, 'cat a.txt')]
  assert model.recall(found) == found  # nothing is missing any more
  assert WorldModel(sampler).recall(queries) == queries  # it never thinks


def test_a_turn_beyond_the_context_is_recalled_without_thought(tokenizer):
  sampler = ScriptedSampler(tokenizer, f'{THINK}t{END_THINK}')
  sampler.max_prompt = len(
    chat.world_model_context(tokenizer, 'Files:', ()) + chat.action_message(tokenizer, 'ls'))
  query, = WorldModel(sampler, thinking=True).recall([Query('Files:', HISTORY, 'pwd')])
  assert query.thoughts == ('t', '')


@pytest.mark.parametrize(('thinking', 'answer', 'text', 'thought'), [
  (False, f'hello\n~${END_PREDICTED}', 'hello\n~$', ''),
  (False, END_PREDICTED, '', ''),
  (True, f'{THINK}it reads{END_THINK}{PREDICTED}hello{END_PREDICTED}', 'hello', 'it reads'),
  (True, f'{PREDICTED}hello{END_PREDICTED}', 'hello', '')])
def test_answers_of_valid_form(tokenizer, thinking, answer, text, thought):
  prediction, = WorldModel(ScriptedSampler(tokenizer, answer), thinking).predict('', (), 'ls')
  assert (prediction.text, prediction.thinking) == (text, thought)
  assert prediction.logprob == pytest.approx(-0.75)
  assert prediction.raw.endswith(answer)


@pytest.mark.parametrize(('thinking', 'answer'), [
  (False, 'hello'), (False, f'hello{END_PREDICTED}more'), (False, f'{PREDICTED}x{END_PREDICTED}'),
  (False, f'x{END_PREDICTED}{END_PREDICTED}'), (True, 'hello'),
  (True, f'{THINK}t{PREDICTED}x{END_PREDICTED}'),
  (True, f'x{END_THINK}{PREDICTED}x{END_PREDICTED}'),
  (True, f'{THINK}t{END_THINK} and {PREDICTED}x{END_PREDICTED}')])
def test_an_answer_without_a_valid_form_is_none(tokenizer, thinking, answer):
  prediction, = WorldModel(ScriptedSampler(tokenizer, answer), thinking).predict('', (), 'ls')
  assert prediction.text is None and prediction.thinking == ''
  assert answer in prediction.raw and prediction.logprob == pytest.approx(-0.75)


def test_an_answer_that_was_cut_off_is_none(tokenizer):
  sampler = ScriptedSampler(tokenizer, f'hello{END_PREDICTED}', finished=False)
  assert WorldModel(sampler).predict('', (), 'ls')[0].text is None


def test_many_queries_and_samples_keep_their_order(tokenizer):
  sampler = ScriptedSampler(tokenizer, *(f'{i}{END_PREDICTED}' for i in range(6)))
  queries = [Query('Files:', (), action) for action in ('ls', 'cat a.txt', 'ls')]
  found = WorldModel(sampler, max_tokens=7).predict_batch(queries, n=2, temperature=0.5, seed=3)
  assert [[p.text for p in group] for group in found] == [['0', '1'], ['2', '3'], ['4', '5']]
  assert len(sampler.prompts) == 3
  assert {name: sampler.settings[name] for name in ('max_tokens', 'temperature', 'group', 'seed')
          } == {'max_tokens': 7, 'temperature': 0.5, 'group': 2, 'seed': 3}
