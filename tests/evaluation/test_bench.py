"""The benchmark's draw of turns and its files."""

import collections
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.evaluation import bench
from aw_jax.evaluation.examples import TurnExample
from aw_jax.rewards.verifiers import exact_match
from aw_jax.trajectories import Task, Verifier


def turns(trajectory, count, domain='terminal'):
  pairs = [(f'echo {i}', f'{i}\n~$') for i in range(count)]
  task = Task(f'task{trajectory}', domain, 'files', 'test', 0, 'Do it.', 'a.txt: x', {},
              Verifier('answer', 'x'), 8)
  return [
    TurnExample(domain, 'files', False, f'task{trajectory}', trajectory, i + 1, count,
                tuple(pairs[:i]), *pairs[i], ((0, 1),), i > 0, 'a.txt: x', task)
    for i in range(count)]


def test_first_last_and_three_turns_of_each_trajectory():
  examples = [turn for number in range(400) for turn in turns(number, 9)]
  drawn = bench.draw_turns(examples, seed=0, share=1.0)
  places = collections.Counter(turn.turn_index for turn in drawn)
  assert len(drawn) == 5 * 400 and places[1] == places[9] == 400
  # Uniform: each of the seven middle turns in 3/7 of 400 trajectories; 5 standard deviations.
  expected, deviation = 400 * 3 / 7, np.sqrt(400 * 3 / 7 * 4 / 7)
  assert all(abs(places[turn] - expected) < 5 * deviation for turn in range(2, 9))
  for number in range(400):
    own = [turn.turn_index for turn in drawn if turn.trajectory == number]
    assert own == sorted(set(own))


@pytest.mark.parametrize(('count', 'kept'), [(1, 1), (2, 2), (4, 4), (5, 5), (6, 5)])
def test_short_trajectories_give_what_they_have(count, kept):
  assert len(bench.draw_turns(turns(0, count), seed=3, share=1.0)) == kept


def test_half_of_each_domain_is_kept_and_the_seed_decides():
  examples = [turn for number in range(20)
              for turn in turns(number, 7, 'mcp' if number % 2 else 'terminal')]
  drawn = bench.draw_turns(examples, seed=1)
  assert collections.Counter(turn.domain for turn in drawn) == {'terminal': 25, 'mcp': 25}
  assert drawn == bench.draw_turns(examples, seed=1) != bench.draw_turns(examples, seed=2)
  assert set(drawn) <= set(bench.draw_turns(examples, seed=1, share=1.0))


def test_files_hold_the_samples(tmp_path):
  examples = [*turns(0, 4), *turns(1, 3, 'mcp')]
  found = bench.samples(examples)
  paths = bench.write(str(tmp_path), found)
  assert [path.rpartition('/')[2] for path in paths] == ['mcp_test.jsonl', 'terminal_test.jsonl']
  again = [*bench.read(paths[1]), *bench.read(paths[0])]
  assert again == found and {sample.example.file for sample in again} == set(paths)
  line = json.loads((tmp_path / 'terminal_test.jsonl').read_text().splitlines()[2])
  assert line['prompt'] == ['echo 0', 'echo 1', 'echo 2'] and line['current_prompt'] == 'echo 2'
  assert line['response'][2] == '**Environment Observation:**\n2\n~$'
  assert (line['turn_idx'], line['total_turns'], line['task']) == (3, 4, 'terminal')
  assert 'a.txt: x' in line['system_str']


def test_the_template_is_chosen():
  """A model that was not trained here is told how its answers are read."""
  def system(*prompts):
    return bench.samples(turns(0, 1), *prompts)[0].example.system

  assert system() == system('v0', 'short') != system('v1')
  assert '<predicted_observation>' in system('v11', 'full') != system('v10', 'full')
  assert '<predicted_observation>' not in system('v0', 'full')


def published(**changes):
  sample = {
    'task': 'terminal', 'id': 7, 'prompt': ['ls', 'pwd'], 'current_prompt': 'pwd',
    'response': [f'{bench.LEAD} a\nb', f'{bench.LEAD}\n\n/root', f'{bench.LEAD}\nlater'],
    'system_str': 'You are a terminal.', 'turn_idx': 2, 'total_turns': 3} | changes
  return {name: value for name, value in sample.items() if value is not ...}


def read_one(tmp_path, sample, name='terminal_test.jsonl'):
  path = tmp_path / name
  path.write_text(json.dumps(sample) + '\n')
  one, = bench.read(str(path))
  return one


