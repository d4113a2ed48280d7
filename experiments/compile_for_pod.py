r"""Compiles a stage's real step for a TPU pod, ahead of time, on a machine without a TPU.

    pip install -e '.[tpu]'
    python -m experiments.compile_for_pod --config=configs/pod_35b_a3b.py --topology=v5p:4x4x4 \
        --stage=cpt

Prints the bytes each device holds, FLOPs of the step, what devices exchange by kind of collective,
and the time bounds that follow from the chip's data sheet. Meshes, lengths and batches are those of
the config. `rl` is the update on samples, not the sampling; `imagine` is the rollout of agents in a
world model of the same shape, both in the model's dtype and split over the mesh. The compiler is
that of libtpu; minutes on two cores.
"""

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import tqdm
from absl import flags
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import config_flags

from aw_jax import partitioning, trajectories
from aw_jax.evaluation import results
from aw_jax.imagination.markup import Markup
from aw_jax.imagination.rollout import EpisodePrompts, rollout
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.training import objectives
from aw_jax.training.optimizer import make_optimizer
from aw_jax.training.state import abstract_state, make_train_step
from experiments import agent_stages, commands, program_costs

STAGES = ('cpt', 'sft', 'rl', 'imagine')

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/pod_35b_a3b.py', 'Config file.', lock_config=True)
_TOPOLOGY = flags.DEFINE_string(
    'topology', 'v5p:4x4x4', f'Chip and shape of the pod; chips: {", ".join(program_costs.CHIPS)}.')
_STAGE = flags.DEFINE_enum('stage', 'cpt', STAGES, 'Whose step is compiled.')
_OUT = flags.DEFINE_string('out', None, 'JSON file that the figures are written to as well.')


class PodError(ValueError):
  """The pod cannot be described; the message says what is missing."""


@dataclasses.dataclass(frozen=True)
class Program:
  """What is compiled, and the same with what can be counted.

  Attributes:
    function: jitted, for `arguments` of ShapeDtypeStructs with shardings.
    arguments: of the function.
    countable: the same work without kernels, for `program_costs.matmul_flops`.
    tokens: of the batch; None where the number depends on what is sampled.
  """

  function: Callable[..., Any]
  arguments: tuple[Any, ...]
  countable: Callable[..., Any] | None
  tokens: int | None


def pod_devices(topology: str) -> tuple[program_costs.Chip, list[jax.Device]]:
  """The chip and devices of 'v5p:4x4x4'.

  Raises:
    PodError: for an unknown chip, a shape that libtpu does not know, or where libtpu is missing.
  """
  name = topology.partition(':')[0]
  if name not in program_costs.CHIPS:
    raise PodError(f'--topology={topology}: chip {name!r} is not one of '
                   f'{", ".join(program_costs.CHIPS)}')
  # There is no TPU to ask about, and none that two processes could want.
  os.environ.update({'TPU_SKIP_MDS_QUERY': '1', 'ALLOW_MULTIPLE_LIBTPU_LOAD': '1'})
  try:
    found = topologies.get_topology_desc(platform='tpu', topology_name=topology)
  except (RuntimeError, ValueError, NotImplementedError) as error:
    reason = ' '.join(str(error).split())
    raise PodError(f"--topology={topology}: {reason}; libtpu comes with pip install -e '.[tpu]'"
                   ) from error
  return program_costs.CHIPS[name], list(found.devices)


def struct(shape: tuple[int, ...], dtype: Any, mesh: Mesh) -> jax.ShapeDtypeStruct:
  """An array of a batch, its rows over the mesh."""
  return jax.ShapeDtypeStruct(shape, dtype, sharding=partitioning.batch_sharding(mesh))


def token_batch(stage: ml_collections.ConfigDict, seq_len: int, mesh: Mesh) -> dict[str, Any]:
  """A batch of packed rows."""
  shape = (sum(stage.rows.values()), seq_len)
  return {name: struct(shape, jnp.float32 if name == 'loss_weights' else jnp.int32, mesh)
          for name in ('tokens', 'segment_ids', 'positions', 'loss_weights')}


