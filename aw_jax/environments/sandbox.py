"""A bubblewrap sandbox that runs an agent's shell commands.

What is inside: no network, a home directory and a /tmp in capped memory file systems, /usr read
only, an /etc of our own with the user `agent`, nothing else of the host; system calls that reach
past the namespaces or the limits are refused (seccomp.py). Started by root, it drops to an
unprivileged uid first, because limits on processes do not bind root. One process inside
(sandbox_driver.py) restores the pristine state between episodes, serves commands and watches what
all processes use together; anything unexpected ends the whole sandbox and the next reset starts a
new one. tests/environments/test_red_team.py holds the attacks that it is known to withstand.

Deterministic for a seed: time zone, locale, host name, `date` (a shim with a fixed clock), RANDOM,
modification times, git's dates and identity. Not deterministic, and not hidden: process ids, inode
numbers, the clock that python and /proc show.
"""

import contextlib
import dataclasses
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from aw_jax.environments import bubblewrap, seccomp, terminal_state
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError

HOME = '/home/agent'
_SCRATCH = ('/tmp', '/dev/shm', os.path.dirname(HOME))  # writable too
_DRIVER = '/opt/driver'
_MAX_ANSWER_BYTES = 16 << 20
_HERE = os.path.dirname(os.path.abspath(__file__))
_SOURCES = {  # ours -> where it lies in the driver's folder, so that imports are the same inside
    'sandbox_driver.py': 'driver.py',
    'screen_driver.py': 'screen.py',
    'terminal_state.py': 'aw_jax/environments/terminal_state.py',
}
_DATE = f"""#!/bin/bash
# The clock stands still, so that a world is a function of its seed.
for argument; do
  case $argument in -d*|--date*|-r*|--reference*|-s*|--set*) exec /usr/bin/date "$@";; esac
done
exec /usr/bin/date -d @{terminal_state.MTIME} "$@"
"""
_ETC = {
    'passwd': f'agent:x:1000:1000:agent:{HOME}:/bin/bash\n',
    'group': 'agent:x:1000:\n',
    'hosts': '127.0.0.1 localhost\n',
    'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files\n',
    'gitconfig': (
        '[user]\nname = agent\nemail = agent@localhost\n[init]\ndefaultBranch = main\n'
        'templateDir = /opt/empty\n[gc]\nauto = 0\n[core]\npager = cat\nfsync = none\n'),
}
_ENVIRONMENT = {
    'HOME': HOME, 'USER': 'agent', 'LOGNAME': 'agent', 'SHELL': '/bin/bash', 'TERM': 'dumb',
    'PATH': '/opt/bin:/usr/bin:/bin', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8', 'PAGER': 'cat',
    'PYTHONHASHSEED': '0', 'PYTHONDONTWRITEBYTECODE': '1', 'GIT_PAGER': 'cat', 'GIT_EDITOR': 'true',
    'GIT_AUTHOR_DATE': f'{terminal_state.MTIME} +0000',
    'GIT_COMMITTER_DATE': f'{terminal_state.MTIME} +0000',
}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What an agent may use.

  Attributes:
    seconds: wall-clock time of one command.
    cpu_seconds: CPU time of one process.
    memory_bytes: address space of one process.
    total_memory_bytes: memory that all of them may have, sockets at 4 MiB each among it; they are
      killed at a little more.
    processes: processes and threads at a time.
    file_bytes: size of one file.
    disk_bytes: size of the home directory; /tmp and /dev/shm have as much again.
    files: files and directories in each of these; a little more, and the sandbox breaks.
    output_bytes: what is kept of one command's output; the rest is read and thrown away.
  """

  seconds: float = 5.0
  cpu_seconds: int = 10
  memory_bytes: int = 256 << 20
  total_memory_bytes: int = 512 << 20
  processes: int = 32
  file_bytes: int = 8 << 20
  disk_bytes: int = 32 << 20
  files: int = 10_000
  output_bytes: int = 16_000


@dataclasses.dataclass(frozen=True)
class Result:
  """What a command did.

  Attributes:
    output: stdout and stderr as they came, at most `Limits.output_bytes`.
    cwd: the working directory after it, '~' for home.
    killed_for: 'time' or 'memory' where everything was killed because it took more than it may,
      'shell' where the agent killed its own shell, else ''; the shell is then a fresh one.
    state: the home directory as text (terminal_state.render).
    touched: paths below home that are not as they were in the initial state.
  """

  output: str
  cwd: str
  killed_for: str
  state: str
  touched: list[str]


@dataclasses.dataclass(frozen=True)
class Contained:
  """What a command did whose processes all ended with it.

  Attributes:
    output: stdout and stderr as they came, at most `Limits.output_bytes`.
    killed_for: 'time' or 'memory' where it took more than it may, 'shell' where it killed the shell
      that it ran in, else ''.
    changes: path below home -> text of every file that is not as in the initial state, None where
      it is gone; a file that is no text, cannot be read or is too long is described in brackets.
    initial: whether home, /tmp and /dev/shm are as in the initial state.
  """

  output: str
  killed_for: str
  changes: dict[str, str | None]
  initial: bool


class Sandbox:
  """One bubblewrap with its driver; started by the first `reset`.

  `files` (absolute path -> content) can be read inside too, and never written.

  Methods raise BrokenEnvironmentError where the sandbox died or does not answer, after which
  `reset` starts a new one; the first `reset` raises MissingProgramError where bwrap or python3 is
  missing or bwrap is not permitted to start.
  """

  def __init__(self, limits: Limits | None = None, files: Mapping[str, bytes] | None = None):
    self._limits, self._files = limits or Limits(), dict(files or {})
    self._process: subprocess.Popen | None = None
    self._errors = None
    self._has_started = False

  def reset(self, setup: dict[str, Any], seed: int) -> str:
    """Builds the initial state of a task's setup; returns it as text.

    Args:
      setup: 'files' (path -> text, with surrogates for bytes that are none), 'modes' (path ->
        octal), 'dirs' (paths), 'commands' (run once).
      seed: of bash's RANDOM.
    """
    request = {
        'op': 'reset', 'files': setup.get('files', {}), 'modes': setup.get('modes', {}),
        'dirs': list(setup.get('dirs', ())), 'commands': list(setup.get('commands', ())),
        'seed': seed % 32768, 'limit': self._limits.seconds}
    if self._process is not None:
      # The episode before may have broken it; this one is not to blame, and gets a new one.
      with contextlib.suppress(BrokenEnvironmentError):
        return self._request(**request)['state']
    self._start()
    self._check_start()
    return self._request(**request)['state']

  def run(self, command: str) -> Result:
    """Runs `command` in the episode's shell."""
    return Result(**self._request(op='run', command=command, limit=self._limits.seconds))

  def probe(self, command: str) -> Result:
    """Runs `command` in a fresh shell on a fresh copy of the initial state."""
    return Result(**self._request(op='probe', command=command, limit=self._limits.seconds))

  def verify(self, command: str) -> Result:
    """Runs `command` in a fresh shell on the state as it is, with nothing else running."""
    return Result(**self._request(op='verify', command=command, limit=self._limits.seconds))

  def call(self, command: str, fresh: bool = False) -> Contained:
    """Runs `command` in a shell of its own, which nothing that it starts outlives.

    Args:
      command: for bash.
      fresh: on a copy of the initial state, not on the state as it is.
    """
    return Contained(**self._request(
        op='call', command=command, limit=self._limits.seconds, fresh=fresh))

  def close(self) -> None:
    """Ends the sandbox and everything in it."""
    if self._process is not None:
      self._process.kill()  # bwrap's --die-with-parent takes the rest down
      self._process.communicate()
      self._process = None
      self._errors.close()

  def _start(self) -> None:
    # In memory, for the disk may be full.
    self._errors = open(os.memfd_create('errors'), 'w+b')  # noqa: SIM115
    arguments, descriptors = _arguments(self._limits, self._files)
    try:
      self._process = subprocess.Popen(
          arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
          pass_fds=descriptors, cwd='/', env={}, **_unprivileged())
      os.set_blocking(self._process.stdin.fileno(), False)
    except OSError as error:
      raise MissingProgramError(f'bwrap does not start: {error}') from error
    finally:
      for descriptor in descriptors:
        os.close(descriptor)

  def _check_start(self) -> None:
    try:
      self._request(op='ping')
      self._has_started = True
    except BrokenEnvironmentError as error:
      if self._has_started:
        raise
      raise MissingProgramError(
          f'bwrap cannot start here, it needs version 0.8 and user namespaces: {error}') from error

  def _request(self, **request: Any) -> dict[str, Any]:
    if self._process is None:
      raise BrokenEnvironmentError('the sandbox is not running; reset it first')
    data = json.dumps(request).encode()
    deadline = time.monotonic() + 4 * self._limits.seconds + 20
    try:
      self._write(len(data).to_bytes(4, 'big') + data, deadline)
      size = int.from_bytes(self._read(4, deadline), 'big')
      if size > _MAX_ANSWER_BYTES:
        raise OSError(f'an answer of {size} bytes')
      answer = json.loads(self._read(size, deadline))
    except (OSError, ValueError) as error:
      raise self._broken(str(error)) from error
    if 'error' in answer:
      raise self._broken(answer['error'])
    return answer

  def _write(self, data: bytes, deadline: float) -> None:
    descriptor = self._process.stdin.fileno()
    while data:
      if not select.select([], [descriptor], [], max(0.0, deadline - time.monotonic()))[1]:
        raise OSError('no request taken in time')
      data = data[os.write(descriptor, data):]

  def _read(self, size: int, deadline: float) -> bytes:
    descriptor = self._process.stdout.fileno()
    data = b''
    while len(data) < size:
      if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        raise OSError('no answer in time')
      piece = os.read(descriptor, size - len(data))
      if not piece:
        raise OSError('it ended')
      data += piece
    return data

  def _broken(self, reason: str) -> BrokenEnvironmentError:
    self._process.kill()
    self._process.wait()
    self._errors.seek(0)
    said = self._errors.read(4000).decode('utf-8', 'replace').strip().split('\n')[-1]
    self.close()
    return BrokenEnvironmentError(f'the sandbox broke: {reason}' + (f' ({said})' if said else ''))


