"""What training must compute and decoding must read: the bounds that a device is measured against.

Of decoders with full attention and a dense MLP in every layer, as the Qwen3 and Llama families are.
"""

from collections.abc import Iterable

import numpy as np

from aw_jax.models.config import ATTENTION, ModelConfig


def matmul_params(config: ModelConfig) -> int:
  """Parameters that each token is multiplied with.

  The embedding is one of them as the output projection; looking a token up multiplies nothing, and
  norms hardly anything.

  Raises:
    ValueError: for a decoder with experts, DeltaNet or attention gates.
  """
  if config.experts or set(config.pattern) != {ATTENTION} or config.attention_gate:
    raise ValueError('only dense decoders with full, ungated attention in every layer are counted')
  attention = 2 * config.width * config.head_dim * (config.heads + config.kv_heads)
  mlp = 3 * config.width * config.mlp_width
  return config.layers * (attention + mlp) + config.vocab_size * config.width


def train_flops(config: ModelConfig, positions: np.ndarray) -> int:
  """Floating-point operations of a forward and a backward pass, nothing computed twice.

  Each token takes 2 for each parameter, and in each layer 4 H D for each token that its H heads of
  width D attend to, those up to its own position; a backward pass is twice a forward pass.

  Args:
    config: of the model.
    positions: int[...] of all tokens in their segments, padding left out.
  """
  attended = int(np.sum(positions, dtype=np.int64)) + positions.size
  by_attention = 4 * config.layers * config.heads * config.head_dim * attended
  return 3 * (2 * matmul_params(config) * positions.size + by_attention)


def decode_bytes(config: ModelConfig, batch: int, lengths: Iterable[int], item: int = 2) -> int:
  """Bytes that decode steps must read: all parameters, and the keys and values so far.

  Args:
    config: of the model.
    batch: rows.
    lengths: tokens of every row that a step attends to, for each step.
    item: bytes of a parameter and of a cached number.
  """
  a_token = 2 * config.layers * config.kv_heads * config.head_dim
  return sum(item * (matmul_params(config) + batch * length * a_token) for length in lengths)
