"""Agent training: group-relative policy gradient in any world, from an imitation start."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aw_jax.agents.worlds import World
from aw_jax.training.objectives import group_advantages
from aw_jax.training.state import TrainState
from aw_jax.trajectories import Task


@dataclasses.dataclass
class EpisodeBatches:
  """Batches of `objectives.episode_policy`, played by the parameters being trained.

  The batch of a step is a function of the step and of the parameters at the first step of its
  `updates_per_batch`, so a run resumed at a multiple of that continues bitwise.

  Attributes:
    world: where episodes are played.
    tasks: `(index) -> tasks` of a batch of episodes.
    group: episodes of each task.
    temperature: of the agent.
    updates_per_batch: optimiser steps on one batch of episodes.
    seed: of the sampling noise.
  """

  world: World
  tasks: Callable[[int], Sequence[Task]]
  group: int
  temperature: float
  updates_per_batch: int
  seed: int

  def __post_init__(self):
    self._cached: tuple[int, Any] | None = None

  def __call__(self, step: int, state: TrainState) -> tuple[dict[str, Any], dict[str, float]]:
    """The batch of this step, and its rewards as metrics."""
    index = step // self.updates_per_batch
    if self._cached is None or self._cached[0] != index:
      self._cached = (index, self._play(index, state.params))
    return self._cached[1]

  def _play(self, index: int, params: Any):
    tasks = self.tasks(index)
    seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0] >> 1)
    episodes = self.world.play(params, tasks, self.group, seed, self.temperature)
    rewards = episodes.successes().reshape(-1, self.group)
    batch = {
        'tokens': episodes.tokens, 'speaker': episodes.speaker,
        'sampled_logprobs': episodes.logprobs,
        'advantages': np.asarray(group_advantages(rewards)).reshape(-1),
    }
    metrics = {
        'reward': float(rewards.mean()),
        'zero_variance_groups': float((rewards.std(axis=1) < 1e-6).mean()),
        'turns': float(np.mean([len(t.turns) for t in episodes.trajectories])),
        'submitted': float(np.mean([t.submission is not None for t in episodes.trajectories])),
    }
    return batch, metrics
