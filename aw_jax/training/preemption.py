"""SIGTERM as a request to save and end, which all processes of a run follow at the same step."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Preempted(RuntimeError):
  """The run was asked to end; the message says what was saved and how to go on."""


class PreemptionNotice:
  """Whether this run was asked to end with SIGTERM, while inside its `with` block.

  Alone, a process notes the first SIGTERM, in its main thread, and leaves the second to whatever
  handled it before. Of several processes, any may be asked: JAX's preemption service, which handles
  SIGTERM from `jax.distributed.initialize` on, has them agree on a step that none has passed yet.
  """

  def __init__(self):
    self._received = False
    self._undo: Callable[[], None] | None = None

  def __enter__(self) -> 'PreemptionNotice':
    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
      previous = signal.signal(signal.SIGTERM, self._note)
      # None is a handler that Python did not set, and cannot set again.
      self._undo = lambda: signal.signal(
          signal.SIGTERM, signal.SIG_DFL if previous is None else previous)
    return self

  def __exit__(self, *unused_error) -> None:
    self._restore()

  def received(self, step: int) -> bool:
    """Whether to end after `step` or as soon as possible; ask after every step, in every process.
    """
    if jax.process_count() > 1:
      self._received |= multihost_utils.reached_preemption_sync_point(step)
    return self._received

  def _note(self, unused_signal: int, unused_frame: FrameType | None) -> None:
    self._received = True
    self._restore()

  def _restore(self) -> None:
    if self._undo is not None:
      self._undo()
      self._undo = None
