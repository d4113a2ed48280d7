"""kill -9 of the quickstart itself at random moments, then the same command: the unbroken run."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from aw_jax.training.checkpoints import load_params

ROOT = pathlib.Path(__file__).parents[2]
SMALLER = {
  'init': 'scratch', 'data.vocab_size': 600, 'model.width': 32, 'model.layers': 1, 'model.heads': 2,
  'model.kv_heads': 1, 'model.head_dim': 16, 'model.mlp_width': 48, 'agent.environments': 2,
  'agent.evaluation_tasks': 4, 'agent.rollout.turns': 2, 'agent.rollout.max_answer': 80,
  'agent.rollout.max_observation': 48, 'evaluate.turns_per_domain': 4, 'evaluate.max_tokens': 32,
  'evaluate.also': "('cpt_thinking',)",
  'collect.train_episodes.terminal': 24, 'collect.train_episodes.mcp': 16,
  'collect.test_episodes.terminal': 4, 'collect.test_episodes.mcp': 2,
  'cpt.checkpoint_every': 2, 'sft.checkpoint_every': 2, 'agent.imitation.checkpoint_every': 2}
MODELS = ('cpt', 'sft', 'rl', 'agent/0/imitation', 'agent/0/imagined')


class Quickstart:
  """The same command, for one work directory, again and again."""

  def __init__(self, workdir):
    self.workdir = workdir

  def start(self):
    return subprocess.Popen(
      [sys.executable, '-m', 'experiments.quickstart', '--config=configs/smoke.py',
       f'--workdir={self.workdir}', *(f'--config.{key}={value}' for key, value in SMALLER.items())],
      cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
      start_new_session=True)

  def finish(self):
    process = self.start()
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-4000:]

  def kill_after(self, seconds):
    """Kills the command and all that it started; False where it was done before."""
    process = self.start()
    time.sleep(seconds)
    done = process.poll() is not None
    if not done:
      os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return not done


@pytest.mark.slow
@pytest.mark.requires('bwrap')
def test_a_killed_quickstart_ends_as_an_unbroken_one(tmp_path):
  unbroken = Quickstart(tmp_path / 'unbroken')
  start = time.monotonic()
  unbroken.finish()
  took = time.monotonic() - start
  killed, kills = Quickstart(tmp_path / 'killed'), 0
  seed = random.randrange(1 << 30)
  print(f'moments of the kills: random.Random({seed}), of {took:.1f} s')  # shown where it fails
  rng = random.Random(seed)
  while kills < 4 and killed.kill_after(rng.uniform(0.05, 0.25) * took):
    kills += 1
  killed.finish()
  assert kills >= 2
  for model in MODELS:
    ours, theirs = (load_params(run.workdir / model)[0] for run in (killed, unbroken))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
  ours, theirs = (json.loads((run.workdir / 'results.json').read_text())
                  for run in (killed, unbroken))
  assert ours.pop('seconds').keys() == theirs.pop('seconds').keys()
  assert ours == theirs
