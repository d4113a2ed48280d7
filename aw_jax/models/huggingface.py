"""Checkpoints of the Qwen3, Qwen3.5 and Llama families of Hugging Face, both ways, without torch.

A state dict maps names such as 'model.layers.0.self_attn.q_proj.weight' to arrays: numpy, memory
maps of a safetensors file (`safetensors_files`), or float32 torch tensors on the CPU. Torch stores
a projection as [out, in], we as [in, out]; some of theirs are several of ours side by side, and our
layers are stacked. All of that is views of the same numbers, so that both directions are exact.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from aw_jax.models.config import ATTENTION, DELTA_NET, ModelConfig, ModelConfigError
from aw_jax.models.decoder import init_params

LLAMA, QWEN3, QWEN3_MOE = 'llama', 'qwen3', 'qwen3_moe'
QWEN3_5, QWEN3_5_MOE = 'qwen3_5_text', 'qwen3_5_moe_text'
_ARCHITECTURES = {
  LLAMA: 'LlamaForCausalLM', QWEN3: 'Qwen3ForCausalLM', QWEN3_MOE: 'Qwen3MoeForCausalLM',
  QWEN3_5: 'Qwen3_5ForCausalLM', QWEN3_5_MOE: 'Qwen3_5MoeForCausalLM'}
_FIELDS = {
  'vocab_size': 'vocab_size', 'width': 'hidden_size', 'layers': 'num_hidden_layers',
  'heads': 'num_attention_heads', 'kv_heads': 'num_key_value_heads', 'head_dim': 'head_dim',
  'norm_epsilon': 'rms_norm_eps', 'tied_embeddings': 'tie_word_embeddings',
}
_DENSE_FIELDS = {'mlp_width': 'intermediate_size'}
_EXPERT_FIELDS = {
  'experts': 'num_experts', 'experts_per_token': 'num_experts_per_tok',
  'expert_width': 'moe_intermediate_size'}
_DELTA_FIELDS = {
  'delta_key_heads': 'linear_num_key_heads', 'delta_value_heads': 'linear_num_value_heads',
  'delta_key_dim': 'linear_key_head_dim', 'delta_value_dim': 'linear_value_head_dim',
  'delta_conv_width': 'linear_conv_kernel_dim'}
_MIXER_NAMES = {ATTENTION: 'full_attention', DELTA_NET: 'linear_attention'}
# Of a multimodal checkpoint the text model alone is read.
_OTHER_PARTS = ('model.visual.', 'mtp.')
_HEAD = 'lm_head.weight'
_EMBEDDING = 'model.embed_tokens.weight'


class CheckpointFormatError(ValueError):
  """A checkpoint or config is not one that the decoder can express; the message names the field."""


# --- config.json ----------------------------------------------------------------------------------


def config_from_huggingface(values: Mapping[str, Any], **overrides: Any) -> ModelConfig:
  """Our config for a `config.json`.

  Args:
    values: its content, or `to_dict()` of a transformers config.
    **overrides: further fields of ModelConfig: `dtype`, `query_block`, `remat`.
  Raises:
    CheckpointFormatError: where a field is missing or asks for what the decoder does not do.
  """
  # The whole model's own word on its tied table counts, whatever its text part says.
  tied = {name: values[name] for name in ('tie_word_embeddings',) if name in values}
  values = {'tie_word_embeddings': False, **(_object(values, 'text_config') or values), **tied}
  values.setdefault('num_experts', values.get('num_local_experts'))  # transformers writes either
  family = values.get('model_type')
  if family not in _ARCHITECTURES:
    raise CheckpointFormatError(
      f'config.json.model_type: {family!r} is not one of {", ".join(_ARCHITECTURES)}')
  # What rotary positions are asked for stands in one object, the older one where there are two, and
  # what it leaves out beside it.
  rope = {name: values[name] for name in ('rope_theta', 'partial_rotary_factor')
          if values.get(name) is not None}
  rope |= _object(values, 'rope_scaling') or _object(values, 'rope_parameters')
  _require_supported(values, rope)
  names = _names_of_fields(family)
  _require_numbers(values, names.values())
  _require_numbers(rope, ('rope_theta', 'partial_rotary_factor'))
  if family == LLAMA and not values.get('head_dim'):
    values['head_dim'] = values['hidden_size'] // values['num_attention_heads']
  missing = [theirs for theirs in names.values() if values.get(theirs) is None]
  if rope.get('rope_theta') is None:
    missing.append('rope_theta')
  if missing:
    raise CheckpointFormatError(f'config.json.{missing[0]}: missing')
  fields = {ours: values[theirs] for ours, theirs in names.items()}
  fields |= {'rope_theta': float(rope['rope_theta']), 'qk_norm': family != LLAMA}
  if family == QWEN3_MOE:
    fields['normalise_router'] = bool(values.get('norm_topk_prob'))
  if family in (QWEN3_5, QWEN3_5_MOE):
    fields |= {'zero_centred_norm': True, 'attention_gate': True, 'pattern': _pattern(values),
               'rotary_fraction': rope.get('partial_rotary_factor', 0.25)}
  try:
    return ModelConfig(**fields | overrides)
  except ModelConfigError as error:
    raise CheckpointFormatError(f'config.json: {error}') from error


def _object(values: Mapping[str, Any], field: str) -> Mapping[str, Any]:
  """An object in `values`, empty where there is none."""
  found = values.get(field) or {}
  if not isinstance(found, Mapping):
    raise CheckpointFormatError(f'config.json.{field}: an object is expected, is {found!r}')
  return found


def _require_numbers(values: Mapping[str, Any], fields: Iterable[str]) -> None:
  """Of the fields that there are; truth values are numbers too."""
  for field in fields:
    if not isinstance(values.get(field), int | float | None):
      raise CheckpointFormatError(
        f'config.json.{field}: a number is expected, is {values[field]!r}')


def _names_of_fields(family: str) -> dict[str, str]:
  names = _FIELDS | (_EXPERT_FIELDS if family in (QWEN3_MOE, QWEN3_5_MOE) else _DENSE_FIELDS)
  if family in (QWEN3_5, QWEN3_5_MOE):
    names |= _DELTA_FIELDS
  if family == QWEN3_5_MOE:
    names |= {'shared_expert_width': 'shared_expert_intermediate_size'}
  return names


def _require_supported(values: Mapping[str, Any], rope: Mapping[str, Any]) -> None:
  unsupported = {
    'hidden_act': values.get('hidden_act', 'silu') != 'silu',
    'attention_bias': bool(values.get('attention_bias')),
    'mlp_bias': bool(values.get('mlp_bias')),
    'use_sliding_window': bool(values.get('use_sliding_window')),
    'mlp_only_layers': bool(values.get('mlp_only_layers')),
    'decoder_sparse_step': values.get('decoder_sparse_step', 1) != 1,
    'rope_scaling' if values.get('rope_scaling') else 'rope_parameters': (
      rope.get('rope_type', rope.get('type', 'default')) != 'default'),
  }
  for field, wrong in unsupported.items():
    if wrong:
      raise CheckpointFormatError(
        f'config.json.{field}: the decoder does not do {values.get(field)!r}')


def _pattern(values: Mapping[str, Any]) -> tuple[str, ...]:
  """The shortest pattern whose repetition gives the layers of a Qwen3.5 config."""
  names = {theirs: ours for ours, theirs in _MIXER_NAMES.items()}
  kinds = values.get('layer_types')
  if kinds is None:
    _require_numbers(values, ('full_attention_interval',))
    interval = values.get('full_attention_interval') or 4
    kinds = ['linear_attention' if (i + 1) % interval else 'full_attention'
             for i in range(values['num_hidden_layers'])]
  unknown = [kind for kind in kinds if kind not in names]
  if unknown:
    raise CheckpointFormatError(f'config.json.layer_types: the decoder does not do {unknown[0]!r}')
  for length in range(1, len(kinds) + 1):
    if len(kinds) % length == 0 and kinds[:length] * (len(kinds) // length) == list(kinds):
      return tuple(names[kind] for kind in kinds[:length])
  raise CheckpointFormatError('config.json.layer_types: empty')


def family_of(config: ModelConfig) -> str:
  """Which architecture can hold the parameters. Raises CheckpointFormatError where none can."""
  if config.short_conv_width:
    raise CheckpointFormatError(
      f'model.short_conv_width: {config.short_conv_width}; no family has this convolution')
  if config.zero_centred_norm and config.attention_gate and config.qk_norm:
    if config.experts and not (config.shared_expert_width and config.normalise_router):
      raise CheckpointFormatError(
        'model.shared_expert_width, model.normalise_router: both are set in Qwen3.5-MoE')
    return QWEN3_5_MOE if config.experts else QWEN3_5
  plain = {'zero_centred_norm': False, 'attention_gate': False, 'pattern': (ATTENTION,),
           'rotary_fraction': 1.0, 'shared_expert_width': 0}
  for field, value in plain.items():
    if getattr(config, field) != value:
      raise CheckpointFormatError(
        f'model.{field}: {getattr(config, field)!r}; only Qwen3.5 has this, with gated attention, '
        'zero-centred norms and norms of queries and keys')
  if config.experts:
    if not config.qk_norm:
      raise CheckpointFormatError('model.qk_norm: False; Qwen3-MoE has these norms')
    return QWEN3_MOE
  return QWEN3 if config.qk_norm else LLAMA


def config_to_huggingface(config: ModelConfig) -> dict[str, Any]:
  """The fields of a `config.json`. Raises CheckpointFormatError where no family has such."""
  family = family_of(config)
  fields = {theirs: getattr(config, ours) for ours, theirs in _names_of_fields(family).items()}
  rope = {'rope_type': 'default', 'rope_theta': config.rope_theta}
  if family in (QWEN3_5, QWEN3_5_MOE):
    rope |= {'partial_rotary_factor': config.rotary_fraction}
    fields['layer_types'] = [
      _MIXER_NAMES[mixer] for mixer in config.pattern * config.repeats]
  if family == QWEN3_MOE:
    fields |= {'norm_topk_prob': config.normalise_router, 'decoder_sparse_step': 1,
               'mlp_only_layers': []}
  if family in (LLAMA, QWEN3, QWEN3_MOE):
    fields['rope_theta'] = config.rope_theta
  return {
    **fields, 'model_type': family, 'architectures': [_ARCHITECTURES[family]],
    'hidden_act': 'silu', 'attention_bias': False, 'rope_parameters': rope}


# --- tensors --------------------------------------------------------------------------------------

Path = tuple[str, ...]
Place = tuple[Path, tuple[int, ...]]  # a parameter and the leading indices into it


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of a checkpoint and what it is of ours.

  Attributes:
    name: theirs.
    places: which parts of our parameters it holds.
    split: their array -> views of it, one for each place.
    join: the inverse.
  """

  name: str
  places: tuple[Place, ...]
  split: Callable[[np.ndarray], tuple[np.ndarray, ...]]
  join: Callable[..., np.ndarray]


