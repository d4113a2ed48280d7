"""Samples of the benchmark become the trajectories that they were drawn from."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aw_jax.evaluation import bench
from aw_jax.evaluation.examples import TurnExample
from aw_jax.trajectories import Task, Verifier
from data_pipelines.importers.common import TraceError

ACTIONS = ['ls', 'cat a', 'rm a', 'ls', 'pwd']
OBSERVATIONS = ['a\n~$', 'text\n~$', '~$', '~$', '/root\n~$']
PAIRS = list(zip(ACTIONS, OBSERVATIONS, strict=True))


def sample(turn, total=5, **changes):
  found = {
    'task': 'terminal', 'id': f's{turn}', 'prompt': ACTIONS[:turn],
    'response': [f'{bench.LEAD}\n{text}' for text in OBSERVATIONS[:turn]],
    'current_prompt': ACTIONS[turn - 1], 'system_str': 'You are a terminal.', 'turn_idx': turn,
    'total_turns': total} | changes
  return {name: value for name, value in found.items() if value is not ...}


def read_samples(read, tmp_path, *samples, name='terminal_test.jsonl', **settings):
  path = tmp_path / name
  path.write_text(''.join(json.dumps(one) + '\n' for one in samples))
  return read('agentworldbench', path, **settings)


def pairs(trajectory):
  return [(turn.action, turn.observation) for turn in trajectory.turns]


def test_the_samples_of_one_trajectory_are_put_together(read, tmp_path):
  other = sample(2, system_str='You are another.')
  (first, second), ledger = read_samples(
    read, tmp_path, sample(1), sample(4), other, sample(3), policy='model')
  assert pairs(first) == PAIRS[:4] and pairs(second) == PAIRS[:2]
  assert first.source['samples'] == ['s1', 's3', 's4'] and first.source['total_turns'] == 5
  assert first.task.domain == 'terminal' and first.policy == 'model'
  assert first.task.setup == {'system_prompt': 'You are a terminal.'}
  assert ledger.records == 4 and ledger.apart['sample whose turns another one has'] == 2


def test_turns_after_the_current_one_and_a_current_one_that_is_not_listed(read, tmp_path):
  whole = sample(5)
  long = sample(2, prompt=whole['prompt'], response=whole['response'])
  (found,), ledger = read_samples(read, tmp_path, long)
  assert pairs(found) == PAIRS and not +ledger.apart
  (found,), ledger = read_samples(read, tmp_path, sample(3, prompt=ACTIONS[:2]))
  assert pairs(found) == PAIRS[:3]
  (found,), ledger = read_samples(read, tmp_path, sample(2, response=whole['response']))
  assert pairs(found) == PAIRS[:2] and ledger.apart['action or observation without the other'] == 3


def test_trajectories_that_begin_alike_stay_apart(read, tmp_path):
  other = sample(3, id='o', response=[f'{bench.LEAD}\n{text}' for text in ('a\n~$', 'no\n~$', 'x')])
  found, ledger = read_samples(read, tmp_path, sample(3), other)
  assert sorted(map(pairs, found)) == sorted([PAIRS[:3], [
    ('ls', 'a\n~$'), ('cat a', 'no\n~$'), ('rm a', 'x')]])
  assert not +ledger.apart and len({one.task.seed for one in found}) == 1


def test_files_of_our_own_bring_what_was_known(read, tmp_path):
  task = Task('terminal/files/3', 'terminal', 'files', 'test', 3, 'Do it.', 'a: text', {},
              Verifier('answer', 'x'), 8)
  examples = [TurnExample('terminal', 'files', False, task.id, 0, turn + 1, 5, tuple(PAIRS[:turn]),
                          *PAIRS[turn], ((0, turn),), turn > 2, 'a: text', task)
              for turn in range(5)]
  path, = bench.write(str(tmp_path), bench.samples([examples[1], examples[4]]))
  (found,), _ = read('agentworldbench', path)
  assert pairs(found) == PAIRS and found.task.initial_state == 'a: text'
  assert found.task.family == 'files'
  assert [turn.changed_state for turn in found.turns] == [None, False, None, None, True]
  assert [turn.runtime_metadata for turn in found.turns] == [(), ((0, 1),), (), (), ((0, 4),)]


@pytest.mark.parametrize(('changes', 'message'), [
  ({'turn_idx': ...}, r'terminal_test.jsonl:1.turn_idx: missing'),
  ({'response': [3]}, r':1.response\[0\]: found 3'),
  ({'prompt': ['ls', 3]}, r':1.prompt\[1\]: expected a text, found 3'),
  ({'aw_jax': 3}, r':1.aw_jax: expected an object of family'),
])
def test_what_is_wrong_is_named(read, tmp_path, changes, message):
  with pytest.raises(TraceError, match=message):
    read_samples(read, tmp_path, sample(1, **changes))


def test_files_are_named_by_their_domain(read, tmp_path):
  with pytest.raises(TraceError, match='not named DOMAIN_test.jsonl'):
    read_samples(read, tmp_path, sample(1), name='moon_test.jsonl')


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner,
                                                              max_size=3), max_leaves=6)
_KNOWN = st.fixed_dictionaries({
  'family': st.just('f'), 'held_out_family': st.booleans(), 'task_id': st.just('t'),
  'trajectory': st.integers(), 'runtime_metadata': st.none() | st.lists(
    st.lists(st.integers(-2, 9), min_size=2, max_size=2), max_size=2),
  'changed_state': st.none() | st.booleans(), 'initial_state': st.none() | st.text(max_size=5)})
_HISTORIES = st.fixed_dictionaries({
  'turn_idx': st.integers(1, 4), 'aw_jax': _KNOWN,
  'prompt': st.lists(st.sampled_from(['a', 'b', '', '\ud800']), min_size=4, max_size=6),
  'response': st.lists(st.sampled_from(['x', '', f'{bench.LEAD}\ny\x1b[m']), min_size=4,
                       max_size=6)})


def content_of(samples):
  return ''.join(json.dumps(one) + '\n' for one in samples).encode()


@given(st.lists(_HISTORIES, min_size=1, max_size=4), st.booleans())
def test_any_history_is_read_or_refused(tmp_path_factory, refused_or_kept, histories, known):
  path = tmp_path_factory.getbasetemp() / 'web_test.jsonl'
  samples = [sample(1, **one) for one in histories]
  if not known:
    for one in samples:
      del one['aw_jax']
  spans = [span for one in histories for span in one['aw_jax']['runtime_metadata'] or ()]
  fine = not known or all(0 <= start <= end for start, end in spans)
  assert refused_or_kept('agentworldbench', path, content_of(samples)) == fine


@given(st.sampled_from([*sample(1), 'aw_jax']), _JSON)
def test_any_field_is_read_or_refused(tmp_path_factory, refused_or_kept, name, wrong):
  path = tmp_path_factory.getbasetemp() / 'terminal_test.jsonl'
  refused_or_kept('agentworldbench', path, content_of([sample(3), sample(2, **{name: wrong})]))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, refused_or_kept, content):
  path = tmp_path_factory.getbasetemp() / 'os_test.jsonl'
  refused_or_kept('agentworldbench', path, content)
