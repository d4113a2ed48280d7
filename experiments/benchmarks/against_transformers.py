"""Training and greedy decoding beside the same Qwen3 decoder in PyTorch and transformers.

Same sizes, same weights, same batch, same number of new tokens, on the CPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from aw_jax.models import huggingface
from aw_jax.models.config import ModelConfig
from experiments.benchmarks import jax_systems
from experiments.benchmarks.processes import Process
from experiments.benchmarks.timing import Measured, take_turns


def torch_model(config: ModelConfig, length: int) -> dict[str, Any]:
  """The same decoder with the same parameters, for `torch_systems`; `length` positions at most."""
  return {'config': huggingface.config_to_huggingface(config), 'length': length,
          'state_dict': huggingface.to_state_dict(jax_systems.random_params(config), config)}


def train_steps(
    config: ModelConfig, length: int, torch: Process | None
) -> dict[str, Callable[[np.ndarray], float]]:
  """Train steps int32[B, length] -> loss, by system; of transformers where its process is given."""
  steps = {f'aw_jax {dtype}': jax_systems.train_step(jax_systems.with_dtype(config, dtype))
           for dtype in ('float32', 'bfloat16')}
  if torch:
    for name, autocast in (('float32', False), ('bf16 autocast', True)):
      steps[f'transformers {name}'] = torch.make(
        f'train {name}', 'torch_systems.train_step', torch_model(config, length),
        autocast=autocast, **jax_systems.TORCH_OPTIMIZER)
  return steps


def measure_train(
    config: ModelConfig, torch: Process | None, *, batch: int, length: int, steps: int,
    repetitions: int) -> list[Measured]:
  """Training tokens/s.

  Args:
    config: of the model.
    torch: where transformers runs, if it does.
    batch: sequences of a batch.
    length: tokens of each.
    steps: of one measurement.
    repetitions: see `take_turns`.
  Raises:
    RuntimeError: where the systems' first losses disagree.
  """
  tokens = np.random.default_rng(0).integers(
    1, config.vocab_size, (batch, length), dtype=np.int32)
  systems = train_steps(config, length, torch)
  first = {name: step(tokens) for name, step in systems.items()}
  if max(first.values()) - min(first.values()) > 0.02:
    raise RuntimeError(f'the systems do not train the same model; their first losses: {first}')

  def run(step):
    for _ in range(steps):
      step(tokens)
    return steps * tokens.size

  return take_turns(
    'train', 'tokens/s', {name: (lambda step=step: run(step)) for name, step in systems.items()},
    repetitions)


def measure_decode(
    config: ModelConfig, torch: Process | None, *, batch: int, prompt: int, new_tokens: int,
    calls: int, repetitions: int) -> list[Measured]:
  """Decoded tokens/s, prefill included.

  Args:
    config: of the model.
    torch: where transformers runs, if it does.
    batch: sequences decoded together.
    prompt: tokens of each prompt.
    new_tokens: decoded after each.
    calls: batches decoded in one measurement.
    repetitions: see `take_turns`.
  Raises:
    RuntimeError: where a system decoded too few.
  """
  prompts = np.random.default_rng(1).integers(
    1, config.vocab_size, (batch, prompt), dtype=np.int32)
  systems = {
    f'aw_jax {dtype}': jax_systems.greedy(jax_systems.with_dtype(config, dtype))
    for dtype in ('float32', 'bfloat16')}
  if torch:
    for dtype in ('float32', 'bfloat16'):
      systems[f'transformers {dtype}'] = torch.make(
        f'decode {dtype}', 'torch_systems.generate', torch_model(config, prompt + new_tokens),
        dtype=dtype)

  def run(name):
    for _ in range(calls):
      tokens = systems[name](prompts, new_tokens)
      if tokens.shape != (batch, new_tokens):
        raise RuntimeError(f'{name} decoded {tokens.shape}')
    return calls * tokens.size

  return take_turns(
    'decode', 'tokens/s', {name: (lambda name=name: run(name)) for name in systems}, repetitions)
