"""Batches sampled from the parameters being trained."""

import threading
import time

import flax.linen as nn
import jax
import numpy as np
import pytest

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.training import objectives, reinforcement
from aw_jax.training.reinforcement import BatchError, GroupSampler
from aw_jax.training.state import TrainState

GROUP, MAX_TOKENS = 3, 6


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)


@pytest.fixture(scope='module')
def config(tokenizer):
  return ModelConfig(
    vocab_size=-(-tokenizer.vocab_size // 64) * 64, width=12, layers=1, heads=2, kv_heads=1,
    head_dim=6, mlp_width=16, short_conv_width=2, dtype='float32')


def random_params(config, seed):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(config, key)), jax.random.key(0))
  return jax.tree.map(lambda x: rng.normal(0.1, 0.3, x.shape).astype(np.float32), shapes)


class Setting:
  """Records of every length, and a reward that notes what it was asked."""

  def __init__(self, config, tokenizer):
    self.config, self.tokenizer, self.asked = config, tokenizer, []

  def records(self, index):
    rng = np.random.default_rng(index)
    return [{'prompt': rng.integers(2, 100, length).tolist(), 'name': f'{index}.{length}'}
            for length in (4, 9, 1)]

  def reward(self, texts, records):
    self.asked.append(([*texts], [record['name'] for record in records]))
    return {'reward': np.array([len(text) for text in texts], np.float64)}

  def sampler(self, seed=0, updates=1, **more):
    return GroupSampler(
      model=self.config, tokenizer=self.tokenizer, records=self.records, reward=self.reward,
      group=GROUP, max_tokens=MAX_TOKENS, max_prompt=16, temperature=1.0,
      updates_per_batch=updates, seed=seed, **more)


def state(config, seed=0):
  return TrainState(np.int32(0), random_params(config, seed), ())


@pytest.fixture(scope='module')
def setting(config, tokenizer):
  return Setting(config, tokenizer)


def test_a_batch_holds_what_was_sampled(setting, config, tokenizer):
  setting.asked.clear()
  batch, metrics = setting.sampler()(0, state(config))
  assert batch['completions'].shape == (3, GROUP, MAX_TOKENS)
  for prompt, length, record in zip(
      batch['prompts'], batch['prompt_lengths'], setting.records(0), strict=True):
    assert prompt[:length].tolist() == record['prompt'] and not prompt[length:].any()
  (texts, names), = setting.asked
  assert names == ['0.4'] * GROUP + ['0.9'] * GROUP + ['0.1'] * GROUP
  said = batch['completions'].reshape(-1, MAX_TOKENS)
  lengths = batch['completion_lengths'].reshape(-1)
  assert texts == [tokenizer.decode(row[:count]) for row, count in zip(said, lengths, strict=True)]
  rewards = np.array([len(text) for text in texts], np.float64).reshape(3, GROUP)
  deviation = rewards.std(axis=1, keepdims=True)
  expected = (rewards - rewards.mean(axis=1, keepdims=True)) / np.where(deviation, deviation, 1)
  np.testing.assert_allclose(batch['advantages'], expected, rtol=1e-4, atol=1e-5)
  assert metrics['reward'] == pytest.approx(rewards.mean(), rel=1e-6)
  assert metrics['zero_variance_groups'] == pytest.approx((deviation == 0).mean())
  assert metrics['completion_tokens'] == pytest.approx(lengths.mean())
  stop = tokenizer.special(IM_END)
  ended = [stop in row[:count].tolist() for row, count in zip(said, lengths, strict=True)]
  assert metrics['unfinished'] == pytest.approx(1 - np.mean(ended))


def test_groups_of_equal_rewards_weigh_nothing(setting, config):
  sampler = setting.sampler()
  sampler.reward = lambda texts, records: {'reward': [
    float(i) if record['name'].endswith('.9') else 1.0
    for i, record in enumerate(records)]}
  batch, metrics = sampler(0, state(config))
  np.testing.assert_array_equal(batch['weights'], [[0] * GROUP, [1] * GROUP, [0] * GROUP])
  assert metrics['zero_variance_groups'] == pytest.approx(2 / 3)


@pytest.mark.parametrize('parts', [1, 3])
def test_what_a_reward_is_made_of_is_logged(setting, config, parts):
  """Its mean over the samples that have it, whichever part of the batch they are in."""
  def reward(texts, records):
    rules = [1.0 if name.endswith('.9') else np.nan if name.endswith('.1') else 0.5
             for name in (record['name'] for record in records)]
    return {'reward': np.ones(len(texts)), 'rule': rules, 'none': np.full(len(texts), np.nan)}

  sampler = setting.sampler(parts=parts)
  sampler.reward = reward
  _, metrics = sampler(0, state(config))
  assert (metrics['reward'], metrics['rule']) == (1, 0.75) and 'none' not in metrics


def test_the_groups_that_teach_are_trained_on_first(setting, config):
  def reward(texts, records):
    return {'reward': [float(i) if record['name'][-2:] in ('.9', '.1') else 1.0
                       for i, record in enumerate(records)]}

  whole, _ = setting.sampler()(0, state(config))
  for count, expected, left_out in ((1, [1], 0.5), (2, [1, 2], 0.0), (3, [1, 2, 0], 0.0)):
    sampler = setting.sampler(train_groups=count)
    sampler.reward = reward
    batch, metrics = sampler(0, state(config))
    for name in ('prompts', 'completions', 'sampled_logprobs'):
      np.testing.assert_array_equal(batch[name], whole[name][expected])
    np.testing.assert_array_equal(batch['weights'].any(axis=1), [i > 0 for i in expected])
    assert metrics['informative_groups_left_out'] == pytest.approx(left_out)
  with pytest.raises(BatchError, match='train_groups = 4 of a batch of 3 prompts'):
    setting.sampler(train_groups=4)(0, state(config))


