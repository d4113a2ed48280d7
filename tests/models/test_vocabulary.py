"""Log-probabilities over the vocabulary in chunks against whole logits, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models import vocabulary


def inputs(size, tokens=13, width=6):
  rng = np.random.default_rng(size)
  return (jnp.asarray(rng.normal(size=(tokens, width)), jnp.float32),
          jnp.asarray(2 * rng.normal(size=(size, width)), jnp.float32),
          jnp.asarray(rng.integers(0, size, tokens)))


def whole(hidden, table, targets):
  logits = hidden @ table.T
  chosen = jnp.take_along_axis(logits, targets[:, None], axis=1)[:, 0]
  return chosen - jax.nn.logsumexp(logits, axis=1), chosen >= jnp.max(logits, axis=1)


@pytest.mark.parametrize(('size', 'chunk'), [(40, 8), (41, 8), (40, 64), (7, 3)])
def test_chunks_change_nothing(size, chunk):
  hidden, table, targets = inputs(size)
  targets = targets.at[0].set(jnp.argmax(hidden[0] @ table.T))
  found, likeliest = vocabulary.target_logprobs(hidden, table, targets, 'float32', chunk)
  expected, expected_likeliest = whole(hidden, table, targets)
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
  np.testing.assert_array_equal(likeliest, expected_likeliest)
  assert likeliest[0]
  weights = np.random.default_rng(0).normal(size=len(targets))

  def gradients(function):
    return jax.grad(lambda h, t: jnp.sum(function(h, t, targets)[0] * weights), (0, 1))(
      hidden, table)

  for one, other in zip(
      gradients(lambda *x: vocabulary.target_logprobs(*x, 'float32', chunk)), gradients(whole),
      strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_whole_logits_are_in_no_program():
  """Neither the values nor the gradients of 64 tokens over 4,096 ids hold that many numbers."""
  hidden, table, targets = inputs(4096, tokens=64)

  def loss(hidden, table):
    return jnp.sum(vocabulary.target_logprobs(hidden, table, targets, 'float32', 256)[0])

  text = jax.jit(jax.grad(loss, (0, 1))).lower(hidden, table).compile().as_text()
  assert 'f32[64,4096]' not in text and 'f32[4096,64]' not in text
  assert 'f32[64,256]' in text
