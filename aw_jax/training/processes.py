"""What several processes do together: `on_first_process`, `on_every_process`."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


class OtherProcessError(RuntimeError):
  """What another process was to do failed; the message is that of its error."""


def on_first_process(work: Callable[[], str | None]) -> str | None:
  """`work()`, done by the first process alone while the others wait: for short work.

  Returns:
    What it returned, in every process.
  Raises:
    OtherProcessError: in the others, where it raised an error in the first.
  """
  return on_every_process(lambda: work() if jax.process_index() == 0 else None)[0]


def on_every_process(work: Callable[[], str | None]) -> list[str | None]:
  """`work()`, done by every process for itself while the others do so too.

  Returns:
    What each returned, by their numbers, in every process.
  Raises:
    OtherProcessError: where it raised an error in another process and none in this one.
  """
  if jax.process_count() == 1:
    return [work()]
  text, error = None, None
  try:
    text = work()
  except Exception as raised:  # raised again below, once the others know
    text, error = str(raised), raised
  failed, texts = _gathered(error is not None), _gathered_texts(text)
  if error is not None:
    raise error
  if any(failed):
    raise OtherProcessError(texts[int(np.argmax(failed))])
  return texts


def _gathered_texts(text: str | None) -> list[str | None]:
  encoded = (text or '').encode(errors='backslashreplace')  # a path need not be UTF-8
  are_texts, lengths = _gathered(text is not None), _gathered(len(encoded))
  # What is gathered has one shape.
  padded = _gathered(np.frombuffer(encoded.ljust(max(lengths) + 1, b'\0'), np.uint8))
  return [bytes(row[:length]).decode() if is_text else None
          for row, length, is_text in zip(padded, lengths, are_texts, strict=True)]


def _gathered(value) -> np.ndarray:
  """Of equal shape and type in every process, stacked."""
  return multihost_utils.process_allgather(np.asarray(value))
