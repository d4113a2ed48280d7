"""The tool servers: what each needs, and the command line that starts it in its sandbox.

What is inside a sandbox: no network, the server's program, the Python environment and /usr read
only, the directory of the episode's state, a small /tmp, no other process, an unprivileged user
whose dangerous system calls are refused (seccomp.py), limits on memory, processes and file size.
"""

import dataclasses
import importlib.util
import os
import shutil
import sys

from aw_jax.environments import benchmark_servers, bubblewrap, npm_servers
from aw_jax.environments.base import MissingProgramError

MOUNT = '/scratch'  # where a server sees its scratch directory
WORLD = 'world'  # the directory in it that holds the episode's state
INSIDE = f'{MOUNT}/{WORLD}'  # that directory as a server sees it
_SERVERS_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'servers')
_PACKAGES = {'shop': 'mcp', 'git': 'mcp_server_git', 'time': 'mcp_server_time',
             'search': 'tantivy'}
_INSTALL = {'mcp': "pip install 'mcp>=2.3,<3'", 'mcp_server_git': 'pip install mcp-server-git',
            'mcp_server_time': 'pip install mcp-server-time',
            'tantivy': "pip install -e '.[search]'"}
_DATE = '1705312800 +0000'  # 2024-01-15 10:00:00 UTC, as in git_files.py
_ENVIRONMENT = {'HOME': '/tmp', 'PATH': '/usr/bin:/bin', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8'}
_PYTHON_ENVIRONMENT = {
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
class _Program:
  """What runs in a sandbox.

  Attributes:
    binds: path inside -> path on the host.
    variables: the environment, besides `_ENVIRONMENT`.
    command: a path inside and its arguments.
    address_bytes: its address space, where `Limits.memory_bytes` is not the bound of that.
  """

  binds: dict[str, str]
  variables: dict[str, str]
  command: list[str]
  address_bytes: int = 0


def missing(name: str) -> str:
  """What has to be installed for a server, as a sentence; '' where nothing is missing."""
  if shutil.which('bwrap') is None:
    return 'bwrap not found: apt-get install -y bubblewrap'
  if name == 'git' and shutil.which('git') is None:
    return 'git not found: apt-get install -y git'
  for package in ('mcp', _PACKAGES.get(name, 'mcp')):
    if importlib.util.find_spec(package) is None:
      return f'the package {package!r} is not installed: {_INSTALL[package]}'
  if name in npm_servers.SERVERS:
    return npm_servers.missing(name)
  return benchmark_servers.missing(name) if name in benchmark_servers.SERVERS else ''


def command(name: str, scratch: str, uid: int, limits: Limits) -> list[str]:
  """The command line of a server in its sandbox.

  Args:
    name: which server.
    scratch: the directory on the host whose directory `WORLD` is the episode's state.
    uid: that it drops to, 0 where this process is not root.
    limits: see there.
  Raises:
    MissingProgramError: naming the line that installs what is missing.
  """
  problem = missing(name)
  if problem:
    raise MissingProgramError(problem)
  program = _program(name)
  arguments = bubblewrap.arguments(
      uid, limits.file_bytes, program.binds, _ENVIRONMENT | program.variables)
  arguments += ['--bind', scratch, MOUNT, '--symlink', INSIDE, '/repo']
  confined = bubblewrap.confined(
      uid, {'AS': program.address_bytes or limits.memory_bytes, 'NPROC': limits.processes,
            'FSIZE': limits.file_bytes}, program.command)
  return [*arguments, '--remount-ro', '/', '--chdir', '/', *confined]


def _program(name: str) -> _Program:
  if name in npm_servers.SERVERS:
    return _Program({**_python_binds([]), **npm_servers.binds()},
                    npm_servers.variables(name, INSIDE), npm_servers.command(name, INSIDE),
                    npm_servers.ADDRESS_BYTES)
  if name in benchmark_servers.SERVERS:
    return _Program({**_python_binds([]), **benchmark_servers.binds()},
                    benchmark_servers.variables(), benchmark_servers.command(name, INSIDE))
  packages = _package_folders()
  return _Program(
      {**_python_binds(packages), '/opt/servers': _SERVERS_FOLDER},
      _PYTHON_ENVIRONMENT | _git_settings() | {'PYTHONPATH': ':'.join(packages)},
      [sys.executable, '-P', '-B', '/opt/servers/launch.py', name, INSIDE])


def _python_binds(packages: list[str]) -> dict[str, str]:
  """This interpreter, in which every sandbox begins, and packages."""
  return {folder: folder for folder in bubblewrap.python_folders(packages)}


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
