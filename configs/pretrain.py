"""The recipe of the base checkpoint kept in the repository: one long run from scratch.

    python -m experiments.train --config=configs/pretrain.py --workdir=/tmp/base

Train split and CPT pool only, both domains and both sides of the dialogue, so that one base serves
the world model and the agent: a row of observations as they are, two of observations with a note in
every turn of what its action changed, one of the noisy expert's actions. Nearly half of the
episodes are the tracker's, whose observations depend on its own actions. No loss mask: a model that
cannot copy yet learns it from every turn, the ones that a mask would call boilerplate included.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.stage = 'cpt'
  config.init = 'scratch'
  config.seed = 2
  config.collect.train_episodes = {'terminal': 26000, 'mcp': 7000}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.15, 'tracker': 0.45}
  config.collect.train_pool = 'cpt'
  config.data.loss_mask = False
  config.data.stages = ('cpt', 'reasoning', 'agent')
  config.cpt = base.stage(4000, 2e-2, rows={'cpt': 1, 'reasoning': 2, 'agent': 1})
  config.cpt.optimizer.warmup_steps = 50
  return config
