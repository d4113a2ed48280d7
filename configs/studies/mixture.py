"""One small world model of all domains at once: CPT, SFT and RL on a mixture, a table by domain.

    python -m experiments.study --config=configs/studies/mixture.py --workdir=/tmp/mixture

The quickstart's stages and model, with rows long enough for the longer observations of the other
domains. The base checkpoint and its vocabulary know terminal and MCP alone. Needs the extras of the
domains (README.md, Worlds).
"""

import ml_collections

from configs import base

DOMAINS = ('terminal', 'mcp', 'search', 'swe', 'web', 'os', 'textgame')


def get_config():
  config = ml_collections.ConfigDict()
  experiment = config.experiment = base.get_config()
  experiment.domains = DOMAINS
  experiment.collect.train_episodes = {
      'terminal': 400, 'mcp': 200, 'search': 200, 'swe': 100, 'web': 100, 'os': 60, 'textgame': 120}
  experiment.collect.test_episodes = dict.fromkeys(DOMAINS, 30)
  experiment.data.seq_len = 3072
  experiment.cpt.update({'steps': 80, 'rows': {'cpt': 2}})
  experiment.sft.update({'steps': 80, 'rows': {'sft': 2}, 'samples': 800})
  experiment.rl.update({'steps': 8, 'prompts': 32, 'train_groups': 8, 'max_prompt': 2048,
                        'max_tokens': 256})
  experiment.evaluate.update(
      {'turns_per_domain': 50, 'max_prompt': 2560, 'max_tokens': 320, 'batch_size': 16})
  config.seeds = (0,)
  config.first = 'mixture'
  config.arms = {'mixture': {}}
  return config
