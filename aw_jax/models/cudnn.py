"""Flash attention of cuDNN on packed rows, for GPUs.

`jax.nn.dot_product_attention` takes segments as a mask alone, which is a matrix of L x L elements a
row that every head reads. cuDNN knows segments by their starts and lengths, and JAX has that behind
the same primitive; it is called here.

Shapes: B rows, L tokens, H query heads, K key heads, D head width, M segments of a row at most.
"""

import jax
import jax.numpy as jnp
import numpy as np

NEEDS = 'a GPU of Hopper or later, bfloat16, heads of at most 256 (a multiple of 8)'


def supports(width: int, dtype: str) -> bool:
  """Whether this device's kernels know segments, and take such heads."""
  return (jax.default_backend() == 'gpu' and compute_capability() >= (9, 0)
          and dtype == 'bfloat16' and width % 8 == 0 and width <= 256)


def compute_capability() -> tuple[int, ...]:
  """Of the GPU: (9, 0) is Hopper."""
  return tuple(map(int, jax.local_devices()[0].compute_capability.split('.')))


def most_segments(length: int) -> int:
  """M of rows of so many tokens."""
  return max(64, length // 64)


def attend(q_BxLxHxD, k_BxLxKxD, v_BxLxKxD, segments_BxL, *, dtype: str) -> jax.Array:
  """Causal attention within segments.

  Returns:
    float32[B, L, H, D]; NaN in rows of more than M segments. `require_few_segments` finds them
    before.
  """
  from jax._src.cudnn import fused_attention_stablehlo as kernels  # where jaxlib has no CUDA too

  starts_BxM, lengths_BxM, fits_B = segment_bounds(segments_BxL)
  # As many as lengths and one more, -1 where there is none.
  starts_BxM = jnp.pad(starts_BxM, ((0, 0), (0, 1)), constant_values=-1)
  out = kernels.dot_product_attention(
      *(x.astype(dtype) for x in (q_BxLxHxD, k_BxLxKxD, v_BxLxKxD)),
      q_seqlen=lengths_BxM, kv_seqlen=lengths_BxM, q_offsets=starts_BxM, kv_offsets=starts_BxM,
      scale=q_BxLxHxD.shape[-1] ** -0.5, mask_type=kernels.MaskType.PADDING_CAUSAL)
  return jnp.where(fits_B[:, None, None, None], out.astype(jnp.float32), jnp.nan)


def require_few_segments(segments_BxL: np.ndarray) -> None:
  """Raises ValueError for a batch with a row of more than M segments; on the host."""
  counts = 1 + np.count_nonzero(np.diff(segments_BxL, axis=1), axis=1)
  most = most_segments(segments_BxL.shape[1])
  if counts.max() > most:
    raise ValueError(
        f'row {counts.argmax()} has {counts.max()} segments, and attention of cuDNN takes {most} '
        f'in {segments_BxL.shape[1]} tokens; set --config.model.attention_kind=blocks')


def segment_bounds(segments_BxL: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Where each row's segments start and how long they are, padding being one of them.

  Returns:
    int32[B, M] starts and int32[B, M] lengths, -1 where a row has fewer; bool[B], whether the row
    has no more.
  """
  batch, length = segments_BxL.shape
  is_start = jnp.concatenate(
      [jnp.ones((batch, 1), bool), segments_BxL[:, 1:] != segments_BxL[:, :-1]], axis=1)
  most = most_segments(length)
  # One more than there may be: where the last one ends.
  bounds = jax.vmap(lambda row: jnp.nonzero(row, size=most + 1, fill_value=length)[0])(is_start)
  starts, lengths = bounds[:, :-1], jnp.diff(bounds, axis=1)
  real = starts < length
  return tuple(jnp.where(real, x, -1).astype(jnp.int32) for x in (starts, lengths)) + (
      bounds[:, -1] == length,)
