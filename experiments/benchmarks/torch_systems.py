"""The other side: Qwen3ForCausalLM of PyTorch and transformers, in a process of its own."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import transformers

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


def build(
    config: Mapping[str, Any], length: int, state_dict: Mapping[str, np.ndarray] | None = None
) -> transformers.PreTrainedModel:
  """A float32 Qwen3ForCausalLM on the accelerator, or on the CPU where there is none.

  Args:
    config: fields of a Qwen3 config.json (`huggingface.config_to_huggingface`).
    length: most positions that it will see.
    state_dict: its weights (`huggingface.to_state_dict`); by default random.
  """
  options = transformers.Qwen3Config(
    **config, max_position_embeddings=length, attn_implementation='sdpa', bos_token_id=None,
    eos_token_id=None, pad_token_id=None)
  with torch.device(DEVICE):
    model = transformers.Qwen3ForCausalLM(options).to(torch.float32)
  if state_dict is not None:
    model.load_state_dict({name: torch.tensor(array) for name, array in state_dict.items()})
  return model


def make_update(
    model: transformers.PreTrainedModel, *, autocast: bool, learning_rate: float,
    weight_decay: float, clip_norm: float, compiled: bool = False
) -> Callable[[np.ndarray], torch.Tensor]:
  """A train step with fused AdamW: int32[B, L] tokens -> loss in nats a token, on the device.

  Args:
    model: trained in place.
    autocast: compute in bfloat16 where PyTorch's autocast does; parameters stay as they are.
    learning_rate: constant.
    weight_decay: of matrices.
    clip_norm: of the gradient's global norm.
    compiled: by torch.compile.
  """
  matrices = [p for p in model.parameters() if p.ndim > 1]
  others = [p for p in model.parameters() if p.ndim <= 1]
  optimizer = torch.optim.AdamW(
    [{'params': matrices, 'weight_decay': weight_decay}, {'params': others, 'weight_decay': 0.0}],
    lr=learning_rate, betas=(0.9, 0.95), fused=True)
  model.train()
  forward = torch.compile(model) if compiled else model

  def update(tokens: np.ndarray) -> torch.Tensor:
    batch = torch.from_numpy(tokens).long().to(DEVICE)
    context = torch.autocast(DEVICE, torch.bfloat16) if autocast else contextlib.nullcontext()
    with context:
      loss = forward(input_ids=batch, labels=batch, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  return update


def train_step(model: Mapping[str, Any], **options: Any) -> Callable[[np.ndarray], float]:
  """int32[B, L] tokens -> loss; arguments of `build` and `make_update`."""
  update = make_update(build(**model), **options)
  return lambda tokens: update(tokens).item()


def generate(
    model: Mapping[str, Any], *, dtype: str, compiled: bool = False
) -> Callable[[np.ndarray, int], np.ndarray]:
  """Greedy `generate` with a cache: int32[B, P] prompts, new tokens -> int64[B, new tokens].

  Args:
    model: arguments of `build`.
    dtype: of parameters and cache, 'float32' or 'bfloat16'.
    compiled: with a static cache, for which transformers compiles the step on an accelerator.
  """
  built = build(**model).eval().to(getattr(torch, dtype))

  def decode(prompts: np.ndarray, new_tokens: int) -> np.ndarray:
    batch = torch.from_numpy(prompts).long().to(DEVICE)
    with torch.inference_mode():
      out = built.generate(
        batch, attention_mask=torch.ones_like(batch), do_sample=False, use_cache=True,
        cache_implementation='static' if compiled else None,
        max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return out[:, prompts.shape[1]:].cpu().numpy()

  return decode
