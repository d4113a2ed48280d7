"""A program of ours in a sandbox that answers requests: started when asked, ended when it fails.

The program runs answering.py: requests and answers are JSON with a length of four bytes before it,
on stdin and stdout. What its sandbox holds is said by `command`.
"""

import abc
import json
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

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
    self._process: subprocess.Popen | None = None
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
        self._start()
      slow = request['op'] in self._slow
      seconds = self._limits.start_seconds if slow else self._limits.call_seconds
      data = json.dumps(request).encode()
      try:
        self._process.stdin.write(len(data).to_bytes(4, 'big') + data)
        self._process.stdin.flush()
        deadline = time.monotonic() + seconds
        size = int.from_bytes(self._read(4, deadline), 'big')
        answer = json.loads(self._read(size, deadline))
      except TimeoutError as error:
        raise self._broken('did not answer in time', '') from error
      except (OSError, ValueError) as error:
        raise self._broken('ended', str(error)) from error
      if 'error' in answer:
        raise self._broken('failed', answer['error'])
      return answer

  def close(self) -> None:
    """Ends the program; a later request starts another."""
    with self._lock:
      self._stop()

  def _start(self) -> None:
    command = self.command()
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    self._process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd='/',
        env={})
    self.starts += 1

  def _stop(self) -> None:
    if self._process is not None:
      self._process.kill()  # bwrap's --die-with-parent takes the rest down
      self._process.communicate()
      self._process = None
      self._errors.close()

  def _read(self, size: int, deadline: float) -> bytes:
    descriptor = self._process.stdout.fileno()
    data = b''
    while len(data) < size:
      if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        raise TimeoutError
      piece = os.read(descriptor, size - len(data))
      if not piece:
        raise OSError('no answer')
      data += piece
    return data

  def _broken(self, what: str, reason: str) -> BrokenEnvironmentError:
    self._process.kill()
    self._process.wait()
    self._errors.seek(0)
    said = self._errors.read()[-4000:].decode('utf-8', 'replace').strip().split('\n')[-1]
    self._stop()
    if what == 'ended' and said:
      reason = said
    return BrokenEnvironmentError(f'the {self._title} {what}' + (f' ({reason})' if reason else ''))
