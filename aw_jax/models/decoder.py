"""The decoder: Qwen3's block (RMSNorm, RoPE, GQA with QK-norm, SwiGLU) in Flax Linen.

One module serves training on packed rows (`cache=None`) and everything incremental: prefill, decode
and ingesting another model's tokens are the same call with a cache, of any number of new tokens.
A token's cache slot is its position, so a row is rolled back by making its length smaller, and by
putting back the taps of its short convolutions.

Shapes: B batch, L tokens of a packed row, T new tokens, N_i chunks of C slots in part i of a cache,
E width, V vocabulary.
"""

from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from aw_jax.models.attention import attend_cache, attend_packed, rotary_table, rotate, write_cache
from aw_jax.models.config import ModelConfig
from aw_jax.models.contract import contract


@flax.struct.dataclass
class LayerCache:
  """What one block remembers.

  Attributes:
    k: [N_i, B, K, D, C] rotated keys, by position, of the config's cache_dtype: a buffer for each
      part of the cache (`cache_parts`), so that the first slots can be read alone, without a copy;
      this order of the axes and the next make the two products of a decode step batched
      matrix-vector products over the chunks.
    v: [N_i, B, K, C, D] values, by position, the same.
    attention_taps: float32[B, W-1, E] last inputs of the attention's short convolution.
    mlp_taps: float32[B, W-1, E] last inputs of the MLP's short convolution.
  """

  k: tuple[jax.Array, ...]
  v: tuple[jax.Array, ...]
  attention_taps: jax.Array
  mlp_taps: jax.Array


@flax.struct.dataclass
class Cache:
  """What the decoder remembers of each row.

  Attributes:
    layers: one LayerCache a block; separate buffers, since XLA updates those in place in a loop.
    lengths: int32[B] tokens of each row so far; slots from there on are stale.
  """

  layers: tuple[LayerCache, ...]
  lengths: jax.Array


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

  c = config
  parts = cache_parts(slots)
  taps = (batch, max(c.short_conv_width - 1, 0), c.width)

  def layer():  # every buffer made anew: one that stands twice could not be donated
    return LayerCache(
        tuple(jnp.zeros((chunks, batch, c.kv_heads, c.head_dim, size), c.cache_dtype)
              for chunks, size in parts),
        tuple(jnp.zeros((chunks, batch, c.kv_heads, size, c.head_dim), c.cache_dtype)
              for chunks, size in parts),
        jnp.zeros(taps, jnp.float32), jnp.zeros(taps, jnp.float32))

  return Cache(tuple(layer() for _ in range(c.layers)), jnp.zeros(batch, jnp.int32))


def repeat_rows(cache: Cache, times: int) -> Cache:
  """Each row `times` times in a row: one prefilled prompt for a whole group of samples."""

  def repeated(layer: LayerCache) -> LayerCache:
    return LayerCache(
        tuple(jnp.repeat(k, times, axis=1) for k in layer.k),
        tuple(jnp.repeat(v, times, axis=1) for v in layer.v),
        jnp.repeat(layer.attention_taps, times, axis=0), jnp.repeat(layer.mlp_taps, times, axis=0))

  return Cache(tuple(map(repeated, cache.layers)), jnp.repeat(cache.lengths, times, axis=0))


def _kernel(module: nn.Module, name: str, shape, axes, scale: float | None = None):
  deviation = scale if scale is not None else shape[0] ** -0.5
  init = nn.with_logical_partitioning(nn.initializers.normal(deviation), axes)
  return module.param(name, init, shape, jnp.float32)


class RMSNorm(nn.Module):
  """Root-mean-square norm over the last axis, in float32."""

  epsilon: float

  @nn.compact
  def __call__(self, x):
    scale = self.param('scale', nn.with_logical_partitioning(nn.initializers.ones, (None,)),
                       (x.shape[-1],), jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + self.epsilon) * scale


