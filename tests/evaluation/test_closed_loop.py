"""The closed loop's bookkeeping, and replaying actions in another world."""

import math

import pytest

from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.evaluation.closed_loop import closed_loop_summary, replay
from aw_jax.trajectories import Task, Verifier


def test_summary():
  real, imagined, w2r = [1, 1, 0, 0, 1], [1, 1, 1, 1, 1], [1, 0, 0, 0, 1]
  found = closed_loop_summary(real, imagined, w2r)
  assert found['real_success'].mean == pytest.approx(0.6)
  assert found['imagined_success'].mean == 1 and found['imagined_success'].low < 1
  assert found['w2r'].mean == pytest.approx(0.4)
  assert found['consistency_ratio'].mean == pytest.approx(2 / 3)
  assert found['exploitation_gap'].mean == pytest.approx(0.4)
  for interval in found.values():
    assert interval.low <= interval.mean <= interval.high and interval.n == 5


def test_summary_where_nothing_succeeds_in_the_real_world():
  found = closed_loop_summary([0, 0], [1, 0], [0, 0])
  assert math.isnan(found['consistency_ratio'].mean)
  assert found['exploitation_gap'].mean == 0.5


def test_episodes_of_one_task_are_drawn_together():
  real = [1, 1, 1, 0, 0, 0] * 5
  tasks = [str(index // 3) for index in range(30)]
  alone, together = closed_loop_summary(real, real, real), closed_loop_summary(
    real, real, real, tasks)
  width = lambda found: found['w2r'].high - found['w2r'].low
  assert width(together) > 1.3 * width(alone)
  assert together['consistency_ratio'][:3] == (1, 1, 1)


def test_summary_of_different_tasks():
  with pytest.raises(ValueError, match='2 real, 1 imagined and 2 replayed'):
    closed_loop_summary([1, 0], [1], [1, 0])


class Counter(Environment):
  """Counts its actions; `break` breaks it."""

  domain = 'terminal'

  def reset(self, task, seed=0):
    self.count = 0
    return '~$'

  def step(self, action):
    if action == 'break':
      raise BrokenEnvironmentError('broken')
    self.count += 1
    return Step(f'{self.count}\n~$')

  def verify(self, command):
    return f'{self.count}\n~$'

  def close(self):
    pass


def task(kind, expected):
  return Task('terminal/a/1', 'terminal', 'a', 'test', 1, 'Count.', '', {},
              Verifier(kind, expected, 'count' if kind == 'command' else ''), 3)


def test_replay_does_the_actions_and_verifies():
  trajectory = replay(Counter(), task('command', '2\n~$'), ['a', 'b'], '')
  assert [turn.action for turn in trajectory.turns] == ['a', 'b']
  assert trajectory.success and trajectory.policy == 'replay' and trajectory.submission == ''


def test_replay_submits_the_answer():
  assert replay(Counter(), task('answer', '42'), ['a'], '42').success
  assert not replay(Counter(), task('answer', '42'), ['a'], '41').success


def test_replay_of_an_episode_without_submission():
  trajectory = replay(Counter(), task('answer', ''), ['a'], None)
  assert trajectory.submission is None and trajectory.success is False
  assert replay(Counter(), task('command', '3\n~$'), ['a', 'b', 'c'], None).success


def test_replay_in_a_world_that_breaks():
  trajectory = replay(Counter(), task('answer', ''), ['a', 'break'], None)
  assert trajectory.error == 'broken' and trajectory.success is None
  assert len(trajectory.turns) == 1
