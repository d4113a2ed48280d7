"""Grouped-query attention: blocks of queries while training, a cache while decoding.

Shapes: B batch, L or T tokens, S cache slots, H query heads, K key heads, G = H / K, D head width.
"""

import jax
import jax.numpy as jnp

from aw_jax.models.contract import contract

_MASKED = -1e30  # finite: a row in which everything is masked (padding) must not become NaN


def rotate(x_BxLxHxD: jax.Array, positions_BxL: jax.Array, theta: float) -> jax.Array:
  """Rotary position embedding, halves rotated against each other as in Qwen3 and Llama."""
  half = x_BxLxHxD.shape[-1] // 2
  frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = positions_BxL[..., None, None].astype(jnp.float32) * frequencies
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  first, second = x_BxLxHxD[..., :half], x_BxLxHxD[..., half:]
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def attend(q_BxTxHxD, k_BxSxKxD, v_BxSxKxD, mask_BxTxS, dtype: str) -> jax.Array:
  """Softmax attention in its plain form; scores and softmax in float32. Returns [B, T, H, D]."""
  batch, length, heads, width = q_BxTxHxD.shape
  kv_heads = k_BxSxKxD.shape[2]
  q_BxTxKxGxD = q_BxTxHxD.reshape(batch, length, kv_heads, heads // kv_heads, width)
  scores = contract('btkgd,bskd->bkgts', q_BxTxKxGxD * width**-0.5, k_BxSxKxD, dtype)
  probabilities = jax.nn.softmax(jnp.where(mask_BxTxS[:, None, None], scores, _MASKED), axis=-1)
  out = contract('bkgts,bskd->btkgd', probabilities, v_BxSxKxD, dtype)
  return out.reshape(batch, length, heads, width)


def attend_packed(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segment_ids_BxL, dtype: str, block: int):
  """Causal attention within segments, `block` queries at a time.

  A block reads only the keys up to its own end, half of the work of the full square, and its scores
  are recomputed in the backward pass instead of stored.
  """
  length = q_BxLxHxD.shape[1]
  slots = jnp.arange(length)

  @jax.checkpoint
  def one_block(q, k, v, q_segments, k_segments, q_slots, k_slots):
    same = q_segments[:, :, None] == k_segments[:, None, :]
    return attend(q, k, v, same & (k_slots[None, :] <= q_slots[:, None]), dtype)

  outputs = []
  for start in range(0, length, block):
    end = min(start + block, length)
    outputs.append(one_block(
        q_BxLxHxD[:, start:end], k_BxLxKxD[:, :end], v_BxLxKxD[:, :end],
        segment_ids_BxL[:, start:end], segment_ids_BxL[:, :end], slots[start:end], slots[:end]))
  return jnp.concatenate(outputs, axis=1)


def attend_cache(q_BxTxHxD, k_BxKxDxS, v_BxKxSxD, positions_BxT, dtype: str) -> jax.Array:
  """Attention of new tokens over a cache in which a token's slot is its position: [B, T, H, D]."""
  batch, length, heads, width = q_BxTxHxD.shape
  kv_heads, slots = v_BxKxSxD.shape[1:3]
  group = heads // kv_heads
  q_BxKxGTxD = q_BxTxHxD.reshape(batch, length, kv_heads, group, width).transpose(
      0, 2, 3, 1, 4).reshape(batch, kv_heads, group * length, width)
  scores = contract('bkqd,bkds->bkqs', q_BxKxGTxD * width**-0.5, k_BxKxDxS, dtype)
  scores = scores.reshape(batch, kv_heads, group, length, slots)
  visible = jnp.arange(slots) <= positions_BxT[:, None, None, :, None]
  probabilities = jax.nn.softmax(jnp.where(visible, scores, _MASKED), axis=-1)
  out = contract('bkqs,bksd->bkqd', probabilities.reshape(batch, kv_heads, -1, slots), v_BxKxSxD,
                 dtype)
  return out.reshape(batch, kv_heads, group, length, width).transpose(0, 3, 1, 2, 4).reshape(
      batch, length, heads, width)
