"""Training on packed rows from disk, as every stage does it, timed.

Records are those of `data_pipelines`; a machine that has none writes synthetic ones, without
TensorFlow.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from aw_jax.training import data
from data_pipelines import packing, records
from experiments.benchmarks.markov import MarkovSource


class VocabularyError(ValueError):
  """Records hold ids that the model does not have."""


@dataclasses.dataclass(frozen=True)
class Steps:
  """Some train steps: how long they took, how many tokens they saw, and the FLOPs of the model."""

  seconds: float
  tokens: int
  flops: int


def write_synthetic(path: str | os.PathLike, rows: int, length: int, vocab_size: int) -> None:
  """Writes packed rows of one segment each, of a `MarkovSource`."""
  tokens = MarkovSource(vocab_size).sample(rows, length, seed=0)
  packed = packing.pack([packing.example(row, np.ones(length)) for row in tokens], length)
  records.write_records(
    path, packing.rows_of(packed), {'seq_len': length, 'tokenizer': 'synthetic'})


def row_length(path: str | os.PathLike) -> int:
  """Tokens of a row. Raises RecordsError where the file is missing."""
  return records.read_sidecar(path)['seq_len']


def time_steps(
    update: Callable[[data.Batch], Any], flops: Callable[[data.Batch], int],
    path: str | os.PathLike, vocab_size: int, *, batch: int, steps: int, repetitions: int
) -> list[Steps]:
  """Measurements of training, after one that does not count.

  Args:
    update: starts a train step on packed fields [batch, L] and returns its loss.
    flops: of the model for such a batch.
    path: a record file of packed rows.
    vocab_size: ids of the model.
    batch: rows of a batch.
    steps: of one measurement, which ends when the last loss is known.
    repetitions: measurements.
  Raises:
    RecordsError: where the file is missing or empty.
    VocabularyError: where it holds other ids.
  """
  batches, found = data.batches(path, batch, seed=0), []
  for i in range(repetitions + 1):
    start, tokens, work = time.perf_counter(), 0, 0
    for step in range(i * steps, (i + 1) * steps):
      rows = batches(step)
      if rows['tokens'].max() >= vocab_size:
        raise VocabularyError(
          f'{path}: holds token {rows["tokens"].max()}, but the model has {vocab_size} ids; '
          'set --vocab_size')
      loss = update(rows)
      tokens, work = tokens + np.count_nonzero(rows['segment_ids']), work + flops(rows)
    float(loss)
    if i:
      found.append(Steps(time.perf_counter() - start, int(tokens), work))
  return found
