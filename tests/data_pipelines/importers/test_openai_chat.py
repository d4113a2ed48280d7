"""Conversations with tool calls: every fact of the public file, and what is no turn, counted."""

import collections
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aw_jax.prompts import templates
from aw_jax.trajectories import from_json, to_json
from data_pipelines import filters
from data_pipelines.importers import run
from data_pipelines.importers.common import TraceError


def call(name, arguments='{}', id='c1'):
  return {'id': id, 'type': 'function', 'function': {'name': name, 'arguments': arguments}}


def assistant(*calls, content=None, **fields):
  return {'role': 'assistant', 'content': content, 'tool_calls': list(calls), **fields}


def answer(content, id='c1'):
  return {'role': 'tool', 'tool_call_id': id, 'name': 'x', 'content': content}


SYSTEM, USER = {'role': 'system', 'content': 'Be kind.'}, {'role': 'user', 'content': 'Find it.'}
FOUND = [SYSTEM, USER, assistant(call('find', '{"what": "it"}')), answer('{"id": 3}'),
         assistant(call('get', '{"id": 3}')), answer('it'),
         {'role': 'assistant', 'content': 'There it is.'}]


def one(read, tmp_path, record, **settings):
  path = tmp_path / 'chat.jsonl'
  path.write_text(json.dumps(record) + '\n')
  (found,), ledger = read('openai_chat', path, **settings)
  return found, ledger


def pairs(trajectory):
  return [(turn.action, turn.observation) for turn in trajectory.turns]


def test_the_airline_episodes_are_read_whole(read, airline):
  records = json.loads(airline.read_text())
  found, ledger = read('openai_chat', airline)
  assert len(found) == len(records) == ledger.records >= 5
  found = [from_json(json.loads(json.dumps(to_json(one)))) for one in found]
  roles = collections.Counter()
  for trajectory, record in zip(found, records, strict=True):
    messages = record['traj']
    calls = [one for message in messages for one in message.get('tool_calls') or []]
    answers = [message['content'] for message in messages if message['role'] == 'tool']
    assert [json.loads(turn.action) for turn in trajectory.turns] == [
      {'name': one['function']['name'], 'arguments': json.loads(one['function']['arguments'])}
      for one in calls]
    assert [turn.observation for turn in trajectory.turns] == answers
    assert [turn.thinking for turn in trajectory.turns] == [
      message['content'] for message in messages if message.get('tool_calls')]
    assert trajectory.reward == record['reward']
    assert trajectory.success == (record['reward'] == 1)
    assert trajectory.task.instruction == record['info']['task']['instruction']
    assert trajectory.task.setup == {'system_prompt': messages[0]['content']}
    assert trajectory.source['record'] == {'task_id': record['task_id'], 'trial': record['trial']}
    roles.update(message['role'] for message in messages if not message.get('tool_calls'))
  assert ledger.apart['message of the user'] == roles['user']
  assert ledger.apart['message to the user'] == roles['assistant']
  assert +ledger.apart == ledger.apart - collections.Counter({'call without an answer': 0})
  # Trials of one task are one task, whose split they share.
  tasks = collections.defaultdict(set)
  for trajectory in found:
    tasks[trajectory.source['record']['task_id']].add((trajectory.task.id, trajectory.task.split))
  assert all(len(names) == 1 for names in tasks.values())
  assert len({name for names in tasks.values() for name in names}) == len(tasks)


def test_the_whole_airline_file_has_its_known_size(read, airline):
  found, _ = read('openai_chat', airline)
  sizes = {5: (8, 4), 200: (1164, 84)}  # episodes -> tool calls, solved tasks
  turns = sum(len(trajectory.turns) for trajectory in found)
  assert (turns, sum(bool(trajectory.success) for trajectory in found)) == sizes[len(found)]


@pytest.mark.parametrize('shape', ['document', 'lines', 'messages', 'one'])
def test_every_shape_of_file(read, tmp_path, shape):
  path = tmp_path / ('chat.jsonl' if shape == 'lines' else 'chat.json')
  record = {'messages': FOUND}
  path.write_text({
    'document': json.dumps([record, record], indent=2), 'messages': json.dumps(FOUND),
    'lines': f'{json.dumps(record)}\n\n{json.dumps(FOUND)}\n', 'one': json.dumps(record)}[shape])
  found, ledger = read('openai_chat', path)
  assert len(found) == ledger.records == (2 if shape in ('document', 'lines') else 1)
  for trajectory in found:
    assert pairs(trajectory) == [('{"name": "find", "arguments": {"what": "it"}}', '{"id": 3}'),
                                 ('{"name": "get", "arguments": {"id": 3}}', 'it')]
    assert trajectory.task.instruction == 'Find it.' and trajectory.task.domain == 'mcp'
    assert (trajectory.reward, trajectory.success) == (None, None)
  assert ledger.apart['message to the user'] == len(found)


