"""`contract` against float64 sums, its gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models.contract import contract

# Every product of the decoder: projections, logits, attention over rows and over a cache.
PRODUCTS = {
  'bte,ef->btf': ((2, 3, 4), (4, 5)),
  'btf,fe->bte': ((2, 3, 4), (4, 5)),
  'te,ve->tv': ((3, 4), (5, 4)),
  'btkgd,bskd->bkgts': ((2, 3, 2, 2, 4), (2, 5, 2, 4)),
  'bkgts,bskd->btkgd': ((2, 2, 2, 3, 5), (2, 5, 2, 4)),
  'bkqd,bkds->bkqs': ((2, 2, 3, 4), (2, 2, 4, 5)),
  'bkqs,bksd->bkqd': ((2, 2, 3, 5), (2, 2, 5, 4)),
}


def operands(spec, seed=0):
  """Two operands and a weight for each element of their product, all float64."""
  rng = np.random.default_rng(seed)
  left, right = (rng.normal(size=shape) for shape in PRODUCTS[spec])
  return left, right, rng.normal(size=np.einsum(spec, left, right).shape)


def differences(function, x):
  """Central differences by each element of x; exact for a function that is linear in x."""
  gradient = np.zeros_like(x)
  for index in np.ndindex(x.shape):
    step = np.zeros_like(x)
    step[index] = 0.5
    gradient[index] = function(x + step) - function(x - step)
  return gradient


def gradients(spec, left, right, weights, dtype):
  def weighted(left, right):
    return jnp.sum(contract(spec, left, right, dtype) * weights)
  return jax.jit(jax.grad(weighted, argnums=(0, 1)))(left, right)


@pytest.mark.parametrize('spec', PRODUCTS)
def test_value_and_gradients(spec):
  left, right, weights = operands(spec)
  arrays = [x.astype(np.float32) for x in (left, right, weights)]
  np.testing.assert_allclose(
    contract(spec, *arrays[:2], 'float32'), np.einsum(spec, left, right), rtol=1e-5, atol=1e-5)
  expected = (
    differences(lambda x: np.sum(np.einsum(spec, x, right) * weights), left),
    differences(lambda x: np.sum(np.einsum(spec, left, x) * weights), right))
  for actual, wanted in zip(gradients(spec, *arrays, 'float32'), expected, strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def rounded(x):
  """float64 of the nearest bfloat16."""
  return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


@pytest.mark.parametrize('spec', PRODUCTS)
def test_bfloat16_operands_and_float32_sums(spec):
  """Nothing is rounded but the operands: of the product, and of both backward products."""
  left, right, weights = operands(spec)
  arrays = [x.astype(np.float32) for x in (left, right, weights)]
  product = contract(spec, *arrays[:2], 'bfloat16')
  assert product.dtype == jnp.float32
  left, right, weights = map(rounded, (left, right, weights))
  np.testing.assert_allclose(product, np.einsum(spec, left, right), rtol=1e-5, atol=1e-5)
  expected = (
    differences(lambda x: np.sum(np.einsum(spec, x, right) * weights), left),
    differences(lambda x: np.sum(np.einsum(spec, left, x) * weights), right))
  for actual, wanted in zip(gradients(spec, *arrays, 'bfloat16'), expected, strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_bfloat16_error_is_that_of_eight_bits():
  rng = np.random.default_rng(1)
  left, right = rng.normal(size=(2, 64, 256)), rng.normal(size=(256, 32))
  product = contract(
    'bte,ef->btf', jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32), 'bfloat16')
  bound = np.abs(left) @ np.abs(right) * 2 * 2.0**-8  # half a unit in the last place, twice
  error = np.abs(np.asarray(product, np.float64) - left @ right)
  assert (error < bound).all() and error.max() > 1e-3  # float32 operands would be far closer


@pytest.mark.parametrize('dtypes', [(jnp.float32, jnp.bfloat16), (jnp.bfloat16, jnp.float32)])
def test_gradients_have_the_dtypes_of_the_operands(dtypes):
  left, right, weights = operands('te,ve->tv')
  found = gradients('te,ve->tv', left.astype(dtypes[0]), right.astype(dtypes[1]),
                    weights.astype(np.float32), 'bfloat16')
  assert tuple(gradient.dtype for gradient in found) == dtypes


@pytest.mark.parametrize('spec', PRODUCTS)
def test_results_and_gradients_of_activations_may_be_rounded(spec):
  """As they are stored; gradients of weights are not, nor is anything summed in eight bits."""
  left, right, weights = operands(spec)
  arrays = [x.astype(np.float32) for x in (left, right, weights)]

  def weighted(left, right, result):
    return jnp.sum(contract(spec, left, right, 'bfloat16', result) * arrays[2])

  exact, stored = (
    (contract(spec, *arrays[:2], 'bfloat16', result),
     *jax.jit(jax.grad(weighted, argnums=(0, 1)), static_argnums=2)(*arrays[:2], result))
    for result in ('float32', 'bfloat16'))
  for i in (0, 1):  # within a program XLA may leave a rounding out, and does so on a CPU
    assert stored[i].dtype == jnp.float32
    np.testing.assert_allclose(stored[i], rounded(exact[i]), rtol=2.0**-7)
  np.testing.assert_array_equal(stored[0], rounded(stored[0]))
  assert np.abs(exact[0] - rounded(exact[0])).max() > 0
  np.testing.assert_array_equal(stored[2], exact[2])
