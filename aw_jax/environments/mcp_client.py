"""An MCP server in a bubblewrap sandbox, and the SDK's asynchronous client behind plain calls.

What is inside a sandbox: no network, the Python environment and /usr read only, the directory of
the episode's state, a small /tmp, no other process, an unprivileged user, limits on memory,
processes and file size. A server stays alive for many episodes; whoever owns it changes the files
of its state between calls.
"""

import asyncio
import concurrent.futures
import dataclasses
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import threading
from typing import Any

from aw_jax.environments import bubblewrap
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError

MOUNT = '/scratch'  # where a server sees its scratch directory
WORLD = 'world'  # the directory in it that holds the episode's state
_SERVERS_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'servers')
_PACKAGES = {'shop': 'mcp', 'git': 'mcp_server_git', 'time': 'mcp_server_time',
             'search': 'tantivy'}
_INSTALL = {'mcp': "pip install 'mcp>=2.3,<3'", 'mcp_server_git': 'pip install mcp-server-git',
            'mcp_server_time': 'pip install mcp-server-time',
            'tantivy': "pip install -e '.[search]'"}
_DATE = '1705312800 +0000'  # 2024-01-15 10:00:00 UTC, as in git_files.py
_ENVIRONMENT = {
    'HOME': '/tmp', 'PATH': '/usr/bin:/bin', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8',
    'PYTHONDONTWRITEBYTECODE': '1', 'PYTHONHASHSEED': '0', 'MALLOC_ARENA_MAX': '2',
    'GIT_AUTHOR_NAME': 'agent', 'GIT_AUTHOR_EMAIL': 'agent@localhost', 'GIT_AUTHOR_DATE': _DATE,
    'GIT_COMMITTER_NAME': 'agent', 'GIT_COMMITTER_EMAIL': 'agent@localhost',
    'GIT_COMMITTER_DATE': _DATE, 'GIT_CONFIG_NOSYSTEM': '1',
    'GIT_TERMINAL_PROMPT': '0', 'GIT_PAGER': 'cat'}
_GIT_SETTINGS = {'core.fsync': 'none', 'gc.auto': '0', 'advice.statusHints': 'false'}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a server may use.

  Attributes:
    start_seconds: wall-clock time to start.
    call_seconds: wall-clock time of one call.
    memory_bytes: address space of one process.
    processes: processes and threads at a time.
    file_bytes: size of one file.
  """

  start_seconds: float = 60.0
  call_seconds: float = 20.0
  memory_bytes: int = 2 << 30
  processes: int = 128
  file_bytes: int = 8 << 20


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a tool answered.

  Attributes:
    text: the text of its content.
    is_error: whether the server reports an error.
    read_only: whether the state is certainly as before.
  """

  text: str
  is_error: bool = False
  read_only: bool = False


class Scratch:
  """The directory that a server works in; its episode's state is the directory `world` in it."""

  def __init__(self, uid: int):
    self._uid = uid
    self._temporary = tempfile.TemporaryDirectory(prefix='aw_jax_mcp_', ignore_cleanup_errors=True)
    self.path = os.path.join(self._temporary.name, 'scratch')
    os.mkdir(self.path)
    self.world = os.path.join(self.path, WORLD)

  def put(self, files: dict[str, bytes]) -> None:
    """Makes `files` (path -> content) the whole state."""
    shutil.rmtree(self.world, ignore_errors=True)
    folders = {''}
    for path in files:
      while '/' in path:
        path = path.rpartition('/')[0]
        folders.add(path)
    made = [os.path.join(self.world, folder) for folder in sorted(folders)]
    for folder in made:
      os.mkdir(folder)
    for path, content in files.items():
      made.append(os.path.join(self.world, path))
      with open(made[-1], 'wb') as file:
        file.write(content)
    if self._uid:
      for path in made:
        os.chown(path, self._uid, self._uid)

  def place(self, name: str, folder: str) -> None:
    """Copies a directory of files, to stay beside the states; the server may write in it."""
    target = os.path.join(self.path, name)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    if self._uid:
      for path in (target, *(os.path.join(target, file) for file in os.listdir(target))):
        os.chown(path, self._uid, self._uid)

  def move(self, source: str, target: str) -> None:
    """Renames a state kept beside the current one; the target is replaced."""
    target = os.path.join(self.path, target)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(os.path.join(self.path, source), target)

  def close(self) -> None:
    """Removes the directory."""
    self._temporary.cleanup()


