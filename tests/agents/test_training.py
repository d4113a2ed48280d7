"""Batches of episodes for the policy gradient."""

import numpy as np
import pytest

from aw_jax.agents.training import EpisodeBatches
from aw_jax.agents.worlds import Episodes
from aw_jax.training.state import TrainState
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier

SLOTS = 6


def make_task(number):
  return Task(
    id=f'terminal/say/{number}', domain='terminal', family='say', split='train', seed=number,
    instruction='', initial_state='', setup={}, verifier=Verifier('answer', 'x'), max_turns=2)


class ScriptedWorld:
  """Success by a table; None is a broken episode."""

  def __init__(self, *successes):
    self.successes, self.asked = successes, []

  def play(self, params, tasks, group, seed, temperature=1.0):
    self.asked.append((params, [task.seed for task in tasks], group, seed, temperature))
    rows = len(tasks) * group
    trajectories = [
      Trajectory(tasks[row // group], 'agent', (Turn('ls', ''),) * (row % 2),
                 'x' if row % 2 else None, success=self.successes[row]) for row in range(rows)]
    tokens = np.arange(rows * SLOTS, dtype=np.int32).reshape(rows, SLOTS)
    return Episodes(trajectories, tokens, tokens % 2 == 0, -tokens.astype(np.float32))


def batches(world, seed=0, updates=1):
  return EpisodeBatches(
    world=world, tasks=lambda index: [make_task(2 * index), make_task(2 * index + 1)], group=4,
    temperature=0.8, updates_per_batch=updates, seed=seed)


def state(params='params'):
  return TrainState(np.int32(0), params, ())


SUCCESSES = (True, False, False, None, True, True, True, True)


def test_a_batch_is_what_was_played():
  world = ScriptedWorld(*SUCCESSES)
  batch, metrics = batches(world)(0, state())
  (params, seeds, group, _, temperature), = world.asked
  assert (params, seeds, group, temperature) == ('params', [0, 1], 4, 0.8)
  np.testing.assert_array_equal(batch['tokens'], np.arange(48).reshape(8, 6))
  np.testing.assert_array_equal(batch['speaker'], batch['tokens'] % 2 == 0)
  np.testing.assert_array_equal(batch['sampled_logprobs'], -batch['tokens'])
  # Rewards 1, 0, 0, 0 (a broken episode is a failure): mean 1/4, deviation sqrt(3)/4.
  root = np.sqrt(3)
  np.testing.assert_allclose(
    batch['advantages'], [root, -1 / root, -1 / root, -1 / root, 0, 0, 0, 0], rtol=1e-4, atol=1e-6)
  assert metrics == {'reward': pytest.approx(5 / 8), 'zero_variance_groups': 0.5, 'turns': 0.5,
                     'submitted': 0.5}


def test_updates_share_a_batch_and_the_next_is_another():
  world = ScriptedWorld(*SUCCESSES)
  source = batches(world, updates=4)
  shares = [source(step, state('first' if step == 0 else 'moved'))[0] for step in range(4)]
  for step, share in enumerate(shares):
    np.testing.assert_array_equal(share['tokens'], np.arange(48).reshape(8, 6)[step::4])
  source(4, state('second'))
  assert [(params, tasks) for params, tasks, *_ in world.asked] == [
    ('first', [0, 1]), ('second', [2, 3])]


def test_noise_is_a_function_of_seed_and_step():
  def seeds(seed):
    world = ScriptedWorld(*SUCCESSES)
    for step in range(4):
      batches(world, seed)(step, state())  # a new one each time, as after a kill
    return [asked[3] for asked in world.asked]

  assert seeds(0) == seeds(0)
  assert len({*seeds(0), *seeds(1)}) == 8
