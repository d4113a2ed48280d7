"""Run by test_partitioning.py in a process with eight CPU devices: OUT MESH...

Writes as JSON: the first step's loss and gradients on each mesh against the first one's, samples on
each mesh, shardings on a mesh of 2 x 2 x 2, what `assert_sharded` says, and where a sharded
checkpoint lies.
"""

import json
import os
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.sampling.decode import generate
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives, optimizer
from aw_jax.training.checkpoints import Checkpointer
from aw_jax.training.state import init_state, make_train_step

CONFIG = ModelConfig(
  vocab_size=320, width=32, layers=1, heads=8, kv_heads=4, head_dim=4, mlp_width=48,
  short_conv_width=2, tied_embeddings=False, dtype='float32', query_block=16)


def make_mesh(sizes: str):
  shape = tuple(map(int, sizes.split('x')))
  return jax.make_mesh(
    shape, partitioning.MESH_AXES, axis_types=(AxisType.Auto,) * 3,
    devices=jax.devices()[:int(np.prod(shape))])


def batch():
  rng = np.random.default_rng(0)
  segments = np.tile(np.repeat([1, 2], 8), (8, 1)).astype(np.int32)
  return {
    'tokens': rng.integers(0, 320, (8, 16)).astype(np.int32), 'segment_ids': segments,
    'positions': np.tile([*range(8)] * 2, (8, 1)).astype(np.int32),
    # Rows of unlike weight: a mean of the devices' means would differ from the token mean.
    'loss_weights': (rng.random((8, 16)) < np.linspace(0.1, 1, 8)[:, None]).astype(np.float32)}


def random_params():
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(CONFIG, key)), jax.random.key(0))
  return jax.tree.map(lambda x: rng.normal(0.2, 0.3, x.shape).astype(np.float32), shapes)


def step(sizes: str):
  """Loss, weight, gradients and state; the optimiser keeps the gradient and moves nothing."""
  mesh = make_mesh(sizes)
  keep_gradient = optax.chain(optax.trace(0.0), optax.scale(0.0))
  with jax.set_mesh(mesh):
    state, shardings = init_state(CONFIG, keep_gradient, mesh, 0)
    state = state.replace(params=jax.device_put(random_params(), shardings.params))
    train_step = make_train_step(CONFIG, objectives.next_token, keep_gradient, mesh, shardings)
    state, metrics = train_step(state, batch())
  gradients = {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in
               jax.tree_util.tree_leaves_with_path(state.opt_state[0].trace)}
  return float(metrics['loss']), float(metrics['loss_weight']), gradients, state


def steps(meshes):
  found, one = {}, None
  for sizes in meshes:
    loss, weight, gradients, state = step(sizes)
    one = one or gradients
    found[sizes] = {'loss': loss, 'loss_weight': weight, 'relative_error': {
      name: float(np.linalg.norm(x - one[name]) / np.linalg.norm(one[name]))
      for name, x in gradients.items()}}
  return found, state


def samples(meshes):
  """Greedy and drawn tokens of three prompts, two of each: on each mesh, and with none set."""
  def draw(params):
    return {str(temperature): np.asarray(generate(
      Decoder(CONFIG), params, batch()['tokens'][:3], np.array([16, 3, 9]), jax.random.key(0),
      group=2, stop=7, max_tokens=12, temperature=temperature).tokens).tolist()
      for temperature in (0.0, 1.0)}

  found = {'none set': draw(random_params())}
  for sizes in meshes:
    mesh = make_mesh(sizes)
    with jax.set_mesh(mesh):
      boxed = jax.eval_shape(lambda key: init_params(CONFIG, key), jax.random.key(0))
      found[sizes] = draw(
        jax.device_put(random_params(), partitioning.param_shardings(boxed, mesh)))
  return found


def shardings():
  config = ml_collections.ConfigDict({
    'name': 'adamw', 'peak_lr': 1.0, 'warmup_steps': 1, 'total_steps': 2, 'schedule': 'constant',
    'final_lr_ratio': 0.1, 'weight_decay': 0.0, 'clip_norm': 1.0, 'adam_lr_ratio': 1.0})
  mesh = make_mesh('2x2x2')
  with jax.set_mesh(mesh):
    _, found = init_state(CONFIG, optimizer.make_optimizer(config), mesh, 0)

  def specs(tree):
    return {jax.tree_util.keystr(path): str(leaf.spec)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  return {'parameters': specs(found.params), 'optimizer': specs(found.opt_state)}


def refusal(array, spec):
  mesh = make_mesh('1x8x1')
  array = jax.device_put(array, NamedSharding(mesh, spec))
  try:
    partitioning.assert_sharded({'table': array}, mesh)
  except partitioning.PartitioningError as error:
    return str(error)
  return ''


def main():
  out, *meshes = sys.argv[1:]
  found, state = steps(meshes)
  folder = os.path.join(os.path.dirname(out), 'checkpoint')
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  checkpointer = Checkpointer(folder, CONFIG, tokenizer)
  checkpointer.save(state)
  checkpointer.close()
  large, small = jnp.zeros((1024, 1024)), jnp.zeros((8, 8))
  with open(out, 'w', encoding='utf-8') as file:
    json.dump({
      'steps': found, 'samples': samples(meshes), 'shardings': shardings(),
      'replicated': refusal(large, PartitionSpec()),
      'sharded': refusal(large, PartitionSpec('fsdp')), 'small': refusal(small, PartitionSpec()),
      'checkpoint': folder,
      'checkpoint_sum': sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(state.params)),
    }, file)


if __name__ == '__main__':
  main()
