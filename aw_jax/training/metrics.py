"""Metrics as JSON lines, always; other writers (TensorBoard through clu) are handed in."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Protocol

from aw_jax.trajectories import write_atomically


class MetricsError(RuntimeError):
  """Metrics cannot be written; the message names the file and the reason."""


class MetricsWriter(Protocol):
  """The two methods a metrics writer needs; `clu.metric_writers` has them."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

  def flush(self) -> None: ...


class JsonLinesWriter:
  """Appends `{"step": …, "loss": …}` lines to a file.

  A resumed run repeats the steps after its checkpoint; their earlier lines are dropped, so that
  every step stands in the file once. Raises MetricsError where the disk is full or read-only.
  """

  def __init__(self, path: str | os.PathLike, first_step: int = 0):
    self._path = path
    kept = []
    if os.path.exists(path):
      with open(path, encoding='utf-8') as file:
        for line in file:
          if line.endswith('\n') and json.loads(line)['step'] <= first_step:
            kept.append(line)
    with self._clear_errors():
      write_atomically(path, ''.join(kept))
      self._file = open(path, 'a', encoding='utf-8')  # noqa: SIM115, closed by close()

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    values = {name: float(value) for name, value in scalars.items()}
    self._file.write(json.dumps({'step': int(step), **values}) + '\n')

  def flush(self) -> None:
    with self._clear_errors():
      self._file.flush()

  def close(self) -> None:
    self._file.close()

  @contextlib.contextmanager
  def _clear_errors(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise MetricsError(f'{self._path}: cannot be written ({error.strerror}); make it possible, '
                         'and the same command goes on from its newest checkpoint') from error
