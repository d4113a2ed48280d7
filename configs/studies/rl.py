"""What of the RL stage's settings sharpens the world model. On validation tasks, to choose by.

    python -m experiments.study --config=configs/studies/rl.py --workdir=/tmp/rl_settings
"""

import ml_collections

from configs import base


def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = base.get_config()
  config.experiment.evaluate.split = 'validation'
  config.seeds = (100,)  # none of the recipe's
  config.first = 'sft'
  after = ('sft', 'sft')
  config.arms = {
      'sft': {'changes': {'stages': ('cpt', 'sft')}},
      'rl': {'after': after},
      'more_prompts': {'after': after, 'changes': {'rl': {
          'prompts': 64, 'train_groups': 16, 'steps': 40}}},
      'more_prompts_slow': {'after': after, 'changes': {'rl': {
          'prompts': 64, 'train_groups': 16, 'steps': 40, 'optimizer': {'peak_lr': 1e-4}}}},
      'twice_as_long': {'after': after, 'changes': {'rl': {
          'prompts': 64, 'train_groups': 16, 'steps': 80, 'optimizer': {'peak_lr': 1e-4}}}},
      'twice_as_many': {'after': after, 'changes': {'rl': {
          'prompts': 128, 'train_groups': 32, 'steps': 40, 'optimizer': {'peak_lr': 1e-4}}}},
  }
  return config