def policy_batch(stage: ml_collections.ConfigDict, mesh: Mesh) -> dict[str, Any]:
  """The share of a batch of samples that one step of RL takes."""
  count, group = (stage.train_groups or stage.prompts) // stage.updates_per_batch, stage.group
  completions = (count, group, stage.max_tokens)
  shapes = {
      'prompts': ((count, stage.max_prompt), jnp.int32), 'prompt_lengths': ((count,), jnp.int32),
      'completions': (completions, jnp.int32), 'completion_lengths': ((count, group), jnp.int32),
      'sampled_logprobs': (completions, jnp.float32), 'advantages': ((count, group), jnp.float32),
      'weights': ((count, group), jnp.float32)}
  return {name: struct(shape, dtype, mesh) for name, (shape, dtype) in shapes.items()}


def train_program(config: ml_collections.ConfigDict, model: ModelConfig, name: str, mesh: Mesh
                  ) -> Program:
  """The train step of CPT, SFT or RL."""
  stage = config[name]
  if name == 'rl':
    objective = functools.partial(
        objectives.group_policy, clip=stage.clip, ratio=stage.ratio, whole_rows=stage.whole_rows)
    batch = policy_batch(stage, mesh)
    count, group, length = batch['completions'].shape
    tokens = count * (group * (stage.max_prompt + length) if stage.whole_rows else
                      stage.max_prompt + group * length)
  else:
    objective, batch = objectives.next_token, token_batch(stage, config.data.seq_len, mesh)
    tokens = batch['tokens'].size
  optimizer = make_optimizer(
      ml_collections.ConfigDict({**stage.optimizer, 'total_steps': stage.steps}))
  abstract, shardings = abstract_state(model, optimizer, mesh)
  state = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, shardings)
  partitioning.assert_sharded(state, mesh)
  step = make_train_step(model, objective, optimizer, mesh, shardings)

  def loss(params, batch):
    total, count, _ = objective(Decoder(countable_model(model)), params, batch)
    return total / count

  return Program(
      step, (state, batch), lambda state, batch: jax.grad(loss)(state.params, batch), tokens)


def countable_model(model: ModelConfig) -> ModelConfig:
  """With attention in so few blocks of queries that half the square is counted, and an eighth."""
  return dataclasses.replace(model, attention_kind='blocks', query_block=8192)


