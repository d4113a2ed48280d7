"""Grouped-query attention: blocks of queries while training, a cache while decoding.

Shapes: B batch, L or T tokens, N chunks of C cache slots, H query heads, K key heads, G = H / K,
D head width.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from aw_jax.models.contract import contract

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
    rotary: rows of `rotary_table` at their positions, float32[B, L, D / 2] each.
  """
  cos, sin = (table[:, :, None] for table in rotary)
  half = x_BxLxHxD.shape[-1] // 2
  first, second = x_BxLxHxD[..., :half], x_BxLxHxD[..., half:]
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend_packed(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segment_ids_BxL, dtype: str, block: int):
  """Causal attention within segments, `block` queries at a time. Returns [B, L, H, D].

  A block reads only the keys up to its own end, half of the work of the full square. Of the softmax
  only the normaliser is stored; the backward pass makes the probabilities again from it.
  """
  batch, length, heads, width = q_BxLxHxD.shape
  kv_heads = k_BxLxKxD.shape[2]
  q = q_BxLxHxD.reshape(batch, length, kv_heads, heads // kv_heads, width) * width**-0.5
  q_BxKxGxLxD = q.transpose(0, 2, 3, 1, 4)
  k_BxKxLxD, v_BxKxLxD = (x.transpose(0, 2, 1, 3) for x in (k_BxLxKxD, v_BxLxKxD))
  out = _attend_blocks(q_BxKxGxLxD, k_BxKxLxD, v_BxKxLxD, segment_ids_BxL, dtype, block)
  return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend_blocks(q, k, v, segment_ids, dtype, block):
  return _attend_blocks_forward(q, k, v, segment_ids, dtype, block)[0]


def _attend_blocks_forward(q, k, v, segment_ids, dtype, block):
  q, k, v = (x.astype(dtype) for x in (q, k, v))
  outputs, normalisers = [], []
  for start, end in _blocks(q.shape[3], block):
    scores = _scores(q, k, segment_ids, start, end)
    largest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    outputs.append(
        _product('bkgts,bksd->bkgtd', weights.astype(dtype), v[:, :, :end]) / total)
    normalisers.append(largest + jnp.log(total))
  out, normaliser = (jnp.concatenate(x, axis=3) for x in (outputs, normalisers))
  return out, (q, k, v, segment_ids, out, normaliser)


def _attend_blocks_backward(dtype, block, residuals, d_out):
  """With P the probabilities: dV = P'dO, dP = dO V', dS = P (dP - rowsum(dO O)), dQ = dS K."""
  q, k, v, segment_ids, out, normaliser = residuals
  row_sums = jnp.sum(out * d_out, axis=-1, keepdims=True)
  d_out = d_out.astype(dtype)
  d_q, d_k, d_v = [], jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)
  for start, end in _blocks(q.shape[3], block):
    at = slice(start, end)
    probabilities = jnp.exp(
        _scores(q, k, segment_ids, start, end) - normaliser[..., at, :])
    d_probabilities = _product('bkgtd,bksd->bkgts', d_out[..., at, :], v[:, :, :end])
    d_scores = (probabilities * (d_probabilities - row_sums[..., at, :])).astype(dtype)
    d_q.append(_product('bkgts,bksd->bkgtd', d_scores, k[:, :, :end]))
    d_k = d_k.at[:, :, :end].add(_product('bkgts,bkgtd->bksd', d_scores, q[..., at, :]))
    d_v = d_v.at[:, :, :end].add(
        _product('bkgts,bkgtd->bksd', probabilities.astype(dtype), d_out[..., at, :]))
  return jnp.concatenate(d_q, axis=3), d_k, d_v, None


_attend_blocks.defvjp(_attend_blocks_forward, _attend_blocks_backward)
_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _blocks(length: int, block: int) -> list[tuple[int, int]]:
  return [(start, min(start + block, length)) for start in range(0, length, block)]


