"""Scripted policies for collecting data in any domain: expert, noisy expert, explorer, random.

A policy object plays one episode; what it does is a function of the task and a seed. What a domain
knows about its own actions stands in an `Actions` of its task families' module.
"""

import random
import re
from collections.abc import Callable, Sequence

from aw_jax.environments import registry
from aw_jax.trajectories import SUBMIT, Task, Turn

EXPLORER_TURNS = 8
Commands = tuple[tuple[int, Callable[[], str]], ...]  # (weight, maker of an action)


def draw(commands: Commands, rng: random.Random) -> str:
  """An action of a maker that is drawn by its weight."""
  weights, makers = zip(*commands, strict=True)
  return rng.choices(makers, weights)[0]()


class Actions:
  """How to explore and to err in a domain; this one knows nothing but the domain's own plans.

  A module of task families may hold another as `ACTIONS`.
  """

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """An action that looks around. Here: the first step of another task's plan."""
    return self._borrowed(task, rng)[0]

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Any sensible action in this state. Here: a step of another task's plan."""
    return rng.choice(self._borrowed(task, rng))

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """An action that is likely to change the state. Here: any sensible one."""
    return self.wander(task, state, rng)

  def inspect(self, task: Task, state: str | None, rng: random.Random) -> str:
    """An action that shows what earlier ones changed. Here: one that looks around."""
    return self.explore(task, state, rng)

  def survey(self, task: Task, state: str | None, rng: random.Random) -> str:
    """An action that shows much of the state at once. Here: one that looks around."""
    return self.explore(task, state, rng)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any action at all."""
    return self.wander(task, None, rng)

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` with a wrong argument. Here: one of its words is another task's."""
    words = re.findall(r'\w+', action)
    others = re.findall(r'\w+', rng.choice(self._borrowed(task, rng)))
    if not words or not others:
      return self.typo(action, rng)
    return action.replace(rng.choice(words), rng.choice(others), 1)

  def typo(self, action: str, rng: random.Random) -> str:
    """`action` with two letters exchanged or one left out, in one word."""
    words = list(re.finditer(r'[A-Za-z]{2,}', action))
    if not words:
      return action
    match = words[0] if rng.random() < 0.3 else rng.choice(words)
    word = match[0]
    place = rng.randrange(len(word) - 1)
    swapped = word[:place] + word[place + 1] + word[place] + word[place + 2:]
    wrong = swapped if rng.random() < 0.5 else word[:place] + word[place + 1:]
    return action[:match.start()] + wrong + action[match.end():]

  def _borrowed(self, task: Task, rng: random.Random) -> list[str]:
    other = registry.task_at(task.domain, task.split, rng.randrange(1 << 20))  # its own split
    return registry.expert_plan(other)[:-1] or [task.instruction]


class Expert:
  """Plays the task's plan."""

  name = 'expert'

  def __init__(self, task: Task, seed: int = 0):
    del seed
    self._plan = registry.expert_plan(task)

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """The next step of the plan."""
    return self._plan[min(len(turns), len(self._plan) - 1)]


class NoisyExpert:
  """Plays the plan, but explores, errs, skips, repeats and gives up early now and then.

  `noise` is the chance of something else than the plan at each step.
  """

  name = 'noisy_expert'

  def __init__(self, task: Task, seed: int = 0, noise: float = 0.34):
    self._plan = registry.expert_plan(task)
    self._actions = registry.actions(task.domain)
    self._seed, self._noise = seed, noise
    self._place = 0  # in the plan

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """The next step of the plan, or a deviation from it."""
    rng = random.Random(f'{task.id}/{self._seed}/{len(turns)}')
    planned = self._plan[self._place]
    state = turns[-1].state if turns else task.initial_state
    submits = planned.startswith(SUBMIT)
    if rng.random() >= self._noise:
      self._place += not submits
      return planned
    kind = rng.choices(('explore', 'typo', 'mistake', 'skip', 'repeat', 'stop'),
                       (24, 18, 34, 12, 6, 6))[0]
    if kind == 'explore':
      return self._actions.explore(task, state, rng)
    if kind == 'repeat' and turns:
      return turns[-1].action
    if submits or kind == 'stop':
      wrong = kind in ('mistake', 'stop') and len(planned) > len(SUBMIT)
      return SUBMIT + rng.choice(_words(turns)) if wrong else self._plan[-1] if submits else SUBMIT
    if kind == 'skip':
      self._place += 1
      return self._plan[self._place]
    if kind == 'typo':
      self._place += rng.random() < 0.5  # else it is noticed, and done again
      return self._actions.typo(planned, rng)
    if kind == 'mistake':
      self._place += rng.random() < 0.85
      return self._actions.mistake(planned, task, state, rng)
    self._place += 1
    return planned


class Explorer:
  """Does anything sensible for EXPLORER_TURNS turns: dense data for the world model."""

  name = 'explorer'

  def __init__(self, task: Task, seed: int = 0):
    self._actions = registry.actions(task.domain)
    self._seed = seed

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """A sensible action in the present state, regardless of the task."""
    if len(turns) >= min(EXPLORER_TURNS, task.max_turns):
      return SUBMIT
    rng = random.Random(f'{task.id}/{self._seed}/{len(turns)}')
    state = turns[-1].state if turns else task.initial_state
    return self._actions.wander(task, state, rng)


class Tracker:
  """Changes the state and looks at what it changed, for EXPLORER_TURNS turns; surveys it at last.

  An explorer whose observations depend on its own actions far more often: the turns from which
  keeping track of the state is learned.
  """

  name = 'tracker'

  def __init__(self, task: Task, seed: int = 0):
    self._actions = registry.actions(task.domain)
    self._seed = seed

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """A change, or a look at what changed."""
    last = min(EXPLORER_TURNS, task.max_turns)
    if len(turns) >= last:
      return SUBMIT
    rng = random.Random(f'{task.id}/{self._seed}/{len(turns)}')
    state = turns[-1].state if turns else task.initial_state
    if len(turns) + 1 == last:
      return self._actions.survey(task, state, rng)
    looks = turns and rng.random() < 0.5
    return (self._actions.inspect if looks else self._actions.change)(task, state, rng)


class RandomAgent:
  """Draws actions uniformly and submits after a random number of them: the floor of every score."""

  name = 'random'

  def __init__(self, task: Task, seed: int = 0):
    self._actions = registry.actions(task.domain)
    self._seed = seed

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """Any action, or a submission with a random word of what was seen."""
    rng = random.Random(f'{task.id}/{self._seed}/{len(turns)}')
    if turns and rng.random() < 0.15:
      return SUBMIT + rng.choice(_words(turns))
    return self._actions.anything(task, rng)


POLICIES = {policy.name: policy for policy in (
    Expert, NoisyExpert, Explorer, Tracker, RandomAgent)}


def make_policy(name: str, task: Task, seed: int = 0):
  """A policy for one episode. Raises ValueError for an unknown name."""
  if name not in POLICIES:
    raise ValueError(f'unknown policy {name!r}; known are {", ".join(POLICIES)}')
  return POLICIES[name](task, seed)


def _words(turns: Sequence[Turn]) -> list[str]:
  """Words that were seen, to guess an answer from; never empty."""
  return re.findall(r'\w+', ' '.join(turn.observation for turn in turns[-3:])) or ['1']
