"""The terminal: a real bash in a bubblewrap sandbox, one command line an action.

An observation is what the command printed and then the prompt, which shows the working directory:
`~$`, `~/docs$`. The state is the home directory as text (terminal_state.py). Tasks may ask for the
full-screen mode, in which actions are keystrokes and observations the text of a screen (screen.py).
"""

import posixpath
import re

from aw_jax.environments import screen, terminal_state
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.sandbox import Limits, Result, Sandbox
from aw_jax.trajectories import Task

MAX_OUTPUT_CHARACTERS = 2000
MAX_ACTION_CHARACTERS = 16_000
FIRST_OBSERVATION = '~$'
# Sequences that begin with a control (ECMA-48), strings for the terminal with what they hold, and
# what stands alone; \x9b, \x9d and the like are the forms of one character.
_ESCAPES = re.compile(
    r'(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]'
    r'|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?'
    r'|\x1b[ -/]*[0-~]')
_CONTROLS = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')
# A script's bash names the line; a person's does not.
_LINE_NUMBER = re.compile(r'^(?:bash|environment): (?:eval: )?line \d+: ', re.MULTILINE)
# Commands whose numbers nobody can predict: process ids, inodes, the kernel's clock and memory.
_RUNTIME_COMMAND = re.compile(
    r'\b(ps|top|free|df|uptime|pgrep|jobs)\b|\$\$|\bBASHPID|\bPPID|\bSRANDOM|\bEPOCH|\bSECONDS'
    r'|/proc/|/dev/u?random|\bls\s+-\w*i|\bstat\s+(?!-c)|\btime\b|%T\)|\bmktemp\b|\bshuf\b'
    r'|\bnproc\b')
# On a screen bash also says which process runs in the background.
_RUNTIME_ON_SCREEN = re.compile(_RUNTIME_COMMAND.pattern + r'|(?<!&)&(?!&)')
_RUNTIME_VALUE = re.compile(r'\d[\d.:]*')
# Pipelines of these commands alone, without substitutions or writing redirections, change neither
# files nor shell.
_READER = (r'(?:(?:ls|cat|head|tail|wc|grep|sort|cut|pwd|nl|tac|rev)\b[\w ./~,*?<-]*'
           r'|sed (?:-n \d+p|s/\w+/\w+/)(?: [\w./~*]+)* ?)')
_READ_ONLY = re.compile(rf'{_READER}(?:\|\s*{_READER})*')
_WRITES_ANYWAY = re.compile(r'\s--?\w*[io]')  # sort -o, sort --output
# These leave a shell as it is: no functions, aliases, variables, options, background processes.
_PLAIN_WORDS = frozenset((
    'ls', 'cat', 'head', 'tail', 'wc', 'grep', 'sort', 'uniq', 'cut', 'pwd', 'nl', 'tac', 'rev',
    'sed', 'tr', 'diff', 'find', 'test', 'stat', 'echo', 'cp', 'mv', 'rm', 'mkdir', 'rmdir',
    'touch', 'chmod', 'tar', 'git', 'sqlite3', 'python3', 'cd'))
_NOT_PLAIN = re.compile(r'[$`(){}=;\\!\n]|(?<!&)&(?!&)')


