"""Checkpoints: a step whole or not at all, with everything that it takes to use it."""

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
from aw_jax.training import checkpoints
from aw_jax.training.checkpoints import Checkpointer, CheckpointError
from aw_jax.training.state import TrainState, init_state

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
