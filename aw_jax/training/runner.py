"""Runs one stage: mesh, optimiser, state, checkpoints and metrics around the one loop."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import data
from aw_jax.training.checkpoints import Checkpointer, load_params
from aw_jax.training.loop import LoopConfig, train
from aw_jax.training.metrics import JsonLinesWriter, MetricsWriter
from aw_jax.training.optimizer import make_optimizer
from aw_jax.training.state import TrainState, init_state, make_train_step

ExtraWriters = Callable[[str], Sequence[MetricsWriter]]


class StageConfigError(ValueError):
  """A stage's config cannot work; the message names the field and what it allows."""


def no_writers(directory: str) -> Sequence[MetricsWriter]:
  """Metrics go to `metrics.jsonl` alone."""
  del directory
  return ()


def run_stage(
    name: str, config: ml_collections.ConfigDict, model: ModelConfig, tokenizer: Tokenizer,
    objective: Callable, batch_at: Callable[[int, TrainState], tuple[Any, dict[str, float]]],
    directory: str, *, init_params: Any = None, seed: int = 0,
    extra_writers: ExtraWriters = no_writers) -> Any:
  """Trains one stage to its end, from where an earlier run of it stopped.

  Args:
    name: of the stage, for the progress bar.
    config: `steps`, `log_every`, `checkpoint_every`, `optimizer`, `mesh`.
    model: the decoder's.
    tokenizer: saved beside the checkpoints.
    objective: `(model, params, batch) -> (loss sum, count, metrics)`.
    batch_at: `(step, state) -> (batch, metrics of the batch)`.
    directory: of the stage's checkpoints and metrics.
    init_params: parameters to start from; fresh ones where None.
    seed: of fresh parameters.
    extra_writers: given the directory, further metrics writers.
  Returns:
    The final parameters.
  Raises:
    StageConfigError: where a checkpoint would fall within the updates of one batch of samples, or
      where a batch's rows cannot be split over the devices.
  """
  updates = config.get('updates_per_batch', 1)
  if config.checkpoint_every % updates:
    raise StageConfigError(
        f'{name}: checkpoint_every = {config.checkpoint_every} is no multiple of updates_per_batch '
        f'= {updates}; a run could not go on from such a checkpoint as if unbroken')
  checkpointer = Checkpointer(directory, model, tokenizer)
  if checkpointer.latest_step() == config.steps:
    checkpointer.close()
    return load_params(directory)[0]
  mesh = partitioning.make_mesh(**config.mesh)
  optimizer = make_optimizer(
      ml_collections.ConfigDict({**config.optimizer, 'total_steps': config.steps}))
  with jax.set_mesh(mesh):
    state, shardings = init_state(model, optimizer, mesh, seed)
    if init_params is not None:
      # Copied, since the first step donates its state: the caller's parameters stay whole.
      state = state.replace(params=jax.device_put(init_params, shardings.params, may_alias=False))
    step = make_train_step(model, objective, optimizer, mesh, shardings)
    metrics = []

    def writers(first_step):
      metrics.append(JsonLinesWriter(os.path.join(directory, 'metrics.jsonl'), first_step))
      return [*metrics, *extra_writers(directory)]

    batch_at = _in_even_shares(name, batch_at, mesh)
    loop = LoopConfig(config.steps, config.log_every, config.checkpoint_every, name)
    state = train(loop, state, shardings, step, batch_at, checkpointer, writers)
    checkpointer.close()
    for writer in metrics:
      writer.close()
  return state.params


def require_even_shares(name: str, rows: int, mesh: Mesh) -> None:
  """Raises StageConfigError where a stage's batch of `rows` cannot be split over the devices."""
  devices = mesh.shape['data'] * mesh.shape['fsdp']
  if rows % devices:
    raise StageConfigError(
        f'{name}: a batch of {rows} rows cannot be split over {devices} devices (mesh.data times '
        'mesh.fsdp); change the one or the other (on a CPU, JAX_NUM_CPU_DEVICES sets the second)')


def _in_even_shares(name: str, batch_at, mesh: Mesh):
  """`batch_at`, refusing a batch whose rows cannot be split over the devices."""

  def checked(step: int, state: TrainState):
    batch, metrics = batch_at(step, state)
    require_even_shares(name, len(next(iter(batch.values()))), mesh)
    return batch, metrics

  return checked


def packed_batches(rows: Mapping[str, int], seq_len: int, seed: int, tokenizer: Tokenizer
                   ) -> Callable[[int, TrainState], tuple[Any, dict[str, float]]]:
  """Batches of packed rows for CPT, SFT and imitation: a function of (seed, step).

  Args:
    rows: rows of a batch from each record file, by its path.
    seq_len: tokens of a row.
    seed: of the order.
    tokenizer: the vocabulary that the records must be made with.
  """
  sources = [
      data.batches(path, count, seed, jax.process_index(), jax.process_count(),
                   tokenizer=tokenizer.fingerprint, seq_len=seq_len)
      for path, count in rows.items()]

  def batch_at(step: int, state: TrainState):
    del state
    parts = [source(step) for source in sources]
    batch = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return batch, {'padding': float((batch['segment_ids'] == 0).mean())}

  return batch_at


def read_metrics(directory: str) -> list[dict[str, float]]:
  """The lines of a stage's `metrics.jsonl`."""
  path = os.path.join(directory, 'metrics.jsonl')
  if not os.path.exists(path):
    return []
  with open(path, encoding='utf-8') as file:
    return [json.loads(line) for line in file if line.endswith('\n')]
