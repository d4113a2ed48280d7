"""Orbax checkpoints of the train state, each with what it takes to use it again.

    {directory}/model.json, vocabulary.model    what the parameters are of
    {directory}/steps/{step}/default/           a step's arrays, with checksums.json
    {directory}/newest_step                     the step that was last begun to be saved
    {directory}/damaged/{step}/                 what a run found damaged and did not go on from
"""

import contextlib
import errno
import functools
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.sharding import Mesh

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import init_params
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import checksums
from aw_jax.training.processes import on_every_process, on_first_process
from aw_jax.training.state import TrainState
from aw_jax.trajectories import write_atomically

EXPORT_FILE = 'params.msgpack'
# How a model is run, not what it computes but for rounding: they may differ from run to run.
EXECUTION_FIELDS = ('activation_dtype', 'cache_dtype', 'attention_kind', 'query_block',
                    'scan_decode', 'remat')
_NEWEST_FILE = 'newest_step'
_Directory = str | os.PathLike


class CheckpointError(ValueError):
  """A checkpoint is missing, damaged or of another model, or cannot be written.

  The message says which, why, and what to do.
  """


class Checkpointer:
  """Saves and restores one run's states; a step is there whole or not at all.

  The model config and the vocabulary stand beside the steps, so a checkpoint folder is all that
  sampling, serving or a later stage need. Of several processes, all make one, and save and restore
  together.
  """

  def __init__(self, directory: _Directory, model: ModelConfig, tokenizer: Tokenizer,
               keep: int = 2):
    """Opens the folder, and moves steps that are not whole out of the way, with a warning.

    Raises CheckpointError where the folder holds another model's checkpoints, steps of which none
    is whole, or cannot be written to. A model's EXECUTION_FIELDS may differ, and are noted anew;
    its `dtype` may not, since the run would go on with other numbers than it began with.
    """
    self._directory = pathlib.Path(os.path.abspath(directory))
    self._saving = None
    with _write_errors(self._directory):
      on_first_process(lambda: _claim(self._directory, model, tokenizer))
      step, damaged = _newest_whole_step(self._directory)
      if step is not None and damaged:
        _warn(f'{self._directory}: {_sentence(damaged)}; going on from step {step}, the damaged '
              f'are kept in {self._directory / "damaged"}')
      on_first_process(lambda: _move_aside(self._directory, damaged))
      self._manager = ocp.CheckpointManager(
          self._directory / 'steps', handler_registry=_handlers(),
          options=ocp.CheckpointManagerOptions(
              max_to_keep=keep, cleanup_tmp_directories=True,
              # A folder that cannot be made is an error at once, not in a thread that others await.
              async_options=ocp.AsyncOptions(create_directories_asynchronously=False)))

  def latest_step(self) -> int | None:
    """The newest whole step, or the one that is being saved."""
    return self._manager.latest_step()

  def save(self, state: TrainState) -> None:
    """Begins to save the state under its own step, and returns once it is copied to the host.

    The state may then be donated. Raises CheckpointError where this or the save before failed.
    """
    self.wait()
    step = int(state.step)
    if self.latest_step() == step:
      return
    with self._save_errors(step):
      on_first_process(lambda: self._begin(step, sum(x.nbytes for x in jax.tree.leaves(state))))
      self._manager.save(step, args=ocp.args.StandardSave(state))
    self._saving = step

  def _begin(self, step: int, size: int) -> None:
    """Notes the step. Raises OSError at once where the disk is too full, and nothing half-written.

    Arrays of floats are hardly smaller on the disk.
    """
    free = shutil.disk_usage(self._directory).free
    if free < size:
      raise OSError(errno.ENOSPC, f'{os.strerror(errno.ENOSPC)}: {size} bytes needed, {free} free')
    write_atomically(self._directory / _NEWEST_FILE, str(step))

  def wait(self) -> None:
    """Waits until what is being saved is whole on the disk. Raises CheckpointError."""
    with self._save_errors(self._saving):
      self._manager.wait_until_finished()

  def restore(self, like: TrainState, shardings: TrainState) -> TrainState:
    """The newest state, placed as `shardings` says; `like` gives shapes and dtypes.

    Raises CheckpointError where the state on the disk has other arrays.
    """
    self.wait()
    return _read(self._directory, self.latest_step(), _abstract(like, shardings))

  def close(self) -> None:
    """Waits for the last save. Raises CheckpointError where it failed."""
    try:
      self.wait()
    finally:
      self._manager.close()

  @contextlib.contextmanager
  def _save_errors(self, step: int) -> Iterator[None]:
    try:
      yield
    except (OSError, RuntimeError, ValueError) as error:
      whole = max((other for other in self._manager.all_steps() if other != step), default=None)
      kept = 'no step is whole yet' if whole is None else f'the last whole one is step {whole}'
      raise CheckpointError(
          f'{self._directory}: step {step} could not be saved ({_reason(error)}); {kept}; remove '
          'the cause and run the same command again') from error


