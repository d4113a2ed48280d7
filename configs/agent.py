"""An agent trained in a world; `--config.world={imagined,real,mixed}`."""

from configs import base


def get_config():
  return base.get_config()
