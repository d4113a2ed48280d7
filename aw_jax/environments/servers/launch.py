"""The first process in the sandbox of an MCP server: sets limits, drops root, becomes the server.

Run as a script inside bubblewrap (mcp_client.py), never imported. Its one argument is JSON:
'server' ('shop', 'search', 'git' or 'time'), 'limits' (name of an RLIMIT_ -> value), 'uid' (to drop
to, 0 to stay), 'world' (the directory of the episode's state).
"""

import datetime
import importlib
import json
import logging
import os
import resource
import runpy
import sys

_STATES = {'shop': 'shop.db', 'search': 'collection.json'}  # server of ours -> the file it works on


def _confine(limits, uid):
  for name, value in limits.items():
    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (value, value))
  if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
  os.umask(0o022)


def _run_module(name, *arguments):
  sys.argv = [name, *arguments]
  runpy.run_module(name, run_name='__main__')


def _run_time(world):
  """The time server under a clock that stands where the episode's file `clock` puts it."""

  class Clock(datetime.datetime):
    """A datetime whose present is read from a file."""

    @classmethod
    def now(cls, tz=None):
      with open(os.path.join(world, 'clock'), encoding='utf-8') as file:
        present = cls.fromisoformat(file.read().strip())
      return present.astimezone(tz) if tz else present.replace(tzinfo=None)

  importlib.import_module('mcp_server_time.server').datetime = Clock
  _run_module('mcp_server_time', '--local-timezone', 'UTC')


def main():
  """Becomes the server that the argument names; ends when its stdin closes."""
  settings = json.loads(sys.argv[1])
  _confine(settings['limits'], settings['uid'])
  logging.disable(logging.WARNING)
  world = settings['world']
  if settings['server'] == 'time':
    _run_time(world)
  elif settings['server'] == 'git':
    _run_module('mcp_server_git', '--repository', '/repo')
  else:
    name = settings['server']
    sys.argv = [name, os.path.join(world, _STATES[name])]
    runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), f'{name}.py'),
                   run_name='__main__')


if __name__ == '__main__':
  main()
