"""Run by test_partitioning.py in a process with eight CPU devices: OUT ASKED.

Writes as JSON what of it is asked for: 'steps', the first step's loss and gradients of objectives
on each of their meshes against the first one's; 'samples' on each mesh; by 'layout' shardings on a
mesh of fsdp, expert and tensor of 2 each, what `assert_sharded` says, and where a sharded
checkpoint lies.
"""

import functools
import importlib.util
import json
import math
import os
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from aw_jax import partitioning
from aw_jax.imagination.rollout import EpisodePrompts, RolloutConfig, rollout
from aw_jax.imagination.teacher_forcing import Limits, Played, answer_turns
from aw_jax.models import huggingface, safetensors_files, vocabulary
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.sampling.decode import generate
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives, optimizer
from aw_jax.training.checkpoints import Checkpointer
from aw_jax.training.state import TrainState, abstract_state, init_state, make_train_step
from tests.imagination import tiny_chat

CONFIG = ModelConfig(
  vocab_size=320, width=32, layers=1, heads=16, kv_heads=8, head_dim=4, mlp_width=48,
  short_conv_width=2, tied_embeddings=False, dtype='float32', query_block=16)


# Every kind of layer of Qwen3.5-MoE. A DeltaNet's first output in a segment is q.k times v, normed:
# where q.k is small a small epsilon would magnify every rounding.
EXPERTS = ModelConfig(
  vocab_size=320, width=32, layers=2, heads=8, kv_heads=4, head_dim=8, rotary_fraction=0.5,
  zero_centred_norm=True, attention_gate=True, pattern=('delta_net', 'attention'),
  delta_key_heads=2, delta_value_heads=4, delta_key_dim=8, delta_value_dim=6, experts=4,
  experts_per_token=2, expert_width=12, shared_expert_width=8, tied_embeddings=False,
  dtype='float32', query_block=16, norm_epsilon=1e-2)


def make_mesh(sizes: str):
  """Of 'data x fsdp x context x expert x tensor'."""
  shape = tuple(map(int, sizes.split('x')))
  return partitioning.make_mesh(*shape, devices=jax.devices()[:math.prod(shape)])


def rows(*shape, low=0, high=320):
  return np.random.default_rng(sum(shape)).integers(low, high, shape).astype(np.int32)


# Where segments begin in rows of 24 tokens, and where padding does: within shares of 3, 6 or 12
# tokens and at their ends, one segment in several shares, several in one.
SEGMENTS = (([], 24), ([1, 2, 3, 7, 23], 24), ([], 13), ([11, 17], 24), ([5, 20], 22), ([12], 24),
            ([4, 10], 24), ([1], 19))


def next_token_batch():
  rng, place = np.random.default_rng(0), np.arange(24)
  begins = np.array([np.isin(place, starts) for starts, _ in SEGMENTS])
  text = np.array([place < length for _, length in SEGMENTS])
  last = np.maximum.accumulate(begins * place, axis=1)
  # Rows of unlike weight: a mean of the devices' means would differ from the token mean.
  weighted = rng.random((8, 24)) < np.linspace(0.1, 1, 8)[:, None]
  return {
    'tokens': rows(8, 24), 'segment_ids': (text * (1 + np.cumsum(begins, 1))).astype(np.int32),
    'positions': (text * (place - last)).astype(np.int32),
    'loss_weights': (text & weighted).astype(np.float32)}


def logprobs(*shape):
  return np.random.default_rng(7).normal(-3, 1, shape).astype(np.float32)


def group_policy_batch(prompt=12):
  return {
    'prompts': rows(8, prompt), 'prompt_lengths': rows(8, low=1, high=prompt + 1),
    'completions': rows(8, 2, 6), 'completion_lengths': rows(8, 2, low=0, high=7),
    'sampled_logprobs': logprobs(8, 2, 6), 'advantages': logprobs(8, 2) + 3,
    'weights': np.repeat(rows(8, low=0, high=2)[:, None], 2, 1).astype(np.float32),
    'trainer_logprobs': logprobs(8, 2, 6) + 0.1, 'reference_logprobs': logprobs(8, 2, 6) - 0.2}


def episode_policy_batch():
  return {'tokens': rows(8, 16), 'speaker': rows(8, 16, high=2).astype(bool),
          'sampled_logprobs': logprobs(8, 16), 'advantages': logprobs(8) + 3,
          'weights': np.ones(8, np.float32)}


def next_token_of_a_large_vocabulary(model, params, batch):
  """`next_token` by the code that never has all logits."""
  before, vocabulary.CHUNK = vocabulary.CHUNK, 100
  try:
    return objectives.next_token(model, params, batch)
  finally:
    vocabulary.CHUNK = before


POLICY = {'clip': 10.0, 'ratio': 'token'}
OBJECTIVES = {
  'next_token': (CONFIG, objectives.next_token, next_token_batch()),
  'experts': (EXPERTS, objectives.next_token, next_token_batch()),
  'large_vocabulary': (CONFIG, next_token_of_a_large_vocabulary, next_token_batch()),
  'group_policy': (
    CONFIG, functools.partial(objectives.group_policy, **POLICY), group_policy_batch()),
  'whole_rows': (EXPERTS, functools.partial(
    objectives.group_policy, **POLICY, whole_rows=True), group_policy_batch(prompt=10)),
  'episode_policy': (
    CONFIG, functools.partial(objectives.episode_policy, **POLICY), episode_policy_batch())}


