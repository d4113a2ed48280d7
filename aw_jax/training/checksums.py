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
  """Notes the size and the CRC-32 of every file of `folder` in its `checksums.json`.

  Of a folder in it that has such notes already, that of the notes alone.
  """
  names = _files(folder)
  found = dict(zip(names, _checksums(folder, names), strict=True))
  write_atomically(os.path.join(folder, CHECKSUMS_FILE), json.dumps(found, indent=1))


def damage(folder: str | os.PathLike, share: int = 0, shares: int = 1) -> str | None:
  """What is wrong with the first file that is not as it was written; None where all are.

  Args:
    folder: one that `write` has noted.
    share: which share of the files to read, from 0.
    shares: how many there are; processes that read one each have read all files together.
  """
  written, found = _noted(folder)
  if found:
    return found
  names = sorted(written)[share::shares]
  for name, checksum in zip(names, _checksums(folder, names), strict=True):
    if checksum != written[name]:
      return f'{name} is {"missing" if checksum is None else "damaged"}'
  return None


def _noted(folder, base: str = '') -> tuple[dict[str, list[int]], str | None]:
  """All that is noted of files in `folder`, by their paths there, and what is wrong with a note."""
  name = os.path.join(base, CHECKSUMS_FILE)
  try:
    with open(os.path.join(folder, name), encoding='utf-8') as file:
      written = {os.path.join(base, own): sums for own, sums in dict(json.load(file)).items()}
  except FileNotFoundError:
    return {}, f'{name} is missing'
  except (ValueError, TypeError):
    return {}, f'{name} is damaged'
  for inner in [own for own in written if os.path.basename(own) == CHECKSUMS_FILE]:
    more, found = _noted(folder, os.path.dirname(inner))
    if found:
      return {}, found
    written |= more
  return written, None


def _files(folder) -> list[str]:
  """What notes of `folder` are of, by its path there."""
  found = []
  for base, inner, files in os.walk(folder):
    if os.path.samefile(base, folder):
      files = [name for name in files if name != CHECKSUMS_FILE]
    elif CHECKSUMS_FILE in files:
      files = [CHECKSUMS_FILE]
      inner.clear()
    found += [os.path.relpath(os.path.join(base, name), folder) for name in files]
  return sorted(found)


def _checksums(folder, names: list[str]) -> list[list[int] | None]:
  with concurrent.futures.ThreadPoolExecutor() as pool:  # zlib lets other threads run
    return list(pool.map(lambda name: _checksum(os.path.join(folder, name)), names))


def _checksum(path: str) -> list[int] | None:
  """[bytes, CRC-32] of a file; None where there is none."""
  size = crc = 0
  try:
    with open(path, 'rb') as file:
      while chunk := file.read(_CHUNK_BYTES):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
  except FileNotFoundError:
    return None
  return [size, crc]
