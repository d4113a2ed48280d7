"""The schema's files: nothing is lost on the way, and what is wrong is named."""

import contextlib
import copy
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import hypothesis
import hypothesis.strategies as st
import pytest

from aw_jax import trajectories
from aw_jax.trajectories import Task, Trajectory, TrajectoryError, Turn, Verifier

TEXT = st.text(max_size=40)
ACTION = TEXT.filter(str.strip)
JSON = st.recursive(
  st.none() | st.booleans() | st.integers(-2**53, 2**53) | st.floats(allow_nan=False) | TEXT,
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
  max_leaves=6)
VERIFIERS = st.builds(
  Verifier, kind=st.sampled_from(trajectories.VERIFIER_KINDS), expected=TEXT, command=TEXT)
TASKS = st.builds(
  Task, id=TEXT, domain=st.sampled_from(trajectories.DOMAINS), family=TEXT,
  split=st.sampled_from(trajectories.SPLITS), seed=st.integers(0, 10**9), instruction=TEXT,
  initial_state=st.none() | TEXT, setup=st.dictionaries(TEXT, JSON, max_size=3),
  verifier=VERIFIERS, max_turns=st.integers(1, 50))
SPANS = st.lists(
  st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda pair: tuple(sorted(pair))),
  max_size=3).map(tuple)
TURNS = st.builds(
  Turn, action=ACTION, observation=TEXT, state=st.none() | TEXT,
  changed_state=st.none() | st.booleans(), runtime_metadata=SPANS, thinking=st.none() | TEXT)
TRAJECTORIES = st.builds(
  Trajectory, task=TASKS, policy=TEXT, turns=st.lists(TURNS, max_size=4).map(tuple),
  submission=st.none() | TEXT, verification=st.none() | TURNS, success=st.none() | st.booleans(),
  error=TEXT)


def example(observation: str = 'a.txt\n') -> Trajectory:
  task = Task(
    id='terminal/list/3', domain='terminal', family='list', split='train', seed=3,
    instruction='List the files.', initial_state='a.txt: héllo\n', setup={'files': {'a.txt': 'é'}},
    verifier=Verifier('command', 'a.txt', 'ls'), max_turns=5)
  turns = (Turn('ls', observation, changed_state=False), Turn('cat a.txt', 'héllo\n'))
  return Trajectory(task, 'expert', turns, '', Turn('ls', 'a.txt\n'), True)


def write_records(path, *records) -> str:
  path.write_text(''.join(json.dumps(record) + '\n' for record in records), encoding='utf-8')
  return str(path)


def error_of(path, domain=None) -> str:
  with pytest.raises(TrajectoryError) as caught:
    list(trajectories.read_jsonl(path, domain))
  assert '\n' not in str(caught.value)
  return str(caught.value)


@hypothesis.given(st.lists(TRAJECTORIES, max_size=3))
def test_round_trip(tmp_path_factory, written):
  path = tmp_path_factory.mktemp('round_trip') / 'a.jsonl'
  trajectories.write_jsonl(path, written)
  assert list(trajectories.read_jsonl(path)) == written


def test_what_was_read_before_the_wrong_line_is_not_lost(tmp_path):
  path = write_records(tmp_path / 'a.jsonl', trajectories.to_json(example()), {})
  read = trajectories.read_jsonl(path)
  assert next(read) == example()
  with pytest.raises(TrajectoryError, match=re.escape(f'{path}:2.task: missing')):
    next(read)


def test_torn_line_names_file_and_line_wherever_it_is_cut(tmp_path):
  path = tmp_path / 'a.jsonl'
  trajectories.write_jsonl(path, [example(), example()])
  whole = path.read_bytes()
  second = whole.index(b'\n') + 1
  for end in range(second + 1, len(whole) - 1):  # the last cut leaves the whole record
    path.write_bytes(whole[:end])
    message = error_of(path)
    assert message.startswith(f'{path}:2: ') and 'torn' in message, message


