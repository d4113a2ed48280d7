"""Matrix products with low-precision operands and float32 accumulation, in both passes.

On an accelerator their results may be rounded to bfloat16 as they are stored: elsewhere than in
products, training waits for memory there. What comes back is float32 all the same, since XLA widens
it within the operations that read it.

`jnp.einsum` of bfloat16 operands with a float32 result has float32 cotangents, which turns the
backward products into float32 ones: two to three times slower on a CPU with AVX512-BF16, and on
tensor cores. Here the cotangent is cast like the operands.
"""

import functools

import jax
import jax.numpy as jnp


def _swapped(spec: str) -> tuple[str, str]:
  inputs, output = spec.split('->')
  left, right = inputs.split(',')
  return f'{output},{right}->{left}', f'{left},{output}->{right}'


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3, 4))
def contract(spec: str, left: jax.Array, right: jax.Array, dtype: str, result: str = 'float32'
             ) -> jax.Array:
  """`einsum(spec, left, right)` with operands cast to `dtype`, accumulated in float32.

  Args:
    spec: an einsum of two operands in which every index stands in at least two of the three terms.
    left: any float array.
    right: any float array.
    dtype: 'float32' or 'bfloat16'.
    result: what the product is rounded to, and so is the gradient of `left`, the activations; that
      of `right` is not.
  """
  return _product(spec, left.astype(dtype), right.astype(dtype), result)


def _product(spec, left, right, result):
  return jnp.einsum(spec, left, right, preferred_element_type=result).astype(jnp.float32)


def _forward(spec, left, right, dtype, result):
  left_cast, right_cast = left.astype(dtype), right.astype(dtype)
  witnesses = (jnp.zeros((), left.dtype), jnp.zeros((), right.dtype))  # carry the input dtypes
  return _product(spec, left_cast, right_cast, result), (left_cast, right_cast, witnesses)


def _backward(spec, dtype, result, residuals, cotangent):
  left, right, (left_like, right_like) = residuals
  for_left, for_right = _swapped(spec)
  cotangent = cotangent.astype(dtype)
  return (_product(for_left, cotangent, right, result).astype(left_like.dtype),
          _product(for_right, left, cotangent, 'float32').astype(right_like.dtype))


contract.defvjp(_forward, _backward)
