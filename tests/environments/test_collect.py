"""The collector: what it writes, and that nothing that dies on the way tears or changes it."""

import dataclasses
import json
import math
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from aw_jax import trajectories
from aw_jax.environments import collect, registry, terminal
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.registry import RegistryError

EPISODES = 24
_real_work = collect._work
SETTINGS = {'seed': 3, 'episodes_per_shard': 4, 'progress': False}


def content(folder):
  return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).glob('shard-*'))}


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
  """One collection, made in one go by one worker."""
  out = tmp_path_factory.mktemp('reference')
  summary = collect.collect('terminal', EPISODES, out, workers=1, **SETTINGS)
  return out, summary


@pytest.mark.requires('bwrap')
class TestContent:

  def test_shards_are_whole_and_readable(self, reference):
    out, _ = reference
    assert list(content(out)) == [f'shard-{i:05d}-of-00006.jsonl' for i in range(6)]
    found = [t for name in content(out) for t in trajectories.read_jsonl(out / name, 'terminal')]
    assert len(found) == EPISODES
    assert len({t.task.id for t in found}) == EPISODES
    for trajectory in found:
      assert trajectory.task.split == 'train' and not trajectory.error
      assert trajectory.success is not None
      assert all(turn.changed_state is not None and turn.state is not None
                 for turn in trajectory.turns)

  def test_summary_counts_what_is_there(self, reference):
    out, summary = reference
    assert json.loads((out / 'summary.json').read_text()) == summary
    found = [t for name in content(out) for t in trajectories.read_jsonl(out / name)]
    assert summary['episodes'] == EPISODES and summary['errors'] == 0
    assert summary['steps'] == sum(len(t.turns) for t in found)
    assert sum(summary['episodes_by']['family'].values()) == EPISODES
    assert summary['episodes_by']['split'] == {'train': EPISODES}
    experts = [t for t in found if t.policy == 'expert']
    assert summary['success_rate_by_policy']['expert'] == 1.0
    assert summary['episodes_by']['policy']['expert'] == len(experts)
    text = collect.table(summary)
    assert 'noisy_expert' in text and 'steps/s' in text

  def test_it_does_not_depend_on_the_number_of_workers(self, reference, tmp_path):
    collect.collect('terminal', EPISODES, tmp_path, workers=3, **SETTINGS)
    assert content(tmp_path) == content(reference[0])

  def test_pool_split_and_policies_are_kept_to(self, tmp_path):
    collect.collect('terminal', 6, tmp_path, workers=1, pool='rl', policies={'explorer': 1},
                    mark_changed_state=False, **SETTINGS)
    found = [t for name in content(tmp_path) for t in trajectories.read_jsonl(tmp_path / name)]
    assert {registry.stage_pool(t.task) for t in found} == {'rl'}
    assert {t.policy for t in found} == {'explorer'}
    assert {turn.changed_state for t in found for turn in t.turns} == {None}

  def test_the_test_split_holds_the_families_kept_out(self, tmp_path):
    count = len(registry.families('terminal', 'test'))
    summary = collect.collect('terminal', count, tmp_path, split='test', **SETTINGS | {'seed': 1})
    assert set(registry.held_out('terminal')) <= set(summary['episodes_by']['family'])


@pytest.mark.requires('bwrap')
class TestSurvival:

  def test_a_killed_worker_is_replaced(self, reference, tmp_path):
    killed = []

    def kill_workers():
      while len(killed) < 2:
        children = multiprocessing.active_children()
        if children and len(content(tmp_path)) > len(killed):
          os.kill(children[0].pid, signal.SIGKILL)
          killed.append(children[0].pid)
          children[0].join()
        time.sleep(0.005)

    killer = threading.Thread(target=kill_workers, daemon=True)
    killer.start()
    summary = collect.collect('terminal', EPISODES, tmp_path, workers=2, **SETTINGS)
    assert killed
    assert content(tmp_path) == content(reference[0])
    assert summary['episodes'] == EPISODES
    killed.extend([0, 0])  # ends the thread where everything was over too soon
    assert not [name for name in os.listdir(tmp_path) if name.startswith('.')]

  def test_a_killed_collection_goes_on_where_it_was(self, reference, tmp_path):
    command = [
        sys.executable, '-m', 'experiments.collect', '--domain=terminal', f'--episodes={EPISODES}',
        f'--out={tmp_path}', '--seed=3', '--episodes_per_shard=4', '--workers=2']
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
      while not content(tmp_path) and process.poll() is None:
        time.sleep(0.005)
      process.kill()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob('shard-*')}
    assert before
    (tmp_path / '.shard-00005-of-00006.jsonlx').write_text('{"torn')
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert content(tmp_path) == content(reference[0])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert f'{EPISODES} episodes' in run.stdout
    assert not [name for name in os.listdir(tmp_path) if name.startswith('.')]

  def test_a_whole_collection_is_not_done_again(self, reference):
    out, summary = reference
    again = collect.collect('terminal', EPISODES, out, workers=2, **SETTINGS)
    assert again['collected_now'] == 0
    assert {k: again[k] for k in ('rows', 'steps')} == {k: summary[k] for k in ('rows', 'steps')}

  def test_a_shard_that_kills_every_worker_is_given_up_in_one_sentence(self, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, '_work', _die)
    with pytest.raises(collect.CollectError, match='3 times, at last: exit -9; the shards that'):
      collect.collect('terminal', 4, tmp_path, workers=1, **SETTINGS)

  def test_a_task_that_cannot_be_made_is_tried_again(self, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, '_work', _break_twice)
    summary = collect.collect('terminal', 4, tmp_path, workers=1, **SETTINGS)
    assert summary['episodes'] == 4 and len(list(tmp_path.glob('tried-*'))) == 2
    monkeypatch.setattr(collect, '_work', _break)
    with pytest.raises(collect.CollectError, match='3 times, at last: no desktop; the shards that'):
      collect.collect('terminal', 4, tmp_path / 'other', workers=1, **SETTINGS)

  def test_a_bug_in_a_worker_is_said_in_one_sentence(self, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, '_work', _fail)
    with pytest.raises(collect.CollectError, match='shard-00000-of-00001.jsonl failed: ValueError'):
      collect.collect('terminal', 4, tmp_path, workers=1, **SETTINGS)

  def test_a_broken_episode_is_kept_and_marked(self):
    collection = collect.Collection('terminal', 1, 'train', {'expert': 1}, 0, 1, None, True)
    with _Fragile() as environment:
      broken = collect.run_numbered_episode(environment, collection, 0)
      assert broken.error == 'it broke' and broken.success is None and len(broken.turns) == 1
      environment.left = 100
      assert collect.run_numbered_episode(environment, collection, 0).success
    stats = collect._statistics([broken])
    assert collect._summarise(collection, [stats])['errors'] == 1


