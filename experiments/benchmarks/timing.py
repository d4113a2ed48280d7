"""How speed is measured: after a warm-up that compiles, several times, all systems in turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm

# Seconds before each measurement: threads of the system before may still wait busily for work.
_PAUSE = 0.5


class TooShortError(RuntimeError):
  """What was to be measured is lost in the noise."""


@dataclasses.dataclass(frozen=True)
class Measured:
  """One system's figures in one row, in `unit`."""

  row: str
  system: str
  unit: str
  samples: tuple[float, ...]

  @property
  def median(self) -> float:
    return statistics.median(self.samples)

  def to_dict(self) -> dict[str, Any]:
    """With median and range."""
    return dataclasses.asdict(self) | {
      'median': self.median, 'low': min(self.samples), 'high': max(self.samples)}


def take_turns(
    row: str, unit: str, systems: dict[str, Callable[[], float]], repetitions: int
) -> list[Measured]:
  """Measures systems in turns, so that what else the machine does falls on all of them.

  Args:
    row: what is measured.
    unit: of the figures.
    systems: name -> does one measurement's work to the end and returns how many units it was.
    repetitions: measurements of each system, after one that does not count.
  """
  samples = {name: [] for name in systems}
  rounds = [(i, name) for i in range(repetitions + 1) for name in systems]
  for i, name in tqdm.tqdm(rounds, desc=row, unit='measurement'):
    time.sleep(_PAUSE)
    start = time.perf_counter()
    amount = systems[name]()
    if i:
      samples[name].append(amount / (time.perf_counter() - start))
  return [Measured(row, name, unit, tuple(values)) for name, values in samples.items()]


def seconds(work: Callable[[], Any], repetitions: int) -> list[float]:
  """How long `work` takes, after once that does not count."""
  work()
  found = []
  for _ in range(repetitions):
    start = time.perf_counter()
    work()
    found.append(time.perf_counter() - start)
  return found


def decode_seconds(
    decode: Callable[[np.ndarray, int], Any], prompts: np.ndarray, new_tokens: int,
    repetitions: int) -> list[float]:
  """How long the steps after a prompt's first new token take: all of them less prefill.

  Args:
    decode: int32[B, P] prompts, new tokens -> those tokens.
    prompts: int32[B, P].
    new_tokens: of each row, the first of which is not in the time.
    repetitions: measurements, each less the fastest decoding of one token.
  Raises:
    TooShortError: where a measurement is no longer than that.
  """
  first = min(seconds(lambda: decode(prompts, 1), repetitions))
  found = seconds(lambda: decode(prompts, new_tokens), repetitions)
  if min(found) <= first:
    raise TooShortError(
      f'decoding {new_tokens} tokens took no longer than one; raise --new_tokens')
  return [whole - first for whole in found]
