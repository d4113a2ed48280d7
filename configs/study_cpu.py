"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

    python -m experiments.quickstart --config=configs/study_cpu.py --workdir=/tmp/study

More episodes and far longer training from the same base checkpoint: CPT mostly on dialogues with
notes of what an action changed, SFT on such notes until the learning rate is zero, and agents that
practise on ten times as many tasks, three of them. The worlds, the families and the held-out tasks
are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 24000, 'mcp': 3000}
  config.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.1, 'tracker': 0.5}
  config.data.stages = (*config.data.stages, 'reasoning')
  config.cpt = base.stage(1500, 1e-2, rows={'cpt': 1, 'reasoning': 3})
  config.sft = base.stage(3600, 1e-2, rows={'sft': 3}, threshold=0.0, samples=6000)
  config.sft.optimizer.update({'schedule': 'linear', 'final_lr_ratio': 0.0})
  config.rl.steps = 60
  config.evaluate.update({'turns_per_domain': 800, 'also': ('cpt_thinking',)})
  config.agent.seeds = (0, 1, 2)
  config.agent.rl = base.policy_stage(80, 5e-4, tasks=16)
  config.agent.environments = 32
  config.agent.evaluation_tasks = 160
  return config
