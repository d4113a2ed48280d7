"""Android: a device behind `adb`, its screen as text; a JSON tool call an action.

    {"name": "tap", "arguments": {"element": 4}}
    {"name": "type", "arguments": {"text": "half past nine"}}

An observation is the screen after the action (android_screen.py), or a line that begins with Error
where an action cannot be done. `Task.setup` holds 'settings', {'namespace/key': value} to put
before the episode, and 'page', the intent action of the settings page it begins on (else the home
screen).

It needs a device: an emulator or a phone kept for it (Android 7 or later), without a screen lock.
Nothing but a task's settings is put back between episodes, so the same actions get the same
observations only as far as the device's apps let them.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from aw_jax.environments import android_screen
from aw_jax.environments.android_screen import Screen, ScreenError
from aw_jax.environments.base import (
  BrokenEnvironmentError,
  Environment,
  MissingProgramError,
  Step,
)
from aw_jax.environments.mcp import CallError, parse_call
from aw_jax.environments.tool_calls import check_form, check_text
from aw_jax.trajectories import Task

MAX_TYPED_CHARACTERS = 500
MAX_WAIT_SECONDS = 10
# What each tool takes: the argument lists it may be called with.
_PLACE = ({'element': int}, {'label': str}, {'x': int, 'y': int})
TOOLS = {
    'tap': _PLACE, 'long_press': _PLACE,
    'swipe': ({'direction': str}, {'x': int, 'y': int, 'to_x': int, 'to_y': int}),
    'type': ({'text': str},), 'key': ({'key': str},), 'back': ({},), 'home': ({},),
    'open_app': ({'name': str},), 'wait': ({'seconds': int},)}
KEYS = {'enter': 'ENTER', 'delete': 'DEL', 'tab': 'TAB', 'start': 'MOVE_HOME', 'end': 'MOVE_END'}
# Where a finger goes, in tenths of width and height.
DIRECTIONS = {'up': (5, 7, 5, 3), 'down': (5, 3, 5, 7), 'left': (8, 5, 2, 5), 'right': (2, 5, 8, 5)}
_LONG_PRESS_MS, _SWIPE_MS = 800, 400
_ATTEMPTS = 3  # at reading a screen
_FILE = '/data/local/tmp/aw_jax_screen.xml'
# What is in front, then the XML of the screen: nothing where uiautomator wrote none.
_OBSERVE = (
    "dumpsys activity activities | grep -m 1 -E '[rR]esumedActivity[:=]'; "
    f'rm -f {_FILE}; uiautomator dump {_FILE} >&2; '
    f'[ ! -e {_FILE} ] || head -c {android_screen.MAX_BYTES + 1} {_FILE}')
_LAUNCHED = ('-a', 'android.intent.action.MAIN', '-c', 'android.intent.category.LAUNCHER')
_ACTIVITY = re.compile(r'ActivityRecord\{\S+ u\d+ ([\w.]+/[\w.$]+)', re.ASCII)
_COMPONENT = re.compile(r'^\s*([\w.]+)(/[\w.$]+)\s*$', re.MULTILINE | re.ASCII)


class RefusedError(BrokenEnvironmentError):
  """The device does not do what it was told; it is there and may do other things."""


class Device:
  """One attached device, held by one environment at a time: $ANDROID_SERIAL, else the only one."""

  def __init__(self, seconds: float):
    """Takes the device; `seconds` is how long one command may last.

    Raises:
      MissingProgramError: where adb or a device is missing, or it is not clear or free which.
    """
    self._seconds = seconds
    self._program = shutil.which('adb')
    if self._program is None:
      raise MissingProgramError('domain android needs the program adb: apt-get install -y adb')
    self.serial = self.attached(os.environ.get('ANDROID_SERIAL'))
    name = f'aw_jax_android_{os.getuid()}_{re.sub(r"[^A-Za-z0-9.-]", "_", self.serial)}.lock'
    # Released when the process ends, however it ends.
    self._lock = open(os.path.join(tempfile.gettempdir(), name), 'w')  # noqa: SIM115
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      self._lock.close()
      raise MissingProgramError(
          f'device {self.serial} is in use by another environment: one at a time can have it '
          '(collect with --workers=1)') from None

  def attached(self, wanted: str | None) -> str:
    """The serial of `wanted`, or of the only device; MissingProgramError where it is not ready."""
    listed = self._adb('devices').stdout.decode(errors='replace')
    states = dict(re.findall(r'^(\S+)\t(.+?)\s*$', listed, re.MULTILINE))
    names = ', '.join(states)
    if not states:
      raise MissingProgramError(
          'no device is attached: start an emulator, or attach a phone with USB debugging on, so '
          'that `adb devices` lists it')
    if wanted and wanted not in states:
      raise MissingProgramError(
          f'device {wanted} is not attached: attach it, or use one of {names}')
    if not wanted and len(states) > 1:
      raise MissingProgramError(
          f'more than one device is attached: set ANDROID_SERIAL to one of {names}')
    serial = wanted or names
    if states[serial] != 'device':
      raise MissingProgramError(
          f'device {serial} is {states[serial]}: unlock it, allow debugging and attach it again')
    return serial

  def shell(self, command: str) -> subprocess.CompletedProcess[bytes]:
    """Runs a line in the device's shell. Raises BrokenEnvironmentError where that is gone."""
    run = self._adb('-s', self.serial, 'shell', command)
    lost = re.search(rb'^(?:error|adb): (.*)', run.stderr, re.MULTILINE)
    if run.returncode and lost:
      raise BrokenEnvironmentError(
          f'device {self.serial} is gone ({lost[1].decode(errors="replace")}): attach it again')
    return run

  def do(self, *commands: Sequence[Any]) -> str:
    """Runs programs of the device; what they printed. Raises RefusedError where one fails."""
    command = ' && '.join(shlex.join(map(str, words)) for words in commands)
    run = self.shell(command)
    said = (run.stdout + run.stderr).decode(errors='replace')
    if run.returncode or re.search('^Error', said, re.MULTILINE):  # `am` may fail with status 0
      raise RefusedError(
          f'the device refused `{command[:400]}` ({said.strip()[:200]!r}): try that by hand')
    return said

  def _adb(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
      return subprocess.run(
          [self._program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
          timeout=self._seconds, check=False)
    except subprocess.TimeoutExpired:
      raise BrokenEnvironmentError(
          f'the device did not answer `adb {shlex.join(arguments)[:80]}` within '
          f'{self._seconds:g} s: restart it') from None

  def close(self) -> None:
    """Lets others have the device."""
    self._lock.close()


class AndroidEnvironment(Environment):
  """A device, from its making to `close`."""

  domain = 'android'

  def __init__(self, seconds: float = 60):
    """`seconds`: how long one adb command may last. Raises MissingProgramError (see `Device`)."""
    self._device = Device(seconds)
    self._screen: Screen | None = None
    self._numbers: dict = {}
    self._size = 0, 0

  def reset(self, task: Task, seed: int = 0) -> str:
    """Puts the task's settings and opens its page; the observation is the screen.

    Raises:
      BrokenEnvironmentError: where the device hangs, refuses, or has no screen that can be read.
      MissingProgramError: where the device is no longer attached.
    """
    del seed  # the setup says it all
    self._screen, self._numbers = None, {}
    self._device.attached(self._device.serial)
    page = task.setup.get('page')
    said = self._device.do(
        ['wm', 'size'], ['input', 'keyevent', 'KEYCODE_WAKEUP'], ['wm', 'dismiss-keyguard'],
        ['am', 'force-stop', 'com.android.settings'],
        *(['settings', 'put', *place.split('/', 1), value]
          for place, value in task.setup.get('settings', {}).items()),
        ['input', 'keyevent', 'KEYCODE_HOME'],
        *([['am', 'start', '-W', '-a', page]] if page else []))
    *_, (width, height) = re.findall(r'size: (\d+)x(\d+)', said) or [(0, 0)]
    self._size = int(width), int(height)  # an override comes last
    return self._observe().observation

  def step(self, action: str) -> Step:
    """Does one tool call and reads the screen."""
    if self._screen is None:
      raise BrokenEnvironmentError('the device was not reset')
    try:
      name, arguments = parse_call(action)
      check_call(name, arguments)
      self._act(name, arguments)
      return self._observe()
    except (CallError, RefusedError) as error:
      return Step(f'Error: {error}')

  def snapshot(self) -> str | None:
    """The screen as it was last read."""
    return None if self._screen is None else self._screen.text

  def screen(self) -> Step | None:
    """The screen as it was last read."""
    if self._screen is None:
      return None
    return Step(self._screen.text, info={'runtime_metadata': self._screen.volatile})

  def verify(self, command: str) -> str:
    """What a line of the device's shell prints; agents have no such action."""
    return self._device.shell(command).stdout.decode(errors='replace').replace('\r', '').strip()

  def close(self) -> None:
    """Lets others have the device; it is left as it is."""
    self._device.close()

  def _act(self, name: str, arguments: dict[str, Any]) -> None:
    """Does a call that was checked. Raises CallError where the screen has nothing for it."""
    do = self._device.do
    if name == 'tap':
      do(['input', 'tap', *self._point(arguments)])
    elif name == 'long_press':
      do(['input', 'swipe', *self._point(arguments) * 2, _LONG_PRESS_MS])
    elif name == 'swipe':
      do(['input', 'swipe', *self._path(arguments), _SWIPE_MS])
    elif name == 'type':
      do(*(['input', 'text', piece] for piece in typed(arguments['text'])))
    elif name == 'open_app':
      self._open(arguments['name'])
    elif name == 'wait':
      time.sleep(arguments['seconds'])
    else:
      key = KEYS[arguments['key']] if name == 'key' else name.upper()
      do(['input', 'keyevent', f'KEYCODE_{key}'])

  def _point(self, arguments: dict[str, Any]) -> tuple[int, int]:
    if 'x' in arguments:
      return self._on_screen(arguments['x'], arguments['y'])
    (what, value), = arguments.items()
    found = [one for one in self._screen.elements
             if (one.number == value if what == 'element' else one.is_labelled(value))]
    if not found:
      raise CallError(f'there is no {what} {str(value)[:60]!r} on the screen')
    if len(found) > 1:
      numbers = ', '.join(str(one.number) for one in found)
      raise CallError(f'{len(found)} elements have that label; give one by number: {numbers}')
    return self._on_screen(*found[0].center)

  def _path(self, arguments: dict[str, Any]) -> tuple[int, ...]:
    if 'x' in arguments:
      return (self._on_screen(arguments['x'], arguments['y'])
              + self._on_screen(arguments['to_x'], arguments['to_y']))
    tenths = DIRECTIONS[arguments['direction']]
    return tuple(side * tenth // 10 for side, tenth in zip(self._shape() * 2, tenths, strict=True))

  def _shape(self) -> tuple[int, int]:
    return self._size[::-1] if self._screen.sideways else self._size

  def _on_screen(self, x: int, y: int) -> tuple[int, int]:
    width, height = self._shape()
    if not (0 <= x < width and 0 <= y < height):
      raise CallError(f'the point is outside the screen of {width} by {height} pixels')
    return x, y

  def _open(self, name: str) -> None:
    listed = self._device.do(['cmd', 'package', 'query-activities', '--brief', *_LAUNCHED])
    apps = dict(reversed(_COMPONENT.findall(listed)))  # of two components, the first
    wanted = ''.join(name.split()).lower()
    found = [app for app in apps if app.lower() == wanted] or [
        app for app in apps if wanted and wanted in app.rpartition('.')[2].lower()]
    if len(found) != 1:
      names = ', '.join(sorted(found or apps))
      raise CallError(f'{"several apps are" if found else "no app is"} {name[:60]!r}: {names}')
    self._device.do(['am', 'start', '-W', '-n', found[0] + apps[found[0]]])

  def _observe(self) -> Step:
    """Reads the screen; uiautomator itself waits until it rests.

    Raises:
      BrokenEnvironmentError: where what it gives is no screen, at every attempt.
    """
    for _ in range(_ATTEMPTS):
      run = self._device.shell(_OBSERVE)
      front, start, rest = run.stdout.partition(b'<')
      activity = _ACTIVITY.search(front.decode(errors='replace'))
      try:
        self._screen = android_screen.read(
            start + rest, activity[1] if activity else '', self._numbers)
        return self.screen()
      except ScreenError as error:
        problem = error if start else ' '.join(run.stderr.decode(errors='replace').split())[:200]
    if not start and self._screen is not None:
      return Step('Error: the screen moves and cannot be read; wait, or go back or home')
    raise BrokenEnvironmentError(
        f'the screen of device {self._device.serial} cannot be read ({problem}): try '
        '`adb shell uiautomator dump` by hand')


def check_call(name: str, arguments: dict[str, Any]) -> None:
  """Raises CallError for an unknown tool, and for arguments that it does not take."""
  check_form(TOOLS, name, arguments)
  for argument, known in (('key', KEYS), ('direction', DIRECTIONS)):
    if argument in arguments and arguments[argument] not in known:
      raise CallError(f'{argument} must be one of {", ".join(known)}')
  check_text(arguments.get('text', ' '), MAX_TYPED_CHARACTERS)
  if not 1 <= arguments.get('seconds', 1) <= MAX_WAIT_SECONDS:
    raise CallError(f'seconds must be 1 to {MAX_WAIT_SECONDS}')


def typed(text: str) -> list[str]:
  """The pieces in which `input text` types `text`: it makes a space of %s, wherever that stands."""
  return [piece.replace(' ', '%s') for piece in re.split('(?<=%)(?=s)', text)]
