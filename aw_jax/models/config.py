"""What a decoder is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any


class ModelConfigError(ValueError):
  """A model config cannot be built; the message names the field and what it allows."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A Qwen3 decoder, with one optional addition for small models.

  Attributes:
    vocab_size: ids of the vocabulary, padding included.
    width: of the residual stream.
    layers: number of blocks.
    heads: query heads.
    kv_heads: key and value heads (grouped-query attention); divides `heads`.
    head_dim: width of one head.
    mlp_width: hidden width of the SwiGLU.
    rope_theta: base of the rotary frequencies.
    norm_epsilon: of every RMSNorm.
    tied_embeddings: whether the output projection is the embedding.
    short_conv_width: taps of a causal depthwise convolution on the input of each attention and MLP,
      added to that input; 0 leaves it out and gives the plain Qwen3 block. It lets one layer match
      several tokens at once, from which copying is learned far sooner.
    dtype: of matrix products' operands, 'float32' or 'bfloat16'; they accumulate in float32, and
      parameters, norms, softmax and residual stream are float32 always.
    cache_dtype: of cached keys and values. 'bfloat16' halves what a decode step reads on a GPU or
      TPU; on a CPU, where XLA makes a float32 copy of all of it at every step, 'float32' is faster.
    query_block: queries attended at a time while training; bounds the memory of attention scores.
    remat: recompute each block's activations in the backward pass.
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  rope_theta: float = 10_000.0
  norm_epsilon: float = 1e-6
  tied_embeddings: bool = True
  short_conv_width: int = 0
  dtype: str = 'bfloat16'
  cache_dtype: str = 'float32'
  query_block: int = 128
  remat: bool = False

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and field.name != 'short_conv_width' and value < 1:
        raise ModelConfigError(f'model.{field.name}: must be at least 1, is {value}')
    if self.heads % self.kv_heads:
      raise ModelConfigError(
          f'model.kv_heads: {self.kv_heads} does not divide model.heads = {self.heads}')
    if self.head_dim % 2:
      raise ModelConfigError(f'model.head_dim: must be even for RoPE, is {self.head_dim}')
    for name in ('dtype', 'cache_dtype'):
      if getattr(self, name) not in ('float32', 'bfloat16'):
        raise ModelConfigError(
            f"model.{name}: 'float32' or 'bfloat16', is {getattr(self, name)!r}")

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'ModelConfig':
    """Raises ModelConfigError for unknown or missing fields."""
    known = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
      raise ModelConfigError(f'model.{unknown[0]}: no such field; there are {", ".join(known)}')
    missing = [name for name, field in known.items()
               if field.default is dataclasses.MISSING and name not in values]
    if missing:
      raise ModelConfigError(f'model.{missing[0]}: missing')
    return cls(**values)

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self)
