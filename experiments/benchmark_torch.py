"""The PyTorch side of experiments/benchmark.py: Qwen3ForCausalLM of transformers on the CPU.

It runs in a process of its own: with both in one, PyTorch's import alone slows XLA's decoding by a
fifth. Systems are made there once (`set_up`) and then used by name (`use`).
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers

_systems: dict[str, Callable[[np.ndarray], Any]] = {}


def set_up(name: str, kind: str, model: Mapping[str, Any], **options: Any) -> None:
  """Makes a system.

  Args:
    name: to use it by.
    kind: 'train_step' or 'generate'.
    model: arguments of `build`.
    options: arguments of `make_train_step` or `make_generate`.
  """
  make = {'train_step': make_train_step, 'generate': make_generate}[kind]
  _systems[name] = make(build(**model), **options)


def use(name: str, tokens: np.ndarray) -> Any:
  """Calls a system: a train step's loss, or generated tokens."""
  return _systems[name](tokens)


def build(config: Mapping[str, Any], state_dict: Mapping[str, np.ndarray], length: int):
  """A float32 Qwen3ForCausalLM with the given weights.

  Args:
    config: fields of a Qwen3 config.json (`huggingface.config_to_huggingface`).
    state_dict: of `huggingface.to_state_dict`.
    length: most positions that it will see.
  """
  options = transformers.Qwen3Config(
    **config, max_position_embeddings=length, attn_implementation='sdpa', bos_token_id=None,
    eos_token_id=None, pad_token_id=None)
  model = transformers.Qwen3ForCausalLM(options).to(torch.float32)
  model.load_state_dict({name: torch.tensor(array) for name, array in state_dict.items()})
  return model


def make_train_step(
    model: transformers.PreTrainedModel, learning_rate: float, weight_decay: float,
    clip_norm: float, autocast: bool) -> Callable[[np.ndarray], float]:
  """A train step with fused AdamW: int32[B, L] tokens -> loss in nats a token.

  Args:
    model: trained in place.
    learning_rate: constant.
    weight_decay: of matrices.
    clip_norm: of the gradient's global norm.
    autocast: compute in bfloat16 where PyTorch's CPU autocast does; parameters stay float32.
  """
  matrices = [p for p in model.parameters() if p.ndim > 1]
  others = [p for p in model.parameters() if p.ndim <= 1]
  optimizer = torch.optim.AdamW(
    [{'params': matrices, 'weight_decay': weight_decay}, {'params': others, 'weight_decay': 0.0}],
    lr=learning_rate, betas=(0.9, 0.95), fused=True)
  model.train()

  def step(tokens: np.ndarray) -> float:
    batch = torch.from_numpy(tokens).long()
    context = torch.autocast('cpu', torch.bfloat16) if autocast else contextlib.nullcontext()
    with context:
      loss = model(input_ids=batch, labels=batch, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()

  return step


def make_generate(
    model: transformers.PreTrainedModel, new_tokens: int, bfloat16: bool
) -> Callable[[np.ndarray], np.ndarray]:
  """Greedy `generate` with its KV cache: int32[B, P] prompts -> int64[B, new_tokens]."""
  model = model.eval().to(torch.bfloat16 if bfloat16 else torch.float32)

  def generate(prompts: np.ndarray) -> np.ndarray:
    batch = torch.from_numpy(prompts).long()
    with torch.inference_mode():
      out = model.generate(
        batch, attention_mask=torch.ones_like(batch), do_sample=False, use_cache=True,
        max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return out[:, prompts.shape[1]:].numpy()

  return generate
