"""The decoder of the Qwen3, Qwen3.5 and Llama families in Flax Linen.

Its layers are the repeated pattern of the config, and their parameters are stacked: those of a
place in the pattern are one array, the repetitions in front. Training on packed rows scans over
them, where there are many; everything incremental (prefill, decode and ingesting another model's
tokens are the same call with a cache) goes through them one by one, since a scan copies the caches
at every token; a config may want it all the same, to compile in reasonable time.

Shapes: B batch, L tokens of a packed row, T new tokens, E width, V vocabulary.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from aw_jax import partitioning
from aw_jax.models import vocabulary
from aw_jax.models.attention import attend_packed, rotary_table, rotate
from aw_jax.models.attention_cache import AttentionCache, attend_cache, write_cache
from aw_jax.models.cache import Cache, LayerCache, Tokens
from aw_jax.models.config import ATTENTION, DELTA_NET, ModelConfig
from aw_jax.models.contract import contract
from aw_jax.models.delta_net import GatedDeltaNet
from aw_jax.models.experts import ROUTER, Experts
from aw_jax.models.layers import Mlp, RMSNorm, ShortConv, kernel, linear


class Attention(nn.Module):
  """Grouped-query attention with rotary positions."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxTxE, tokens: Tokens, cache: AttentionCache | None = None):
    """Hidden states float32[B, T, E] and the cache after them (None where none was given)."""
    c = self.config
    batch, length, _ = x_BxTxE.shape

    def project(name, heads):
      weights = kernel(self, name, (c.width, heads * c.head_dim), ('embed', 'heads'))
      out = linear(c, 'bte,ef->btf', x_BxTxE, weights)
      out = out.reshape(batch, length, heads, c.head_dim)
      return out if cache is not None else partitioning.constrain(
          out, 'batch', 'sequence', 'heads', None)

    q, k, v = (project(name, heads) for name, heads in (
        ('q', c.heads), ('k', c.kv_heads), ('v', c.kv_heads)))
    if c.qk_norm:
      q = RMSNorm(c.norm_epsilon, c.zero_centred_norm, name='q_norm')(q)
      k = RMSNorm(c.norm_epsilon, c.zero_centred_norm, name='k_norm')(k)
    q, k = rotate(q, tokens.rotary), rotate(k, tokens.rotary)
    if cache is None:
      out = attend_packed(q, k, v, tokens.segment_ids, kind=c.attention_kind, dtype=c.dtype,
                          block=c.query_block)
    else:
      cache = write_cache(cache, k, v, tokens.slots)
      out = attend_cache(
          q, cache, tokens.positions, kind=c.attention_kind, attended=tokens.attended)
    if c.attention_gate:
      out *= nn.sigmoid(project('gate', c.heads))
    weights = kernel(self, 'o', (c.heads * c.head_dim, c.width), ('heads', 'embed'))
    return linear(c, 'btf,fe->bte', out.reshape(batch, length, -1), weights), cache


class Block(nn.Module):
  """One layer: a mixer of tokens and a feed-forward part, each on the normed residual stream.

  Attributes:
    config: of the decoder.
    mixer: 'attention' or 'delta_net'.
  """

  config: ModelConfig
  mixer: str

  @nn.compact
  def __call__(self, x, tokens: Tokens, cache: LayerCache | None = None,
               wanted_B: jax.Array | None = None):
    """Hidden states float32[B, T, E] and the cache after them (None where none was given).

    With `wanted_B`, int32 indices of one token a row, the states of those tokens: [B, 1, E].
    """
    c = self.config
    h, mixer_taps = self._norm_and_conv('mixer', x, tokens, cache and cache.mixer_taps)
    module = Attention if self.mixer == ATTENTION else GatedDeltaNet
    out, mixer_cache = module(c, name=self.mixer)(h, tokens, cache and cache.mixer)
    x += out
    h, mlp_taps = self._norm_and_conv('mlp', x, tokens, cache and cache.mlp_taps)
    if wanted_B is not None:
      x, h = (jnp.take_along_axis(each, wanted_B[:, None, None], axis=1) for each in (x, h))
    if c.experts:
      x += Experts(c, name='experts')(h, tokens.segment_ids)
    else:
      x += Mlp(c, c.mlp_width, name='mlp')(h)
    return x, cache and LayerCache(mixer_cache, mixer_taps, mlp_taps)

  def _norm_and_conv(self, name, x, tokens, taps):
    c = self.config
    h = RMSNorm(c.norm_epsilon, c.zero_centred_norm, name=f'{name}_norm')(x)
    if not c.short_conv_width:
      return h, taps
    return ShortConv(c.short_conv_width, name=f'{name}_conv')(
        h, tokens.positions, taps, tokens.counts)


