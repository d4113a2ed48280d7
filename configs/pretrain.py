"""The recipe of the base checkpoint kept in checkpoints/base: one long CPT run from scratch.

Train splits only, both domains, no loss mask: a model that cannot copy yet learns it from every
turn, the ones that a mask would call boilerplate included.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.stage = 'cpt'
  config.init = 'scratch'
  config.seed = 1
  config.collect.train_episodes = {'terminal': 12000, 'mcp': 3000}
  config.collect.train_policies = {'expert': 0.1, 'noisy_expert': 0.35, 'explorer': 0.55}
  config.data.loss_mask = False
  config.cpt = base.stage(2400, 2e-2, rows={'cpt': 3})
  config.cpt.optimizer.warmup_steps = 50
  return config
