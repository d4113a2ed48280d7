"""Log-probabilities of given tokens over a large vocabulary, whose logits are never there whole.

The vocabulary is read in chunks, twice: for the normaliser, and in the backward pass again.

Shapes: M tokens, E width, V vocabulary in n chunks of C.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from aw_jax import partitioning

CHUNK = 16_384


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def target_logprobs(hidden_MxE: jax.Array, table_VxE: jax.Array, targets_M: jax.Array, dtype: str,
                    chunk: int) -> tuple[jax.Array, jax.Array]:
  """Log-probability of each target under softmax(hidden table'), and whether it is the likeliest.

  Args:
    hidden_MxE: final hidden states.
    table_VxE: output embedding.
    targets_M: int32.
    dtype: of the products' operands; accumulated in float32.
    chunk: ids at a time at most.
  Returns:
    float32[M], bool[M].
  """
  return _forward(hidden_MxE, table_VxE, targets_M, dtype, chunk)[0]


def target_logprobs_on_mesh(hidden_BxTxE: jax.Array, table_VxE: jax.Array, targets_BxT: jax.Array,
                            dtype: str) -> tuple[jax.Array, jax.Array]:
  """`target_logprobs` of rows: float32[B, T], bool[B, T].

  On a mesh each device has its own tokens and, for the time it takes, the whole table.
  """
  def local(hidden, table, targets):
    found = target_logprobs(
        hidden.reshape(-1, hidden.shape[-1]), table, targets.reshape(-1), dtype, CHUNK)
    return tuple(x.reshape(targets.shape) for x in found)

  mesh = partitioning.auto_mesh()
  if mesh is None:
    return local(hidden_BxTxE, table_VxE, targets_BxT)
  parts = (*partitioning.SEQUENCE_AXES, 'tensor')
  count = math.prod(mesh.shape[axis] for axis in parts)
  even = targets_BxT.shape[1] % count == 0
  tokens = PartitionSpec(partitioning.ROW_AXES, parts if even else None)
  return jax.shard_map(
      local, mesh=mesh, in_specs=(tokens, PartitionSpec(), tokens), out_specs=(tokens, tokens),
      check_vma=False)(hidden_BxTxE, table_VxE.astype(dtype), targets_BxT)


def _chunks(table_VxE: jax.Array, chunk: int) -> jax.Array:
  """[n, C, E]: chunk i holds the ids i, i + n, i + 2n, ...; rows of zeros fill up the last ids."""
  vocabulary, width = table_VxE.shape
  count = -(-vocabulary // chunk)
  padded = jnp.pad(table_VxE, ((0, -vocabulary % count), (0, 0)))
  return padded.reshape(-1, count, width).swapaxes(0, 1)


def _logits(hidden, rows_CxE, first, count: int, vocabulary: int):
  """float32[M, C] of one chunk; what only fills it up has no probability."""
  logits = jnp.einsum('me,ce->mc', hidden, rows_CxE, preferred_element_type=jnp.float32)
  return jnp.where(first + count * jnp.arange(rows_CxE.shape[0]) < vocabulary, logits, -jnp.inf)


def _chosen(targets_M, first, count: int, size: int):
  """bool[M, C]: where a chunk holds the targets."""
  return targets_M[:, None] == first + count * jnp.arange(size)


def _forward(hidden, table, targets, dtype, chunk):
  hidden_cast, chunks = hidden.astype(dtype), _chunks(table.astype(dtype), chunk)
  count, size = chunks.shape[:2]

  def step(carry, part):
    largest, total, target = carry
    first, rows = part
    logits = _logits(hidden_cast, rows, first, count, table.shape[0])
    new_largest = jnp.maximum(largest, jnp.max(logits, axis=-1))
    total = total * jnp.exp(largest - new_largest) + jnp.sum(
        jnp.exp(logits - new_largest[:, None]), axis=-1)
    target += jnp.sum(jnp.where(_chosen(targets, first, count, size), logits, 0.0), axis=-1)
    return (new_largest, total, target), None

  zeros = jnp.zeros(hidden.shape[0])
  (largest, total, target), _ = jax.lax.scan(
      step, (zeros - 1e30, zeros, zeros), (jnp.arange(count), chunks))
  normaliser = largest + jnp.log(total)
  like = jnp.zeros((), hidden.dtype), jnp.zeros((), table.dtype)
  return (target - normaliser, target >= largest), (
      hidden_cast, table, targets, normaliser, like)


def _backward(dtype, chunk, residuals, cotangents):
  """With p the probabilities, d logits = (target - p) times the cotangent."""
  hidden, table, targets, normaliser, like = residuals
  chunks = _chunks(table.astype(dtype), chunk)
  count, size = chunks.shape[:2]
  cotangent = cotangents[0][:, None]

  def step(d_hidden, part):
    first, rows = part
    logits = _logits(hidden, rows, first, count, table.shape[0])
    probabilities = jnp.exp(logits - normaliser[:, None])
    d_logits = ((_chosen(targets, first, count, size) - probabilities) * cotangent).astype(dtype)
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    d_hidden += product('mc,ce->me', d_logits, rows)
    return d_hidden, product('mc,me->ce', d_logits, hidden).astype(like[1].dtype)

  d_hidden, d_chunks = jax.lax.scan(
      step, jnp.zeros(hidden.shape, jnp.float32), (jnp.arange(count), chunks))
  d_table = d_chunks.swapaxes(0, 1).reshape(-1, table.shape[1])[:table.shape[0]]
  return d_hidden.astype(like[0].dtype), d_table, None


target_logprobs.defvjp(_forward, _backward)