class _Fragile(terminal.TerminalEnvironment):
  """Breaks at its second step."""

  left = 1

  def step(self, action):
    self.left -= 1
    if self.left < 0:
      raise BrokenEnvironmentError('it broke')
    return super().step(action)


def _die(connection, collection, out):
  connection.recv()
  os.kill(os.getpid(), signal.SIGKILL)


def _break(connection, collection, out):
  """As where a desktop or an engine, which describe a task, do not start."""
  def no_task(*arguments):
    raise BrokenEnvironmentError('no desktop')

  registry.task_at = no_task  # in this process, which ends here
  _real_work(connection, collection, out)


def _break_twice(connection, collection, out):
  if len(tried := os.listdir(out)) and sum(name.startswith('tried-') for name in tried) == 2:
    _real_work(connection, collection, out)
  else:
    open(os.path.join(out, f'tried-{os.getpid()}'), 'w', encoding='utf-8').close()
    _break(connection, collection, out)


def _fail(connection, collection, out):
  connection.recv()
  connection.send(('failed', 'ValueError: no'))


@pytest.mark.parametrize('change, message', [
  ({'policies': {'nobody': 1}}, "unknown policy 'nobody'; known are expert"),
  ({'policies': {'expert': 0}}, 'sum to 0'),
  ({'policies': {'expert': -1}}, 'not negative'),
  ({'policies': {'expert': math.inf}}, 'finite'),
  ({'workers': 0}, 'must be at least 1'),
  ({'domain': 'nowhere'}, "unknown domain 'nowhere'"),
  ({'split': 'dev'}, "unknown split 'dev'"),
  ({'split': 'test', 'pool': 'rl'}, "pool 'rl' with split 'test'"),
  ({'out': '/proc/nowhere'}, 'cannot write to /proc/nowhere'),
])
def test_what_cannot_be_collected_is_said_in_one_sentence(tmp_path, change, message):
  arguments = {'domain': 'terminal', 'episodes': 4, 'out': tmp_path, **SETTINGS, **change}
  with pytest.raises((collect.CollectError, RegistryError), match=message):
    collect.collect(**arguments)
  assert not content(tmp_path)


def test_another_collection_is_not_mixed_in(tmp_path):
  collection = collect.Collection('terminal', 9, 'train', {'expert': 1}, 0, 1, None, True)
  collect._claim(collection, str(tmp_path))
  with pytest.raises(collect.CollectError, match='holds another collection'):
    collect._claim(dataclasses.replace(collection, seed=1), str(tmp_path))


def test_missing_bwrap_is_said_in_one_sentence(tmp_path):
  run = subprocess.run(
      [sys.executable, '-m', 'experiments.collect', '--domain=terminal', '--episodes=2',
       f'--out={tmp_path}'],
      capture_output=True, text=True, check=False, timeout=60, env={'PATH': '/nonexistent'},
      cwd=pathlib.Path(collect.__file__).parents[2])
  assert run.returncode == 1
  assert run.stderr.strip().split('\n')[-1] == (
      'collect: bwrap not found: apt-get install -y bubblewrap')


def test_a_worker_imports_no_jax():
  code = ('import sys, aw_jax.environments.collect, aw_jax.environments.terminal_tasks; '
          'sys.exit("jax" in sys.modules or "numpy" in sys.modules)')
  subprocess.run([sys.executable, '-c', code], check=True, timeout=60)


def test_missing_program_reaches_the_caller(tmp_path, monkeypatch):
  monkeypatch.setenv('PATH', '/nonexistent')
  with pytest.raises(MissingProgramError, match='bwrap not found'):
    collect.collect('terminal', 2, tmp_path, **SETTINGS)
