"""What every block is built from: kernels with logical axes, norms, causal convolutions, SwiGLU."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from aw_jax.models.config import ModelConfig
from aw_jax.models.contract import contract


def kernel(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str | None, ...],
           scale: float | None = None) -> jax.Array:
  """A float32 parameter with normal initial values and logical axes.

  Args:
    module: whose parameter it is, and `name` its name there.
    shape: the last two axes are those of a matrix product, input first.
    axes: a logical axis, or None, for each.
    scale: standard deviation; by default that which keeps the variance of a matrix product.
  """
  deviation = scale if scale is not None else shape[max(len(shape) - 2, 0)] ** -0.5
  init = nn.with_logical_partitioning(nn.initializers.normal(deviation), axes)
  return module.param(name, init, shape, jnp.float32)


def linear(config: ModelConfig, spec: str, x: jax.Array, weights: jax.Array) -> jax.Array:
  """`contract` of activations with weights, in the types of the config. Returns float32."""
  return contract(spec, x, weights, config.dtype, config.activation_dtype)


def _scale(module: nn.Module, init, width: int) -> jax.Array:
  return module.param('scale', nn.with_logical_partitioning(init, (None,)), (width,), jnp.float32)


class RMSNorm(nn.Module):
  """Root-mean-square norm over the last axis, in float32.

  Attributes:
    epsilon: added to the mean square.
    zero_centred: multiply by one plus the scale, as in Qwen3.5.
  """

  epsilon: float
  zero_centred: bool = False

  @nn.compact
  def __call__(self, x):
    init = nn.initializers.zeros if self.zero_centred else nn.initializers.ones
    scale = _scale(self, init, x.shape[-1]) + self.zero_centred
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(mean_square + self.epsilon) * scale


def causal_conv(x_BxTxE: jax.Array, kernel_WxE: jax.Array, positions_BxT: jax.Array,
                taps_BxWxE: jax.Array | None = None, counts_B: jax.Array | None = None
                ) -> tuple[jax.Array, jax.Array | None]:
  """Causal depthwise convolution that never reaches across a segment's start.

  Args:
    x_BxTxE: inputs.
    kernel_WxE: kernel_WxE[d] multiplies the input d tokens before.
    positions_BxT: int32, from 0 in each segment.
    taps_BxWxE: [B, W-1, E] inputs before the first; None where the first is a segment's.
    counts_B: int32, valid tokens of each row, where there are taps.
  Returns:
    [B, T, E], and the taps after each row's valid tokens (None where none were given).
  """
  past = kernel_WxE.shape[0] - 1
  if taps_BxWxE is None:
    padded = jnp.pad(x_BxTxE, ((0, 0), (past, 0), (0, 0)))
  else:
    padded = jnp.concatenate([taps_BxWxE, x_BxTxE], axis=1)
  length = x_BxTxE.shape[1]
  out = jnp.zeros_like(x_BxTxE)
  for delay in range(past + 1):
    shifted = padded[:, past - delay:past - delay + length]
    out += jnp.where((positions_BxT >= delay)[..., None], shifted, 0) * kernel_WxE[delay]
  if taps_BxWxE is None:
    return out, None
  # The last inputs of each row: its counts_B valid tokens end at padded[past + counts_B].
  last_BxW = counts_B[:, None] + jnp.arange(past)
  return out, jnp.take_along_axis(padded, last_BxW[..., None], axis=1)


class ShortConv(nn.Module):
  """x plus a causal convolution of it, which starts at zero; arguments as of `causal_conv`."""

  width: int

  @nn.compact
  def __call__(self, x_BxTxE, positions_BxT, taps_BxWxE=None, counts_B=None):
    weights = self.param(
        'kernel', nn.with_logical_partitioning(nn.initializers.zeros, (None, None)),
        (self.width, x_BxTxE.shape[-1]), jnp.float32)
    out, taps = causal_conv(x_BxTxE, weights, positions_BxT, taps_BxWxE, counts_B)
    return x_BxTxE + out, taps


class Mlp(nn.Module):
  """SwiGLU of a given hidden width."""

  config: ModelConfig
  hidden: int

  @nn.compact
  def __call__(self, x):
    c = self.config
    shape, axes = (c.width, self.hidden), ('embed', 'mlp')
    gate = linear(c, 'bte,ef->btf', x, kernel(self, 'gate', shape, axes))
    up = linear(c, 'bte,ef->btf', x, kernel(self, 'up', shape, axes))
    down = kernel(self, 'down', (self.hidden, c.width), ('mlp', 'embed'))
    return linear(c, 'btf,fe->bte', nn.silu(gate) * up, down)