def test_published_files_are_read_with_whole_histories(tmp_path):
  long = [f'{i} ' * 5000 for i in range(40)]
  one = read_one(tmp_path, published(prompt=long, response=long, turn_idx=40, total_turns=40))
  assert one.example.history == tuple((text, text.strip()) for text in long[:39])
  assert one.example.observation == long[39].strip()
  one = read_one(tmp_path, published())
  assert one.example.history == (('ls', 'a\nb'),)
  assert (one.example.action, one.example.observation) == ('pwd', '/root')
  assert one.example.system == 'You are a terminal.' and one.example.initial_state is None
  assert one.example.runtime_metadata is None and one.example.changed_state is None
  # The current action may be missing among the prompts.
  assert read_one(tmp_path, published(prompt=['ls'])).example == one.example


def test_json_is_led_by_words_or_not(tmp_path):
  """A model that is asked for the text alone is right about the one as about the other."""
  value = '{"a": 1}'
  for response in (value, f'{bench.LEAD}\n\n{value}\n', f'{bench.LEAD} {value}'):
    one = read_one(tmp_path, published(response=['', response]), 'mcp_test.jsonl')
    assert exact_match('{"a":1}', one.example.reference)


def test_samples_of_one_trajectory_are_known_as_such(tmp_path):
  first = read_one(tmp_path, published())
  other = read_one(tmp_path, published(id=8, turn_idx=1, current_prompt='ls'))
  third = read_one(tmp_path, published(id=9, system_str='You are another.'))
  assert first.example.trajectory == other.example.trajectory != third.example.trajectory


@pytest.mark.parametrize(('changes', 'message'), [
  ({'turn_idx': ...}, r'terminal_test.jsonl:1.turn_idx: missing'),
  ({'turn_idx': True}, r':1.turn_idx: found true'),
  ({'turn_idx': 4}, r':1.prompt: 2 entries, turn_idx = 4 needs 3'),
  ({'turn_idx': 0}, r':1.prompt: 2 entries, turn_idx = 0'),
  ({'response': ['x']}, r':1.response: 1 entries, turn_idx = 2 needs 2'),
  ({'response': ['x', 3]}, r':1.response\[1\]: found 3'),
  ({'system_str': None}, r':1.system_str: found null'),
  ({'system_str': 'half a pair \ud83d'}, r':1: not valid Unicode'),
  ({'aw_jax': {}}, r':1.aw_jax: expected an object of family'),
])
def test_what_is_wrong_is_named(tmp_path, changes, message):
  with pytest.raises(bench.BenchError, match=message):
    read_one(tmp_path, published(**changes))


def test_files_are_named_by_their_domain(tmp_path):
  with pytest.raises(bench.BenchError, match='not named DOMAIN_test.jsonl'):
    read_one(tmp_path, published(), 'moon_test.jsonl')
  (tmp_path / 'mcp_test.jsonl').write_text('\n')
  with pytest.raises(bench.BenchError, match='no sample in it'):
    bench.read(str(tmp_path / 'mcp_test.jsonl'))
  with pytest.raises(bench.BenchError, match='No such file'):
    bench.read(str(tmp_path / 'web_test.jsonl'))


JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                              max_size=3), max_leaves=6)


@settings(deadline=None, max_examples=5000)
@given(st.dictionaries(st.sampled_from([*published(), 'aw_jax']), JSON, max_size=4))
def test_any_fields_are_read_or_refused(tmp_path_factory, changes):
  """No crash and no silent loss: a line gives its one sample, or the error that names it."""
  path = tmp_path_factory.getbasetemp() / 'terminal_test.jsonl'
  path.write_text(json.dumps({**published(), **changes}) + '\n')
  try:
    one, = bench.read(str(path))
  except bench.BenchError as error:
    assert f'{path}:1' in str(error)
  else:
    assert one.example.observation is not None


LINES = [json.dumps(published(id=number)).encode() for number in range(3)]
PIECES = [b'\n', b'\r\n', b'\n\n', b'"', b'{', b'}', b'\\', b'\xff', b'null']
EDITS = st.lists(st.tuples(  # where in the file, how many bytes go, what comes instead
  st.integers(0, sum(map(len, LINES)) + 2), st.integers(0, 40),
  st.binary(max_size=6) | st.sampled_from(PIECES)), max_size=3)


@settings(deadline=None, max_examples=5000)
@given(EDITS)
def test_a_spoilt_file_loses_no_line(tmp_path_factory, edits):
  """Every line that is not blank gives its sample, or the file is refused by name."""
  content = b'\n'.join(LINES)
  for start, gone, instead in edits:
    content = content[:start] + instead + content[start + gone:]
  path = tmp_path_factory.getbasetemp() / 'mcp_test.jsonl'
  path.write_bytes(content)
  try:
    found = bench.read(str(path))
  except bench.BenchError as error:
    assert str(path) in str(error)
  else:
    assert len(found) == sum(bool(line.strip()) for line in content.split(b'\n'))
