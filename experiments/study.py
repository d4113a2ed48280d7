r"""Arms times seeds of the world model's recipe, and a table of what each switch is worth.

    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe

Every arm is one config with a few values replaced; every arm and seed is a run in a folder of its
own, {workdir}/{arm}/{seed}. Interrupted and started again with the same flags, it goes on where it
was and skips what is finished. Arms of one seed share episodes, held-out ones too. Leaves
study.json, study.md and study.png in the work directory: after each stage and by domain the mean
over seeds with Student's 95 % interval, and by how much each arm differs from the first, seed by
seed. `--config.experiment.cpt.steps=4` and the like change any value of every arm.
"""

import json
import os

from absl import flags
from ml_collections import config_flags

from aw_jax.evaluation import ablations, results
from aw_jax.trajectories import write_atomically
from experiments import arms, commands

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/studies/recipe.py', 'Config file of a study, see configs/studies/.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the study.', required=True)
_ARMS = flags.DEFINE_list(
    'arms', [], 'Only these arms of the config, the one to compare with first; all by default.')


def main():
  study, workdir = _CONFIG.value, _WORKDIR.value
  names = _ARMS.value or arms.all_arms(study)
  arms.require_arms(study, names)
  runs = {}
  for seed in study.seeds:
    for arm in names:
      print(f'--- {arm}, seed {seed}', flush=True)
      runs[arm, seed] = arms.run(study, workdir, arm, seed)
  table = ablations.summarise(runs, names[0])
  found = {
      'table': table, 'arms': names, 'seeds': list(study.seeds),
      'config': json.loads(study.to_json()), 'commit': results.commit(),
      'hardware': results.hardware()}
  write_atomically(os.path.join(workdir, 'study.json'), json.dumps(found, indent=1))
  write_atomically(os.path.join(workdir, 'study.md'), ablations.as_markdown(table))
  write_atomically(os.path.join(workdir, 'study.png'), ablations.figure(table))
  print(ablations.as_markdown(table))


if __name__ == '__main__':
  commands.run(main, 'study')
