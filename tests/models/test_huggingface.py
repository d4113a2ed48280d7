"""Hugging Face checkpoints without torch: exact both ways, and clear where it cannot be."""

import dataclasses
import re

import flax.linen as nn
import jax
import numpy as np
import pytest

from aw_jax.models import huggingface
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import init_params
from aw_jax.models.huggingface import CheckpointFormatError

CONFIG = ModelConfig(
  vocab_size=20, width=8, layers=2, heads=4, kv_heads=2, head_dim=6, mlp_width=12)


QWEN3_5 = dataclasses.replace(
  CONFIG, head_dim=8, zero_centred_norm=True, attention_gate=True, rotary_fraction=0.5,
  pattern=('delta_net', 'attention'), delta_key_heads=2, delta_value_heads=2, delta_key_dim=4,
  delta_value_dim=4)


def params_of(config: ModelConfig):
  return jax.device_get(jax.jit(
    lambda key: nn.unbox(init_params(config, key)))(jax.random.key(0)))


@pytest.mark.parametrize('tied', [True, False])
def test_round_trip_keeps_every_parameter(tied):
  config = dataclasses.replace(CONFIG, tied_embeddings=tied)
  params = params_of(config)
  back = huggingface.from_state_dict(huggingface.to_state_dict(params, config), config)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), back, params)


def test_config_round_trip():
  config = dataclasses.replace(CONFIG, rope_theta=1e6, norm_epsilon=1e-5, tied_embeddings=False)
  assert huggingface.config_from_huggingface(huggingface.config_to_huggingface(config)) == config


@pytest.mark.parametrize('tied', [True, False])
def test_the_whole_models_word_on_its_tied_table_counts(tied):
  text = huggingface.config_to_huggingface(
    dataclasses.replace(CONFIG, tied_embeddings=not tied))
  found = huggingface.config_from_huggingface({'text_config': text, 'tie_word_embeddings': tied})
  assert found.tied_embeddings is tied


def test_rope_theta_of_older_config_files():
  values = huggingface.config_to_huggingface(CONFIG)
  del values['rope_parameters']
  found = huggingface.config_from_huggingface(values, dtype='float32')
  assert found.rope_theta == CONFIG.rope_theta


def test_what_rope_parameters_leave_out_stands_beside_them():
  values = huggingface.config_to_huggingface(QWEN3_5)
  theta, factor = (values['rope_parameters'].pop(name) for name in (
    'rope_theta', 'partial_rotary_factor'))
  assert factor == QWEN3_5.rotary_fraction != 0.25  # the family's own
  for rope in ({'rope_parameters': values['rope_parameters']}, {'rope_parameters': None}):
    beside = {**values, **rope, 'rope_theta': theta, 'partial_rotary_factor': factor}
    assert huggingface.config_from_huggingface(beside) == QWEN3_5
    del beside['partial_rotary_factor']
    assert huggingface.config_from_huggingface(beside).rotary_fraction == 0.25


@pytest.mark.parametrize(('field', 'value'), [
  ('num_hidden_layers', 'four'), ('rms_norm_eps', [1e-6]), ('rope_parameters', 'default'),
  ('rope_scaling', 3), ('text_config', 'none'), ('rope_theta', '1e6'),
  ('hidden_size', 8.5), ('tie_word_embeddings', 'yes')])
def test_a_config_field_of_another_type_is_named(field, value):
  values = huggingface.config_to_huggingface(CONFIG)
  if field == 'rope_theta':
    del values['rope_parameters']
  with pytest.raises(CheckpointFormatError) as error:
    huggingface.config_from_huggingface({**values, field: value})
  ours = {'hidden_size': 'width', 'tie_word_embeddings': 'tied_embeddings'}.get(field, field)
  assert field in str(error.value) or f'model.{ours}' in str(error.value)


@pytest.mark.parametrize(('field', 'value'), [
  ('model_type', 'gpt2'), ('hidden_act', 'gelu'), ('attention_bias', True),
  ('use_sliding_window', True), ('rope_scaling', {'rope_type': 'yarn', 'factor': 4.0})])
def test_what_the_decoder_does_not_do_is_refused(field, value):
  values = {**huggingface.config_to_huggingface(CONFIG), field: value}
  with pytest.raises(CheckpointFormatError, match=rf'config\.json\.{field}: '):
    huggingface.config_from_huggingface(values)


def test_missing_config_field_is_named():
  values = huggingface.config_to_huggingface(CONFIG)
  del values['num_key_value_heads']
  with pytest.raises(CheckpointFormatError, match=r'config\.json\.num_key_value_heads: missing'):
    huggingface.config_from_huggingface(values)


def test_of_a_multimodal_checkpoint_the_text_model_is_read():
  params = params_of(CONFIG)
  state_dict = {
    name.replace('model.', 'model.language_model.', 1): array
    for name, array in huggingface.to_state_dict(params, CONFIG).items()}
  assert 'model.language_model.layers.1.mlp.up_proj.weight' in state_dict
  others = {'model.visual.blocks.0.attn.qkv.weight': np.ones((3, 3)),
            'mtp.layers.0.mlp.up_proj.weight': np.ones((3, 3))}
  back = huggingface.from_state_dict(state_dict | others, CONFIG)
  jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize('prefix', ['model.', 'model.language_model.'])
def test_an_output_table_of_its_own_is_not_lost(prefix):
  """Where the config ties it to the embedding; the same table stored twice is no harm."""
  config = dataclasses.replace(CONFIG, tied_embeddings=True)
  state_dict = {name.replace('model.', prefix, 1): array for name, array in
                huggingface.to_state_dict(params_of(config), config).items()}
  assert 'lm_head.weight' in state_dict
  huggingface.from_state_dict(state_dict, config)
  table = state_dict['lm_head.weight'].copy()
  table[-1, -1] += 1
  for wrong in table, table[:-1]:
    with pytest.raises(CheckpointFormatError, match=r'lm_head\.weight: differs .* set it to false'):
      huggingface.from_state_dict({**state_dict, 'lm_head.weight': wrong}, config)


def test_checkpoint_of_another_model_is_refused_by_tensor():
  state_dict = huggingface.to_state_dict(params_of(CONFIG), CONFIG)
  name = 'model.layers.1.mlp.up_proj.weight'
  missing = {key: value for key, value in state_dict.items() if key != name}
  for wrong, message in (
      (missing, f'{name}: missing'),
      ({**state_dict, 'extra.bias': np.zeros(3)}, 'extra.bias: no place'),
      ({**state_dict, name: np.zeros((11, 8))}, f'{name}: shape [11, 8] where the config gives '
                                                 'parts of [8, 12]')):
    with pytest.raises(CheckpointFormatError, match=re.escape(message)):
      huggingface.from_state_dict(wrong, CONFIG)


def test_short_convolutions_cannot_be_exported():
  config = dataclasses.replace(CONFIG, short_conv_width=4)
  with pytest.raises(CheckpointFormatError, match='short_conv_width'):
    huggingface.to_state_dict(params_of(config), config)
