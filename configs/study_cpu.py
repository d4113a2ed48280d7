"""The longer recorded run: up to 2.5 hours on two cores, three agent seeds.

    python -m experiments.quickstart --config=configs/study_cpu.py --workdir=/tmp/study

Most of the training is CPT on new dialogues, with notes of what an action changed, each seen about
once: a long SFT on the few dialogues of its own pool learned them by heart and got worse on
held-out tasks (experiments/results). SFT is one pass, at a rate that falls to zero, and the
agents, three of them, practise on seven times as many tasks as in the quickstart. The worlds, the
families and the held-out tasks are those of the quickstart.
"""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 60000, 'mcp': 5000}
  config.collect.test_episodes = {'terminal': 240, 'mcp': 160}
  config.collect.train_policies = {
      'expert': 0.1, 'noisy_expert': 0.3, 'explorer': 0.1, 'tracker': 0.5}
  config.data.stages = (*config.data.stages, 'reasoning')
  config.cpt = base.stage(4000, 1e-2, rows={'cpt': 1, 'reasoning': 3})
  config.sft = base.stage(600, 2e-3, rows={'sft': 3}, threshold=0.0, samples=4000)
  config.sft.optimizer.update({'schedule': 'linear', 'final_lr_ratio': 0.0})
  config.rl.steps = 24
  config.evaluate.update({'turns_per_domain': 800, 'also': ('cpt_thinking',)})
  config.agent.seeds = (0, 1, 2)
  config.agent.rl = base.policy_stage(60, 5e-4, tasks=16)
  config.agent.environments = 32
  config.agent.evaluation_tasks = 160
  return config
