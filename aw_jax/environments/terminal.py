"""The terminal: a real bash in a bubblewrap sandbox, one command line an action.

An observation is what the command printed and then the prompt, which shows the working directory:
`~$`, `~/docs$`. The state is the home directory as text (terminal_state.py).
"""

import re

from aw_jax.environments import terminal_state
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.sandbox import Limits, Result, Sandbox
from aw_jax.trajectories import Task

MAX_OUTPUT_CHARACTERS = 2000
MAX_ACTION_CHARACTERS = 16_000
FIRST_OBSERVATION = '~$'
_ESCAPES = re.compile(r'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])')
_CONTROLS = re.compile(r'[\x00-\x08\x0b-\x1f\x7f]')
# A script's bash names the line; a person's does not.
_LINE_NUMBER = re.compile(r'^(?:bash|environment): (?:eval: )?line \d+: ', re.MULTILINE)
# Commands whose numbers nobody can predict: process ids, inodes, the kernel's clock and memory.
_RUNTIME_COMMAND = re.compile(
    r'\b(ps|top|free|df|uptime|pgrep|jobs)\b|\$\$|\bBASHPID|\bPPID|\bSRANDOM|\bEPOCH|\bSECONDS'
    r'|/proc/|/dev/u?random|\bls\s+-\w*i|\bstat\s+(?!-c)|\btime\b|%T\)|\bmktemp\b|\bshuf\b|\bnproc\b')
_RUNTIME_VALUE = re.compile(r'\d[\d.:]*')
# A command of these words alone, with no substitution, redirection or assignment, changes neither
# files nor shell: an action after it sees what it would have seen at the start.
_READ_ONLY = re.compile(
    r'(?:ls|cat|head|tail|wc|grep|sort|cut|pwd|nl|tac|rev)\b[\w ./~,*?-]*'
    r'(?:\|\s*(?:cat|head|tail|wc|grep|sort|cut|nl|tac|rev)\b[\w ./~,*?-]*)*')
_WRITES_ANYWAY = re.compile(r'\s--?\w*o')  # sort -o, sort -ro, sort --output


class TerminalEnvironment(Environment):
  """A bash in a sandbox. See sandbox.py for what is isolated, limited and deterministic.

  Two sandboxes: one runs the episode, its twin answers `counterfactual`. While nothing has changed
  yet the two are interchangeable, so an action that the twin has just run from the initial state
  need not be run again: the twin becomes the episode.
  """

  domain = 'terminal'

  def __init__(self, limits: Limits = Limits()):
    self._episode, self._twin = Sandbox(limits), Sandbox(limits)
    self._seconds = limits.seconds
    self._task: Task | None = None
    self._seed = 0
    self._restart()

  def _restart(self) -> None:
    self._state: str | None = None
    self._initial = True  # whether the episode's files and shell are those of the initial state
    self._twin_ready = False
    self._ahead: tuple[str, Result] | None = None  # an action the twin ran, and what it got
    self._memory: dict[str, Step] = {}

  def reset(self, task: Task, seed: int = 0) -> str:
    """Builds the initial state; the observation is the bare prompt.

    Raises:
      BrokenEnvironmentError: where the sandbox fails; the next reset starts a new one.
      MissingProgramError: where bwrap or python3 is missing.
    """
    self._restart()
    self._task, self._seed = task, seed
    self._state = self._episode.reset(task.setup, seed)
    return FIRST_OBSERVATION

  def step(self, action: str) -> Step:
    """Runs one command line (it may hold newlines) in the episode's shell."""
    action = action[:MAX_ACTION_CHARACTERS]
    if self._ahead is not None and self._ahead[0] == action:
      result = self._ahead[1]
      self._episode, self._twin = self._twin, self._episode
    else:
      result = self._episode.run(action)
    self._ahead = None
    if not _is_read_only(action) or result.timed_out:
      self._initial = False
    self._state = result.state
    return self._answer(action, result)

  def snapshot(self) -> str | None:
    """The home directory as text, and the working directory where it is not home."""
    return self._state

  def counterfactual(self, action: str) -> Step:
    """What `action` gets in a fresh shell on the initial state; remembered for the episode."""
    if self._task is None:
      raise BrokenEnvironmentError('the terminal was not reset')
    action = action[:MAX_ACTION_CHARACTERS]
    # `$` and `!` could show traces of read-only commands ($?, $_): those are run twice.
    exchangeable = self._initial and not set('$!') & set(action)
    if action not in self._memory:
      if not self._twin_ready:
        self._twin.reset(self._task.setup, self._seed)
        self._twin_ready = True
      result = self._twin.probe(action)
      self._memory[action] = self._answer(action, result)
      if exchangeable:
        self._ahead = action, result
    return self._memory[action]

  def verify(self, command: str) -> str:
    """Runs the hidden check in a fresh shell, where nothing the agent defined counts."""
    self._initial, self._ahead = False, None
    result = self._episode.verify(command)
    self._state = result.state
    return self._answer(command, result).observation

  def close(self) -> None:
    """Ends both sandboxes."""
    self._episode.close()
    self._twin.close()

  def _answer(self, action: str, result: Result) -> Step:
    text = clean(result.output)
    if result.timed_out:
      text += f'[killed after {self._seconds:g} s; new shell]\n'
    observation = f'{text}{result.cwd}$'
    return Step(observation, info={'runtime_metadata': runtime_metadata(action, observation)})


def initial_state(setup: dict) -> str:
  """The state of a setup of files, modes and directories, without running anything."""
  if setup.get('commands'):
    raise ValueError('a setup with commands has no state before they have run')
  return terminal_state.render(terminal_state.setup_entries(
      setup.get('files', {}), setup.get('modes', {}), setup.get('dirs', ())))


def clean(output: str) -> str:
  """Output as a person sees it: no escapes or control characters, cut, ended by a newline."""
  text = _CONTROLS.sub('', _ESCAPES.sub('', output.replace('\r\n', '\n')))
  text = _LINE_NUMBER.sub('bash: ', text)
  if len(text) > MAX_OUTPUT_CHARACTERS:
    text = text[:MAX_OUTPUT_CHARACTERS] + '\n[output cut]\n'
  return text if text.endswith('\n') or not text else text + '\n'


def runtime_metadata(action: str, observation: str) -> tuple[tuple[int, int], ...]:
  """(start, end) spans of the observation that nobody can predict, judged by the action."""
  if not _RUNTIME_COMMAND.search(action):
    return ()
  return tuple(match.span() for match in _RUNTIME_VALUE.finditer(observation))


def _is_read_only(action: str) -> bool:
  return _READ_ONLY.fullmatch(action) is not None and not _WRITES_ANYWAY.search(action)
