"""Attention on TPUs: JAX's splash kernel, which never visits blocks that causality masks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    CausalMask,
    MultiHeadMask,
    SegmentIds,
    make_splash_mha,
)


class _CausalMask(CausalMask):
  """JAX's, whose blocks off the diagonal are not worked out element by element.

  The kernel asks of every block whether any and all of it is visible, of 262,144 tokens for a
  quarter of an hour; one element says it too.
  """

  def __getitem__(self, blocks: tuple[slice, slice]) -> np.ndarray:
    queries, keys = blocks
    if keys.start >= queries.stop or keys.stop - 1 <= queries.start:
      return np.full((1, 1), keys.start < queries.stop)
    return super().__getitem__(blocks)


MULTIPLE = 128  # lanes of a vector register


def supports(queries: int) -> bool:
  """Whether a device can have so many tokens of a row."""
  return queries % MULTIPLE == 0


def make_kernel(queries: int, keys: int, heads: int, head_shards: int, query_shards: int,
                block: int = 512, interpret: bool = False):
  """The kernel for causal attention, with which blocks to visit.

  Args:
    queries: tokens of a row, split over `query_shards` devices.
    keys: tokens of a row, all of which every device sees.
    heads: query heads, split over `head_shards` devices.
    head_shards: see `heads`.
    query_shards: see `queries`.
    block: queries and keys that stand in a TPU's vector memory at a time, of each head.
    interpret: runs it where there is no TPU, slowly.
  """
  query_block, block = math.gcd(block, queries // query_shards), math.gcd(block, keys)
  # The backward pass in two kernels: a fused one keeps a copy of the queries' gradient for each
  # block of keys, 34 GB of a 262,144-token row over 16 devices.
  sizes = BlockSizes(
      block_q=query_block, block_kv=block, block_kv_compute=block, block_q_dkv=query_block,
      block_kv_dkv=block, block_kv_dkv_compute=block, block_q_dq=query_block, block_kv_dq=block)
  return make_splash_mha(
      MultiHeadMask([_CausalMask((queries, keys))] * heads), block_sizes=sizes,
      head_shards=head_shards, q_seq_shards=query_shards, interpret=interpret)


def attend(q_BxLxHxD, k_BxSxKxD, v_BxSxKxD, segments_BxL, key_segments_BxS, kernel, *, dtype: str
           ) -> jax.Array:
  """float32[B, L, H, D]; `kernel` of `make_kernel`, or a device's part of it."""
  q, k, v = (x.astype(dtype).transpose(0, 2, 1, 3) for x in (
      q_BxLxHxD * q_BxLxHxD.shape[-1] ** -0.5, k_BxSxKxD, v_BxSxKxD))
  out = jax.vmap(kernel)(q, k, v, SegmentIds(segments_BxL, key_segments_BxS))
  return out.transpose(0, 2, 1, 3).astype(jnp.float32)
