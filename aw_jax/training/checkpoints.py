"""Orbax checkpoints of the train state, each with what it takes to use it again."""

import json
import os
from typing import Any

import flax
import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training.state import TrainState
from aw_jax.trajectories import write_atomically

EXPORT_FILE = 'params.msgpack'


class CheckpointError(ValueError):
  """A checkpoint is missing or of another model; the message says which and what to do."""


class Checkpointer:
  """Saves and restores one run's states; a step is there whole or not at all.

  The model config and the vocabulary stand beside the steps, so a checkpoint folder is all that
  sampling, serving or a later stage need.
  """

  def __init__(self, directory: str | os.PathLike, model: ModelConfig, tokenizer: Tokenizer,
               keep: int = 2):
    """Raises CheckpointError where the folder holds another model's checkpoints."""
    self._directory = epath.Path(os.path.abspath(directory))
    self._directory.mkdir(parents=True, exist_ok=True)
    existing = read_model_config(self._directory) if has_model(self._directory) else None
    if existing is not None:
      _require_same_model(existing, model, self._directory)
      _require_same_vocabulary(self._directory, tokenizer)
    else:
      tokenizer.save(self._directory / tokenizer.file_name)
      write_atomically(self._directory / 'model.json', json.dumps(model.to_dict(), indent=1))
    self._manager = ocp.CheckpointManager(
        self._directory / 'steps',
        options=ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False))

  def latest_step(self) -> int | None:
    return self._manager.latest_step()

  def save(self, state: TrainState) -> None:
    """Saves the state under its own step."""
    step = int(state.step)
    if self._manager.latest_step() != step:
      self._manager.save(step, args=ocp.args.StandardSave(state))
      self._manager.wait_until_finished()

  def restore(self, like: TrainState, shardings: TrainState) -> TrainState:
    """The newest state, placed as `shardings` says; `like` gives shapes and dtypes."""
    abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), like, shardings)
    return self._manager.restore(
        self.latest_step(), args=ocp.args.StandardRestore(abstract))

  def close(self) -> None:
    self._manager.close()


def has_model(directory: str | os.PathLike) -> bool:
  """Whether the folder is one of checkpoints or of an export, finished steps or not."""
  return (epath.Path(directory) / 'model.json').exists()


def read_model_config(directory: str | os.PathLike) -> ModelConfig:
  """Raises CheckpointError where the folder holds no checkpoint, or a damaged one."""
  path = epath.Path(directory) / 'model.json'
  if not path.exists():
    raise CheckpointError(f'{directory}: no model.json, so no checkpoint; train one first')
  try:
    return ModelConfig.from_dict(json.loads(path.read_text()))
  except ValueError as error:
    raise CheckpointError(f'{path}: no model config ({error}); train in another folder') from error


def _require_same_model(found: ModelConfig, wanted: ModelConfig, directory) -> None:
  for name, value in wanted.to_dict().items():
    if found.to_dict()[name] != value:
      raise CheckpointError(
          f'{directory}: holds a model with {name} = {found.to_dict()[name]}, the config says '
          f'{value}; use another folder or the same config')


def _require_same_vocabulary(directory: epath.Path, tokenizer: Tokenizer) -> None:
  found = Tokenizer.load(directory).fingerprint
  if found != tokenizer.fingerprint:
    raise CheckpointError(
        f'{directory}: made with vocabulary {found}, not {tokenizer.fingerprint}; use another '
        'folder or the same vocabulary')


def load_params(directory: str | os.PathLike) -> tuple[Any, ModelConfig, Tokenizer]:
  """Parameters of an export or of the newest step, whole on every device; model config, vocabulary.

  Raises:
    CheckpointError: where there is neither.
  """
  config = read_model_config(directory)
  tokenizer = Tokenizer.load(directory)
  exported = epath.Path(directory) / EXPORT_FILE
  if exported.exists():
    params = flax.serialization.msgpack_restore(exported.read_bytes())
    return _on_every_device(params), config, tokenizer
  steps = ocp.CheckpointManager(epath.Path(os.path.abspath(directory)) / 'steps')
  step = steps.latest_step()
  if step is None:
    raise CheckpointError(f'{directory}: no finished step; train it first')
  # Sharded as it was saved where there are as many devices, else whole on the first one.
  restored = steps.restore(step, args=ocp.args.StandardRestore(
      fallback_sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])))
  steps.close()
  return _on_every_device(restored['params']), config, tokenizer


def _on_every_device(params: Any) -> Any:
  return jax.device_put(params, partitioning.replicated(partitioning.make_mesh()))


def export_params(source: str | os.PathLike, directory: str | os.PathLike) -> None:
  """Writes the newest step's parameters, config and vocabulary as a folder of three small files."""
  params, config, tokenizer = load_params(source)
  directory = epath.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_atomically(directory / EXPORT_FILE, flax.serialization.msgpack_serialize(
      jax.tree.map(np.asarray, params)))
  tokenizer.save(directory / tokenizer.file_name)
  write_atomically(directory / 'model.json', json.dumps(config.to_dict(), indent=1))
