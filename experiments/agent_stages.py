"""The agent's stages: imitation of the noisy expert, policy gradient, the closed loop."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import tqdm

from aw_jax import partitioning
from aw_jax.agents.training import EpisodeBatches
from aw_jax.agents.worlds import ImaginedWorld, MixedWorld, RealWorld, World
from aw_jax.environments import registry
from aw_jax.evaluation.closed_loop import closed_loop_summary, replay
from aw_jax.evaluation.statistics import bootstrap_rate, paired_difference, t_interval
from aw_jax.imagination.rollout import RolloutConfig
from aw_jax.models.config import ModelConfig
from aw_jax.prompts import templates
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives
from aw_jax.training.checkpoints import load_params
from aw_jax.training.runner import ExtraWriters, no_writers, packed_batches, run_stage
from aw_jax.trajectories import Task, Trajectory, to_json, write_atomically
from experiments import stages

WORLDS = ('imagined', 'real', 'mixed')


def agent_directory(workdir: str, stage: str, seed: int) -> str:
  """Where an agent keeps its checkpoints: of 'imitation', or of the world it trained in."""
  return os.path.join(workdir, 'agent', str(seed), stage)


def imitate(config, workdir: str, seed: int, extra_writers: ExtraWriters = no_writers) -> Any:
  """Next-token prediction on the noisy expert's actions. Returns the parameters."""
  base = stages.init_directory(config)
  tokenizer = stages.load_tokenizer(config, workdir)
  c = config.agent.imitation
  mesh = partitioning.make_mesh(**c.mesh)
  model, params = stages.model_config(config, tokenizer), None
  if config.agent.init == 'world_model':
    params, model = stages.load_start(config, base or os.path.join(workdir, 'cpt'), mesh)
  elif config.agent.init != 'scratch':
    raise stages.StageError(
        f"config.agent.init: 'world_model' or 'scratch', is {config.agent.init!r}")
  batches = packed_batches(
      {stages.records_path(workdir, name): count for name, count in c.rows.items()},
      config.data.seq_len, seed, tokenizer, mesh)
  return run_stage(
      'agent imitation', c, model, tokenizer, objectives.next_token, batches,
      agent_directory(workdir, 'imitation', seed), init_params=params, seed=seed,
      extra_writers=extra_writers)


def improve(config, workdir: str, seed: int, extra_writers: ExtraWriters = no_writers) -> Any:
  """Group-relative policy gradient in `config.world`. Returns the parameters."""
  c = config.agent.rl
  stages.require_on_policy('agent.rl', c.temperature)
  params, model, tokenizer = load_params(
      agent_directory(workdir, 'imitation', seed), _rollout_mesh(config))

  def tasks(index: int) -> list[Task]:
    # Of one domain: a rollout lasts as long as its longest episode, and domains differ in that.
    turn, domain = divmod(index, len(config.domains))
    return task_batch((config.domains[domain],), 'train', turn * c.tasks, c.tasks, seed)

  def objective(decoder, parameters, batch):
    return objectives.episode_policy(decoder, parameters, batch, clip=c.clip, ratio=c.ratio)

  imagined_tasks = c.tasks if config.world == 'imagined' else (c.tasks + 1) // 2
  with open_world(config, workdir, config.world, model, tokenizer, imagined_tasks) as world:
    batches = EpisodeBatches(
        world=world, tasks=tasks, group=c.group, temperature=c.temperature,
        updates_per_batch=c.updates_per_batch, seed=seed)
    return run_stage(
        f'agent in {config.world} world', c, model, tokenizer, objective, batches,
        agent_directory(workdir, config.world, seed), init_params=params, seed=seed,
        extra_writers=extra_writers)


def task_batch(domains: Sequence[str], split: str, start: int, count: int, seed: int) -> list[Task]:
  """`count` tasks of an endless series, domains in turn."""
  return [
      registry.task_at(domains[i % len(domains)], split, i // len(domains), seed,
                       'rl' if split == 'train' else None)
      for i in range(start, start + count)]


