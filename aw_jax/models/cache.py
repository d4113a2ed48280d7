"""What a decoder remembers of each row while it reads and says tokens one after another.

A token's slot in an attention cache is its position, so a row goes back by making its length
smaller; convolution taps and DeltaNet states are put back as they were.

Shapes: B rows, T tokens, D head width.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from aw_jax.models.attention_cache import AttentionCache, init_attention_cache, kept_slots
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
      Where it is stacked, one for each place in the config's pattern, the repetitions in front of
      every array.
    lengths: int32[B] tokens of each row so far; slots from there on are stale.
    slots: tokens that a row may have.
    stacked: the config's scan_decode.
  """

  layers: tuple[LayerCache, ...]
  lengths: jax.Array
  slots: int = flax.struct.field(pytree_node=False)
  stacked: bool = flax.struct.field(pytree_node=False, default=False)


def init_cache(config: ModelConfig, batch: int, slots: int) -> Cache:
  """An empty cache of at least `slots` tokens a row."""
  c = config

  def taps(width, conv_width):  # every buffer made anew: one that stands twice is not donated
    return jnp.zeros((batch, max(conv_width - 1, 0), width), jnp.float32)

  def mixer(kind):
    if kind == ATTENTION:
      return init_attention_cache(c, batch, slots)
    keys, values = c.delta_key_heads * c.delta_key_dim, c.delta_value_heads * c.delta_value_dim
    return DeltaCache(
        *(taps(width, c.delta_conv_width) for width in (keys, keys, values)),
        jnp.zeros((batch, c.delta_value_heads, c.delta_key_dim, c.delta_value_dim), jnp.float32))

  layers = tuple(
      LayerCache(mixer(kind), *(taps(c.width, c.short_conv_width) for _ in range(2)))
      for kind in c.pattern * (1 if c.scan_decode else c.repeats))
  if c.scan_decode:
    layers = jax.tree.map(lambda x: jnp.zeros((c.repeats, *x.shape), x.dtype), layers)
  return Cache(layers, jnp.zeros(batch, jnp.int32), kept_slots(c, slots), c.scan_decode)


def _is_attention(part: Any) -> bool:
  return isinstance(part, AttentionCache)


def repeat_rows(cache: Cache, times: int) -> Cache:
  """Each row `times` times in a row: one prefilled prompt for a whole group of samples."""
  def repeat(tree):
    return jax.tree.map(
        lambda x: x.repeat(times) if _is_attention(x) else jnp.repeat(x, times, axis=0), tree,
        is_leaf=_is_attention)

  layers = (jax.vmap(repeat) if cache.stacked else repeat)(cache.layers)
  return cache.replace(layers=layers, lengths=repeat(cache.lengths))


def take_rows(cache: Cache, start: jax.Array | int, count: int) -> Cache:
  """So many rows of a cache, from row `start` on."""
  def taken(x):
    if _is_attention(x):
      return x.rows(start, count)
    return jax.lax.dynamic_slice_in_dim(x, start, count)

  def take(tree):
    return jax.tree.map(taken, tree, is_leaf=_is_attention)

  layers = (jax.vmap(take) if cache.stacked else take)(cache.layers)
  return cache.replace(layers=layers, lengths=take(cache.lengths))


def write_rows(cache: Cache, rows: Cache, start: jax.Array | int) -> Cache:
  """The cache with those of another from row `start` on.

  Args:
    cache: of many rows.
    rows: of the same model and of no more slots.
    start: where the first of `rows` goes.
  """
  def written(old, new):
    if _is_attention(old):
      return old.write_rows(new, start)
    return jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=0)

  def write(tree, new):
    return jax.tree.map(written, tree, new, is_leaf=_is_attention)

  layers = (jax.vmap(write) if cache.stacked else write)(cache.layers, rows.layers)
  return cache.replace(layers=layers, lengths=write(cache.lengths, rows.lengths))


def go_back(cache: Cache, earlier: Cache, rows_B: jax.Array) -> Cache:
  """The cache as it was `earlier` in the rows of bool[B]; what came since is written over.

  Of keys and values the earlier lengths are all that is needed: slots behind them are stale.
  """
  def chosen(now, then):
    if _is_attention(now):
      return now
    return jnp.where(jnp.expand_dims(rows_B, range(1, now.ndim)), then, now)

  def choose(now, then):
    return jax.tree.map(chosen, now, then, is_leaf=_is_attention)

  layers = (jax.vmap(choose) if cache.stacked else choose)(cache.layers, earlier.layers)
  return cache.replace(layers=layers, lengths=choose(cache.lengths, earlier.lengths))
