"""Real turns, collected when they are asked for."""

import pytest

from aw_jax.environments import registry
from aw_jax.environments.collect import DEFAULT_POLICIES, Collection, run_numbered_episode
from aw_jax.evaluation.examples import TurnExample, turn_examples

_TURNS, _EPISODES = 40, 60  # of each domain


@pytest.fixture(scope='session')
def real_turns() -> list[TurnExample]:
  """Turns of a few episodes on the terminal and with MCP and search servers; needs bwrap."""
  found = []
  for domain in ('terminal', 'mcp', 'search'):
    collection = Collection(
      domain, _EPISODES, 'train', dict(DEFAULT_POLICIES), 5, _EPISODES, None, False)
    with registry.make_environment(domain) as environment:
      trajectories = [run_numbered_episode(environment, collection, i) for i in range(_EPISODES)]
    turns = turn_examples(trajectories)
    found += turns[::max(1, len(turns) // _TURNS)][:_TURNS]
    found += [turn for turn in turns if turn.runtime_metadata and turn not in found][:10]
  return found