class ShortConv(nn.Module):
  """x plus a causal depthwise convolution of it; never reaches across a segment's start."""

  width: int

  @nn.compact
  def __call__(self, x_BxTxE, positions_BxT, taps_BxWxE=None, counts_B=None):
    kernel = self.param(
        'kernel', nn.with_logical_partitioning(nn.initializers.zeros, (None, None)),
        (self.width, x_BxTxE.shape[-1]), jnp.float32)
    past = self.width - 1
    if taps_BxWxE is None:
      padded = jnp.pad(x_BxTxE, ((0, 0), (past, 0), (0, 0)))
    else:
      padded = jnp.concatenate([taps_BxWxE, x_BxTxE], axis=1)
    length = x_BxTxE.shape[1]
    out = x_BxTxE
    for delay in range(self.width):
      shifted = padded[:, past - delay:past - delay + length]
      out += jnp.where((positions_BxT >= delay)[..., None], shifted, 0) * kernel[delay]
    if taps_BxWxE is None:
      return out, None
    # The last inputs of each row: its counts_B valid tokens end at padded[past + counts_B].
    last_BxW = counts_B[:, None] + jnp.arange(past)
    return out, jnp.take_along_axis(padded, last_BxW[..., None], axis=1)


class Attention(nn.Module):
  """Grouped-query attention with RMS-normed queries and keys."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxTxE, positions_BxT, rotary, segment_ids, layer_cache, slots_BxT, attended):
    c = self.config
    batch, length, _ = x_BxTxE.shape

    def project(name, heads):
      kernel = _kernel(self, name, (c.width, heads * c.head_dim), ('embed', 'heads'))
      out = contract('bte,ef->btf', x_BxTxE, kernel, c.dtype)
      return out.reshape(batch, length, heads, c.head_dim)

    q = RMSNorm(c.norm_epsilon, name='q_norm')(project('q', c.heads))
    k = RMSNorm(c.norm_epsilon, name='k_norm')(project('k', c.kv_heads))
    v = project('v', c.kv_heads)
    q, k = rotate(q, rotary), rotate(k, rotary)
    if layer_cache is None:
      out = attend_packed(q, k, v, segment_ids, c.dtype, c.query_block)
      keys = values = None
    else:
      keys, values = write_cache(layer_cache.k, layer_cache.v, k, v, slots_BxT)
      out = attend_cache(q, keys, values, positions_BxT, attended)
    kernel = _kernel(self, 'o', (c.heads * c.head_dim, c.width), ('heads', 'embed'))
    out = contract('btf,fe->bte', out.reshape(batch, length, -1), kernel, c.dtype)
    return out, keys, values


class Mlp(nn.Module):
  """SwiGLU."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x):
    c = self.config
    shape, axes = (c.width, c.mlp_width), ('embed', 'mlp')
    gate = contract('bte,ef->btf', x, _kernel(self, 'gate', shape, axes), c.dtype)
    up = contract('bte,ef->btf', x, _kernel(self, 'up', shape, axes), c.dtype)
    down = _kernel(self, 'down', (c.mlp_width, c.width), ('mlp', 'embed'))
    return contract('btf,fe->bte', nn.silu(gate) * up, down, c.dtype)