def _same(array):
  return (array,)


def _transposed(array):
  return (array.swapaxes(-1, -2),)


def _rows(array: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
  return np.split(array, np.cumsum(sizes)[:-1], axis=0)


def _projections(sizes: tuple[int, ...]):
  """[sum of sizes, in] <-> [in, size] each."""
  return (lambda array: tuple(part.T for part in _rows(array, sizes)),
          lambda *parts: np.concatenate([part.T for part in parts]))


def _convolutions(sizes: tuple[int, ...]):
  """[channels, 1, W], the oldest input first <-> [W, channels] each, the newest first."""
  return (lambda array: tuple(part[:, 0, ::-1].T for part in _rows(array, sizes)),
          lambda *parts: np.concatenate([part.T[:, None, ::-1] for part in parts]))


def _query_and_gate(heads: int, width: int):
  """[heads * (query, gate), in] <-> [in, heads * width] twice."""
  def split(array):
    apart = array.reshape(heads, 2, width, -1)
    return tuple(apart[:, i].reshape(heads * width, -1).T for i in range(2))

  def join(query, gate):
    parts = [part.T.reshape(heads, 1, width, -1) for part in (query, gate)]
    return np.concatenate(parts, axis=1).reshape(2 * heads * width, -1)

  return split, join


def _gate_and_up(hidden: int):
  """[X, 2 * hidden, in] <-> [X, in, hidden] twice."""
  return (lambda array: (array[:, :hidden].swapaxes(1, 2), array[:, hidden:].swapaxes(1, 2)),
          lambda *parts: np.concatenate([part.swapaxes(1, 2) for part in parts], axis=1))


def tensors(config: ModelConfig, separate_experts: bool | None = None) -> Iterator[Tensor]:
  """All tensors of a checkpoint of the config's family.

  Args:
    config: the decoder's.
    separate_experts: whether each expert has tensors of its own, or all of a layer are one; by
      default as the family's published checkpoints have it: in Qwen3-MoE, not in Qwen3.5-MoE.
  """
  if separate_experts is None:
    separate_experts = family_of(config) == QWEN3_MOE
  yield Tensor(_EMBEDDING, ((('embedding',), ()),), _same, np.asarray)
  yield Tensor('model.norm.weight', ((('final_norm', 'scale'), ()),), _same, np.asarray)
  if not config.tied_embeddings:
    yield Tensor(_HEAD, ((('unembedding',), ()),), _same, np.asarray)
  for layer in range(config.layers):
    repetition, place = divmod(layer, len(config.pattern))
    for tensor in _layer_tensors(config, config.pattern[place], separate_experts):
      places = tuple((('layers', f'layer_{place}', *path), (repetition, *index))
                     for path, index in tensor.places)
      yield dataclasses.replace(tensor, name=f'model.layers.{layer}.{tensor.name}', places=places)


def _layer_tensors(config: ModelConfig, mixer: str, separate_experts: bool) -> Iterator[Tensor]:
  """Those of one layer, names and places within it."""
  def one(name, *path, index=(), convert=_same):
    return Tensor(name, ((path, index),), convert, lambda array: convert(array)[0])

  def several(name, paths, converters):
    return Tensor(name, tuple((path, ()) for path in paths), *converters)

  linear = functools.partial(one, convert=_transposed)
  yield one('input_layernorm.weight', 'mixer_norm', 'scale')
  yield one('post_attention_layernorm.weight', 'mlp_norm', 'scale')
  if mixer == ATTENTION:
    yield from _attention_tensors(config, one, linear, several)
  else:
    yield from _delta_tensors(config, one, linear, several)
  if not config.experts:
    for ours in ('gate', 'up', 'down'):
      yield linear(f'mlp.{ours}_proj.weight', 'mlp', ours)
    return
  yield linear('mlp.gate.weight', 'experts', 'router')
  if config.shared_expert_width:
    for ours in ('gate', 'up', 'down'):
      yield linear(f'mlp.shared_expert.{ours}_proj.weight', 'experts', 'shared', ours)
    yield linear('mlp.shared_expert_gate.weight', 'experts', 'shared_gate')
  if separate_experts:
    for expert in range(config.experts):
      for ours in ('gate', 'up', 'down'):
        yield linear(f'mlp.experts.{expert}.{ours}_proj.weight', 'experts', ours, index=(expert,))
  else:
    yield several('mlp.experts.gate_up_proj', [('experts', 'gate'), ('experts', 'up')],
                  _gate_and_up(config.expert_width))
    yield linear('mlp.experts.down_proj', 'experts', 'down')


def _attention_tensors(config, one, linear, several) -> Iterator[Tensor]:
  if config.attention_gate:
    yield several('self_attn.q_proj.weight', [('attention', 'q'), ('attention', 'gate')],
                  _query_and_gate(config.heads, config.head_dim))
  else:
    yield linear('self_attn.q_proj.weight', 'attention', 'q')
  for ours in ('k', 'v', 'o'):
    yield linear(f'self_attn.{ours}_proj.weight', 'attention', ours)
  if config.qk_norm:
    for ours in ('q_norm', 'k_norm'):
      yield one(f'self_attn.{ours}.weight', 'attention', ours, 'scale')


def _delta_tensors(config, one, linear, several) -> Iterator[Tensor]:
  keys = config.delta_key_heads * config.delta_key_dim
  sizes = (keys, keys, config.delta_value_heads * config.delta_value_dim)
  yield several('linear_attn.in_proj_qkv.weight', [('delta_net', name) for name in 'qkv'],
                _projections(sizes))
  yield several('linear_attn.conv1d.weight', [('delta_net', f'{name}_conv') for name in 'qkv'],
                _convolutions(sizes))
  for theirs, ours in (('in_proj_z', 'gate'), ('in_proj_b', 'beta'), ('in_proj_a', 'decay'),
                       ('out_proj', 'o')):
    yield linear(f'linear_attn.{theirs}.weight', 'delta_net', ours)
  yield one('linear_attn.A_log', 'delta_net', 'decay_rate')
  yield one('linear_attn.dt_bias', 'delta_net', 'decay_bias')
  yield one('linear_attn.norm.weight', 'delta_net', 'norm', 'scale')


def abstract_params(config: ModelConfig) -> Any:
  """Shapes and dtypes of `Decoder(config)`'s parameters, boxed with their logical axes."""
  return jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))