def _unprivileged() -> dict[str, Any]:
  """How Popen drops root: a uid of this process's own, so that sandboxes do not share limits."""
  if os.geteuid() != 0:
    return {}
  uid = 20_000 + os.getpid() % 40_000
  return {'user': uid, 'group': uid, 'extra_groups': []}


def _arguments(limits: Limits, more: Mapping[str, bytes]) -> tuple[list[str], list[int]]:
  """The bwrap command line and the descriptors it reads files from."""
  bwrap = shutil.which('bwrap')
  if bwrap is None:
    raise MissingProgramError('bwrap not found: apt-get install -y bubblewrap')
  python, prefix = python_inside()
  arguments = [
      bwrap, '--unshare-all', '--unshare-user', '--disable-userns', '--uid', '1000',
      '--gid', '1000', '--hostname', 'world', '--die-with-parent', '--new-session', '--clearenv',
      '--cap-drop', 'ALL', '--as-pid-1',
      '--ro-bind', '/usr', '/usr', '--proc', '/proc', '--dev', '/dev', '--remount-ro', '/dev',
      '--dir', '/opt/empty',
      '--ro-bind-try', '/etc/alternatives', '/etc/alternatives']  # links: awk is one through it
  for folder in (*_SCRATCH, HOME):
    arguments += ['--size', str(limits.disk_bytes), '--tmpfs', folder]
  for folder in ('/bin', '/sbin', '/lib', '/lib64', '/lib32'):
    if os.path.islink(folder):
      arguments += ['--symlink', os.readlink(folder), folder]
    elif os.path.isdir(folder):
      arguments += ['--ro-bind', folder, folder]
  if prefix is not None:
    arguments += ['--ro-bind', prefix, prefix, '--symlink', python, '/opt/bin/python3']
  descriptors = [bubblewrap.readable(seccomp.program())]
  arguments += ['--seccomp', str(descriptors[0])]
  for path, content, mode in _files() + [(path, data, '0444') for path, data in more.items()]:
    descriptors.append(bubblewrap.readable(content))
    arguments += ['--perms', mode, '--ro-bind-data', str(descriptors[-1]), path]
  for name, value in _ENVIRONMENT.items():
    arguments += ['--setenv', name, value]
  rlimits = {'AS': limits.memory_bytes, 'NPROC': limits.processes, 'FSIZE': limits.file_bytes,
             'CPU': limits.cpu_seconds, 'CORE': 0, 'NOFILE': 256}
  settings = {'home': HOME, 'scratch': (*_SCRATCH, HOME), 'limits': rlimits,
              'cap': limits.output_bytes, 'memory': limits.total_memory_bytes,
              'files': limits.files}
  arguments += ['--remount-ro', '/', '--chdir', HOME, '--', python, '-S', '-B',
                f'{_DRIVER}/driver.py', json.dumps(settings)]
  return arguments, descriptors


