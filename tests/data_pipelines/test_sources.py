"""Bad input gets one clear sentence; what is left out is counted."""

import collections
import dataclasses

import pytest

from aw_jax.environments import registry
from aw_jax.trajectories import TrajectoryError, Turn
from data_pipelines import pools, sources


def test_a_scan_counts_what_is_kept_and_left_out(tmp_path, trajectory, write_folder):
  first = trajectory(1)
  write_folder(tmp_path / 'terminal', [
      first, first, trajectory(1, policy='expert'), trajectory(2, num_turns=1),
      trajectory(3, error='the sandbox died'), trajectory(8, split='validation')])
  write_folder(tmp_path / 'mcp', [trajectory(4, domain='mcp')], shards=1)
  scan = sources.scan([tmp_path])
  assert scan.kept == {'train': {'terminal': 2, 'mcp': 1}, 'validation': {'terminal': 1}}
  assert scan.dropped == {'duplicate': 1, 'fewer than 2 turns': 1, 'episode broke': 1}
  assert scan.skipped_turns == {} and not scan.skip_retries
  assert scan.licences == {'terminal': [sources.COLLECTED], 'mcp': [sources.COLLECTED]}
  assert sorted(scan.sources.values()) == [
      'mcp/shard-00000-of-00001.jsonl', 'terminal/shard-00000-of-00002.jsonl',
      'terminal/shard-00001-of-00002.jsonl']
  each = sources.scan([tmp_path / 'mcp', tmp_path / 'terminal'])
  assert (each.fingerprint, each.kept) == (scan.fingerprint, scan.kept)


def test_licences_of_imported_traces_stand_beside_what_was_collected(
    tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), *(
      dataclasses.replace(trajectory(seed), source=source)
      for seed, source in ((2, {'licence': 'MIT'}), (3, {'format': 'swe_agent'})))])
  assert sources.scan([tmp_path]).licences == {'terminal': ['MIT', sources.COLLECTED, 'unknown']}


def test_the_fingerprint_is_that_of_the_content(tmp_path, trajectory, write_folder):
  write_folder(tmp_path / 'a', [trajectory(1), trajectory(2)])
  write_folder(tmp_path / 'b', [trajectory(1), trajectory(2)])
  write_folder(tmp_path / 'c', [trajectory(1), trajectory(3)])
  a, b, c = (sources.scan([tmp_path / name]).fingerprint for name in 'abc')
  assert a == b != c


def test_retries_are_skipped_on_request_and_that_is_another_data_set(
    tmp_path, trajectory, write_folder):
  failed = Turn('cat x.txt', 'cat: x.txt: No such file or directory\n~$')
  made = trajectory(1)
  retried = dataclasses.replace(made, turns=(*made.turns, failed, failed))
  write_folder(tmp_path, [retried, trajectory(2)])
  as_it_was, without = sources.scan([tmp_path]), sources.scan([tmp_path], skip_retries=True)
  assert as_it_was.skipped_turns == {} and without.skipped_turns == {'retry cycle': 1}
  assert as_it_was.kept == without.kept and as_it_was.fingerprint != without.fingerprint
  lengths = [[len(t.turns) for _, t in sources.read_kept(scan.shards, None, scan.skip_retries)]
             for scan in (as_it_was, without)]
  assert lengths == [[6, 4], [5, 4]]


def test_keys_tell_episodes_apart(trajectory):
  made = trajectory(1)
  others = [trajectory(2), trajectory(1, policy='expert'), trajectory(1, num_turns=3),
            dataclasses.replace(made, submission='42')]
  assert len({sources.key_of(item) for item in [made, *others]}) == 5
  assert sources.key_of(made) == sources.key_of(trajectory(1))


def _error(folder) -> str:
  with pytest.raises((sources.SourceError, TrajectoryError)) as caught:
    sources.scan([folder])
  assert '\n' not in str(caught.value)
  return str(caught.value).removeprefix(str(folder))


def test_a_test_task_is_refused(tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), trajectory(9, split='test')], shards=1)
  assert _error(tmp_path) == (
      '/shard-00000-of-00001.jsonl:2: task terminal/copy/9 is held out for test and must not be '
      'trained on; collect with --split=train')


def test_a_folder_of_two_domains_is_refused(tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), trajectory(2, domain='mcp')], shards=1)
  assert _error(tmp_path) == (
      "/shard-00000-of-00001.jsonl:2.task.domain: 'mcp' in a file of 'terminal'; "
      'keep one directory a domain')


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
  assert _error(tmp_path) == (
      f': no shard-*.jsonl here or one level below; collect some with '
      f'python -m experiments.collect --domain=terminal --out={tmp_path}')


def test_a_folder_of_splits_says_to_name_one(tmp_path, trajectory, write_folder):
  write_folder(tmp_path / 'validation' / 'terminal', [trajectory(1)])
  assert _error(tmp_path) == (
      f': no shard-*.jsonl here or one level below; name the folder of a split, as in '
      f'{tmp_path}/train')


@pytest.mark.parametrize('find, replace, sentence', [
    ('"domain": "terminal"', '"domain": "space"', ":2.task.domain: 'space' is not one of terminal"),
    ('"action": "cat', '"action": "", "thinking": "cat', ':2.turns[0].action: empty; drop the'),
    ('"policy": "noisy_expert", ', '', ':2.policy: missing; every Trajectory needs it'),
    ('"turns": [', '"turns": [[], ', ':2.turns[0]: expected an object, found list'),
])
def test_a_broken_record_is_named(find, replace, sentence, tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), trajectory(2)], shards=1)
  path, = tmp_path.glob('shard-*')
  first, second = path.read_text().splitlines()
  assert find in second
  path.write_text(f'{first}\n{second.replace(find, replace, 1)}\n')
  assert _error(tmp_path).startswith(f'/{path.name}{sentence}')


def test_a_torn_line_is_named(tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), trajectory(2)], shards=1)
  path, = tmp_path.glob('shard-*')
  path.write_text(path.read_text()[:-200])
  message = _error(tmp_path)
  assert message.startswith(f'/{path.name}:2: not JSON') and 'torn line' in message


def test_the_pools_are_those_of_the_registry(trajectory):
  found = collections.Counter()
  for seed in range(0, 1000, 7):
    task = dataclasses.replace(trajectory(1).task, seed=seed)
    assert pools.stage_pool(task) == registry.stage_pool(task)
    found[pools.stage_pool(task)] += 1
  assert set(found) == set(pools.POOLS) and found['cpt'] > found['sft']


@pytest.mark.parametrize('seed', [5, 65, 85])
def test_a_train_task_is_in_one_pool_and_a_validation_task_in_all(seed, trajectory):
  made = trajectory(seed)
  assert [pools.is_in_stage(made, stage) for stage in pools.POOLS].count(True) == 1
  validation = trajectory(seed, split='validation')
  assert all(pools.is_in_stage(validation, stage) for stage in pools.POOLS)
  assert pools.is_in_stage(made, 'agent')
  assert not pools.is_in_stage(trajectory(seed, policy='random'), 'agent')


def test_shards_of_all_folders_come_in_turn():
  shards = ['/a/s1', '/a/s2', '/a/s3', '/b/s1', '/c/s1', '/c/s2']
  assert sources.in_turn(shards) == ['/a/s1', '/b/s1', '/c/s1', '/a/s2', '/c/s2', '/a/s3']