class _StateHandler(ocp.StandardCheckpointHandler):
  """Arrays, with the checksums of their files, written before the step counts as finished.

  Each process notes those of the arrays that it wrote, into the folder it wrote them to; the first
  one, at the end, those of the few files that are left. No process reads what others wrote.
  """

  async def async_save(self, directory, *args, **kwargs):
    futures = await super().async_save(directory, *args, **kwargs)
    own = os.path.join(directory, f'ocdbt.process_{jax.process_index()}')

    def note() -> None:
      if os.path.isdir(own):  # there is none where others wrote all
        checksums.write(own)

    return [ocp.future.ChainedFuture(futures, note)]

  def finalize(self, directory) -> None:
    super().finalize(directory)
    checksums.write(directory)


def _handlers() -> ocp.handlers.CheckpointHandlerRegistry:
  registry, handler = ocp.handlers.DefaultCheckpointHandlerRegistry(), _StateHandler()
  registry.add('default', ocp.args.StandardSave, handler)
  registry.add('default', ocp.args.StandardRestore, handler)
  return registry


def _claim(directory: pathlib.Path, model: ModelConfig, tokenizer: Tokenizer) -> None:
  """Notes the model and the vocabulary in the folder, or checks those that are noted there."""
  directory.mkdir(parents=True, exist_ok=True)
  if has_model(directory):
    found = read_model_config(directory)
    _require_same_model(found, model, directory)
    _require_same_vocabulary(directory, tokenizer)
    if found == model:
      return
  else:
    tokenizer.save(directory / tokenizer.file_name)
  write_atomically(directory / 'model.json', json.dumps(model.to_dict(), indent=1))