class Server:
  """One sandboxed server and its scratch directory.

  Methods raise BrokenEnvironmentError where the server died or did not answer in time; it is then
  stopped, and `start` starts another.
  """

  def __init__(self, name: str, limits: Limits = Limits()):
    self._name, self._limits = name, limits
    self._uid = 100_000 + os.getpid() if os.geteuid() == 0 else 0
    self.scratch = Scratch(self._uid)
    self._thread: threading.Thread | None = None
    self._read_only: dict[str, bool] = {}  # tool -> whether the server declares it so

  def start(self) -> None:
    """Starts the server unless it runs; its state must have been put.

    Raises:
      MissingProgramError: naming the line that installs what is missing.
      BrokenEnvironmentError: where it does not start.
    """
    if self._thread is not None:
      self._errors.truncate(0)  # a server's log is of use for one episode
      return
    command = _command(self._name, self.scratch.path, self._uid, self._limits)
    self._errors = tempfile.TemporaryFile('a+')  # noqa: SIM115  # lives as long as the server
    self._ready = concurrent.futures.Future()
    self._thread = threading.Thread(
        target=lambda: asyncio.run(self._serve(command)), name=f'mcp {self._name}', daemon=True)
    self._thread.start()
    try:
      self._ready.result(self._limits.start_seconds)
    except Exception as error:
      raise self._broken('did not start', error) from error

  def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
    """Calls a tool; an error of the tool, or an unknown tool, is an answer too."""
    if self._thread is None:
      raise BrokenEnvironmentError(f'the {self._name} server is not running; reset it first')
    from mcp.shared.exceptions import MCPError
    from mcp.types import CONNECTION_CLOSED
    read_only = self._read_only.get(tool, True)  # a tool that is not there changes nothing
    call = asyncio.run_coroutine_threadsafe(self._session.call_tool(tool, arguments), self._loop)
    try:
      result = call.result(self._limits.call_seconds)
    except TimeoutError as error:
      raise self._broken('did not answer in time', error) from error
    except MCPError as error:
      if error.error.code == CONNECTION_CLOSED:
        raise self._broken('ended', error) from error
      return Answer(error.error.message, True, read_only)
    except Exception as error:  # an answer that is none, or a loop that has ended
      raise self._broken('failed', error) from error
    text = '\n'.join(part.text for part in result.content if part.type == 'text')
    is_error = getattr(result, 'is_error', getattr(result, 'isError', False))
    return Answer(text, is_error, read_only)

  def stop(self) -> None:
    """Ends the server; the scratch directory stays."""
    if self._thread is None:
      return
    if self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None:
      self._loop.call_soon_threadsafe(self._stop.set)
    self._thread.join(timeout=15)
    self._thread = None
    self._errors.close()

  def close(self) -> None:
    """Ends the server and removes its directory."""
    self.stop()
    self.scratch.close()

  async def _serve(self, command: list[str]) -> None:
    """Connects, and stays connected until it is told to stop."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], cwd='/', encoding_error_handler='replace')
    try:
      async with asyncio.timeout(None) as timeout:
        timeout.reschedule(self._loop.time() + self._limits.start_seconds)
        async with stdio_client(parameters, self._errors) as streams:
          async with ClientSession(*streams) as session:
            await session.initialize()
            listed = await session.list_tools()
            timeout.reschedule(None)
            self._session = session
            self._read_only = {tool.name: _declares_read_only(tool) for tool in listed.tools}
            self._ready.set_result(None)
            await self._stop.wait()
    except BaseException as error:  # whatever it is, whoever waits in `start` must hear of it
      if not self._ready.done():
        self._ready.set_exception(BrokenEnvironmentError(repr(error)))

  def _broken(self, what: str, error: Exception) -> BrokenEnvironmentError:
    self._errors.seek(0)
    said = self._errors.read(10_000).strip().split('\n')[-1]
    self.stop()
    reason = said or str(error) or repr(error)
    return BrokenEnvironmentError(f'the {self._name} server {what} ({reason})')


def missing(name: str) -> str:
  """What has to be installed for a server, as a sentence; '' where nothing is missing."""
  if shutil.which('bwrap') is None:
    return 'bwrap not found: apt-get install -y bubblewrap'
  if name == 'git' and shutil.which('git') is None:
    return 'git not found: apt-get install -y git'
  for package in ('mcp', _PACKAGES[name]):
    if importlib.util.find_spec(package) is None:
      return f'the package {package!r} is not installed: {_INSTALL[package]}'
  return ''


def _declares_read_only(tool: Any) -> bool:
  hints = tool.annotations
  return bool(hints and getattr(hints, 'read_only_hint', getattr(hints, 'readOnlyHint', False)))


def _command(name: str, scratch: str, uid: int, limits: Limits) -> list[str]:
  """The command line of a server in its sandbox. Raises MissingProgramError."""
  problem = missing(name)
  if problem:
    raise MissingProgramError(problem)
  packages = _package_folders()
  binds = {folder: folder for folder in bubblewrap.python_folders(packages)}
  binds |= {'/opt/servers': _SERVERS_FOLDER}
  variables = _ENVIRONMENT | _git_settings() | {'PYTHONPATH': ':'.join(packages)}
  command = bubblewrap.arguments(uid, limits.file_bytes, binds, variables)
  command += ['--bind', scratch, MOUNT, '--symlink', f'{MOUNT}/{WORLD}', '/repo']
  settings = {
      'server': name, 'uid': uid, 'world': f'{MOUNT}/{WORLD}',
      'limits': {'AS': limits.memory_bytes, 'NPROC': limits.processes,
                 'FSIZE': limits.file_bytes, 'CORE': 0, 'NOFILE': 256}}
  return [*command, '--remount-ro', '/', '--chdir', '/', '--', sys.executable, '-P', '-B',
          '/opt/servers/launch.py', json.dumps(settings)]


def _git_settings() -> dict[str, str]:
  """`_GIT_SETTINGS` as the environment variables that git reads."""
  variables = {'GIT_CONFIG_COUNT': str(len(_GIT_SETTINGS))}
  for i, (key, value) in enumerate(_GIT_SETTINGS.items()):
    variables |= {f'GIT_CONFIG_KEY_{i}': key, f'GIT_CONFIG_VALUE_{i}': value}
  return variables


def _package_folders() -> list[str]:
  """Where the servers' packages are installed."""
  found = [importlib.util.find_spec(name) for name in _PACKAGES.values()]
  return sorted({os.path.dirname(os.path.dirname(spec.origin)) for spec in found if spec})
