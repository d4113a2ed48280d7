"""Grouped-query attention of whole packed rows, and rotary positions.

Shapes: B batch, L tokens, S tokens with keys, H query heads, K key heads, G = H / K, D head width.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from aw_jax import partitioning
from aw_jax.models import cudnn, splash
from aw_jax.models.config import ModelConfig, ModelConfigError

# What packed rows are attended with by default; the other kinds are there for comparison.
_AUTO = {'cpu': 'blocks', 'gpu': 'cudnn', 'tpu': 'splash'}

_MASKED = -1e30  # finite: a row in which everything is masked (padding) must not become NaN


# Tables of so many positions are constants of the program: XLA's CPU backend would fuse the cosines
# of tables that it makes itself into each of their uses, which cost a tenth of a training step.
_CONSTANT_POSITIONS = 1 << 15


def rotary_table(length: int, width: int, theta: float) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines of rotary position embedding: float32[length, width / 2] each.

  Args:
    length: positions from 0.
    width: of a head.
    theta: base of the frequencies.
  """
  xp = np if length <= _CONSTANT_POSITIONS else jnp
  half = width // 2
  frequencies = np.float32(theta) ** (-np.arange(half, dtype=np.float32) / half)
  angles = xp.arange(length, dtype=np.float32)[:, None] * frequencies
  return jnp.asarray(xp.cos(angles)), jnp.asarray(xp.sin(angles))


