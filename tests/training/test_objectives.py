"""Every loss against plain float64 loops, its gradient against finite differences."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aw_jax.models import attention_cache
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.training import objectives

CONFIG = ModelConfig(
  vocab_size=19, width=12, layers=1, heads=2, kv_heads=1, head_dim=6, mlp_width=16,
  short_conv_width=2, dtype='float32', query_block=8)
MODEL = Decoder(CONFIG)


@functools.cache
def params():
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(CONFIG, key)), jax.random.key(0))
  return jax.tree.map(lambda x: rng.normal(0.3, 0.4, x.shape).astype(np.float32), shapes)


def random_tokens(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, shape).astype(np.int32)


forward = jax.jit(MODEL.apply)


def log_softmax(logits):
  logits = np.asarray(logits, np.float64)
  shifted = logits - logits.max(axis=-1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# --- next token -----------------------------------------------------------------------------------


def packed_batch(rows=4, length=12):
  rng = np.random.default_rng(1)
  segments = np.array([[1] * 5 + [2] * 4 + [0] * 3, [1] * 12] * (rows // 2), np.int32)
  positions = np.array([[*range(5), *range(4), *range(3)], [*range(12)]] * (rows // 2), np.int32)
  starts = positions == 0
  weights = np.where(starts | (segments == 0), 0, rng.choice([0.0, 0.5, 1.0], segments.shape))
  return {'tokens': random_tokens(rows, length), 'segment_ids': segments, 'positions': positions,
          'loss_weights': weights.astype(np.float32)}


@functools.cache
def next_token_step():
  def loss(params, batch):
    total, count, metrics = objectives.next_token(MODEL, params, batch)
    return total, (count, metrics)
  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_next_token_is_the_weighted_sum():
  batch = packed_batch()
  (total, (count, metrics)), _ = next_token_step()(params(), batch)
  logprobs = log_softmax(forward(
    {'params': params()}, batch['tokens'], batch['positions'], batch['segment_ids']))
  expected, weight, correct = 0.0, 0.0, 0.0
  for row in range(4):
    for t in range(1, 12):
      w = float(batch['loss_weights'][row, t])
      expected -= w * logprobs[row, t - 1, batch['tokens'][row, t]]
      correct += w * (logprobs[row, t - 1].argmax() == batch['tokens'][row, t])
      weight += w
  assert weight > 5 and float(count) == pytest.approx(weight, rel=1e-6)
  assert float(total) == pytest.approx(expected, rel=1e-5)
  accuracy, of = metrics['token_accuracy']
  assert float(accuracy) == pytest.approx(correct) and float(of) == pytest.approx(weight)


def test_a_sum_over_a_batch_is_that_of_its_halves():
  """Sums and counts add up, so accumulation and hosts give the token mean, not one of means."""
  batch = packed_batch()
  batch['loss_weights'][:2] *= 0.25  # halves of unlike weight
  (total, (count, _)), gradient = next_token_step()(params(), batch)
  halves = [next_token_step()(params(), {name: x[part] for name, x in batch.items()})
            for part in (slice(0, 2), slice(2, 4))]
  assert float(total) == pytest.approx(sum(float(h[0][0]) for h in halves), rel=1e-5)
  assert float(count) == pytest.approx(sum(float(h[0][1][0]) for h in halves), rel=1e-6)
  jax.tree.map(
    lambda whole, a, b: np.testing.assert_allclose(whole, a + b, rtol=1e-4, atol=1e-5),
    gradient, *(h[1] for h in halves))
  means = [float(h[0][0] / h[0][1][0]) for h in halves]
  assert abs(float(total / count) - np.mean(means)) > 1e-3  # a mean of means is another number


# --- log-probabilities of completions -------------------------------------------------------------


def completions(seed=0):
  rng = np.random.default_rng(seed)
  return {
    'prompts': random_tokens(3, 7, seed=seed), 'prompt_lengths': np.array([7, 1, 4], np.int32),
    'completions': random_tokens(3, 2, 5, seed=seed + 1),
    'completion_lengths': np.array([[5, 0], [3, 1], [2, 4]], np.int32),
    'sampled_logprobs': rng.normal(-2, 0.3, (3, 2, 5)).astype(np.float32),
    'advantages': rng.normal(size=(3, 2)).astype(np.float32),
    'weights': np.ones((3, 2), np.float32)}


def alone(batch, n, g):
  """Each completion token's log-probability from a whole pass over its own sequence."""
  prompt = batch['prompts'][n, :batch['prompt_lengths'][n]]
  said = batch['completions'][n, g, :batch['completion_lengths'][n, g]]
  tokens = np.zeros((1, 12), np.int32)  # padding lies behind and is not seen
  tokens[0, :len(prompt) + len(said)] = [*prompt, *said]
  logprobs = log_softmax(forward({'params': params()}, tokens))[0]
  return [logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(said)]


