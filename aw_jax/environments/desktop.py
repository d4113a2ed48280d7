"""The os domain: GTK applications on a real X server in a sandbox; a JSON tool call an action.

    {"name": "click", "arguments": {"label": "File"}}
    {"name": "type", "arguments": {"text": "half past nine"}}

An observation is the screen after the action (desktop_screen.py), or a line that begins with Error
where an action cannot be done. The state is the screen, and the files of the home directory.
`Task.setup` holds 'files', 'folders' and 'programs' (desktop_host.py).

The hidden check after the last turn is one of
    {"name": "read_file", "arguments": {"path": "notes.txt"}}
    {"name": "list_files", "arguments": {}}
    {"name": "read_text", "arguments": {"window": "galculator"}}
    {"name": "read_setting", "arguments": {"key": "word-wrap"}}
which agents do not have: the text of a file, all paths (folders end with /), the first text that a
window with this word in its title shows, a setting of the text editor that is not at its default.
"""

import re
from typing import Any

from aw_jax.environments import desktop_host, desktop_screen
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.desktop_screen import Screen
from aw_jax.environments.desktop_settings import MOUSEPAD_FILE
from aw_jax.environments.mcp import CallError, parse_call
from aw_jax.environments.tool_calls import check_form, check_text
from aw_jax.trajectories import Task

MAX_TYPED_CHARACTERS = 200
_PLACE = ({'element': int}, {'label': str})
TOOLS = {
    'click': _PLACE, 'double_click': _PLACE, 'right_click': _PLACE,
    'drag': ({'element': int, 'to': int},), 'scroll': ({'element': int, 'direction': str},),
    'type': ({'text': str},), 'key': ({'keys': str},)}
CHECKS = {
    'read_file': ({'path': str},), 'list_files': ({},), 'read_text': ({'window': str},),
    'read_setting': ({'key': str},)}
DIRECTIONS = ('up', 'down')
# As an agent writes them -> as X does.
KEYS = {
    'enter': 'Return', 'escape': 'Escape', 'tab': 'Tab', 'backspace': 'BackSpace',
    'delete': 'Delete', 'space': 'space', 'up': 'Up', 'down': 'Down', 'left': 'Left',
    'right': 'Right', 'home': 'Home', 'end': 'End', 'page_up': 'Prior', 'page_down': 'Next',
    **{f'f{n}': f'F{n}' for n in range(1, 13)},
    **{letter: letter for letter in 'abcdefghijklmnopqrstuvwxyz0123456789'}}
_MODIFIERS = ('ctrl', 'alt', 'shift')


class DesktopEnvironment(Environment):
  """A desktop for each episode. Same task and actions, same observations, but for times of day.

  Windows, fonts and settings are the same every time, and an observation is taken when the screen
  has come to rest (desktop_session/session.py). It depends on the versions of the programs.
  `counterfactual` is None: a second desktop for every action would cost over a second.
  """

  domain = 'os'

  def __init__(self, limits: desktop_host.Limits | None = None):
    self._limits = limits or desktop_host.Limits()
    self._desktop: desktop_host.Desktop | None = None
    self._screen: Screen | None = None
    self._files: dict[str, str | None] = {}
    self._numbers: dict = {}

  def reset(self, task: Task, seed: int = 0) -> str:
    """Starts the task's desktop; the observation is its screen.

    Raises:
      BrokenEnvironmentError: where it does not start; the next reset starts another.
      MissingProgramError: where bwrap, a program or AT-SPI is missing.
    """
    del seed  # the setup says it all
    self.close()
    self._desktop, answer = desktop_host.begin(task.setup, self._limits)
    return self._observe(answer).observation

  def step(self, action: str) -> Step:
    """Does one tool call and reads the screen."""
    if self._desktop is None:
      raise BrokenEnvironmentError('the desktop was not reset')
    try:
      name, arguments = parse_call(action)
      return self._observe(self._desktop.act(name, **self._resolved(name, arguments)))
    except CallError as error:
      return Step(f'Error: {error}')

  def snapshot(self) -> str | None:
    """The screen, and the files of the home directory."""
    return None if self._screen is None else desktop_screen.state(self._screen, self._files)

  def screen(self) -> Step | None:
    """The screen, as it was read last."""
    if self._screen is None:
      return None
    return Step(self._screen.text, info={'runtime_metadata': self._screen.volatile})

  def verify(self, command: str) -> str:
    """The answer to one of the hidden checks."""
    name, arguments = parse_call(command)
    if name not in CHECKS:
      return self.step(command).observation
    check_form(CHECKS, name, arguments)
    if name == 'list_files':
      return '\n'.join(path + '/' * (text is None) for path, text in sorted(self._files.items()))
    if name == 'read_file':
      text = self._files.get(arguments['path'])
      return 'Error: there is no such file' if text is None else text
    if name == 'read_setting':
      return self._setting(arguments['key'])
    return self._text_of(arguments['window'])

  def close(self) -> None:
    """Ends the desktop."""
    if self._desktop is not None:
      self._desktop.close()
    self._desktop, self._screen, self._numbers = None, None, {}

  def _observe(self, answer: dict[str, Any]) -> Step:
    self._files = answer['files']
    self._screen = desktop_screen.read(answer['nodes'], self._numbers)
    return self.screen()

  def _resolved(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call as the session takes it: places for elements. Raises CallError."""
    check_form(TOOLS, name, arguments)
    if name == 'type':
      check_text(arguments['text'], MAX_TYPED_CHARACTERS)
      return arguments
    if name == 'key':
      return {'keys': x_keys(arguments['keys'])}
    if arguments.get('direction', 'up') not in DIRECTIONS:
      raise CallError(f'direction must be one of {", ".join(DIRECTIONS)}')
    what = 'label' if 'label' in arguments else 'element'
    resolved = {'place': self._place(what, arguments[what])}
    if name == 'drag':
      resolved['to'] = self._place('element', arguments['to'])
    return resolved | {key: arguments[key] for key in ('direction',) if key in arguments}

  def _place(self, what: str, value: Any) -> tuple[int, int]:
    found = [one for one in self._screen.elements
             if (one.number == value if what == 'element' else _same(one.label, value))]
    if not found:
      raise CallError(f'there is no {what} {str(value)[:60]!r} on the screen')
    if len(found) > 1:
      numbers = ', '.join(str(one.number) for one in found)
      raise CallError(f'{len(found)} elements have that label; give one by number: {numbers}')
    return found[0].place

  def _setting(self, key: str) -> str:
    settings = self._desktop.read(MOUSEPAD_FILE) or ''
    found = re.search(rf'^{re.escape(key)}=(.*)$', settings, re.MULTILINE)
    return found[1] if found else 'default'

  def _text_of(self, title: str) -> str:
    inside = False
    for element in self._screen.elements:
      if not element.line.startswith(' '):
        inside = title in element.label
      elif inside and element.role == 'text':
        return element.text
    return 'Error: no such window shows a text'


def x_keys(keys: str) -> str:
  """'ctrl+shift+s' as xdotool takes it. Raises CallError."""
  *modifiers, key = re.split(r'\+', keys.strip().lower())
  unknown = [word for word in modifiers if word not in _MODIFIERS]
  if unknown or key not in KEYS:
    raise CallError(
        f'keys must be one of {", ".join(KEYS)}, with {", ".join(_MODIFIERS)} and a plus before')
  return '+'.join((*modifiers, KEYS[key]))


def _same(label: str, wanted: str) -> bool:
  return bool(label) and label.casefold() == ' '.join(wanted.split()).casefold()
