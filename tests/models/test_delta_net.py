"""Gated DeltaNet in chunks against a float64 loop over tokens; segments, states, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.models import delta_net

HEADS, KEYS, VALUES = 3, 5, 4
chunked = jax.jit(delta_net.chunked, static_argnames='chunk')
recurrent = jax.jit(delta_net.recurrent)


def inputs(batch, length, seed=0):
  rng = np.random.default_rng(seed)
  q, k = (rng.normal(size=(batch, length, HEADS, KEYS)) for _ in range(2))
  k /= np.linalg.norm(k, axis=-1, keepdims=True)
  v = rng.normal(size=(batch, length, HEADS, VALUES))
  g = -np.exp(rng.normal(-1, 2, (batch, length, HEADS)))  # from hardly any decay to nearly all
  beta = rng.uniform(size=(batch, length, HEADS))
  state = rng.normal(size=(batch, HEADS, KEYS, VALUES))
  return q, k, v, g, beta, state


def loop(q, k, v, g, beta, state, segments):
  """float64, one token and one head at a time, from the equations."""
  out, state = np.zeros_like(v), state.copy()
  for b in range(q.shape[0]):
    for t in range(q.shape[1]):
      for h in range(HEADS):
        if t and segments[b, t] != segments[b, t - 1]:
          state[b, h] = 0
        s = np.exp(g[b, t, h]) * state[b, h]
        s += np.outer(k[b, t, h], beta[b, t, h] * (v[b, t, h] - s.T @ k[b, t, h]))
        state[b, h], out[b, t, h] = s, s.T @ q[b, t, h]
  return out, state


def float32(*arrays):
  return [jnp.asarray(array, jnp.float32) for array in arrays]


SEGMENTS = np.array([[1] * 21, [1] * 3 + [2] * 5 + [3] * 1 + [4] * 8 + [0] * 4])


@pytest.mark.parametrize('chunk', [1, 4, 8, 64])
def test_chunks_equal_the_loop(chunk):
  """Of chunks in which segments end, and of one that is longer than the row."""
  arrays = inputs(2, SEGMENTS.shape[1])
  expected, expected_state = loop(*arrays, SEGMENTS)
  out, state = chunked(*float32(*arrays), jnp.asarray(SEGMENTS), chunk=chunk)
  np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5)
  np.testing.assert_allclose(state, expected_state, rtol=0, atol=2e-5)


def test_token_by_token_equals_the_loop():
  arrays = inputs(2, SEGMENTS.shape[1])
  expected, expected_state = loop(*arrays, SEGMENTS)
  out, state = recurrent(*float32(*arrays), jnp.asarray(SEGMENTS))
  np.testing.assert_allclose(out, expected, rtol=0, atol=2e-5)
  np.testing.assert_allclose(state, expected_state, rtol=0, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(cut=st.sampled_from([1, 2, 5, 7, 10, 16, 20]), chunk=st.sampled_from([2, 5, 8]),
       seed=st.integers(0, 99))
def test_the_state_goes_on_where_it_was(cut, chunk, seed):
  arrays = inputs(1, 21, seed)
  expected, expected_state = loop(*arrays, np.ones((1, 21)))
  *tokens, state = float32(*arrays)
  first, state = chunked(*(x[:, :cut] for x in tokens), state, chunk=chunk)
  second, state = chunked(*(x[:, cut:] for x in tokens), state, chunk=chunk)
  np.testing.assert_allclose(
    np.concatenate([first, second], axis=1), expected, rtol=0, atol=5e-5)
  np.testing.assert_allclose(state, expected_state, rtol=0, atol=5e-5)


@pytest.mark.parametrize('seed', range(3))
def test_gradients_of_chunks_are_those_of_the_recurrence(seed):
  arrays = float32(*inputs(2, SEGMENTS.shape[1], seed))
  weights = np.random.default_rng(9).normal(size=arrays[2].shape)

  def gradients(rule):
    return jax.grad(lambda *x: jnp.sum(rule(*x, jnp.asarray(SEGMENTS))[0] * weights),
                    argnums=tuple(range(6)))(*arrays)

  in_chunks = gradients(lambda *x: chunked(*x, chunk=8))
  for found, expected in zip(in_chunks, gradients(recurrent), strict=True):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('size', [1, 2, 7, 64])
def test_inverse_of_triangles(size):
  """Of random ones, and of ones, whose powers grow beyond what float32 can hold apart."""
  rng = np.random.default_rng(size)
  for triangle in (rng.normal(size=(3, size, size)), np.ones((1, size, size))):
    lower = np.tril(triangle / np.sqrt(size) if len(triangle) > 1 else triangle, -1)
    expected = np.linalg.inv(np.eye(size) + lower)
    found = delta_net.unit_triangular_inverse(jnp.asarray(lower + np.triu(triangle), jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_strong_decay_gives_no_nan():
  """exp(-sum of decays) underflows within a chunk; so would exp(+sum) overflow."""
  arrays = float32(*inputs(1, 64))
  arrays[3] = jnp.full_like(arrays[3], -60.0)
  out, gradient = jax.value_and_grad(
    lambda g: jnp.sum(chunked(*arrays[:3], g, *arrays[4:])[0]))(arrays[3])
  assert np.isfinite(out) and np.isfinite(gradient).all()