def rollout_config(config, group: int) -> RolloutConfig:
  """The sizes of a rollout, from the config."""
  return RolloutConfig(group=group, thinking=config.agent.thinking, **config.agent.rollout)


def _rollout_mesh(config) -> jax.sharding.Mesh:
  """Where agents and world models play: that of the agents' training."""
  return partitioning.make_mesh(**config.agent.rl.mesh)


@contextlib.contextmanager
def open_world(config, workdir: str, kind: str, model: ModelConfig, tokenizer: Tokenizer,
               tasks_at_a_time: int) -> Iterator[World]:
  """The world of `kind`, closed again at the end. Raises StageError for an unknown kind.

  `tasks_at_a_time` of them are imagined by one device program.
  """
  if kind not in WORLDS:
    raise stages.StageError(f'config.world: {kind!r} is not one of {", ".join(WORLDS)}')
  sizes = rollout_config(config, config.agent.rl.group)
  with contextlib.ExitStack() as stack:
    real = imagined = None
    if kind != 'imagined':
      real = RealWorld(model, tokenizer, registry.make_environment, sizes,
                       config.agent.environments)
      stack.callback(real.close)
    if kind != 'real':
      world_params, world_model, _ = load_params(
          os.path.join(workdir, config.agent.world_model), _rollout_mesh(config))
      imagined = ImaginedWorld(model, tokenizer, world_model, world_params, sizes, tasks_at_a_time,
                               templates.STAGE_TEMPLATES[config.agent.world_model][0],
                               config.data.prompts)
    yield MixedWorld(real, imagined) if real and imagined else real or imagined


def _play_all(world: World, params: Any, tasks: Sequence[Task], seed: int, temperature: float,
              label: str, at_a_time: int) -> list[Trajectory]:
  found = []
  for start in tqdm.trange(0, len(tasks), at_a_time, desc=label):
    batch = tasks[start:start + at_a_time]
    found += world.play(params, batch, 1, seed + start, temperature).trajectories
  return found


def _write_trajectories(path: str, trajectories: Sequence[Trajectory]) -> None:
  write_atomically(path, ''.join(json.dumps(to_json(t)) + '\n' for t in trajectories))


def play_held_out(config, workdir: str, seed: int) -> dict[str, list[float]]:
  """Success of one seed's agents on the held-out tasks, every way: real, imagined, replayed (W2R).

  The same tasks and sampling temperature throughout; the trajectories are kept in
  {workdir}/evaluation/agent_{world}_{seed}_*.jsonl.
  """
  mesh = _rollout_mesh(config)
  before, model, tokenizer = load_params(agent_directory(workdir, 'imitation', seed), mesh)
  after, _, _ = load_params(agent_directory(workdir, config.world, seed), mesh)
  tasks = held_out_tasks(config)
  temperature, at_a_time = config.agent.evaluation_temperature, config.agent.environments
  played: dict[str, list[Trajectory]] = {}
  with jax.set_mesh(mesh):
    with open_world(config, workdir, 'real', model, tokenizer, at_a_time) as real:
      for name, params in (('real_before', before), ('real_after', after)):
        played[name] = _play_all(real, params, tasks, seed, temperature, name, at_a_time)
    with open_world(config, workdir, 'imagined', model, tokenizer, at_a_time) as imagined:
      played['imagined'] = _play_all(
          imagined, after, tasks, seed, temperature, 'imagined', at_a_time)
  played['w2r'] = replay_all(played['imagined'])
  for name, trajectories in played.items():
    _write_trajectories(episodes_path(workdir, config.world, seed, name), trajectories)
  return {name: [float(bool(t.success)) for t in trajectories]
          for name, trajectories in played.items()}


def episodes_path(workdir: str, world: str, seed: int, name: str) -> str:
  """Where `play_held_out` keeps the episodes it calls `name`, of an agent trained in `world`."""
  return os.path.join(workdir, 'evaluation', f'agent_{world}_{seed}_{name}.jsonl')


