"""Run by test_two_processes.py, as one process or one of several: WORKDIR STEPS MESH [INIT].

Trains next-token prediction on packed records to STEPS, on all devices of all processes, and writes
to `opened_{process}.json` which records this process opened and which files of checkpoints it read
for their checksums. INIT is a checkpoint to start from.
"""

import json
import os
import sys

import jax
import ml_collections
from absl import flags

from aw_jax import partitioning
from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import checksums, objectives
from aw_jax.training.checkpoints import load_params
from aw_jax.training.runner import packed_batches, run_stage
from data_pipelines import records
from experiments import commands, processes

SEQ_LEN, ROWS = 32, 16


def config(steps: int, mesh: str) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict({
    'steps': steps, 'log_every': 1, 'checkpoint_every': 4,
    'mesh': dict(zip(partitioning.MESH_AXES, map(int, mesh.split('x')), strict=False)),
    'optimizer': {
      'name': 'adamw', 'peak_lr': 2e-2, 'warmup_steps': 2, 'schedule': 'constant',
      'final_lr_ratio': 0.1, 'weight_decay': 0.01, 'clip_norm': 1.0, 'adam_lr_ratio': 1.0}})


def noted(opened: list[int]):
  """Makes every record that is read from now on be noted in `opened`, by its first token."""
  decode = records.decode

  def noting_decode(content):
    record = decode(content)
    opened.append(int(record['tokens'][0]))
    return record

  records.decode = noting_decode


def noted_checksums(files: list[str]):
  """Makes every file that checksums are made of from now on be noted in `files`."""
  checksum = checksums._checksum

  def noting_checksum(path):
    files.append(os.fspath(path))
    return checksum(path)

  checksums._checksum = noting_checksum


def main():
  processes.initialize()
  workdir, steps, mesh, *init = flags.FLAGS(sys.argv)[1:]
  opened, files = [], []
  noted(opened)
  noted_checksums(files)
  tokenizer = Tokenizer.load(os.path.join(workdir, 'data'))
  model = ModelConfig(
    vocab_size=320, width=32, layers=1, heads=4, kv_heads=4, head_dim=8, mlp_width=64,
    dtype='float32')
  c = config(int(steps), mesh)
  on = partitioning.make_mesh(**c.mesh)
  batches = packed_batches({os.path.join(workdir, 'data', 'cpt.array_record'): ROWS}, SEQ_LEN, 0,
                           tokenizer, on)
  params = load_params(init[0])[0] if init else None
  run_stage('cpt', c, model, tokenizer, objectives.next_token, batches,
            os.path.join(workdir, 'cpt'), init_params=params)
  path = os.path.join(workdir, f'opened_{jax.process_index()}.json')
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(
      {'records': opened, 'files': files, 'devices': jax.local_device_count()}, file)


if __name__ == '__main__':
  flags.FLAGS(sys.argv)
  with commands.clear_errors('many_devices_run'):
    main()