class TerminalEnvironment(Environment):
  """A bash in a sandbox. See sandbox.py for what is isolated, limited and deterministic.

  Two sandboxes: one runs the episode, its twin answers `counterfactual`. Commands are run twice
  only where that can matter. While nothing has changed yet the two are interchangeable: after an
  action from the initial state the twin becomes the episode. And a command that changes nothing and
  reads only what is as it was is run once, in the episode.
  """

  domain = 'terminal'

  def __init__(self, limits: Limits | None = None):
    limits = limits or Limits()
    self._episode, self._twin = Sandbox(limits), Sandbox(limits)
    self._seconds = limits.seconds
    self._task: Task | None = None
    self._seed = 0
    self._restart()

  def _restart(self) -> None:
    self._state: str | None = None
    self._cwd = '~'
    self._touched: list[str] = []
    self._initial = True  # whether the episode's files and shell are those of the initial state
    self._plain = True  # whether the episode's shell is as a fresh one, its directory apart
    self._size: tuple[int, int] | None = None  # of the screen, where the task has one
    self._typed = ''  # every action so far, whose output may still be on the screen
    self._twin_ready = False
    # An action that was run early, what it got, and whether it was the twin that ran it.
    self._ahead: tuple[str, Result, bool] | None = None
    self._memory: dict[str, Step] = {}

  def reset(self, task: Task, seed: int = 0) -> str:
    """Builds the initial state; the observation is the bare prompt.

    Raises:
      BrokenEnvironmentError: where the sandbox fails; the next reset starts a new one.
      MissingProgramError: where bwrap or python3 is missing, or tmux for a full-screen task.
    """
    self._restart()
    self._task, self._seed = task, seed
    self._size = screen.size_of(task.setup)
    self._state = self._episode.reset(task.setup, seed)
    return FIRST_OBSERVATION

  def step(self, action: str) -> Step:
    """Runs one command line (it may hold newlines) in the episode's shell, or types keystrokes."""
    action = action[:MAX_ACTION_CHARACTERS]
    if self._ahead is not None and self._ahead[0] == action:
      _, result, by_twin = self._ahead
      if by_twin:
        self._episode, self._twin = self._twin, self._episode
    else:
      result = self._episode.run(self._command(action))
    self._ahead = None
    self._initial = (self._initial and self._size is None and is_read_only(action)
                     and not result.killed_for)
    self._plain = self._plain and is_plain(action)
    self._state, self._touched, self._cwd = result.state, result.touched, result.cwd
    if self._size is None:
      return self._answer(action, result)
    self._typed += action + '\n'
    return self._screen_answer(action, result, self._typed)

  def snapshot(self) -> str | None:
    """The home directory as text, and the working directory where it is not home."""
    return self._state

  def counterfactual(self, action: str) -> Step:
    """What `action` gets in a fresh shell on the initial state; remembered for the episode."""
    if self._task is None:
      raise BrokenEnvironmentError('the terminal was not reset')
    action = action[:MAX_ACTION_CHARACTERS]
    if action not in self._memory:
      result = self._run_initial(action)
      self._memory[action] = (self._answer(action, result) if self._size is None
                              else self._screen_answer(action, result, action))
    return self._memory[action]

  def _run_initial(self, action: str) -> Result:
    """What `action` gets in the initial state, from whichever sandbox gives it soonest."""
    if (self._size is None and self._plain and self._cwd == '~' and is_read_only(action)
        and reads_only_untouched(action, self._touched)):
      result = self._episode.run(action)
      self._ahead = action, result, False
      return result
    if not self._twin_ready:
      self._twin.reset(self._task.setup, self._seed)
      self._twin_ready = True
    result = self._twin.probe(self._command(action))
    # `$` and `!` could show traces of the read-only commands before ($?, $_).
    if self._initial and not set('$!') & set(action):
      self._ahead = action, result, True
    return result

  def verify(self, command: str) -> str:
    """Runs the hidden check in a fresh shell, where nothing the agent defined counts."""
    self._initial, self._plain, self._ahead = False, False, None
    result = self._episode.verify(command)
    self._state = result.state
    return self._answer(command, result).observation

  def close(self) -> None:
    """Ends both sandboxes."""
    self._episode.close()
    self._twin.close()

  def _command(self, action: str) -> str:
    """What the sandbox's shell is to run for an action."""
    if self._size is None:
      return action
    return screen.command(action, self._size, self._seed, max(0.5, self._seconds - 1))

  def _screen_answer(self, action: str, result: Result, typed: str) -> Step:
    """The screen after `action`, which may still show output of all that was `typed`."""
    if result.killed_for:
      return self._answer(action, result)
    observation = screen.complaint(action) + clean(result.output).rstrip('\n')
    spans = runtime_metadata(typed, observation, _RUNTIME_ON_SCREEN)
    return Step(observation, info={'runtime_metadata': spans})

  def _answer(self, action: str, result: Result) -> Step:
    text = clean(result.output)
    if result.killed_for:
      why = {'time': f'killed after {self._seconds:g} s', 'memory': 'killed: out of memory',
             'shell': 'the shell was killed'}[result.killed_for]
      text += f'[{why}; new shell]\n'
    observation = f'{text}{terminal_state.printable(result.cwd)}$'
    return Step(observation, info={'runtime_metadata': runtime_metadata(action, observation)})


def initial_state(setup: dict) -> str:
  """The state of a setup of files, modes and directories, without running anything."""
  if setup.get('commands'):
    raise ValueError('a setup with commands has no state before they have run')
  return terminal_state.render(terminal_state.setup_entries(
      setup.get('files', {}), setup.get('modes', {}), setup.get('dirs', ())))


def clean(output: str) -> str:
  """Output as a person sees it: no escapes or control characters, cut, ended by a newline."""
  text = _LINE_NUMBER.sub('bash: ', without_controls(output))
  if len(text) > MAX_OUTPUT_CHARACTERS:
    text = text[:MAX_OUTPUT_CHARACTERS] + '\n[output cut]\n'
  return text if text.endswith('\n') or not text else text + '\n'


def without_controls(output: str) -> str:
  """Output without escape sequences and control characters."""
  return _CONTROLS.sub('', _ESCAPES.sub('', output.replace('\r\n', '\n')))


def runtime_metadata(
    action: str, observation: str, commands: re.Pattern[str] = _RUNTIME_COMMAND
) -> tuple[tuple[int, int], ...]:
  """(start, end) spans of the observation that nobody can predict.

  They are the numbers where `commands` is found in the action.
  """
  if not commands.search(action):
    return ()
  return tuple(match.span() for match in _RUNTIME_VALUE.finditer(observation))


def is_read_only(action: str) -> bool:
  """Whether `action` certainly changes neither files nor shell."""
  return _READ_ONLY.fullmatch(action) is not None and not _WRITES_ANYWAY.search(action)


def is_plain(action: str) -> bool:
  """Whether `action` certainly leaves the shell itself, its working directory apart, as it is."""
  commands = re.split(r'\|\|?|&&', action)
  return not _NOT_PLAIN.search(action) and all(
      (command.split() or [''])[0] in _PLAIN_WORDS for command in commands)


def reads_only_untouched(action: str, touched: list[str]) -> bool:
  """Whether a read-only `action`, run at home, certainly reads nothing in or below `touched`."""
  words = re.split(r'[\s|<]+', action)
  if any(w.startswith('/') or '..' in w or ('~' in w and not w.startswith('~/')) for w in words):
    return False
  if not touched:
    return True
  if 'ls' in words or 'grep -' in action or re.search(r'[*?]|--', action):
    return False  # they may look through directories
  paths = [posixpath.normpath(word.removeprefix('~/')) for word in words if word]
  return not any(path == one or path.startswith(one + '/') for path in paths for one in touched)
