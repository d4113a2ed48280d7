"""One train step on meshes of eight virtual CPU devices equals that of a single device."""

import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

from aw_jax import partitioning
from aw_jax.partitioning import PartitioningError

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE / 'golden' / 'shardings.json'
# data x fsdp x context x expert x tensor
ONE = '1x1x1x1x1'
EVERY_MESH = ['x'.join(map(str, sizes)) for sizes in itertools.product((1, 2, 4, 8), repeat=5)
              if math.prod(sizes) == 8]
MESHES = ['2x2x1x1x2', '1x2x4x1x1', '2x1x1x4x1', '1x1x2x2x2']
COMPARED = {
  'next_token': MESHES, 'experts': [*MESHES[2:], '1x1x8x1x1'], 'large_vocabulary': MESHES[-1:],
  'group_policy': MESHES[:1], 'whole_rows': MESHES[-1:], 'episode_policy': MESHES[:1]}
SAMPLED = ('none set', '1x8x1x1x1', '2x2x1x1x2')  # with none set data is 8


def run_on_eight_devices(folder, **asked):
  """What `eight_devices.py` finds: the devices of a process are fixed when it starts."""
  out = folder / 'found.json'
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8',
    'XLA_FLAGS': '--xla_backend_optimization_level=0',  # compiles faster
    'PYTHONPATH': str(HERE.parent)}
  subprocess.run(
    [sys.executable, HERE / 'eight_devices.py', out, json.dumps(asked)],
    cwd=HERE.parent, env=environment, check=True, timeout=900)
  return json.loads(out.read_text())


def with_one(compared):
  return {name: [ONE, *meshes] for name, meshes in compared.items()}


@pytest.fixture(scope='module')
def on_eight_devices(tmp_path_factory):
  return run_on_eight_devices(
    tmp_path_factory.mktemp('partitioning'), steps=with_one(COMPARED), layout=MESHES[0])


@pytest.fixture(scope='module')
def sampled_on_eight_devices(tmp_path_factory):
  return run_on_eight_devices(
    tmp_path_factory.mktemp('samples'), samples=[ONE, *SAMPLED[1:]],
    samples_of_experts=[ONE, MESHES[-1]])


def check_step(found, mesh):
  """That loss and gradients of one objective on `mesh` are those of one device."""
  one, many = found[ONE], found[mesh]
  assert many['loss'] == pytest.approx(one['loss'], rel=1e-5)
  assert many['loss_weight'] == one['loss_weight']
  assert many['relative_error'].keys() == one['relative_error'].keys()
  for name, error in many['relative_error'].items():
    assert error < 1e-5, f'gradient of {name}'


@pytest.mark.parametrize(('objective', 'mesh'), [
  (objective, mesh) for objective, meshes in COMPARED.items() for mesh in meshes])
def test_loss_and_gradients_equal_those_of_one_device(on_eight_devices, objective, mesh):
  check_step(on_eight_devices['steps'][objective], mesh)


@pytest.mark.slow
def test_every_mesh_shape_gives_the_loss_and_gradients_of_one_device(tmp_path):
  compared = {'next_token': EVERY_MESH, 'experts': MESHES[:2]}
  found = run_on_eight_devices(tmp_path, steps=with_one(compared))['steps']
  assert len(found['next_token']) == 36
  for objective, meshes in compared.items():
    for mesh in meshes:
      check_step(found[objective], mesh)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', SAMPLED)
def test_samples_do_not_depend_on_the_mesh(sampled_on_eight_devices, mesh):
  """Of prompts, greedy and drawn; of the rollout of an agent in a world; of played episodes.

  Three rows, so that most of eight devices have none; parameters split; in float32. A collective in
  a loop that devices leave at different times would never end.
  """
  one, many = (sampled_on_eight_devices['samples'][name] for name in (ONE, mesh))
  assert many == one
  assert one['greedy'] != one['drawn']
  assert all(len(set(map(str, rows))) > 2 for rows in one.values())


@pytest.mark.slow
def test_samples_of_a_mixture_of_experts_do_not_depend_on_the_mesh(sampled_on_eight_devices):
  one, many = sampled_on_eight_devices['samples_of_experts'].values()
  assert many == one and len(set(map(tuple, one))) > 2


def test_shardings_are_the_golden_ones(on_eight_devices):
  """UPDATE_GOLDEN=1 rewrites them."""
  text = json.dumps(on_eight_devices['shardings'], indent=1) + '\n'
  if os.environ.get('UPDATE_GOLDEN'):
    GOLDEN.write_text(text)
  assert text == GOLDEN.read_text()


def test_moments_follow_their_parameters(on_eight_devices):
  found = on_eight_devices['shardings']['experts']
  for name, spec in found['parameters'].items():
    moments = [other for path, other in found['optimizer'].items() if path.endswith(name)]
    assert moments and all(moment == spec for moment in moments), name


@pytest.mark.requires('safetensors')
def test_a_checkpoint_is_read_onto_the_mesh_a_shard_at_a_time(on_eight_devices):
  found = on_eight_devices['imported']
  assert found['equal'] and found['sharded']
  assert found['largest_read'] == found['largest_shard'] < found['largest_whole'] / 3
  assert found['unplaced'] == [1, 0]


def test_a_large_replicated_array_is_refused_by_name(on_eight_devices):
  assert on_eight_devices['replicated'] == (
    "['table']: 4194304 bytes replicated on 8 devices of mesh fsdp; give it a logical axis that "
    'AXIS_RULES maps there')
  assert 'on 4 devices of mesh fsdp and expert;' in on_eight_devices['half_replicated']
  norms, table = on_eight_devices['replicated_beside']  # of four terabytes
  assert norms == '' and "['table']: 67108864 bytes replicated" in table
  assert on_eight_devices['sharded'] == on_eight_devices['small'] == ''


def test_a_checkpoint_of_eight_devices_is_read_on_fewer(on_eight_devices):
  """In a process of two devices: this one."""
  from aw_jax.training.checkpoints import load_params
  params, _, _ = load_params(on_eight_devices['checkpoint'])
  total = sum(float(abs(x).sum()) for x in _leaves(params))
  assert total == pytest.approx(on_eight_devices['checkpoint_sum'], rel=1e-5)


def _leaves(tree):
  if isinstance(tree, dict):
    return [leaf for value in tree.values() for leaf in _leaves(value)]
  return [tree]


@pytest.mark.parametrize('sizes', [
  {'data': 64}, {'data': 3, 'fsdp': 5}, {'tensor': 7}, {'data': 0}, {'data': -1, 'fsdp': -1}])
def test_a_mesh_that_does_not_fit_is_one_sentence(sizes):
  with pytest.raises(PartitioningError, match=r'^mesh data=.* does not divide \d devices$'):
    partitioning.make_mesh(**sizes)


def test_where_the_mesh_splits_no_parameters_nothing_is_refused():
  import jax.numpy as jnp
  mesh = partitioning.make_mesh()
  partitioning.assert_sharded({'table': jnp.zeros((1024, 1024))}, mesh)
