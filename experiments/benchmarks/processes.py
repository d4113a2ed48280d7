"""Processes of their own for what is measured.

PyTorch and XLA in one process slow each other, the number of JAX's CPU devices is fixed when it
starts, and an accelerator's memory comes back only when a process ends.
"""

import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax

_made: dict[str, Callable[..., Any]] = {}


class Process:
  """A process in which functions of this package are called; ends with its `with` block."""

  def __init__(self, cpu_devices: int | None = None):
    """Starts it.

    Args:
      cpu_devices: that JAX has there on a CPU; by default as many as elsewhere.
    """
    self._executor = ProcessPoolExecutor(
      1, multiprocessing.get_context('spawn'), initializer=_start, initargs=(cpu_devices,))

  def __enter__(self) -> 'Process':
    return self

  def __exit__(self, *_) -> None:
    self._executor.shutdown()

  def call(self, function: str, *arguments: Any, **options: Any) -> Any:
    """What 'module.function' of this package returns there.

    Raises:
      MemoryError: where an accelerator's memory did not suffice.
    """
    return self._executor.submit(_call, function, arguments, options).result()

  def make(self, name: str, function: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
    """Has 'module.function' make a system that stays there; calls reach it through what returns.

    Args:
      name: tells it from the others of this process.
      function: returns a callable.
      arguments: its, as are `options`.
    """
    self._executor.submit(_make, name, function, arguments, options).result()
    return lambda *inputs: self._executor.submit(_use, name, inputs).result()


def alone(function: str, *arguments: Any, **options: Any) -> Any:
  """`Process.call` in a process that ends with it."""
  with Process(cpu_devices=1) as process:
    return process.call(function, *arguments, **options)


def largest_fitting(measure: Callable[[int], Any], batch: int) -> tuple[int, Any]:
  """The largest of `batch`, half of it, ... that fits, and `measure` of it.

  Raises:
    MemoryError: where not even one row fits.
  """
  while True:
    try:
      return batch, measure(batch)
    except MemoryError:
      if batch == 1:
        raise
      batch //= 2


def _start(cpu_devices: int | None) -> None:
  if cpu_devices is not None:
    jax.config.update('jax_num_cpu_devices', cpu_devices)


def _call(function: str, arguments: tuple, options: dict[str, Any]) -> Any:
  module, _, name = function.partition('.')
  try:
    return getattr(importlib.import_module(f'{__package__}.{module}'), name)(*arguments, **options)
  except Exception as error:
    text = str(error)
    if 'RESOURCE_EXHAUSTED' in text or 'out of memory' in text:
      raise MemoryError(text.splitlines()[0]) from None
    if type(error).__module__.startswith(('jax', 'torch')):  # theirs may not survive the way back
      raise RuntimeError(f'{type(error).__name__}: {text}') from None
    raise


def _make(name: str, function: str, arguments: tuple, options: dict[str, Any]) -> None:
  _made[name] = _call(function, arguments, options)


def _use(name: str, inputs: tuple) -> Any:
  return _made[name](*inputs)