def test_calls_of_one_message_answered_in_any_order(read, tmp_path):
  messages = [USER, assistant(call('a', id='1'), call('b', id='2'), content='Both.'),
              answer('of b', '2'), answer('of a', '1'), assistant(call('c', id='1')),
              answer('of c', '1')]
  found, ledger = one(read, tmp_path, messages)
  assert [turn.observation for turn in found.turns] == ['of a', 'of b', 'of c']
  assert [turn.thinking for turn in found.turns] == ['Both.', None, None]
  assert not +ledger.apart - collections.Counter({'message of the user': 1})


def test_what_has_no_other_half_is_counted(read, tmp_path):
  messages = [USER, answer('to nothing'), assistant(call('a', id='1')), assistant(call('b')),
              answer('of b'), answer('again')]
  found, ledger = one(read, tmp_path, messages)
  assert pairs(found) == [('{"name": "b", "arguments": {}}', 'of b')]
  assert ledger.apart['answer without a call'] == 2
  assert ledger.apart['call without an answer'] == 1


def test_answers_without_ids_come_in_the_order_of_calls(read, tmp_path):
  messages = [assistant(call('a', id=None), call('b', id=None)), answer('1', None),
              answer('2', None)]
  found, _ = one(read, tmp_path, messages)
  assert [turn.observation for turn in found.turns] == ['1', '2']


def test_a_call_that_is_no_json_stays_as_the_agent_made_it(read, tmp_path):
  messages = [assistant(call('get', '{"id": ')), answer('Error: bad arguments'), *FOUND[2:6]]
  found, _ = one(read, tmp_path, {'messages': messages, 'tools': [call('find'), call('get')]})
  assert found.turns[0].action == '{"name": "get", "arguments": {"id":}'
  assert filters.uses_undeclared_tool(found) is False


def test_parts_of_a_message_and_reasoning(read, tmp_path):
  parts = [{'type': 'text', 'text': 'a'}, {'type': 'image_url', 'image_url': {}},
           {'type': 'text', 'text': 'b'}]
  messages = [assistant(call('see'), reasoning_content='Look.', content='Now.'), answer(parts)]
  found, ledger = one(read, tmp_path, messages)
  assert (found.turns[0].observation, found.turns[0].thinking) == ('a\nb', 'Look.\nNow.')
  assert ledger.apart['part of a message that is no text'] == 1


def test_another_system_message_begins_another_episode(read, tmp_path):
  path = tmp_path / 'chat.json'
  path.write_text(json.dumps(FOUND + [SYSTEM, {'role': 'user', 'content': 'Again.'}, *FOUND[2:4]]))
  (first, second), ledger = read('openai_chat', path)
  assert (len(first.turns), len(second.turns), ledger.records) == (2, 1, 1)
  assert second.task.instruction == 'Again.' and second.source['part'] == 1


def test_declared_tools_reach_the_prompt_and_the_filter(read, tmp_path):
  tools = [{'type': 'function', 'function': {
    'name': 'find', 'description': 'Find something.', 'parameters': {
      'type': 'object', 'properties': {'what': {'type': 'string'}}, 'required': ['what']}}}]
  record = {'messages': FOUND, 'tools': tools, 'reward': 0.25}
  found, _ = one(read, tmp_path, record)
  assert 'find: Find something.' in templates.task_prompt(found.task, 'v11', size='full')
  assert run.clean(found, run.Cleaning())[1] == filters.UNDECLARED_TOOL
  assert (found.reward, found.success) == (0.25, None)
  # Those of the settings count where a record declares none.
  found, _ = one(read, tmp_path, {'messages': FOUND}, tools=tools)
  assert run.clean(found, run.Cleaning())[1] == filters.UNDECLARED_TOOL


