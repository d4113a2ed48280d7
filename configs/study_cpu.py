"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

More episodes, a longer CPT from the same base checkpoint, longer RL of both models; the worlds, the
families and the held-out tasks are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 8000, 'mcp': 2000}
  config.collect.test_episodes = {'terminal': 200, 'mcp': 120}
  config.cpt = base.stage(1500, 1e-2, rows={'cpt': 4})
  config.sft = base.stage(200, 3e-3, rows={'sft': 4}, threshold=config.sft.threshold)
  config.rl.steps = 80
  config.evaluate.turns_per_domain = 384
  config.agent.seeds = (0, 1, 2)
  config.agent.imitation.steps = 150
  config.agent.rl.steps = 48
  config.agent.evaluation_tasks = 160
  return config
