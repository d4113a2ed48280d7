"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

    python -m experiments.quickstart --config=configs/study_cpu.py --workdir=/tmp/study

The base checkpoint knows the worlds; CPT and SFT see new dialogues once at most, at rates that fall
to zero: a long SFT on few dialogues learned them by heart and got worse on held-out tasks
(experiments/results). Most of the time goes to the agents, three of them, which practise on twelve
times as many tasks as in the quickstart, and to measuring. The worlds, the families and the
held-out tasks are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 12000, 'mcp': 1500}
  config.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.1, 'tracker': 0.5}
  config.data.stages = (*config.data.stages, 'reasoning')
  config.cpt = base.stage(400, 2e-3, rows={'cpt': 1, 'reasoning': 3})
  config.sft = base.stage(350, 2e-3, rows={'sft': 4}, threshold=0.0, samples=4000)
  config.rl.steps = 40
  config.evaluate.update({'turns_per_domain': 800, 'also': ('cpt_thinking',)})
  config.agent.seeds = (0, 1, 2)
  config.agent.rl = base.policy_stage(100, 5e-4, tasks=16)
  for stage in (config.cpt, config.sft, config.agent.rl):
    stage.optimizer.update({'schedule': 'linear', 'final_lr_ratio': 0.0})
  config.agent.environments = 32
  config.agent.evaluation_tasks = 160
  return config
