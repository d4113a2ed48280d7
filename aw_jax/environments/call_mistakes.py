"""Mistakes in tool calls, alike in all domains whose actions are calls as JSON."""

import json
import random

from aw_jax.environments.experts import Actions
from aw_jax.environments.mcp import call_text
from aw_jax.trajectories import Task

_DRAWS = 60  # of other calls, in search of another value for an argument
_FIXED = ('repo_path',)  # arguments that are the same in every call


class CallActions(Actions):
  """Mistakes of those who call tools; a subclass says which calls there are, by `wander`."""

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` with an argument of another call, or none, or with another tool."""
    try:
      call = json.loads(action)
    except ValueError:
      return self.explore(task, state, rng)
    name, arguments = call['name'], call['arguments']
    other = json.loads(self.wander(task, state, rng))
    keys = [key for key in arguments if key not in _FIXED]
    kind = rng.choices(('argument', 'missing', 'tool'), (80, 10, 10))[0]
    if kind == 'tool' or not keys:
      return call_text(other['name'], **arguments)
    key = rng.choice(keys)
    if kind == 'missing':
      del arguments[key]
    else:
      arguments[key] = self._another(key, arguments[key], task, state, rng)
    return call_text(name, **arguments)

  def typo(self, action: str, rng: random.Random) -> str:
    """`action` with two letters exchanged, one left out, or cut off."""
    return action[:-rng.randint(1, 2)] if rng.random() < 0.25 else super().typo(action, rng)

  def _another(self, key: str, value, task: Task, state: str | None, rng: random.Random):
    """Another value of an argument, as other calls would have it."""
    for _ in range(_DRAWS):
      found = json.loads(self.wander(task, state, rng))['arguments'].get(key, value)
      if found != value:
        return found
    return value + 1 if isinstance(value, int) else value