def _scores(q_BxKxGxLxD, k_BxKxLxD, segment_ids_BxL, start: int, end: int) -> jax.Array:
  """float32[B, K, G, end - start, end] scores of a block of queries, masked."""
  scores = _product('bkgtd,bksd->bkgts', q_BxKxGxLxD[..., start:end, :], k_BxKxLxD[:, :, :end])
  same = segment_ids_BxL[:, start:end, None] == segment_ids_BxL[:, None, :end]
  visible = same & (jnp.arange(end) <= jnp.arange(start, end)[:, None])
  return jnp.where(visible[:, None, None], scores, _MASKED)


def attend_cache(q_BxTxHxD, k_NxBxKxDxC, v_NxBxKxCxD, positions_BxT,
                 attended: int | None = None) -> jax.Array:
  """Attention of new tokens over a cache in which a token's slot is its position.

  Args:
    q_BxTxHxD: rotated queries.
    k_NxBxKxDxC: rotated keys, chunk by chunk of C slots, of any float type.
    v_NxBxKxCxD: values, the same.
    positions_BxT: int32, of the new tokens.
    attended: leading slots to look at where that is known; else the chunks that the furthest
      position needs, rounded up to a power of two, are chosen at run time.
  Returns:
    float32[B, T, H, D].
  """
  chunks, *_, size = k_NxBxKxDxC.shape
  if attended is not None and attended < size:  # of a single chunk no more than that
    k_NxBxKxDxC, v_NxBxKxCxD = k_NxBxKxDxC[..., :attended], v_NxBxKxCxD[..., :attended, :]
  if attended is not None or chunks <= 2:
    return _attend_chunks(q_BxTxHxD, k_NxBxKxDxC, v_NxBxKxCxD, positions_BxT,
                          chunks if attended is None else -(-attended // size))
  # From two on: a program for one chunk alone takes longer to compile than it saves.
  choices = [1 << i for i in range(1, (chunks - 1).bit_length())] + [chunks]
  needed = jnp.max(positions_BxT) // size + 1
  return jax.lax.switch(
      jnp.searchsorted(jnp.array(choices[:-1]), needed),
      [functools.partial(_attend_chunks, chunks=choice) for choice in choices],
      q_BxTxHxD, k_NxBxKxDxC, v_NxBxKxCxD, positions_BxT)


def _attend_chunks(q_BxTxHxD, k_NxBxKxDxC, v_NxBxKxCxD, positions_BxT, chunks: int):
  """`attend_cache` over the first `chunks` chunks; those lie together, nothing is copied."""
  k, v = (x[:chunks].astype(jnp.float32) for x in (k_NxBxKxDxC, v_NxBxKxCxD))
  chunks, batch, kv_heads, width, size = k.shape
  length, heads = q_BxTxHxD.shape[1:3]
  group = heads // kv_heads
  q = (q_BxTxHxD * width**-0.5).reshape(batch, length, kv_heads, group, width)
  q_BxKxGTxD = q.transpose(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * length, width)
  q_NxBxKxGTxD = jnp.broadcast_to(q_BxKxGTxD, (chunks, *q_BxKxGTxD.shape))
  scores = contract('nbkqd,nbkdc->nbkqc', q_NxBxKxGTxD, k, 'float32')
  slots = jnp.arange(chunks * size).reshape(chunks, 1, 1, 1, size)
  positions_BxGT = jnp.tile(positions_BxT, (1, group))
  visible = slots <= positions_BxGT[:, None, :, None]
  scores = jnp.where(visible, scores, _MASKED)
  weights = jnp.exp(scores - jnp.max(scores, axis=(0, -1), keepdims=True))
  out = jnp.sum(contract('nbkqc,nbkcd->nbkqd', weights, v, 'float32'), axis=0)
  out /= jnp.sum(weights, axis=(0, -1))[..., None]
  return out.reshape(batch, kv_heads, group, length, width).transpose(0, 3, 1, 2, 4).reshape(
      batch, length, heads, width)
