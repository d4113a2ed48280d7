"""The train state, made and stepped under pinned shardings."""

import functools
from collections.abc import Callable
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params, require_mesh_divides


@flax.struct.dataclass
class TrainState:
  """Everything that a checkpoint holds: step int32[], parameters, optimiser state."""

  step: jax.Array
  params: Any
  opt_state: Any


def init_state(config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
               ) -> tuple[TrainState, TrainState]:
  """A fresh state, born sharded, and the NamedShardings of its leaves."""
  _, shardings = abstract_state(config, optimizer, mesh)
  build = functools.partial(_build_state, config, optimizer)
  state = jax.jit(build, out_shardings=shardings)(jax.random.key(seed))
  partitioning.assert_sharded(state, mesh)
  return state, shardings


def abstract_state(config: ModelConfig, optimizer: optax.GradientTransformation, mesh: Mesh
                   ) -> tuple[TrainState, TrainState]:
  """Shapes and dtypes of the state's leaves, and their NamedShardings.

  Raises:
    PartitioningError: where the mesh does not divide the model.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  require_mesh_divides(config, mesh)
  params = partitioning.param_shardings(
      jax.eval_shape(functools.partial(init_params, config), key), mesh)
  abstract = jax.eval_shape(functools.partial(_build_state, config, optimizer), key)
  return abstract, TrainState(
      partitioning.replicated(mesh), params,
      partitioning.state_shardings(abstract.opt_state, params, mesh))


def _build_state(config, optimizer, key) -> TrainState:
  params = nn.unbox(init_params(config, key))
  return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(config: ModelConfig, objective: Callable, optimizer, mesh: Mesh, shardings
                    ) -> Callable[[TrainState, Any], tuple[TrainState, dict]]:
  """The jitted train step; donates the state it is given.

  Args:
    config: the model's.
    objective: `(model, params, batch) -> (loss sum, count, metrics)`.
    optimizer: an optax transformation.
    mesh: where it runs.
    shardings: of the state, from `init_state`.
  """
  model = Decoder(config)

  def loss(params, batch):
    total, count, metrics = objective(model, params, batch)
    return total / jnp.maximum(count, 1e-6), (count, metrics)

  def step(state, batch):
    (value, (count, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(
        state.params, batch)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    scalars = {name: total / jnp.maximum(n, 1e-6) for name, (total, n) in metrics.items()}
    scalars |= {'loss': value, 'loss_weight': count,
                'grad_norm': optax.global_norm(gradients)}
    return TrainState(state.step + 1, params, opt_state), scalars

  return jax.jit(
      step, donate_argnums=0, in_shardings=(shardings, partitioning.batch_sharding(mesh)),
      out_shardings=(shardings, partitioning.replicated(mesh)))
