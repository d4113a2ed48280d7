"""The world model's RL stage on the data of the quickstart."""

from configs import base


def get_config():
  config = base.get_config()
  config.stage = 'rl'
  return config