def from_state_dict(state_dict: Mapping[str, Any], config: ModelConfig, shardings: Any = None
                    ) -> Any:
  """Parameters of `Decoder(config)`.

  Args:
    state_dict: names to arrays; those of a memory map are read as they are needed, a shard of one
      parameter at a time.
    config: the decoder's.
    shardings: a NamedSharding for every parameter; None gives numpy arrays.
  Returns:
    Nested dicts of float32 arrays.
  Raises:
    CheckpointFormatError: naming a tensor that is missing, left over or of another shape, or a
      table of the output that is not the embedding where the config ties them.
  """
  names = _plain_names(state_dict, config)
  if config.tied_embeddings and {_HEAD, names.get(_EMBEDDING)} <= set(state_dict):
    _require_tied(state_dict[_HEAD], state_dict[names[_EMBEDDING]])
  separate = 'model.layers.0.mlp.experts.0.gate_proj.weight' in names if config.experts else None
  views: dict[Path, dict[tuple[int, ...], np.ndarray]] = {}
  for tensor in tensors(config, separate):
    if tensor.name not in names:
      raise CheckpointFormatError(
        f'{tensor.name}: missing; is this a checkpoint of the same config?')
    array = np.asarray(state_dict[names.pop(tensor.name)])
    try:
      parts = tensor.split(array)
    except ValueError as error:
      raise CheckpointFormatError(
        f'{tensor.name}: shape {list(array.shape)} does not fit the config ({error})') from error
    for (path, index), view in zip(tensor.places, parts, strict=True):
      views.setdefault(path, {})[index] = (tensor.name, array.shape, view)
  if names:
    raise CheckpointFormatError(f'{min(names)}: no place for it in the decoder')

  def build(path, abstract, sharding):
    parts = views[tuple(key.key for key in path)]
    for index, (name, shape, view) in parts.items():
      if view.shape != abstract.shape[len(index):]:
        raise CheckpointFormatError(
          f'{name}: shape {list(shape)} where the config gives parts of '
          f'{list(abstract.shape[len(index):])}')
    read = functools.partial(_read, {index: view for index, (_, _, view) in parts.items()})
    if sharding is None:
      return read(tuple(slice(0, size) for size in abstract.shape))
    return _place(abstract.shape, sharding, read)

  abstract = nn.unbox(abstract_params(config))
  if shardings is None:
    return jax.tree_util.tree_map_with_path(lambda path, x: build(path, x, None), abstract)
  return jax.tree_util.tree_map_with_path(build, abstract, shardings)