@pytest.mark.parametrize(('read', 'queries'), [
  (objectives.completion_logprobs, 1024), (objectives.completion_logprobs, 2),
  (objectives.completion_logprobs_in_rows, 1024)])
def test_completions_of_a_shared_prompt_equal_each_sequence_alone(read, queries, monkeypatch):
  """Through a cache, with all queries of a prompt at once or two at a time; and as whole rows."""
  monkeypatch.setattr(attention_cache, '_MOST_QUERIES', queries)
  batch = completions()
  found = jax.jit(functools.partial(read, MODEL))(
    params(), batch['prompts'], batch['prompt_lengths'], batch['completions'],
    batch['completion_lengths'])
  for n, g in np.ndindex(3, 2):
    count = batch['completion_lengths'][n, g]
    np.testing.assert_allclose(found[n, g, :count], alone(batch, n, g), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found[n, g, count:], 0)


@pytest.mark.parametrize(('cache_dtype', 'chunk'), [
  ('float32', 64), ('bfloat16', 64), ('float32', 2)])
def test_gradients_of_completions_reach_keys_and_values(cache_dtype, chunk, monkeypatch):
  """Whatever the sampler's cache holds, in one part or three, it is that of the whole sequence."""
  monkeypatch.setattr(attention_cache, 'CHUNK', chunk)
  batch = completions()
  model = Decoder(dataclasses.replace(CONFIG, cache_dtype=cache_dtype))
  n, g = 1, 0
  prompt, count = batch['prompt_lengths'][n], batch['completion_lengths'][n, g]
  tokens = np.concatenate([batch['prompts'][n, :prompt], batch['completions'][n, g, :count]])[None]

  def cached(params):
    found = objectives.completion_logprobs(
        model, params, batch['prompts'], batch['prompt_lengths'], batch['completions'],
        batch['completion_lengths'])
    return jnp.sum(found[n, g, :count])

  def whole(params):
    return jnp.sum(objectives.sequence_logprobs(MODEL, params, tokens)[0][0, prompt - 1:])

  expected = jax.tree.leaves(jax.jit(jax.grad(whole))(params()))
  for found, wanted in zip(jax.tree.leaves(jax.jit(jax.grad(cached))(params())), expected,
                           strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


# --- advantages -----------------------------------------------------------------------------------


def test_group_advantages():
  rewards = np.array([[1.0, 0.0, 0.0, 0.5], [0.3, 0.3, 0.3, 0.3], [-2.0, 2.0, -2.0, 2.0]])
  found = objectives.group_advantages(rewards.astype(np.float32))
  for row, group in zip(found, rewards, strict=True):
    mean = sum(group) / 4
    deviation = math.sqrt(sum((r - mean) ** 2 for r in group) / 4)
    expected = [(r - mean) / deviation if deviation else 0 for r in group]
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-7)


@given(st.floats(5, 25, width=32), st.integers(2, 64))
def test_equal_rewards_have_no_advantage(reward, group):
  """The float32 mean of eight 5.2s is not 5.2; that rest must not be normalised."""
  found = objectives.group_advantages(np.full((1, group), reward, np.float32))
  assert np.abs(found).max() < 1e-6


# --- the clipped policy gradient ------------------------------------------------------------------

CLIP = 0.2


def one(log_ratio, advantage, correction, divergence, clip):
  """What one ratio adds to the loss."""
  ratio = math.exp(log_ratio)
  kept = min(max(ratio, 1 - clip), 1 + clip)
  return -min(ratio * advantage, kept * advantage) * correction + KL * divergence