def test_bytes_that_are_no_text_name_file_and_line(tmp_path):
  path = tmp_path / 'a.jsonl'
  trajectories.write_jsonl(path, [example(), example('MARK')])
  path.write_bytes(path.read_bytes().replace(b'MARK', b'\xff\xfe'))
  assert error_of(path).startswith(f'{path}:2: ')


def test_empty_line_names_file_and_line(tmp_path):
  path = write_records(tmp_path / 'a.jsonl', trajectories.to_json(example()))
  with open(path, 'a', encoding='utf-8') as file:
    file.write('\n')
  assert error_of(path).startswith(f'{path}:2: ')


DELETE = object()
WRONG = [
  # what is changed, where, what the message must say after file and line
  (('task', 'seed'), DELETE, '.task.seed: missing'),
  (('task', 'verifier', 'expected'), DELETE, '.task.verifier.expected: missing'),
  (('turns', 1, 'observation'), DELETE, '.turns[1].observation: missing'),
  (('policy',), DELETE, '.policy: missing'),
  (('task', 'domain'), 'terminals', ".task.domain: 'terminals' is not one of terminal, mcp"),
  (('task', 'split'), 'dev', ".task.split: 'dev' is not one of train, validation, test"),
  (('task', 'verifier', 'kind'), 'hash', ".task.verifier.kind: 'hash' is not one of"),
  (('turns', 0, 'action'), '', '.turns[0].action: empty'),
  (('turns', 0, 'action'), ' \n', '.turns[0].action: empty'),
  (('verification', 'action'), '', '.verification.action: empty'),
  (('prize',), 1, '.prize: unknown field'),
  (('task', 'difficulty'), 1, '.task.difficulty: unknown field'),
  (('turns', 1, 'note'), '', '.turns[1].note: unknown field'),
  (('task', 'seed'), '3', '.task.seed: expected int, found "3"'),
  (('task', 'seed'), True, '.task.seed: expected int, found true'),
  (('task', 'seed'), 3.0, '.task.seed: expected int, found 3.0'),
  (('task', 'setup'), [], '.task.setup: expected dict, found []'),
  (('task', 'initial_state'), 1, '.task.initial_state: expected str or null, found 1'),
  (('task',), 'terminal/list/3', '.task: expected an object, found str'),
  (('turns',), {}, '.turns: expected a list of turns, found dict'),
  (('turns', 0), None, '.turns[0]: expected an object'),
  (('turns', 0, 'observation'), None, '.turns[0].observation: expected str, found null'),
  (('turns', 0, 'changed_state'), 0, '.turns[0].changed_state: expected bool or null, found 0'),
  (('turns', 0, 'runtime_metadata'), [[3, 2]], '.turns[0].runtime_metadata: expected [start'),
  (('turns', 0, 'runtime_metadata'), [[0, True]], '.turns[0].runtime_metadata: expected [start'),
  (('turns', 0, 'runtime_metadata'), [3], '.turns[0].runtime_metadata: expected [start'),
  (('success',), 'yes', '.success: expected bool or null, found "yes"'),
]


@pytest.mark.parametrize(('where', 'value', 'message'), WRONG)
def test_wrong_record_names_file_line_and_field(tmp_path, where, value, message):
  record = json.loads(json.dumps(trajectories.to_json(example())))
  target = record
  for key in where[:-1]:
    target = target[key]
  if value is DELETE:
    del target[where[-1]]
  else:
    target[where[-1]] = value
  path = write_records(tmp_path / 'a.jsonl', trajectories.to_json(example()), record)
  assert error_of(path).startswith(f'{path}:2{message}')


@pytest.mark.parametrize('value', [[], 'text', 3, None])
def test_a_line_that_is_no_object(tmp_path, value):
  path = write_records(tmp_path / 'a.jsonl', value)
  assert error_of(path).startswith(f'{path}:1: expected an object')


def test_file_of_another_domain(tmp_path):
  path = tmp_path / 'a.jsonl'
  trajectories.write_jsonl(path, [example()])
  assert f"{path}:1.task.domain: 'terminal' in a file of 'mcp'" in error_of(path, domain='mcp')
  assert list(trajectories.read_jsonl(path, domain='terminal')) == [example()]


