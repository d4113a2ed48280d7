"""Indexes of the installed libraries, each made once and kept for later sessions.

They lie in the cache (AW_JAX_CACHE, ~/.cache/aw_jax by default), under names that change with the
library's files, the code that reads and indexes them, and the engine's version.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Iterator, Sequence

from aw_jax.environments import caches, search_sources
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.servers import search as server

_CODE = (search_sources.__file__, server.__file__)


def index_folder(libraries: Sequence[str]) -> str:
  """The directory with the index over libraries, made now where there is none yet.

  Raises:
    MissingProgramError: where a library is not installed.
    BrokenEnvironmentError: where the cache cannot be written.
  """
  name = server.index_name(libraries)
  try:
    cache = caches.folder('search')
    os.makedirs(cache, exist_ok=True)
    folder = os.path.join(cache, f'{name}-{_version(libraries)}')
    if not os.path.isdir(folder):
      with _alone(os.path.join(cache, f'{name}.lock')):  # other workers wait, then find it made
        if not os.path.isdir(folder):
          _make(libraries, folder)
  except OSError as error:
    raise BrokenEnvironmentError(
        f'the index of {name} cannot be written ({error}): make room, or set AW_JAX_CACHE to '
        'another directory') from error
  return folder


def _version(libraries: Sequence[str]) -> str:
  """Changes with all that an index is made from."""
  parts: list = [importlib.metadata.version('tantivy')]
  for path in _CODE:
    with open(path, encoding='utf-8') as file:
      parts.append(file.read())
  for library in libraries:
    for path in search_sources.files(library):
      status = os.stat(path)
      parts.append((path, status.st_size, status.st_mtime_ns))
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
  """Lets one process at a time go on."""
  with open(path, 'w', encoding='utf-8') as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _make(libraries: Sequence[str], folder: str) -> None:
  """Makes an index in one piece or not at all."""
  documents = [document for library in libraries for document in search_sources.documents(library)]
  partial = f'{folder}.partial'
  shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
  try:
    os.mkdir(partial)
    server.make_index(documents, partial)
    os.rename(partial, folder)
  except ValueError as error:  # what the engine raises where it cannot write
    raise OSError(str(error)) from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
