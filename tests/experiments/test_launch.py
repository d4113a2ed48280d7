"""The launch scripts, as far as a machine without a cloud can tell: what they would run."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from configs import pod_35b_a3b

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / 'experiments' / 'launch'
SETTINGS = {'PROJECT': 'p', 'ZONE': 'z', 'TYPE': 'v5p-128', 'BUCKET': 'b', 'CLUSTER': 'c',
            'IMAGE': 'i'}
COMMAND = ('python', '-m', 'experiments.train', '--config=configs/pod_35b_a3b.py',
           "--workdir=/mnt/a b's")
SCRIPTS = ('tpu_vm.sh', 'gke_xpk.sh')


def launch(script, *arguments, **settings):
  return subprocess.run(
    [LAUNCH / script, *arguments], env=os.environ | {'DRY_RUN': '1'} | settings,
    capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize('script', SCRIPTS)
def test_the_command_reaches_every_host_as_it_was_written(script):
  run = launch(script, 'run1', *COMMAND, **SETTINGS)
  assert run.returncode == 0, run.stderr
  sent = [word.partition('=')[2] for line in run.stdout.splitlines() for word in _words(line)
          if word.startswith('--command=') and 'experiments.train' in word]
  assert len(sent) == 1
  words = shlex.split(sent[0])
  start = words.index('python')
  assert tuple(words[start:]) == (*COMMAND, '--coordinator=auto')


def _words(line):
  """Of a line that bash quoted, where it may have written $'...' for a line break."""
  try:
    return shlex.split(re.sub(r"\\$'", "'", line))
  except ValueError:
    return []


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_setting_that_is_missing_is_named(script):
  run = launch(script, 'run1', *COMMAND, **SETTINGS | {'BUCKET': ''})
  assert run.returncode == 2 and 'BUCKET is not set' in run.stderr


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_command_for_one_host_is_refused(script):
  run = launch(script, 'run1', 'python', '-m', 'experiments.train_rl', **SETTINGS)
  assert run.returncode == 2 and 'only experiments.train' in run.stderr


def test_the_example_of_the_scripts_is_a_stage_that_train_takes():
  assert pod_35b_a3b.get_config().stage == 'cpt' and pod_35b_a3b.get_config().init == 'scratch'
