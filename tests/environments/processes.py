"""The processes behind an environment: which to kill, and whether any is left."""

import contextlib
import os
import pathlib


def descendants(pid):
  """Processes below `pid`."""
  parents = {}
  for name in os.listdir('/proc'):
    if name.isdigit():
      try:
        with open(f'/proc/{name}/stat', encoding='utf-8') as file:
          parents[int(name)] = int(file.read().rpartition(')')[2].split()[1])
      except (FileNotFoundError, ProcessLookupError):
        continue
  found, new = set(), {pid}
  while new:
    new = {child for child, parent in parents.items() if parent in new}
    found |= new
  return found


def server_process(environment):
  """The process of the server that an environment is using, inside its own sandbox."""
  scratch = environment._server.scratch.path
  commands = {}
  for pid in descendants(os.getpid()):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended since listed
      commands[pid] = pathlib.Path(f'/proc/{pid}/cmdline').read_text(encoding='utf-8')
  sandboxes = {pid for pid, command in commands.items() if f'\0{scratch}\0' in command}
  inside = {child for sandbox in sandboxes for child in descendants(sandbox)} - sandboxes
  server, = inside
  return server
