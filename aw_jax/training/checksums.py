"""Whether a folder's files are still those that were written: sizes and CRC-32, kept beside them.

Tensorstore notices a file that is cut short, but reads changed bytes of an array as if they were
right; and what it does notice, it notices in one process of many.
"""

import concurrent.futures
import json
import os
import zlib

from aw_jax.trajectories import write_atomically

CHECKSUMS_FILE = 'checksums.json'
_CHUNK_BYTES = 1 << 24


def write(folder: str | os.PathLike) -> None:
  """Notes the size and the CRC-32 of every file of `folder` in its `checksums.json`."""
  write_atomically(os.path.join(folder, CHECKSUMS_FILE), json.dumps(_checksums(folder), indent=1))


def damage(folder: str | os.PathLike) -> str | None:
  """What is wrong with the first file that is not as it was written; None where all are."""
  try:
    with open(os.path.join(folder, CHECKSUMS_FILE), encoding='utf-8') as file:
      written = dict(json.load(file))
  except FileNotFoundError:
    return f'{CHECKSUMS_FILE} is missing'
  except ValueError:
    return f'{CHECKSUMS_FILE} is damaged'
  found = _checksums(folder)
  for name, checksum in written.items():
    if name not in found:
      return f'{name} is missing'
    if found[name] != checksum:
      return f'{name} is damaged'
  return None


def _checksums(folder: str | os.PathLike) -> dict[str, list[int]]:
  """[bytes, CRC-32] of every file but the checksums themselves, by its path in the folder."""
  names = sorted(
      os.path.relpath(os.path.join(base, name), folder)
      for base, _, files in os.walk(folder) for name in files)
  names = [name for name in names if name != CHECKSUMS_FILE]
  with concurrent.futures.ThreadPoolExecutor() as pool:  # zlib lets other threads run
    return dict(zip(names, pool.map(lambda name: _checksum(os.path.join(folder, name)), names),
                    strict=True))


def _checksum(path: str) -> list[int]:
  size = crc = 0
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK_BYTES):
      size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  return [size, crc]