def _remat(config: ModelConfig) -> type[nn.Module]:
  """`Block` as the config wants its backward pass."""
  if config.remat == 'none':
    return Block
  policy = {'full': None, 'dots': _saves_products}
  return nn.remat(Block, prevent_cse=False, policy=policy[config.remat])


def _saves_products(primitive, *args, **params) -> bool:
  """A policy of `jax.checkpoint`: results of matrix products and of cuDNN's attention are kept."""
  return primitive.name.startswith('dot_product_attention_fwd') or (
      jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **params))


class Period(nn.Module):
  """The layers of one repetition of the pattern, on packed rows; the body of a scan."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x, tokens: Tokens):
    for place, mixer in enumerate(self.config.pattern):
      x, _ = _remat(self.config)(self.config, mixer, name=f'layer_{place}')(x, tokens)
      x = partitioning.constrain(x, 'batch', 'sequence', None)
    return x, None


# So few repetitions of the pattern are unrolled. A loop stacks what each of them leaves to the
# backward pass, 320 MB for 2,048 tokens at width 192: copies that are a tenth of a step on a CPU.
_UNROLLED = 8


def _unroll(config: ModelConfig) -> int:
  """Repetitions in one step of the scan; outside of a loop XLA would undo `remat`."""
  return config.repeats if config.repeats <= _UNROLLED and config.remat == 'none' else 1


class Decoder(nn.Module):
  """Token ids in, logits or hidden states out."""

  config: ModelConfig

  def setup(self):
    c = self.config
    self.embedding = kernel(self, 'embedding', (c.vocab_size, c.width), ('vocab', 'embed'), 0.02)
    if not c.tied_embeddings:
      self.unembedding = kernel(self, 'unembedding', (c.vocab_size, c.width), ('vocab', 'embed'))
    self.layers = nn.scan(
        Period, variable_axes={'params': 0, ROUTER: 0}, split_rngs={'params': True},
        in_axes=nn.broadcast, length=c.repeats, unroll=_unroll(c),
        metadata_params={nn.PARTITION_NAME: 'layers'})(c)
    self.final_norm = RMSNorm(c.norm_epsilon, c.zero_centred_norm)

  def hidden(self, tokens_BxL: jax.Array, positions_BxL: jax.Array, segment_ids_BxL: jax.Array):
    """Final hidden states of packed rows.

    Args:
      tokens_BxL: int32.
      positions_BxL: int32, from 0 in each segment.
      segment_ids_BxL: int32; a token sees only its own segment. 0 is padding.
    Returns:
      float32[B, L, E].
    """
    length, shares = tokens_BxL.shape[1], partitioning.sequence_shares()
    if length % shares:
      raise partitioning.PartitioningError(
          f'rows of {length} tokens cannot be split into {shares} parts (mesh.context times '
          'mesh.expert); change the one or the other')
    table = partitioning.constrain(self.embedding, None, None)  # whole, while tokens look it up
    x = table[tokens_BxL].astype(jnp.float32)  # whatever the parameters are stored as
    x = partitioning.constrain(x, 'batch', 'sequence', None)
    tokens = Tokens(positions_BxL, self._rotary(positions_BxL, length), segment_ids_BxL)
    x, _ = self.layers(x, tokens)
    return partitioning.constrain(self.final_norm(x), 'batch', 'sequence', None)

  def extend(self, cache: Cache, tokens_BxT: jax.Array, counts_B: jax.Array,
             attended: int | None = None, last_only: bool = False) -> tuple[jax.Array, Cache]:
    """Appends tokens to each row of a cache: prefill, one decode step, or another's message.

    Args:
      cache: of so many slots a row.
      tokens_BxT: int32, padded on the right.
      counts_B: int32, how many of the T tokens of each row are real; 0 leaves a row as it is.
      attended: leading slots to look at, where it is known that no row grows beyond; by default
        the parts of the cache that the longest row reaches, which is found at run time.
      last_only: whether the last real token of each row is all that is wanted; the last block then
        leaves out the feed-forward part of the others.
    Returns:
      float32[B, T, E] final hidden states (of padding: meaningless), [B, 1, E] if `last_only`, and
      the longer cache. A row must not outgrow its slots: its further tokens would be dropped.
    """
    offsets = jnp.arange(tokens_BxT.shape[1])
    positions = cache.lengths[:, None] + offsets
    # A slot beyond the last drops the write.
    written = jnp.where(offsets < counts_B[:, None], positions, cache.slots)
    tokens = Tokens(
        positions, self._rotary(positions, cache.slots), None, written, counts_B, attended)
    last = jnp.maximum(counts_B - 1, 0) if last_only else None
    through = self._through_stacked if cache.stacked else self._through_blocks
    x = self.embedding[tokens_BxT].astype(jnp.float32)
    x, layers = through(x, tokens, cache.layers, last)
    return self.final_norm(x), cache.replace(layers=layers, lengths=cache.lengths + counts_B)

  def _through_blocks(self, x, tokens: Tokens, layers: tuple[LayerCache, ...], last):
    """One after another; of the last block only the states of tokens `last`, where given."""
    pattern, after = self.config.pattern, []
    for index, layer in enumerate(layers):
      params = _block_params(self.config, self.variables['params']['layers'], index)
      block = Block(self.config, pattern[index % len(pattern)], parent=None)
      wanted = last if index == len(layers) - 1 else None
      x, layer = block.apply({'params': params}, x, tokens, layer, wanted)
      after.append(layer)
    return x, tuple(after)

  def _through_stacked(self, x, tokens: Tokens, layers: tuple[LayerCache, ...], last):
    """The same by a loop over the repetitions of the pattern."""
    def period(carry, scanned):
      x, layers = carry
      params, repetition = scanned
      for place, mixer in enumerate(self.config.pattern):
        own = jax.tree.map(lambda stacked: stacked[repetition], layers[place])
        x, own = Block(self.config, mixer, parent=None).apply(
            {'params': params[f'layer_{place}']}, x, tokens, own)
        stacked = jax.tree.map(
            lambda stacked, new: stacked.at[repetition].set(new), layers[place], own)
        layers = (*layers[:place], stacked, *layers[place + 1:])
      return (x, layers), None

    (x, layers), _ = jax.lax.scan(
        period, (x, layers),
        (self.variables['params']['layers'], jnp.arange(self.config.repeats)))
    if last is not None:
      x = jnp.take_along_axis(x, last[:, None, None], axis=1)
    return x, layers

  def _rotary(self, positions_BxT: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """float32[B, T, D / 2] cosines and sines at positions below `length`, D the rotated width."""
    tables = rotary_table(length, self.config.rotary_width, self.config.rope_theta)
    return tuple(table[positions_BxT] for table in tables)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """float32[..., V] from hidden states of `hidden` or `extend`, [B, E] or [B, T, E]."""
    # Not flattened: over two axes, the sum of the gradient takes half the time on a CPU.
    spec = 'be,ve->bv' if hidden.ndim == 2 else 'bte,ve->btv'
    return contract(spec, hidden, self._output_table(), self.config.dtype)

  def target_logprobs(self, hidden_BxTxE: jax.Array, targets_BxT: jax.Array
                      ) -> tuple[jax.Array, jax.Array]:
    """Log-probability of each target after its hidden state, and whether it is the likeliest.

    Of a large vocabulary the logits are never whole in memory.

    Returns:
      float32[B, T], bool[B, T].
    """
    if self.config.vocab_size <= vocabulary.CHUNK:
      logits = self.logits(hidden_BxTxE)
      chosen = jnp.take_along_axis(logits, targets_BxT[..., None], axis=-1)[..., 0]
      return token_logprobs(logits, targets_BxT), chosen >= jnp.max(logits, axis=-1)
    return vocabulary.target_logprobs_on_mesh(
        hidden_BxTxE, self._output_table(), targets_BxT, self.config.dtype)

  def _output_table(self) -> jax.Array:
    return self.embedding if self.config.tied_embeddings else self.unembedding

  def __call__(self, tokens_BxL, positions_BxL=None, segment_ids_BxL=None) -> jax.Array:
    """float32[B, L, V]; by default each row is one segment."""
    if positions_BxL is None:
      positions_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1]), tokens_BxL.shape)
    if segment_ids_BxL is None:
      segment_ids_BxL = jnp.ones_like(tokens_BxL)
    return self.logits(self.hidden(tokens_BxL, positions_BxL, segment_ids_BxL))


def _block_params(config: ModelConfig, layers: Any, index: int) -> Any:
  """Parameters of one block: from `unstack_layers`, or a slice of stacked ones."""
  if f'block_{index}' in layers:
    return layers[f'block_{index}']
  repetition, place = divmod(index, len(config.pattern))
  return jax.tree.map(lambda stacked: stacked[repetition], layers[f'layer_{place}'])


def gather_for_decoding(config: ModelConfig, params: Any) -> Any:
  """Parameters as `partitioning.gather_for_decoding` has them."""
  boxed = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
  return partitioning.gather_for_decoding(params, boxed)


def unstack_layers(config: ModelConfig, params: Any) -> Any:
  """Parameters for `extend` in which each block has arrays of its own.

  For loops over tokens: on a GPU, slices of stacked parameters are copied at every step of a loop.
  The stacked ones stay alive beside these. A decoder that scans them has them as they are, and
  needs no second copy.
  """
  if config.scan_decode:
    return params
  return {**params, 'layers': {
      f'block_{i}': _block_params(config, params['layers'], i) for i in range(config.layers)}}


def cast_kernels(config: ModelConfig, params: Any) -> Any:
  """Parameters with the kernels of attention and MLP in the type of the products that read them.

  The products are the same to the bit, and who decodes in many short programs does not cast them in
  each. Nothing else is cast: of an embedding, rows are read too.
  """
  def cast(path, x):
    names = [entry.key for entry in path]
    kernels = names[-1] == 'unembedding' or names[-2:-1] in (['attention'], ['mlp'])
    return x.astype(config.dtype) if kernels else x

  return jax.tree_util.tree_map_with_path(cast, params)


_NO_MESH = jax.sharding.AbstractMesh((), ())


def init_params(config: ModelConfig, key: jax.Array) -> Any:
  """Freshly initialised parameters, boxed with their logical axes (`nn.unbox` takes those off)."""
  config = dataclasses.replace(config, attention_kind='plain')  # kernels take no two tokens
  with jax.sharding.use_abstract_mesh(_NO_MESH):  # nor can those be split over devices
    return Decoder(config).init(key, jnp.zeros((1, 2), jnp.int32))['params']


def require_mesh_divides(config: ModelConfig, mesh: jax.sharding.Mesh) -> None:
  """Raises PartitioningError where heads cannot be split over the mesh's tensor axis."""
  fields = ['kv_heads'] + ['delta_key_heads'] * (DELTA_NET in config.pattern)
  for name in fields:
    if getattr(config, name) % mesh.shape['tensor']:
      raise partitioning.PartitioningError(
          f'mesh tensor={mesh.shape["tensor"]} does not divide model.{name} = '
          f'{getattr(config, name)}')


def token_logprobs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """float32 log-probability of each token: logits [..., V] at the place before it, tokens [...]."""
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)