def gspo(logprobs, sampled, advantages, mask, clip, old=None, reference=None, weights=None):
  """Sum over sequences of -min(s A, clip(s) A), s the length-normalised ratio; and the count.

  With `old`, ratios are to those, and each is weighted by min(old / sampled, 2); with `reference`
  the divergence from it is added.
  """
  total, count = 0.0, 0
  for row in range(len(advantages)):
    own = [t for t in range(mask.shape[1]) if mask[row, t]]
    if not own or (weights is not None and not weights[row]):
      continue
    mean = lambda values, own=own: sum(values[t] for t in own) / len(own)
    base = sampled if old is None else old
    correction = min(math.exp(mean(base[row] - sampled[row])), 2)
    log_r = 0 * logprobs[row] if reference is None else reference[row] - logprobs[row]
    total += one(mean(logprobs[row] - base[row]), advantages[row], correction,
                 mean(np.exp(log_r) - log_r - 1), clip)
    count += 1
  return total, count


def grpo(logprobs, sampled, advantages, mask, clip, old=None, reference=None, weights=None):
  """The same with one ratio a token, summed over tokens."""
  total, count = 0.0, 0
  for row, t in zip(*np.nonzero(mask), strict=True):
    if weights is not None and not weights[row]:
      continue
    base = sampled if old is None else old
    correction = min(math.exp(base[row, t] - sampled[row, t]), 2)
    log_r = 0.0 if reference is None else reference[row, t] - logprobs[row, t]
    total += one(logprobs[row, t] - base[row, t], advantages[row], correction,
                 math.exp(log_r) - log_r - 1, clip)
    count += 1
  return total, count


KL = 0.3
REFERENCES = {'sequence': gspo, 'token': grpo}


def policy_inputs():
  """Ratios below, within and above the clip for advantages of either sign; an empty sequence."""
  rng = np.random.default_rng(0)
  sampled = rng.normal(-2, 0.5, (8, 5))
  shift = np.array([-0.5, -0.1, 0.1, 0.5, -0.5, -0.1, 0.1, 0.5])[:, None]
  logprobs = sampled + shift + rng.normal(0, 0.05, sampled.shape)
  advantages = np.array([1.5, 1.0, 0.7, 2.0, -1.0, -0.5, -2.0, -1.3])
  mask = rng.random((8, 5)) < 0.7
  mask[:, 0], mask[5] = True, False
  return logprobs, sampled, advantages, mask


def as_batch(sampled, advantages, **more):
  batch = {'sampled_logprobs': sampled, 'advantages': advantages,
           'weights': np.ones(len(advantages)), **more}
  return {name: jnp.asarray(values, jnp.float32) for name, values in batch.items()}


@pytest.mark.parametrize('ratio', REFERENCES)
def test_policy_loss_and_gradient(ratio):
  logprobs, sampled, advantages, mask = policy_inputs()
  reference = REFERENCES[ratio]

  def loss(x):
    total, count, metrics = objectives.policy_loss(
      x, as_batch(sampled, advantages), mask, clip=CLIP, ratio=ratio)
    return total, (count, metrics)

  (total, (count, metrics)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    jnp.asarray(logprobs, jnp.float32))
  expected, expected_count = reference(logprobs, sampled, advantages, mask, CLIP)
  assert float(total) == pytest.approx(expected, rel=1e-5) and int(count) == expected_count

  numerical = np.zeros_like(logprobs)
  for index in np.ndindex(logprobs.shape):
    step = np.zeros_like(logprobs)
    step[index] = 1e-5
    numerical[index] = (reference(logprobs + step, sampled, advantages, mask, CLIP)[0]
                        - reference(logprobs - step, sampled, advantages, mask, CLIP)[0]) / 2e-5
  np.testing.assert_allclose(gradient, numerical, rtol=1e-3, atol=1e-5)
  # Clipped where that lowers the objective: far up with a gain, far down with a loss. Only there.
  clipped = [row for row in range(8) if mask[row].any() and not np.asarray(gradient)[row].any()]
  assert clipped == [3, 4]
  share, of = metrics['clip_fraction']
  assert int(share) == (2 if ratio == 'sequence' else mask[[3, 4]].sum()) and int(of) == int(count)
  gap, tokens = metrics['logprob_gap']
  assert int(tokens) == mask.sum()
  assert float(gap) == pytest.approx(np.abs(logprobs - sampled)[mask].sum(), rel=1e-4)


