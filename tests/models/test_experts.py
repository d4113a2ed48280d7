"""Routed experts against a loop over tokens; gradients; the load-balance loss."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.models import experts
from aw_jax.models.config import ModelConfig

CONFIG = ModelConfig(
  vocab_size=8, width=6, layers=1, heads=1, kv_heads=1, head_dim=2, experts=5, experts_per_token=2,
  expert_width=4, shared_expert_width=3, dtype='float32')


def swiglu(x, gate, up, down):
  hidden = x @ gate
  return (hidden / (1 + np.exp(-hidden)) * (x @ up)) @ down


def inputs(tokens=11, seed=0):
  rng = np.random.default_rng(seed)
  gate, up = (rng.normal(size=(5, 6, 4)) for _ in range(2))
  return (rng.normal(size=(tokens, 6)), rng.uniform(size=(tokens, 2)),
          np.stack([rng.permutation(5)[:2] for _ in range(tokens)]), gate, up,
          rng.normal(size=(5, 4, 6)))


def loop(x, weights, chosen, gate, up, down):
  out = np.zeros_like(x)
  for token, row in enumerate(x):
    for weight, expert in zip(weights[token], chosen[token], strict=True):
      out[token] += weight * swiglu(row, gate[expert], up[expert], down[expert])
  return out


def float32(arrays):
  return [jnp.asarray(x, jnp.int32 if x.dtype.kind == 'i' else jnp.float32) for x in arrays]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), favourite=st.booleans())
def test_no_token_is_dropped(seed, favourite):
  arrays = inputs(seed=seed)
  if favourite:  # all at one expert, others without any
    arrays[2][:] = [3, 1]
  found = experts.routed_swiglu(*float32(arrays), 'float32')
  np.testing.assert_allclose(found, loop(*arrays), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_gradients_are_those_of_a_product_with_every_expert(dtype):
  x, weights, chosen, *matrices = float32(inputs())
  scale = np.random.default_rng(1).normal(size=x.shape)

  def routed(x, weights, *matrices):
    return jnp.sum(scale * experts.routed_swiglu(x, weights, chosen, *matrices, dtype))

  def dense(x, weights, gate, up, down):
    hidden = nn.silu(jnp.einsum('me,xef->mxf', x, gate)) * jnp.einsum('me,xef->mxf', x, up)
    out = jnp.einsum('mxf,xfe->mxe', hidden, down)
    shares = jnp.zeros((len(x), 5)).at[jnp.arange(len(x))[:, None], chosen].set(weights)
    return jnp.sum(scale * jnp.einsum('mxe,mx->me', out, shares))

  found, expected = (jax.grad(f, argnums=range(5))(x, weights, *matrices) for f in (routed, dense))
  for one, other in zip(found, expected, strict=True):
    error = np.linalg.norm(one - other) / np.linalg.norm(other)
    assert error < (1e-5 if dtype == 'float32' else 0.05)


def test_weights_of_the_chosen_sum_to_one_where_they_are_normalised():
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(7, 5)), jnp.float32)
  probabilities, weights, chosen = experts.route(logits, 2, True)
  np.testing.assert_allclose(jnp.sum(weights, axis=-1), 1, rtol=1e-6)
  _, raw, same = experts.route(logits, 2, False)
  np.testing.assert_array_equal(chosen, same)
  np.testing.assert_allclose(raw, np.sort(probabilities, axis=-1)[:, :-3:-1], rtol=1e-6)


def test_the_layer_notes_its_load_over_tokens_that_are_no_padding():
  layer = experts.Experts(CONFIG)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 6)), jnp.float32)
  valid = jnp.asarray(np.arange(8) < np.array([[8], [3]]))
  params = nn.unbox(layer.init(jax.random.key(0), x, valid))['params']
  _, noted = layer.apply({'params': params}, x, valid, mutable=[experts.ROUTER])
  (counts,), (probabilities,) = (
    noted[experts.ROUTER][name] for name in ('counts', 'probabilities'))
  assert counts.sum() == 11 * 2 and probabilities.sum() == pytest.approx(11, rel=1e-5)
  _, _, chosen = experts.route(x.reshape(-1, 6) @ params['router'], 2, True)
  np.testing.assert_array_equal(counts, np.bincount(
    np.asarray(chosen)[np.asarray(valid).reshape(-1)].reshape(-1), minlength=5))


def test_load_balance_loss_is_one_where_even_and_the_number_of_experts_where_one_has_all():
  even, one = jnp.full(5, 4.0), jnp.eye(5)[2] * 20
  assert experts.load_balance_loss(even, even) == pytest.approx(1)
  assert experts.load_balance_loss(one, one) == pytest.approx(5)


def test_without_a_shared_expert_there_are_no_parameters_of_one():
  config = dataclasses.replace(CONFIG, shared_expert_width=0)
  params = experts.Experts(config).init(
    jax.random.key(0), jnp.zeros((1, 2, 6)), jnp.ones((1, 2)))['params']
  assert set(params) == {'router', 'gate', 'up', 'down'}
