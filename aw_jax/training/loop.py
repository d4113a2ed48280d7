"""The one train loop: CPT, SFT, RL, imitation and agent RL all run through `train`."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import tqdm

from aw_jax.training.checkpoints import Checkpointer
from aw_jax.training.metrics import MetricsWriter
from aw_jax.training.objectives import OF_FIRST_UPDATE
from aw_jax.training.preemption import Preempted, PreemptionNotice
from aw_jax.training.state import TrainState


class DivergedError(RuntimeError):
  """The loss is no number any more; the message names the steps."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """How long, and how often what.

  Attributes:
    total_steps: optimiser steps in all.
    log_every: steps between metrics; reading them waits for the device.
    checkpoint_every: steps between checkpoints; the last step always has one.
    name: what the progress bar says.
    updates_per_batch: steps on one batch of samples; SIGTERM waits for the last of them, since a
      run could not go on from a checkpoint within them as if unbroken. Metrics that are
      `objectives.OF_FIRST_UPDATE` are written at the first of them alone.
  """

  total_steps: int
  log_every: int = 10
  checkpoint_every: int = 200
  name: str = 'train'
  updates_per_batch: int = 1


def train(
    config: LoopConfig, state: TrainState, shardings: TrainState,
    train_step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]],
    batch_at: Callable[[int, TrainState], tuple[Any, dict[str, float]]],
    checkpointer: Checkpointer, writers: Callable[[int], Sequence[MetricsWriter]],
) -> TrainState:
  """Trains from the newest checkpoint, or from `state`, to `config.total_steps`.

  Killed at any moment and called again, it ends with the parameters of an unbroken run, because the
  batch is a function of step and parameters alone.

  Args:
    config: lengths and intervals.
    state: the initial state; its buffers are donated.
    shardings: of the state.
    train_step: from `make_train_step`.
    batch_at: `(step, state) -> (batch, metrics)`; RL samples from `state.params` here.
    checkpointer: where states are kept.
    writers: called with the first step, returns where metrics go.
  Raises:
    DivergedError: where the loss is not finite.
    Preempted: after SIGTERM, once the state is saved.
    CheckpointError: where it could not be saved, now or in the background.
  """
  if checkpointer.latest_step() is not None:
    state = checkpointer.restore(state, shardings)
  first = int(state.step)
  outputs = writers(first)
  last_good = first
  bar = tqdm.trange(first, config.total_steps, initial=first, total=config.total_steps,
                    desc=config.name, mininterval=1.0, disable=jax.process_index() > 0)
  with PreemptionNotice() as notice:
    for step in bar:
      batch, batch_metrics = batch_at(step, state)
      state, metrics = train_step(state, batch)
      done = step + 1
      ends = done == config.total_steps
      preempted = notice.received(done) and (ends or done % config.updates_per_batch == 0)
      logs = done % config.log_every == 0 or ends
      saves = done % config.checkpoint_every == 0 or ends or preempted
      if step % config.updates_per_batch:
        metrics = {name: v for name, v in metrics.items() if name not in OF_FIRST_UPDATE}
      if logs or saves:  # what is saved must be finite too, or a restart would go on from nothing
        scalars = {**batch_metrics, **{k: float(v) for k, v in jax.device_get(metrics).items()}}
        if not math.isfinite(scalars['loss']):
          raise DivergedError(
              f'{config.name}: loss is {scalars["loss"]} at step {done}; it was finite at step '
              f'{last_good}. Lower the learning rate or look at batches {last_good} to {step}')
        last_good = done
      if logs:
        for writer in outputs:
          writer.write_scalars(done, scalars)
          writer.flush()
      if saves:
        checkpointer.save(state)
      if preempted:
        checkpointer.wait()
        raise Preempted(f'{config.name}: ended by SIGTERM, step {done} of {config.total_steps} is '
                        'saved; the same command goes on from there')
  checkpointer.wait()
  return state
