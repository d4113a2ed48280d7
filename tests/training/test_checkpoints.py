"""Checkpoints: a step whole or not at all, with everything that it takes to use it."""

import functools
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import init_params
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import checkpoints, checksums
from aw_jax.training.checkpoints import Checkpointer, CheckpointError
from aw_jax.training.state import TrainState, init_state

HERE = pathlib.Path(__file__).parent
MODEL = ModelConfig(
  vocab_size=300, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp_width=12)


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)


def random_state(step, seed=0):
  """A whole train state with Adam's moments, no two numbers alike."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    lambda key: nn.unbox(init_params(MODEL, key)), jax.random.key(0))
  params = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)
  moments = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape).astype(x.dtype)),
    optax.adam(1.0).init(params))
  return TrainState(jnp.int32(step), params, moments)


def assert_same(one, other):
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), one, other)


def save(directory, tokenizer, *states):
  checkpointer = Checkpointer(directory, MODEL, tokenizer)
  for state in states:
    checkpointer.save(state)
  checkpointer.close()


def test_the_newest_state_comes_back_bitwise(tmp_path, tokenizer):
  mesh = partitioning.make_mesh()
  like, shardings = init_state(MODEL, optax.adam(1.0), mesh, 0)
  save(tmp_path, tokenizer, *(random_state(step, step) for step in (2, 4, 6)))
  checkpointer = Checkpointer(tmp_path, MODEL, tokenizer)
  assert checkpointer.latest_step() == 6
  restored = checkpointer.restore(like, shardings)
  checkpointer.close()
  assert_same(restored, random_state(6, 6))
  assert isinstance(restored.opt_state[0], optax.ScaleByAdamState)
  assert all(x.sharding == s for x, s in zip(
    jax.tree.leaves(restored), jax.tree.leaves(shardings), strict=True))


def test_few_steps_are_kept(tmp_path, tokenizer):
  save(tmp_path, tokenizer, *(random_state(step) for step in (1, 2, 3, 4)))
  kept = {path.name for path in (tmp_path / 'steps').iterdir() if path.name.isdigit()}
  assert kept == {'3', '4'}


def test_a_step_that_is_not_whole_is_not_there(tmp_path, tokenizer):
  """What a kill leaves behind: the temporary folder of a step."""
  save(tmp_path, tokenizer, random_state(3, seed=5))
  torn = tmp_path / 'steps' / '4.orbax-checkpoint-tmp'
  torn.mkdir()
  (torn / 'garbage').write_text('x')
  params, _, _ = checkpoints.load_params(tmp_path)
  assert_same(params, random_state(3, seed=5).params)
  save(tmp_path, tokenizer, random_state(4, seed=6))
  params, _, _ = checkpoints.load_params(tmp_path)
  assert_same(params, random_state(4, seed=6).params)


def test_params_come_with_config_and_vocabulary(tmp_path, tokenizer):
  save(tmp_path, tokenizer, random_state(3))
  params, model, found = checkpoints.load_params(tmp_path)
  assert_same(params, random_state(3).params)
  assert model == MODEL and found.fingerprint == tokenizer.fingerprint


def test_an_export_is_the_same_parameters_in_three_files(tmp_path, tokenizer):
  save(tmp_path / 'run', tokenizer, random_state(3))
  checkpoints.export_params(tmp_path / 'run', tmp_path / 'export')
  assert sorted(path.name for path in (tmp_path / 'export').iterdir()) == [
    'model.json', 'params.msgpack', 'vocabulary.model']
  params, model, found = checkpoints.load_params(tmp_path / 'export')
  assert_same(params, random_state(3).params)
  assert model == MODEL and found.fingerprint == tokenizer.fingerprint


def test_what_is_saved_in_the_background_is_what_was_given(tmp_path, tokenizer):
  """The train step writes over the buffers that it is given, while they may still be written out.
  """
  step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
  arrays = {f'{i}': jnp.full((1 << 19,), i, jnp.float32) for i in range(8)}
  state = TrainState(jnp.int32(0), arrays, ())
  checkpointer = Checkpointer(tmp_path, MODEL, tokenizer)
  for done in range(1, 13):
    state = step(state)
    if done % 6 == 0:
      checkpointer.save(state)
  like = TrainState(jnp.int32(0), {name: jnp.zeros((1 << 19,)) for name in arrays}, ())
  shardings = jax.tree.map(lambda x: x.sharding, like)
  state = step(step(state))
  restored = checkpointer.restore(like, shardings)
  checkpointer.close()
  for i in range(8):
    np.testing.assert_array_equal(restored.params[f'{i}'], np.full((1 << 19,), i + 12, np.float32))


def test_parameters_are_read_as_a_mesh_splits_them(tmp_path, tokenizer):
  save(tmp_path / 'run', tokenizer, random_state(3))
  checkpoints.export_params(tmp_path / 'run', tmp_path / 'export')
  mesh = partitioning.make_mesh(data=1, fsdp=2)
  boxed = jax.eval_shape(functools.partial(init_params, MODEL), jax.random.key(0))
  shardings = partitioning.param_shardings(boxed, mesh)
  for name in ('run', 'export'):
    params, _, _ = checkpoints.load_params(tmp_path / name, mesh)
    assert_same(params, random_state(3).params)
    assert jax.tree.map(lambda x: x.sharding, params) == shardings
    embedding = params['embedding']
    assert embedding.addressable_shards[0].data.nbytes == embedding.nbytes / 2


# --- damage ---------------------------------------------------------------------------------------


def remove(path):
  path.unlink()


def cut(path):
  path.write_bytes(path.read_bytes()[:-1])


def empty(path):
  path.write_bytes(b'')


def flip(path):
  """One bit, which Orbax would read as if it were right where it is an array's."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def arrays_of(directory, step):
  return directory / 'steps' / str(step) / 'default'


