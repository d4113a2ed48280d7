"""Our side: the train step and the sampler that every stage uses, and the delta rule's two forms.

Each function makes a system: a callable that does a piece of work to its end.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from aw_jax import partitioning
from aw_jax.models import delta_net
from aw_jax.models.config import DELTA_NET, ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.sampling.decode import generate
from aw_jax.training import objectives
from aw_jax.training.optimizer import make_optimizer
from aw_jax.training.state import init_state, make_train_step

OPTIMIZER = ml_collections.FrozenConfigDict({
  'name': 'adamw', 'peak_lr': 1e-3, 'warmup_steps': 0, 'total_steps': 1_000_000,
  'schedule': 'constant', 'final_lr_ratio': 0.1, 'weight_decay': 0.1, 'clip_norm': 1.0})
# The same for `torch_systems.make_update`.
TORCH_OPTIMIZER = {'learning_rate': OPTIMIZER.peak_lr, 'weight_decay': OPTIMIZER.weight_decay,
                   'clip_norm': OPTIMIZER.clip_norm}


def with_dtype(config: ModelConfig, dtype: str) -> ModelConfig:
  """`config` that computes in `dtype`; on a CPU the cache stays float32, which is faster there."""
  return dataclasses.replace(
    config, dtype=dtype,
    cache_dtype='float32' if jax.default_backend() == 'cpu' else dtype)


def with_delta_net(config: ModelConfig) -> ModelConfig:
  """`config` with Gated DeltaNet in place of attention, heads of the same number and width."""
  return dataclasses.replace(
    config, pattern=(DELTA_NET,), delta_key_heads=config.heads, delta_value_heads=config.heads,
    delta_key_dim=config.head_dim, delta_value_dim=config.head_dim)


def random_params(config: ModelConfig) -> Any:
  """The parameters that all systems begin with."""
  init = jax.jit(functools.partial(init_params, config))
  return jax.device_get(nn.unbox(init(jax.random.key(0))))


def train_step(config: ModelConfig, fsdp: int = 1) -> Callable[[np.ndarray], float]:
  """int32[B, L] tokens -> loss, each row one segment.

  Args:
    config: of the model.
    fsdp: devices that parameters are split over; all others split rows alone.
  """
  mesh, optimizer = partitioning.make_mesh(fsdp=fsdp), make_optimizer(OPTIMIZER)
  state, shardings = init_state(config, optimizer, mesh, seed=0)
  state = state.replace(params=jax.device_put(random_params(config), shardings.params))
  update = make_train_step(config, objectives.next_token, optimizer, mesh, shardings)

  def step(tokens: np.ndarray) -> float:
    nonlocal state
    state, metrics = update(state, {
      'tokens': tokens, 'segment_ids': np.ones_like(tokens),
      'positions': np.tile(np.arange(tokens.shape[1], dtype=np.int32), (len(tokens), 1)),
      'loss_weights': np.ones(tokens.shape, np.float32)})
    return float(metrics['loss'])

  return step


def greedy(
    config: ModelConfig, param_dtype: str = 'float32') -> Callable[[np.ndarray, int], np.ndarray]:
  """Greedy decoding: int32[B, P] prompts, new tokens -> int32[B, new tokens]."""
  model = Decoder(config)
  params = jax.device_put(
    jax.tree.map(lambda x: x.astype(param_dtype), random_params(config)),
    partitioning.replicated(partitioning.make_mesh()))

  def decode(prompts: np.ndarray, new_tokens: int) -> np.ndarray:
    turn = generate(
      model, params, prompts, jnp.full(len(prompts), prompts.shape[1]), jax.random.key(0),
      stop=-1, max_tokens=new_tokens, temperature=0.0)  # no id is -1: nothing stops it
    return np.asarray(turn.tokens)

  return decode


def delta_rule(
    form: str, batch: int, length: int, heads: int, width: int, backward: bool
) -> Callable[[], None]:
  """One pass of the delta rule over random inputs.

  Args:
    form: 'chunked' or 'recurrent'.
    batch: rows.
    length: tokens of a row.
    heads: of keys and values.
    width: of both.
    backward: the gradients of all inputs too.
  """
  rule = {'chunked': delta_net.chunked, 'recurrent': delta_net.recurrent}[form]
  rng = np.random.default_rng(0)
  q, k, v = rng.normal(size=(3, batch, length, heads, width)).astype(np.float32)
  k /= np.linalg.norm(k, axis=-1, keepdims=True)
  g, beta = rng.uniform(size=(2, batch, length, heads)).astype(np.float32)
  state = np.zeros((batch, heads, width, width), np.float32)

  def forward(inputs):
    return jnp.sum(jnp.square(rule(*inputs)[0]))

  inputs = jax.device_put((q * width**-0.5, k, v, -g, beta, state))
  compiled = jax.jit(jax.grad(forward) if backward else forward)

  def run() -> None:
    jax.block_until_ready(compiled(inputs))

  return run
