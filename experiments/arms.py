"""The runs of a study: one config for each arm and seed, each in a folder of its own.

    {workdir}/{arm}/{seed}/     a work directory, see `stages`
    {workdir}/episodes/{seed}/  what is collected, for all arms of a seed
"""

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from experiments import measures, stages


def arm_config(study: ml_collections.ConfigDict, arm: str, seed: int) -> ml_collections.ConfigDict:
  """The config of one run. Raises StageError where an arm changes a value that there is not."""
  config = copy.deepcopy(study.experiment)
  changes = study.arms[arm].to_dict().get('changes', {})
  _require_keys(config, changes, arm)
  with config.unlocked():
    config.update(changes)
  config.seed = seed
  return config


def _require_keys(config: Mapping[str, Any], changes: Mapping[str, Any], arm: str) -> None:
  for key, value in changes.items():
    if key not in config:
      raise stages.StageError(f"config.arms.{arm}: there is no {key!r} in the experiment's config")
    if isinstance(value, Mapping):
      _require_keys(config[key], value, arm)


def all_arms(study: ml_collections.ConfigDict) -> list[str]:
  """Names of the arms; that which the others are compared with first, since a config sorts keys."""
  return [study.first, *(arm for arm in study.arms if arm != study.first)]


def require_arms(study: ml_collections.ConfigDict, arms: Sequence[str]) -> None:
  """Raises StageError for an arm that there is not, or that begins where no earlier arm ends."""
  for index, arm in enumerate(arms):
    if arm not in study.arms:
      raise stages.StageError(f'--arms: no arm {arm!r}; there are {", ".join(study.arms)}')
    after = study.arms[arm].get('after')
    if not after:
      continue
    if after[0] not in arms[:index]:
      raise stages.StageError(
          f'arm {arm!r} begins where {after[0]!r} ends: name that one before it')
    others = set(study.arms[arm].to_dict().get('changes', {})) - {'stages', 'rl'}
    if others:  # records are shared, those that SFT's choice of traces leaves too
      raise stages.StageError(
          f'arm {arm!r} begins after {after[1]!r} of another: it can change stages and rl alone, '
          f'not {", ".join(sorted(others))}')


def run_directory(workdir: str, arm: str, seed: int) -> str:
  return os.path.join(workdir, arm, str(seed))


def run(study: ml_collections.ConfigDict, workdir: str, arm: str, seed: int) -> dict[str, Any]:
  """One arm with one seed, as far as it is not done.

  Returns:
    For each stage, and for what `config.evaluate.also` names of them, `measures.measure_stage`.
  """
  config, directory = arm_config(study, arm, seed), run_directory(workdir, arm, seed)
  stages.require_even_batches(config)
  stages.require_known_stages(config)
  measures.require_known(config)
  stages.claim_workdir(config, directory)
  _share(os.path.join(workdir, 'episodes', str(seed)), os.path.join(directory, 'trajectories'))
  source, shared = _shared_stages(study, workdir, arm, seed)
  for name in ('data', *shared) if shared else ():
    _share(os.path.join(source, name), os.path.join(directory, name))
  stages.collect(config, directory)
  stages.prepare(config, directory)
  for stage in config.stages:
    if stage not in shared:
      stages.train_stage(config, directory, stage, stages.tensorboard_writers)
  found = {}
  for name in (*config.stages, *config.evaluate.also):
    stage = measures.Measure.of(config, name).stage
    if stage in config.stages:
      found[name] = measures.measure_stage(
          config, source if stage in shared else directory, name)
  return found


def _shared_stages(study, workdir: str, arm: str, seed: int) -> tuple[str, tuple[str, ...]]:
  """The folder of the run that this one begins after, and the stages that it has from there."""
  other, last = study.arms[arm].get('after', (arm, None))
  trained = arm_config(study, arm, seed).stages
  return run_directory(workdir, other, seed), trained[:trained.index(last) + 1] if last else ()


def _share(source: str, link: str) -> None:
  """Makes `link` the folder `source`, whose work is done once for all arms."""
  os.makedirs(source, exist_ok=True)
  if not os.path.islink(link):
    os.makedirs(os.path.dirname(link), exist_ok=True)
    os.symlink(os.path.relpath(source, os.path.dirname(link)), link)