@pytest.fixture(scope='module')
def two_steps(tmp_path_factory, tokenizer):
  directory = tmp_path_factory.mktemp('two') / 'run'
  save(directory, tokenizer, random_state(4, 4), random_state(6, 6))
  return directory


@pytest.mark.parametrize('harm', [remove, cut, empty, flip])
def test_harm_to_any_file_is_noticed(tmp_path, two_steps, harm):
  """Orbax's marks of what is finished, written last and never read by us, do not count."""
  whole = arrays_of(two_steps, 6)
  names = [str(path.relative_to(whole)) for path in whole.rglob('*')
           if path.is_file() and path.name != 'commit_success.txt']
  assert {'manifest.ocdbt', '_METADATA', checksums.CHECKSUMS_FILE} < set(names)
  for i, name in enumerate(names):
    folder = tmp_path / str(i)
    shutil.copytree(whole, folder)
    harm(folder / name)
    reason = checksums.damage(folder)
    expected = [f'{name} is {what}' for what in ('missing', 'damaged')]
    assert reason in expected or (name == checksums.CHECKSUMS_FILE and reason)
    if not name.endswith(checksums.CHECKSUMS_FILE):
      noticed = [checksums.damage(folder, share, 3) for share in range(3)]
      assert sorted(noticed, key=str) == [None, None, reason]
  assert [checksums.damage(whole, *share) for share in ((), (0, 2), (1, 2))] == [None] * 3


@pytest.mark.parametrize('content', [b'', b'six', b'\xff'])
def test_a_damaged_note_of_the_newest_step_costs_no_step(tmp_path, two_steps, content):
  directory = tmp_path / 'run'
  shutil.copytree(two_steps, directory)
  (directory / 'newest_step').write_bytes(content)
  assert checkpoints._newest_whole_step(directory) == (6, {})


def torn(directory):
  largest = max(arrays_of(directory, 6).rglob('*'), key=lambda path: path.stat().st_size)
  cut(largest)
  return f'{largest.relative_to(arrays_of(directory, 6))} is damaged'


def without_contents(directory):
  shutil.rmtree(directory / 'steps' / '6')
  (directory / 'steps' / '6').mkdir()
  return 'checksums.json is missing'


def missing(directory):
  shutil.rmtree(directory / 'steps' / '6')
  return 'missing: removed, or not saved to its end'


