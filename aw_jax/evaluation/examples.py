"""Turns to predict, made from held-out trajectories (PAPER.md section 6)."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Sequence

from aw_jax.environments import registry
from aw_jax.rewards.content import Reference, split_prompt
from aw_jax.trajectories import Task, Trajectory, what_could_be_seen


@dataclasses.dataclass(frozen=True)
class TurnExample:
  """One turn to predict, and the truth.

  Attributes:
    domain: the environment's domain.
    family: the task's family.
    held_out_family: whether no task of the family was trained on.
    task_id: the task.
    trajectory: number or name of the trajectory, within its domain and file; turns of one are drawn
      together in a bootstrap.
    turn_index: from 1.
    total_turns: of the trajectory.
    history: (action, observation) of the turns before.
    action: the action to answer.
    observation: the true answer.
    runtime_metadata: (start, end) spans of the observation that nobody can predict; None where the
      environment did not say.
    changed_state: whether earlier actions matter to the answer; None where not determined.
    initial_state: the state before the first action, None where it cannot be seen.
    task: what the trajectory was about, for prompts that say more of it; None where not known.
    system: the system prompt, where the turn came with one.
    file: that the turn was read from, where it was.
  """

  domain: str
  family: str
  held_out_family: bool
  task_id: str
  trajectory: int | str
  turn_index: int
  total_turns: int
  history: tuple[tuple[str, str], ...]
  action: str
  observation: str
  runtime_metadata: tuple[tuple[int, int], ...] | None
  changed_state: bool | None
  initial_state: str | None
  # Its setup cannot be hashed.
  task: Task | None = dataclasses.field(default=None, compare=False, repr=False)
  system: str = ''
  file: str = dataclasses.field(default='', compare=False)

  @functools.cached_property
  def reference(self) -> Reference:
    """What the judge compares with."""
    # A prompt tells the state, where it is seen.
    known = what_could_be_seen(self.system or self.initial_state, self.history)
    return Reference(
        self.domain, self.action, self.observation, self.runtime_metadata, known,
        hidden_state=self.initial_state is None)


# Takes turns, returns the text of their observations in order; None where there is none.
Predictor = Callable[[Sequence[TurnExample]], Sequence[str | None]]


def turn_examples(
    trajectories: Iterable[Trajectory], held_out_families: Collection[str] | None = None
    ) -> list[TurnExample]:
  """The turns of trajectories, hidden verifications left out.

  Args:
    trajectories: of any domains.
    held_out_families: families that were not trained on; by the registry where None.
  """
  found = []
  for number, trajectory in enumerate(trajectories):
    task, turns = trajectory.task, trajectory.turns
    held_out = (_held_out(task.domain) if held_out_families is None else held_out_families)
    pairs = [(turn.action, turn.observation) for turn in turns]
    for index, turn in enumerate(turns):
      found.append(TurnExample(
          task.domain, task.family, task.family in held_out, task.id, number, index + 1,
          len(turns), tuple(pairs[:index]), turn.action, turn.observation, turn.runtime_metadata,
          turn.changed_state, task.initial_state, task))
  return found


@functools.cache
def _held_out(domain: str) -> frozenset[str]:
  return frozenset(registry.held_out(domain) if domain in registry.domains() else ())


def has_output(domain: str, observation: str) -> bool:
  """Whether an observation says anything: of a terminal, anything but the prompt."""
  if domain == 'terminal':
    return bool(split_prompt(observation)[0])
  return bool(observation.strip())
