"""Trains an agent: imitation of the noisy expert, policy gradient in a world, then the real one.

    python -m experiments.train_agent --workdir=/tmp/run --config.world=imagined

It needs the work directory's world model, in `real` too: the agent is compared with its imagined
self. Run again with the same flags, it goes on from the newest checkpoint; run again with another
world, it starts from the same imitation and keeps both.
"""

import json

from absl import flags
from ml_collections import config_flags

from experiments import agent_stages, commands, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/agent.py', 'Config file, see configs/base.py for its values.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)


def main():
  config, workdir = _CONFIG.value, _WORKDIR.value
  stages.claim_workdir(config, workdir)
  stages.require_world_model(config, workdir)
  stages.ensure_data(config, workdir)
  for seed in config.agent.seeds:
    agent_stages.imitate(config, workdir, seed, stages.tensorboard_writers)
    agent_stages.improve(config, workdir, seed, stages.tensorboard_writers)
  print(json.dumps(agent_stages.measure(config, workdir), indent=1))


if __name__ == '__main__':
  commands.run(main, 'train_agent')
