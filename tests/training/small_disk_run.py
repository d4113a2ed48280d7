"""Run by test_checkpoints.py in a sandbox whose WORKDIR is small or read-only: WORKDIR STEPS.

Trains a tiny model, ends as a command does, and writes to stdout what the newest whole step adds up
to.
"""

import os
import resource
import signal
import sys

import jax
import ml_collections
import numpy as np

from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import objectives
from aw_jax.training.checkpoints import has_model, load_params
from aw_jax.training.runner import run_stage
from experiments import commands

MODEL = ModelConfig(
  vocab_size=4096, width=32, layers=1, heads=2, kv_heads=2, head_dim=8, mlp_width=32)
CONFIG = ml_collections.ConfigDict({
  'log_every': 2, 'checkpoint_every': 2, 'mesh': {},
  'optimizer': {
    'name': 'adamw', 'peak_lr': 1e-2, 'warmup_steps': 1, 'schedule': 'constant',
    'final_lr_ratio': 0.1, 'weight_decay': 0.0, 'clip_norm': 1.0, 'adam_lr_ratio': 1.0}})


def batch_at(step, state):
  del state
  tokens = np.random.default_rng(step).integers(1, 4096, (8, 64)).astype(np.int32)
  ones = np.ones_like(tokens)
  return {'tokens': tokens, 'segment_ids': ones, 'loss_weights': ones.astype(np.float32),
          'positions': np.tile(np.arange(64, dtype=np.int32), (8, 1))}, {}


def main(workdir: str, steps: str):
  commands.quiet_logs()
  if 'MAX_FILE_BYTES' in os.environ:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error, not the end of the process
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ['MAX_FILE_BYTES']),) * 2)
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  config = ml_collections.ConfigDict({**CONFIG, 'steps': int(steps)})
  try:
    with commands.clear_errors('small_disk_run'):
      run_stage('cpt', config, MODEL, tokenizer, objectives.next_token, batch_at, workdir)
  finally:
    if has_model(workdir):
      params, _, _ = load_params(workdir)
      print(sum(float(abs(x).sum()) for x in jax.tree.leaves(params)))


if __name__ == '__main__':
  main(*sys.argv[1:])
