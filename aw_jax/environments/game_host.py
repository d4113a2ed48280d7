"""Game engines in bubblewrap sandboxes, one process an engine, shared by all that play.

What is inside a sandbox: no network, the Python environment and /usr read only, a small /tmp, no
other process, an unprivileged user, limits on memory, processes and file size. Starting a Java
machine takes seconds and a few hundred megabytes, so a Python process has at most one host of each
engine, for making tasks and for all its environments; a host that dies or hangs is ended, those who
played on it are told, and the next request starts another.
"""

import atexit
import dataclasses
import functools
import glob
import importlib.util
import json
import os
import shutil
import sys
import threading
from typing import Any

from aw_jax.environments import asking, bubblewrap
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError

ENGINES = ('textworld', 'express', 'scienceworld')
INSTALL = "pip install -e '.[games]'"
_PACKAGES = {
    'textworld': 'textworld', 'express': 'textworld_express', 'scienceworld': 'scienceworld'}
_JAVA = ('express', 'scienceworld')
_HERE = os.path.dirname(os.path.abspath(__file__))
_MODULE = 'aw_jax.environments.game_engines'
# ScienceWorld's order of objects follows from their hash codes, which Java draws anew for every
# game; where they are all alike, it is that of their making, and a game always goes the same way.
_JAVA_OPTIONS = (
    '-Xmx768m -Xss4m -XX:+UseSerialGC -XX:-UsePerfData -XX:CompressedClassSpaceSize=64m '
    '-XX:ReservedCodeCacheSize=64m -XX:+UnlockExperimentalVMOptions -XX:hashCode=2')
_ATTEMPTS = 3  # at describing a game, which has no effects


@dataclasses.dataclass(frozen=True)
class Limits:
  """What an engine may use.

  Attributes:
    start_seconds: wall-clock time to make or to start a game, the engine's own start included.
    call_seconds: wall-clock time of one command.
    memory_bytes: address space of one process.
    processes: processes and threads at a time.
    disk_bytes: size of /tmp, where games are compiled.
  """

  start_seconds: float = 180.0
  call_seconds: float = 60.0
  memory_bytes: int = 4 << 30
  processes: int = 256
  disk_bytes: int = 128 << 20


class Host:
  """One engine in its sandbox. Safe to use from several threads.

  Attributes:
    starts: how often it was started; a session begun under another number is gone.
  """

  def __init__(self, engine: str, limits: Limits = Limits()):
    self._engine, self._limits = engine, limits
    self._lock = threading.Lock()
    self._process: asking.Process | None = None
    self.starts = 0

  def request(self, *, since: int | None = None, **request: Any) -> dict[str, Any]:
    """Asks the engine (see game_engines/serve.py), which is started where it does not run.

    Args:
      since: the value of `starts` when the session that this is about began; where the engine has
        ended or was started again since, the session is lost.
      **request: the operation and its arguments.
    Raises:
      MissingProgramError: naming the line that installs what is missing.
      BrokenEnvironmentError: where the engine died, did not answer in time, or failed.
    """
    with self._lock:
      if since is not None and (self._process is None or since != self.starts):
        raise BrokenEnvironmentError(f'the {self._engine} game process has ended, and its games')
      if self._process is None:
        self._start()
      starting = request['op'] in ('describe', 'start')
      seconds = self._limits.start_seconds if starting else self._limits.call_seconds
      try:
        return self._process.ask(seconds, **request)
      except BrokenEnvironmentError:
        self._process = None
        raise

  def close(self) -> None:
    """Ends the engine; a later request starts another."""
    with self._lock:
      self._stop()

  def _start(self) -> None:
    command = _command(self._engine, self._limits)
    self._process = asking.Process(f'{self._engine} game process', command)
    self.starts += 1

  def _stop(self) -> None:
    if self._process is not None:
      self._process.stop()
      self._process = None


_hosts = {engine: Host(engine) for engine in ENGINES}
atexit.register(lambda: close_all())


def shared(engine: str) -> Host:
  """This process's host of an engine."""
  return _hosts[engine]


def close_all() -> None:
  """Ends this process's hosts; they start again where they are asked."""
  for host in _hosts.values():
    host.close()


@functools.lru_cache(maxsize=4096)
def _described(engine: str, game: str) -> str:
  for attempt in range(_ATTEMPTS):
    try:
      return json.dumps(shared(engine).request(op='describe', game=json.loads(game)))
    except BrokenEnvironmentError:
      if attempt == _ATTEMPTS - 1:
        raise
  raise AssertionError


def describe(engine: str, game: dict[str, Any]) -> dict[str, Any]:
  """What the engine says of a game, a function of the game alone; remembered.

  Returns:
    'instruction', 'opening' (the first text of the game), 'state', and 'plan', the commands that
    win it.
  """
  return json.loads(_described(engine, json.dumps(game, sort_keys=True)))


def missing(engine: str) -> str:
  """What has to be installed for an engine, as a sentence; '' where nothing is missing."""
  if shutil.which('bwrap') is None:
    return 'bwrap not found: apt-get install -y bubblewrap'
  if importlib.util.find_spec(_PACKAGES[engine]) is None:
    return f'the package {_PACKAGES[engine]!r} is not installed: {INSTALL}'
  if engine in _JAVA and shutil.which('java') is None:
    return 'java not found: apt-get install -y default-jre-headless'
  return ''


def _command(engine: str, limits: Limits) -> list[str]:
  """The command line of an engine in its sandbox. Raises MissingProgramError."""
  problem = missing(engine)
  if problem:
    raise MissingProgramError(problem)
  uid = 200_000 + os.getpid() if os.geteuid() == 0 else 0
  packages = os.path.dirname(os.path.dirname(
      importlib.util.find_spec(_PACKAGES[engine]).origin))
  code = '/opt/games/aw_jax/environments'
  binds = {folder: folder for folder in bubblewrap.python_folders([packages])}
  binds |= {f'{code}/{name}': os.path.join(_HERE, name)
            for name in ('answering.py', 'game_engines')}
  binds |= {folder: folder for folder in glob.glob('/etc/java*')}  # Debian keeps settings there
  path = '/usr/bin:/bin'
  if engine in _JAVA:
    path = f'{os.path.dirname(os.path.realpath(shutil.which("java")))}:{path}'
  variables = {
      'HOME': '/tmp', 'PATH': path, 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8', 'PYTHONHASHSEED': '0',
      'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONPATH': f'/opt/games:{packages}',
      'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '2',
      'JAVA_TOOL_OPTIONS': _JAVA_OPTIONS}
  command = bubblewrap.arguments(uid, limits.disk_bytes, binds, variables)
  settings = {
      'engine': engine, 'uid': uid,
      'limits': {'AS': limits.memory_bytes, 'NPROC': limits.processes,
                 'FSIZE': limits.disk_bytes, 'CORE': 0, 'NOFILE': 256}}
  return [*command, '--remount-ro', '/', '--chdir', '/tmp', '--', sys.executable, '-P', '-B',
          '-m', f'{_MODULE}.serve', json.dumps(settings)]