def imagine_program(config: ml_collections.ConfigDict, model: ModelConfig, mesh: Mesh) -> Program:
  """The rollout of agents in a world model of the same shape."""
  stage = config.agent.rl
  sizes = agent_stages.rollout_config(config, stage.group)
  boxed = abstract_params(model)
  params = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, model.dtype, sharding=s), nn.unbox(boxed),
      partitioning.param_shardings(boxed, mesh))

  def prompts(length):
    return struct((stage.tasks, length), jnp.int32, mesh), struct((stage.tasks,), jnp.int32, mesh)

  tasks = EpisodePrompts(
      *prompts(sizes.agent_slots // 4), *prompts(sizes.world_slots // 2),
      *prompts(sizes.world_slots // 16),
      struct((stage.tasks,), jnp.int32, mesh))
  # Which ids they are makes no difference to the program.
  markup = Markup((1, 2, 3), (4, 5, 6), 7, 8, 9, 10, 11, 12, tuple(range(1, 13)))
  key = jax.eval_shape(lambda: jax.random.key(0))
  decoder = Decoder(model)
  function = jax.jit(lambda agent, world, tasks, key: rollout(
      decoder, agent, decoder, world, tasks, key, markup, sizes))
  return Program(function, (params, params, tasks, key), None, None)


def pod_model(config: ml_collections.ConfigDict) -> ModelConfig:
  """The decoder of `config`, with the kernels of a TPU, which is not the machine that compiles."""
  kind = config.model.attention_kind
  return ModelConfig.from_dict({
      **config.model, 'vocab_size': config.data.vocab_size,
      'attention_kind': 'splash' if kind == 'auto' else kind})


def count_parameters(model: ModelConfig) -> int:
  return sum(x.size for x in jax.tree.leaves(abstract_params(model)))


def abstract_params(model: ModelConfig) -> Any:
  """Shapes of the parameters, boxed with their logical axes."""
  return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def compile_stage(config: ml_collections.ConfigDict, name: str, topology: str) -> dict[str, Any]:
  """Compiles a stage's step and returns its figures, all for one device but the FLOPs."""
  chip, devices = pod_devices(topology)
  model = pod_model(config)
  mesh = partitioning.make_mesh(
      **(config.agent.rl if name == 'imagine' else config[name]).mesh, devices=devices)
  steps = tqdm.tqdm(('trace', 'lower', 'compile', 'count'), desc=f'{name} on {topology}')
  started = time.time()
  with jax.set_mesh(mesh):
    steps.update()
    if name == 'imagine':
      program = imagine_program(config, model, mesh)
    else:
      program = train_program(config, model, name, mesh)
    lowered = program.function.lower(*program.arguments)
    steps.update()
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      raise PodError(f'{name} on {topology}: {" ".join(str(error).split())}; split rows over more '
                     'chips (mesh.context, mesh.expert) or take fewer of them') from error
    steps.update()
  memory, hlo = compiled.memory_analysis(), compiled.as_text()
  flops = program.countable and program_costs.matmul_flops(
      program.countable, *unsharded(program.arguments))
  steps.close()
  traffic = program_costs.collectives(hlo)
  held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
      'commit': results.commit(), 'model': model.to_dict(), 'stage': name, 'topology': topology,
      'devices': mesh.size, 'mesh': dict(mesh.shape),
      'parameters': count_parameters(model), 'tokens': program.tokens, 'bytes': {
          'arguments and results': held, 'temporary': memory.temp_size_in_bytes,
          'program': memory.generated_code_size_in_bytes, 'HBM': int(chip.memory)},
      'flops': flops, 'collectives': {kind: dataclasses.asdict(x) for kind, x in traffic.items()},
      'bounds': time_bounds(chip, mesh.size, flops, held, traffic),
      'compiled in seconds': round(time.time() - started)}


def unsharded(arguments: Any) -> Any:
  """The same shapes without shardings."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)


def time_bounds(chip: program_costs.Chip, devices: int, flops: int | None, held: int,
                traffic: dict[str, program_costs.Traffic]) -> dict[str, float]:
  """Seconds below which no step can be: each resource of the chip alone, used without a pause.

  What is held in memory is read once at least; what devices exchange takes all links at once.
  """
  bounds = {'memory': held / chip.memory_bandwidth,
            'links': sum(x.bytes for x in traffic.values()) / chip.link_bandwidth}
  if flops is not None:
    bounds['compute'] = flops / devices / chip.flops
  return bounds


def fits(figures: dict[str, Any]) -> bool:
  """Whether a chip can hold what it needs."""
  sizes = figures['bytes']
  return sum(sizes.values()) - sizes['HBM'] <= sizes['HBM']


def describe(figures: dict[str, Any]) -> str:
  """The figures as text."""
  gib = {name: size / 2**30 for name, size in figures['bytes'].items()}
  used = sum(gib.values()) - gib['HBM']
  mesh = ' x '.join(f'{axis} {size}' for axis, size in figures['mesh'].items() if size > 1)
  lines = [
      f'{figures["stage"]} on {figures["topology"]}: {figures["devices"]} chips as {mesh}; '
      f'{figures["parameters"] / 1e9:.1f} billion parameters',
      f'a chip holds {used:.1f} of {gib["HBM"]:.0f} GiB: ' + ', '.join(
          f'{name} {size:.1f}' for name, size in gib.items() if name != 'HBM')
      + ('' if fits(figures) else '. It does NOT fit')]
  if figures['flops']:
    lines.append(f'{figures["flops"]:.3g} FLOPs a step of {figures["tokens"]:,} tokens')
  for kind, traffic in figures['collectives'].items():
    lines.append(f'{kind}: {traffic["count"]:,} times, a chip sends {traffic["bytes"] / 2**30:.2f} '
                 'GiB')
  limit = max(figures['bounds'], key=figures['bounds'].get)
  lines.append('no step can be faster than ' + ', '.join(
      f'{seconds:.3g} s ({name})' for name, seconds in figures['bounds'].items())
      + f': {limit} bounds it')
  return '\n'.join(lines)


def main():
  figures = compile_stage(_CONFIG.value, _STAGE.value, _TOPOLOGY.value)
  print(describe(figures))
  if _OUT.value:
    trajectories.write_atomically(_OUT.value, json.dumps(figures, indent=1) + '\n')
  if not fits(figures):
    raise SystemExit(1)  # for scripts


if __name__ == '__main__':
  commands.run(main, 'compile_for_pod')