@pytest.mark.parametrize('harm', [torn, without_contents, missing])
def test_the_step_before_one_that_is_not_whole_is_used(
    tmp_path, tokenizer, two_steps, harm, caplog):
  directory = tmp_path / 'run'
  shutil.copytree(two_steps, directory)
  reason = harm(directory)
  warning = f'{directory}: step 6 is not whole ({reason}); '
  with caplog.at_level(logging.WARNING):
    params, _, _ = checkpoints.load_params(directory)
  assert_same(params, random_state(4, 4).params)
  assert caplog.messages == [f'{warning}reading step 4']
  caplog.clear()

  like, shardings = init_state(MODEL, optax.adam(1.0), partitioning.make_mesh(), 0)
  with caplog.at_level(logging.WARNING):
    checkpointer = Checkpointer(directory, MODEL, tokenizer)
  assert caplog.messages == [
    f'{warning}going on from step 4, the damaged are kept in {directory / "damaged"}']
  assert_same(checkpointer.restore(like, shardings), random_state(4, 4))
  assert (directory / 'damaged' / '6').exists() == (harm != missing)
  checkpointer.save(random_state(6, 7))  # the same step again
  assert_same(checkpointer.restore(like, shardings), random_state(6, 7))
  checkpointer.close()
  caplog.clear()
  params, _, _ = checkpoints.load_params(directory)
  assert_same(params, random_state(6, 7).params)
  assert not caplog.messages


def test_where_no_step_is_whole_none_is_touched(tmp_path, tokenizer, two_steps):
  directory = tmp_path / 'run'
  shutil.copytree(two_steps, directory)
  empty(arrays_of(directory, 4) / 'manifest.ocdbt')
  remove(arrays_of(directory, 6) / '_METADATA')
  for use in (lambda: checkpoints.load_params(directory),
              lambda: Checkpointer(directory, MODEL, tokenizer)):
    with pytest.raises(CheckpointError) as error:
      use()
    assert str(error.value) == (
      f'{directory}: no step is whole: step 6 is not whole (_METADATA is missing), step 4 is not '
      f'whole (manifest.ocdbt is damaged); put a copy back, or remove {directory / "steps"} to '
      'begin again')
  assert sorted(path.name for path in (directory / 'steps').iterdir()) == ['4', '6']


def test_an_export_that_is_cut_short_is_one_sentence(tmp_path, tokenizer, two_steps):
  checkpoints.export_params(two_steps, tmp_path)
  cut(tmp_path / 'params.msgpack')
  with pytest.raises(CheckpointError, match=r'params\.msgpack: damaged .*; export it again$'):
    checkpoints.load_params(tmp_path)


# --- a disk that is full or read-only -------------------------------------------------------------


def run_in_sandbox(*arguments, **environment):
  """`small_disk_run.py` in bwrap: (exit status, what the newest whole step adds up to, stderr)."""
  *mounts, workdir, steps = map(str, arguments)
  command = [
    'bwrap', '--bind', '/', '/', '--dev-bind', '/dev', '/dev', *mounts, sys.executable,
    HERE / 'small_disk_run.py', workdir, steps]
  run = subprocess.run(
    command, env=os.environ | {'PYTHONPATH': str(HERE.parents[1])} | environment,
    capture_output=True, text=True, timeout=300, check=False)
  return run.returncode, run.stdout.strip(), run.stderr


@pytest.fixture(scope='module')
def sums(tmp_path_factory):
  """What step 2 and step 4 of `small_disk_run.py` add up to."""
  directory = tmp_path_factory.mktemp('disk') / 'run'
  status, two, errors = run_in_sandbox(directory, 2)
  assert status == 0, errors
  kept = directory.with_name('kept')
  shutil.copytree(directory, kept)
  status, four, errors = run_in_sandbox(directory, 4)
  assert status == 0, errors
  assert two != four
  return {'2': two, '4': four, 'directory': kept}


@pytest.mark.requires('bwrap')
def test_a_full_disk_is_one_sentence_and_leaves_the_step_before(tmp_path, sums):
  status, found, errors = run_in_sandbox('--size', 4_000_000, '--tmpfs', tmp_path, tmp_path, 8)
  assert status == 1 and 'Traceback' not in errors
  assert f'_run: {tmp_path}: step 6 could not be saved (No space left on device: ' in errors
  assert errors.endswith(
    ' free); the last whole one is step 4; remove the cause and run the same command again\n')
  assert found == sums['4']