@functools.cache
def random_params(config=CONFIG):
  if config is EXPERTS:
    params = jax.device_get(jax.jit(
      lambda key: nn.unbox(init_params(config, key)))(jax.random.key(0)))
    # Slow decays: where nothing of a state is left after a token, their gradients are rounding.
    rates = params['layers']['layer_0']['delta_net']
    rates['decay_rate'] = np.full_like(rates['decay_rate'], -2.0)
    return params
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(config, key)), jax.random.key(0))
  return jax.tree.map(
    lambda x: rng.normal(0.6 * (len(x.shape) == 1), 0.35, x.shape).astype(np.float32), shapes)


def step(config, objective, batch, sizes: str):
  """Loss, weight, gradients and state; the optimiser keeps the gradient and moves nothing."""
  mesh = make_mesh(sizes)
  keep_gradient = optax.chain(optax.trace(0.0), optax.scale(0.0))
  with jax.set_mesh(mesh):
    _, shardings = abstract_state(config, keep_gradient, mesh)
    params = jax.device_put(random_params(config), shardings.params)
    state = TrainState(jnp.int32(0), params, jax.jit(
      keep_gradient.init, out_shardings=shardings.opt_state)(params))
    train_step = make_train_step(config, objective, keep_gradient, mesh, shardings)
    state, metrics = train_step(state, batch)
  gradients = {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in
               jax.tree_util.tree_leaves_with_path(state.opt_state[0].trace)}
  return float(metrics['loss']), float(metrics['loss_weight']), gradients, state


def steps(config, objective, batch, meshes):
  found, one = {}, None
  for sizes in meshes:
    loss, weight, gradients, _ = step(config, objective, batch, sizes)
    one = one or gradients
    found[sizes] = {'loss': loss, 'loss_weight': weight, 'relative_error': {
      name: float(np.linalg.norm(x - one[name]) / np.linalg.norm(one[name]))
      for name, x in gradients.items()}}
  return found


SIZES = RolloutConfig(group=2, turns=3, max_action=5, max_answer=12, max_observation=8,
                      agent_slots=96, world_slots=160, agent_temperature=1.0,
                      world_temperature=1.0)


def chats():
  """Three tasks and three played episodes, in ids that `tiny_chat`'s models have learned."""
  def text(*shape):
    return rows(*shape, low=tiny_chat.TEXT, high=tiny_chat.VOCABULARY)

  agents, worlds, checks = text(3, 12), text(3, 12), text(3, 4)
  agents[:, -4:], worlds[:, -1], checks[:, 0], checks[:, -1] = [4, 2, 4, 3], 4, 2, 4
  lengths = np.full(3, 12, np.int32)
  prompts = EpisodePrompts(agents, lengths, worlds, lengths, checks, np.array([0, 4, 4], np.int32),
                           np.array([2, 3, 1], np.int32))
  played = Played(worlds, lengths, text(3, 3, 2), np.array([[2, 2, 0], [2, 0, 0], [2, 2, 2]]),
                  text(3, 3, 5), np.array([[5, 0, 0], [2, 0, 0], [4, 1, 3]]))
  return prompts, played


def draw(params, agent, world):
  """Tokens of three prompts, tasks and played episodes; of the last two, what was answered."""
  key = jax.random.key(0)
  found = {name: generate(
    Decoder(CONFIG), params, rows(3, 16), np.array([16, 3, 9]), key, group=2, stop=7,
    max_tokens=12, temperature=temperature).tokens
    for name, temperature in (('greedy', 0.0), ('drawn', 1.0))}
  model, (prompts, played) = Decoder(tiny_chat.CONFIG), chats()
  out = rollout(model, agent, model, world, prompts, key, tiny_chat.MARKUP, SIZES)
  answers = answer_turns(model, world, played, tiny_chat.MARKUP, Limits(80, 14, 0))
  found |= {'rollout': out.tokens, 'observations': out.observations.reshape(6, -1),
            'answers': answers.texts.reshape(3, -1)}
  return {name: np.asarray(tokens).tolist() for name, tokens in found.items()}


def samples_of_experts(meshes):
  """Completions of three prompts by a mixture of experts on each mesh."""
  found = {}
  for sizes in meshes:
    mesh = make_mesh(sizes)
    with jax.set_mesh(mesh):
      params = split(EXPERTS, random_params(EXPERTS), mesh)
      found[sizes] = generate(
        Decoder(EXPERTS), params, rows(3, 16), np.array([16, 3, 9]), jax.random.key(0), group=2,
        stop=7, max_tokens=6, temperature=1.0).tokens.tolist()
  return found


def split(config, params, mesh):
  boxed = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
  return jax.device_put(params, partitioning.param_shardings(boxed, mesh))


