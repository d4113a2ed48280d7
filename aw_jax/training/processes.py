"""What one process of several does for all: `on_first_process`."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

_MESSAGE_BYTES = 2048


class FirstProcessError(RuntimeError):
  """What the first process was to do failed; the message is that of its error."""


def on_first_process(work: Callable[[], str | None]) -> str | None:
  """`work()`, done by the first process alone while the others wait: for short work.

  Returns:
    What it returned, of 2 KB at most, in every process.
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
  padded = np.zeros(_MESSAGE_BYTES, np.uint8)
  encoded = np.frombuffer((text or '').encode()[:_MESSAGE_BYTES], np.uint8)
  padded[:len(encoded)] = encoded
  failed, is_text, padded = multihost_utils.broadcast_one_to_all(
      (np.bool_(error is not None), np.bool_(text is not None), padded))
  text = bytes(padded).rstrip(b'\0').decode(errors='replace') if is_text else None
  if error is not None:
    raise error
  if failed:
    raise FirstProcessError(text)
  return text
