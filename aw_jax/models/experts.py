"""Mixture of experts: every token reaches all of the experts that it is sent to, none is dropped.

Tokens are sorted by expert, and each expert's share is multiplied by its own matrices in one
grouped product (`jax.lax.ragged_dot`), so that work and memory grow with tokens times experts a
token, however uneven the load. (On a CPU XLA multiplies all rows by all matrices; fine for few.)

Shapes: M tokens, X experts, k experts a token, R = M * k rows, E width, F width of an expert.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.models.layers import Mlp, kernel, linear

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
  like = jnp.zeros((), rows.dtype), jnp.zeros((), weights.dtype)  # carry the input dtypes
  return grouped_contract(rows, weights, sizes, dtype), (*cast, sizes, like)


_WEIGHT_GRADIENT = jax.lax.RaggedDotDimensionNumbers(
    dot_dimension_numbers=(((0,), (0,)), ((), ())), lhs_ragged_dimensions=[0],
    rhs_group_dimensions=[])


def _backward(dtype, residuals, cotangent):
  rows, weights, sizes, (rows_like, weights_like) = residuals
  cotangent = cotangent.astype(dtype)
  d_rows = jax.lax.ragged_dot(
      cotangent, weights.swapaxes(1, 2), sizes, preferred_element_type=jnp.float32)
  d_weights = jax.lax.ragged_dot_general(
      rows, cotangent, sizes, _WEIGHT_GRADIENT, preferred_element_type=jnp.float32)
  return d_rows.astype(rows_like.dtype), d_weights.astype(weights_like.dtype), None


grouped_contract.defvjp(_forward, _backward)


def route(logits: jax.Array, count: int, normalise: bool
          ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """The experts of each token.

  Returns:
    Probabilities float32[..., X], weights float32[..., k] of the likeliest, which sum to one where
    they are normalised, and their numbers int32[..., k].
  """
  probabilities = jax.nn.softmax(logits, axis=-1)
  weights, chosen = jax.lax.top_k(probabilities, count)
  if normalise:
    weights /= jnp.sum(weights, axis=-1, keepdims=True)
  return probabilities, weights, chosen


def routed_swiglu(x_MxE, weights_Mxk, chosen_Mxk, gate_XxExF, up_XxExF, down_XxFxE, dtype: str,
                  first: jax.Array | int = 0) -> jax.Array:
  """Weighted sum float32[M, E] of what each token's experts make of it.

  `first` is the number of the first of the X experts that are here; of others nothing is added.
  """
  (tokens, count), experts = chosen_Mxk.shape, gate_XxExF.shape[0]
  experts_R = chosen_Mxk.reshape(-1) - first
  here = (experts_R >= 0) & (experts_R < experts)
  experts_R = jnp.where(here, experts_R, experts)  # those of others come last
  order = jnp.argsort(experts_R)
  sizes = jnp.bincount(experts_R, length=experts)
  # What a grouped product makes of rows beyond its groups is not defined.
  rows = jnp.where(here[order, None], x_MxE[order // count], 0.0)
  hidden = (nn.silu(grouped_contract(rows, gate_XxExF, sizes, dtype))
            * grouped_contract(rows, up_XxExF, sizes, dtype))
  out = grouped_contract(hidden, down_XxFxE, sizes, dtype)[jnp.argsort(order)]
  out = jnp.where(here[:, None], out, 0.0)
  return jnp.einsum('mke,mk->me', out.reshape(tokens, count, -1), weights_Mxk)


def routed_swiglu_on_mesh(x_BxTxE, weights_BxTxk, chosen_BxTxk, gate, up, down, dtype: str,
                          whole_rows: bool) -> jax.Array:
  """`routed_swiglu` of each device's tokens; experts are split over the axis 'expert'.

  The devices of that axis have different tokens of the same rows. Each gathers all of them, does
  the part of its own experts, and the parts are added up and dealt out again. With as many experts
  a token as devices, that sends no more than a copy of each token to each of its experts would.

  Args:
    x_BxTxE: hidden states.
    weights_BxTxk: of `route`, and chosen_BxTxk.
    gate: of `routed_swiglu`, as are `up`, `down` and `dtype`.
    whole_rows: False where T is the same few tokens on all devices that share a row (decoding).
  """
  mesh = partitioning.auto_mesh()
  if mesh is None:
    flat = (x.reshape(-1, x.shape[-1]) for x in (x_BxTxE, weights_BxTxk, chosen_BxTxk))
    return routed_swiglu(*flat, gate, up, down, dtype).reshape(x_BxTxE.shape)

  def block(tokens, gate, up, down):
    if whole_rows:
      tokens = [jax.lax.all_gather(x, 'expert', axis=1, tiled=True) for x in tokens]
    flat = (x.reshape(-1, x.shape[-1]) for x in tokens)
    out = routed_swiglu(*flat, gate, up, down, dtype, jax.lax.axis_index('expert') * len(gate))
    out = jax.lax.psum(out.reshape(tokens[0].shape), 'tensor')
    if whole_rows:
      return jax.lax.psum_scatter(out, 'expert', scatter_dimension=1, tiled=True)
    return jax.lax.psum(out, 'expert')

  def part(x, weights, chosen, gate, up, down):
    batch, length, _ = x.shape
    count = _blocks(batch, length, mesh.shape['expert'])
    if count == 1:
      return block((x, weights, chosen), gate, up, down)
    # In float32, in which the gradients of the blocks add up.
    gate, up, down = (x.astype(jnp.float32) for x in (gate, up, down))
    split = [x.reshape(batch, count, -1, x.shape[-1]).swapaxes(0, 1) for x in (x, weights, chosen)]
    out = jax.lax.map(jax.checkpoint(lambda tokens: block(tokens, gate, up, down)), split)
    return out.swapaxes(0, 1).reshape(x.shape)

  tokens = partitioning.spec('batch', 'sequence' if whole_rows else None, None)
  expert = partitioning.spec('experts', None, 'mlp'), partitioning.spec('experts', 'mlp', None)
  # Cast before they are gathered over the axes that split their embedding axis.
  gate, up, down = (x.astype(dtype) for x in (gate, up, down))
  return jax.shard_map(
      part, mesh=mesh, in_specs=(tokens,) * 3 + (expert[0], *expert), out_specs=tokens,
      check_vma=False)(x_BxTxE, weights_BxTxk, chosen_BxTxk, gate, up, down)


# Of so many gathered tokens a device holds the rows of all their experts at a time; of the 65,536
# that four devices have of a 262,144-token row, those are half a million rows of every array.
_BLOCK = 16_384


def _blocks(batch: int, length: int, shares: int) -> int:
  """Into how many blocks to cut a device's tokens; a power of two that divides the length."""
  count = 1
  while batch * length * shares > _BLOCK * count and length % (2 * count) == 0:
    count *= 2
  return count


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
  def __call__(self, x_BxTxE, segment_ids_BxT=None):
    """float32[B, T, E]. `segment_ids_BxT` are those of packed rows, where 0 is padding."""
    c = self.config
    whole_rows = segment_ids_BxT is not None
    valid = segment_ids_BxT > 0 if whole_rows else jnp.ones(x_BxTxE.shape[:2], bool)
    router = kernel(self, 'router', (c.width, c.experts), ('embed', None))
    # In float32 on every device: by default a TPU's operands are rounded to bfloat16.
    logits = jnp.einsum('bte,ex->btx', x_BxTxE, router, precision=jax.lax.Precision.HIGHEST)
    probabilities, weights, chosen = route(logits, c.experts_per_token, c.normalise_router)
    self.sow(ROUTER, 'probabilities', jnp.einsum('btx,bt->x', probabilities, valid))
    self.sow(ROUTER, 'counts', jnp.sum(
        jax.nn.one_hot(chosen, c.experts) * valid[..., None, None], axis=(0, 1, 2)))
    shape, axes = (c.experts, c.width, c.expert_width), ('experts', 'embed', 'mlp')
    out = routed_swiglu_on_mesh(
        x_BxTxE, weights, chosen, kernel(self, 'gate', shape, axes),
        kernel(self, 'up', shape, axes),
        kernel(self, 'down', (c.experts, c.expert_width, c.width), ('experts', 'mlp', 'embed')),
        c.dtype, whole_rows)
    if c.shared_expert_width:
      shared = Mlp(c, c.shared_expert_width, name='shared')(x_BxTxE)
      gate = kernel(self, 'shared_gate', (c.width, 1), ('embed', None))
      out += nn.sigmoid(linear(c, 'bte,ef->btf', x_BxTxE, gate)) * shared
    return out
