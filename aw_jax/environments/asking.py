"""A process of ours in a sandbox that answers requests (`answering.py` is its side)."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from aw_jax.environments.base import BrokenEnvironmentError


class Process:
  """One running process; not for several threads at a time.

  Attributes:
    name: what messages call it.
    pid: of its outermost process.
  """

  def __init__(self, name: str, command: Sequence[str], descriptors: Sequence[int] = ()):
    """Starts `command`, which gets `descriptors`; they are closed here."""
    self.name = name
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    try:
      self._process = subprocess.Popen(
          command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, cwd='/',
          env={}, pass_fds=descriptors)
    finally:
      for descriptor in descriptors:
        os.close(descriptor)
    self.pid = self._process.pid

  def ask(self, seconds: float, **request: Any) -> dict[str, Any]:
    """The answer to a request.

    Args:
      seconds: wall-clock time it may take.
      **request: the operation and its arguments.
    Raises:
      BrokenEnvironmentError: where it ended, did not answer in time, or failed; it is gone then.
    """
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

  def stop(self) -> None:
    """Ends it; may be called twice."""
    if not self._errors.closed:
      self._process.kill()  # bwrap's --die-with-parent takes the rest down
      self._process.communicate()
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
    self.stop()
    if what == 'ended' and said:
      reason = said
    return BrokenEnvironmentError(f'the {self.name} {what}' + (f' ({reason})' if reason else ''))
