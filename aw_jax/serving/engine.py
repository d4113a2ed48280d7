"""Continuous batching on the host: a queue of choices, and the one thread that drives the devices.

A choice waits for a free slot, has its prompt read into it, and decodes beside whatever else is in
progress. Its slot is free again as soon as it ends or is cancelled. What a choice says depends on
its prompt, parameters and seed alone, not on what runs beside it.
"""

import collections
import dataclasses
import heapq
import threading
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from aw_jax.models.config import ModelConfig
from aw_jax.serving.slots import SHORTEST, Said, Slots

_HALF = 32  # bits of a seed that one number of the device has


class EngineError(RuntimeError):
  """The engine cannot be made as asked for, has ended, or has failed; the message says which."""


class QueueFullError(RuntimeError):
  """There is no room for another choice now; there will be when others have ended."""


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How a choice is sampled.

  Attributes:
    max_tokens: that it may have, the stop token included.
    temperature: 0 is greedy.
    top_p: share of the probability that is sampled from.
    seed: of its noise, from 0 to below 2^64.
    number: of the choice among those of the same seed, which have noise of their own.
    likeliest: whether the likeliest tokens at each place are wanted.
  """

  max_tokens: int
  temperature: float = 1.0
  top_p: float = 1.0
  seed: int = 0
  number: int = 0
  likeliest: bool = False


@dataclasses.dataclass(frozen=True)
class Tokens:
  """What a choice said in a call.

  Attributes:
    ids: without the stop token.
    logprobs: of those, at temperature 1.
    likeliest: for each, ids and log-probabilities of the likeliest, where they are wanted.
    count: of the tokens, the stop token included.
    finish: 'stop' after the stop token, 'length' after `max_tokens`, None where more is to come.
  """

  ids: list[int]
  logprobs: list[float]
  likeliest: list[tuple[list[int], list[float]]]
  count: int
  finish: str | None


Listener = Callable[[Tokens | EngineError], None]


class Choice:
  """A choice in progress; `cancel` frees its place, and its listener hears no more of it."""

  def __init__(self, engine: 'Engine', prompt: Sequence[int], sampling: Sampling,
               listener: Listener):
    self.prompt, self.sampling, self.listener = prompt, sampling, listener
    self.said = 0
    self.cancelled = False
    self._engine = engine

  def cancel(self) -> None:
    self.cancelled = True
    self._engine.wake()


class Engine:
  """Choices in, their tokens out, as they are said."""

  def __init__(self, config: ModelConfig, params: Any, stop: int, *, slots: int = 64,
               context: int = 1024, max_waiting: int = 256, progress: bool = False):
    """Compiles everything and starts the thread.

    Args:
      config: of the decoder, and `params` its parameters.
      params: on all devices.
      stop: id of the token that ends a choice.
      slots: choices in progress at a time.
      context: tokens of prompt and choice together, rounded up to a multiple of 64.
      max_waiting: further choices that may wait for a slot.
      progress: whether to show a progress bar.
    Raises:
      EngineError: where one of these numbers is none.
    """
    if slots < 1 or context < 2 or max_waiting < 0:
      raise EngineError(f'slots = {slots} must be at least 1, context = {context} at least 2, '
                        f'max_waiting = {max_waiting} at least 0')
    self.context = -(-context // SHORTEST) * SHORTEST
    self._slots = Slots(config, params, stop, slots, self.context)
    self._slots.compile(progress)
    self._rows = self._slots.empty_rows()
    self._max_waiting = max_waiting
    self._free = list(range(self._slots.count))  # a heap: the lowest decode in the smallest program
    self._active: dict[int, Choice] = {}
    self._waiting: collections.deque[Choice] = collections.deque()
    self._changed = threading.Condition()
    self._error: EngineError | None = None
    self._thread = threading.Thread(target=self._run, name='engine', daemon=True)
    self._thread.start()

  @property
  def slots(self) -> int:
    """Choices in progress at a time."""
    return self._slots.count

  @property
  def error(self) -> EngineError | None:
    """Why no more choices are taken; None while they are."""
    return self._error

  def load(self) -> tuple[int, int]:
    """Choices in progress, and waiting."""
    with self._changed:
      return len(self._active), len(self._waiting)

  def require_room(self, count: int) -> None:
    """Raises QueueFullError where there is no room for so many choices more."""
    with self._changed:
      self._require_room(count)

  def _require_room(self, count: int) -> None:
    room = self._slots.count + self._max_waiting
    if len(self._active) + len(self._waiting) + count > room:
      raise QueueFullError(f'{room} choices are in progress or waiting; try again later')

  def submit(self, prompt: Sequence[int], samplings: Sequence[Sampling],
             listeners: Sequence[Listener]) -> list[Choice]:
    """Begins choices of one prompt, all of them or none.

    Args:
      prompt: ids; with any `max_tokens` no more than `context`.
      samplings: one for each choice.
      listeners: for each, called from the engine's thread with what is said, until `finish`, or
        with the error that ends the engine.
    Raises:
      QueueFullError: where there is no room for them.
      EngineError: where the engine has ended.
    """
    choices = [Choice(self, prompt, sampling, listener)
               for sampling, listener in zip(samplings, listeners, strict=True)]
    with self._changed:
      if self._error is not None:
        raise self._error
      self._require_room(len(choices))
      self._waiting.extend(choices)
      self._changed.notify()
    return choices

  def wake(self) -> None:
    """Has the thread look at what has changed."""
    with self._changed:
      self._changed.notify()

  def close(self) -> None:
    """Ends the thread; choices in progress are told."""
    with self._changed:
      self._error = self._error or EngineError('the server is shutting down')
      self._changed.notify()
    self._thread.join()

  # --- the thread ---------------------------------------------------------------------------------

  def _run(self) -> None:
    try:
      while self._admit():
        if self._active:
          self._deliver(self._slots.decode(self._rows))
    except Exception as error:  # whatever it is, who waits has to hear of it
      logging.exception('the engine has failed')
      with self._changed:
        self._error = EngineError(f'the engine has failed: {type(error).__name__}')
    with self._changed:
      left = [*self._active.values(), *self._waiting]
      self._active.clear()
      self._waiting.clear()
    for choice in left:
      self._tell(choice, self._error)

  def _admit(self) -> bool:
    """Waits for something to do, frees slots, fills them; whether to go on."""
    with self._changed:
      while not (self._active or self._waiting or self._error):
        self._changed.wait()
      if self._error is not None:
        return False
      for slot in [slot for slot, choice in self._active.items() if choice.cancelled]:
        self._release(slot)
      self._waiting = collections.deque(c for c in self._waiting if not c.cancelled)
      admitted = {}
      while self._free and self._waiting:
        slot, choice = heapq.heappop(self._free), self._waiting.popleft()
        self._active[slot] = admitted[slot] = choice
    if admitted:
      self._slots.prefill({slot: choice.prompt for slot, choice in admitted.items()})
      for slot, choice in admitted.items():
        self._set_row(slot, choice.sampling)
    return True

  def _release(self, slot: int) -> None:
    """Frees a slot; `_changed` is held."""
    del self._active[slot]
    heapq.heappush(self._free, slot)
    # An idle row asks for nothing, or all rows would be sampled as it wanted.
    self._set_row(slot, Sampling(0, temperature=0.0))
    self._rows.active[self._slots.place(slot)] = False

  def _set_row(self, slot: int, sampling: Sampling) -> None:
    rows, place = self._rows, self._slots.place(slot)
    rows.active[place], rows.said[place] = True, 0
    rows.limit[place] = sampling.max_tokens
    rows.temperature[place], rows.top_p[place] = sampling.temperature, sampling.top_p
    rows.seed[place] = sampling.seed % 2**_HALF
    rows.seed_high[place] = sampling.seed >> _HALF
    rows.number[place], rows.likeliest[place] = sampling.number, sampling.likeliest

  def _deliver(self, said: Said) -> None:
    """Tells each choice what it said; those that have ended leave their slots first."""
    told = []
    for slot, choice in self._active.items():
      place = self._slots.place(slot)
      tokens = _tokens(said, place, choice)
      choice.said += tokens.count
      self._rows.said[place] = choice.said
      told.append((slot, choice, tokens))
    with self._changed:
      for slot, _, tokens in told:
        if tokens.finish:
          self._release(slot)
    for _, choice, tokens in told:
      self._tell(choice, tokens)

  def _tell(self, choice: Choice, event: Tokens | EngineError) -> None:
    if choice.cancelled:
      return
    try:
      choice.listener(event)
    except Exception:  # of who listens; the others have nothing to do with it
      logging.exception('a listener has failed')
      choice.cancelled = True


def _tokens(said: Said, place: tuple[int, int], choice: Choice) -> Tokens:
  """What a row said."""
  count, stopped = int(said.lengths[place]), bool(said.stopped[place])
  kept = count - stopped
  likeliest = []
  if choice.sampling.likeliest:
    likeliest = list(zip(said.top_tokens[place][:kept].tolist(),
                         said.top_logprobs[place][:kept].tolist(), strict=True))
  full = choice.said + count >= choice.sampling.max_tokens
  return Tokens(said.tokens[place][:kept].tolist(), said.logprobs[place][:kept].tolist(), likeliest,
                count, 'stop' if stopped else 'length' if full else None)