@pytest.mark.parametrize(('record', 'message'), [
  (3, r': expected an object or a list, found 3'),
  ({'text': []}, r'.messages: missing'),
  ({'messages': {}}, r'.messages: expected a list, found \{\}'),
  ([{'content': ''}], r'\[0\].role: missing'),
  ({'traj': [{'role': 'robot'}]}, r".traj\[0\].role: 'robot' is not one of system"),
  ([{'role': 'user', 'content': 3}], r'\[0\].content: expected a text or a list or null, found 3'),
  ([assistant({'id': 'x'})], r'\[0\].tool_calls\[0\].function: missing'),
  ([assistant(call(3))], r'tool_calls\[0\].function.name: expected a text, found 3'),
  ([{'role': 'assistant', 'function_call': {}}], r'\[0\].function_call: the old form'),
  ({'messages': FOUND, 'reward': True}, r'.reward: expected a number or a whole number'),
  ({'messages': FOUND, 'reward': float('nan')}, r'.reward: .* found NaN'),
  ({'messages': FOUND, 'reward': 10 ** 400}, r'.reward: too large'),
  ({'messages': FOUND, 'tools': [{'name': 3}]}, r'.tools\[0\].name: expected a text'),
  ({'messages': FOUND, 'tools': [{'name': 'a', 'parameters': {'required': 3}}]},
   r'.tools\[0\].parameters.required: expected a list, found 3'),
])
def test_what_is_wrong_is_named(read, tmp_path, record, message):
  with pytest.raises(TraceError, match=r'chat.jsonl:1.*' + message):
    one(read, tmp_path, record)


def test_the_line_of_a_document_is_named(read, tmp_path):
  path = tmp_path / 'chat.json'
  path.write_text('[\n {"messages": []},\n {"messages": 3}]')
  with pytest.raises(TraceError, match=r'chat.json:3.messages: expected a list, found 3'):
    read('openai_chat', path)
  for torn, line in (('[\n {"messages": []},\n {"mess', 3), ('[{"messages": []}\n', 2),
                     ('[{"messages": []}]\n\n[]', 1)):
    path.write_text(torn)
    with pytest.raises(TraceError, match=rf'chat.json:{line}: '):
      read('openai_chat', path)
  path.write_bytes(b'[\n"\xff"]')
  with pytest.raises(TraceError, match=r'chat.json:2: not UTF-8 at byte 3'):
    read('openai_chat', path)


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(['role', 'name', 'id', 'function', 'type', 'required', 'x']), inner,
    max_size=3), max_leaves=6)
_CALLS = st.lists(st.builds(
  call, st.sampled_from(['a', '', '\ud800']),
  st.sampled_from(['{}', '{"x": 1}', '{"', 'NaN', '\ud800', '{"x": "\\ud800"}', '[' * 9999]),
  st.sampled_from(['1', '2', None])), max_size=3)
_MESSAGES = st.fixed_dictionaries(
  {'role': st.sampled_from(['system', 'user', 'assistant', 'assistant', 'tool', 'tool'])},
  optional={'content': st.text(max_size=9) | st.just('\ud800\x1b[2K'), 'tool_calls': _CALLS,
            'tool_call_id': st.sampled_from(['1', '2', None])})
_RECORDS = st.lists(_MESSAGES, min_size=1, max_size=8).map(lambda messages: FOUND[:4] + messages)
_FIELDS = ('messages', 'tools', 'reward', 'info', 'task_id', 'instruction')


def content_of(records, as_lines):
  text = '\n'.join(map(json.dumps, records)) if as_lines else json.dumps(records, indent=1)
  return text.encode()


@given(st.lists(_RECORDS, min_size=1, max_size=3), st.booleans())
def test_any_conversation_is_read(tmp_path_factory, refused_or_kept, records, as_lines):
  path = tmp_path_factory.getbasetemp() / ('fuzz.jsonl' if as_lines else 'fuzz.json')
  assert refused_or_kept('openai_chat', path, content_of(records, as_lines))


@given(_RECORDS, st.sampled_from([*_FIELDS, 'role', 'content', 'tool_calls', 'tool_call_id',
                                  'reasoning_content', 'call', 'function', 'arguments']), _JSON)
def test_any_field_is_read_or_refused(tmp_path_factory, refused_or_kept, messages, name, wrong):
  record = {'messages': messages}
  if name in _FIELDS:
    record[name] = wrong
  elif name in ('call', 'function', 'arguments'):
    messages.append(assistant({'call': wrong, 'function': {'id': '1', 'function': wrong},
                               'arguments': call('a', wrong)}[name]))
  else:
    messages[-1] = {**messages[-1], name: wrong}
  path = tmp_path_factory.getbasetemp() / 'fuzz.jsonl'
  refused_or_kept('openai_chat', path, content_of([record], True))


@given(st.binary(max_size=80) | st.text('[]{},"\\u: d8\n01rolemessages').map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, refused_or_kept, content):
  for name in ('bytes.json', 'bytes.jsonl'):
    refused_or_kept('openai_chat', tmp_path_factory.getbasetemp() / name, content)
