"""The whole import: cleaning, counts that add up, splits, folders, and starting again."""

import json
import pathlib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from aw_jax.trajectories import Turn, read_jsonl
from data_pipelines import filters, sources
from data_pipelines.importers import common, run
from data_pipelines.importers.common import Settings, TraceError

FAILED = 'Error: server is busy'


def chat(*pairs, request='Do it.', **fields):
  """A record of (name of a tool, answer) pairs."""
  messages = [{'role': 'user', 'content': request}]
  for index, (name, answer) in enumerate(pairs):
    call = {'id': str(index), 'function': {'name': name, 'arguments': '{}'}}
    messages += [{'role': 'assistant', 'tool_calls': [call]},
                 {'role': 'tool', 'tool_call_id': str(index), 'content': answer}]
  return {'messages': messages, **fields}


def write(path, *records):
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  return str(path)


def kept(out):
  return [one for shard in sorted(pathlib.Path(out).glob('*/*/shard-*.jsonl'))
          for one in read_jsonl(shard)]


def adds_up(report):
  assert report['episodes_read'] == (
    report['episodes_kept'] + sum(report['episodes_left_out'].values()))
  assert report['turns_read'] == (
    report['turns_kept'] + sum(report['turns_skipped'].values())
    + sum(report['turns_left_out_with_them'].values()))
  assert report['episodes_kept'] == sum(
    count for counts in report['episodes_by_split'].values() for count in counts.values())
  return report


SOUND = ('get', '{"x": 1}'), ('put', 'ok')


def test_every_reason_is_counted(tmp_path):
  tools = [{'name': 'get'}, {'name': 'put'}]
  loop = [('get', f'{FAILED} {number % 2}') for number in range(40)]
  path = write(
    tmp_path / 'chat.jsonl',
    chat(*SOUND), chat(*SOUND, request='Do it again.'), chat(*SOUND),  # the third is the first
    chat(('get', '')), chat(*SOUND, ('drop', 'ok')), chat(*loop),
    chat(('get', FAILED), ('get', '3'), ('', ''), ('put', '\x1b[1mok\x1b[0m')))
  report = adds_up(run.import_traces(
    'openai_chat', [path], str(tmp_path / 'out'), settings=Settings(tools=tools), progress=False,
    cleaning=run.Cleaning(skip_retries=True, min_quality=0.4), licence='MIT'))
  assert report['episodes_left_out'] == {
    filters.DUPLICATE: 1, filters.TOO_SHORT: 2, filters.UNDECLARED_TOOL: 1}
  assert report['turns_left_out_with_them'] == {
    filters.TOO_SHORT: 41, filters.UNDECLARED_TOOL: 3, filters.DUPLICATE: 2}
  assert report['turns_skipped'] == {filters.RETRY: 1, filters.EMPTY_ACTION: 1}
  assert (report['records'], report['episodes_kept'], report['turns_kept']) == (7, 3, 6)
  assert report['observations_denoised'] == 1 and report['licence'] == 'MIT'
  assert report['tool_calls'] == {'get': 3, 'put': 3}
  assert report['set_apart'] == {'message of the user': 7}


def test_low_quality_is_left_out_on_its_own_count(tmp_path):
  loop = [('get', f'{FAILED} {number % 2}') for number in range(40)]
  path = write(tmp_path / 'chat.jsonl', chat(*loop), chat(*SOUND))
  out = tmp_path / 'out'
  report = adds_up(run.import_traces(
    'openai_chat', [path], str(out), cleaning=run.Cleaning(skip_retries=False), progress=False))
  assert report['episodes_left_out'] == {run.LOW_QUALITY: 1}
  assert report['turns_left_out_with_them'] == {run.LOW_QUALITY: 40}
  assert [one.source['quality'] for one in kept(out)] == [1.0]


def test_quality_is_the_mean_of_three_shares():
  def score(*turns):
    return run.quality(common.make_trajectory(
      domain='mcp', family='f', key='k', instruction='', policy='p', source={},
      turns=[Turn(*turn) for turn in turns]))

  assert score(('a', '1'), ('b', '2')) == 1 and score() == 0
  assert score(('a', '1'), ('a', '1')) == pytest.approx((1 + 1 + 0.5) / 3)
  assert score(('a', ' '), ('b', 'ok')) == pytest.approx((0.5 + 1 + 1) / 3)
  assert score(('a', 'Error: no'), ('b', 'ok')) == pytest.approx((1 + 0.5 + 1) / 3)


