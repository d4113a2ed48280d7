"""Killed or ended at random moments, then the same command again: bitwise the unbroken run."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import jax
import ml_collections
import numpy as np
import pytest

from aw_jax import partitioning
from aw_jax.training import runner
from aw_jax.training.checkpoints import load_params
from aw_jax.training.runner import StageConfigError, read_metrics, run_stage

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
STEPS = {'next_token': 80, 'rl': 12, 'agent': 8}


class Command:
  """The same command, for one work directory, again and again."""

  def __init__(self, workdir):
    self.workdir = workdir

  def start(self):
    return subprocess.Popen(
      [sys.executable, HERE / 'interrupted_run.py', self.workdir],
      env=os.environ | {'PYTHONPATH': str(ROOT)}, stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE, text=True)

  def finish(self):
    process = self.start()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors

  def end_at(self, stage, step, delay, number):
    """Sends a signal `delay` seconds after `stage` has logged `step`, wherever that finds it.

    SIGTERM ends it at once, or while it trains, once the state is saved.
    """
    process = self.start()
    deadline = time.monotonic() + 300
    while self.progress(stage) < step and process.poll() is None and time.monotonic() < deadline:
      time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    saved = process.returncode == 1 and re.search(
      r'^interrupted_run: \w+: ended by SIGTERM, step \d+ of \d+ is saved; the same', errors, re.M)
    assert saved or process.returncode in (-number, 0), errors

  def progress(self, stage):
    lines = read_metrics(self.workdir / stage)
    return lines[-1]['step'] if lines else -1


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """(unbroken, broken) work directories; where the second was killed is printed."""
  folder = tmp_path_factory.mktemp('resume')
  unbroken, broken = (Command(folder / name) for name in ('unbroken', 'broken'))
  unbroken.finish()
  seed = int.from_bytes(os.urandom(4), 'big')
  rng = random.Random(seed)
  for stage, steps in STEPS.items():
    for number in (signal.SIGKILL, signal.SIGTERM):
      # The first step of a stage is reached with step -1 asked: before it has logged anything.
      moment = (rng.choice([-1, *range(2, steps, 2)]), rng.uniform(0, 0.15))
      print(f'seed {seed}: {number.name} in {stage} {moment[1]:.3f} s after step {moment[0]}')
      broken.end_at(stage, *moment, number)
  broken.finish()
  return unbroken.workdir, broken.workdir


@pytest.mark.slow
@pytest.mark.parametrize('stage', STEPS)
def test_final_parameters_are_bitwise_those_of_the_unbroken_run(runs, stage):
  one, other = (load_params(workdir / stage)[0] for workdir in runs)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b, strict=True), one, other)


@pytest.mark.slow
@pytest.mark.parametrize('stage', STEPS)
def test_every_logged_step_stands_in_the_metrics_once(runs, stage):
  unbroken, broken = (read_metrics(workdir / stage) for workdir in runs)
  assert [line['step'] for line in broken] == list(range(2, STEPS[stage] + 1, 2))
  assert broken == unbroken


@pytest.mark.slow
def test_there_was_something_to_lose(runs):
  """Every stage moved the parameters, and its rewards had a gradient to follow."""
  workdir = runs[0]
  before = load_params(workdir / 'next_token')[0]
  for stage in ('rl', 'agent'):
    after = load_params(workdir / stage)[0]
    changes = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
    assert max(jax.tree.leaves(changes)) > 1e-4
    assert min(line['zero_variance_groups'] for line in read_metrics(workdir / stage)) < 1


def test_a_checkpoint_within_the_updates_of_one_batch_is_refused(tmp_path):
  """The samples of the interrupted batch came from parameters that no checkpoint holds."""
  config = ml_collections.ConfigDict({'steps': 6, 'checkpoint_every': 3, 'updates_per_batch': 2})
  with pytest.raises(StageConfigError, match='rl: checkpoint_every = 3 is no multiple of updates'):
    run_stage('rl', config, None, None, None, None, str(tmp_path / 'rl'))
  assert not (tmp_path / 'rl').exists()


def test_rows_that_cannot_be_split_are_refused():
  def batch_at(step, state):
    return {'tokens': np.zeros((3 * step, 2))}, {}

  checked = runner._on_mesh('cpt', batch_at, partitioning.make_mesh(data=2))
  assert checked(2, None)[0]['tokens'].shape == (6, 2)
  with pytest.raises(StageConfigError, match='cpt: a batch of 3 rows cannot be split over 2 dev'):
    checked(1, None)
