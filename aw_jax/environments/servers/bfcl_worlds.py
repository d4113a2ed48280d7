"""The stateful interfaces of BFCL's multi-turn tasks as worlds of servers/benchmark.py.

A task gives the user's requests all at once. What BFCL takes from the clock or leaves to a set's
order is the same in every run: the present day is DAY.
"""

import ast
import copy
import datetime
import importlib
import inspect
import json
import os
from typing import Any

from aw_jax.environments.servers import declarations

DAY = datetime.datetime(2024, 9, 1, 10, 30)  # as BFCL's own trading bot has it
_FILE = 'BFCL_v4_multi_turn_base.json'
_MOST_VALUE = 1200  # characters of one part of a state
_MOST_TEXT = 6000
_WITHOUT_STATE = ('MathAPI',)


class Bfcl:
  """The base tasks of BFCL's multi-turn part; see Benchmark in benchmark.py."""

  def __init__(self):
    import bfcl_eval
    from bfcl_eval.constants import executable_backend_config as config
    data = os.path.join(os.path.dirname(bfcl_eval.__file__), 'data')
    self._entries = {entry['id']: entry for entry in _lines(os.path.join(data, _FILE))}
    self._answers = {entry['id']: entry['ground_truth']
                     for entry in _lines(os.path.join(data, 'possible_answer', _FILE))}
    self.tasks = list(self._entries)
    self._classes, self.tools, self._names = {}, {}, {}
    for name in sorted({name for entry in self._entries.values()
                        for name in entry['involved_classes']}):
      module = importlib.import_module(config.CLASS_FILE_PATH_MAPPING[name])
      self._classes[name] = getattr(module, name)
      documents = os.path.join(
          data, 'multi_turn_func_doc', config.MULTI_TURN_FUNC_DOC_FILE_MAPPING[name])
      described = [declarations.compact(tool['name'], _own(tool['description']), tool['parameters'],
                                     name in _WITHOUT_STATE)
                   for tool in _lines(documents)]
      self._names[name] = [tool['name'] for tool in described]
      self.tools |= {tool['name']: tool for tool in described}
    _stop_the_clock()

  def fresh(self, task: str) -> 'BfclWorld':
    """The initial state of a task."""
    entry = self._entries[task]
    instances = {}
    for name in entry['involved_classes']:
      instances[name] = self._classes[name]()
      if name not in _WITHOUT_STATE:
        instances[name]._load_scenario(copy.deepcopy(entry['initial_config'].get(name, {})))
    return BfclWorld(instances)

  def gold(self, task: str) -> list[tuple[str, dict[str, Any]]]:
    """BFCL's own calls, of all turns, their arguments by name."""
    methods = _methods(self.fresh(task).instances)
    return [_parse(call, methods) for turn in self._answers[task] for call in turn]

  def describe(self, task: str) -> dict[str, Any]:
    """What is told of a task: the requests of all turns."""
    entry = self._entries[task]
    said = [' '.join(message['content'].split()) for turn in entry['question'] for message in turn]
    numbered = ' '.join(f'{number}. {text}' for number, text in enumerate(said, 1))
    left_out = entry.get('excluded_function', ())
    return {'instruction': f'Do all of this, in this order. {numbered}', 'split': None,
            'tools': [tool for name in entry['involved_classes'] for tool in self._names[name]
                      if tool not in left_out]}


class BfclWorld:
  """The interfaces of a task in the state of an episode; see World in benchmark.py.

  Attributes:
    instances: BFCL's objects by the name of their class.
  """

  def __init__(self, instances: dict[str, Any]):
    self.instances = instances
    self._methods = _methods(instances)

  def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """Does a call; answers as BFCL does, for whom an interface's own {"error": …} is none."""
    try:
      answer = self._methods[name](**arguments)
    except Exception as error:  # of whatever the interface did not expect
      return f'Error during execution: {error}', True
    if isinstance(answer, dict):
      return json.dumps(answer, default=_plain, ensure_ascii=False), False
    return str(answer), False

  def text(self) -> str:
    """Every public part of the state, and the working directory."""
    lines = []
    for name, instance in self.instances.items():
      for part, value in _public(instance).items():
        shown = json.dumps(value, default=_plain, ensure_ascii=False)
        lines.append(f'{name} {part}: {shown[:_MOST_VALUE]}')
      if hasattr(instance, 'pwd'):
        lines.append(f'{name} working directory: '
                     f'{instance.pwd()["current_working_directory"]}')
    return '\n'.join(lines)[:_MOST_TEXT]

  def equals(self, other: 'BfclWorld') -> bool:
    """Whether all public parts are the same, as BFCL's own check has it."""
    return all(_public(mine) == _public(other.instances[name])
               for name, mine in self.instances.items())


def _lines(path: str) -> list[dict[str, Any]]:
  with open(path, encoding='utf-8') as file:
    return [json.loads(line) for line in file if line.strip()]


def _own(description: str) -> str:
  """What a tool does, without what is said of its whole interface."""
  return description.partition('Tool description:')[2].strip() or description


def _public(instance: Any) -> dict[str, Any]:
  """What BFCL compares; one setting of its interfaces is the same in all tasks."""
  return {name: value for name, value in vars(instance).items()
          if not name.startswith('_') and name != 'long_context'}


def _methods(instances: dict[str, Any]) -> dict[str, Any]:
  """Methods by name; where two interfaces have one of the same name, the later's, as in BFCL."""
  return {name: method for instance in instances.values()
          for name, method in inspect.getmembers(instance, inspect.ismethod)
          if not name.startswith('_')}


def _parse(call: str, methods: dict[str, Any]) -> tuple[str, dict[str, Any]]:
  """A call in Python as the tool's name and its arguments by name."""
  found = ast.parse(call, mode='eval').body
  names = list(inspect.signature(methods[found.func.id]).parameters)
  arguments = dict(zip(names, (ast.literal_eval(value) for value in found.args), strict=False))
  return found.func.id, arguments | {
      keyword.arg: ast.literal_eval(keyword.value) for keyword in found.keywords}


def _plain(value: Any) -> Any:
  """What JSON has no form for: directories as their contents, files as their text."""
  if hasattr(value, 'contents'):
    return value.contents
  if hasattr(value, 'content'):
    return value.content
  return _public(value) if hasattr(value, '__dict__') else str(value)


def _stop_the_clock() -> None:
  class Clock(datetime.datetime):
    """A datetime whose present never changes."""

    @classmethod
    def now(cls, tz=None):
      return DAY.replace(tzinfo=tz)

    @classmethod
    def today(cls):
      return DAY

  booking = importlib.import_module(
      'bfcl_eval.eval_checker.multi_turn_eval.func_source_code.travel_booking')
  booking.datetime = Clock
