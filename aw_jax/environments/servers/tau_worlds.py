"""tau2's retail, airline and telecom services as worlds of servers/benchmark.py.

The customer's own tools, which telecom has, are tools like the others. A database is not copied for
every episode: a record is when it is first touched.
"""

import copy
import importlib
import json
from collections.abc import Iterator
from typing import Any

from aw_jax.environments.servers import declarations

_MOST_RECORD = 1200  # characters of a record in the text of a state
_MOST_CHANGES = 40
_MOST_CHANGE = 240  # characters of a change there
_MOST_TEXT = 6000


class _Table(dict):
  """Records shared with the database they are from, until one is looked up: then it is a copy."""

  def __init__(self, records: dict[str, Any]):
    super().__init__(records)
    self.touched: set[str] = set()

  def __getitem__(self, key: str) -> Any:
    if key not in self.touched and key in self:
      super().__setitem__(key, copy.deepcopy(super().__getitem__(key)))
      self.touched.add(key)
    return super().__getitem__(key)

  def __setitem__(self, key: str, value: Any) -> None:
    self.touched.add(key)
    super().__setitem__(key, value)


class Tau:
  """One of tau2's services; see Benchmark in benchmark.py."""

  def __init__(self, name: str):
    from loguru import logger
    logger.remove()  # it would write a line for every call
    self._name = name
    self._module = importlib.import_module(f'tau2.domains.{name}.environment')
    environment = self._module.get_environment()
    self._toolkits = [kit for kit in (environment.tools, environment.user_tools) if kit]
    self.tools = {}
    for kit in self._toolkits:
      for tool_name, tool in kit.get_tools().items():
        schema = tool.openai_schema['function']
        self.tools[tool_name] = declarations.compact(
            tool_name, schema['description'], schema['parameters'],
            kit.tool_type(tool_name).value != 'write')
    self._split = {task: split for split in ('train', 'test')
                   for task in self._module.get_tasks_split()[split]}
    self._tasks = {task.id: task for task in self._module.get_tasks('base')}
    self.tasks = list(self._tasks)

  def fresh(self, task: str) -> 'TauWorld':
    """The initial state of a task."""
    return TauWorld(self._environment(), self._toolkits, self._tasks[task])

  def gold(self, task: str) -> list[tuple[str, dict[str, Any]]]:
    """tau2's own calls."""
    return [(action.name, action.arguments)
            for action in self._tasks[task].evaluation_criteria.actions or ()]

  def describe(self, task: str) -> dict[str, Any]:
    """What is told of a task: the ticket where there is one, else what the customer knows."""
    found = self._tasks[task]
    said = found.user_scenario.instructions
    parts = [found.ticket] if found.ticket else [
        said.reason_for_call, said.known_info, said.unknown_info, said.task_instructions]
    told = ' '.join(' '.join(part.split()) for part in parts if part)
    return {'instruction': f'Serve this customer of the {self._name} service. {told}',
            'split': self._split[task], 'tools': list(self.tools)}

  def _environment(self):
    databases = [_copy(kit.db) for kit in self._toolkits]
    return self._module.get_environment(*databases)


class TauWorld:
  """A service in the state of an episode; see World in benchmark.py."""

  def __init__(self, environment, toolkits, task):
    self._environment = environment
    self._kits = [kit for kit in (environment.tools, environment.user_tools) if kit]
    initial = task.initial_state
    if initial is not None:
      environment.set_state(
          initial.initialization_data, initial.initialization_actions,
          initial.message_history or [])
    self._first = [copy.deepcopy(kit.db) if initial is not None else first.db
                   for kit, first in zip(self._kits, toolkits, strict=True)]
    self._mentioned = set(_texts([action.arguments for action in
                                  task.evaluation_criteria.actions or ()]))
    self._mentioned |= set(_texts([
        action.arguments for action in (initial and initial.initialization_actions) or ()]))

  def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """Does a call, the customer's own ones too."""
    from tau2.data_model.message import ToolCall
    user_tools = self._environment.user_tools
    requestor = 'user' if user_tools and user_tools.has_tool(name) else 'assistant'
    answer = self._environment.get_response(
        ToolCall(id='', name=name, arguments=arguments, requestor=requestor))
    return answer.content, answer.error

  def text(self) -> str:
    """The records that the task is about, then whatever is not as it was."""
    lines, changes = [], []
    for kit, first in zip(self._kits, self._first, strict=True):
      for place, record in _records(kit.db):
        if place[-1] in self._mentioned or place[0] in ('device', 'surroundings'):
          lines.append(f'{" ".join(place)}: {_json(record)[:_MOST_RECORD]}')
      changes += _changes(first, kit.db)
    lines += [f'changed {change[:_MOST_CHANGE]}' for change in changes[:_MOST_CHANGES]]
    return '\n'.join(lines)[:_MOST_TEXT]

  def equals(self, other: 'TauWorld') -> bool:
    """Whether tau2's hashes of the databases are the same; only what was touched is looked at."""
    return all(_touched(mine.db, theirs.db) == _touched(theirs.db, mine.db)
               for mine, theirs in zip(self._kits, other._kits, strict=True))


def _copy(database):
  """A database to work on, which shares what is not touched."""
  found = copy.copy(database)
  found.__dict__ = {
      name: _Table(value) if isinstance(value, dict) else copy.deepcopy(value)
      for name, value in database.__dict__.items()}
  return found


def _touched(database, other) -> dict[tuple[str, ...], str]:
  """What tau2 hashes, of every record that was touched in either of two databases."""
  found = {}
  for place, record in _records(database):
    table, others = getattr(database, place[0]), getattr(other, place[0])
    if not isinstance(table, _Table) or place[-1] in table.touched | others.touched:
      found[place] = json.dumps(_plain(record), sort_keys=True, default=str)
  return found


def _records(database) -> Iterator[tuple[tuple[str, ...], Any]]:
  """(table, id) of every record, or (table,) of what is no table, and the record."""
  for table, value in database.__dict__.items():
    if isinstance(value, dict):
      for key, record in value.items():
        yield (table, key), record
    elif isinstance(value, list):
      for record in value:
        yield (table, str(next(iter(record.__dict__.values())))), record
    else:
      yield (table,), value


def _changes(first, database) -> list[str]:
  """'place: old -> new' of every value that is not as it was."""
  before, present = dict(_records(first)), dict(_records(database))
  found = []
  for place, record in present.items():
    table = getattr(database, place[0])
    if not isinstance(table, _Table) or place[-1] in table.touched:
      found += _differences('.'.join(place), _plain(before.get(place)), _plain(record))
  return found + [f'{".".join(place)}: gone' for place in before if place not in present]


def _differences(place: str, old: Any, new: Any) -> list[str]:
  if old == new:
    return []
  if isinstance(old, dict) and isinstance(new, dict):
    return [line for key in [*old, *(key for key in new if key not in old)]
            for line in _differences(f'{place}.{key}', old.get(key), new.get(key))]
  return [f'{place}: {_json(old)} -> {_json(new)}']


def _texts(value: Any) -> Iterator[str]:
  """Every text within a value."""
  if isinstance(value, dict):
    value = list(value.values())
  if isinstance(value, list):
    for one in value:
      yield from _texts(one)
  elif isinstance(value, str):
    yield value


def _plain(value: Any) -> Any:
  return value.model_dump() if hasattr(value, 'model_dump') else value


def _json(value: Any) -> str:
  return json.dumps(_plain(value), default=str, ensure_ascii=False)