@hypothesis.given(JSON)
def test_any_json_reads_or_is_refused(value):
  with pytest.raises(TrajectoryError):
    trajectories.from_json(value)


def places(value, at=()):
  """Every place in nested JSON, the whole first."""
  yield at
  inner = value.items() if isinstance(value, dict) else enumerate(
    value) if isinstance(value, list) else ()
  for key, below in inner:
    yield from places(below, (*at, key))


def holds(read, written) -> bool:
  """Whether all that was written was read; fields that may be missing have their defaults."""
  if isinstance(written, dict) and isinstance(read, dict):
    return all(key in read and holds(read[key], value) for key, value in written.items())
  if isinstance(written, list) and isinstance(read, list):
    return len(read) == len(written) and all(map(holds, read, written))
  return type(read) is type(written) and read == written


def edited(draw: random.Random):
  """A record with a few of its values replaced, taken out or added to."""
  record = json.loads(json.dumps(trajectories.to_json(example())))
  others = (None, True, 0, -1, 2.5, 10**30, '', 'test', 'héllo', '\ud800', [], [[0, 1]], {},
            {'a': 1})
  for _ in range(draw.randint(1, 3)):
    *above, key = draw.choice([place for place in places(record) if place])
    target = record
    for step in above:
      target = target[step]
    kind, other = draw.randrange(3), copy.deepcopy(draw.choice(others))
    if kind == 0:
      target[key] = other
    elif kind == 1:
      del target[key]
    elif isinstance(target, dict):
      target[draw.choice(('reward', 'note', key))] = other
    else:
      target.insert(key, other)
    if not any(place for place in places(record)):
      break
  return record


@hypothesis.given(st.integers(0, 2**32))
@hypothesis.settings(max_examples=1000)
def test_a_damaged_record_is_read_whole_or_refused_by_name(tmp_path_factory, seed):
  """Ten records a seed: what is read has all that was written, and nothing else is an error."""
  path = tmp_path_factory.getbasetemp() / 'damaged.jsonl'
  draw = random.Random(seed)
  for _ in range(10):
    record = edited(draw)
    write_records(path, record)
    try:
      found, = trajectories.read_jsonl(path)
    except TrajectoryError as error:
      assert str(error).startswith(f'{path}:1') and '\n' not in str(error)
    else:
      assert holds(json.loads(json.dumps(trajectories.to_json(found))), record)


def test_some_damaged_records_are_right():
  """Else nothing but refusals was looked at."""
  draw, right = random.Random(0), 0
  for _ in range(500):
    with contextlib.suppress(TrajectoryError):
      trajectories.from_json(edited(draw))
      right += 1
  assert 25 < right < 475


def test_verifier_compares_stripped_text():
  verifier = Verifier('answer', '42\n')
  assert verifier.passes(' 42') and not verifier.passes('4 2') and not verifier.passes(None)


WRITER = """
import sys
from aw_jax import trajectories
turn = 0
while True:
  trajectories.write_atomically(sys.argv[1], 'ab'[turn % 2] * 2_000_000)
  turn += 1
  print(turn, flush=True)
"""


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('a' * 2_000_000)
  draw = random.Random(0)
  whole = {'a' * 2_000_000, 'b' * 2_000_000}
  for _ in range(8):
    process = subprocess.Popen(
      [sys.executable, '-c', WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()  # from the first write on, it may die at any moment
    time.sleep(draw.random() * 0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert path.read_text() in whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  program = (
    'import sys; from aw_jax import trajectories\n'
    'trajectories.write_atomically(sys.argv[1], "x" * 1_000_000)')
  run = subprocess.run(
    [sys.executable, '-c', program, str(path)], capture_output=True, text=True, timeout=60,
    check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
  assert 'OSError' in run.stderr
  assert os.listdir(tmp_path) == ['file'] and path.read_text() == 'old'


def test_write_makes_folders_and_a_readable_file(tmp_path):
  path = tmp_path / 'new' / 'folder' / 'file'
  trajectories.write_atomically(path, b'\x00bytes')
  assert path.read_bytes() == b'\x00bytes'
  assert path.stat().st_mode & 0o777 == 0o644
