"""What a folder of Hugging Face holds beside its tensors: context, ends of messages, chat template.

The decoder needs none of it, so a checkpoint of ours keeps the files as they are, in a folder
`huggingface/` beside it, for the day when it goes back: without them transformers and servers built
on it do not know where an answer ends or how long a context may be.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from aw_jax.models.huggingface import CheckpointFormatError, config_from_huggingface
from aw_jax.trajectories import write_atomically

FOLDER = 'huggingface'
CONFIG, GENERATION = 'config.json', 'generation_config.json'
_TEXTS = ('tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja',
          'chat_template.json')
_NAMES = (CONFIG, GENERATION, *_TEXTS)
# Of the source alone: how its tensors are stored, and by which transformers it was written.
_NOT_CARRIED = ('dtype', 'torch_dtype', 'quantization_config', 'transformers_version', 'auto_map')


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """The object of a JSON file. Raises CheckpointFormatError naming it."""
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
  except (OSError, ValueError) as error:
    raise CheckpointFormatError(f'{path}: cannot be read ({error})') from error
  if not isinstance(values, dict):
    raise CheckpointFormatError(f'{path}: an object is expected')
  return values


def read(folder: str | os.PathLike) -> dict[str, bytes]:
  """The files that `folder` has, name to content. Raises CheckpointFormatError without a config."""
  read_json(os.path.join(folder, CONFIG))
  found = {}
  for name in _NAMES:
    path = os.path.join(folder, name)
    if os.path.exists(path):
      with open(path, 'rb') as file:
        found[name] = file.read()
  return found


def keep(files: Mapping[str, bytes], directory: str | os.PathLike) -> None:
  """Writes files beside a checkpoint of ours."""
  folder = os.path.join(directory, FOLDER)
  os.makedirs(folder, exist_ok=True)
  for name, content in files.items():
    write_atomically(os.path.join(folder, name), content)


def kept(directory: str | os.PathLike) -> str | None:
  """The folder that `keep` wrote beside a checkpoint, where there is one."""
  folder = os.path.join(directory, FOLDER)
  return folder if os.path.exists(os.path.join(folder, CONFIG)) else None


def require_same_model(source: str | os.PathLike, values: Mapping[str, Any]) -> None:
  """Raises CheckpointFormatError where `source` is of another model than the exported one.

  Of another shape, or with something of its own that would change what transformers computes.

  Args:
    source: a folder of Hugging Face.
    values: fields of the exported model's config.json.
  """
  path, config = os.path.join(source, CONFIG), _text_config(read(source), source)
  for field in ('model_type', 'hidden_size', 'num_hidden_layers'):
    if config.get(field) != values[field]:
      raise CheckpointFormatError(
        f'{path}: {field} is {config.get(field)!r}, of the exported model {values[field]!r}')
  wanted = config_from_huggingface(values).to_dict()
  try:
    found = config_from_huggingface({**config, **values}).to_dict()
  except CheckpointFormatError as error:
    raise CheckpointFormatError(f'{path}: not of the exported model: {error}') from error
  for name, value in wanted.items():
    if found[name] != value:
      raise CheckpointFormatError(
        f'{path}: asks for a model with {name} = {found[name]}, the exported one has {value}')


def write(folder: str | os.PathLike, source: str | os.PathLike | None, values: Mapping[str, Any],
          ends: int | None) -> None:
  """Writes all but tensors and tokenizer.json, config.json last.

  Args:
    folder: what transformers will load.
    source: a folder of Hugging Face with the same model, or None.
    values: fields of the exported model's config.json, which stand above the source's.
    ends: id that ends a message of ours, added to those that end the source's; None adds none.
  Raises:
    CheckpointFormatError: as `require_same_model`.
  """
  if source is not None:
    require_same_model(source, values)
  files = read(source) if source is not None else {}
  config = _text_config(files, source)
  generation = read_json(os.path.join(source, GENERATION)) if GENERATION in files else {}
  stops = generation.get('eos_token_id', config.get('eos_token_id'))
  stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
  if ends is not None and ends not in stops:
    stops = [*stops, ends]
  os.makedirs(folder, exist_ok=True)
  for name in _TEXTS:
    if name in files:
      write_atomically(os.path.join(folder, name), files[name])
  if generation or stops:
    _write_json(os.path.join(folder, GENERATION), {**generation, 'eos_token_id': stops})
  _write_json(os.path.join(folder, CONFIG), {**config, **values, 'dtype': 'float32'})


def _text_config(files: Mapping[str, bytes], source: str | os.PathLike | None) -> dict[str, Any]:
  """Fields of the source's text model that say something about the exported one."""
  if source is None:
    return {}
  config = json.loads(files[CONFIG])
  text = config.pop('text_config', {})
  config = {**config, **text}
  return {field: value for field, value in config.items()
          if field not in _NOT_CARRIED and not field.startswith(('vision', 'image', 'video'))}


def _write_json(path: str, values: Mapping[str, Any]) -> None:
  write_atomically(path, json.dumps(values, indent=1) + '\n')