def test_screens_in_which_nothing_changed_are_skipped(tmp_path):
  trees = ['[0] button "a"', '[0] button "a"', '[0] button "b"', '[0] button "c"']
  sample = {
    'task': 'web', 'id': 1, 'prompt': ['click(1)', 'click(2)', 'click(3)', 'click(4)'],
    'response': trees, 'current_prompt': 'click(4)', 'system_str': 'A page.', 'turn_idx': 4,
    'total_turns': 4}
  broken = {**sample, 'response': [*trees[:3], 'ERROR: null root node returned']}
  path = write(tmp_path / 'web_test.jsonl', sample, broken)
  out = tmp_path / 'out'
  report = adds_up(run.import_traces('agentworldbench', [path], str(out), progress=False))
  assert report['turns_skipped'] == {filters.UNCHANGED: 1}
  assert report['episodes_left_out'] == {filters.BROKEN_CAPTURE: 1}
  assert report['episodes_by_split'] == {'test': {'web': 1}}  # it is a benchmark
  assert [turn.action for turn in kept(out)[0].turns] == ['click(1)', 'click(3)', 'click(4)']


def test_the_public_files_are_imported_whole(tmp_path, airline, marshmallow):
  out = tmp_path / 'airline'
  report = adds_up(run.import_traces('openai_chat', [str(airline)], str(out), progress=False))
  records = json.loads(airline.read_text())
  assert report['records'] == report['episodes_read'] == len(records)
  calls = sum(len(message.get('tool_calls') or ()) for record in records
              for message in record['traj'])
  assert report['turns_read'] == calls
  if len(records) == 200:
    assert report['episodes_left_out'] == {filters.TOO_SHORT: 36, filters.DUPLICATE: 7}
    assert report['turns_skipped'] == {filters.RETRY: 3} and report['turns_kept'] == 1096
    assert report['rewards'] == {'0.0': 93, '1.0': 64} and len(report['tool_calls']) == 14
  found = kept(out)
  assert sum(len(one.turns) for one in found) == report['turns_kept']
  assert all(one.task.split == shard for shard in report['episodes_by_split']
             for path in out.glob(f'{shard}/*/*.jsonl') for one in read_jsonl(path))
  # What training may read it reads, and drops nothing more.
  folders = [str(out / split) for split in report['episodes_by_split'] if split != 'test']
  counts = filters.Counts()
  again = list(sources.read_kept(sources.find_shards(folders), counts))
  assert len(again) == sum(one.task.split != 'test' for one in found) and counts == filters.Counts()
  report = adds_up(run.import_traces(
    'swe_agent', [str(marshmallow)], str(tmp_path / 'swe'), progress=False))
  assert (report['episodes_kept'], report['turns_kept'], report['observations_denoised']) == (
    1, 11, 9)


def test_the_split_follows_what_was_asked(tmp_path):
  records = [chat(*SOUND, ('get', str(number)), request=f'Number {number}.')
             for number in range(400)]
  outs = []
  for name in ('one', 'two'):
    out = tmp_path / name
    run.import_traces('openai_chat', [write(tmp_path / f'{name}.jsonl', *records)], str(out),
                      progress=False)
    outs.append({one.task.instruction: (one.task.split, one.task.seed) for one in kept(out)})
  assert outs[0] == outs[1] and len(outs[0]) == 400
  splits = [split for split, _ in outs[0].values()]
  # 320 expected; five standard deviations of a draw of 400 are 40.
  assert abs(splits.count('train') - 320) < 40
  assert abs(splits.count('validation') - 40) < 30 and abs(splits.count('test') - 40) < 30
  report = run.import_traces('openai_chat', [str(tmp_path / 'one.jsonl')], str(tmp_path / 'all'),
                             split='train', progress=False)
  assert report['episodes_by_split'] == {'train': {'mcp': 400}}


