"""What a decoder remembers of each row while it reads and says tokens one after another.

A token's slot in an attention cache is its position, so a row goes back by making its length
smaller; convolution taps and DeltaNet states are put back as they were.

Shapes: B rows, T tokens, N_i chunks of C slots in part i of a cache, K key heads, D head width.
"""

import math
from typing import Any

import flax
import jax
import jax.numpy as jnp

from aw_jax.models.config import ATTENTION, ModelConfig


@flax.struct.dataclass
class Tokens:
  """What blocks know of the tokens besides their hidden states.

  Attributes:
    positions: int32[B, T], from 0 in each segment.
    rotary: cosines and sines at those positions, float32[B, T, D / 2] each.
    segment_ids: int32[B, T] of packed rows, where a token sees only its own segment; else None.
    slots: int32[B, T] where the tokens go in a cache; one beyond the last is dropped.
    counts: int32[B], how many of the T tokens are real, where there is a cache.
    attended: leading slots of the cache to look at, where that is known.
  """

  positions: jax.Array
  rotary: tuple[jax.Array, jax.Array]
  segment_ids: jax.Array | None = None
  slots: jax.Array | None = None
  counts: jax.Array | None = None
  attended: int | None = flax.struct.field(pytree_node=False, default=None)


@flax.struct.dataclass
class AttentionCache:
  """Keys and values of an attention layer.

  Attributes:
    k: [N_i, B, K, D, C] rotated keys, by position, of the config's cache_dtype: a buffer for each
      part of the cache (`cache_parts`), so that the first slots can be read alone, without a copy;
      this order of the axes and the next make the two products of a decode step batched
      matrix-vector products over the chunks.
    v: [N_i, B, K, C, D] values, by position, the same.
  """

  k: tuple[jax.Array, ...]
  v: tuple[jax.Array, ...]


@flax.struct.dataclass
class DeltaCache:
  """What a Gated DeltaNet layer remembers.

  Attributes:
    q_taps: float32[B, W-1, heads * width] last inputs of the queries' convolution.
    k_taps: the same of the keys.
    v_taps: the same of the values.
    state: float32[B, H, D_k, D_v].
  """

  q_taps: jax.Array
  k_taps: jax.Array
  v_taps: jax.Array
  state: jax.Array


@flax.struct.dataclass
class LayerCache:
  """What one block remembers.

  Attributes:
    mixer: an AttentionCache or a DeltaCache.
    mixer_taps: float32[B, W-1, E] last inputs of the short convolution before the mixer.
    mlp_taps: float32[B, W-1, E] last inputs of the MLP's short convolution.
  """

  mixer: AttentionCache | DeltaCache
  mixer_taps: jax.Array
  mlp_taps: jax.Array


@flax.struct.dataclass
class Cache:
  """What the decoder remembers of each row.

  Attributes:
    layers: one LayerCache a block; separate buffers, since XLA updates those in place in a loop.
    lengths: int32[B] tokens of each row so far; slots from there on are stale.
    slots: tokens that a row may have.
  """

  layers: tuple[LayerCache, ...]
  lengths: jax.Array
  slots: int = flax.struct.field(pytree_node=False)


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


def init_cache(config: ModelConfig, batch: int, slots: int) -> Cache:
  """An empty cache of at least `slots` tokens a row: chunks of CHUNK, or a single smaller one."""
  c, parts = config, cache_parts(slots)

  def taps(width, conv_width):  # every buffer made anew: one that stands twice is not donated
    return jnp.zeros((batch, max(conv_width - 1, 0), width), jnp.float32)

  def mixer(kind):
    if kind == ATTENTION:
      return AttentionCache(
          tuple(jnp.zeros((chunks, batch, c.kv_heads, c.head_dim, size), c.cache_dtype)
                for chunks, size in parts),
          tuple(jnp.zeros((chunks, batch, c.kv_heads, size, c.head_dim), c.cache_dtype)
                for chunks, size in parts))
    keys, values = c.delta_key_heads * c.delta_key_dim, c.delta_value_heads * c.delta_value_dim
    return DeltaCache(
        *(taps(width, c.delta_conv_width) for width in (keys, keys, values)),
        jnp.zeros((batch, c.delta_value_heads, c.delta_key_dim, c.delta_value_dim), jnp.float32))

  layers = tuple(
      LayerCache(mixer(kind), *(taps(c.width, c.short_conv_width) for _ in range(2)))
      for kind in c.pattern * c.repeats)
  return Cache(layers, jnp.zeros(batch, jnp.int32), sum(map(math.prod, parts)))


def _rows_axis(path: tuple[Any, ...]) -> int:
  """Which axis of a leaf of a cache is that of its rows."""
  names = {getattr(key, 'name', None) for key in path}
  return 1 if names & {'k', 'v'} else 0


def repeat_rows(cache: Cache, times: int) -> Cache:
  """Each row `times` times in a row: one prefilled prompt for a whole group of samples."""
  return jax.tree_util.tree_map_with_path(
      lambda path, x: jnp.repeat(x, times, axis=_rows_axis(path)), cache)


def go_back(cache: Cache, earlier: Cache, rows_B: jax.Array) -> Cache:
  """The cache as it was `earlier` in the rows of bool[B]; what came since is written over.

  Of keys and values the earlier lengths are all that is needed: slots behind them are stale.
  """
  def chosen(path, now, then):
    if _rows_axis(path) == 1:
      return now
    return jnp.where(jnp.expand_dims(rows_B, range(1, now.ndim)), then, now)

  return jax.tree_util.tree_map_with_path(chosen, cache, earlier)
