"""Qwen3 checkpoints of Hugging Face to our parameters and back, without torch.

A state dict maps names such as 'model.layers.0.self_attn.q_proj.weight' to arrays: numpy, what
safetensors reads, or float32 torch tensors on the CPU. Torch stores a projection as [out, in], we
as [in, out]; nothing else differs, so that both directions are exact.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aw_jax.models.config import ModelConfig

# Our path within a layer -> Qwen3's name within one, and whether it is transposed.
_LAYER = {
  ('attention_norm', 'scale'): ('input_layernorm', False),
  ('attention', 'q'): ('self_attn.q_proj', True),
  ('attention', 'k'): ('self_attn.k_proj', True),
  ('attention', 'v'): ('self_attn.v_proj', True),
  ('attention', 'o'): ('self_attn.o_proj', True),
  ('attention', 'q_norm', 'scale'): ('self_attn.q_norm', False),
  ('attention', 'k_norm', 'scale'): ('self_attn.k_norm', False),
  ('mlp_norm', 'scale'): ('post_attention_layernorm', False),
  ('mlp', 'gate'): ('mlp.gate_proj', True),
  ('mlp', 'up'): ('mlp.up_proj', True),
  ('mlp', 'down'): ('mlp.down_proj', True),
}
_FIELDS = {
  'vocab_size': 'vocab_size', 'width': 'hidden_size', 'layers': 'num_hidden_layers',
  'heads': 'num_attention_heads', 'kv_heads': 'num_key_value_heads', 'head_dim': 'head_dim',
  'mlp_width': 'intermediate_size', 'norm_epsilon': 'rms_norm_eps',
  'tied_embeddings': 'tie_word_embeddings',
}


class CheckpointFormatError(ValueError):
  """A checkpoint or config is not a Qwen3 one that we can express; the message names the field."""


def config_from_qwen3(values: Mapping[str, Any], **overrides: Any) -> ModelConfig:
  """Our config for a Qwen3 `config.json`.

  Args:
    values: its content, or `Qwen3Config.to_dict()`.
    **overrides: further fields of ModelConfig: `dtype`, `query_block`, `remat`.
  Raises:
    CheckpointFormatError: where a field is missing or asks for what the decoder does not do.
  """
  rope = values.get('rope_parameters') or {'rope_theta': values.get('rope_theta')}
  unsupported = {
    'model_type': values.get('model_type') != 'qwen3',
    'hidden_act': values.get('hidden_act', 'silu') != 'silu',
    'attention_bias': bool(values.get('attention_bias')),
    'use_sliding_window': bool(values.get('use_sliding_window')),
    'rope_scaling': rope.get('rope_type', 'default') != 'default' or bool(
      values.get('rope_scaling') and values['rope_scaling'].get('rope_type') != 'default'),
  }
  for field, wrong in unsupported.items():
    if wrong:
      raise CheckpointFormatError(
        f'config.json.{field}: {values.get(field)!r} is not what a plain Qwen3 decoder has')
  missing = [theirs for theirs in _FIELDS.values() if values.get(theirs) is None]
  if rope.get('rope_theta') is None:
    missing.append('rope_theta')
  if missing:
    raise CheckpointFormatError(f'config.json.{missing[0]}: missing')
  fields = {ours: values[theirs] for ours, theirs in _FIELDS.items()}
  return ModelConfig(**fields, rope_theta=float(rope['rope_theta']), **overrides)


def config_to_qwen3(config: ModelConfig) -> dict[str, Any]:
  """The fields of a Qwen3 `config.json`. Raises CheckpointFormatError where Qwen3 has no such."""
  _assert_plain(config)
  fields = {theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()}
  return {
    **fields, 'model_type': 'qwen3', 'architectures': ['Qwen3ForCausalLM'], 'hidden_act': 'silu',
    'attention_bias': False, 'use_sliding_window': False, 'rope_theta': config.rope_theta,
    'rope_parameters': {'rope_type': 'default', 'rope_theta': config.rope_theta},
  }


def from_qwen3_state_dict(state_dict: Mapping[str, Any], config: ModelConfig) -> dict[str, Any]:
  """Parameters of `Decoder(config)`: nested dicts of float32 numpy arrays.

  Raises:
    CheckpointFormatError: naming a tensor that is missing, left over or of another shape.
  """
  names = _names(config)
  tied = {'lm_head.weight'} if config.tied_embeddings else set()  # stored by some all the same
  for name in names.values():
    if name[0] not in state_dict:
      raise CheckpointFormatError(f'{name[0]}: missing; is this a checkpoint of the same config?')
  unknown = sorted(set(state_dict) - {name for name, _ in names.values()} - tied)
  if unknown:
    raise CheckpointFormatError(f'{unknown[0]}: no place for it in the decoder')
  params: dict[str, Any] = {}
  for path, (name, transposed) in names.items():
    array = np.asarray(state_dict[name], np.float32)
    array = array.T if transposed else array
    if array.shape != _shape(path, config):
      raise CheckpointFormatError(
        f'{name}: shape {list(array.shape)} where the config gives {list(_shape(path, config))}')
    place = params
    for key in path[:-1]:
      place = place.setdefault(key, {})
    place[path[-1]] = np.ascontiguousarray(array)
  return params


def to_qwen3_state_dict(params: Mapping[str, Any], config: ModelConfig) -> dict[str, np.ndarray]:
  """The inverse of `from_qwen3_state_dict`, bit for bit. Raises CheckpointFormatError."""
  _assert_plain(config)
  state_dict = {}
  for path, (name, transposed) in _names(config).items():
    array = params
    for key in path:
      array = array[key]
    array = np.asarray(array, np.float32)
    state_dict[name] = np.ascontiguousarray(array.T if transposed else array)
  if config.tied_embeddings:
    state_dict['lm_head.weight'] = state_dict['model.embed_tokens.weight']
  return state_dict


def _assert_plain(config: ModelConfig) -> None:
  if config.short_conv_width:
    raise CheckpointFormatError(
      f'model.short_conv_width: {config.short_conv_width}; Qwen3 has no short convolution')


def _names(config: ModelConfig) -> dict[tuple[str, ...], tuple[str, bool]]:
  """Our path of every parameter -> its Qwen3 name and whether it is transposed."""
  names = {('embedding',): ('model.embed_tokens.weight', False),
           ('final_norm', 'scale'): ('model.norm.weight', False)}
  if not config.tied_embeddings:
    names['unembedding',] = ('lm_head.weight', False)
  for i in range(config.layers):
    for path, (name, transposed) in _LAYER.items():
      names[f'layer_{i}', *path] = (f'model.layers.{i}.{name}.weight', transposed)
  return names


def _shape(path: tuple[str, ...], config: ModelConfig) -> tuple[int, ...]:
  """The shape of the parameter at `path`."""
  c = config
  queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
  within = path[1:] if path[0].startswith('layer_') else path
  return {
    ('embedding',): (c.vocab_size, c.width), ('unembedding',): (c.vocab_size, c.width),
    ('attention', 'q'): (c.width, queries), ('attention', 'k'): (c.width, keys),
    ('attention', 'v'): (c.width, keys), ('attention', 'o'): (queries, c.width),
    ('attention', 'q_norm', 'scale'): (c.head_dim,),
    ('attention', 'k_norm', 'scale'): (c.head_dim,),
    ('mlp', 'gate'): (c.width, c.mlp_width), ('mlp', 'up'): (c.width, c.mlp_width),
    ('mlp', 'down'): (c.mlp_width, c.width),
  }.get(within, (c.width,))
