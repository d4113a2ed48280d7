"""SWE-agent's trajectories: every fact of the public file, older forms, and what is wrong."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aw_jax.trajectories import from_json, to_json
from data_pipelines.importers import run
from data_pipelines.importers.common import TraceError

STEP = {'action': 'ls\n', 'observation': 'a.py\r\nb.py', 'thought': 'Look.', 'state': '{}'}
HISTORY = [{'role': 'system', 'content': 'You edit.'},
           {'role': 'user', 'content': 'An example.', 'is_demo': True},
           {'role': 'user', 'content': [{'type': 'text', 'text': 'Mend it.'}]}]


def one(read, tmp_path, record, **settings):
  path = tmp_path / 'one.traj'
  path.write_text(json.dumps(record))
  (found,), ledger = read('swe_agent', path, **settings)
  return found, ledger


def test_the_marshmallow_trajectory_is_read_whole(read, marshmallow):
  record = json.loads(marshmallow.read_text())
  (found,), ledger = read('swe_agent', marshmallow)
  found = from_json(json.loads(json.dumps(to_json(found))))
  assert len(found.turns) == len(record['trajectory']) == 11
  for turn, step in zip(found.turns, record['trajectory'], strict=True):
    assert turn.action == step['action'] and turn.thinking == step['thought']
    assert turn.observation == step['observation'].replace('\r\n', '\n')
  assert ledger.denoised >= sum('\r' in step['observation'] for step in record['trajectory']) > 5
  assert not +ledger.apart and ledger.records == 1
  assert found.submission == record['info']['submission'].replace('\r\n', '\n')
  assert found.source['exit_status'] == 'submitted' and (found.error, found.success) == ('', None)
  problem = record['replay_config']['problem_statement']
  assert found.task.instruction == problem['text'] and 'TimeDelta' in problem['text']
  assert found.source['instance'] == problem['id']
  assert found.task.setup['system_prompt'] == record['history'][0]['content']
  assert run.tools_of(found) == [
    'create', 'insert', 'python', 'ls', 'find_file', 'open', 'edit', 'edit', 'python', 'rm',
    'submit']
  kept, reason, skipped = run.clean(found, run.Cleaning())
  assert (len(kept.turns), reason, skipped) == (11, '', {})


def test_older_files_and_what_the_program_writes_at_the_end(read, tmp_path):
  steps = [STEP, {**STEP, 'action': ''}, {**STEP, 'action': 'exit_cost', 'observation': 'Exited'}]
  found, ledger = one(read, tmp_path, {
    'environment': 'swe_main', 'trajectory': steps, 'history': HISTORY,
    'info': {'exit_status': 'exit_cost', 'submission': None}}, domain='terminal', family='mine')
  assert [turn.action for turn in found.turns] == ['ls\n', '']
  assert ledger.apart["end that the agent's program wrote"] == 1
  assert found.task.instruction == 'Mend it.' and found.task.domain == 'terminal'
  assert found.task.family == 'mine' and found.submission is None and found.error == ''


def test_an_environment_that_broke_and_a_configuration_as_text(read, tmp_path):
  config = json.dumps({'problem_statement': {'text': 'Mend that.', 'id': 'x-1'}})
  found, _ = one(read, tmp_path, {
    'trajectory': [STEP, STEP], 'replay_config': config,
    'info': {'exit_status': 'exit_environment_error'}})
  assert found.error == 'exit_environment_error' and found.task.instruction == 'Mend that.'
  assert run.clean(found, run.Cleaning())[1] == 'episode broke'


@pytest.mark.parametrize(('record', 'message'), [
  (3, ':1: expected an object, found 3'),
  ({}, r':1.trajectory: missing'),
  ({'trajectory': [3]}, r':1.trajectory\[0\]: expected an object, found 3'),
  ({'trajectory': [{'observation': ''}]}, r':1.trajectory\[0\].action: missing'),
  ({'trajectory': [{'action': 'ls'}]}, r':1.trajectory\[0\].observation: missing'),
  ({'trajectory': [{**STEP, 'thought': 3}]},
   r':1.trajectory\[0\].thought: expected a text or null, found 3'),
  ({'trajectory': [], 'info': []}, r':1.info: expected an object, found \[\]'),
  ({'trajectory': [], 'history': [{}]}, r':1.history\[0\].role: missing'),
  ({'trajectory': [], 'replay_config': '{'}, r':1.replay_config: not JSON'),
])
def test_what_is_wrong_is_named(read, tmp_path, record, message):
  with pytest.raises(TraceError, match='one.traj' + message):
    one(read, tmp_path, record)


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(['role', 'content', 'text', 'id', 'problem_statement', 'exit_status']), inner,
    max_size=3), max_leaves=6)
_TEXT = st.text(max_size=9) | st.sampled_from(['ls', '\ud800', '\x1b[2J\r\n', 'error: no', '{}'])
_STEPS = st.lists(st.fixed_dictionaries(
  {'action': _TEXT, 'observation': _TEXT}, optional={'thought': _TEXT}), max_size=5)


@given(_STEPS)
def test_any_trajectory_is_read(tmp_path_factory, refused_or_kept, steps):
  path = tmp_path_factory.getbasetemp() / 'fuzz.traj'
  assert refused_or_kept('swe_agent', path, json.dumps({'trajectory': steps}).encode())


@given(_STEPS, st.sampled_from(['trajectory', 'history', 'info', 'replay_config', 'environment',
                                'action', 'observation', 'thought']), _JSON)
def test_any_field_is_read_or_refused(tmp_path_factory, refused_or_kept, steps, name, wrong):
  record = {'trajectory': steps}
  if name in ('action', 'observation', 'thought'):
    steps.append({**STEP, name: wrong})
  else:
    record[name] = wrong
  path = tmp_path_factory.getbasetemp() / 'fuzz.traj'
  refused_or_kept('swe_agent', path, json.dumps(record).encode())


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, refused_or_kept, content):
  refused_or_kept('swe_agent', tmp_path_factory.getbasetemp() / 'bytes.traj', content)
