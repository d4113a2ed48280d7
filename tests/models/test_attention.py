"""Every way to attend whole rows against the plain form, in values and gradients."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.models import cudnn, splash
from aw_jax.models.attention import attend_packed
from aw_jax.models.attention_cache import RowCache, attend_cache, init_attention_cache
from aw_jax.models.config import ModelConfig, ModelConfigError


def inputs(batch, length, heads, kv_heads, width, seed=0):
  rng = np.random.default_rng(seed)
  return tuple(rng.normal(size=(batch, length, count, width)).astype(np.float32)
               for count in (heads, kv_heads, kv_heads))


def value_and_gradients(attend, arrays):
  weights = np.random.default_rng(9).normal(size=arrays[0].shape)
  return jax.jit(jax.value_and_grad(
    lambda *x: jnp.sum(attend(*x) * weights), argnums=(0, 1, 2)))(*arrays)


def textbook(q, k, v, segments):
  """float64, one query after the other."""
  out = np.zeros(q.shape)
  group = q.shape[2] // k.shape[2]
  for row, at, head in np.ndindex(q.shape[:3]):
    seen = np.flatnonzero(segments[row, :at + 1] == segments[row, at])
    keys = k[row, seen, head // group].astype(np.float64)
    scores = keys @ q[row, at, head] / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max())
    out[row, at, head] = weights @ v[row, seen, head // group] / weights.sum()
  return out


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=24), st.integers(1, 8))
def test_plain_and_blocks_are_the_textbook_form(ids, block):
  segments = np.array([ids], np.int32)
  q, k, v = inputs(1, len(ids), 4, 2, 4)
  expected = textbook(q, k, v, segments)
  for kind in ('plain', 'blocks'):
    found = attend_packed(q, k, v, segments, kind=kind, dtype='float32', block=block)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


SEGMENTS = np.array([[1] * 100 + [2] * 28 + [3] * 100 + [0] * 28, [1] * 256], np.int32)


@pytest.mark.parametrize('block', [256, 100, 16])  # one; two and a shorter one; groups of two
@pytest.mark.parametrize(('dtype', 'tolerance'), [('float32', 1e-4), ('bfloat16', 3e-2)])
def test_gradients_of_blocks_are_those_of_the_plain_form(block, dtype, tolerance):
  arrays = inputs(2, 256, 4, 2, 32)
  found, expected = (value_and_gradients(
    lambda *x, kind=kind: attend_packed(*x, SEGMENTS, kind=kind, dtype=dtype, block=block), arrays)
    for kind in ('blocks', 'plain'))
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_blocks_of_a_long_row_do_not_hold_all_scores():
  length, heads = 4096, 4
  q, k, v = (jax.ShapeDtypeStruct((1, length, heads, 32), 'float32') for _ in range(3))
  segments = np.ones((1, length), np.int32)
  memory = jax.jit(jax.grad(lambda *x: jnp.sum(attend_packed(
    *x, segments, kind='blocks', dtype='float32', block=64)), argnums=(0, 1, 2))).lower(
      q, k, v).compile().memory_analysis()
  scores = 4 * heads * length**2 / 2
  assert memory.temp_size_in_bytes < scores / 2


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=100), min_size=1, max_size=2))
def test_bounds_of_segments_are_those_of_a_loop(rows):
  rows = [np.resize(np.repeat(np.arange(len(counts)) % 3, counts), 200) for counts in rows]
  starts, lengths, fits = (
    np.asarray(x) for x in cudnn.segment_bounds(jnp.asarray(rows, jnp.int32)))
  for row, ids in enumerate(rows):
    runs = [(key, len(list(run))) for key, run in itertools.groupby(ids)]
    assert fits[row] == (len(runs) <= 64)
    if fits[row]:
      counts = [count for _, count in runs]
      assert lengths[row].tolist() == counts + [-1] * (64 - len(runs))
      assert starts[row].tolist() == [0, *np.cumsum(counts[:-1])] + [-1] * (64 - len(runs))


def test_splash_is_the_plain_form():
  """The TPU's kernel, interpreted, with several blocks of queries and keys."""
  arrays = inputs(2, 256, 4, 2, 128)
  kernel = splash.make_kernel(256, 256, 4, 1, 1, block=128, interpret=True)
  plain = functools.partial(attend_packed, kind='plain', dtype='float32', block=0)
  found = value_and_gradients(
    lambda *x: splash.attend(*x, SEGMENTS, SEGMENTS, kernel, dtype='float32'), arrays)
  expected = value_and_gradients(lambda *x: plain(*x, SEGMENTS), arrays)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


needs_gpu = pytest.mark.skipif(jax.default_backend() != 'gpu', reason='needs a GPU')


