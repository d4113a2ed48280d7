"""Token ids as text that only grows: whole characters, and never beyond a stop string."""

from collections.abc import Sequence

from aw_jax.tokenizer import Tokenizer


class TextStream:
  """The text of one choice while its tokens come in.

  Attributes:
    text: what is certain to be part of the answer.
    settled: `text` and, behind it, what may turn out to be the beginning of a stop string.
    stopped: whether a stop string came; `text` ends before it, and further ids are not looked at.
  """

  def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), prefix: str = ''):
    """
    Args:
      tokenizer: the vocabulary.
      stops: strings that end the text. Of several the one that is complete first counts.
      prefix: what the text begins with before any token; no stop string is looked for in it.
    """
    self._tokenizer = tokenizer
    self._stops = stops
    self._special = frozenset(tokenizer.reserved)
    self._closed = prefix  # up to the last special token, which nothing behind it changes
    self._open: list[int] = []
    self._searched = len(prefix)
    self.text, self.settled, self.stopped = '', prefix, False

  def feed(self, ids: Sequence[int]) -> str:
    """What `ids` add to `text`."""
    self._append(ids)
    return self._advance(self._closed + self._tokenizer.settled(self._open), False)

  def finish(self) -> str:
    """What is added to `text` when no more ids come."""
    return self._advance(self._whole(), True)

  def addition(self, token: int) -> str:
    """The text that a token would add here."""
    return (self._closed + self._tokenizer.decode([*self._open, token]))[len(self.settled):]

  def _append(self, ids: Sequence[int]) -> None:
    self._open += ids
    ends = [place for place, token in enumerate(self._open) if token in self._special]
    if ends:
      self._closed += self._tokenizer.decode(self._open[:ends[-1] + 1])
      del self._open[:ends[-1] + 1]

  def _whole(self) -> str:
    return self._closed + self._tokenizer.decode(self._open)

  def _advance(self, settled: str, final: bool) -> str:
    if self.stopped:
      return ''
    self.settled = settled
    end = self._stop()
    if end is not None:
      self.stopped = True
    else:
      end = len(settled) - (0 if final else self._held())
    end = max(end, len(self.text))
    added, self.text = settled[len(self.text):end], settled[:end]
    return added

  def _stop(self) -> int | None:
    """Where the stop string begins that is complete first."""
    found = []
    for stop in self._stops:
      # No stop string can begin in `text`, but for the prefix: what could be one is held back.
      place = self.settled.find(stop, max(len(self.text), self._searched))
      if place >= 0:
        found.append((place + len(stop), place))
    return min(found)[1] if found else None

  def _held(self) -> int:
    """How much of the end may be the beginning of a stop string."""
    most = len(self.settled) - max(len(self.text), self._searched)
    return max((count for stop in self._stops for count in range(1, min(len(stop) - 1, most) + 1)
                if self.settled.endswith(stop[:count])), default=0)
