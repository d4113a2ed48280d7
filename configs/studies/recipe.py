"""What each part of the recipe is worth: every switch of the method, turned once.

    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe
    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe \
        --arms=full,no_loss_mask

The arm `first` is what the others are compared with, seed by seed. Each arm is the quickstart's
config, with more of RL and of held-out turns, and with the values below it replaced. Those that
share their first stages with another arm begin where that one ends ('after'), so that they differ
in nothing else.
"""

import ml_collections

from configs import base


def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = base.get_config()
  config.experiment.rl.steps = 40
  config.experiment.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.experiment.evaluate.turns_per_domain = 560
  config.seeds = (0, 1, 2)
  config.first = 'full'
  config.arms = {
      'full': {},
      'no_loss_mask': {'changes': {'data': {'loss_mask': False}}},
      'no_thinking': {'changes': {'data': {'thinking': False}}},
      'one_turn': {'changes': {'data': {'turns': {'sft': 'one'}}}},
      'all_turns_of_rl': {'changes': {'data': {'turns': {'rl': 'all'}}}},
      'one_template': {'changes': {'data': {'sft_templates': 1}}},
      'ten_templates': {'changes': {'data': {'sft_templates': 10}}},
      'no_cpt': {'changes': {'stages': ('sft', 'rl')}},
      'no_sft': {'changes': {'stages': ('cpt', 'rl')}, 'after': ('full', 'cpt')},
      'no_rl': {'changes': {'stages': ('cpt', 'sft')}, 'after': ('full', 'sft')},
      'rubric_only': {'changes': {'rl': {'rubric_weight': 1.0}}, 'after': ('full', 'sft')},
      'rule_only': {'changes': {'rl': {'rubric_weight': 0.0}}, 'after': ('full', 'sft')},
  }
  return config
