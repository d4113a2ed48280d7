"""Run by test_resume.py in a process that is killed: WORKDIR.

Three stages of a tiny model, as the quickstart's follow one another: next-token training, GSPO with
a toy reward, and an agent's policy gradient in an imagined world. A stage that was interrupted goes
on; one that is finished is read. Nothing here takes part in the resuming but `run_stage` itself.
"""

import functools
import os
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from aw_jax.agents.training import EpisodeBatches
from aw_jax.agents.worlds import ImaginedWorld, agent_start
from aw_jax.imagination.rollout import RolloutConfig
from aw_jax.models.config import ModelConfig
from aw_jax.prompts import chat, templates
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives
from aw_jax.training.reinforcement import GroupSampler
from aw_jax.training.runner import run_stage
from aw_jax.trajectories import SUBMIT, Task, Verifier
from experiments import commands

STAGES = ('next_token', 'rl', 'agent')
STEPS = {'next_token': 80, 'rl': 12, 'agent': 8}
SEQ_LEN = 64


def task(seed: int) -> Task:
  """Half of the submissions that the agent has seen are right, so that groups have a gradient."""
  return Task(
    id=f'terminal/pick/{seed}', domain='terminal', family='pick', split='train', seed=seed,
    instruction=f'Pick {seed % 5}.', initial_state='', setup={}, verifier=Verifier('answer', 'a'),
    max_turns=2)


def stage_config(name: str) -> ml_collections.ConfigDict:
  policy = name != 'next_token'
  return ml_collections.ConfigDict({
    'steps': STEPS[name], 'log_every': 2, 'checkpoint_every': 2 if policy else 20,
    'updates_per_batch': 2 if policy else 1,
    'mesh': {'data': 1, 'fsdp': -1, 'tensor': 1},
    'optimizer': {
      'name': 'adamw' if policy else 'muon', 'peak_lr': 1e-3 if policy else 2e-2,
      'warmup_steps': 2, 'schedule': 'cosine', 'final_lr_ratio': 0.1,
      'weight_decay': 0.01, 'clip_norm': 1.0, 'adam_lr_ratio': 0.5}})


def dialogues(tokenizer: Tokenizer, step: int):
  """A batch of chats from both sides, a function of the step; what is answered is learned."""
  rng = np.random.default_rng(step)
  tokens, weights = np.zeros((8, SEQ_LEN), np.int32), np.zeros((8, SEQ_LEN), np.float32)
  for row in range(8):
    a_task, pick = task(int(rng.integers(100))), 'ab'[rng.integers(2)]
    if row % 2:
      prompt = agent_start(tokenizer, a_task)
      answer = chat.agent_action(tokenizer, 'look' if rng.random() < 0.4 else SUBMIT + pick)
    else:
      prompt = chat.world_model_context(
        tokenizer, templates.world_model_prompt('terminal', a_task.initial_state), [])
      prompt += chat.action_message(tokenizer, 'look')
      answer = chat.prediction(tokenizer, pick)
    tokens[row, :len(prompt) + len(answer)] = [*prompt, *answer]
    weights[row, len(prompt):len(prompt) + len(answer)] = 1
  positions = np.tile(np.arange(SEQ_LEN, dtype=np.int32), (8, 1))
  return {'tokens': tokens, 'segment_ids': (tokens != 0).astype(np.int32), 'positions': positions,
          'loss_weights': weights}


def rl_records(tokenizer: Tokenizer, index: int):
  rng = np.random.default_rng(index)
  system = templates.world_model_prompt('terminal', '')
  prompt = chat.world_model_context(tokenizer, system, [])
  return [{'prompt': prompt + chat.action_message(tokenizer, f'look {rng.integers(10)}')}
          for _ in range(4)]


def letters(texts, records):
  """A toy reward: how many different characters were said."""
  assert len(texts) == len(records)
  return {'reward': np.array([len(set(text)) for text in texts], np.float64)}


def vocabulary() -> Tokenizer:
  texts = [templates.agent_prompt('terminal', f'Pick {i}.') for i in range(5)]
  texts += [templates.world_model_prompt('terminal', ''), 'look a b']
  return Tokenizer.train(texts * 8, vocab_size=400)


def main(workdir: str):
  tokenizer = vocabulary()
  model = ModelConfig(
    vocab_size=-(-tokenizer.vocab_size // 64) * 64, width=16, layers=1, heads=2, kv_heads=1,
    head_dim=8, mlp_width=24, short_conv_width=3, dtype='float32', query_block=64)

  def stage(name, objective, batch_at, params=None):
    own = params and jax.tree.map(jnp.copy, params)
    return run_stage(name, stage_config(name), model, tokenizer, objective, batch_at,
                     os.path.join(workdir, name), init_params=own)

  params = stage('next_token', objectives.next_token,
                 lambda step, state: (dialogues(tokenizer, step), {}))
  sampler = GroupSampler(
    model=model, tokenizer=tokenizer, records=functools.partial(rl_records, tokenizer),
    reward=letters, group=4, max_tokens=6, max_prompt=48, temperature=1.0, updates_per_batch=2,
    seed=0)
  stage('rl', functools.partial(objectives.group_policy, clip=0.2, ratio='sequence'), sampler,
        params)
  sizes = RolloutConfig(
    turns=2, max_action=6, max_answer=8, max_observation=6, agent_slots=112, world_slots=208)
  world = ImaginedWorld(model, tokenizer, model, params, sizes, tasks_at_a_time=4)
  batches = EpisodeBatches(
    world=world, tasks=lambda index: [task(4 * index + i) for i in range(4)], group=4,
    temperature=1.0, updates_per_batch=2, seed=0)
  stage('agent', functools.partial(objectives.episode_policy, clip=0.2, ratio='sequence'), batches,
        params)


if __name__ == '__main__':
  with commands.clear_errors('interrupted_run'):
    main(sys.argv[1])
