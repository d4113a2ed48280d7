"""A collection by Beam's DirectRunner is that of the local collector, to the byte."""

import os
import pathlib
import subprocess
import sys

import pytest

from aw_jax.environments import collect

pytestmark = pytest.mark.requires('bwrap', 'apache_beam')
ROOT = pathlib.Path(__file__).resolve().parents[2]
EPISODES, PER_SHARD = 10, 3


def shards(folder):
  return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob('shard-*'))}


@pytest.fixture(scope='module')
def local(tmp_path_factory):
  out = tmp_path_factory.mktemp('local')
  summary = collect.collect(
      'terminal', EPISODES, out, episodes_per_shard=PER_SHARD, workers=1, progress=False)
  return out, summary


def run(out, *flags, runner='DirectRunner'):
  return subprocess.run(
      [sys.executable, '-m', 'experiments.collect', '--domain=terminal', f'--episodes={EPISODES}',
       f'--episodes_per_shard={PER_SHARD}', f'--out={out}', f'--beam_options=--runner={runner}',
       *flags], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_the_files_are_those_of_the_local_collector(local, tmp_path):
  folder, summary = local
  done = run(tmp_path)
  assert done.returncode == 0, done.stderr
  assert shards(tmp_path) == shards(folder) and len(shards(tmp_path)) == 4
  assert f'{EPISODES} episodes, {summary["steps"]} steps' in done.stdout

  first, *_ = sorted(tmp_path.glob('shard-*'))
  kept = {path: os.stat(path).st_mtime_ns for path in tmp_path.glob('shard-*') if path != first}
  first.unlink()
  again = run(tmp_path)
  assert again.returncode == 0 and f'{PER_SHARD} episodes now' in again.stdout
  assert shards(tmp_path) == shards(folder)
  assert all(os.stat(path).st_mtime_ns == stamp for path, stamp in kept.items())


def test_a_pipeline_that_fails_is_one_sentence(tmp_path, monkeypatch):
  from experiments import beam_collection

  def fail(*_):
    raise ValueError('no such day')

  monkeypatch.setattr(collect, 'run_numbered_episode', fail)
  with pytest.raises(collect.CollectError, match='pipeline failed: .*no such day.*; the shards'):
    collect.collect(
        'terminal', 2, tmp_path, progress=False,
        write_shards=beam_collection.shard_writer(['--runner=DirectRunner']))
  assert not shards(tmp_path)


def test_an_unknown_runner_is_one_sentence(tmp_path):
  done = run(tmp_path, runner='NoSuchRunner')
  assert done.returncode == 1 and 'Traceback' not in done.stderr
  assert 'collect: ' in done.stderr and 'NoSuchRunner' in done.stderr