def samples(meshes):
  """`draw` on each mesh, parameters split as training leaves them, and with no mesh set."""
  trained = tiny_chat.trained_models()
  models = ((CONFIG, random_params()), *(
    (tiny_chat.CONFIG, trained[side, False][1]) for side in ('agent', 'world')))
  found = {'none set': draw(*(params for _, params in models))}

  for sizes in meshes:
    mesh = make_mesh(sizes)
    with jax.set_mesh(mesh):
      found[sizes] = draw(*(split(*model, mesh) for model in models))
  return found


def shardings():
  config = ml_collections.ConfigDict({
    'name': 'adamw', 'peak_lr': 1.0, 'warmup_steps': 1, 'total_steps': 2, 'schedule': 'constant',
    'final_lr_ratio': 0.1, 'weight_decay': 0.0, 'clip_norm': 1.0, 'adam_lr_ratio': 1.0})

  def specs(tree):
    return {jax.tree_util.keystr(path): str(leaf.spec)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

  mesh, found = make_mesh('1x2x1x2x2'), {}
  for name, model in (('dense', CONFIG), ('experts', EXPERTS)):
    with jax.set_mesh(mesh):
      _, shardings = init_state(model, optimizer.make_optimizer(config), mesh, 0)
    found[name] = {
      'parameters': specs(shardings.params), 'optimizer': specs(shardings.opt_state)}
  return found


def imported(folder):
  """A checkpoint in many files, read onto a mesh: what came, and the most that was read at once.

  None where the package safetensors is missing.
  """
  if importlib.util.find_spec('safetensors') is None:
    return None
  params, mesh = random_params(EXPERTS), make_mesh('1x2x1x2x2')
  safetensors_files.write(huggingface.iterate_state_dict(params, EXPERTS), folder, max_bytes=20_000)
  read, put, sizes, unplaced = huggingface._read, jax.device_put, [], [0]

  def noted_read(*arguments):
    sizes.append(read(*arguments).nbytes)
    unplaced.append(unplaced[-1] + 1)
    return read(*arguments)

  def noted_put(*arguments):
    unplaced.append(unplaced[-1] - 1)
    return put(*arguments)

  huggingface._read, jax.device_put = noted_read, noted_put
  shardings = partitioning.param_shardings(huggingface.abstract_params(EXPERTS), mesh)
  found = huggingface.from_state_dict(
    safetensors_files.SafetensorsFolder(folder), EXPERTS, shardings)
  huggingface._read, jax.device_put = read, put
  leaves, wanted = jax.tree.leaves(found), jax.tree.leaves(params)
  return {
    'equal': all(np.array_equal(a, b) for a, b in zip(leaves, wanted, strict=True)),
    'sharded': all(a.sharding == b for a, b in zip(
      leaves, jax.tree.leaves(shardings), strict=True)),
    'largest_read': max(sizes), 'unplaced': [max(unplaced), unplaced[-1]],
    'largest_whole': max(x.nbytes for x in wanted),
    'largest_shard': max(x.addressable_shards[0].data.nbytes for x in leaves)}


def refusal(shape, spec, sizes='1x8x1x1x1', beside=0):
  """What is said of an array, and one of `beside` rows that is split."""
  mesh = make_mesh(sizes)

  def array(shape, spec):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

  split = array((beside, 1024), PartitionSpec(('fsdp', 'expert', 'tensor')))
  try:
    partitioning.assert_sharded({'beside': split, 'table': array(shape, spec)}, mesh)
  except partitioning.PartitioningError as error:
    return str(error)
  return ''


def layout(folder, mesh):
  """How arrays lie on devices, in memory and in files; a checkpoint of a state on `mesh`."""
  state = step(*OBJECTIVES['next_token'], mesh)[-1]
  checkpoint = os.path.join(folder, 'checkpoint')
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  checkpointer = Checkpointer(checkpoint, CONFIG, tokenizer)
  checkpointer.save(state)
  checkpointer.close()
  large, small, nowhere = (1024, 1024), (8, 8), PartitionSpec()
  return {
    'shardings': shardings(),
    'replicated': refusal(large, nowhere),
    'replicated_beside': [
      refusal(shape, nowhere, beside=1 << 30) for shape in (large, (16 * 1024, 1024))],
    'half_replicated': refusal(large, PartitionSpec(None, 'tensor'), '1x2x1x2x2'),
    'sharded': refusal(large, PartitionSpec('fsdp')), 'small': refusal(small, nowhere),
    'imported': imported(os.path.join(folder, 'safetensors')),
    'checkpoint': checkpoint,
    'checkpoint_sum': sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(state.params))}


def main():
  out, asked = sys.argv[1], json.loads(sys.argv[2])
  found = {}
  if 'steps' in asked:
    found['steps'] = {
      name: steps(*OBJECTIVES[name], meshes) for name, meshes in asked['steps'].items()}
  if 'samples' in asked:
    found['samples'] = samples(asked['samples'])
    found['samples_of_experts'] = samples_of_experts(asked['samples_of_experts'])
  if 'layout' in asked:
    found |= layout(os.path.dirname(out), asked['layout'])
  with open(out, 'w', encoding='utf-8') as file:
    json.dump(found, file)


if __name__ == '__main__':
  main()
