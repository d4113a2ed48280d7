"""Folders of safetensors: read as memory maps, written in files of bounded size.

A file begins with the length of its header (8 bytes, little-endian), then the header in JSON: each
tensor's dtype, shape and place in the bytes that follow. Mapping those bytes costs no memory until
they are looked at, which is what reading a model straight onto a mesh needs; the safetensors
package would copy whole tensors.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from aw_jax.trajectories import write_atomically

_DTYPES = {'F64': np.float64, 'F32': np.float32, 'F16': np.float16, 'BF16': ml_dtypes.bfloat16}
_INDEX = 'model.safetensors.index.json'
_OWN_NAME = re.compile(r'model-\d{5}\.safetensors')
MAX_FILE_BYTES = 5 << 30


class SafetensorsError(ValueError):
  """A file is missing, torn or of a kind that holds no parameters; the message names it."""


class SafetensorsFolder(Mapping[str, np.ndarray]):
  """Every tensor of a folder's safetensors files, as a memory map."""

  def __init__(self, folder: str | os.PathLike):
    """Raises SafetensorsError."""
    self._tensors: dict[str, np.ndarray] = {}
    for name in _file_names(folder):
      self._tensors |= _map_file(os.path.join(folder, name))

  def __getitem__(self, name: str) -> np.ndarray:
    return self._tensors[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)


def _file_names(folder: str | os.PathLike) -> list[str]:
  index = os.path.join(folder, _INDEX)
  if os.path.exists(index):
    try:
      with open(index, encoding='utf-8') as file:
        return sorted(set(json.load(file)['weight_map'].values()))
    except (ValueError, KeyError, AttributeError) as error:
      raise SafetensorsError(f'{index}: no index of safetensors files ({error!r})') from error
  if not os.path.isdir(folder):
    raise SafetensorsError(f'{folder}: no such folder')
  names = sorted(name for name in os.listdir(folder) if name.endswith('.safetensors'))
  if not names:
    raise SafetensorsError(f'{folder}: no *.safetensors file; is the download complete?')
  return names


def _map_file(path: str) -> dict[str, np.ndarray]:
  if not os.path.exists(path):
    raise SafetensorsError(f'{path}: missing, but the index names it; is the download complete?')
  with open(path, 'rb') as file:
    size = int.from_bytes(file.read(8), 'little')
    if 8 + size > os.path.getsize(path):  # also of a pointer that Git LFS left in its place
      raise SafetensorsError(f'{path}: torn or no safetensors file; is the download complete?')
    raw = file.read(size)
  try:
    header = json.loads(raw)
    if not isinstance(header, dict):
      raise ValueError('its header is no object')
  except ValueError as error:
    raise SafetensorsError(f'{path}: torn or no safetensors file ({error})') from error
  header.pop('__metadata__', None)
  for name, entry in header.items():
    _require_entry(path, name, entry)
  needed = 8 + size + max((entry['data_offsets'][1] for entry in header.values()), default=0)
  if os.path.getsize(path) < needed:
    raise SafetensorsError(
      f'{path}: torn, {os.path.getsize(path)} bytes where its header needs {needed}')
  data = np.memmap(path, np.uint8, 'r', offset=8 + size)
  return {name: _view(entry, data) for name, entry in header.items()}


def _require_entry(path: str, name: str, entry: dict[str, Any]) -> None:
  try:
    dtype, shape, (start, end) = entry['dtype'], entry['shape'], entry['data_offsets']
    count, stored = math.prod(shape), end - start
  except (KeyError, TypeError, ValueError) as error:
    raise SafetensorsError(f'{path}: no dtype, shape and place of {name} ({error!r})') from error
  if dtype not in _DTYPES:
    raise SafetensorsError(f'{path}: {name} is {dtype}; parameters are {", ".join(_DTYPES)}')
  if min(start, *shape, 0) < 0 or stored != count * np.dtype(_DTYPES[dtype]).itemsize:
    raise SafetensorsError(f'{path}: {name} of shape {shape} does not fit its {stored} bytes')


def _view(entry: dict[str, Any], data: np.memmap) -> np.ndarray:
  start, end = entry['data_offsets']
  return data[start:end].view(_DTYPES[entry['dtype']]).reshape(entry['shape'])


def require_none_of_others(folder: str | os.PathLike) -> None:
  """Raises SafetensorsError where readers of `folder` would find other tensors than `write`'s.

  Files of a `write` that was stopped before its index are no hindrance: they are written again.
  """
  found = os.listdir(folder) if os.path.isdir(folder) else []
  others = [name for name in found if name == _INDEX or (
    name.endswith('.safetensors') and not _OWN_NAME.fullmatch(name))]
  if others:
    raise SafetensorsError(
      f'{os.path.join(folder, min(others))}: is there already; write to another folder')


def write(tensors: Iterable[tuple[str, np.ndarray]], folder: str | os.PathLike,
          max_bytes: int = MAX_FILE_BYTES) -> None:
  """Writes tensors in files of at most `max_bytes`, each atomically, and their index last.

  No more than one file's tensors are held in memory. Needs the safetensors package (extra `hf`).
  """
  from safetensors.numpy import save  # an extra

  os.makedirs(folder, exist_ok=True)
  batch: dict[str, np.ndarray] = {}
  weight_map: dict[str, str] = {}
  total = 0

  def flush():
    name = f'model-{len(set(weight_map.values())) + 1:05d}.safetensors'
    write_atomically(os.path.join(folder, name), save(batch, {'format': 'pt'}))
    weight_map.update(dict.fromkeys(batch, name))
    batch.clear()

  for name, array in tensors:
    if batch and sum(x.nbytes for x in batch.values()) + array.nbytes > max_bytes:
      flush()
    batch[name] = array
    total += array.nbytes
  flush()
  index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
  write_atomically(os.path.join(folder, _INDEX), json.dumps(index, indent=1))
