"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

    python -m experiments.quickstart --config=configs/study_cpu.py --workdir=/tmp/study

More episodes and a far longer SFT from the same base checkpoint, since it is the notes of what an
action changed that want training, and agents that practise for longer, three of them. The worlds,
the families and the held-out tasks are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 20000, 'mcp': 3000}
  config.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.25, 'explorer': 0.15, 'tracker': 0.5}
  config.cpt.steps = 100
  config.sft = base.stage(6000, 1e-2, rows={'sft': 3}, threshold=-1.5, samples=14000)
  config.rl.steps = 60
  config.evaluate.turns_per_domain = 800
  config.agent.seeds = (0, 1, 2)
  config.agent.imitation.steps = 120
  config.agent.rl.steps = 100
  config.agent.evaluation_tasks = 160
  return config
