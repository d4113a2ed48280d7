"""Runs one stage: mesh, optimiser, state, checkpoints and metrics around the one loop."""

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from aw_jax import partitioning
from aw_jax.models import cudnn
from aw_jax.models.attention import kind_for_rows
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
    init_params: parameters to start from, which are taken over: the first step donates them. Fresh
      ones where None.
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
  mesh = partitioning.make_mesh(**config.mesh)
  optimizer = make_optimizer(
      ml_collections.ConfigDict({**config.optimizer, 'total_steps': config.steps}))
  with contextlib.ExitStack() as opened:
    checkpointer = opened.enter_context(
        contextlib.closing(Checkpointer(directory, model, tokenizer)))
    if checkpointer.latest_step() == config.steps:
      return load_params(directory, mesh)[0]
    opened.enter_context(jax.set_mesh(mesh))
    state, shardings = init_state(model, optimizer, mesh, seed)
    if init_params is not None:
      # Taken over: a copy would stay in memory beside the state as long as the stage runs.
      state = state.replace(params=jax.device_put(init_params, shardings.params, donate=True))
    step = make_train_step(model, objective, optimizer, mesh, shardings)

    def writers(first_step):
      if jax.process_index():
        return []
      path = os.path.join(directory, 'metrics.jsonl')
      lines = opened.enter_context(contextlib.closing(JsonLinesWriter(path, first_step)))
      return [lines, *extra_writers(directory)]

    batch_at = _on_mesh(name, _with_few_segments(name, batch_at, model), mesh)
    loop = LoopConfig(config.steps, config.log_every, config.checkpoint_every, name, updates)
    return train(loop, state, shardings, step, batch_at, checkpointer, writers).params


def require_even_shares(name: str, rows: int, mesh: Mesh) -> None:
  """Raises StageConfigError where a stage's batch of `rows` cannot be split over the devices."""
  devices = math.prod(mesh.shape[axis] for axis in partitioning.ROW_AXES)
  if rows % devices:
    sizes = ' times '.join(f'mesh.{axis}' for axis in partitioning.ROW_AXES)
    raise StageConfigError(
        f'{name}: a batch of {rows} rows cannot be split over {devices} devices ({sizes}); change '
        'the one or the other (on a CPU, JAX_NUM_CPU_DEVICES sets the second)')


def row_share(mesh: Mesh) -> tuple[int, int]:
  """Which part of a batch's rows the devices of this process hold: (index, number of parts).

  Processes that a mesh axis other than those of the rows spans hold the same rows.
  """
  places = partitioning.batch_sharding(mesh).devices_indices_map((mesh.size, mesh.size))
  rows = {}
  for device, (index, _) in places.items():
    rows.setdefault(device.process_index, set()).update(range(*index.indices(mesh.size)))
  parts = sorted(set(map(frozenset, rows.values())), key=min)
  if sum(map(len, parts)) != mesh.size:
    raise StageConfigError(
        f'mesh {dict(mesh.shape)}: processes would share some rows of a batch and not others; let '
        'the sizes of the first axes be multiples of the number of processes')
  return parts.index(rows[jax.process_index()]), len(parts)


def _with_few_segments(name: str, batch_at, model: ModelConfig):
  """`batch_at`, which refuses packed rows of more segments than the model's attention takes."""
  def checked(step, state):
    batch, metrics = batch_at(step, state)
    segments = batch.get('segment_ids')
    if segments is not None and kind_for_rows(
        model.attention_kind, segments.shape[1], model.head_dim, model.dtype) == 'cudnn':
      try:
        cudnn.require_few_segments(segments)
      except ValueError as error:
        raise StageConfigError(f'{name}: batch {step}: {error}') from None
    return batch, metrics

  return checked


def _on_mesh(name: str, batch_at, mesh: Mesh):
  """`batch_at`, whose batch has this process's rows; refuses those that devices cannot split.

  Of several processes' rows one batch is made. Those of a single one, jit places.
  """
  _, parts = row_share(mesh)
  sharding = partitioning.batch_sharding(mesh)

  def assemble(x):
    return jax.make_array_from_process_local_data(sharding, x, (len(x) * parts, *x.shape[1:]))

  def placed(step: int, state: TrainState):
    batch, metrics = batch_at(step, state)
    require_even_shares(name, len(next(iter(batch.values()))) * parts, mesh)
    return (jax.tree.map(assemble, batch) if jax.process_count() > 1 else batch), metrics

  return placed


def packed_batches(rows: Mapping[str, int], seq_len: int, seed: int, tokenizer: Tokenizer,
                   mesh: Mesh) -> Callable[[int, TrainState], tuple[Any, dict[str, float]]]:
  """Batches of packed rows for CPT, SFT and imitation: a function of (seed, step).

  Args:
    rows: rows of a batch from each record file, by its path.
    seq_len: tokens of a row.
    seed: of the order.
    tokenizer: the vocabulary that the records must be made with.
    mesh: of the stage; each process reads the rows of its own devices.
  """
  sources = [
      data.batches(path, count, seed, *row_share(mesh), tokenizer=tokenizer.fingerprint,
                   seq_len=seq_len)
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