@pytest.mark.parametrize('ratio', REFERENCES)
def test_correction_divergence_and_what_is_left_out(ratio):
  logprobs, sampled, advantages, mask = policy_inputs()
  rng = np.random.default_rng(1)
  old = sampled + rng.normal(0, 0.6, sampled.shape)  # corrections on both sides of 2
  reference = logprobs + rng.normal(0, 0.5, sampled.shape)
  weights = np.array([1, 0, 1, 1, 1, 1, 0, 1])
  expected = functools.partial(
    REFERENCES[ratio], sampled=sampled, advantages=advantages, mask=mask, clip=CLIP, old=old,
    reference=reference, weights=weights)

  def loss(x):
    total, count, metrics = objectives.policy_loss(
      x, as_batch(sampled, advantages, weights=weights, trainer_logprobs=old,
                  reference_logprobs=reference), mask, clip=CLIP, ratio=ratio, kl_weight=KL)
    return total, (count, metrics)

  (total, (count, metrics)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    jnp.asarray(logprobs, jnp.float32))
  assert (float(total), int(count)) == (pytest.approx(expected(logprobs)[0], rel=1e-5),
                                        expected(logprobs)[1])
  numerical = np.zeros_like(logprobs)
  for index in np.ndindex(logprobs.shape):
    step = np.zeros_like(logprobs)
    step[index] = 1e-5
    numerical[index] = (expected(logprobs + step)[0] - expected(logprobs - step)[0]) / 2e-5
  np.testing.assert_allclose(gradient, numerical, rtol=1e-3, atol=1e-5)
  assert not np.asarray(gradient)[[1, 6]].any()
  assert float(metrics['kl'][0]) > 0


def test_informative_groups():
  rewards = np.array([[0.5, 0.5], [5.2, 5.2], [0.0, 1.0]], np.float32)
  assert objectives.informative(rewards).tolist() == [False, False, True]


def test_equal_rewards_teach_nothing():
  batch = completions()
  rewards = np.array([[1.0, 1.0], [0.0, 0.0], [0.4, 0.4]], np.float32)

  @jax.jit
  def gradient(advantages):
    def loss(params):
      return objectives.group_policy(
        MODEL, params, {**batch, 'advantages': advantages}, clip=CLIP, ratio='sequence')[0]
    return jax.grad(loss)(params())

  found = gradient(objectives.group_advantages(rewards))
  assert all(not np.asarray(x).any() for x in jax.tree.leaves(found))
  rewards[2, 1] = 0.5
  found = gradient(objectives.group_advantages(rewards))
  assert any(np.asarray(x).any() for x in jax.tree.leaves(found))


@pytest.mark.parametrize('ratio', REFERENCES)
def test_group_policy_of_the_model(ratio):
  batch = completions()
  total, count, _ = jax.jit(functools.partial(
    objectives.group_policy, MODEL, clip=CLIP, ratio=ratio))(params(), batch)
  logprobs, mask = np.zeros((6, 5)), np.zeros((6, 5), bool)
  for row, (n, g) in enumerate(np.ndindex(3, 2)):
    said = alone(batch, n, g)
    logprobs[row, :len(said)], mask[row, :len(said)] = said, True
  expected, expected_count = REFERENCES[ratio](
    logprobs, batch['sampled_logprobs'].reshape(6, 5).astype(np.float64),
    batch['advantages'].reshape(6).astype(np.float64), mask, CLIP)
  assert float(total) == pytest.approx(expected, rel=1e-4) and int(count) == expected_count


def test_episode_policy_counts_the_agents_tokens_alone():
  rng = np.random.default_rng(0)
  tokens = random_tokens(4, 12, seed=3)
  speaker = rng.random((4, 12)) < 0.4
  speaker[:, 0] = False  # nobody can predict the first token
  sampled = rng.normal(-2, 0.3, (4, 12)).astype(np.float32)
  advantages = rng.normal(size=4).astype(np.float32)
  batch = {'tokens': tokens, 'speaker': speaker, 'sampled_logprobs': sampled,
           'advantages': advantages, 'weights': np.ones(4, np.float32)}
  total, count, _ = jax.jit(functools.partial(
    objectives.episode_policy, MODEL, clip=CLIP, ratio='token'))(params(), batch)
  logprobs = np.zeros((4, 12))
  all_logprobs = log_softmax(forward({'params': params()}, tokens))
  for row, t in np.ndindex(4, 11):
    logprobs[row, t + 1] = all_logprobs[row, t, tokens[row, t + 1]]
  expected, expected_count = grpo(
    logprobs, sampled.astype(np.float64), advantages.astype(np.float64), speaker, CLIP)
  assert float(total) == pytest.approx(expected, rel=1e-4)
  assert int(count) == expected_count == speaker.sum()
