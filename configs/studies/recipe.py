"""What each part of the recipe is worth: every switch of the method, turned once.

    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe
    python -m experiments.study --config=configs/studies/recipe.py --workdir=/tmp/recipe \
        --arms=full,no_loss_mask

The arm `first` is what the others are compared with, seed by seed. Each arm is the quickstart's
config, with more of RL and of held-out turns, and with the values below it replaced. Those that
share their first stages with another arm begin where that one ends ('after'), so that they differ
in nothing else. What RL brings is read from sft_v0 and rl_v0, which have the same prompts: each
stage has a template of its own, and that alone moves figures more than RL does here.

`full` is the quickstart's recipe, in which SFT has whole dialogues and two templates, made for a
small model and little data; `paper` is the reference's.

Arms begin with the base checkpoint, which has been trained on 500 million tokens of these domains,
without a loss mask, with reasoning notes and on templates v0 to v3. What an arm leaves out the base
may have: `--config.experiment.init=scratch` (with many more steps) begins with nothing.
"""

import ml_collections

from configs import base


def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = base.get_config()
  config.experiment.rl.steps = 40
  config.experiment.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.experiment.evaluate.turns_per_domain = 560
  config.experiment.evaluate.also = ('sft_v0', 'rl_v0')
  config.seeds = (0, 1, 2)
  config.first = 'full'
  config.arms = {
      'full': {},
      # SFT as the paper has it: one turn a trajectory, ten templates, no retry cycles.
      'paper': {'changes': {'data': {
          'turns': {'sft': 'one'}, 'sft_templates': 10, 'skip_retries': True}}},
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
