"""A desktop in a bubblewrap sandbox: one process, one X server, one episode.

What is inside a sandbox: no network, /usr and fonts read only, a small home directory and /tmp in
memory, no other process, an unprivileged user, limits on memory, processes and file size. Every
episode has a sandbox of its own, so that nothing (settings, recent files, the clipboard, a program
that hangs) passes from one to the next.
"""

import atexit
import dataclasses
import functools
import glob
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from aw_jax.environments import asking, bubblewrap
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.desktop_settings import CONFIG

HOME = '/home/agent'
SIZE = '1366x1000'
PROGRAMS = ('mousepad', 'galculator', 'pcmanfm', 'thunar')
PYTHON = '/usr/bin/python3'  # Debian's, which has python3-gi
INSTALL = (
    'apt-get install -y bubblewrap xvfb xdotool openbox dbus at-spi2-core libatk-adaptor '
    'libgail-common python3-gi mousepad galculator pcmanfm thunar')
_NEEDED = ('bwrap', 'Xvfb', 'xdotool', 'openbox', 'dbus-daemon', *PROGRAMS)
_FILES = {  # what else is needed -> where one of it has to be
    'AT-SPI': '/usr/libexec/at-spi-bus-launcher',
    'AT-SPI for GTK 2': '/usr/lib/*/gtk-2.0/modules/libatk-bridge.so',
    f'python3-gi for {PYTHON}': '/usr/lib/python3/dist-packages/gi/__init__.py'}
_ATTEMPTS = 3  # at describing a desktop, which has no effects
_HERE = os.path.dirname(os.path.abspath(__file__))
_CODE = '/opt/desktop/aw_jax/environments'
_SHARED = ('/etc/fonts', '/var/cache/fontconfig', '/etc/gtk-3.0')  # where they are there
_VARIABLES = {
    'PATH': '/usr/bin:/bin', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8', 'USER': 'agent',
    'LOGNAME': 'agent', 'SHELL': '/bin/false', 'PYTHONHASHSEED': '0',
    'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONPATH': '/opt/desktop', 'PYTHONWARNINGS': 'ignore',
    # Settings in a file of the home directory, files by the kernel alone: no daemons of GNOME's.
    'GSETTINGS_BACKEND': 'keyfile', 'GIO_MODULE_DIR': '/opt/desktop',
    'GTK_MODULES': 'gail:atk-bridge',  # for pcmanfm, which is of GTK 2
    'GDK_BACKEND': 'x11', 'XDG_DATA_DIRS': '/usr/share',
    'XDG_CONFIG_DIRS': '/opt/desktop'}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a desktop may use.

  Attributes:
    start_seconds: wall-clock time until its programs have opened their windows.
    call_seconds: wall-clock time of one action.
    memory_bytes: address space of one process.
    processes: processes and threads at a time.
    disk_bytes: size of the home directory, and of /tmp.
  """

  start_seconds: float = 60.0
  call_seconds: float = 40.0
  memory_bytes: int = 4 << 30
  processes: int = 200
  disk_bytes: int = 32 << 20


class Desktop:
  """One sandbox with a desktop. Methods raise BrokenEnvironmentError where it is gone."""

  def __init__(self, limits: Limits = Limits()):
    self._limits = limits
    self._process = asking.Process('desktop', *_command(limits))

  def start(self, setup: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, Any]:
    """Makes the home directory and starts the programs.

    Args:
      setup: 'files' (path below home -> text), 'folders' (paths), 'programs' (command lines).
      config: path below home -> text of settings.
    Returns:
      As `act`.
    """
    return self._process.ask(
        self._limits.start_seconds, op='start', files=setup.get('files', {}),
        folders=setup.get('folders', []), programs=setup['programs'], config=dict(config),
        known=PROGRAMS)

  def act(self, tool: str, **arguments: Any) -> dict[str, Any]:
    """Uses mouse or keyboard (desktop_session/session.py).

    Returns:
      'nodes' (desktop_session/accessibility.py), 'files' (path -> text, None for a folder).
    """
    return self._process.ask(self._limits.call_seconds, op='act', tool=tool, **arguments)

  def read(self, path: str) -> str | None:
    """The text of a file below home, hidden ones too; None where there is none."""
    return self._process.ask(self._limits.call_seconds, op='read', path=path)['text']

  def close(self) -> None:
    """Ends everything in it."""
    self._process.stop()


def missing() -> str:
  """What has to be installed, as a sentence; '' where nothing is missing."""
  for program in _NEEDED:
    if shutil.which(program) is None:
      return f'{program} not found: {INSTALL}'
  for name, path in _FILES.items():
    if not glob.glob(path):
      return f'{name} not found: {INSTALL}'
  return ''


def _command(limits: Limits) -> tuple[list[str], list[int]]:
  """The command line of a desktop in its sandbox, and the descriptors that it reads.

  Raises MissingProgramError.
  """
  problem = missing()
  if problem:
    raise MissingProgramError(problem)
  uid = 200_000 + os.getpid() if os.geteuid() == 0 else 0
  binds = {f'{_CODE}/{name}': os.path.join(_HERE, name)
           for name in ('answering.py', 'desktop_session')}
  binds |= {folder: folder for folder in _SHARED if os.path.isdir(folder)}
  command = bubblewrap.arguments(uid, limits.disk_bytes, binds, _VARIABLES)
  program = bubblewrap.confined(
      uid, {'AS': limits.memory_bytes, 'NPROC': limits.processes, 'FSIZE': limits.disk_bytes,
            'NOFILE': 1024},
      [PYTHON, '-P', '-B', '-m', 'aw_jax.environments.desktop_session.serve', HOME, SIZE], PYTHON)
  # The session bus wants to know who it runs for.
  users = bubblewrap.readable(f'agent:x:{uid or 1000}:{uid or 1000}::{HOME}:/bin/false\n'.encode())
  return [*command, '--perms', '0444', '--ro-bind-data', str(users), '/etc/passwd',
          '--size', str(limits.disk_bytes), '--perms', '1777', '--tmpfs', '/home',
          '--remount-ro', '/', '--chdir', '/tmp', *program], [users]


_parked: dict[str, tuple[Desktop, dict[str, Any]]] = {}  # at most one: setup -> untouched desktop
atexit.register(lambda: close_parked())


def begin(setup: Mapping[str, Any], limits: Limits = Limits()) -> tuple[Desktop, dict[str, Any]]:
  """A desktop that stands as `setup` says, and what `Desktop.start` answered.

  Raises:
    MissingProgramError: naming the line that installs what is missing.
    BrokenEnvironmentError: where it does not start.
  """
  key = json.dumps(setup, sort_keys=True)
  if key in _parked:
    return _parked.pop(key)
  desktop = Desktop(limits)
  return desktop, desktop.start(setup, CONFIG)


def describe(setup: dict[str, Any]) -> dict[str, Any]:
  """What `Desktop.start` answers for `setup`; remembered.

  The desktop that was started to be looked at is kept, untouched, for the episode that most often
  follows: starting one takes over a second.
  """
  return json.loads(_described(json.dumps(setup, sort_keys=True)))


@functools.lru_cache(maxsize=1024)
def _described(key: str) -> str:
  for attempt in range(_ATTEMPTS):
    try:
      desktop, answer = begin(json.loads(key))
      break
    except BrokenEnvironmentError:
      if attempt == _ATTEMPTS - 1:
        raise
  close_parked()
  _parked[key] = desktop, answer
  return json.dumps(answer)


def close_parked() -> None:
  """Ends the desktop that is kept."""
  while _parked:
    _parked.popitem()[1][0].close()
