"""Software engineering: a real package in a bubblewrap sandbox, mended with four tools.

    {"name": "read", "arguments": {"path": "tinydb/table.py", "first": 300, "last": 330}}
    {"name": "edit", "arguments": {"path": "tinydb/table.py", "old": "a < b", "new": "a <= b"}}
    {"name": "bash", "arguments": {"command": "grep -rn 'def insert' tinydb"}}
    {"name": "test", "arguments": {"tests": "tests/test_tables.py"}}

Every call starts at the top of the repository with a shell of its own, and nothing that it starts
outlives it: files are all that lasts. `Task.setup` names a package of swe_packages.py and what is
wrong with it: 'edits', each with path, first line, the lines that belong there (`good`) and those
that stand there instead (`bad`).

Same task and calls, same observations. `test` leaves out how long tests took; elsewhere durations,
addresses and process ids are marked as runtime metadata. An agent's programs see the real clock.
"""

import json
import os
import re
import shlex
from typing import Any

from aw_jax.environments import swe_packages, swe_state
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.sandbox import HOME, Contained, Limits, Sandbox
from aw_jax.environments.terminal import without_controls
from aw_jax.trajectories import Task

MAX_ACTION_CHARACTERS = 16_000
MAX_OUTPUT_CHARACTERS = 2400
_HEAD_CHARACTERS = 1000  # of an output that is cut
MAX_FAILURES = 3  # after which pytest stops
ALL_PASS = 'all tests pass'
LIMITS = Limits(
    seconds=60.0, cpu_seconds=30, memory_bytes=512 << 20, output_bytes=1 << 18)
# name -> (argument -> its type, those that may be left out)
_TOOLS = {
    'read': ({'path': str, 'first': int, 'last': int}, {'first', 'last'}),
    'edit': ({'path': str, 'old': str, 'new': str}, set()),
    'bash': ({'command': str}, set()),
    'test': ({'tests': str, 'brief': bool}, {'tests', 'brief'}),
}
_SCRIPT, _PYTEST = '/opt/driver/swe_tools.py', '/opt/pytest.zip'
SETTINGS = (
    f'cd; export PYTHONPATH={_PYTEST}:{HOME}:{HOME}/src PYTEST_ADDOPTS="-o addopts= '
    '-p no:cacheprovider --color=no -o console_output_style=classic"; ')
_STATUS = re.compile(r'\[status (\d+)\]\n?\Z')
_FAILED = re.compile(r'^(?:FAILED|ERROR|SUBFAILED.*?) (\S+?\.py\S*)', re.MULTILINE)
_PASSED = re.compile(r'^(?!.*\b(?:failed|errors?)\b)\d+ passed\b.* in [\d.]+s.*$', re.MULTILINE)
_DURATION = re.compile(r' in \d+\.\d+s(?: \(\d+:\d\d:\d\d\))?')
_ADDRESS = re.compile(r'\b0x[0-9a-f]{6,16}\b')
# Commands and parts of programs whose numbers nobody can predict.
_RUNTIME_COMMAND = re.compile(
    r'(?:^|[;&|(]\s*)(?:ps|top|free|df|uptime|pgrep|jobs|time|mktemp|shuf|nproc|stat)\b|\$\$'
    r'|\bBASHPID|\bPPID|\bRANDOM|\bSRANDOM|\bEPOCH|\bSECONDS|/proc/|/dev/u?random|\bls\s+-\w*i|%T'
    r'|\bpython3?\b.*(?:\btime\(|perf_counter|monotonic|now\(|today\(|getpid|random|uuid|\bid\('
    r'|--durations)', re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r'\d[\d.:]*')


class CallError(ValueError):
  """An action that is no call of a tool; the message is what the agent is answered."""


