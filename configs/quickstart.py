"""The quickstart: every stage on a laptop CPU in at most 15 minutes."""

from configs import base


def get_config():
  return base.get_config()
