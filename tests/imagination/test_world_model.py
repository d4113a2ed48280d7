"""The world model on the host: what it is asked, and how its answers are taken apart."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

from aw_jax.imagination.world_model import Query, WorldModel
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.prompts import chat
from aw_jax.sampling.sampler import Sample, Sampler
from aw_jax.tokenizer import (
  END_PREDICTED,
  END_THINK,
  IM_END,
  PREDICTED,
  THINK,
  Tokenizer,
)
from aw_jax.training.objectives import sequence_logprobs

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


EPISODE = ('Files:', (('ls', 'a.txt\n~$'), ('cat a.txt', 'hello\n~$'), ('ls', 'world\n~$')))
THOUGHTS = ('first', '', 'world cat')


@pytest.fixture(scope='module')
def sampler(tokenizer):
  """Of a tiny decoder that knows the episode with its thoughts by heart."""
  ids = jnp.array([chat.world_model_context(tokenizer, *EPISODE, THOUGHTS)])
  config = ModelConfig(vocab_size=320, width=32, layers=2, heads=2, kv_heads=1, head_dim=16,
                       mlp_width=64, short_conv_width=3, dtype='float32')
  decoder, optimizer = Decoder(config), optax.adam(1e-2)

  @jax.jit
  def step(carry, _):
    params, state = carry
    def loss(params):
      return -jnp.mean(sequence_logprobs(decoder, params, ids)[0])
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  params = nn.unbox(init_params(config, jax.random.key(0)))
  (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=150)
  return Sampler(config, params, tokenizer, batch_size=3, max_prompt=256)


def test_every_turn_of_a_played_episode_is_answered(sampler):
  system, turns = EPISODE
  episodes = [EPISODE, (system, turns[:2]), (system, turns[:1]), EPISODE]  # two batches
  found = WorldModel(sampler, thinking=True, max_tokens=40, max_thinking=16).follow(episodes)
  for (_, played), predictions in zip(episodes, found, strict=True):
    assert [p.text for p in predictions] == [observation for _, observation in played]
    assert [p.thinking for p in predictions] == list(THOUGHTS[:len(played)])
  first = found[0][0]
  assert first.raw == f'{THINK}first{END_THINK}{PREDICTED}a.txt\n~${END_PREDICTED}'
  assert -2 < first.logprob < 0


def test_following_equals_asking_turn_by_turn(sampler):
  world_model = WorldModel(sampler, thinking=True, max_tokens=40, max_thinking=16)
  system, turns = EPISODE
  for turn, prediction in enumerate(world_model.follow([EPISODE])[0]):
    asked, = world_model.predict(system, turns[:turn], turns[turn][0], thoughts=THOUGHTS[:turn])
    assert asked.raw == prediction.raw
    assert asked.logprob == pytest.approx(prediction.logprob, abs=1e-4)


def test_turns_beyond_the_context_have_no_text(sampler, tokenizer):
  system, turns = EPISODE
  context = len(chat.world_model_context(tokenizer, system, turns[:1], THOUGHTS[:1]))
  short = dataclasses.replace(sampler, max_prompt=context + 3)  # no room for the second action
  found, = WorldModel(short, thinking=True, max_tokens=40, max_thinking=16).follow([EPISODE])
  assert [p.text for p in found] == ['a.txt\n~$', None, None]
  assert [p.thinking for p in found] == ['first', '', '']
  nothing = dataclasses.replace(sampler, max_prompt=4)  # not even for the system prompt
  found, = WorldModel(nothing, thinking=True).follow([EPISODE])
  assert [p.text for p in found] == [None] * 3


def test_missing_thoughts_of_a_history_are_recalled(sampler):
  system, turns = EPISODE
  queries = [Query(system, turns[:2], 'pwd'), Query(system, (), 'ls'),
             Query(system, turns, 'ls', ('mine', '', ''))]
  model = WorldModel(sampler, thinking=True, max_tokens=40, max_thinking=16)
  found = model.recall(queries)
  assert [query.thoughts for query in found] == [('first', ''), (), ('mine', '', '')]
  assert model.recall(found) == found
  assert WorldModel(sampler).recall(queries) == queries  # it never thinks


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