def rotate(x_BxLxHxD: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary position embedding, halves rotated against each other as in Qwen3 and Llama.

  Args:
    x_BxLxHxD: queries or keys.
    rotary: rows of `rotary_table` at their positions, float32[B, L, R / 2] each; of a head the
      first R dimensions are rotated.
  """
  cos, sin = (table[:, :, None] for table in rotary)
  half = cos.shape[-1]
  first, second, rest = jnp.split(x_BxLxHxD, (half, 2 * half), axis=-1)
  return jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def attend_packed(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segment_ids_BxL, *, kind: str, dtype: str,
                  block: int) -> jax.Array:
  """Causal attention within segments. Returns float32[B, L, H, D].

  Where the mesh splits rows, every device attends from its own queries to all keys of its rows:
  context parallelism by gathering keys and values, of which grouped-query attention has few.

  Args:
    q_BxLxHxD: rotated queries.
    k_BxLxKxD: rotated keys, and v_BxLxKxD: values.
    segment_ids_BxL: int32.
    kind: of ATTENTION_KINDS; see `kind_for_rows`.
    dtype: of the products' operands; softmax is in float32.
    block: queries at a time where the kind is 'blocks'.
  """
  length, heads = q_BxLxHxD.shape[1:3]
  mesh, shares = partitioning.auto_mesh(), partitioning.sequence_shares()
  kind = kind_for_rows(kind, length, q_BxLxHxD.shape[-1], dtype)
  if kind == 'splash':
    attend = functools.partial(splash.attend, dtype=dtype)
    kernel = splash.make_kernel(length, length, heads, mesh.shape['tensor'] if mesh else 1, shares)
    place, place_spec = kernel, mesh and kernel.manual_sharding_spec(
        NamedSharding(mesh, partitioning.spec('heads', 'sequence')))
  else:
    attend = functools.partial(
        {'plain': _attend_plain, 'cudnn': _attend_cudnn, 'blocks': _attend_in_blocks}[kind],
        dtype=dtype, block=block)
    first = None if shares == 1 else jnp.arange(0, length, length // shares)
    place, place_spec = first, partitioning.spec('sequence')
  operands = q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segment_ids_BxL, segment_ids_BxL, place
  if mesh is None:
    return attend(*operands)
  queries, keys = (
      partitioning.spec('batch', axis, 'heads', None) for axis in ('sequence', None))
  rows = partitioning.spec('batch', 'sequence'), partitioning.spec('batch', None)
  return jax.shard_map(
      attend, mesh=mesh, in_specs=(queries, keys, keys, *rows, place_spec), out_specs=queries,
      check_vma=False)(*operands)


def kind_for_rows(kind: str, length: int, width: int, dtype: str) -> str:
  """How rows are attended: `kind`, or where it is 'auto' what suits this device.

  That is 'splash' on TPUs and 'cudnn' on GPUs where the kernels take such rows and heads, else
  'blocks'.

  Args:
    kind: of ATTENTION_KINDS.
    length: of the rows.
    width: of the heads.
    dtype: of the products.
  Raises:
    ModelConfigError: where `kind` is of kernels that do not take them.
  """
  shares, automatic = partitioning.sequence_shares(), kind == 'auto'
  kind = _on_this_device(kind)
  if kind == 'splash' and not splash.supports(length // shares):
    needs = f'shares of rows in multiples of {splash.MULTIPLE} tokens, not {length // shares}'
  elif kind == 'cudnn' and (
      shares > 1 or length % 2 or not cudnn.supports(width, dtype)):
    needs = f'{cudnn.NEEDS}, and rows of an even length that the mesh does not split'
  else:
    return kind
  if automatic:
    return 'blocks'
  raise ModelConfigError(
      f"model.attention_kind: {kind!r} needs {needs}; 'auto' takes what there is")


def _on_this_device(kind: str) -> str:
  return _AUTO[jax.default_backend()] if kind == 'auto' else kind


def _visible(segments_BxL, key_segments_BxS, first) -> jax.Array:
  """bool[B, L, S]: which keys each query sees. `first`: the first query's place, None for 0."""
  queries = jnp.arange(segments_BxL.shape[1]) + (0 if first is None else first)
  causal = jnp.arange(key_segments_BxS.shape[1]) <= queries[:, None]
  return causal & (segments_BxL[:, :, None] == key_segments_BxS[:, None])


def _attend_plain(q_BxLxHxD, k_BxSxKxD, v_BxSxKxD, segments, key_segments, first, *, dtype, block):
  """All scores at once: what the others are checked against."""
  del block
  return jax.nn.dot_product_attention(
      *(x.astype(dtype) for x in (q_BxLxHxD, k_BxSxKxD, v_BxSxKxD)), implementation='xla',
      mask=_visible(segments, key_segments, first)[:, None]).astype(jnp.float32)


def kept_as_rows(config: ModelConfig) -> bool:
  """Whether a cache has the order of training: for flash attention of cuDNN, and the plain form."""
  kind = _on_this_device(config.attention_kind)
  return kind == 'plain' or (
      kind == 'cudnn' and cudnn.supports(config.head_dim, config.cache_dtype))


def _attend_cudnn(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segments, key_segments, first, *, dtype, block):
  """cuDNN's flash attention, of whole rows."""
  del key_segments, first, block
  return cudnn.attend(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segments, dtype=dtype)


def _attend_in_blocks(q_BxLxHxD, k_BxSxKxD, v_BxSxKxD, segments, key_segments, first, *, dtype,
                      block):
  """`block` queries at a time.

  Of the softmax only the normaliser is stored; the backward pass makes the probabilities again from
  it. Where the first query is the row's first, a block reads only the keys up to the end of its
  group: half of the work of the full square, and of a long row a sixteenth more.
  """
  batch, length, heads, width = q_BxLxHxD.shape
  kv_heads = k_BxSxKxD.shape[2]
  q = q_BxLxHxD.reshape(batch, length, kv_heads, heads // kv_heads, width) * width**-0.5
  q_BxKxGxLxD = q.transpose(0, 2, 3, 1, 4)
  k_BxKxSxD, v_BxKxSxD = (x.transpose(0, 2, 1, 3) for x in (k_BxSxKxD, v_BxSxKxD))
  out = _attend_blocks(
      q_BxKxGxLxD, k_BxKxSxD, v_BxKxSxD, segments, key_segments, first, dtype, block)
  return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def _attend_blocks(q, k, v, segments, key_segments, first, dtype, block):
  return _attend_blocks_forward(q, k, v, segments, key_segments, first, dtype, block)[0]


def _attend_blocks_forward(q, k, v, segments, key_segments, first, dtype, block):
  q, k, v = (x.astype(dtype) for x in (q, k, v))

  def attend(keys, carry, start, q, segments):
    scores = _scores(q, k[:, :, :keys], segments, key_segments[:, :keys], first, start)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = _product('bkgts,bksd->bkgtd', weights.astype(dtype), v[:, :, :keys]) / total
    return carry, (out, largest + jnp.log(total))

  _, (out, normaliser) = _over_blocks(
      attend, None, (q, segments), (3, 1), k.shape[2], first, block)
  return out, (q, k, v, segments, key_segments, first, out, normaliser)


def _attend_blocks_backward(dtype, block, residuals, d_out):
  """With P the probabilities: dV = P'dO, dP = dO V', dS = P (dP - rowsum(dO O)), dQ = dS K."""
  q, k, v, segments, key_segments, first, out, normaliser = residuals
  row_sums = jnp.sum(out * d_out, axis=-1, keepdims=True)

  def attend(keys, carry, start, q, segments, d_out, normaliser, row_sums):
    d_k, d_v = carry
    scores = _scores(q, k[:, :, :keys], segments, key_segments[:, :keys], first, start)
    probabilities = jnp.exp(scores - normaliser)
    d_probabilities = _product('bkgtd,bksd->bkgts', d_out, v[:, :, :keys])
    d_scores = (probabilities * (d_probabilities - row_sums)).astype(dtype)
    d_q = _product('bkgts,bksd->bkgtd', d_scores, k[:, :, :keys])
    # Queries first: XLA's CPU backend transposes the left operand, here the narrow one.
    d_k = d_k.at[..., :keys].add(_product('bkgtd,bkgts->bkds', q, d_scores))
    d_v = d_v.at[..., :keys].add(
        _product('bkgtd,bkgts->bkds', d_out, probabilities.astype(dtype)))
    return (d_k, d_v), (d_q,)

  zeros = tuple(jnp.zeros(x.swapaxes(2, 3).shape, jnp.float32) for x in (k, v))
  of_queries = q, segments, d_out.astype(dtype), normaliser, row_sums
  (d_k, d_v), (d_q,) = _over_blocks(
      attend, zeros, of_queries, (3, 1, 3, 3, 3), k.shape[2], first, block)
  # XLA's CPU backend has no product of bfloat16 with a transposed result, into which it would make
  # that of a single block.
  d_k, d_v = jax.lax.optimization_barrier((d_k, d_v))
  return d_q, d_k.swapaxes(2, 3), d_v.swapaxes(2, 3), None, None, None


_attend_blocks.defvjp(_attend_blocks_forward, _attend_blocks_backward)
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _over_blocks(attend, carry, of_queries, axes, keys: int, first, block: int):
  """`attend` of each block of queries, in order.

  The blocks of a group read as many keys, whose number is known when the program is compiled, and
  follow each other in a loop: XLA's CPU backend works side by side on what depends on nothing else,
  which for the blocks of a long row takes the memory of all its scores.

  Args:
    attend: (keys to read, carry, place of the first query, *blocks) -> carry, outputs of [..., T,
      D] for T queries.
    carry: for the first block.
    of_queries: arrays of all queries, and axes: where they have them.
    keys: of the row.
    first: place of the first query, None where it is the row's first.
    block: queries of a block.
  Returns:
    The carry after the last block, and the outputs for all queries.
  """
  outputs = []
  for start, size, count in _groups(of_queries[0].shape[axes[0]], block):
    end = start + size * count

    def one(carry, index, start=start, size=size, end=end):
      at = start + index * size
      blocks = (jax.lax.dynamic_slice_in_dim(x, at, size, axis)
                for x, axis in zip(of_queries, axes, strict=True))
      return attend(end if first is None else keys, carry, at, *blocks)

    if count == 1:
      carry, out = one(carry, 0)
    else:
      carry, out = jax.lax.scan(one, carry, jnp.arange(count))
      out = [_joined(x) for x in out]
    outputs.append(out)
  return carry, tuple(jnp.concatenate(x, axis=-2) for x in zip(*outputs, strict=True))


def _joined(blocks: jax.Array) -> jax.Array:
  """[..., N T, D] from [N, ..., T, D]."""
  moved = jnp.moveaxis(blocks, 0, -3)
  return moved.reshape(*moved.shape[:-3], -1, moved.shape[-1])


_GROUPS = 8  # of blocks: each is a part of the program


def _groups(queries: int, block: int) -> list[tuple[int, int, int]]:
  """(first query, queries of a block, blocks) of each group; the last block may be shorter."""
  whole, rest = divmod(queries, block)
  each = max(-(-whole // _GROUPS), 1)
  groups = [(start * block, block, min(each, whole - start)) for start in range(0, whole, each)]
  return groups + [(whole * block, rest, 1)] * bool(rest)


def _scores(q_BxKxGxTxD, k_BxKxSxD, segments_BxT, key_segments_BxS, first, start) -> jax.Array:
  """float32 scores [B, K, G, T, S], masked, of queries from `start` after the first."""
  scores = _product('bkgtd,bksd->bkgts', q_BxKxGxTxD, k_BxKxSxD)
  visible = _visible(segments_BxT, key_segments_BxS, start + (0 if first is None else first))
  return jnp.where(visible[:, None, None], scores, _MASKED)