@contextlib.contextmanager
def _write_errors(directory: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise CheckpointError(
        f'{directory}: cannot be written to ({_reason(error)}); use a folder that can') from error


def _reason(error: Exception) -> str:
  """What the system said, without the paths and specs around it."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  text = str(error) or type(error).__name__
  # Tensorstore says it somewhere in its own words, of several files in one message.
  named = [os.strerror(code) for code in (
      errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)]
  return next((name for name in named if name in text), text.splitlines()[0][:200])


# --- which steps are whole ------------------------------------------------------------------------


def _arrays_folder(directory: pathlib.Path, step: int) -> pathlib.Path:
  return directory / 'steps' / str(step) / 'default'


def _newest_whole_step(directory: pathlib.Path) -> tuple[int | None, dict[int, str]]:
  """The newest whole step, if any, and what is wrong with those that are newer."""
  begun, steps = json.loads(on_first_process(lambda: json.dumps(
      [_begun_step(directory), _finished_steps(directory)])))
  damaged = {}
  if begun > max(steps, default=begun):
    damaged[begun] = 'missing: removed, or not saved to its end'
  for step in reversed(steps):
    found = _damage(_arrays_folder(directory, step))
    if found is None:
      return step, damaged
    damaged[step] = found
  if damaged:
    raise CheckpointError(
        f'{directory}: no step is whole: {_sentence(damaged)}; put a copy back, or remove '
        f'{directory / "steps"} to begin again')
  return None, {}


def _damage(folder: pathlib.Path) -> str | None:
  """`checksums.damage`, of whose files every process reads a share."""
  found = on_every_process(
      lambda: checksums.damage(folder, jax.process_index(), jax.process_count()))
  return next((damage for damage in found if damage is not None), None)


def _begun_step(directory: pathlib.Path) -> int:
  """The step that was last begun to be saved; 0 where none was, or that is not known."""
  newest = directory / _NEWEST_FILE
  text = newest.read_bytes() if newest.exists() else b'0'
  if not text.isdigit():
    logging.warning('%s: damaged, so a step that is missing is not noticed', newest)
    return 0
  return int(text)


def _finished_steps(directory: pathlib.Path) -> list[int]:
  """Steps whose folder has its final name, the oldest first."""
  folder = directory / 'steps'
  return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) \
      if folder.exists() else []


def _sentence(damaged: dict[int, str]) -> str:
  return ', '.join(f'step {step} is not whole ({found})' for step, found in damaged.items())


def _warn(message: str) -> None:
  if jax.process_index() == 0:
    logging.warning('%s', message)


def _move_aside(directory: pathlib.Path, damaged: dict[int, str]) -> None:
  """Makes room for the same steps again; what was damaged may be asked for once more."""
  for step in damaged:
    source, target = directory / 'steps' / str(step), directory / 'damaged' / str(step)
    if source.exists():
      target.parent.mkdir(exist_ok=True)
      shutil.rmtree(target, ignore_errors=True)
      source.rename(target)


# --- reading --------------------------------------------------------------------------------------


def has_model(directory: _Directory) -> bool:
  """Whether the folder is one of checkpoints or of an export, finished steps or not."""
  return (pathlib.Path(directory) / 'model.json').exists()


def read_model_config(directory: _Directory) -> ModelConfig:
  """Raises CheckpointError where the folder holds no checkpoint, or a damaged one."""
  path = pathlib.Path(directory) / 'model.json'
  if not path.exists():
    raise CheckpointError(f'{directory}: no model.json, so no checkpoint; train one first')
  try:
    return ModelConfig.from_dict(json.loads(path.read_text()))
  except ValueError as error:
    raise CheckpointError(f'{path}: no model config ({error}); train in another folder') from error


def _require_same_model(found: ModelConfig, wanted: ModelConfig, directory) -> None:
  for name, value in wanted.to_dict().items():
    if name not in EXECUTION_FIELDS and found.to_dict()[name] != value:
      raise CheckpointError(
          f'{directory}: holds a model with {name} = {found.to_dict()[name]}, the config says '
          f'{value}; use another folder or the same config')


def _require_same_vocabulary(directory: pathlib.Path, tokenizer: Tokenizer) -> None:
  found = Tokenizer.load(directory).fingerprint
  if found != tokenizer.fingerprint:
    raise CheckpointError(
        f'{directory}: made with vocabulary {found}, not {tokenizer.fingerprint}; use another '
        'folder or the same vocabulary')


def load_params(directory: _Directory, mesh: Mesh | None = None
                ) -> tuple[Any, ModelConfig, Tokenizer]:
  """Parameters of an export or of the newest whole step, model config, vocabulary.

  Args:
    directory: of a run's checkpoints, or an export.
    mesh: where the parameters are split as in training, each device reading its own part; None
      puts whole ones on every device.
  Raises:
    CheckpointError: where there is neither, or its arrays are not those of its model config.
  """
  directory = pathlib.Path(os.path.abspath(directory))
  config, tokenizer = read_model_config(directory), Tokenizer.load(directory)
  boxed = jax.eval_shape(functools.partial(init_params, config), jax.random.key(0))
  like = nn.unbox(boxed)
  if mesh is None:
    whole = partitioning.replicated(partitioning.make_mesh())
    shardings = jax.tree.map(lambda _: whole, like)
  else:
    shardings = partitioning.param_shardings(boxed, mesh)
  abstract = {'params': _abstract(like, shardings)}
  if (directory / EXPORT_FILE).exists():
    return _read_export(directory / EXPORT_FILE, abstract), config, tokenizer
  step, damaged = _newest_whole_step(directory)
  if step is None:
    raise CheckpointError(f'{directory}: no finished step; train it first')
  if damaged:
    _warn(f'{directory}: {_sentence(damaged)}; reading step {step}')
  return _read(directory, step, abstract)['params'], config, tokenizer


def _abstract(like: Any, shardings: Any) -> Any:
  return jax.tree.map(
      lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
      like, shardings)


def _read(directory: pathlib.Path, step: int, abstract: Any) -> Any:
  """The arrays of a whole step that `abstract` names, placed as it says."""
  folder = _arrays_folder(directory, step)
  with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
    _require_arrays(reader.metadata(epath.Path(folder)).tree, abstract, folder.parent)
    return reader.restore(epath.Path(folder), args=ocp.args.PyTreeRestore(
        abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
        partial_restore=True))


def _read_export(path: pathlib.Path, abstract: Any) -> Any:
  try:
    found = {'params': flax.serialization.msgpack_restore(path.read_bytes())}
  except (ValueError, KeyError, TypeError) as error:
    raise CheckpointError(f'{path}: damaged ({_reason(error)}); export it again') from error
  _require_arrays(found, abstract, path)
  return jax.tree.map(
      lambda x, like: jax.make_array_from_callback(
          like.shape, like.sharding, lambda index: np.asarray(x[index], like.dtype)),
      found['params'], abstract['params'])


def _require_arrays(found: Any, wanted: Any, path: pathlib.Path) -> None:
  """Raises CheckpointError where `found` lacks an array of `wanted`, or has another one there."""
  found, wanted = (ocp.tree.to_flat_dict(tree, sep='/') for tree in (found, wanted))
  top = {name.partition('/')[0] for name in wanted}
  names = {name for name in found if name.partition('/')[0] in top}
  for name in sorted(names ^ set(wanted)):
    has, lacks = ('the checkpoint', 'this model or optimiser') if name in found else (
        'this model or optimiser', 'the checkpoint')
    raise CheckpointError(
        f'{path}: {has} has an array {name}, {lacks} does not; use the config it was made with, or '
        'another folder')
  for name in sorted(wanted):
    if tuple(found[name].shape) != wanted[name].shape:
      raise CheckpointError(
          f'{path}: {name} has shape {list(found[name].shape)}, the config wants '
          f'{list(wanted[name].shape)}; use the config it was made with, or another folder')


def export_params(source: _Directory, directory: _Directory) -> None:
  """Writes the newest step's parameters, config and vocabulary as a folder of three small files."""
  params, config, tokenizer = load_params(source)
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  write_atomically(directory / EXPORT_FILE, flax.serialization.msgpack_serialize(
      jax.tree.map(np.asarray, params)))
  tokenizer.save(directory / tokenizer.file_name)
  write_atomically(directory / 'model.json', json.dumps(config.to_dict(), indent=1))
