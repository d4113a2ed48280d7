"""The recipe of the base checkpoint kept in checkpoints/base: one long run from scratch.

Train split and CPT pool only, both domains and both sides of the dialogue, so that one base serves
the world model (three rows of a batch: observations) and the agent (one: the noisy expert's
actions). No loss mask: a model that cannot copy yet learns it from every turn, the ones that a mask
would call boilerplate included.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.stage = 'cpt'
  config.init = 'scratch'
  config.seed = 1
  config.collect.train_episodes = {'terminal': 40000, 'mcp': 10000}
  config.collect.train_policies = {'expert': 0.1, 'noisy_expert': 0.35, 'explorer': 0.55}
  config.collect.train_pool = 'cpt'
  config.data.loss_mask = False
  config.data.stages = ('cpt', 'agent')
  config.cpt = base.stage(5000, 2e-2, rows={'cpt': 3, 'agent': 1})
  config.cpt.optimizer.warmup_steps = 50
  return config
