"""The interface of every world, real or imagined (DESIGN.md section 3)."""

import abc
import dataclasses
from typing import Any

from aw_jax.trajectories import Task


class BrokenEnvironmentError(RuntimeError):
  """The environment broke (a crashed worker, a hung program); the episode is marked, not lost."""


class MissingProgramError(RuntimeError):
  """A program or package that an environment needs is missing; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Step:
  """What one action got.

  Attributes:
    observation: the environment's answer.
    done: whether the episode has ended.
    info: 'runtime_metadata' holds (start, end) spans of the observation that nobody can predict.
  """

  observation: str
  done: bool = False
  info: dict[str, Any] = dataclasses.field(default_factory=dict)


class Environment(abc.ABC):
  """A world that answers actions with text. Same task, seed and actions: same observations."""

  domain: str

  @abc.abstractmethod
  def reset(self, task: Task, seed: int = 0) -> str:
    """Builds the task's initial state; returns the first observation, '' where there is none."""

  @abc.abstractmethod
  def step(self, action: str) -> Step:
    """Does one action. A bad action is answered as the real world answers it, never by raising."""

  def snapshot(self) -> str | None:
    """The state as text, in the form of `Task.initial_state`; None where it cannot be seen."""
    return None

  def screen(self) -> Step | None:
    """What is on the screen, where an observation is a whole screen or an error; None elsewhere."""
    return None

  def counterfactual(self, action: str) -> Step | None:
    """What `action` gets on a fresh copy of the initial state; the episode itself is untouched.

    None where the domain cannot tell.
    """
    del action
    return None

  def verify(self, command: str) -> str:
    """The observation of the hidden check after the last turn."""
    return self.step(command).observation

  @abc.abstractmethod
  def close(self) -> None:
    """Frees processes and files; may be called twice."""

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()
