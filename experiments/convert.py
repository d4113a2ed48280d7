"""Converts checkpoints: Hugging Face's to ours, and ours to Hugging Face's.

From a folder with config.json and safetensors (Qwen3, Qwen3-MoE, Qwen3.5, Qwen3.5-MoE, Llama), or a
GGUF file of a Llama, to a checkpoint that every command takes as `--config.init=`. Tensors are read
straight onto this host's devices, a shard at a time. From a checkpoint of ours to a folder that
transformers loads.

  python -m experiments.convert --from=Qwen3-0.6B --to=/tmp/qwen3
  python -m experiments.convert --from=/tmp/base/cpt --to=/tmp/exported
"""

import json
import os

import jax.numpy as jnp
from absl import flags

from aw_jax import partitioning
from aw_jax.models import huggingface, safetensors_files
from aw_jax.models.gguf_file import GgufFile
from aw_jax.models.huggingface import CheckpointFormatError
from aw_jax.tokenizer import HuggingFaceTokenizer, Tokenizer
from aw_jax.training.checkpoints import Checkpointer, has_model, load_params
from aw_jax.training.state import TrainState
from aw_jax.trajectories import write_atomically
from experiments import commands

_FROM = flags.DEFINE_string('from', None, 'Checkpoint folder, or a GGUF file.', required=True)
_TO = flags.DEFINE_string('to', None, 'Folder to write.', required=True)


def to_ours(source: str, directory: str) -> None:
  """A checkpoint of Hugging Face or llama.cpp as ours, at step 0.

  Raises CheckpointFormatError where `directory` has one already, which would stay.
  """
  if has_model(directory):
    raise CheckpointFormatError(f'{directory}: has a checkpoint already; use another --to')
  if source.endswith('.gguf'):
    tensors = GgufFile(source)
    values, tokenizer = tensors.config, HuggingFaceTokenizer(tensors.tokenizer_json(), source)
  else:
    tensors = safetensors_files.SafetensorsFolder(source)
    values, tokenizer = _read_config(source), Tokenizer.load(source)
  config = huggingface.config_from_huggingface(values)
  mesh = partitioning.make_mesh(data=1, fsdp=-1)
  shardings = partitioning.param_shardings(huggingface.abstract_params(config), mesh)
  params = huggingface.from_state_dict(tensors, config, shardings)
  checkpointer = Checkpointer(directory, config, tokenizer)
  checkpointer.save(TrainState(jnp.zeros((), jnp.int32), params, ()))
  checkpointer.close()
  if tokenizer.vocab_size > config.vocab_size:
    print(f'the tokenizer has {tokenizer.vocab_size} ids, our tags included, the model '
          f'{config.vocab_size}: chats with those tags need a larger table')


def _read_config(folder: str) -> dict:
  path = os.path.join(folder, 'config.json')
  try:
    with open(path, encoding='utf-8') as file:
      return json.load(file)
  except (OSError, ValueError) as error:
    raise CheckpointFormatError(f'{path}: cannot be read ({error})') from error


def to_huggingface(source: str, directory: str) -> None:
  """A checkpoint of ours as a folder that transformers loads.

  Raises SafetensorsError where `directory` has another's tensors.
  """
  safetensors_files.require_none_of_others(directory)
  # Over all devices, and written leaf by leaf: the whole need not fit one of them.
  params, config, tokenizer = load_params(source, partitioning.make_mesh(data=1, fsdp=-1))
  values = huggingface.config_to_huggingface(config)
  tensors = huggingface.iterate_state_dict(params, config)
  tied = 'lm_head.weight' if config.tied_embeddings else None  # transformers ties it itself
  safetensors_files.write((item for item in tensors if item[0] != tied), directory)
  if isinstance(tokenizer, HuggingFaceTokenizer):
    tokenizer.save(os.path.join(directory, tokenizer.file_name))
  else:
    print('the vocabulary is a SentencePiece one of our own: no tokenizer.json is written')
  write_atomically(os.path.join(directory, 'config.json'), json.dumps(values, indent=1))


def main():
  convert = to_huggingface if has_model(_FROM.value) else to_ours
  convert(_FROM.value, _TO.value)
  print(f'written to {_TO.value}')


if __name__ == '__main__':
  commands.run(main, 'convert')
