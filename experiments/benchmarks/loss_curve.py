"""Whether mixed precision learns as float32 does: loss curves of the same training.

Same weights, same batches of a source that can be learned (`MarkovSource`). How far a curve lies
from that of our float32 stands beside how far float32 lies from itself with other batches of the
same source: a gap within that is within the noise of the data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tqdm

from aw_jax.models.config import ModelConfig
from experiments.benchmarks import jax_systems
from experiments.benchmarks.against_transformers import train_steps
from experiments.benchmarks.markov import MarkovSource
from experiments.benchmarks.processes import Process

REFERENCE, OTHER_BATCHES = 'aw_jax float32', 'aw_jax float32, other batches'


def smoothed(losses: Sequence[float], window: int) -> np.ndarray:
  """Means over `window` consecutive steps; float64[len(losses) - window + 1]."""
  return np.convolve(losses, np.full(window, 1 / window), mode='valid')


def gap(curve: Sequence[float], reference: Sequence[float], window: int) -> dict[str, float]:
  """Largest and mean absolute difference of two smoothed curves, and that at their end; nats."""
  apart = np.abs(smoothed(curve, window) - smoothed(reference, window))
  return {'largest': float(apart.max()), 'mean': float(apart.mean()), 'last': float(apart[-1])}


def measure(
    config: ModelConfig, torch: Process | None, *, batch: int, length: int, steps: int, window: int
) -> dict[str, Any]:
  """Curves in nats a token, and their gaps to float32.

  Args:
    config: of the model.
    torch: where transformers runs, if it does.
    batch: sequences of a batch.
    length: tokens of each.
    steps: of training.
    window: steps that a smoothed loss is the mean of.
  """
  source = MarkovSource(config.vocab_size)
  systems = train_steps(config, length, torch)
  systems[OTHER_BATCHES] = jax_systems.train_step(jax_systems.with_dtype(config, 'float32'))
  curves = {name: [] for name in systems}
  for i in tqdm.tqdm(range(steps), desc='loss_curve', unit='step'):
    tokens = source.sample(batch, length, seed=i)
    others = source.sample(batch, length, seed=steps + i)
    for name, step in systems.items():
      curves[name].append(step(others if name == OTHER_BATCHES else tokens))
  return {
    'entropy_of_source': source.entropy, 'window': window, 'curves': curves,
    'gap_to_float32': {name: gap(curve, curves[REFERENCE], window)
                       for name, curve in curves.items() if name != REFERENCE}}


def table(figures: Mapping[str, Any]) -> str:
  """The result of `measure` as aligned text."""
  lines = [f'{"loss_curve, nats a token":32s} {"first":>8s} {"last":>8s} {"apart: largest":>16s} '
           f'{"mean":>8s} {"last":>8s}']
  for name, curve in figures['curves'].items():
    ends = smoothed(curve, figures['window'])[[0, -1]]
    apart = figures['gap_to_float32'].get(name, {})
    lines.append(
      f'{name:32s} {ends[0]:8.4f} {ends[1]:8.4f} '
      + (f'{apart["largest"]:16.4f} {apart["mean"]:8.4f} {apart["last"]:8.4f}' if apart else ''))
  lines.append(f'entropy of the source: {figures["entropy_of_source"]:.4f}')
  return '\n'.join(lines)
