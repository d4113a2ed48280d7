"""Mixture of experts: every token reaches all of the experts that it is sent to, none is dropped.

Tokens are sorted by expert, and each expert's share is multiplied by its own matrices in one
grouped product (`jax.lax.ragged_dot`), so that work and memory grow with tokens times experts a
token, however uneven the load.

Shapes: M tokens, X experts, k experts a token, R = M * k rows, E width, F width of an expert.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aw_jax.models.config import ModelConfig
from aw_jax.models.contract import contract
from aw_jax.models.layers import Mlp, kernel

ROUTER = 'router'  # the collection in which each layer notes its load


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def grouped_contract(rows_RxA, weights_XxAxB, sizes_X, dtype: str) -> jax.Array:
  """Consecutive groups of rows, each times the matrix of its group.

  Operands are cast to `dtype`, in the backward pass too; accumulated and returned in float32.

  Args:
    rows_RxA: group after group.
    weights_XxAxB: a matrix for each group.
    sizes_X: int32, rows of each group.
    dtype: 'float32' or 'bfloat16'.
  """
  return jax.lax.ragged_dot(
      rows_RxA.astype(dtype), weights_XxAxB.astype(dtype), sizes_X,
      preferred_element_type=jnp.float32)


def _forward(rows, weights, sizes, dtype):
  cast = rows.astype(dtype), weights.astype(dtype)
  return grouped_contract(rows, weights, sizes, dtype), (*cast, sizes)


_WEIGHT_GRADIENT = jax.lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[])


def _backward(dtype, residuals, cotangent):
  rows, weights, sizes = residuals
  cotangent = cotangent.astype(dtype)
  d_rows = jax.lax.ragged_dot(
      cotangent, weights.swapaxes(1, 2), sizes, preferred_element_type=jnp.float32)
  d_weights = jax.lax.ragged_dot_general(
      rows, cotangent, sizes, _WEIGHT_GRADIENT, preferred_element_type=jnp.float32)
  return d_rows, d_weights, None


grouped_contract.defvjp(_forward, _backward)


def route(logits_MxX: jax.Array, count: int, normalise: bool
          ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The experts of each token.

  Returns:
    Probabilities float32[M, X], weights float32[M, k] of the likeliest, which sum to one where they
    are normalised, and their numbers int32[M, k].
  """
  probabilities = jax.nn.softmax(logits_MxX, axis=-1)
  weights, chosen = jax.lax.top_k(probabilities, count)
  if normalise:
    weights /= jnp.sum(weights, axis=-1, keepdims=True)
  return probabilities, weights, chosen


def routed_swiglu(x_MxE, weights_Mxk, chosen_Mxk, gate_XxExF, up_XxExF, down_XxFxE, dtype: str
                  ) -> jax.Array:
  """Weighted sum float32[M, E] of what each token's experts make of it."""
  tokens, count = chosen_Mxk.shape
  experts_R = chosen_Mxk.reshape(-1)
  order = jnp.argsort(experts_R)
  sizes = jnp.bincount(experts_R, length=gate_XxExF.shape[0])
  rows = x_MxE[order // count]
  hidden = (nn.silu(grouped_contract(rows, gate_XxExF, sizes, dtype))
            * grouped_contract(rows, up_XxExF, sizes, dtype))
  out = grouped_contract(hidden, down_XxFxE, sizes, dtype)[jnp.argsort(order)]
  return jnp.einsum('mke,mk->me', out.reshape(tokens, count, -1), weights_Mxk)


def load_balance_loss(counts_X: jax.Array, probabilities_X: jax.Array) -> jax.Array:
  """1 where every expert gets its share, X where one gets all (Switch Transformer, equation 4).

  Args:
    counts_X: assignments of tokens to each expert.
    probabilities_X: router probabilities summed over the same tokens.
  """
  shares = counts_X / jnp.maximum(jnp.sum(counts_X), 1)
  mean = probabilities_X / jnp.maximum(jnp.sum(probabilities_X), 1e-9)
  return counts_X.shape[0] * jnp.sum(shares * mean)


def noted_load(noted: Any) -> tuple[jax.Array, jax.Array] | None:
  """`counts` and `probabilities` float32[layers, X] of what the layers noted; None without experts.

  Args:
    noted: the variables that `apply(..., mutable=[ROUTER])` returns beside its result.
  """
  if ROUTER not in noted:
    return None
  leaves = jax.tree_util.tree_leaves_with_path(noted[ROUTER])
  return tuple(
      jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for path, leaf in leaves
                       if name in jax.tree_util.keystr(path)])
      for name in ('counts', 'probabilities'))


class Experts(nn.Module):
  """The feed-forward part of a block: routed experts and, where there is one, the shared expert.

  In the collection ROUTER it notes `counts` float32[X] (assignments) and `probabilities`
  float32[X] (summed) over the tokens that are no padding.
  """

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxTxE, valid_BxT):
    c = self.config
    x = x_BxTxE.reshape(-1, c.width)
    router = kernel(self, 'router', (c.width, c.experts), ('embed', None))
    logits = jnp.einsum('me,ex->mx', x, router)
    probabilities, weights, chosen = route(logits, c.experts_per_token, c.normalise_router)
    valid = valid_BxT.reshape(-1, 1)
    self.sow(ROUTER, 'probabilities', jnp.sum(probabilities * valid, axis=0))
    self.sow(ROUTER, 'counts', jnp.sum(
        jax.nn.one_hot(chosen, c.experts) * valid[..., None], axis=(0, 1)))
    shape, axes = (c.experts, c.width, c.expert_width), ('experts', 'embed', 'mlp')
    out = routed_swiglu(
        x, weights, chosen, kernel(self, 'gate', shape, axes), kernel(self, 'up', shape, axes),
        kernel(self, 'down', (c.experts, c.expert_width, c.width), ('experts', 'mlp', 'embed')),
        c.dtype).reshape(x_BxTxE.shape)
    if c.shared_expert_width:
      shared = Mlp(c, c.shared_expert_width, name='shared')(x_BxTxE)
      gate = kernel(self, 'shared_gate', (c.width, 1), ('embed', None))
      out += nn.sigmoid(contract('bte,ef->btf', x_BxTxE, gate, c.dtype)) * shared
    return out