def _plain_names(state_dict: Mapping[str, Any], config: ModelConfig) -> dict[str, str]:
  """Name in a text-only checkpoint -> name in this one."""
  tied = {_HEAD} if config.tied_embeddings else set()  # stored by some all the same
  return {
    name.replace('model.language_model.', 'model.', 1): name for name in state_dict
    if name not in tied and not name.startswith(_OTHER_PARTS)}


_ROWS = 4096  # of a table, compared at a time


def _require_tied(head: np.ndarray, embedding: np.ndarray) -> None:
  """Some store the embedding again as the output's table; another table must not be lost."""
  if embedding.shape != head.shape or not all(
      np.array_equal(np.asarray(head[row:row + _ROWS]), np.asarray(embedding[row:row + _ROWS]))
      for row in range(0, len(head), _ROWS)):
    raise CheckpointFormatError(
      f'{_HEAD}: differs from the embedding, and config.json.tie_word_embeddings says that they '
      'are one; set it to false')


def _place(shape: tuple[int, ...], sharding: jax.sharding.Sharding,
           read: Callable[[tuple[slice, ...]], np.ndarray]) -> jax.Array:
  """An array whose shards are read one by one, each on its device before the next is read."""
  shards = [
    jax.block_until_ready(jax.device_put(read(index), device))
    for device, index in sharding.addressable_devices_indices_map(shape).items()]
  return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _read(views: Mapping[tuple[int, ...], np.ndarray], index: tuple[slice, ...]) -> np.ndarray:
  """float32 copy of a slice of a parameter whose leading indices are views of their own."""
  leading = len(next(iter(views)))
  shape = tuple(len(views) if not leading else max(i[axis] for i in views) + 1
                for axis in range(leading))
  ranges = [range(size)[part] for size, part in zip(shape, index, strict=False)]
  rest = index[leading:]
  if not leading:
    return np.array(views[()][rest], np.float32)
  sample = views[tuple(r[0] for r in ranges)][rest]
  out = np.empty((*map(len, ranges), *sample.shape), np.float32)
  for place in np.ndindex(*map(len, ranges)):
    out[place] = views[tuple(r[i] for r, i in zip(ranges, place, strict=True))][rest]
  return out


def to_state_dict(params: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
  """The inverse of `from_state_dict`, bit for bit, in float32. Raises CheckpointFormatError."""
  return dict(iterate_state_dict(params, config))


def iterate_state_dict(params: Mapping[str, Any], config: ModelConfig,
                       separate_experts: bool | None = None) -> Iterator[tuple[str, np.ndarray]]:
  """`to_state_dict` a tensor at a time: what a large model's host memory can hold."""
  for tensor in tensors(config, separate_experts):
    parts = []
    for path, index in tensor.places:
      array = functools.reduce(lambda tree, key: tree[key], path, params)
      parts.append(np.asarray(array[index] if index else array, np.float32))
    array = np.ascontiguousarray(tensor.join(*parts))
    yield tensor.name, array
    if config.tied_embeddings and tensor.name == _EMBEDDING:
      yield _HEAD, array
