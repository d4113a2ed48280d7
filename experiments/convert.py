"""Converts checkpoints: Hugging Face's to ours, and ours to Hugging Face's.

From a folder with config.json and safetensors (Qwen3, Qwen3-MoE, Qwen3.5, Qwen3.5-MoE, Llama), or a
GGUF file of a Llama, to a checkpoint that every command takes as `--config.init=`. Tensors are read
straight onto this host's devices, a shard at a time. From a checkpoint of ours to a folder that
transformers loads: with the context length, chat template and further files of the folder that the
checkpoint came from, or for a model that was trained since, of the one that --like names.

  python -m experiments.convert --from=Qwen3-0.6B --to=/tmp/qwen3
  python -m experiments.convert --from=/tmp/run/rl --to=/tmp/exported --like=Qwen3-0.6B
"""

import json
import math
import os

import jax
import jax.numpy as jnp
from absl import flags

from aw_jax import partitioning
from aw_jax.models import companion_files, huggingface, safetensors_files
from aw_jax.models.config import ModelConfig
from aw_jax.models.gguf_file import GgufFile
from aw_jax.models.huggingface import CheckpointFormatError
from aw_jax.tokenizer import IM_END, HuggingFaceTokenizer, Tokenizer
from aw_jax.training.checkpoints import Checkpointer, has_model, load_params, read_model_config
from aw_jax.training.state import TrainState
from experiments import commands

_FROM = flags.DEFINE_string('from', None, 'Checkpoint folder, or a GGUF file.', required=True)
_TO = flags.DEFINE_string('to', None, 'Folder to write.', required=True)
_LIKE = flags.DEFINE_string(
  'like', None, 'Folder of Hugging Face whose config.json and chat files an exported model takes '
  'over; by default those of the folder that the checkpoint was converted from.')


def to_ours(source: str, directory: str) -> None:
  """A checkpoint of Hugging Face or llama.cpp as ours, at step 0.

  Raises CheckpointFormatError where `directory` has one already, which would stay.
  """
  if has_model(directory):
    raise CheckpointFormatError(f'{directory}: has a checkpoint already; use another --to')
  if source.endswith('.gguf'):
    tensors = GgufFile(source)
    tokenizer = HuggingFaceTokenizer(tensors.tokenizer_json(), source)
    files = {companion_files.CONFIG: json.dumps(tensors.config, indent=1).encode()}
  else:
    tensors = safetensors_files.SafetensorsFolder(source)
    files, tokenizer = companion_files.read(source), Tokenizer.load(source)
  config = huggingface.config_from_huggingface(json.loads(files[companion_files.CONFIG]))
  shardings = partitioning.param_shardings(huggingface.abstract_params(config), _mesh(config))
  params = huggingface.from_state_dict(tensors, config, shardings)
  checkpointer = Checkpointer(directory, config, tokenizer)
  checkpointer.save(TrainState(jnp.zeros((), jnp.int32), params, ()))
  checkpointer.close()
  companion_files.keep(files, directory)
  if tokenizer.vocab_size > config.vocab_size:
    print(f'the tokenizer has {tokenizer.vocab_size} ids, our tags included, the model '
          f'{config.vocab_size}: chats with those tags need a larger table')


def _mesh(config: ModelConfig) -> jax.sharding.Mesh:
  """Over as many devices as divide the model's width."""
  count = math.gcd(jax.device_count(), config.width)
  return partitioning.make_mesh(data=1, fsdp=count, devices=jax.devices()[:count])


def to_huggingface(source: str, directory: str, like: str | None = None) -> None:
  """A checkpoint of ours as a folder that transformers loads, with the further files of `like`.

  Raises SafetensorsError where `directory` has another's tensors, CheckpointFormatError where
  `like` is another model.
  """
  like = like or companion_files.kept(source)
  safetensors_files.require_none_of_others(directory)
  config = read_model_config(source)
  values = huggingface.config_to_huggingface(config)
  if like is not None:
    companion_files.require_same_model(like, values)  # before anything is written
  # Written leaf by leaf: the whole need not fit one device.
  params, _, tokenizer = load_params(source, _mesh(config))
  tensors = huggingface.iterate_state_dict(params, config)
  tied = 'lm_head.weight' if config.tied_embeddings else None  # transformers ties it itself
  safetensors_files.write((item for item in tensors if item[0] != tied), directory)
  ends = None
  if isinstance(tokenizer, HuggingFaceTokenizer):
    tokenizer.save(os.path.join(directory, tokenizer.file_name))
    ends = tokenizer.special(IM_END)
  else:
    print('the vocabulary is a SentencePiece one of our own: no tokenizer.json is written')
  if like is None:
    print('the exported config has no context length, chat template or other ends of messages than '
          'ours; --like=FOLDER takes those of the model that was trained')
  companion_files.write(
    directory, like, values, ends if ends is not None and ends < config.vocab_size else None)


def main():
  if has_model(_FROM.value):
    to_huggingface(_FROM.value, _TO.value, _LIKE.value)
  else:
    to_ours(_FROM.value, _TO.value)
  print(f'written to {_TO.value}')


if __name__ == '__main__':
  commands.run(main, 'convert')
