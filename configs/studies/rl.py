"""Which settings of RL sharpen the world model: on validation tasks, for choosing those of `base`.

    python -m experiments.study --config=configs/studies/rl.py --workdir=/tmp/rl_settings

All arms begin where SFT ended.
"""

import ml_collections

from configs import base


def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = base.get_config()
  config.experiment.rl.update({'prompts': 16, 'train_groups': 0, 'steps': 20})
  config.experiment.rl.optimizer.peak_lr = 3e-4
  config.experiment.evaluate.split = 'validation'
  config.seeds = (100,)  # none of the recipe's
  config.first = 'sft'
  config.arms = {'sft': {'changes': {'stages': ('cpt', 'sft')}},
                 'few_prompts': {'after': ('sft', 'sft')}}
  for name, steps, peak_lr in (('more_prompts', 40, 3e-4), ('more_prompts_slow', 40, 1e-4),
                               ('twice_as_long', 80, 1e-4)):
    config.arms[name] = {'after': ('sft', 'sft'), 'changes': {'rl': {
        'prompts': 64, 'train_groups': 16, 'steps': steps, 'optimizer': {'peak_lr': peak_lr}}}}
  return config
