"""What one process of several does for all: `on_first_process`."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


class FirstProcessError(RuntimeError):
  """What the first process was to do failed; the message is that of its error."""


def on_first_process(work: Callable[[], str | None]) -> str | None:
  """`work()`, done by the first process alone while the others wait: for short work.

  Returns:
    What it returned, in every process.
  Raises:
    FirstProcessError: in the others, where it raised an error in the first.
  """
  if jax.process_count() == 1:
    return work()
  text, error = None, None
  if jax.process_index() == 0:
    try:
      text = work()
    except Exception as raised:  # raised again below, once the others know
      text, error = str(raised), raised
  encoded = (text or '').encode(errors='backslashreplace')  # a path need not be UTF-8
  failed, is_text, length = multihost_utils.broadcast_one_to_all(
      (np.bool_(error is not None), np.bool_(text is not None), np.int32(len(encoded))))
  if length:  # all must know it: what is broadcast has one shape
    padded = np.frombuffer(encoded.ljust(int(length), b'\0')[:length], np.uint8)
    encoded = bytes(multihost_utils.broadcast_one_to_all(padded))
  text = encoded.decode() if is_text else None
  if error is not None:
    raise error
  if failed:
    raise FirstProcessError(text)
  return text