class Block(nn.Module):
  """One decoder layer."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x, positions, rotary, segment_ids=None, layer_cache=None, slots=None,
               counts=None, attended=None):
    c = self.config
    taps = (None, None) if layer_cache is None else (
        layer_cache.attention_taps, layer_cache.mlp_taps)
    h = RMSNorm(c.norm_epsilon, name='attention_norm')(x)
    if c.short_conv_width:
      h, attention_taps = ShortConv(c.short_conv_width, name='attention_conv')(
          h, positions, taps[0], counts)
    else:
      attention_taps = taps[0]
    out, k, v = Attention(c, name='attention')(
        h, positions, rotary, segment_ids, layer_cache, slots, attended)
    x = x + out
    h = RMSNorm(c.norm_epsilon, name='mlp_norm')(x)
    if c.short_conv_width:
      h, mlp_taps = ShortConv(c.short_conv_width, name='mlp_conv')(h, positions, taps[1], counts)
    else:
      mlp_taps = taps[1]
    x = x + Mlp(c, name='mlp')(h)
    return x, None if layer_cache is None else LayerCache(k, v, attention_taps, mlp_taps)


class Decoder(nn.Module):
  """Token ids in, logits or hidden states out."""

  config: ModelConfig

  def setup(self):
    c = self.config
    self.embedding = _kernel(self, 'embedding', (c.vocab_size, c.width), ('vocab', 'embed'), 0.02)
    if not c.tied_embeddings:
      self.unembedding = _kernel(self, 'unembedding', (c.vocab_size, c.width), ('vocab', 'embed'))
    block = nn.remat(Block, static_argnums=(8,)) if c.remat else Block
    self.blocks = [block(c, name=f'layer_{i}') for i in range(c.layers)]
    self.final_norm = RMSNorm(c.norm_epsilon)

  def hidden(self, tokens_BxL: jax.Array, positions_BxL: jax.Array, segment_ids_BxL: jax.Array):
    """Final hidden states of packed rows.

    Args:
      tokens_BxL: int32.
      positions_BxL: int32, from 0 in each segment.
      segment_ids_BxL: int32; a token sees only its own segment. 0 is padding.
    Returns:
      float32[B, L, E].
    """
    x = self.embedding[tokens_BxL]
    rotary = self._rotary(positions_BxL, tokens_BxL.shape[1])
    for block in self.blocks:  # remat counts its static argument, so all of them are given
      x, _ = block(x, positions_BxL, rotary, segment_ids_BxL, None, None, None, None)
    return self.final_norm(x)

  def extend(self, cache: Cache, tokens_BxT: jax.Array, counts_B: jax.Array,
             attended: int | None = None) -> tuple[jax.Array, Cache]:
    """Appends tokens to each row of a cache: prefill, one decode step, or another's message.

    Args:
      cache: of so many slots a row.
      tokens_BxT: int32, padded on the right.
      counts_B: int32, how many of the T tokens of each row are real; 0 leaves a row as it is.
      attended: leading slots to look at, where it is known that no row grows beyond; by default
        the parts of the cache that the longest row reaches, which is found at run time.
    Returns:
      float32[B, T, E] final hidden states (of padding: meaningless), and the longer cache. A row
      must not outgrow its slots: its further tokens would be dropped.
    """
    slots = sum(k.shape[0] * k.shape[-1] for k in cache.layers[0].k)
    offsets = jnp.arange(tokens_BxT.shape[1])
    positions = cache.lengths[:, None] + offsets
    # A slot beyond the last drops the write.
    written = jnp.where(offsets < counts_B[:, None], positions, slots)
    x = self.embedding[tokens_BxT]
    rotary = self._rotary(positions, slots)
    layers = []
    for block, layer in zip(self.blocks, cache.layers, strict=True):
      x, layer = block(x, positions, rotary, None, layer, written, counts_B, attended)
      layers.append(layer)
    return self.final_norm(x), Cache(tuple(layers), cache.lengths + counts_B)

  def _rotary(self, positions_BxT: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """float32[B, T, D / 2] cosines and sines at positions below `length`."""
    tables = rotary_table(length, self.config.head_dim, self.config.rope_theta)
    return tuple(table[positions_BxT] for table in tables)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """float32[..., V] from hidden states of `hidden` or `extend`."""
    table = self.embedding if self.config.tied_embeddings else self.unembedding
    flat = hidden.reshape(-1, hidden.shape[-1])
    out = contract('te,ve->tv', flat, table, self.config.dtype)
    return out.reshape(*hidden.shape[:-1], -1)

  def __call__(self, tokens_BxL, positions_BxL=None, segment_ids_BxL=None) -> jax.Array:
    """float32[B, L, V]; by default each row is one segment."""
    if positions_BxL is None:
      positions_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1]), tokens_BxL.shape)
    if segment_ids_BxL is None:
      segment_ids_BxL = jnp.ones_like(tokens_BxL)
    return self.logits(self.hidden(tokens_BxL, positions_BxL, segment_ids_BxL))


def init_params(config: ModelConfig, key: jax.Array) -> Any:
  """Freshly initialised parameters, boxed with their logical axes (`nn.unbox` takes those off)."""
  return Decoder(config).init(key, jnp.zeros((1, 2), jnp.int32))['params']


def token_logprobs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """float32 log-probability of each token: logits [..., V] at the place before it, tokens [...]."""
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)
