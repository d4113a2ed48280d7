"""Run as a script inside bubblewrap, never imported: confines itself, then becomes a program.

    python confine.py SETTINGS PROGRAM ARGUMENT...

SETTINGS is JSON: 'limits' (name of an RLIMIT_ -> value), 'uid' (to drop to, 0 to stay), 'filter'
(the system calls that are refused, see seccomp.py, in base64). All of it holds for the program and
whatever that starts.
"""

import base64
import ctypes
import json
import os
import resource
import sys

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_INSTRUCTION_BYTES = 8


class _Program(ctypes.Structure):
  """`struct sock_fprog` of linux/filter.h."""

  _fields_ = (('length', ctypes.c_ushort), ('instructions', ctypes.c_char_p))


def _refuse_calls(code):
  """Loads a filter; bubblewrap has set no_new_privs, without which only root may."""
  program = _Program(len(code) // _INSTRUCTION_BYTES, code)
  library = ctypes.CDLL(None, use_errno=True)
  if library.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0):
    raise OSError(ctypes.get_errno(), 'the filter of system calls was not taken')


def main():
  """Confines this process and executes the program."""
  settings, program = json.loads(sys.argv[1]), sys.argv[2:]
  for name, value in settings['limits'].items():
    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (value, value))
  if settings['uid']:
    os.setgroups([])
    os.setgid(settings['uid'])
    os.setuid(settings['uid'])
  os.umask(0o022)
  _refuse_calls(base64.b64decode(settings['filter']))
  os.execv(program[0], program)


if __name__ == '__main__':
  main()
