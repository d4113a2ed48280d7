"""The second phase of the base checkpoint's recipe: both sides of the dialogue.

Goes on from the first phase (configs/pretrain.py) on rows of observations and rows of the noisy
expert's actions, so that one base serves the world model and the agent.
"""

from configs import base, pretrain


def get_config():
  config = pretrain.get_config()
  config.init = '/tmp/base/export'
  config.cpt = base.stage(520, 1e-2, rows={'cpt': 1, 'agent': 2})
  return config