@needs_gpu
def test_cudnn_is_the_plain_form():
  arrays = inputs(2, 256, 4, 2, 64)
  found, expected = (value_and_gradients(
    lambda *x, kind=kind: attend_packed(
      *x, SEGMENTS, kind=kind, dtype='bfloat16', block=0), arrays) for kind in ('cudnn', 'plain'))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-2, atol=2e-2), found, expected)


@needs_gpu
def test_a_cache_attended_by_cudnn_is_attended_by_the_plain_form():
  """A prompt, one token, several; of rows of other lengths, one of them full."""
  rng = np.random.default_rng(0)
  positions = np.array([[3, 4], [62, 63], [17, 18]], np.int32)
  k, v = (jnp.asarray(rng.normal(size=(3, 64, 2, 64)), jnp.bfloat16) for _ in range(2))
  q = rng.normal(size=(3, 2, 4, 64)).astype(np.float32)
  for start, end in ((0, 2), (1, 2)):
    found, expected = (np.asarray(attend_cache(
      q[:, start:end], RowCache(k, v), positions[:, start:end], kind=kind))
      for kind in ('cudnn', 'plain'))
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)
    assert np.abs(expected).max() > 0.1


@needs_gpu
def test_rows_of_too_many_segments_are_not_trained_on_unseen():
  arrays = inputs(2, 256, 4, 2, 64)
  segments = np.stack([np.arange(256) // 4, np.arange(256) // 2]).astype(np.int32)
  found = attend_packed(*arrays, segments, kind='cudnn', dtype='bfloat16', block=0)
  assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


@pytest.fixture
def hopper(monkeypatch):
  """Programs are traced as if for a Hopper GPU; none is there to compile them."""
  from jax._src.cudnn import fused_attention_stablehlo as kernels

  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(cudnn, 'compute_capability', lambda: (9, 0))
  monkeypatch.setattr(kernels, 'check_cudnn_version', lambda: 91900)
  monkeypatch.setattr(kernels, 'check_compute_capability', lambda capability: True)
  monkeypatch.setattr(kernels, 'is_cuda_compute_capability_equal', lambda capability: False)


def lowered(function, *arrays):
  """The program for a GPU, as text."""
  return jax.jit(function).trace(*arrays).lower(lowering_platforms=('cuda',)).as_text()


@pytest.mark.parametrize(('width', 'length', 'calls'), [
  (128, 512, 2), (256, 512, 2), (264, 512, 0), (60, 512, 0), (128, 511, 0)])
def test_what_a_gpu_attends_with_cudnn(hopper, width, length, calls):
  """A forward and a backward kernel, and no mask of length x length; else blocks of queries."""
  q, k, v = inputs(2, length, 4, 2, width)
  segments = np.ones((2, length), np.int32)

  def loss(q, k, v, kind='auto'):
    return jnp.sum(attend_packed(q, k, v, segments, kind=kind, dtype='bfloat16', block=64))

  program = lowered(jax.grad(loss, argnums=(0, 1, 2)), q, k, v)
  assert program.count('custom_call @__cudnn$fmha') == calls
  if calls:
    assert f'{length}x{length}x' not in program
  else:
    with pytest.raises(ModelConfigError, match="attention_kind: 'cudnn' needs a GPU of Hopper"):
      loss(q, k, v, 'cudnn')


def test_a_gpu_decodes_with_cudnn_in_the_order_of_training(hopper):
  config = ModelConfig(vocab_size=64, width=32, layers=1, heads=4, kv_heads=2, head_dim=64,
                       mlp_width=48, cache_dtype='bfloat16')
  cache = init_attention_cache(config, 2, 128)
  assert isinstance(cache, RowCache)
  q = np.zeros((2, 1, 4, 64), np.float32)
  program = lowered(
    lambda cache: attend_cache(q, cache, np.zeros((2, 1), np.int32), kind='auto'), cache)
  assert program.count('custom_call @__cudnn$fmha') == 1
  float32 = dataclasses.replace(config, cache_dtype='float32')
  assert not isinstance(init_attention_cache(float32, 2, 128), RowCache)


@pytest.mark.parametrize(('kind', 'needs'), [
  ('cudnn', 'a GPU of Hopper'), ('splash', 'shares of rows in multiples of 128 tokens, not 100')])
def test_kernels_that_do_not_take_the_rows_are_refused_by_name(kind, needs):
  arrays = inputs(1, 100, 4, 2, 64)
  with pytest.raises(ModelConfigError, match=f"^model.attention_kind: '{kind}' needs {needs}"):
    attend_packed(*arrays, np.ones((1, 100), np.int32), kind=kind, dtype='bfloat16', block=0)


def test_rows_of_too_many_segments_are_found_on_the_host():
  segments = np.stack([np.arange(256) // 4, np.arange(256) // 2])
  cudnn.require_few_segments(segments[:1])
  with pytest.raises(ValueError, match='^row 1 has 128 segments, and attention of cuDNN takes 64'):
    cudnn.require_few_segments(segments)
