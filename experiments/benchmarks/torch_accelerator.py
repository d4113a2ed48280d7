"""Transformers on an accelerator; a process for each call."""

from typing import Any

import numpy as np
import torch

from aw_jax.models import huggingface
from aw_jax.models.config import ModelConfig
from experiments.benchmarks import packed_rows, roofline, timing, torch_systems


def train(
    config: ModelConfig, path: str, optimizer: dict[str, float], *, autocast: bool, compiled: bool,
    **options: int) -> list[packed_rows.Steps]:
  """A train step on the same rows, each read as one sequence.

  Args:
    config: of the model.
    path: a record file of packed rows.
    optimizer: `learning_rate`, `weight_decay` and `clip_norm`.
    autocast: float32 parameters and bfloat16 autocast; else bfloat16 parameters.
    compiled: by torch.compile.
    options: of `packed_rows.time_steps`.
  """
  model = torch_systems.build(
    huggingface.config_to_huggingface(config), packed_rows.row_length(path))
  if not autocast:
    model = model.to(torch.bfloat16)
  update = torch_systems.make_update(model, autocast=autocast, compiled=compiled, **optimizer)

  def flops(rows):
    whole = np.broadcast_to(np.arange(rows['tokens'].shape[1]), rows['tokens'].shape)
    return roofline.train_flops(config, whole)

  return packed_rows.time_steps(
    lambda rows: update(rows['tokens']), flops, path, config.vocab_size, **options)


def decode(
    config: ModelConfig, prompts: np.ndarray, new_tokens: int, repetitions: int, *, compiled: bool
) -> list[float]:
  """Greedy `generate` in bfloat16; `timing.decode_seconds`."""
  model: dict[str, Any] = {'config': huggingface.config_to_huggingface(config),
                           'length': prompts.shape[1] + new_tokens}
  return timing.decode_seconds(
    torch_systems.generate(model, dtype='bfloat16', compiled=compiled), prompts, new_tokens,
    repetitions)
