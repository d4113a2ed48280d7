"""Full-screen mode of the terminal: a grid of characters, keystrokes in, the screen's text out.

A task whose setup holds `'screen': [columns, rows]` is played in this mode. An action is a JSON
array of keystrokes and how long to wait after them, as AgentWorldBench has them:

    [{"keystrokes": "nano a.txt\\n", "duration": 0.5}, {"keystrokes": "C-x", "duration": 0.1}]

What is named as tmux names keys (C-x, Escape, Up, Enter) and stands alone is that key; all else is
typed as it stands. The duration, in seconds, is the time that a program has at least; at a prompt
the wait ends as soon as nothing goes on any more (screen_driver.py). The screen is a tmux in the
sandbox, started at the first action of an episode.
"""

import json
import shlex
import shutil
from typing import Any

from aw_jax.environments.base import MissingProgramError

_DRIVER = '/opt/driver/screen.py'  # screen_driver.py, inside the sandbox
MAX_DURATION = 10.0  # seconds; the sandbox's own limit may be lower
_FORM = 'an action is a JSON array of {"keystrokes": string, "duration": seconds}'


class KeystrokeError(ValueError):
  """An action is no array of keystrokes; the message is what the screen then says."""


def size_of(setup: dict[str, Any]) -> tuple[int, int] | None:
  """Columns and rows of the screen that a task asks for, None for line mode.

  Raises:
    MissingProgramError: where the task asks for a screen and there is no tmux.
  """
  if 'screen' not in setup:
    return None
  if shutil.which('tmux') is None:
    raise MissingProgramError('full-screen tasks need tmux: apt-get install -y tmux')
  columns, rows = setup['screen']
  return columns, rows


def parse(action: str) -> list[tuple[str, float]]:
  """The (keystrokes, seconds) pairs of an action. Raises KeystrokeError."""
  try:
    items = json.loads(action)
  except (ValueError, RecursionError):
    items = None
  if not isinstance(items, list) or not items:
    raise KeystrokeError(_FORM)
  return [_parse_item(item) for item in items]


def _parse_item(item: Any) -> tuple[str, float]:
  if not isinstance(item, dict) or not isinstance(item.get('keystrokes'), str):
    raise KeystrokeError(_FORM)
  duration = item.get('duration')
  if isinstance(duration, bool) or not isinstance(duration, int | float):
    raise KeystrokeError(_FORM)
  if not 0 <= duration <= MAX_DURATION:
    raise KeystrokeError(f'a duration is 0 to {MAX_DURATION:g} seconds')
  return item['keystrokes'].replace('\0', ''), float(duration)


def complaint(action: str) -> str:
  """A line that says what is wrong with an action, '' where nothing is."""
  try:
    parse(action)
  except KeystrokeError as error:
    return f'[{error}]\n'
  return ''


def command(action: str, size: tuple[int, int], seed: int, seconds: float) -> str:
  """A command line for the sandbox's shell that types keystrokes and prints the screen.

  Afterwards the shell is in the directory of the one on the screen.

  Args:
    action: what is typed; nothing where it is no array of keystrokes.
    size: columns and rows of the screen.
    seed: of RANDOM in the screen's shell.
    seconds: after which nothing is waited for any more.
  """
  keys = [] if complaint(action) else parse(action)
  request = json.dumps({'columns': size[0], 'rows': size[1], 'seed': seed % 32768,
                        'seconds': seconds, 'keys': keys})
  run = f'python3 -S -B {_DRIVER} {shlex.quote(request)}'
  return f'cd; {{ cd -- "$({run} 3>&1 >&4 2>&4)" 2>/dev/null; }} 4>&1'
