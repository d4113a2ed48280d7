"""Trains the world model's RL stage: GSPO on one turn of each trajectory.

    python -m experiments.train_rl --config=configs/rl.py --workdir=/tmp/run

It starts from the SFT checkpoint in the work directory. Run again with the same flags, it goes on
from the newest checkpoint.
"""

from absl import flags
from ml_collections import config_flags

from experiments import commands, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/rl.py', 'Config file, see configs/base.py for its values.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)


def main():
  stages.require_even_batch(_CONFIG.value, 'rl')
  stages.claim_workdir(_CONFIG.value, _WORKDIR.value)
  stages.ensure_data(_CONFIG.value, _WORKDIR.value)
  stages.train_stage(_CONFIG.value, _WORKDIR.value, 'rl', stages.tensorboard_writers)


if __name__ == '__main__':
  commands.run(main, 'train_rl')
