"""Tool servers: real MCP servers over stdio, in sandboxes; a JSON tool call an action.

    {"name": "get_order", "arguments": {"order_id": 103}}

An observation is the text of the tool's response. `Task.setup['server']` says which server: our
'shop' (servers/shop.py); 'git', 'time', 'filesystem', 'memory' and 'everything', the reference
servers of the Model Context Protocol; or a benchmark's (benchmark_servers.py), whose tasks have a
hidden check `VERDICT`, that no call can ask for.
"""

import json
import re
from typing import Any

from aw_jax.environments import benchmark_servers, mcp_worlds
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.mcp_client import Answer, Limits, Server
from aw_jax.environments.servers.benchmark import STATE, VERDICT
from aw_jax.trajectories import Task

MAX_OBSERVATION_CHARACTERS = 2000
MAX_ACTION_CHARACTERS = 8000
_HASH = re.compile(r'\b[0-9a-f]{40}\b')
_UNPREDICTABLE = {  # server -> what nobody can predict in its observations
    'git': re.compile(r'\b(?=[a-f]*\d)[0-9a-f]{7,40}\b'),
    'filesystem': re.compile(r'(?<=^created: ).*|(?<=^modified: ).*|(?<=^accessed: ).*', re.M),
    'everything': re.compile(r'(?<=created at )\d+:\d\d:\d\d [AP]M')}
_KEEPS_STATE = ('everything',)  # in its memory: not all is in its files
_ADVICE = re.compile(r'\n +For further information visit \S+')


class CallError(ValueError):
  """An action that is no tool call; the message is what the agent is answered."""


class McpEnvironment(Environment):
  """Tool servers, started on first use and kept for later episodes.

  While nothing has changed yet, an action's counterfactual and the action itself are one and the
  same call: it is done once, ahead of `step`. Later the episode's state is set aside for the moment
  in which a counterfactual runs on a fresh copy of the initial one.
  """

  domain = 'mcp'

  def __init__(self, limits: Limits | None = None):
    self._limits = limits or Limits()
    self._servers: dict[str, Server] = {}
    self._server: Server | None = None
    self._name = ''
    self._restart()

  def _restart(self) -> None:
    self._state: str | None = None
    self._initial = True  # whether the episode is still in its initial state
    self._ahead: str | None = None  # a call that has been done, but belongs to no step yet
    self._memory: dict[str, Step] = {}  # what actions got in the initial state
    self._harmless: set[str] = set()  # actions in `_memory` that changed nothing
    self._pristine = False  # whether a copy of the initial state is kept beside the episode's

  def reset(self, task: Task, seed: int = 0) -> str:
    """Builds the initial state; there is no first observation.

    Raises:
      BrokenEnvironmentError: where the server does not start; the next reset starts another.
      MissingProgramError: where bwrap, git or a server's package is missing.
    """
    del seed  # the setup says it all
    touched = self._ahead is not None or not self._initial
    if touched and self._name in _KEEPS_STATE:
      self._server.stop()
    self._restart()
    self._name = task.setup['server']
    if self._name not in self._servers:
      self._servers[self._name] = Server(self._name, self._limits)
    self._server = self._servers[self._name]
    self._files = mcp_worlds.files(task.setup)
    self._server.scratch.put(self._files)
    self._server.start()
    self._state = self._read_state()
    return ''

  def step(self, action: str) -> Step:
    """Does one tool call."""
    if self._initial and action in self._harmless:
      return self._memory[action]
    if self._ahead is not None and self._ahead == action:
      self._ahead, self._initial = None, False
      self._state = self._read_state()
      return self._memory[action]
    self._undo_ahead()
    step, read_only = self._do(action)
    if not read_only:
      self._initial = False
      self._state = self._read_state()
    return step

  def snapshot(self) -> str | None:
    """Tables, a repository or the clock as text (mcp_worlds.py)."""
    return self._state

  def counterfactual(self, action: str) -> Step | None:
    """What `action` gets in the initial state; remembered for the episode.

    None where the server keeps in its memory what earlier calls did.
    """
    if action not in self._memory:
      if self._name in _KEEPS_STATE and not self._initial:
        return None
      self._undo_ahead()
      if self._initial:
        self._memory[action], read_only = self._do(action)
        self._ahead = None if read_only else action
      else:
        self._memory[action], read_only = self._do_aside(action)
      if read_only:
        self._harmless.add(action)
    return self._memory[action]

  def verify(self, command: str) -> str:
    """The response to a hidden call, or whether the state is the one that a benchmark wants."""
    if command != VERDICT:
      return super().verify(command)
    if self._server is None:
      raise BrokenEnvironmentError('the tool server was not reset')
    self._undo_ahead()
    return self._server.read(VERDICT)

  def close(self) -> None:
    """Ends the servers and removes their files."""
    for server in self._servers.values():
      server.close()
    self._servers = {}
    self._server = None

  def _do(self, action: str) -> tuple[Step, bool]:
    """Does a call in the state as it is; returns whether that has certainly not changed."""
    if self._server is None:
      raise BrokenEnvironmentError('the tool server was not reset')
    try:
      answer = self._server.call(*parse_call(action))
    except CallError as error:
      answer = Answer(str(error), is_error=True, read_only=True)
    observation = render(answer)
    spans = _unpredictable(self._name, observation)
    return Step(observation, info={'runtime_metadata': spans}), answer.read_only

  def _do_aside(self, action: str) -> tuple[Step, bool]:
    """Does a call in a fresh copy of the initial state, with the episode's set aside."""
    scratch = self._server.scratch if self._server else None
    if scratch is None:
      raise BrokenEnvironmentError('the tool server was not reset')
    scratch.move('world', 'episode')
    if self._pristine:
      scratch.move('pristine', 'world')
    else:
      scratch.put(self._files)
    step, read_only = self._do(action)
    self._pristine = read_only
    if read_only:
      scratch.move('world', 'pristine')
    scratch.move('episode', 'world')
    return step, read_only

  def _undo_ahead(self) -> None:
    if self._ahead is not None:
      self._server.scratch.put(self._files)
      if self._name in _KEEPS_STATE:
        self._server.stop()
        self._server.start()
      self._ahead = None

  def _read_state(self) -> str | None:
    if self._name in benchmark_servers.SERVERS:
      return self._server.read(STATE)
    return mcp_worlds.read_state(self._name, self._server.scratch.world)