@pytest.mark.requires('bwrap')
def test_an_error_in_the_background_is_that_of_its_step(tmp_path, sums):
  """Large files are refused here, which is found out only as they are written.

  Tensorstore's threads have something to say about it too.
  """
  shutil.copytree(sums['directory'], tmp_path / 'run')
  status, found, errors = run_in_sandbox(tmp_path / 'run', 6, MAX_FILE_BYTES='300000')
  assert status == 1
  assert (f'small_disk_run: {tmp_path / "run"}: step 4 could not be saved (File too large); the '
          'last whole one is step 2; remove the cause and run the same command again\n') in errors
  assert found == sums['2']


@pytest.mark.requires('bwrap')
def test_a_folder_that_may_not_be_written_to_is_one_sentence(tmp_path, sums):
  frozen = ('--ro-bind', tmp_path.parent, tmp_path.parent)
  for workdir in (sums['directory'], tmp_path / 'new'):
    status, found, errors = run_in_sandbox(*frozen, workdir, 4)
    assert status == 1 and 'Traceback' not in errors
    assert f'small_disk_run: {workdir}' in errors and 'Read-only file system' in errors
    assert found == (sums['2'] if workdir.exists() else '')


# --- another model --------------------------------------------------------------------------------


def test_a_state_of_another_optimiser_is_one_sentence(tmp_path, tokenizer):
  save(tmp_path, tokenizer, random_state(3))
  like, shardings = init_state(MODEL, optax.sgd(1.0, momentum=0.9), partitioning.make_mesh(), 0)
  checkpointer = Checkpointer(tmp_path, MODEL, tokenizer)
  with pytest.raises(CheckpointError) as error:
    checkpointer.restore(like, shardings)
  checkpointer.close()
  assert str(error.value) == (
    f'{tmp_path / "steps" / "3"}: the checkpoint has an array opt_state/0/count, this model or '
    'optimiser does not; use the config it was made with, or another folder')


def test_arrays_of_another_shape_are_named(tmp_path, tokenizer):
  save(tmp_path, tokenizer, random_state(3))
  wider = ModelConfig.from_dict(MODEL.to_dict() | {'mlp_width': 16})
  (tmp_path / 'model.json').write_text(json.dumps(wider.to_dict()))
  with pytest.raises(CheckpointError, match=(
      rf'^{tmp_path}/steps/3: params/layers/layer_0/mlp/down has shape \[1, 12, 8\], the config '
      r'wants \[1, 16, 8\]; use the config it was made with, or another folder$')):
    checkpoints.load_params(tmp_path)


def test_how_a_model_is_run_may_change(tmp_path, tokenizer):
  save(tmp_path, tokenizer, random_state(3))
  other = ModelConfig.from_dict(
    MODEL.to_dict() | {'remat': 'full', 'query_block': 64, 'cache_dtype': 'bfloat16',
                       'attention_kind': 'plain', 'activation_dtype': 'bfloat16',
                       'scan_decode': True})
  assert set(checkpoints.EXECUTION_FIELDS) == {
    'remat', 'query_block', 'cache_dtype', 'attention_kind', 'activation_dtype',
    'scan_decode'}
  Checkpointer(tmp_path, other, tokenizer).close()
  params, found, _ = checkpoints.load_params(tmp_path)
  assert found == other
  assert_same(params, random_state(3).params)


@pytest.mark.parametrize(
  ('field', 'value'), [('layers', 2), ('mlp_width', 16), ('dtype', 'float32')])
def test_a_checkpoint_of_another_model_is_refused_by_field(tmp_path, tokenizer, field, value):
  Checkpointer(tmp_path, MODEL, tokenizer).close()
  other = ModelConfig.from_dict(MODEL.to_dict() | {field: value})
  with pytest.raises(CheckpointError) as error:
    Checkpointer(tmp_path, other, tokenizer)
  assert str(error.value) == (
    f'{tmp_path}: holds a model with {field} = {MODEL.to_dict()[field]}, the config says {value}; '
    'use another folder or the same config')


def test_no_checkpoint_is_one_sentence(tmp_path):
  with pytest.raises(CheckpointError, match='no model.json, so no checkpoint; train one first'):
    checkpoints.load_params(tmp_path / 'none')
  assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('content', ['', '{"vocab_size": 3', '[1]'])
def test_a_model_file_that_is_not_one_is_named(tmp_path, content):
  (tmp_path / 'model.json').write_text(content)
  with pytest.raises(CheckpointError, match=r'model\.json'):
    checkpoints.load_params(tmp_path)