class SweEnvironment(Environment):
  """A package in a sandbox. See the module for the tools.

  While nothing has changed yet, an action and its counterfactual are one and the same call: it is
  done once, ahead of `step`. Later the counterfactual runs on a copy of the initial state in
  another sandbox, which also runs the hidden check.
  """

  domain = 'swe'

  def __init__(self, limits: Limits = LIMITS):
    self._seconds, inside = limits.seconds, files_inside()
    self._episode, self._twin = Sandbox(limits, inside), Sandbox(limits, inside)
    self._task: Task | None = None
    self._restart()

  def _restart(self) -> None:
    self._changes: dict[str, str | None] = {}
    self._initial = True  # whether the episode is still in its initial state
    self._twin_ready = False
    self._ahead: tuple[str, Contained | None] | None = None  # a call that no step has asked for yet
    self._memory: dict[str, Step] = {}  # what actions get in the initial state

  def reset(self, task: Task, seed: int = 0) -> str:
    """Builds the working copy; there is no first observation.

    Raises:
      BrokenEnvironmentError: where the sandbox fails; the next reset starts a new one.
      MissingProgramError: where bwrap, python3 or the source package is missing.
    """
    self._restart()
    self._task, self._seed = task, seed
    self._files = initial_files(task.setup)
    self._episode.reset({'files': self._files}, seed)
    return ''

  def step(self, action: str) -> Step:
    """Does one call."""
    if self._ahead is not None and self._ahead[0] == action:
      result, step = self._ahead[1], self._memory[action]
    else:
      self._undo_ahead()
      step, result = self._do(action, self._episode, False)
      if self._initial:
        self._memory[action] = step
    self._ahead = None
    if result is not None:
      self._changes, self._initial = result.changes, self._initial and result.initial
    return step

  def snapshot(self) -> str | None:
    """Files, the parts that matter, and the difference that was made (swe_state.py)."""
    if self._task is None:
      return None
    setup = self._task.setup
    return swe_state.render(setup['package'], self._files, setup['shown'], self._changes)

  def counterfactual(self, action: str) -> Step:
    """What `action` gets in the initial state; remembered for the episode."""
    if self._task is None:
      raise BrokenEnvironmentError('the repository was not reset')
    if action in self._memory:
      return self._memory[action]
    if self._initial:
      self._undo_ahead()
      self._memory[action], result = self._do(action, self._episode, False)
      self._ahead = action, result
    else:
      self._prepare_twin()
      self._memory[action], _ = self._do(action, self._twin, True)
    return self._memory[action]

  def verify(self, command: str) -> str:
    """Does a call on the package's code as it was left and everything else as it was at first.

    Tests and their settings that an agent wrote count for nothing. The code under test runs in the
    process of its tests: code written to forge the summary of pytest could pass.
    """
    if self._task is None:
      raise BrokenEnvironmentError('the repository was not reset')
    package = swe_packages.PACKAGES[self._task.setup['package']]
    files = dict(self._files)
    for path, text in self._changes.items():
      if package.is_source(path) and os.path.basename(path) != 'conftest.py':
        files.pop(path, None)
        if text is not None and not path.endswith('/'):
          files[path] = text
    self._twin_ready = False
    self._twin.reset({'files': files}, self._seed)
    return self._do(command, self._twin, False)[0].observation

  def close(self) -> None:
    """Ends both sandboxes."""
    self._episode.close()
    self._twin.close()

  def _do(self, action: str, sandbox: Sandbox, fresh: bool) -> tuple[Step, Contained | None]:
    """Does a call; a refused one has no result."""
    if self._task is None:
      raise BrokenEnvironmentError('the repository was not reset')
    try:
      name, arguments = parse_call(action)
      command = command_of(name, arguments)
    except CallError as error:
      return Step(f'Error: {error}', info={'runtime_metadata': ()}), None
    result = sandbox.call(command, fresh)
    observation = self._observation(name, arguments, result)
    return Step(observation, info={'runtime_metadata': runtime_metadata(
        arguments.get('command', ''), observation)}), result

  def _observation(self, name: str, arguments: dict[str, Any], result: Contained) -> str:
    text = without_controls(result.output)
    ended = _STATUS.search(text)
    text, status = (text[:ended.start()], ended[1]) if ended else (text, None)
    if name == 'test':
      text = _brief(text, status) if arguments.get('brief') else _DURATION.sub('', text)
    text = cut(text.rstrip('\n'))
    if result.killed_for in ('time', 'memory'):
      text += (f'\n[killed after {self._seconds:g} s]' if result.killed_for == 'time'
               else '\n[killed: out of memory]')
    elif name == 'bash' and status != '0':
      text += f'\n[exit status {status}]' if status else '\n[the shell ended]'
    return text.lstrip('\n')

  def _prepare_twin(self) -> None:
    if not self._twin_ready:
      self._twin.reset({'files': self._files}, self._seed)
      self._twin_ready = True

  def _undo_ahead(self) -> None:
    """Puts the initial state back where a call that was done ahead has changed it."""
    if self._ahead is not None and self._ahead[1] is not None and not self._ahead[1].initial:
      self._episode.reset({'files': self._files}, self._seed)
    self._ahead = None


def files_inside() -> dict[str, bytes]:
  """What the sandbox holds beside the repository: the tools and pytest."""
  with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'swe_tools.py'), 'rb') as file:
    return {_SCRIPT: file.read(), _PYTEST: swe_packages.pytest_archive()}


