"""A program of ours in a sandbox that many share: started when asked, ended when it fails."""

import abc
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from aw_jax.environments import asking
from aw_jax.environments.base import BrokenEnvironmentError


class Limits(Protocol):
  """How long a worker may take: wall-clock seconds to start something, and for a call else."""

  start_seconds: float
  call_seconds: float


class Worker(abc.ABC):
  """One such program. Safe to use from several threads.

  Attributes:
    starts: how often it was started; a session begun under another number is gone.
  """

  def __init__(self, title: str, holds: str, slow: Sequence[str], limits: Limits):
    """Starts nothing yet.

    Args:
      title: what messages call it: 'express game process'.
      holds: what is lost with it: 'its games'.
      slow: operations that have `limits.start_seconds`.
      limits: see there.
    """
    self._title, self._holds, self._slow, self._limits = title, holds, slow, limits
    self._lock = threading.Lock()
    self._process: asking.Process | None = None
    self.starts = 0

  @abc.abstractmethod
  def command(self) -> list[str]:
    """Its command line. Raises MissingProgramError."""

  def request(self, *, since: int | None = None, **request: Any) -> dict[str, Any]:
    """Asks the program, which is started where it does not run.

    Args:
      since: the value of `starts` when the session that this is about began; where the program has
        ended or was started again since, the session is lost.
      **request: the operation 'op' and its arguments.
    Raises:
      MissingProgramError: naming the line that installs what is missing.
      BrokenEnvironmentError: where the program died, did not answer in time, or failed.
    """
    with self._lock:
      if since is not None and (self._process is None or since != self.starts):
        raise BrokenEnvironmentError(f'the {self._title} has ended, and {self._holds}')
      if self._process is None:
        self._process = asking.Process(self._title, self.command())
        self.starts += 1
      slow = request['op'] in self._slow
      seconds = self._limits.start_seconds if slow else self._limits.call_seconds
      try:
        return self._process.ask(seconds, **request)
      except BrokenEnvironmentError:
        self._process = None
        raise

  def close(self) -> None:
    """Ends the program; a later request starts another."""
    with self._lock:
      if self._process is not None:
        self._process.stop()
        self._process = None
