"""The quickstart in miniature: every stage runs, nothing is learned well. For tests and CI."""

from configs import base


def get_config():
  config = base.get_config()
  config.collect.train_episodes = {'terminal': 40, 'mcp': 16}
  config.collect.test_episodes = {'terminal': 8, 'mcp': 4}
  config.data.seq_len = 384
  for stage in (config.cpt, config.sft, config.agent.imitation):
    stage.steps = 4
    stage.log_every = 2
  config.sft.threshold = -100.0  # nothing is rejected
  config.rl.update({'steps': 2, 'prompts': 8, 'train_groups': 4, 'group': 2, 'updates_per_batch': 2,
                    'max_tokens': 112})
  config.evaluate.update(
      {'turns_per_domain': 8, 'batch_size': 16, 'max_prompt': 512, 'bootstrap': 200})
  config.agent.rl.update({'steps': 2, 'tasks': 4, 'group': 2})
  config.agent.rollout.turns = 4
  config.agent.environments = 4
  config.agent.evaluation_tasks = 8
  return config
