"""Imagined episodes, replayed in the real world (W2R)."""

import dataclasses

import pytest

from aw_jax.environments import registry
from aw_jax.trajectories import Trajectory, Turn
from experiments import agent_stages


def solved_in_imagination():
  """A task verified by command, and its expert's episode as a world model might have told it."""
  task = next(t for t in registry.tasks('terminal', 'test', 40) if t.verifier.kind == 'command')
  turns = tuple(Turn(action, '~$') for action in registry.expert_plan(task)[:-1])
  return Trajectory(task, 'agent', turns, '', Turn(task.verifier.command, 'as imagined'), False)


@pytest.mark.requires('bwrap')
def test_what_was_done_decides_and_not_what_was_imagined():
  episode = solved_in_imagination()
  unanswered = dataclasses.replace(
    episode, verification=None, submission=None, success=None, error='no answer')
  no_action = dataclasses.replace(episode, verification=None, submission=None)
  idle = dataclasses.replace(episode, turns=())
  replayed = agent_stages.replay_all([episode, unanswered, no_action, idle])
  assert [t.success for t in replayed] == [True, True, False, False]
  assert not any(t.error for t in replayed)
