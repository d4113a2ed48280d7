"""The recipe of the base checkpoint kept in the repository: one run from scratch, for a GPU.

    python -m experiments.train --config=configs/pretrain.py --workdir=/tmp/base

Train split and CPT pool only, both domains and both sides of the dialogue, so that one base serves
the world model and the agent: a few rows of observations as they are, most of observations with a
note in every turn of what its action changed, some of the noisy expert's actions. Nearly half of
the episodes are the tracker's, whose observations depend on its own actions. No loss mask: a model
that cannot copy yet learns it from every turn, the ones that a mask would call boilerplate
included.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.stage = 'cpt'
  config.init = 'scratch'
  config.seed = 4
  config.collect.train_episodes = {'terminal': 90000, 'mcp': 6000}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.15, 'tracker': 0.45}
  config.collect.train_pool = 'cpt'
  config.data.loss_mask = False
  config.data.stages = ('cpt', 'reasoning', 'agent')
  config.cpt = base.stage(30000, 2e-2, rows={'cpt': 3, 'reasoning': 11, 'agent': 2})
  config.cpt.optimizer.update({'warmup_steps': 100, 'schedule': 'linear', 'final_lr_ratio': 0.0})
  config.cpt.update({'log_every': 50, 'checkpoint_every': 1000})
  config.model.query_block = 512  # what a GPU likes
  return config