def test_shards_are_of_bounded_size(tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'EPISODES_PER_SHARD', 3)
  path = write(tmp_path / 'c.jsonl', *[chat(*SOUND, ('get', str(n))) for n in range(7)])
  run.import_traces('openai_chat', [path], str(tmp_path / 'out'), split='train', progress=False)
  sizes = [len(list(read_jsonl(shard)))
           for shard in sorted((tmp_path / 'out/train/mcp').iterdir())]
  assert sizes == [3, 3, 1]


def test_an_import_begins_anew_after_a_kill_and_stays_when_whole(tmp_path):
  path, out = write(tmp_path / 'c.jsonl', chat(*SOUND)), tmp_path / 'out'
  report = run.import_traces('openai_chat', [path], str(out), progress=False)
  before = sorted((p, p.stat().st_mtime_ns) for p in out.rglob('*'))
  assert run.import_traces('openai_chat', [path], str(out), progress=False) == report
  assert sorted((p, p.stat().st_mtime_ns) for p in out.rglob('*')) == before
  (out / run.REPORT).unlink()
  shard, = out.glob('*/*/shard-*.jsonl')
  shard.rename(shard.with_name('shard-00007.jsonl'))  # of the killed one
  assert run.import_traces('openai_chat', [path], str(out), progress=False) == report
  assert [p.name for p in out.glob('*/*/*')] == ['shard-00000.jsonl']


def test_a_folder_of_something_else_is_left_alone(tmp_path):
  path, out = write(tmp_path / 'c.jsonl', chat(*SOUND)), tmp_path / 'out'
  run.import_traces('openai_chat', [path], str(out), progress=False)
  with pytest.raises(TraceError, match='holds another import'):
    run.import_traces('openai_chat', [path], str(out), split='train', progress=False)
  other = tmp_path / 'other'
  other.mkdir()
  (other / 'shard-00000-of-00001.jsonl').write_text('')
  with pytest.raises(TraceError, match='is not empty and no import made it'):
    run.import_traces('openai_chat', [path], str(other), progress=False)
  assert [p.name for p in other.iterdir()] == ['shard-00000-of-00001.jsonl']


def test_a_wrong_record_leaves_no_report(tmp_path):
  path, out = write(tmp_path / 'c.jsonl', chat(*SOUND), {'messages': 3}), tmp_path / 'out'
  with pytest.raises(TraceError, match=r'c.jsonl:2.messages: expected a list'):
    run.import_traces('openai_chat', [path], str(out), progress=False)
  assert not (out / run.REPORT).exists()


def test_files_of_folders(tmp_path, traces):
  assert [pathlib.Path(path).name for path in run.find_files('asciicast', [str(traces)])] == [
    'garden.cast', 'garden_keys.cast']
  nested = tmp_path / 'a' / 'b'
  nested.mkdir(parents=True)
  path = write(nested / 'c.jsonl', chat(*SOUND))
  assert run.find_files('openai_chat', [str(tmp_path), path]) == [path]
  with pytest.raises(TraceError, match='no file that ends in .traj here or below'):
    run.find_files('swe_agent', [str(tmp_path)])
  with pytest.raises(TraceError, match='no such file or folder'):
    run.find_files('swe_agent', [str(tmp_path / 'none.traj')])


_PAIRS = st.lists(st.tuples(
  st.sampled_from(['get', 'put', 'drop', '']), st.sampled_from(['', '1', '2', FAILED])), max_size=6)


@settings(max_examples=30)
@given(st.lists(_PAIRS, max_size=6), st.booleans(), st.sampled_from([0.0, 0.4, 0.8]))
def test_the_counts_always_add_up(tmp_path_factory, episodes, skip_retries, min_quality):
  folder = tmp_path_factory.mktemp('adds_up')
  path = write(folder / 'c.jsonl', *[chat(*pairs) for pairs in episodes])
  report = adds_up(run.import_traces(
    'openai_chat', [path], str(folder / 'out'), progress=False,
    settings=Settings(tools=[{'name': 'get'}, {'name': 'put'}]),
    cleaning=run.Cleaning(skip_retries, min_quality)))
  found = kept(folder / 'out')
  assert len(found) == report['episodes_kept'] and report['episodes_read'] == len(episodes)
  assert sum(len(one.turns) for one in found) == report['turns_kept']
  assert all(one.source['quality'] >= min_quality for one in found)
