"""Conversations with tool calls, in the messages of OpenAI's chat-completions API.

A record is a list of messages, or an object with them in `messages` or `traj` (tau-bench) and
optionally `tools`, `reward`, `task_id`, `trial` and the like. An action is one tool call as JSON
and its observation the `tool` message that answers it; what a person and the agent say to each
other stands outside of the environment and is counted. Calls of one message are turns one after the
other. Where another system message comes later, another episode begins.
"""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from aw_jax.trajectories import Trajectory, Turn
from data_pipelines.importers import common
from data_pipelines.importers.common import Ledger, Settings, TraceError, check, field

SUFFIXES = ('.json', '.jsonl')
_SYSTEM_ROLES = ('system', 'developer')
_ROLES = (*_SYSTEM_ROLES, 'user', 'assistant', 'tool')
_NONE = type(None)


def read(path: str, settings: Settings, ledger: Ledger) -> Iterator[Trajectory]:
  """Yields the episodes of a file.

  Args:
    path: JSON, or JSON lines.
    settings: see there; the domain is 'mcp' where none is given.
    ledger: takes in what becomes no turn.
  Raises:
    TraceError: naming file, line and field.
  """
  for where, record in common.records(path, ledger):
    name, messages, record = _messages(record, where)
    for number, part in enumerate(_segments(messages, f'{where}{name}')):
      yield _episode(path, record, part, number, where, settings, ledger)


def _messages(record: Any, where: str) -> tuple[str, list[Any], dict[str, Any]]:
  if isinstance(record, list):
    return '', record, {}
  check(record, (dict, list), where)
  name = 'traj' if 'traj' in record else 'messages'
  if name not in record:
    raise TraceError(f'{where}.messages: missing; a record has its messages in messages or traj')
  return f'.{name}', check(record[name], list, f'{where}.{name}'), record


def _segments(
    messages: Sequence[Any], where: str) -> list[list[tuple[str, dict[str, Any]]]]:
  """The messages with their places, a list for each conversation."""
  parts: list[list[tuple[str, dict[str, Any]]]] = [[]]
  for index, message in enumerate(messages):
    place = f'{where}[{index}]'
    check(message, dict, place)
    role = field(message, 'role', str, place)
    if role not in _ROLES:
      raise TraceError(f'{place}.role: {role!r} is not one of {", ".join(_ROLES)}')
    begun = any(other['role'] not in _SYSTEM_ROLES for _, other in parts[-1])
    if role in _SYSTEM_ROLES and begun:
      parts.append([])
    parts[-1].append((place, message))
  return parts


@dataclasses.dataclass
class _Call:
  """A tool call, and its answer once there is one."""

  id: str
  action: str
  thinking: str | None
  observation: str | None = None


class _Conversation:
  """The messages of one episode as turns."""

  def __init__(self, ledger: Ledger):
    self._ledger = ledger
    self._calls: list[_Call] = []
    self.system: list[str] = []
    self.first_request: str | None = None

  def hear(self, message: dict[str, Any], where: str) -> None:
    """Takes in the next message."""
    role = message['role']
    text = common.text_of(message.get('content'), f'{where}.content', self._ledger)
    if role in _SYSTEM_ROLES:
      self.system.append(text)
    elif role == 'user':
      self._ledger.apart['message of the user'] += 1
      self.first_request = text if self.first_request is None else self.first_request
    elif role == 'tool':
      self._answer(message, text, where)
    else:
      self._act(message, text, where)

  def _act(self, message: dict[str, Any], text: str, where: str) -> None:
    if message.get('function_call') is not None:
      raise TraceError(f'{where}.function_call: the old form of a call; convert it to tool_calls')
    calls = field(message, 'tool_calls', (list, _NONE), where, None) or []
    if not calls:
      self._ledger.apart['message to the user'] += 1
      return
    reasoning = field(message, 'reasoning_content', (str, _NONE), where, None) or ''
    thinking = '\n'.join(part for part in (reasoning, text) if part.strip()) or None
    for index, call in enumerate(calls):
      self._calls.append(_read_call(call, thinking, f'{where}.tool_calls[{index}]'))
      thinking = None

  def _answer(self, message: dict[str, Any], text: str, where: str) -> None:
    name = field(message, 'tool_call_id', (str, _NONE), where, None)
    waiting = [call for call in self._calls if call.observation is None]
    # Ids come again in some data: of two calls that wait the later one is meant. Without an id
    # answers come in the order of calls.
    meant = waiting if name is None else [call for call in waiting[::-1] if call.id == name]
    if meant:
      meant[0].observation = self._ledger.observation(text)
    else:
      self._ledger.apart['answer without a call'] += 1

  def turns(self) -> list[Turn]:
    """The calls that were answered."""
    answered = [call for call in self._calls if call.observation is not None]
    self._ledger.apart['call without an answer'] += len(self._calls) - len(answered)
    return [Turn(call.action, call.observation, thinking=call.thinking) for call in answered]


def _read_call(call: Any, thinking: str | None, where: str) -> _Call:
  check(call, dict, where)
  function = field(call, 'function', dict, where)
  name = field(function, 'name', str, f'{where}.function')
  arguments = field(function, 'arguments', (str, dict, _NONE), f'{where}.function', None) or {}
  if isinstance(arguments, str):
    arguments = arguments.strip() or '{}'
    # Arguments that the agent got wrong stay as the environment saw them: its answer is true.
    with contextlib.suppress(ValueError, RecursionError):
      arguments = _json(common.without_surrogates(json.loads(arguments)))
  else:
    arguments = _json(arguments)
  action = f'{{"name": {_json(name)}, "arguments": {arguments}}}'
  return _Call(field(call, 'id', (str, _NONE), where, None) or '', action, thinking)


def _json(value: Any) -> str:
  return json.dumps(value, ensure_ascii=False)


def _episode(
    path: str, record: dict[str, Any], messages: list[tuple[str, dict[str, Any]]], number: int,
    where: str, settings: Settings, ledger: Ledger) -> Trajectory:
  conversation = _Conversation(ledger)
  for place, message in messages:
    conversation.hear(message, place)
  setup: dict[str, Any] = {}
  if 'tools' in record:
    setup['tools'] = common.check_tools(record['tools'], f'{where}.tools')
  elif settings.tools is not None:
    setup['tools'] = settings.tools
  if conversation.system:
    setup['system_prompt'] = '\n\n'.join(conversation.system)
  reward = common.number(record, 'reward', where)
  instruction = _instruction(record, where) or conversation.first_request or ''
  facts = {name: value for name, value in record.items()
           if isinstance(value, str | int) and name != 'instruction'}
  return common.make_trajectory(
      domain=settings.domain or 'mcp', family=settings.family or common.family_of(path),
      key=instruction, instruction=instruction, turns=conversation.turns(),
      policy=settings.policy or 'agent', setup=setup, success={0.0: False, 1.0: True}.get(reward),
      reward=reward, source={
          'format': 'openai_chat', 'place': common.place_of(path, where), 'part': number,
          'record': facts})


def _instruction(record: dict[str, Any], where: str) -> str:
  """What was asked, where a record says so: tau-bench tells its simulated user in `info.task`."""
  if 'instruction' in record:
    return field(record, 'instruction', str, where)
  info = record.get('info')
  task = info.get('task') if isinstance(info, dict) else None
  instruction = task.get('instruction') if isinstance(task, dict) else None
  return instruction if isinstance(instruction, str) else ''

