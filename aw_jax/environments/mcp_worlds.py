"""The worlds behind the tool servers: their files, and their state as short text.

A task's setup (JSON) names its server and holds its content. `files` turns it into the files that
the server works on, `state` into the text of `Task.initial_state`; `read_state` gives the same text
from the files as a server has left them. The servers of benchmarks alone know their states.
"""

import dataclasses
import datetime
import os
import sqlite3
from collections.abc import Callable
from typing import Any

from aw_jax.environments import benchmark_servers, git_files, npm_worlds

SERVERS = ('shop', 'git', 'time')  # of the default install
PAGE_SIZE = 3  # rows of a list of the shop, as in servers/shop.py
_SCHEMA = """
create table customers (id integer primary key, name text, city text);
create table products (id integer primary key, name text, price integer, stock integer);
create table orders (id integer primary key, customer_id integer, product_id integer,
                     quantity integer, total integer, status text);
"""
_TABLES = {
    'customers': 'id name city', 'products': 'id name price stock',
    'orders': 'id customer product quantity total status'}


def files(setup: dict[str, Any]) -> dict[str, bytes]:
  """path -> content of a setup's initial state."""
  if setup['server'] in benchmark_servers.SERVERS:
    return benchmark_servers.files(setup['task'])
  return _WORLDS[setup['server']].files(setup)


def state(setup: dict[str, Any]) -> str | None:
  """A setup's initial state as text, None where it cannot be seen."""
  return _WORLDS[setup['server']].state(setup)


def read_state(server: str, folder: str) -> str | None:
  """The state of the world in `folder` as text."""
  return _WORLDS[server].read(folder)


def _shop_files(setup: dict[str, Any]) -> dict[str, bytes]:
  connection = sqlite3.connect(':memory:')
  try:
    connection.executescript(_SCHEMA)
    for table, columns in _TABLES.items():
      places = ', '.join('?' for _ in columns.split())
      connection.executemany(f'insert into {table} values ({places})', setup[table])
    connection.commit()
    return {'shop.db': connection.serialize()}
  finally:
    connection.close()


def _shop_state(setup: dict[str, Any]) -> str:
  return _render_shop({table: setup[table] for table in _TABLES})


def _read_shop(folder: str) -> str:
  """Rows of every table; from a copy in memory, so that the file is neither locked nor changed."""
  with open(os.path.join(folder, 'shop.db'), 'rb') as file:
    data = file.read()
  connection = sqlite3.connect(':memory:')
  try:
    connection.deserialize(data)
    return _render_shop({
        table: connection.execute(f'select * from {table} order by id').fetchall()
        for table in _TABLES})
  except sqlite3.Error:
    return '(damaged database)'
  finally:
    connection.close()


def _render_shop(tables: dict[str, list]) -> str:
  lines = []
  for table, columns in _TABLES.items():
    lines.append(f'{table}: {columns}')
    lines += [' '.join(str(value) for value in row) for row in tables[table]]
  return '\n'.join(lines)


def _repository(setup: dict[str, Any]) -> dict[str, Any]:
  """The arguments of `git_files.write` and `git_files.describe`."""
  return {
      'commits': [git_files.Commit(**commit) for commit in setup['commits']],
      'branches': setup['branches'], 'head': setup['head'], 'present': setup['present'],
      'staged': setup['staged']}


def _git_files(setup: dict[str, Any]) -> dict[str, bytes]:
  return git_files.write(**_repository(setup))


def _git_state(setup: dict[str, Any]) -> str:
  return _render_git(git_files.describe(**_repository(setup)))


def _read_git(folder: str) -> str:
  try:
    return _render_git(git_files.read(folder))
  except ValueError:
    return '(damaged repository)'


def _render_git(repository: git_files.Repository) -> str:
  """Branches and their logs, then the files; a text that differs at HEAD or a tip comes again."""
  lines = [f'branch {repository.head}' if repository.head else 'detached']
  if not repository.head:
    lines.append('log HEAD: ' + ', '.join(repository.log))
  for branch, (log, _) in sorted(repository.branches.items()):
    lines.append(f'log {branch}: ' + ', '.join(log))
  committed, staged, present = repository.committed, repository.staged, repository.present
  for path in sorted({*committed, *staged, *present}):
    words = _status(path, repository)
    _add_file(lines, f'{path}{words}', present.get(path))
    if staged.get(path) not in (committed.get(path), present.get(path)):
      _add_file(lines, f'index:{path}', staged.get(path))
    if path in committed and committed[path] != present.get(path):
      _add_file(lines, f'HEAD:{path}', committed[path])
  for branch, (_, files_at_tip) in sorted(repository.branches.items()):
    for path, text in sorted(files_at_tip.items()):
      if committed.get(path) != text:
        _add_file(lines, f'{branch}:{path}', text)
  return '\n'.join(lines)


def _status(path: str, repository: git_files.Repository) -> str:
  committed, staged = repository.committed.get(path), repository.staged.get(path)
  present = repository.present.get(path)
  words = ''
  if staged != committed:
    words += ' staged'
  if staged is None and present is not None:
    words += ' untracked'
  elif present is None:
    words += ' deleted'
  elif present != staged:
    words += ' modified'
  return words


def _add_file(lines: list[str], title: str, text: str | None) -> None:
  lines.append(f'== {title}')
  if text:
    lines += text.removesuffix('\n').split('\n')


def _time_files(setup: dict[str, Any]) -> dict[str, bytes]:
  return {'clock': setup['clock'].encode()}


def _read_clock(folder: str) -> str:
  with open(os.path.join(folder, 'clock'), encoding='utf-8') as file:
    return _render_clock(file.read())


def _render_clock(text: str) -> str:
  clock = datetime.datetime.fromisoformat(text.strip())
  return clock.strftime('clock %Y-%m-%d %H:%M:%S UTC %A')


@dataclasses.dataclass(frozen=True)
class _World:
  """What this module's functions of the same names do for one server."""

  files: Callable[[dict[str, Any]], dict[str, bytes]]
  state: Callable[[dict[str, Any]], str | None]
  read: Callable[[str], str | None]


_WORLDS = {
    'shop': _World(_shop_files, _shop_state, _read_shop),
    'git': _World(_git_files, _git_state, _read_git),
    'time': _World(_time_files, lambda setup: _render_clock(setup['clock']), _read_clock),
    'filesystem': _World(npm_worlds.files, npm_worlds.state, npm_worlds.read_files),
    'memory': _World(npm_worlds.files, npm_worlds.state, npm_worlds.read_graph),
    'everything': _World(lambda setup: {}, lambda setup: None, lambda folder: None),
}