def parse_call(action: str) -> tuple[str, dict[str, Any]]:
  """The tool's name and arguments. Raises CallError."""
  if len(action) > MAX_ACTION_CHARACTERS:
    raise CallError('call is too long')
  try:
    call = json.loads(action, parse_constant=_refuse)
    json.dumps(call, ensure_ascii=False).encode()  # lone surrogates cannot be sent
  except (ValueError, RecursionError):
    raise CallError('invalid JSON') from None
  if not isinstance(call, dict) or not isinstance(call.get('name'), str):
    raise CallError('call has no name')
  arguments = call.get('arguments', {})
  if not isinstance(arguments, dict):
    raise CallError('arguments must be an object')
  return call['name'], arguments


def call_text(tool: str, /, **arguments: Any) -> str:
  """A tool call as an action."""
  return json.dumps({'name': tool, 'arguments': arguments}, ensure_ascii=False)


def render(answer: Answer) -> str:
  """A response as an observation.

  Hashes are abbreviated as git does it, a validation error loses the address of its manual.
  """
  text = _HASH.sub(lambda match: match[0][:7], _ADVICE.sub('', answer.text)).strip()
  if answer.is_error and not text.startswith('Error'):
    text = f'Error: {text}'
  if len(text) > MAX_OBSERVATION_CHARACTERS:
    text = text[:MAX_OBSERVATION_CHARACTERS] + '\n[output cut]'
  return text


def _unpredictable(server: str, observation: str) -> tuple[tuple[int, int], ...]:
  """Spans of an observation that nobody can predict: hashes, times."""
  pattern = _UNPREDICTABLE.get(server)
  return tuple(match.span() for match in pattern.finditer(observation)) if pattern else ()


def _refuse(constant: str) -> None:
  raise ValueError(constant)
