"""The sandbox of a program of ours that answers requests: an MCP server, a game's engine."""

import base64
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from aw_jax.environments import seccomp

_CONFINE = '/opt/confine.py'


def arguments(
    uid: int, tmp_bytes: int, binds: Mapping[str, str], variables: Mapping[str, str]) -> list[str]:
  """The first part of a bwrap command line: no network, /usr and `binds` read only, little else.

  Args:
    uid: that the program drops to itself, 0 where bwrap is not started by root: limits do not bind
      root.
    tmp_bytes: size of /tmp, in memory.
    binds: path inside -> path on the host.
    variables: the whole environment.
  """
  command = [
      shutil.which('bwrap'), '--unshare-net', '--unshare-pid', '--unshare-ipc', '--unshare-uts',
      '--unshare-cgroup-try', '--hostname', 'world', '--die-with-parent', '--new-session',
      '--clearenv', '--cap-drop', 'ALL']
  if uid:
    command += ['--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID']
  else:
    command += ['--unshare-user', '--disable-userns', '--uid', '1000', '--gid', '1000']
  command += ['--ro-bind', '/usr', '/usr']
  for folder in ('/bin', '/sbin', '/lib', '/lib64', '/lib32'):
    if os.path.islink(folder):
      command += ['--symlink', os.readlink(folder), folder]
    elif os.path.isdir(folder):
      command += ['--ro-bind', folder, folder]
  command += ['--proc', '/proc', '--dev', '/dev', '--size', str(tmp_bytes),
              '--perms', '1777', '--tmpfs', '/tmp']
  script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'confine.py')
  for target, source in (dict(binds) | {_CONFINE: script}).items():
    parts = target.split('/')
    for i in range(2, len(parts)):  # bwrap would keep them to itself
      command += ['--perms', '755', '--dir', '/'.join(parts[:i])]
    command += ['--ro-bind', source, target]
  for variable, value in variables.items():
    command += ['--setenv', variable, value]
  return command


def confined(
    uid: int, limits: Mapping[str, int], program: Sequence[str], python: str = sys.executable
) -> list[str]:
  """The last part of a bwrap command line: `program`, without rights and within limits.

  Args:
    uid: as in `arguments`.
    limits: name of an RLIMIT_ -> value; 'CORE' and 'NOFILE' are set where they are not given.
    program: an absolute path inside and its arguments.
    python: that can run inside.
  Raises:
    MissingProgramError: where the machine's system calls are not known.
  """
  settings = {
      'uid': uid, 'limits': {'CORE': 0, 'NOFILE': 256, **limits},
      'filter': base64.b64encode(seccomp.program()).decode()}
  return ['--', python, '-P', '-B', _CONFINE, json.dumps(settings), *program]


def python_folders(packages: Sequence[str]) -> list[str]:
  """Where this interpreter and packages lie outside /usr, each seen at the same path inside."""
  folders = []
  for folder in (sys.base_prefix, os.path.realpath(sys.base_prefix), sys.prefix, *packages):
    within = any(folder == known or folder.startswith(known + '/') for known in ('/usr', *folders))
    if not within:
      folders.append(folder)
  return folders


def readable(content: bytes) -> int:
  """A descriptor from which `content` can be read to its end."""
  descriptor = os.memfd_create('aw_jax')
  os.write(descriptor, content)
  os.lseek(descriptor, 0, os.SEEK_SET)
  return descriptor
