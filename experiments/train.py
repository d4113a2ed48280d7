"""Trains one stage of the world model: continual pre-training or supervised fine-tuning.

    python -m experiments.train --config=configs/cpt.py --workdir=/tmp/run
    python -m experiments.train --config=configs/sft.py --workdir=/tmp/run

Run again with the same flags, it goes on from the newest checkpoint. What a stage needs is made
first where it is missing: episodes are collected and packed. `--config.cpt.steps=500` and the like
change any value of configs/base.py. Several processes that share the work directory train as one,
once `--data_only` has made the data in one; see the flags below.
"""

from absl import flags
from ml_collections import config_flags

from experiments import commands, processes, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/cpt.py', 'Config file; its `stage` is what is trained.', lock_config=True)
_DATA_ONLY = flags.DEFINE_bool(
    'data_only', False, 'Make episodes and records and stop, for training on another machine.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
flags.adopt_module_key_flags(processes)


def main():
  processes.initialize()
  config = _CONFIG.value
  if config.get('stage') not in ('cpt', 'sft'):
    raise stages.StageError(
        f"config.stage: 'cpt' or 'sft', is {config.get('stage')!r}; use configs/cpt.py or sft.py")
  if not _DATA_ONLY.value:
    stages.require_even_batch(config, config.stage)
  stages.claim_workdir(config, _WORKDIR.value)
  stages.ensure_data(config, _WORKDIR.value)
  if _DATA_ONLY.value:
    if config.stage == 'sft' and stages.is_trained(_WORKDIR.value, 'cpt'):
      stages.ensure_traces(config, _WORKDIR.value)
    return
  stages.train_stage(config, _WORKDIR.value, config.stage, stages.tensorboard_writers)


if __name__ == '__main__':
  commands.run(main, 'train')
