r"""The benchmark: held-out turns of every domain at hand, a world model and the baselines.

    python -m experiments.evaluate --config=configs/bench.py --workdir=/tmp/bench \
        --config.model=/tmp/agentworld/rl
    python -m experiments.evaluate --config=configs/bench.py --workdir=/tmp/bench_other \
        --config.endpoint.model=Qwen/Qwen3-8B --config.endpoint.url=http://127.0.0.1:8000/v1

A checkpoint of this repository behind experiments.serve is asked as it was trained:

    python -m experiments.evaluate --config=configs/bench.py --workdir=/tmp/bench_served \
        --config.endpoint.model=base --config.endpoint.url=http://127.0.0.1:8000/v1 \
        --config.template=v0 --config.prompts=short --config.endpoint.max_tokens=280
"""

import ml_collections


def endpoint(max_tokens: int, timeout: float):
  """An endpoint that is not used as long as it names no model."""
  return ml_collections.ConfigDict({
      'model': '', 'url': '', 'key_variable': 'OPENAI_API_KEY', 'concurrency': 16,
      'retries': 5, 'timeout': timeout, 'max_tokens': max_tokens})


def get_config():
  config = ml_collections.ConfigDict()
  config.seed = 0
  # Published files, whose names are DOMAIN_test.jsonl; where none are named, episodes of held-out
  # tasks are collected and files made of them.
  config.files = ()
  config.domains = ()  # where none are named, those of `episodes` that can be run here
  config.episodes = {  # held-out ones, of which turns are drawn
      'terminal': 120, 'mcp': 80, 'search': 80, 'swe': 40, 'web': 40, 'os': 40, 'textgame': 40}
  config.share = 0.5  # of the turns drawn: first, last and three more of each episode
  # The system prompts that are written: a template, v0 to v11, in a size, 'short' or 'full'. Where
  # none is named, v0 and short for a checkpoint, as RL has them; for a model behind `endpoint` v11
  # and full, a whole specification, which says how answers stand in tags (as do v9 and v10). They
  # move figures, so models are compared under one for all. Files have prompts of their own.
  config.template = ''
  config.prompts = ''
  config.policies = {'expert': 0.2, 'noisy_expert': 0.4, 'explorer': 0.4}
  config.train_episodes = {  # what the baselines know
      'terminal': 600, 'mcp': 200, 'search': 200, 'swe': 80, 'web': 80, 'os': 60, 'textgame': 80}
  config.workers = 2
  # 'base', the folder of a checkpoint, or where `endpoint.model` is named that model.
  config.model = 'base'
  # OpenAI-compatible endpoints of a world model and of a judge; their keys are read from the
  # environment. Without a model's name the reference judge, a program, judges.
  config.endpoint = endpoint(max_tokens=8192, timeout=600.0)  # room for models that think at length
  config.endpoint.temperature = 0.0
  config.judge = endpoint(max_tokens=1024, timeout=120.0)
  config.thinking = True  # whether a checkpoint may reason first
  config.batch_size, config.max_tokens, config.max_thinking = 32, 208, 72
  config.max_prompt = 1024  # a longer prompt is answered by nothing, which is invalid
  config.bootstrap = 1000
  return config
