"""Gated DeltaNet, the linear attention of Qwen3.5: a matrix a head is all that it remembers.

With keys k and queries q of length one, decay a = exp(g) and write strength b, the state S of a
head is a map from keys to values, corrected at every token by what it got wrong:

    S_t = a_t S_{t-1} + k_t (b_t (v_t - a_t S_{t-1}' k_t))'        o_t = S_t' q_t

`recurrent` does that token by token, which is what decoding needs. `chunked` does the same in
chunks of tokens: within a chunk everything is a triangular solve and matrix products, and only the
state goes from chunk to chunk. Both are in float32; on a GPU or TPU JAX
rounds the operands of its products (`jax_default_matmul_precision`), but for those of the inverse.

Shapes: B batch, T tokens, N chunks of C tokens, H value heads, D_k and D_v widths of a head.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aw_jax import partitioning
from aw_jax.models.cache import DeltaCache, Tokens
from aw_jax.models.config import ModelConfig
from aw_jax.models.layers import RMSNorm, causal_conv, kernel, linear

CHUNK = 64
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def recurrent(q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH, state_BxHxKxV,
              segment_ids_BxT=None) -> tuple[jax.Array, jax.Array]:
  """Token by token; arguments and results as of `chunked`."""
  starts = _starts(segment_ids_BxT, g_BxTxH)

  def step(state, token):
    q, k, v, g, beta, start = token
    state = jnp.where(start[:, None, None, None], 0.0, state * jnp.exp(g)[..., None, None])
    wrong = v - jnp.einsum('bhkv,bhk->bhv', state, k)
    state += k[..., None] * (beta[..., None] * wrong)[..., None, :]
    return state, jnp.einsum('bhkv,bhk->bhv', state, q)

  tokens = jax.tree.map(
      lambda x: jnp.moveaxis(x, 1, 0), (q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH,
                                        starts))
  state, out = jax.lax.scan(step, state_BxHxKxV, tokens)
  return jnp.moveaxis(out, 0, 1), state


def _starts(segment_ids_BxT, like_BxTxH) -> jax.Array:
  """bool[B, T]: the first tokens of segments, but not of the row: its state is given."""
  if segment_ids_BxT is None:
    return jnp.zeros(like_BxTxH.shape[:2], bool)
  return jnp.diff(segment_ids_BxT, axis=1, prepend=segment_ids_BxT[:, :1]) != 0


def chunked(q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH, state_BxHxKxV,
            segment_ids_BxT=None, chunk: int = CHUNK) -> tuple[jax.Array, jax.Array]:
  """A chunk of tokens at a time.

  Within a chunk let A be the strictly lower triangle of b_i (k_i . k_j) exp(g_{j+1} + ... + g_i).
  What each token writes, given the state S before the chunk, is k_i times row i of
  (I + A)^-1 (b V - b exp(g_1 + ... + g_i) K S).

  Args:
    q_BxTxHxK: queries, float32, scaled.
    k_BxTxHxK: keys, float32, of length one.
    v_BxTxHxV: values, float32.
    g_BxTxH: log decays, at most 0. A token with g = 0 and beta = 0 leaves the state as it is.
    beta_BxTxH: write strengths.
    state_BxHxKxV: before the first token, of that token's segment.
    segment_ids_BxT: int32; where the id changes, the state is forgotten. None is one segment.
    chunk: C.
  Returns:
    float32[B, T, H, D_v], and the state after the last token.
  """
  batch, length, heads, _ = q_BxTxHxK.shape
  if segment_ids_BxT is None:
    segment_ids_BxT = jnp.ones((batch, length), jnp.int32)
  missing = -length % chunk

  def split(x, mode='constant'):
    """[B, T, H, ...] to [N, B, H, C, ...]."""
    x = jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2), mode=mode)
    x = x.reshape(batch, -1, chunk, *x.shape[2:])
    return jnp.moveaxis(jnp.moveaxis(x, 1, 0), 3, 2)

  q, k, v, g, beta = map(split, (q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH))
  segments = split(segment_ids_BxT[..., None], 'edge')  # [N, B, 1, C]
  before = jnp.concatenate([segments[:1, ..., :1], segments[:-1, ..., -1:]])
  decay = jnp.cumsum(g, axis=-1)
  # exp of what is masked could overflow, and its gradient would be NaN.
  visible = (segments[..., :, None] == segments[..., None, :]) & jnp.tri(chunk, dtype=bool)
  between = jnp.where(
      visible, jnp.exp(jnp.where(visible, decay[..., :, None] - decay[..., None, :], 0.0)), 0.0)
  from_before = jnp.exp(decay) * (segments == before)
  to_end = jnp.exp(decay[..., -1:] - decay) * (segments == segments[..., -1:])

  k_beta = k * beta[..., None]
  system = jnp.einsum('nbhik,nbhjk->nbhij', k_beta, k) * between
  right = jnp.concatenate([v * beta[..., None], k_beta * from_before[..., None]], axis=-1)
  solved = jnp.einsum('nbhij,nbhjx->nbhix', unit_triangular_inverse(system), right)
  u, w = solved[..., :v.shape[-1]], solved[..., v.shape[-1]:]
  attention = jnp.einsum('nbhik,nbhjk->nbhij', q, k) * between
  read, write, keep = q * from_before[..., None], k * to_end[..., None], from_before[..., -1]

  def step(state, part):
    u, w, attention, read, write, keep = part
    written = u - jnp.einsum('bhck,bhkv->bhcv', w, state)
    out = (jnp.einsum('bhck,bhkv->bhcv', read, state)
           + jnp.einsum('bhij,bhjv->bhiv', attention, written))
    state = keep[..., None, None] * state + jnp.einsum('bhck,bhcv->bhkv', write, written)
    return state, out

  state, out = jax.lax.scan(step, state_BxHxKxV, (u, w, attention, read, write, keep))
  out = jnp.moveaxis(jnp.moveaxis(out, 2, 3), 0, 1)  # [B, N, C, H, D_v]
  return out.reshape(batch, -1, heads, v.shape[-1])[:, :length], state


def chunked_on_mesh(q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH, segment_ids_BxT
                    ) -> jax.Array:
  """`chunked` from empty states; where the mesh splits rows, each device on its own tokens."""
  def empty(q, v):
    return jnp.zeros((q.shape[0], q.shape[2], q.shape[3], v.shape[3]))

  inputs = q_BxTxHxK, k_BxTxHxK, v_BxTxHxV, g_BxTxH, beta_BxTxH
  if partitioning.sequence_shares() == 1:
    return chunked(*inputs, empty(q_BxTxHxK, v_BxTxHxV), segment_ids_BxT)[0]
  tokens = partitioning.spec('batch', 'sequence', 'heads')
  return jax.shard_map(
      _chunked_in_shares, mesh=partitioning.auto_mesh(), in_specs=(tokens,) * 5 + (
          partitioning.spec('batch', 'sequence'),), out_specs=tokens, check_vma=False)(
              *inputs, segment_ids_BxT)


def _chunked_in_shares(q, k, v, g, beta, segment_ids) -> jax.Array:
  """One device's share of the tokens of its rows.

  Everything is linear in the state S before the share: its outputs are O + P S and the state after
  it is N + M S. `chunked` makes all four at once, from the state [0 | I] with values [v | 0].
  """
  batch, _, heads, width = v.shape
  keys = k.shape[-1]
  identity = jnp.broadcast_to(jnp.eye(keys), (batch, heads, keys, keys))
  out, state = chunked(
      q, k, jnp.pad(v, [(0, 0)] * 3 + [(0, keys)]), g, beta,
      jnp.concatenate([jnp.zeros((batch, heads, keys, width)), identity], axis=-1), segment_ids)
  before = _states_before(state, segment_ids)
  return out[..., :width] + _product(out[..., width:].swapaxes(1, 2), before).swapaxes(1, 2)


def _states_before(state_BxHxKxX: jax.Array, segment_ids_BxT: jax.Array) -> jax.Array:
  """The state that this device's share of the tokens begins with: [B, H, D_k, D_v].

  Devices work them out for all shares together, each for some of the heads of some rows, and send
  them home: gathered, the maps of all shares would be as many states again as there are devices.

  Args:
    state_BxHxKxX: [N | M] of this share; what it makes of the state S before it is N + M S.
    segment_ids_BxT: of its tokens.
  """
  batch, heads, keys, columns = state_BxHxKxX.shape
  axes, width = partitioning.SEQUENCE_AXES, columns - keys
  firsts, lasts = (jax.lax.all_gather(segment_ids_BxT[:, i], axes) for i in (0, -1))
  goes_on_PxB = jnp.concatenate([jnp.zeros_like(lasts[:1], bool), lasts[:-1] == firsts[1:]])
  shares = len(goes_on_PxB)
  missing = -batch * heads % shares

  def deal(x, at):
    """Axis `at` of rows and heads in as many parts as there are devices."""
    x = jnp.pad(x, [(0, missing * (axis == at)) for axis in range(x.ndim)])
    return x.reshape(*x.shape[:at], shares, -1, *x.shape[at + 1:])

  exchange = functools.partial(jax.lax.all_to_all, axis_name=axes, split_axis=0, concat_axis=0)
  maps_PxNxKxX = exchange(deal(state_BxHxKxX.reshape(batch * heads, keys, columns), 0))
  goes_on_PxN = deal(jnp.repeat(goes_on_PxB, heads, axis=1), 1)[:, jax.lax.axis_index(axes)]

  def step(before, share):
    maps, same_segment = share
    before = jnp.where(same_segment[:, None, None], before, 0.0)
    return maps[..., :width] + _product(maps[..., width:], before), before

  _, befores = jax.lax.scan(
      step, jnp.zeros_like(maps_PxNxKxX[0, ..., :width]), (maps_PxNxKxX, goes_on_PxN))
  own = exchange(befores).reshape(-1, keys, width)[:batch * heads]
  return own.reshape(batch, heads, keys, width)


def unit_triangular_inverse(lower_CxC: jax.Array) -> jax.Array:
  """(I + A)^-1 for the strictly lower triangles A of [..., C, C]; the rest is not looked at.

  By blocks that double: with D and E the inverses of two neighbouring diagonal blocks and O what
  stands below D and left of E, that of the block of both has -E O D below. As stable as forward
  substitution, which powers of A are not. Matrix products alone: jaxlib's batched triangular solve
  waits for its own thread pool, and two CPU devices that do so never end.
  """
  size = lower_CxC.shape[-1]
  block = min(_SMALL, size)
  count = 1 << (-(-size // block) - 1).bit_length()
  missing = count * block - size
  lower = jnp.pad(lower_CxC, [(0, 0)] * (lower_CxC.ndim - 2) + [(0, missing)] * 2)
  inverse = _small_inverse(_diagonal_blocks(lower, block))
  while inverse.shape[-1] < lower.shape[-1]:
    block = inverse.shape[-1]
    first, second = inverse[..., ::2, :, :], inverse[..., 1::2, :, :]
    below = _diagonal_blocks(lower, 2 * block)[..., block:, :block]
    corner = -_product(_product(second, below), first)
    inverse = jnp.concatenate([
        jnp.concatenate([first, jnp.zeros_like(first)], axis=-1),
        jnp.concatenate([corner, second], axis=-1)], axis=-2)
  return inverse[..., 0, :size, :size]


_SMALL = 16  # products of smaller blocks would cost more to start than to make of larger ones


def _diagonal_blocks(x_CxC: jax.Array, block: int) -> jax.Array:
  """[..., C / block, block, block]."""
  count = x_CxC.shape[-1] // block
  x = x_CxC.reshape(*x_CxC.shape[:-2], count, block, count, block)
  return jnp.stack([x[..., i, :, i, :] for i in range(count)], axis=-3)


def _small_inverse(lower_CxC: jax.Array) -> jax.Array:
  """`unit_triangular_inverse` by whole products: D - D O D, with O what is below in the pairs."""
  size = lower_CxC.shape[-1]
  row, column = np.arange(size)[:, None], np.arange(size)
  inverse, block = jnp.broadcast_to(jnp.eye(size), lower_CxC.shape), 1
  while block < size:
    below = (row // block == column // block + 1) & (row // (2 * block) == column // (2 * block))
    inverse -= _product(_product(inverse, jnp.where(below, lower_CxC, 0.0)), inverse)
    block *= 2
  return inverse


def normalise(x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
  """x to length one over its last axis."""
  return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + epsilon)


class GatedDeltaNet(nn.Module):
  """The mixer of a block: projections, short convolutions, the delta rule, a gated norm."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x_BxTxE, tokens: Tokens, cache: DeltaCache | None = None):
    """Hidden states float32[B, T, E] and the cache after them (None where none was given)."""
    c = self.config
    batch, length, _ = x_BxTxE.shape

    def project(name, heads, width):
      weights = kernel(self, name, (c.width, heads * width), ('embed', 'heads'))
      out = linear(c, 'bte,ef->btf', x_BxTxE, weights)
      return out if cache is not None else partitioning.constrain(
          out, 'batch', 'sequence', 'heads')

    taps = {}

    def mixed(name, heads, width):
      weights = kernel(
          self, f'{name}_conv', (c.delta_conv_width, heads * width), (None, 'heads'), 0.2)
      before = None if cache is None else getattr(cache, f'{name}_taps')
      out, taps[f'{name}_taps'] = causal_conv(
          project(name, heads, width), weights, tokens.positions, before, tokens.counts)
      return nn.silu(out).reshape(batch, length, heads, width)

    group = c.delta_value_heads // c.delta_key_heads
    q, k = (jnp.repeat(normalise(mixed(name, c.delta_key_heads, c.delta_key_dim)), group, axis=2)
            for name in ('q', 'k'))
    v = mixed('v', c.delta_value_heads, c.delta_value_dim)
    g, beta = self._gates(project)
    q *= c.delta_key_dim**-0.5
    if cache is None:
      out = chunked_on_mesh(q, k, v, g, beta, tokens.segment_ids)
    else:  # what is no token leaves the state as it is
      valid = (jnp.arange(length) < tokens.counts[:, None])[..., None]
      rule = recurrent if length == 1 else chunked
      out, state = rule(
          q, k, v, jnp.where(valid, g, 0.0), jnp.where(valid, beta, 0.0), cache.state)
    gate = project('gate', c.delta_value_heads, c.delta_value_dim).reshape(out.shape)
    out = RMSNorm(c.norm_epsilon, name='norm')(out) * nn.silu(gate)
    weights = kernel(
        self, 'o', (c.delta_value_heads * c.delta_value_dim, c.width), ('heads', 'embed'))
    out = linear(c, 'btf,fe->bte', out.reshape(batch, length, -1), weights)
    return out, None if cache is None else DeltaCache(**taps, state=state)

  def _gates(self, project):
    """Log decays at most 0 and write strengths from 0 to 1, float32[B, T, H] each."""
    heads = self.config.delta_value_heads
    rate = self.param('decay_rate', nn.with_logical_partitioning(_initial_rates, (None,)), (heads,))
    bias = self.param(
        'decay_bias', nn.with_logical_partitioning(nn.initializers.ones, (None,)), (heads,))
    g = -jnp.exp(rate) * nn.softplus(project('decay', heads, 1) + bias)
    return g, nn.sigmoid(project('beta', heads, 1))


def _initial_rates(key, shape):
  """Logarithms of rates between 0.01 and 16, even, as Qwen3.5 begins."""
  return jnp.log(jax.random.uniform(key, shape, jnp.float32, 0.01, 16.0))
