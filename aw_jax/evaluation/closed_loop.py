"""The closed loop: what success in an imagined world is worth in the real one (PAPER.md section 9).

The same tasks are solved three times by one policy: in the real world, in imagination, and (W2R) by
the actions it took in imagination, replayed in the real world.
"""

import dataclasses
from collections.abc import Sequence

from aw_jax.environments.base import Environment
from aw_jax.environments.episode import run_episode
from aw_jax.evaluation.statistics import (
    RESAMPLES,
    Interval,
    bootstrap_rate,
    paired_difference,
    ratio,
)
from aw_jax.trajectories import SUBMIT, Task, Trajectory, Turn


def closed_loop_summary(
    real: Sequence[float], imagined: Sequence[float], w2r: Sequence[float],
    tasks: Sequence[str] | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
  """The figures of the closed loop, with 95 % intervals that draw whole tasks.

  Args:
    real: 0 or 1 for every episode, its success in the real world.
    imagined: the same episodes' success in imagination, as the world model judged it.
    w2r: success of the imagined actions replayed in the real world.
    tasks: the task of every episode, where a task has several; each its own where None.
    resamples: draws of the bootstrap.
    seed: of the bootstrap.
  Returns:
    'real_success', 'imagined_success', 'w2r', 'consistency_ratio' (W2R / Real, NaN where nothing
    succeeded in the real world), 'exploitation_gap' (imagined - real).
  Raises:
    ValueError: where the three are not as many.
  """
  if not len(real) == len(imagined) == len(w2r):
    raise ValueError(
        f'{len(real)} real, {len(imagined)} imagined and {len(w2r)} replayed episodes: '
        'the three must be of the same tasks')
  options = {'resamples': resamples, 'seed': seed}
  return {
      'real_success': bootstrap_rate(real, tasks, **options),
      'imagined_success': bootstrap_rate(imagined, tasks, **options),
      'w2r': bootstrap_rate(w2r, tasks, **options),
      'consistency_ratio': ratio(w2r, real, tasks, **options),
      'exploitation_gap': paired_difference(imagined, real, tasks, **options),
  }


class ScriptedPolicy:
  """Takes given actions in order, then submits."""

  name = 'replay'

  def __init__(self, actions: Sequence[str], submission: str = ''):
    self._actions = actions
    self._submission = submission

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """The action of this turn."""
    del task, first_observation
    if len(turns) < len(self._actions):
      return self._actions[len(turns)]
    return f'{SUBMIT} {self._submission}'.strip()


def replay(
    environment: Environment, task: Task, actions: Sequence[str], submission: str | None
) -> Trajectory:
  """Does a fixed list of actions in an environment, then submits and verifies.

  Args:
    environment: a world of the task's domain.
    task: the task the actions were meant for.
    actions: what was done, submission left out.
    submission: the answer the episode ended with ('' for a bare submit), or None where it ended
      without: then a task verified by its answer counts as failed.
  """
  trajectory = run_episode(environment, task, ScriptedPolicy(actions, submission or ''))
  if submission is None:
    by_command = task.verifier.kind == 'command'
    success = trajectory.success if by_command or trajectory.error else False
    return dataclasses.replace(trajectory, submission=None, success=success)
  return trajectory
