"""How speed changes with the length of a row and with the number of devices.

Systems stand in processes of their own, since the number of CPU devices is fixed when one starts.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aw_jax.models.config import ModelConfig
from experiments.benchmarks import jax_systems
from experiments.benchmarks.processes import Process
from experiments.benchmarks.timing import Measured, take_turns


def repeated(step: Callable[..., Any], times: int, amount: int, *inputs: Any
             ) -> Callable[[], int]:
  """One measurement's work: `step(*inputs)` so many times, each of `amount` units."""
  def run() -> int:
    for _ in range(times):
      step(*inputs)
    return times * amount

  return run


def random_tokens(config: ModelConfig, rows: int, length: int) -> np.ndarray:
  """int32[rows, length]."""
  return np.random.default_rng(0).integers(1, config.vocab_size, (rows, length), dtype=np.int32)


def measure_delta_net(
    config: ModelConfig, *, batch: int, lengths: Sequence[int], passes: int, repetitions: int
) -> list[Measured]:
  """Tokens/s of the delta rule in chunks and token by token, on one CPU device.

  Args:
    config: whose attention heads give number and width of the heads.
    batch: rows.
    lengths: tokens of a row.
    passes: of one measurement.
    repetitions: see `take_turns`.
  """
  measured = []
  with Process(cpu_devices=1) as process:
    for row, backward in (('delta forward', False), ('delta backward', True)):
      systems = {}
      for length in lengths:
        for form in ('chunked', 'recurrent'):
          name = f'{form}, {batch} x {length}'
          run = process.make(
            f'{row} {name}', 'jax_systems.delta_rule', form, batch, length, config.heads,
            config.head_dim, backward)
          systems[name] = repeated(run, passes, batch * length)
      measured += take_turns(row, 'tokens/s', systems, repetitions)
  return measured


def measure_length(
    config: ModelConfig, *, lengths: Sequence[int], batch_tokens: int, repetitions: int
) -> list[Measured]:
  """Tokens/s and milliseconds of a train step on equally many tokens, in longer and longer rows.

  A model with full attention and one with Gated DeltaNet alone, in bfloat16, on one CPU device: a
  single row cannot be split over two. Layers are computed again in the backward pass, since the
  scores of several layers of 16,384 tokens are more than a laptop holds.

  Args:
    config: of the model with full attention.
    lengths: tokens of a row; each divides `batch_tokens`.
    batch_tokens: tokens of a batch.
    repetitions: see `take_turns`.
  """
  config = dataclasses.replace(jax_systems.with_dtype(config, 'bfloat16'), remat='full')
  systems = {}
  with Process(cpu_devices=1) as process:
    for length in lengths:
      rows = batch_tokens // length
      models = {'attention': config, 'delta_net': jax_systems.with_delta_net(config)}
      for mixer, model in models.items():
        name = f'{mixer}, {rows} x {length}'
        step = process.make(name, 'jax_systems.train_step', model)
        systems[name] = repeated(step, 1, batch_tokens, random_tokens(config, rows, length))
    measured = take_turns('length', 'tokens/s', systems, repetitions)
  return measured + [
    dataclasses.replace(
      m, unit='ms a step', samples=tuple(1000 * batch_tokens / rate for rate in m.samples))
    for m in measured]


def measure_devices(
    config: ModelConfig, *, counts: Sequence[int], rows: int, length: int, steps: int,
    decode_rows: int, prompt: int, new_tokens: int, repetitions: int) -> list[Measured]:
  """Tokens/s of training and decoding by number of CPU devices, each with the same work.

  Devices of one CPU share its cores: from as many devices as cores on, tokens/s that stay the same
  are the best there can be, and what they fall by is the price of the partitioning.

  Args:
    config: of the model, which computes in bfloat16.
    counts: numbers of devices.
    rows: that each device trains on at a time; split over all devices, parameters over none
      ('data') or over all of them too ('fsdp').
    length: tokens of such a row.
    steps: of one measurement.
    decode_rows: that each device decodes at a time.
    prompt: tokens of each prompt.
    new_tokens: decoded after each.
    repetitions: see `take_turns`.
  """
  config = jax_systems.with_dtype(config, 'bfloat16')
  training, decoding = {}, {}
  with contextlib.ExitStack() as stack:
    for count in counts:
      process = stack.enter_context(Process(cpu_devices=count))
      tokens = random_tokens(config, count * rows, length)
      for axis in ('data', 'fsdp') if count > 1 else ('data',):
        step = process.make(
          axis, 'jax_systems.train_step', config, fsdp=count if axis == 'fsdp' else 1)
        training[f'{axis} {count}'] = repeated(step, steps, tokens.size, tokens)
      decode = process.make('decode', 'jax_systems.greedy', config)
      prompts = random_tokens(config, count * decode_rows, prompt)
      decoding[f'data {count}'] = repeated(
        decode, 1, len(prompts) * new_tokens, prompts, new_tokens)
    return (take_turns('devices, train', 'tokens/s', training, repetitions)
            + take_turns('devices, decode', 'tokens/s', decoding, repetitions))
