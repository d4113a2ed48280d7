"""ArrayRecord files of msgpack records, each with a JSON sidecar that says what it holds.

A file appears under its name only when it is whole, and its sidecar only after it.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import flax.serialization
from array_record.python import array_record_module

from aw_jax.trajectories import write_atomically

SUFFIX = '.array_record'
# Of RL's records, in their sidecar; 2: they say what could be known (`known`, `hidden_state`).
RL_VERSION = 2
# One record a group, so that reading a record at random decodes no other.
_OPTIONS = 'group_size:1'


class RecordsError(ValueError):
  """A record file cannot be used; the message says which, why, and what to do."""


def records_path(directory: str | os.PathLike, name: str) -> str:
  """Where the records of `name` ('cpt', 'sft', ...) lie."""
  return os.path.join(directory, name + SUFFIX)


def record_name(stage: str, split: str = 'train') -> str:
  """The name of a stage's record file: 'cpt', 'sft_candidates', 'rl', 'cpt_validation', ..."""
  name = 'sft_candidates' if stage == 'sft' else stage
  return name if split == 'train' else f'{name}_{split}'


def sidecar_path(path: str | os.PathLike) -> str:
  """Where the sidecar of a record file lies."""
  return os.fspath(path).removesuffix(SUFFIX) + '.json'


def exists(path: str | os.PathLike) -> bool:
  """Whether a record file is there, whole."""
  return os.path.exists(path) and os.path.exists(sidecar_path(path))


def encode(record: dict[str, Any]) -> bytes:
  """A record of NumPy arrays, strings, numbers, None and lists of them, as bytes."""
  return flax.serialization.msgpack_serialize(record)


def decode(data: bytes) -> dict[str, Any]:
  """The inverse of `encode`."""
  return flax.serialization.msgpack_restore(data)


def write_records(
    path: str | os.PathLike, records: Iterable[dict[str, Any]], sidecar: dict[str, Any]
) -> None:
  """Writes a record file and its sidecar; a reader never sees half of either.

  Args:
    path: ends with SUFFIX.
    records: see `encode`.
    sidecar: JSON values; `records`, the count, is added.
  """
  path = os.fspath(path)
  directory = os.path.dirname(os.path.abspath(path))
  os.makedirs(directory, exist_ok=True)
  if os.path.exists(sidecar_path(path)):
    os.unlink(sidecar_path(path))  # an old sidecar must not vouch for new records
  partial = os.path.join(directory, f'.{os.path.basename(path)}.partial')
  writer = array_record_module.ArrayRecordWriter(partial, _OPTIONS)
  count = 0
  try:
    for record in records:
      writer.write(encode(record))
      count += 1
  finally:
    writer.close()
  with open(partial, 'rb') as file:
    os.fsync(file.fileno())
  os.replace(partial, path)
  text = json.dumps({'records': count, **sidecar}, indent=2, sort_keys=True) + '\n'
  write_atomically(sidecar_path(path), text)


def read_sidecar(path: str | os.PathLike) -> dict[str, Any]:
  """The sidecar of a record file.

  Raises:
    RecordsError: where file or sidecar is missing or the sidecar is not JSON.
  """
  for needed in (os.fspath(path), sidecar_path(path)):
    if not os.path.exists(needed):
      raise RecordsError(
          f'{needed}: missing; make it with python -m experiments.prepare_data '
          f'--trajectories=FOLDER,... --out={os.path.dirname(needed) or "."}')
  try:
    with open(sidecar_path(path), encoding='utf-8') as file:
      return json.load(file)
  except json.JSONDecodeError as error:
    raise RecordsError(
        f'{sidecar_path(path)}: not JSON ({error.msg}); remove it and prepare again') from error


def read_records(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
  """Yields the records of a file in order. Raises RecordsError where it is missing."""
  read_sidecar(path)
  reader = array_record_module.ArrayRecordReader(os.fspath(path))
  try:
    for _ in range(reader.num_records()):
      yield decode(reader.read())
  finally:
    reader.close()