def _files() -> list[tuple[str, bytes, str]]:
  """(path, content, permissions) of the files of ours inside."""
  files = [(f'/etc/{name}', text.encode(), '0444') for name, text in _ETC.items()]
  files.append(('/opt/bin/date', _DATE.encode(), '0555'))
  bash = shutil.which('bash')
  if bash is None:
    raise MissingProgramError('bash not found: apt-get install -y bash')
  sources = [(os.path.join(_HERE, name), path, '0444') for name, path in _SOURCES.items()]
  for source, path, mode in (*sources, (bash, 'bash', '0111')):
    with open(source, 'rb') as file:
      files.append((f'{_DRIVER}/{path}', file.read(), mode))
  return files


def python_inside() -> tuple[str, str | None]:
  """A python3 that the sandbox can run, and its prefix where that lies outside /usr."""
  for path in ('/usr/bin/python3', '/usr/local/bin/python3'):
    if os.path.exists(path):
      return path, None
  prefix = os.path.realpath(sys.base_prefix)
  folders = [prefix]
  while folders[-1] != '/':
    folders.append(os.path.dirname(folders[-1]))
  path = os.path.join(prefix, 'bin', 'python3')
  if os.path.exists(path) and (
      os.geteuid() != 0 or all(os.stat(folder).st_mode & 0o005 == 0o005 for folder in folders)):
    return path, prefix
  raise MissingProgramError(
      'no python3 that an unprivileged user can run was found: apt-get install -y python3')