def held_out_tasks(config) -> list[Task]:
  """The held-out tasks that every agent is evaluated on."""
  return task_batch(
      config.domains, config.evaluate.split, 0, config.agent.evaluation_tasks, config.seed)


def measure(config, workdir: str) -> dict[str, Any]:
  """The closed loop of the agents trained in `config.world`; made once, then read."""
  return stages.once(os.path.join(workdir, 'evaluation', f'agent_{config.world}.json'),
                     lambda: closed_loop(config, workdir))


def closed_loop(config, workdir: str) -> dict[str, Any]:
  """The figures of the closed loop, over all agent seeds; intervals draw whole tasks.

  `seeds` has each seed's own rates, and where there are several, their mean with the Student-t
  interval over seeds.
  """
  scores = {
      seed: stages.once(
          os.path.join(workdir, 'evaluation', f'agent_{config.world}_{seed}.json'),
          lambda seed=seed: play_held_out(config, workdir, seed))
      for seed in config.agent.seeds}
  pooled = {name: [s for seed in scores for s in scores[seed][name]]
            for name in ('real_before', 'real_after', 'imagined', 'w2r')}
  tasks = held_out_tasks(config) * len(scores)
  ids = [task.id for task in tasks]
  summary = closed_loop_summary(
      pooled['real_after'], pooled['imagined'], pooled['w2r'], ids, seed=config.seed)
  before = bootstrap_rate(pooled['real_before'], ids, seed=config.seed)
  return {
      'real_success_before': before.to_json(),
      'real_success_after': summary['real_success'].to_json(),
      'improvement': paired_difference(
          pooled['real_after'], pooled['real_before'], ids, seed=config.seed).to_json(),
      **{name: interval.to_json() for name, interval in summary.items()
         if name != 'real_success'},
      'by_domain': _by(lambda task: task.domain, tasks, pooled, config),
      'by_families': _by(_families, tasks, pooled, config),
      'seeds': _by_seed(scores),
  }


def _by_seed(scores: dict[int, dict[str, list[float]]]) -> dict[str, Any]:
  rates = {str(seed): {name: sum(values) / len(values) for name, values in found.items()}
           for seed, found in scores.items()}
  if len(rates) > 1:
    rates['over_seeds'] = {
        name: t_interval([rates[seed][name] for seed in map(str, scores)]).to_json()
        for name in ('real_before', 'real_after', 'imagined', 'w2r')}
  return rates


def _by(label: Callable[[Task], str], tasks, scores, config) -> dict[str, dict[str, Any]]:
  """Every rate over the tasks of each label."""
  found = {}
  for name in sorted(set(map(label, tasks))):
    rows = [i for i, task in enumerate(tasks) if label(task) == name]
    ids = [tasks[i].id for i in rows]
    found[name] = {
        way: bootstrap_rate([values[i] for i in rows], ids, seed=config.seed).to_json()
        for way, values in scores.items()}
  return found


def _families(task: Task) -> str:
  """Whether tasks of its family are trained on."""
  return 'held_out' if task.family in registry.held_out(task.domain) else 'seen'


def replay_all(imagined: Sequence[Trajectory]) -> list[Trajectory]:
  """The imagined episodes' actions, done in the real environments."""
  environments, found = {}, []
  try:
    for trajectory in tqdm.tqdm(imagined, desc='replay in the real world'):
      domain = trajectory.task.domain
      if domain not in environments:
        environments[domain] = registry.make_environment(domain)
      replayed = replay(
          environments[domain], trajectory.task, [turn.action for turn in trajectory.turns],
          trajectory.submission)
      by_command = trajectory.task.verifier.kind == 'command'
      if by_command and trajectory.verification is None and not trajectory.error:
        # It ended in something that was no action: a failure in every world. Where the world model
        # had no answer, what was done until then decides.
        replayed = dataclasses.replace(replayed, success=False)
      found.append(replayed)
  finally:
    for environment in environments.values():
      environment.close()
  return found
