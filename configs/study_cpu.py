"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

More episodes and a longer CPT from the same base checkpoint, longer RL of both models; the worlds,
the families and the held-out tasks are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 50000, 'mcp': 12000}
  config.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.15, 'tracker': 0.45}
  config.cpt = base.stage(6000, 1.5e-2, rows={'cpt': 4})
  config.sft.steps = 200
  config.rl.steps = 40
  config.evaluate.turns_per_domain = 384
  config.agent.seeds = (0, 1, 2)
  config.agent.imitation.steps = 120
  config.agent.rl.steps = 64
  config.agent.evaluation_tasks = 160
  return config