def initial_files(setup: dict[str, Any]) -> dict[str, str]:
  """path -> text of a setup's working copy, its mistakes included."""
  files = dict(swe_packages.files(setup['package']))
  for edit in sorted(setup['edits'], key=lambda edit: -edit['line']):
    lines = files[edit['path']].splitlines(keepends=True)
    start, good = edit['line'] - 1, edit['good'].splitlines(keepends=True)
    if lines[start:start + len(good)] != good:
      raise ValueError(f'line {edit["line"]} of {edit["path"]} is another in {setup["package"]}')
    lines[start:start + len(good)] = [edit['bad']]
    files[edit['path']] = ''.join(lines)
  return files


def initial_state(setup: dict[str, Any]) -> str:
  """The state of a setup, without running anything."""
  return swe_state.render(setup['package'], initial_files(setup), setup['shown'], {})


def call_text(tool: str, /, **arguments: Any) -> str:
  """A call as an action."""
  return json.dumps({'name': tool, 'arguments': arguments}, ensure_ascii=False)


def parse_call(action: str) -> tuple[str, dict[str, Any]]:
  """The tool's name and arguments, of the types that it declares. Raises CallError."""
  if len(action) > MAX_ACTION_CHARACTERS:
    raise CallError('the call is too long')
  try:
    call = json.loads(action)
    json.dumps(call, ensure_ascii=False).encode()  # lone surrogates cannot be sent
  except (ValueError, RecursionError):
    raise CallError('the call is not JSON') from None
  if not isinstance(call, dict) or not isinstance(call.get('name'), str):
    raise CallError('the call has no name')
  name, arguments = call['name'], call.get('arguments', {})
  if name not in _TOOLS:
    raise CallError(f'there is no tool {name}; there are {", ".join(_TOOLS)}')
  if not isinstance(arguments, dict):
    raise CallError('arguments must be an object')
  known, optional = _TOOLS[name]
  for argument in arguments:
    if argument not in known:
      raise CallError(f'{name} has no argument {argument}')
  for argument, kind in known.items():
    if argument in arguments and type(arguments[argument]) is not kind:
      raise CallError(f'{argument} must be of type {kind.__name__}')
    if argument not in arguments and argument not in optional:
      raise CallError(f'{name} needs {argument}')
  return name, arguments


def command_of(name: str, arguments: dict[str, Any]) -> str:
  """The shell command that does a call. Raises CallError."""
  if any('\0' in value for value in arguments.values() if isinstance(value, str)):
    raise CallError('a NUL cannot be sent')
  if name == 'bash':
    inner = f'bash -c {shlex.quote(arguments["command"])}'
  elif name == 'test':
    inner = _pytest_command(arguments)
  else:
    call = json.dumps({'name': name, 'arguments': arguments})
    inner = f'python3 -S -B {_SCRIPT} {shlex.quote(call)}'
  return f'{SETTINGS}{inner}; printf "[status $?]\\n"'


def cut(text: str) -> str:
  """`text` without its middle where it is long."""
  if len(text) <= MAX_OUTPUT_CHARACTERS:
    return text
  tail = MAX_OUTPUT_CHARACTERS - _HEAD_CHARACTERS
  return (f'{text[:_HEAD_CHARACTERS]}\n[{len(text) - MAX_OUTPUT_CHARACTERS} characters cut]\n'
          f'{text[-tail:]}')


def runtime_metadata(command: str, observation: str) -> tuple[tuple[int, int], ...]:
  """(start, end) spans of the observation that nobody can predict; `command` is that of bash."""
  spans = {match.span() for match in _ADDRESS.finditer(observation)}
  spans |= {match.span() for match in _DURATION.finditer(observation)}
  if _RUNTIME_COMMAND.search(command):
    spans |= {match.span() for match in _NUMBER.finditer(observation)}
  return tuple(sorted(spans))


def _pytest_command(arguments: dict[str, Any]) -> str:
  tests = arguments.get('tests', '').split()
  for test in tests:
    if test.startswith('-'):
      raise CallError(f'{test} is no test; name files, or FILE::NAME')
  style = 'no' if arguments.get('brief') else 'short'
  return (
      f'python3 -S -m pytest -q --no-header --tb={style} --show-capture=no --disable-warnings '
      f'--maxfail={MAX_FAILURES} --basetemp=/tmp/tests {shlex.join(tests)}'
      '; status=$?; rm -rf /tmp/tests; (exit $status)')


def _brief(text: str, status: str | None) -> str:
  """What pytest said in few words."""
  failed = list(dict.fromkeys(_FAILED.findall(text)))
  if failed:
    return '\n'.join(f'failed: {test}' for test in failed)
  if status == '0' and _PASSED.search(text):
    return ALL_PASS
  return cut(_DURATION.sub('', text).strip().split('\n')[-1])
