"""Becomes an MCP server that is written in Python.

Run as a script inside bubblewrap (mcp_servers.py), never imported. Its arguments are the server
('shop', 'search', 'git' or 'time') and the directory of the episode's state.
"""

import datetime
import importlib
import logging
import os
import runpy
import sys

_STATES = {'shop': 'shop.db', 'search': 'collection.json'}  # server of ours -> the file it works on


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
  """Becomes the server that the first argument names; ends when its stdin closes."""
  name, world = sys.argv[1:]
  logging.disable(logging.WARNING)
  if name == 'time':
    _run_time(world)
  elif name == 'git':
    _run_module('mcp_server_git', '--repository', '/repo')
  else:
    sys.argv = [name, os.path.join(world, _STATES[name])]
    runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), f'{name}.py'),
                   run_name='__main__')


if __name__ == '__main__':
  main()
