"""Decoding over a cache against whole forward passes: greedy, sampled, in groups, with padding."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.sampling import decode

CONFIG = ModelConfig(
  vocab_size=12, width=16, layers=2, heads=4, kv_heads=2, head_dim=6, mlp_width=20,
  short_conv_width=3, dtype='float32', query_block=32)
MODEL = Decoder(CONFIG)
STOP, MAX_TOKENS, LENGTH = 3, 10, 32


@functools.cache
def params():
  rng = np.random.default_rng(3)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(CONFIG, key)), jax.random.key(0))
  return jax.tree.map(
    lambda x: rng.normal(0.6 * (len(x.shape) == 1), 0.35, x.shape).astype(np.float32), shapes)


_forward = jax.jit(MODEL.apply)


def logprobs_after(context):
  """float64[V] from one whole pass; what pads it lies behind and is not seen."""
  tokens = np.zeros((1, LENGTH), np.int32)
  tokens[0, :len(context)] = context
  logits = np.asarray(_forward({'params': params()}, tokens), np.float64)[0, len(context) - 1]
  return logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()


def prompts(lengths, seed=0):
  rng = np.random.default_rng(seed)
  tokens = rng.integers(0, CONFIG.vocab_size, (len(lengths), 8)).astype(np.int32)
  return np.where(np.arange(8) < np.array(lengths)[:, None], tokens, 0), np.array(lengths, np.int32)


LENGTHS = (8, 1, 4, 0, 6, 2, 3, 5)


@functools.cache
def generated(temperature=0.0, group=1, seed=0):
  turn = decode.generate(
    MODEL, params(), *prompts(LENGTHS), jax.random.key(seed), group=group, stop=STOP,
    max_tokens=MAX_TOKENS, temperature=temperature)
  return jax.device_get(turn)


def rows(turn, group=1):
  """(prompt, tokens, log-probabilities, stopped) of each row that spoke."""
  tokens, lengths = prompts(LENGTHS)
  for row, count in enumerate(turn.lengths):
    if lengths[row // group]:
      prompt = tokens[row // group, :lengths[row // group]].tolist()
      said = turn.tokens[row, :count].tolist()
      yield prompt, said, turn.logprobs[row, :count], bool(turn.stopped[row])


def test_greedy_is_the_argmax_of_whole_passes():
  for prompt, tokens, logprobs, stopped in rows(generated()):
    context = list(prompt)
    for token, logprob in zip(tokens, logprobs, strict=True):
      expected = logprobs_after(context)
      assert token == expected.argmax()
      assert logprob == pytest.approx(expected[token], abs=1e-4)
      context.append(token)
    assert stopped == (tokens[-1] == STOP) and STOP not in tokens[:-1]
    assert stopped or len(tokens) == MAX_TOKENS
  outcomes = [stopped for *_, stopped in rows(generated())]
  assert any(outcomes) and not all(outcomes)


def test_sampled_logprobs_are_those_of_whole_passes():
  stops = set()
  for prompt, tokens, logprobs, stopped in rows(generated(1.0, 3), 3):
    stops.add(stopped)
    for i, token in enumerate(tokens):
      expected = logprobs_after(prompt + tokens[:i])[token]
      assert logprobs[i] == pytest.approx(expected, abs=1e-4)
    assert stopped == (tokens[-1] == STOP) and STOP not in tokens[:-1]
  assert stops == {True, False}


@pytest.mark.parametrize(('temperature', 'group'), [(0.0, 1), (1.0, 3)])
def test_nothing_is_said_after_the_end(temperature, group):
  turn = generated(temperature, group)
  after = np.arange(MAX_TOKENS) >= turn.lengths[:, None]
  assert after.any() and not turn.tokens[after].any() and not turn.logprobs[after].any()


def test_a_row_without_a_prompt_says_nothing():
  for group, turn in ((1, generated()), (3, generated(1.0, 3))):
    empty = np.repeat(np.array(LENGTHS) == 0, group)
    assert (turn.lengths[empty] == 0).all() and not turn.stopped[empty].any()
    assert (turn.lengths[~empty] > 0).all()


def test_samples_of_a_group_differ_by_noise_and_a_key_fixes_it():
  one, other, same = generated(1.0, 8), generated(1.0, 8, seed=1), generated(1.0, 8)
  groups = one.tokens.reshape(len(LENGTHS), 8, MAX_TOKENS)[np.array(LENGTHS) > 0]
  assert all(len({tuple(sample) for sample in group.tolist()}) > 1 for group in groups)
  np.testing.assert_array_equal(one.tokens, same.tokens)
  assert (one.tokens != other.tokens).any()


def test_a_group_shares_one_prefill(monkeypatch):
  batches, ingest = [], decode.ingest

  def counting(model, params, speaker, tokens, *arguments):
    batches.append(tokens.shape)
    return ingest(model, params, speaker, tokens, *arguments)

  monkeypatch.setattr(decode, 'ingest', counting)
  speaker = jax.eval_shape(lambda params: decode.prefill(MODEL, params, *prompts(LENGTHS), 20, 5),
                           params())
  assert batches == [(8, 8)]
  assert speaker.hidden.shape == (40, CONFIG.width) and speaker.cache.lengths.shape == (40,)


def test_other_rows_of_the_batch_have_no_effect():
  tokens, lengths = prompts(LENGTHS)
  other, other_lengths = prompts((8, 7, 2, 5, 1, 8, 8, 1), seed=9)
  kept = [0, 2, 4]  # the rows in between are filled otherwise, or left empty
  other[kept], other_lengths[kept], other_lengths[7] = tokens[kept], lengths[kept], 0
  for temperature in (0.0, 1.0):
    group = 3 if temperature else 1
    turn = jax.device_get(decode.generate(
      MODEL, params(), other, other_lengths, jax.random.key(0), group=group, stop=STOP,
      max_tokens=MAX_TOKENS, temperature=temperature))
    same = np.repeat(np.isin(np.arange(8), kept), group)
    jax.tree.map(lambda a, b, same=same: np.testing.assert_array_equal(a[same], b[same]),
                 turn, generated(temperature, group))


def test_samples_follow_the_softmax_at_the_temperature():
  """A chi-squared test; and log-probabilities are those at temperature 1, whatever is sampled."""
  count, temperature = 4096, 0.6
  turn = jax.device_get(decode.generate(
    MODEL, params(), np.array([[5, 7]], np.int32), np.array([2], np.int32), jax.random.key(0),
    group=count, stop=STOP, max_tokens=1, temperature=temperature))
  logprobs = logprobs_after([5, 7])
  expected = np.exp(logprobs / temperature)
  expected *= count / expected.sum()
  found = np.bincount(turn.tokens[:, 0], minlength=CONFIG.vocab_size)
  large = expected > 5
  assert large.sum() >= 4
  statistic = ((found - expected)[large] ** 2 / expected[large]).sum()
  assert statistic < 40  # 11 degrees of freedom at most: p < 1e-4
  np.testing.assert_allclose(turn.logprobs[:, 0], logprobs[turn.tokens[:, 0]], rtol=0, atol=1e-4)


def test_a_message_read_in_chunks_is_the_message():
  """Rows with none, less than one chunk, and several; who has no message keeps its state."""
  tokens, lengths = prompts((3, 5, 2))
  message = np.random.default_rng(1).integers(0, 12, (3, 14)).astype(np.int32)
  counts = np.array([0, 3, 14], np.int32)

  @jax.jit
  def read(params):
    start = decode.prefill(MODEL, params, tokens, lengths, 24)
    after = decode.ingest_message(MODEL, params, start, message, counts, chunk=4)
    return start, after, MODEL.apply({'params': params}, after.hidden, method='logits')

  start, after, logits = jax.device_get(read(params()))
  np.testing.assert_array_equal(after.cache.lengths, lengths + counts)
  for row in range(3):
    context = [*tokens[row, :lengths[row]], *message[row, :counts[row]]]
    np.testing.assert_allclose(
      jax.nn.log_softmax(jnp.asarray(logits[row])), logprobs_after(context), rtol=0, atol=1e-4)
  np.testing.assert_array_equal(start.hidden[0], after.hidden[0])


@given(vocabulary=st.integers(1, 200), seed=st.integers(0, 999), levels=st.sampled_from([2, 1000]))
@settings(max_examples=40, deadline=None)
def test_greedy_is_the_first_of_the_likeliest(vocabulary, seed, levels):
  logits = np.random.default_rng(seed).integers(0, levels, (3, vocabulary)).astype(np.float32)
  np.testing.assert_array_equal(decode.greedy(jnp.asarray(logits)), logits.argmax(axis=-1))


@pytest.mark.parametrize('vocabulary', [5, 64, 200])
def test_drawn_tokens_follow_the_softmax(vocabulary):
  """Over one block and several; a chi-squared test, and what has no probability is never drawn."""
  rng, count = np.random.default_rng(vocabulary), 40_000
  logits = rng.normal(size=vocabulary).astype(np.float32)
  logits[rng.permutation(vocabulary)[:vocabulary // 3]] = -np.inf
  keys = jax.random.split(jax.random.key(1), count)
  drawn = jax.jit(decode.categorical)(keys, jnp.tile(jnp.asarray(logits), (count, 1)))
  observed = np.bincount(drawn, minlength=vocabulary)
  expected = count * np.exp(logits - np.logaddexp.reduce(logits))
  possible = expected > 0
  assert observed[~possible].sum() == 0
  statistic = ((observed - expected)[possible] ** 2 / expected[possible]).sum()
  assert stats.chi2.sf(statistic, possible.sum() - 1) > 1e-3


@pytest.mark.parametrize('number', [0.0, 0.5, np.nextafter(np.float32(1), np.float32(0))])
@pytest.mark.parametrize('vocabulary', [64, 205, 1024])
def test_what_has_no_probability_is_never_drawn(vocabulary, number, monkeypatch):
  """At both ends of the uniform numbers too, where rounding decides: in holes, in whole blocks."""
  monkeypatch.setattr(jax.random, 'uniform', lambda key: jnp.asarray(number, jnp.float32))
  rng = np.random.default_rng(vocabulary)
  logits = (8 * rng.normal(size=(512, vocabulary))).astype(np.float32)
  logits[rng.random(logits.shape) < 0.5] = -np.inf
  logits[::2, :vocabulary // 3] = -np.inf
  logits[::3, -vocabulary // 3:] = -np.inf
  logits[:, vocabulary // 2] = 0.0  # something is possible
  drawn = np.asarray(decode.categorical(
    jax.random.split(jax.random.key(0), len(logits)), jnp.asarray(logits)))
  assert np.isfinite(np.take_along_axis(logits, drawn[:, None], axis=1)).all()