def test_parts_are_judged_in_order_and_make_the_same_batch(setting, config):
  setting.asked.clear()
  batch, metrics = setting.sampler(parts=3)(0, state(config))
  assert [names for _, names in setting.asked] == [
    ['0.4'] * GROUP, ['0.9'] * GROUP, ['0.1'] * GROUP]
  whole, expected = setting.sampler()(0, state(config))
  assert metrics == pytest.approx(expected, rel=1e-6)
  for name in whole:
    np.testing.assert_allclose(batch[name], whole[name], rtol=0, atol=1e-5)
  with pytest.raises(BatchError, match='2 parts does not divide 3 prompts'):
    setting.sampler(parts=2)(0, state(config))


def test_the_next_part_is_sampled_while_rewards_are_computed(setting, config, monkeypatch):
  """Sampling a part ends after the one before is being judged, and before that is judged."""
  events, judging, turns = [], [threading.Event() for _ in range(3)], []

  def generate(*arguments, **named):
    turn, part = reinforcement_generate(*arguments, **named), len(turns)

    def device(tokens):
      assert not part or judging[part - 1].wait(60)
      events.append(f'sampled {part}')
      return tokens

    like = jax.ShapeDtypeStruct(turn.tokens.shape, turn.tokens.dtype)
    turns.append(turn.replace(
      tokens=jax.jit(lambda tokens: jax.pure_callback(device, like, tokens))(turn.tokens)))
    return turns[-1]

  def slow(texts, records):
    part = sum(event.is_set() for event in judging)
    events.append(f'judging {part}')
    judging[part].set()
    end = time.monotonic() + 60
    while part < 2 and f'sampled {part + 1}' not in events and time.monotonic() < end:
      time.sleep(0.01)
    events.append(f'judged {part}')
    return {'reward': np.zeros(len(texts))}

  reinforcement_generate = reinforcement.generate
  monkeypatch.setattr(reinforcement, 'generate', generate)
  sampler = setting.sampler(parts=3)
  sampler.reward = slow
  sampler(0, state(config))
  assert events == ['sampled 0', 'judging 0', 'sampled 1', 'judged 0', 'judging 1', 'sampled 2',
                    'judged 1', 'judging 2', 'judged 2']


@pytest.mark.parametrize('whole_rows', [False, True])
def test_the_trainers_and_the_references_logprobs(setting, config, whole_rows):
  other = random_params(config, 5)
  batch, _ = setting.sampler(correct_gap=True, reference_params=other, whole_rows=whole_rows)(
    0, state(config))
  mask = np.arange(MAX_TOKENS) < batch['completion_lengths'][..., None]
  np.testing.assert_allclose(
    batch['trainer_logprobs'], batch['sampled_logprobs'], rtol=0, atol=1e-4)
  for n, g in np.ndindex(3, GROUP):
    prompt = batch['prompts'][n, :batch['prompt_lengths'][n]]
    tokens = np.concatenate([prompt, batch['completions'][n, g]])[None]
    expected = objectives.sequence_logprobs(Decoder(config), other, tokens)[0][0, len(prompt) - 1:]
    np.testing.assert_allclose(
      batch['reference_logprobs'][n, g], np.where(mask[n, g], expected, 0), rtol=0, atol=1e-4)


def test_sampled_logprobs_are_the_trainers(setting, config):
  """Within 1e-4, so the first update's importance ratios are 1 and nothing is clipped."""
  batch, _ = setting.sampler()(0, state(config))
  found = jax.jit(lambda params: objectives.completion_logprobs(
    Decoder(config), params, batch['prompts'], batch['prompt_lengths'], batch['completions'],
    batch['completion_lengths']))(random_params(config, 0))
  assert batch['completion_lengths'].sum() > 10
  np.testing.assert_allclose(found, batch['sampled_logprobs'], rtol=0, atol=1e-4)


def test_updates_share_a_batch_and_the_next_is_another(setting, config):
  whole, metrics = setting.sampler()(0, state(config))
  setting.asked.clear()
  sampler = setting.sampler(updates=3)
  for step, seed in enumerate((0, 1, 2)):  # parameters move, the batch does not
    share, found = sampler(step, state(config, seed))
    assert found == metrics
    for name, rows in share.items():
      np.testing.assert_array_equal(rows, whole[name][step:step + 1])
  assert len(setting.asked) == 1
  following, _ = sampler(3, state(config, seed=1))
  assert (following['prompts'] != whole['prompts'][:1]).any() and len(setting.asked) == 2


def test_a_batch_that_cannot_be_dealt_out_is_refused(setting, config):
  with pytest.raises(BatchError, match='updates_per_batch = 2 does not divide a batch of 3 rows'):
    setting.sampler(updates=2)(0, state(config))


def test_a_batch_is_a_function_of_step_parameters_and_seed(setting, config):
  one, other = (setting.sampler()(4, state(config))[0] for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, one, other)
  other, _ = setting.sampler(seed=1)(4, state(config))
  assert (one['completions'] != other['completions']).any()
