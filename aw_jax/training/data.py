"""What the trainer reads: batches from ArrayRecord through Grain, a function of (seed, step).

Nothing is carried from batch to batch, so a run resumes at any step, on any number of hosts, with
the batches that the unbroken run would have seen (DESIGN.md section 3).
"""

import os
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from data_pipelines import packing, records
from data_pipelines.records import RecordsError

Batch = dict[str, np.ndarray] | list[dict[str, Any]]


class Batches:
  """Batches of a record file: `batches(step)` is the batch of that step, the same every time.

  Over an epoch every record is seen once, in an order of its own. Hosts read disjoint, contiguous
  shares of the same global batch.
  """

  def __init__(
      self, path: str | os.PathLike, batch_size: int, seed: int, process_index: int = 0,
      process_count: int = 1, keep: Callable[[dict[str, Any]], bool] | None = None):
    """Opens `path`.

    Args:
      path: a record file with its sidecar.
      batch_size: records of the global batch, divisible by `process_count`.
      seed: of the order.
      process_index: this host.
      process_count: hosts that share a batch.
      keep: leaves out the records for which it is False; reads the whole file once.
    Raises:
      RecordsError: where the file is missing or empty, or the batch cannot be shared out.
    """
    self.sidecar = records.read_sidecar(path)
    kept = range(self.sidecar['records'])
    if keep is not None:
      kept = [i for i, record in enumerate(records.read_records(path)) if keep(record)]
    self.num_records = len(kept)
    if not self.num_records:
      raise RecordsError(f'{path}: no records; prepare it from more trajectories')
    if batch_size % process_count:
      raise RecordsError(
          f'a batch of {batch_size} cannot be shared by {process_count} hosts; '
          'choose a multiple of their number')
    self.batch_size = batch_size
    self._share = batch_size // process_count
    self._offset = process_index * self._share
    # ArrayRecordDataSource imports no TensorFlow; grain.tfds and array_record's beam part would.
    source = grain.sources.ArrayRecordDataSource(os.fspath(path))
    self._records = grain.MapDataset.source(kept).seed(seed).shuffle().repeat().map(
        lambda index: records.decode(source[index]))

  def __len__(self) -> int:
    """Batches that hold every record about once."""
    return max(self.num_records // self.batch_size, 1)

  def __call__(self, step: int) -> Batch:
    """The batch of `step`, from 0: packed fields [batch, seq_len], else a list of records."""
    start = step * self.batch_size + self._offset
    chosen = [self._records[i] for i in range(start, start + self._share)]
    if not set(packing.FIELDS) <= set(chosen[0]):
      return chosen
    return {name: np.stack([record[name] for record in chosen]) for name in packing.FIELDS}


def batches(
    path: str | os.PathLike, batch_size: int, seed: int, process_index: int = 0,
    process_count: int = 1, *, tokenizer: str | None = None, seq_len: int | None = None,
    keep: Callable[[dict[str, Any]], bool] | None = None) -> Batches:
  """Opens a record file for training.

  Args:
    path: see `Batches`, as for `batch_size`, `seed`, `process_index`, `process_count`, `keep`.
    tokenizer: the fingerprint of the model's vocabulary, checked where given.
    seq_len: tokens a row that the model is built for, checked where given.
  Raises:
    RecordsError: where the file is missing or made for another vocabulary or length.
  """
  opened = Batches(path, batch_size, seed, process_index, process_count, keep)
  found = opened.sidecar
  if tokenizer is not None and found['tokenizer'] != tokenizer:
    raise RecordsError(
        f'{path}: made with vocabulary {found["tokenizer"]}, but the model has {tokenizer}; '
        'prepare the records again with --vocabulary of this model')
  if seq_len is not None and found['seq_len'] != seq_len:
    raise RecordsError(
        f'{path}: rows of {found["seq_len"]} tokens, but the config says {seq_len}; '
        f'prepare the records again with --seq_len={seq_len}')
  return opened
