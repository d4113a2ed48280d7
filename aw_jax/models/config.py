"""What a decoder is made of."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

ATTENTION, DELTA_NET = 'attention', 'delta_net'
MIXERS = (ATTENTION, DELTA_NET)
REMAT_POLICIES = ('none', 'dots', 'full')
ATTENTION_KINDS = ('auto', 'plain', 'blocks', 'cudnn', 'splash')


class ModelConfigError(ValueError):
  """A model config cannot be built; the message names the field and what it allows."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """A decoder of the Qwen3, Qwen3.5 or Llama family, with one addition for small models.

  The defaults of the optional fields are those of Qwen3.

  Attributes:
    vocab_size: ids of the vocabulary, padding included.
    width: of the residual stream.
    layers: number of blocks; a multiple of the pattern's length.
    heads: query heads.
    kv_heads: key and value heads (grouped-query attention); divides `heads`.
    head_dim: width of one head.
    mlp_width: hidden width of the SwiGLU; not used where there are experts.
    rope_theta: base of the rotary frequencies.
    rotary_fraction: share of a head that is rotated, from its start.
    norm_epsilon: of every RMSNorm.
    tied_embeddings: whether the output projection is the embedding.
    qk_norm: RMSNorm of every query and key.
    zero_centred_norm: norms multiply by one plus their scale.
    attention_gate: what a head attended to is multiplied by the sigmoid of a projection.
    pattern: mixers of consecutive layers, repeated: 'attention' and 'delta_net'.
    delta_key_heads: of Gated DeltaNet; each serves as many value heads.
    delta_value_heads: the same of values, gates and decays.
    delta_key_dim: width of a DeltaNet key head.
    delta_value_dim: width of a DeltaNet value head.
    delta_conv_width: taps of the causal convolution on its queries, keys and values.
    experts: feed-forward networks to choose from; 0 is a single dense one.
    experts_per_token: how many each token is sent to.
    expert_width: hidden width of an expert's SwiGLU.
    shared_expert_width: hidden width of the one that every token visits, behind a gate; 0 is none.
    normalise_router: whether the chosen experts' weights sum to one.
    router_loss_weight: of the load-balance loss, which is 1 where experts get alike, beside a loss
      that is a mean over tokens. transformers' `router_aux_loss_coef` is of a loss
      `experts_per_token` times as large.
    short_conv_width: taps of a causal depthwise convolution on the input of each attention and MLP,
      added to that input; 0 leaves it out. It lets one layer match several tokens at once, from
      which copying is learned far sooner.
    dtype: of matrix products' operands, 'float32' or 'bfloat16'; they accumulate in float32, and
      parameters, norms, softmax, router and residual stream are float32 always. In products of
      float32 on a GPU or TPU, DeltaNet's too, JAX rounds the operands as
      `jax_default_matmul_precision` says.
    activation_dtype: what results of projections are stored as, 'float32' or 'bfloat16', which
      halves the memory that training waits for on a GPU or TPU; routed experts' stay float32.
    cache_dtype: of cached keys and values. 'bfloat16' halves what a decode step reads on a GPU or
      TPU; on a CPU, where XLA makes a float32 copy of all of it at every step, 'float32' is faster.
    attention_kind: how whole rows are attended: 'blocks' of queries (any device), flash attention
      of 'cudnn' (GPU) or 'splash' (TPU), the 'plain' form with all scores at once; 'auto' takes the
      first three by device.
    query_block: queries attended at a time by 'blocks': bounds the memory of attention scores.
    scan_decode: whether tokens are read into a cache by a loop over the repeated pattern instead of
      layer by layer. Programs of large models compile in a fraction of the time; each layer's cache
      is then copied at every token.
    remat: what the backward pass computes again: 'none', 'full' (each block, from its input) or
      'dots' (each block but the results of its matrix products and of cuDNN's attention).
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int = 0
  rope_theta: float = 10_000.0
  rotary_fraction: float = 1.0
  norm_epsilon: float = 1e-6
  tied_embeddings: bool = True
  qk_norm: bool = True
  zero_centred_norm: bool = False
  attention_gate: bool = False
  pattern: tuple[str, ...] = (ATTENTION,)
  delta_key_heads: int = 0
  delta_value_heads: int = 0
  delta_key_dim: int = 0
  delta_value_dim: int = 0
  delta_conv_width: int = 4
  experts: int = 0
  experts_per_token: int = 0
  expert_width: int = 0
  shared_expert_width: int = 0
  normalise_router: bool = True
  router_loss_weight: float = 1e-3
  short_conv_width: int = 0
  dtype: str = 'bfloat16'
  activation_dtype: str = 'float32'
  cache_dtype: str = 'float32'
  attention_kind: str = 'auto'
  query_block: int = 128
  scan_decode: bool = False
  remat: str = 'none'

  def __post_init__(self):
    self._require_types()
    positive = ['vocab_size', 'width', 'layers', 'heads', 'kv_heads', 'head_dim', 'query_block']
    if DELTA_NET in self.pattern:
      positive += ['delta_key_heads', 'delta_value_heads', 'delta_key_dim', 'delta_value_dim',
                   'delta_conv_width']
    if self.experts:
      positive += ['experts_per_token', 'expert_width']
    else:
      positive.append('mlp_width')
    for name in positive:
      if getattr(self, name) < 1:
        raise ModelConfigError(f'model.{name}: must be at least 1, is {getattr(self, name)}')
    for name, allowed in (('dtype', ('float32', 'bfloat16')),
                          ('activation_dtype', ('float32', 'bfloat16')),
                          ('cache_dtype', ('float32', 'bfloat16')), ('remat', REMAT_POLICIES),
                          ('attention_kind', ATTENTION_KINDS)):
      if getattr(self, name) not in allowed:
        raise ModelConfigError(
            f'model.{name}: one of {", ".join(allowed)}, is {getattr(self, name)!r}')
    unknown = [mixer for mixer in self.pattern if mixer not in MIXERS]
    if unknown or not self.pattern:
      raise ModelConfigError(
          f'model.pattern: of {", ".join(MIXERS)}, is {", ".join(map(repr, self.pattern))}')
    self._require_divides('kv_heads', 'heads')
    if DELTA_NET in self.pattern:
      self._require_divides('delta_key_heads', 'delta_value_heads')
    if self.layers % len(self.pattern):
      raise ModelConfigError(
          f'model.pattern: {len(self.pattern)} layers long, which does not divide model.layers = '
          f'{self.layers}')
    if self.rotary_width < 2 or self.rotary_width % 2:
      raise ModelConfigError(
          'model.head_dim: its rotated part must be even for RoPE, is '
          f'{self.rotary_width} (head_dim = {self.head_dim} times model.rotary_fraction = '
          f'{self.rotary_fraction})')
    if self.experts_per_token > self.experts:
      raise ModelConfigError(
          f'model.experts_per_token: {self.experts_per_token} of model.experts = {self.experts}')

  def _require_types(self) -> None:
    for field in dataclasses.fields(self):
      value, kind = getattr(self, field.name), typing.get_origin(field.type) or field.type
      right = isinstance(value, int | float if kind is float else kind)
      if not right or isinstance(value, bool) != (kind is bool):  # a bool is an int too
        raise ModelConfigError(f'model.{field.name}: of type {kind.__name__}, is {value!r}')

  def _require_divides(self, part: str, whole: str) -> None:
    if getattr(self, whole) % getattr(self, part):
      raise ModelConfigError(
          f'model.{part}: {getattr(self, part)} does not divide model.{whole} = '
          f'{getattr(self, whole)}')

  @property
  def rotary_width(self) -> int:
    """How much of a head is rotated."""
    return int(self.head_dim * self.rotary_fraction)

  @property
  def repeats(self) -> int:
    """How often the pattern of layers is repeated."""
    return self.layers // len(self.pattern)

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
    return cls(**{name: tuple(value) if name == 'pattern' else value
                  for name, value in values.items()})

  def to_dict(self) -> dict[str, Any]:
    return dataclasses.asdict(self) | {'pattern': list(self.pattern)}
