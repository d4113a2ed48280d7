"""Keys and values of an attention layer while decoding: kept, written and attended.

In one of two forms. In *chunks* a step reads as much as the longest row needs and multiplies
batches of small matrices, the form for CPUs and TPUs. As *rows*, the form of training, flash
attention of cuDNN reads of each row what its one new token needs, or all slots for several; a
choice at run time among parts would make the host wait for the GPU at every layer.

Shapes: B rows, T new tokens, S slots of a row, N_i chunks of C slots in part i, H query heads, K
key heads, G = H / K, D head width.
"""

import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np

from aw_jax.models import attention
from aw_jax.models.config import ModelConfig
from aw_jax.models.contract import contract

_MASKED = -1e30  # finite: a row in which everything is masked (padding) must not become NaN


@flax.struct.dataclass
class ChunkedCache:
  """Keys and values in chunks of slots.

  Attributes:
    k: [N_i, B, K, D, C] rotated keys, by position, of the config's cache_dtype: a buffer for each
      part of the cache (`cache_parts`), so that the first slots can be read alone, without a copy;
      this order of the axes and the next make the two products of a decode step batched
      matrix-vector products over the chunks.
    v: [N_i, B, K, C, D] values, by position, the same.
  """

  k: tuple[jax.Array, ...]
  v: tuple[jax.Array, ...]

  def repeat(self, times: int) -> 'ChunkedCache':
    """Each row `times` times in a row."""
    return jax.tree.map(lambda x: jnp.repeat(x, times, axis=1), self)

  def rows(self, start: jax.Array | int, count: int) -> 'ChunkedCache':
    """So many rows from row `start` on."""
    return jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, start, count, axis=1), self)

  def write_rows(self, rows: 'ChunkedCache', start: jax.Array | int) -> 'ChunkedCache':
    """With `rows`, of no more slots, from row `start` on; slots behind theirs are stale."""
    def write(parts, new):
      written = (jax.lax.dynamic_update_slice(old, part, (0, start, 0, 0, 0))
                 for old, part in zip(parts, new, strict=False))
      return (*written, *parts[len(new):])

    return ChunkedCache(write(self.k, rows.k), write(self.v, rows.v))


