"""Agent training: group-relative policy gradient in any world, from an imitation start."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from aw_jax.agents.worlds import World
from aw_jax.training.objectives import informative
from aw_jax.training.reinforcement import OnPolicyBatches, compared
from aw_jax.trajectories import Task


@dataclasses.dataclass(kw_only=True)
class EpisodeBatches(OnPolicyBatches):
  """Batches of `objectives.episode_policy`: episodes played by the parameters being trained.

  Attributes:
    world: where episodes are played.
    tasks: `(index) -> tasks` of a batch of episodes.
    group: episodes of each task.
    temperature: of the agent.
    seed: of the sampling noise.
  """

  world: World
  tasks: Callable[[int], Sequence[Task]]
  group: int
  temperature: float
  updates_per_batch: int
  seed: int

  def sample(self, index, params):
    tasks = self.tasks(index)
    seed = int(np.random.SeedSequence((self.seed, index)).generate_state(1)[0] >> 1)
    episodes = self.world.play(params, tasks, self.group, seed, self.temperature)
    rewards = episodes.successes().reshape(-1, self.group)
    batch = {
        'tokens': episodes.tokens, 'speaker': episodes.speaker,
        'sampled_logprobs': episodes.logprobs,
        **{name: values.reshape(-1) for name, values in compared(rewards).items()},
    }
    metrics = {
        'reward': float(rewards.mean()),
        'zero_variance_groups': float(1 - informative(rewards).mean()),
        'turns': float(np.mean([len(t.turns) for t in episodes.trajectories])),
        'submitted': float(np.mean([t.submission is not None for t in episodes.trajectories])),
    }
    return batch, metrics
