"""What goes along with exported tensors: the source's context length, ends and chat files."""

import json
import os

import pytest

from aw_jax.models import companion_files, huggingface
from aw_jax.models.config import ModelConfig
from aw_jax.models.huggingface import CheckpointFormatError

MODEL = ModelConfig(
  vocab_size=20, width=8, layers=2, heads=4, kv_heads=2, head_dim=6, mlp_width=12)
VALUES = huggingface.config_to_huggingface(MODEL)


def write_source(folder, **changes):
  config = {**VALUES, 'max_position_embeddings': 64, 'eos_token_id': 7, 'dtype': 'bfloat16',
            'vocab_size': 16, 'quantization_config': {'bits': 4}, **changes}
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'chat_template.jinja').write_text('{{ messages }}')
  (folder / 'model.safetensors').write_bytes(b'tensors')
  return folder


def found(folder, name):
  return json.loads((folder / name).read_text())


def test_our_fields_stand_above_the_sources(tmp_path):
  companion_files.write(tmp_path / 'out', write_source(tmp_path / 'in'), VALUES, ends=9)
  assert found(tmp_path / 'out', 'config.json') == {
    **VALUES, 'max_position_embeddings': 64, 'eos_token_id': 7, 'dtype': 'float32'}
  assert found(tmp_path / 'out', 'generation_config.json') == {'eos_token_id': [7, 9]}
  assert sorted(os.listdir(tmp_path / 'out')) == [
    'chat_template.jinja', 'config.json', 'generation_config.json']


def test_what_is_kept_beside_a_checkpoint_is_what_the_source_had(tmp_path):
  assert companion_files.kept(tmp_path) is None
  files = companion_files.read(write_source(tmp_path / 'in'))
  companion_files.keep(files, tmp_path)
  assert companion_files.read(companion_files.kept(tmp_path)) == files
  assert set(files) == {'config.json', 'chat_template.jinja'}


def test_of_a_multimodal_source_the_text_model_counts(tmp_path):
  text = {**VALUES, 'max_position_embeddings': 128}
  source = write_source(tmp_path / 'in', model_type='qwen3_5', hidden_size=99, text_config=text,
                        vision_config={'depth': 2}, image_token_id=5)
  companion_files.write(tmp_path / 'out', source, VALUES, ends=None)
  config = found(tmp_path / 'out', 'config.json')
  assert config['max_position_embeddings'] == 128 and config['model_type'] == 'qwen3'
  assert not {'text_config', 'vision_config', 'image_token_id'} & set(config)


def test_a_model_without_a_source_ends_with_our_messages(tmp_path):
  companion_files.write(tmp_path, None, VALUES, ends=9)
  assert found(tmp_path, 'generation_config.json') == {'eos_token_id': [9]}
  companion_files.write(tmp_path / 'other', None, VALUES, ends=None)
  assert os.listdir(tmp_path / 'other') == ['config.json']


@pytest.mark.parametrize('changes', [
  {'hidden_size': 16}, {'num_hidden_layers': 3}, {'model_type': 'llama'}])
def test_a_source_of_another_shape_is_refused_by_field(changes, tmp_path):
  source = write_source(tmp_path / 'in', **changes)
  with pytest.raises(CheckpointFormatError, match=f'config.json: {next(iter(changes))} is '):
    companion_files.write(tmp_path / 'out', source, VALUES, ends=None)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('changes', [
  {'rope_scaling': {'rope_type': 'linear', 'factor': 4.0}}, {'use_sliding_window': True},
  {'attention_bias': 0, 'mlp_bias': True}])
def test_what_would_change_the_exported_model_is_refused(changes, tmp_path):
  source = write_source(tmp_path / 'in', **changes)
  name = list(changes)[-1]
  with pytest.raises(CheckpointFormatError, match=rf'in/config\.json: .*{name}: the decoder does'):
    companion_files.write(tmp_path / 'out', source, VALUES, ends=None)
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('content', ['[]', '{', '\xff'])
def test_an_unreadable_file_is_named(content, tmp_path):
  (tmp_path / 'config.json').write_text(content, encoding='latin-1')
  with pytest.raises(CheckpointFormatError, match=r'config\.json: '):
    companion_files.read(tmp_path)
  source = write_source(tmp_path / 'in')
  (source / 'generation_config.json').write_text(content, encoding='latin-1')
  with pytest.raises(CheckpointFormatError, match=r'generation_config\.json: '):
    companion_files.write(tmp_path / 'out', source, VALUES, ends=None)
