"""Our side on an accelerator, and the most that the accelerator can do; a process for each call."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aw_jax import partitioning
from aw_jax.evaluation import results
from aw_jax.models.config import ModelConfig
from aw_jax.training import objectives
from aw_jax.training.optimizer import make_optimizer
from aw_jax.training.state import init_state, make_train_step
from experiments.benchmarks import jax_systems, packed_rows, roofline, timing

# Calls of one measurement of a peak: each is too short to be timed alone.
_CALLS = 20


def describe() -> dict[str, Any]:
  """The machine and its devices."""
  return results.hardware()


def matmul_peak(sizes: Sequence[int], repetitions: int) -> dict[str, float]:
  """FLOP/s of bfloat16 products of square matrices, the best measurement of each size."""
  rates = {}
  for size in sizes:
    left, right = (jax.random.normal(jax.random.key(i), (size, size), jnp.bfloat16)
                   for i in range(2))
    rates[str(size)] = 2 * size**3 * _calls_a_second(jnp.matmul, repetitions, left, right)
  return rates


def copy_peak(mebibytes: int, repetitions: int) -> float:
  """Bytes/s read and written by an addition to an array of so many MiB, the best measurement."""
  array = jnp.zeros((mebibytes, 2**18), jnp.float32)
  return 2 * array.nbytes * _calls_a_second(lambda x: x + 1, repetitions, array)


def _calls_a_second(
    function: Callable[..., jax.Array], repetitions: int, *inputs: jax.Array) -> float:
  compiled = jax.jit(function)

  def work():
    for _ in range(_CALLS):
      out = compiled(*inputs)
    out.block_until_ready()

  return _CALLS / min(timing.seconds(work, repetitions))


def train(config: ModelConfig, path: str, **options: int) -> list[packed_rows.Steps]:
  """The train step of every stage, parameters in float32; `options` of `packed_rows.time_steps`."""
  mesh, optimizer = partitioning.make_mesh(), make_optimizer(jax_systems.OPTIMIZER)
  state, shardings = init_state(config, optimizer, mesh, seed=0)
  step = make_train_step(config, objectives.next_token, optimizer, mesh, shardings)

  def update(rows):
    nonlocal state
    state, metrics = step(state, rows)
    return metrics['loss']

  def flops(rows):
    return roofline.train_flops(config, rows['positions'][rows['segment_ids'] > 0])

  return packed_rows.time_steps(update, flops, path, config.vocab_size, **options)


def decode(
    config: ModelConfig, prompts: np.ndarray, new_tokens: int, repetitions: int) -> list[float]:
  """The sampler of every stage, parameters in bfloat16; `timing.decode_seconds`."""
  return timing.decode_seconds(
    jax_systems.greedy(config, 'bfloat16'), prompts, new_tokens, repetitions)
