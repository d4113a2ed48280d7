r"""Arms times seeds of the world model's recipe, and a table of what each switch is worth.

    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe

Every arm is one config with a few values replaced; every arm and seed is a run in a folder of its
own, {workdir}/{arm}/{seed}. Interrupted and started again with the same flags, it goes on where it
was and skips what is finished. Arms of one seed share episodes, held-out ones too. Leaves
study.json, study.md and study.png in the work directory: after each stage and by domain the mean
over seeds with Student's 95 % interval, and by how much each arm differs from the first, seed by
seed. `--config.experiment.cpt.steps=4` and the like change any value of every arm.
"""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from aw_jax.evaluation import ablations, results
from aw_jax.trajectories import write_atomically
from experiments import commands, measures, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/studies/recipe.py', 'Config file of a study, see configs/studies/.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the study.', required=True)
_ARMS = flags.DEFINE_list(
    'arms', [], 'Only these arms of the config, the one to compare with first; all by default.')


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
  """One arm with one seed, as far as it is not done. Returns stage -> `measures.measure_stage`."""
  config, directory = arm_config(study, arm, seed), run_directory(workdir, arm, seed)
  stages.require_even_batches(config)
  stages.require_known_stages(config)
  stages.claim_workdir(config, directory)
  _share(os.path.join(workdir, 'episodes', str(seed)), os.path.join(directory, 'trajectories'))
  source, shared = _shared_stages(study, workdir, arm, seed)
  for name in ('data', *shared) if shared else ():
    _share(os.path.join(source, name), os.path.join(directory, name))
  stages.collect(config, directory)
  stages.prepare(config, directory)
  found = {}
  for stage in config.stages:
    if stage not in shared:
      stages.train_stage(config, directory, stage, stages.tensorboard_writers)
    found[stage] = measures.measure_stage(
        config, source if stage in shared else directory, stage)
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


def main():
  study, workdir = _CONFIG.value, _WORKDIR.value
  arms = _ARMS.value or list(study.arms)
  require_arms(study, arms)
  runs = {}
  for seed in study.seeds:
    for arm in arms:
      print(f'--- {arm}, seed {seed}', flush=True)
      runs[arm, seed] = run(study, workdir, arm, seed)
  table = ablations.summarise(runs, arms[0])
  found = {
      'table': table, 'arms': arms, 'seeds': list(study.seeds),
      'config': json.loads(study.to_json()), 'commit': results.commit(),
      'hardware': results.hardware()}
  write_atomically(os.path.join(workdir, 'study.json'), json.dumps(found, indent=1))
  write_atomically(os.path.join(workdir, 'study.md'), ablations.as_markdown(table))
  write_atomically(os.path.join(workdir, 'study.png'), ablations.figure(table))
  print(ablations.as_markdown(table))


if __name__ == '__main__':
  commands.run(main, 'study')
