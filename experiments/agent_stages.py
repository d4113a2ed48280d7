"""The agent's stages: imitation of the noisy expert, policy gradient, the closed loop."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tqdm

from aw_jax.agents.training import EpisodeBatches
from aw_jax.agents.worlds import ImaginedWorld, MixedWorld, RealWorld, World
from aw_jax.environments import registry
from aw_jax.evaluation.closed_loop import closed_loop_summary, replay
from aw_jax.evaluation.statistics import bootstrap_rate, paired_difference
from aw_jax.imagination.rollout import RolloutConfig
from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives
from aw_jax.training.checkpoints import load_params
from aw_jax.training.runner import ExtraWriters, no_writers, packed_batches, run_stage
from aw_jax.trajectories import Task, Trajectory, to_json, write_atomically
from experiments import stages

WORLDS = ('imagined', 'real', 'mixed')


def agent_directory(workdir: str, stage: str) -> str:
  """Where a stage of the agent ('imitation' or 'rl') keeps its checkpoints."""
  return os.path.join(workdir, 'agent', stage)


def imitate(config, workdir: str, extra_writers: ExtraWriters = no_writers) -> Any:
  """Next-token prediction on the noisy expert's actions. Returns the parameters."""
  base = stages.init_directory(config)
  tokenizer = stages.load_tokenizer(config, workdir)
  model, params = stages.model_config(config, tokenizer), None
  if config.agent.init == 'world_model':
    params, model, _ = load_params(base or os.path.join(workdir, 'cpt'))
  elif config.agent.init != 'scratch':
    raise stages.StageError(
        f"config.agent.init: 'world_model' or 'scratch', is {config.agent.init!r}")
  c = config.agent.imitation
  batches = packed_batches(
      stages.records_path(workdir, 'agent'), c.batch_size, config.data.seq_len, config.seed,
      tokenizer)
  return run_stage(
      'agent imitation', c, model, tokenizer, objectives.next_token, batches,
      agent_directory(workdir, 'imitation'), init_params=params, seed=config.seed,
      extra_writers=extra_writers)


def improve(config, workdir: str, extra_writers: ExtraWriters = no_writers) -> Any:
  """Group-relative policy gradient in `config.agent.world`. Returns the parameters."""
  params, model, tokenizer = load_params(agent_directory(workdir, 'imitation'))
  c = config.agent.rl

  def tasks(index: int) -> list[Task]:
    return task_batch(config.domains, 'train', index * c.tasks, c.tasks, config.seed)

  def objective(decoder, parameters, batch):
    return objectives.episode_policy(decoder, parameters, batch, clip=c.clip, ratio=c.ratio)

  with open_world(config, workdir, config.agent.world, model, tokenizer) as world:
    batches = EpisodeBatches(
        world, tasks, c.group, c.temperature, c.updates_per_batch, config.seed)
    return run_stage(
        f'agent in {config.agent.world} world', c, model, tokenizer, objective, batches,
        agent_directory(workdir, 'rl'), init_params=params, seed=config.seed,
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


@contextlib.contextmanager
def open_world(config, workdir: str, kind: str, model: ModelConfig, tokenizer: Tokenizer
               ) -> Iterator[World]:
  """The world of `kind`, closed again at the end. Raises StageError for an unknown kind."""
  if kind not in WORLDS:
    raise stages.StageError(f'agent.world: {kind!r} is not one of {", ".join(WORLDS)}')
  sizes = rollout_config(config, config.agent.rl.group)
  with contextlib.ExitStack() as stack:
    real = imagined = None
    if kind != 'imagined':
      real = RealWorld(model, tokenizer, registry.make_environment, sizes,
                       config.agent.environments)
      stack.callback(real.close)
    if kind != 'real':
      world_params, world_model, _ = load_params(os.path.join(workdir, config.agent.world_model))
      at_a_time = config.agent.rl.tasks if kind == 'imagined' else (config.agent.rl.tasks + 1) // 2
      imagined = ImaginedWorld(model, tokenizer, world_model, world_params, sizes, at_a_time)
    yield MixedWorld(real, imagined) if real and imagined else real or imagined


def _play_all(world: World, params: Any, tasks: Sequence[Task], seed: int, temperature: float,
              label: str, chunk: int = 16) -> list[Trajectory]:
  found = []
  for start in tqdm.trange(0, len(tasks), chunk, desc=label):
    batch = tasks[start:start + chunk]
    found += world.play(params, batch, 1, seed + start, temperature).trajectories
  return found


def _write_trajectories(path: str, trajectories: Sequence[Trajectory]) -> None:
  write_atomically(path, ''.join(json.dumps(to_json(t)) + '\n' for t in trajectories))


def _successes(trajectories: Sequence[Trajectory]) -> list[float]:
  return [float(bool(t.success)) for t in trajectories]


def closed_loop(config, workdir: str) -> dict[str, Any]:
  """Held-out tasks: real before and after, imagined, and imagined actions replayed (W2R).

  The same tasks and the same sampling temperature throughout; the agents' trajectories are kept in
  {workdir}/evaluation/agent_*.jsonl.
  """
  before, model, tokenizer = load_params(agent_directory(workdir, 'imitation'))
  after, _, _ = load_params(agent_directory(workdir, 'rl'))
  tasks = task_batch(config.domains, 'test', 0, config.agent.evaluation_tasks, config.seed)
  temperature, seed = config.agent.evaluation_temperature, config.seed + 1
  played: dict[str, list[Trajectory]] = {}
  with open_world(config, workdir, 'real', model, tokenizer) as real:
    played['real_before'] = _play_all(real, before, tasks, seed, temperature, 'real, before')
    played['real_after'] = _play_all(real, after, tasks, seed, temperature, 'real, after')
  with open_world(config, workdir, 'imagined', model, tokenizer) as imagined:
    played['imagined'] = _play_all(imagined, after, tasks, seed, temperature, 'imagined',
                                   config.agent.rl.tasks)
  played['w2r'] = replay_all(played['imagined'])
  for name, trajectories in played.items():
    _write_trajectories(os.path.join(workdir, 'evaluation', f'agent_{name}.jsonl'), trajectories)
  scores = {name: _successes(trajectories) for name, trajectories in played.items()}
  summary = closed_loop_summary(
      scores['real_after'], scores['imagined'], scores['w2r'], [task.id for task in tasks],
      seed=config.seed)
  return {
      'real_success_before': bootstrap_rate(scores['real_before'], seed=config.seed).to_json(),
      'real_success_after': summary['real_success'].to_json(),
      'improvement': paired_difference(
          scores['real_after'], scores['real_before'], seed=config.seed).to_json(),
      **{name: interval.to_json() for name, interval in summary.items()
         if name != 'real_success'},
      'by_domain': _by_domain(tasks, scores, config),
  }


def _by_domain(tasks, scores, config) -> dict[str, dict[str, Any]]:
  return {
      domain: {
          name: bootstrap_rate(
              [s for s, task in zip(values, tasks, strict=True) if task.domain == domain],
              seed=config.seed).to_json()
          for name, values in scores.items()}
      for domain in config.domains}


def replay_all(imagined: Sequence[Trajectory]) -> list[Trajectory]:
  """The imagined episodes' actions, done in the real environments."""
  environments, found = {}, []
  try:
    for trajectory in tqdm.tqdm(imagined, desc='replay in the real world'):
      domain = trajectory.task.domain
      if domain not in environments:
        environments[domain] = registry.make_environment(domain)
      found.append(replay(
          environments[domain], trajectory.task, [turn.action for turn in trajectory.turns],
          trajectory.submission))
  finally:
    for environment in environments.values():
      environment.close()
  return found