@flax.struct.dataclass
class RowCache:
  """Keys and values in the order of training.

  Attributes:
    k: [B, S, K, D] rotated keys, by position, of the config's cache_dtype.
    v: [B, S, K, D] values, by position, the same.
  """

  k: jax.Array
  v: jax.Array

  def repeat(self, times: int) -> 'RowCache':
    """Each row `times` times in a row."""
    return jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), self)

  def rows(self, start: jax.Array | int, count: int) -> 'RowCache':
    """So many rows from row `start` on."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, count), self)

  def write_rows(self, rows: 'RowCache', start: jax.Array | int) -> 'RowCache':
    """With `rows`, of no more slots, from row `start` on; slots behind theirs are stale."""
    return jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice(old, new, (start, 0, 0, 0)), self, rows)


AttentionCache = ChunkedCache | RowCache

# Slots; a decode step reads a row's cache in units of it. The kernels of XLA's CPU backend multiply
# by tiles of 64: larger chunks read more empty slots, others are cut up.
CHUNK = 64


def cache_parts(slots: int) -> list[tuple[int, int]]:
  """(chunks, slots of a chunk) of each part of a cache: each makes it four times as long.

  From two chunks on. How far a cache is read is chosen among its parts, and the program for each
  choice has to be compiled: with parts that double, a rollout took nearly twice as long to compile
  as with a single buffer.
  """
  size = min(slots, CHUNK)
  rest, parts = -(-slots // size), []
  while rest:
    parts.append(min(max(3 * sum(parts), 2), rest))
    rest -= parts[-1]
  return [(chunks, size) for chunks in parts]


def kept_slots(config: ModelConfig, slots: int) -> int:
  """How many slots a cache of at least `slots` has."""
  if attention.kept_as_rows(config):
    return -(-slots // CHUNK) * CHUNK
  return sum(map(math.prod, cache_parts(slots)))


def init_attention_cache(config: ModelConfig, batch: int, slots: int) -> AttentionCache:
  """An empty cache of at least `slots` tokens a row, in the form for `config` on this device."""
  dtype = config.cache_dtype
  if attention.kept_as_rows(config):
    shape = batch, kept_slots(config, slots), config.kv_heads, config.head_dim
    return RowCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))
  rows = batch, config.kv_heads
  return ChunkedCache(
      *(tuple(jnp.zeros((chunks, *rows, *(config.head_dim, size)[::order]), dtype)
              for chunks, size in cache_parts(slots)) for order in (1, -1)))


def write_cache(cache: AttentionCache, k_BxTxKxD, v_BxTxKxD, slots_BxT) -> AttentionCache:
  """The cache with new keys and values in their slots.

  What would lie beyond the last slot is dropped.

  Args:
    cache: of the tokens before.
    k_BxTxKxD: new rotated keys, and v_BxTxKxD: values.
    slots_BxT: int32.
  """
  if isinstance(cache, RowCache):
    rows = jnp.arange(slots_BxT.shape[0])[:, None]
    return RowCache(*(
        old.at[rows, slots_BxT].set(new.astype(old.dtype), mode='drop')
        for old, new in ((cache.k, k_BxTxKxD), (cache.v, v_BxTxKxD))))
  return _write_chunks(cache, k_BxTxKxD, v_BxTxKxD, slots_BxT)


def attend_cache(q_BxTxHxD, cache: AttentionCache, positions_BxT, *, kind: str,
                 attended: int | None = None) -> jax.Array:
  """Attention of new tokens over a cache in which a token's slot is its position.

  Args:
    q_BxTxHxD: rotated queries.
    cache: with the new tokens' own keys and values in it.
    positions_BxT: int32, of the new tokens.
    kind: the config's `attention_kind`.
    attended: leading slots to look at, where that is known.
  Returns:
    float32[B, T, H, D].
  """
  if isinstance(cache, RowCache):
    attend = functools.partial(
        _attend_rows, cache.k[:, :attended], cache.v[:, :attended],
        implementation='xla' if kind == 'plain' else 'cudnn')
    return _in_turn(attend, q_BxTxHxD, positions_BxT)
  k_parts, v_parts = cache.k, cache.v
  if attended is not None:
    k_parts, v_parts = _leading(k_parts, v_parts, attended)
    return _in_turn(functools.partial(_attend_parts, k_parts, v_parts), q_BxTxHxD, positions_BxT)
  # As many parts as the furthest position needs, which is chosen at run time.
  ends = np.cumsum([k.shape[0] for k in k_parts])
  needed = jnp.max(positions_BxT) // k_parts[0].shape[-1] + 1
  return jax.lax.switch(
      jnp.searchsorted(jnp.array(ends[:-1]), needed),
      [functools.partial(_attend_leading_parts, count=i + 1) for i in range(len(k_parts))],
      q_BxTxHxD, k_parts, v_parts, positions_BxT)


def _attend_leading_parts(q_BxTxHxD, k_parts, v_parts, positions_BxT, count: int):
  attend = functools.partial(_attend_parts, k_parts[:count], v_parts[:count])
  return _in_turn(attend, q_BxTxHxD, positions_BxT)


_MOST_QUERIES = 1024  # of a row at a time: the scores of a long prompt are never whole


def _in_turn(attend, q_BxTxHxD, positions_BxT):
  """`attend`, of many queries some at a time, whose scores the backward pass makes again."""
  batch, length = positions_BxT.shape
  if length <= _MOST_QUERIES:
    return attend(q_BxTxHxD, positions_BxT)
  missing = -length % _MOST_QUERIES

  def split(x):
    x = jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
    return x.reshape(batch, -1, _MOST_QUERIES, *x.shape[2:]).swapaxes(0, 1)

  out = jax.lax.map(
      jax.checkpoint(lambda part: attend(*part)), (split(q_BxTxHxD), split(positions_BxT)))
  return out.swapaxes(0, 1).reshape(batch, -1, *q_BxTxHxD.shape[2:])[:, :length]


# --- rows -----------------------------------------------------------------------------------------


def _attend_rows(k_BxSxKxD, v_BxSxKxD, q_BxTxHxD, positions_BxT, *, implementation: str):
  """`attend_cache` over rows."""
  batch, length, heads, width = q_BxTxHxD.shape
  kv_heads = k_BxSxKxD.shape[2]
  attend = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
  q = q_BxTxHxD.astype(k_BxSxKxD.dtype)
  if length > 1:
    seen = jnp.arange(k_BxSxKxD.shape[1]) <= positions_BxT[..., None]
    return attend(q, k_BxSxKxD, v_BxSxKxD, mask=seen[:, None]).astype(jnp.float32)
  # The heads of a group as queries of their key head: its keys and values are read once for them.
  q_BxGxKxD = q.reshape(batch, kv_heads, -1, width).swapaxes(1, 2)
  lengths_B = jnp.minimum(positions_BxT[:, 0] + 1, k_BxSxKxD.shape[1])  # of a row that is full too
  out = attend(q_BxGxKxD, k_BxSxKxD, v_BxSxKxD, key_value_seq_lengths=lengths_B)
  return out.swapaxes(1, 2).reshape(batch, length, heads, width).astype(jnp.float32)


# --- chunks ---------------------------------------------------------------------------------------


def _write_chunks(cache, k_BxTxKxD, v_BxTxKxD, slots_BxT):
  rows = jnp.arange(slots_BxT.shape[0])[:, None]
  chunk, place = jnp.divmod(slots_BxT, cache.k[0].shape[-1])
  keys, values, start = [], [], 0
  for k, v in zip(cache.k, cache.v, strict=True):
    count = k.shape[0]
    inside = jnp.where(chunk >= start, chunk - start, count)  # a negative index would wrap
    keys.append(k.at[inside, rows, :, :, place].set(k_BxTxKxD.astype(k.dtype), mode='drop'))
    values.append(v.at[inside, rows, :, place].set(v_BxTxKxD.astype(v.dtype), mode='drop'))
    start += count
  return ChunkedCache(tuple(keys), tuple(values))


def _leading(k_parts, v_parts, attended: int):
  """The chunks that hold the first `attended` slots; of a single chunk no more than those."""
  size = k_parts[0].shape[-1]
  if attended < size:
    return (k_parts[0][:1, ..., :attended],), (v_parts[0][:1, ..., :attended, :],)
  keys, values, rest = [], [], -(-attended // size)
  for k, v in zip(k_parts, v_parts, strict=True):
    if rest > 0:
      keys.append(k[:rest])
      values.append(v[:rest])
    rest -= k.shape[0]
  return tuple(keys), tuple(values)


def _attend_parts(k_parts, v_parts, q_BxTxHxD, positions_BxT):
  """`attend_cache` over all of the given parts of chunks."""
  _, batch, kv_heads, width, size = k_parts[0].shape
  length, heads = q_BxTxHxD.shape[1:3]
  group = heads // kv_heads
  q = (q_BxTxHxD * width**-0.5).reshape(batch, length, kv_heads, group, width)
  q_BxKxGTxD = q.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * length, width)
  positions_BxGT = jnp.tile(positions_BxT, (1, group))
  scores, start = [], 0
  for k in k_parts:
    chunks = k.shape[0]
    q_NxBxKxGTxD = jnp.broadcast_to(q_BxKxGTxD, (chunks, *q_BxKxGTxD.shape))
    part = contract('nbkqd,nbkdc->nbkqc', q_NxBxKxGTxD, k.astype(jnp.float32), 'float32')
    slots = start + jnp.arange(chunks * size).reshape(chunks, 1, 1, 1, size)
    scores.append(jnp.where(slots <= positions_BxGT[:, None, :, None], part, _MASKED))
    start += chunks * size
  largest = functools.reduce(
      jnp.maximum, [jnp.max(part, axis=(0, -1), keepdims=True) for part in scores])
  out, total = 0.0, 0.0
  for part, v in zip(scores, v_parts, strict=True):
    weights = jnp.exp(part - largest)
    out += jnp.sum(
        contract('nbkqc,nbkcd->nbkqd', weights, v.astype(jnp.float32), 'float32'), axis=0)
    total += jnp.sum(weights, axis=(0, -1))
  out /= total[..., None]
  return out.reshape(batch, kv_heads, group, length, width).transpose(0, 3, 1, 2, 4).reshape(
      batch, length, heads, width)
