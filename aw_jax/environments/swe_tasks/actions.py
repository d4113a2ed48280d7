"""Calls that a programmer might try in a repository: to explore and to err."""

import functools
import json
import random
import re
import shlex

from aw_jax.environments import swe, swe_packages
from aw_jax.environments.experts import Actions
from aw_jax.environments.swe import call_text
from aw_jax.environments.swe_tasks import mending, mutations
from aw_jax.trajectories import Task

_NAME = re.compile(r'[A-Za-z_]\w{2,}')
_NEW_FILES = ('notes.txt', 'todo.txt', 'example.py', 'check.py')
_CHANGED_FILE = re.compile(r'^(?:\+\+\+|new) (\S+)$')
_HUNK = re.compile(r'^@@ -\S+ \+(\d+)')


@functools.lru_cache(maxsize=16)
def _functions(package: str) -> tuple[tuple[str, str, int, int], ...]:
  """(path, name, first line, last line) of every function of a package."""
  return tuple(
      (path, name, *lines) for path, text in swe_packages.files(package).items()
      if path.endswith('.py') for name, lines in mutations.functions(text).items())


class _View:
  """What is at hand: files and functions of the package, and the places that were changed.

  A place is drawn with probability `fresh` from those that were changed, where there are any.
  """

  def __init__(self, task: Task, state: str | None, rng: random.Random, fresh: float = 0.5):
    self.rng, self._fresh_share = rng, fresh
    self.package = swe_packages.PACKAGES[task.setup['package']]
    self.files = swe.initial_files(task.setup)
    self._shown = [tuple(part) for part in task.setup['shown']]
    self._changed = _changed_places(state or '')
    found = _functions(self.package.name)
    self._code = [f for f in found if self.package.is_source(f[0])]
    self._tests = [f for f in found if self.package.is_test(f[0])
                   and f[1].rpartition('.')[2].startswith('test')]

  def place(self) -> tuple[str, int]:
    """A path and a line of the code: changed, of the task, or any."""
    if self._changed and self.rng.random() < self._fresh_share:
      return self.rng.choice(self._changed)
    if self._shown and self.rng.random() < 0.5:
      path, first, last = self.rng.choice(self._shown)
      return path, self.rng.randint(first, last)
    path, _, first, last = self.rng.choice(self._code)
    return path, self.rng.randint(first, last)

  def source(self) -> str:
    """A file of the code, now and then one that is not there."""
    path = self.place()[0]
    return path.replace('.py', '_old.py') if self.rng.random() < 0.04 else path

  def code(self) -> str:
    """A file that the package has, for edits."""
    path = self.place()[0]
    return path if path in self.files and self.package.is_source(path) else self._any_code()[0]

  def _any_code(self) -> tuple[str, str, int, int]:
    return self.rng.choice(self._code)

  def function(self) -> tuple[str, str]:
    """The path of a function and its name without its class."""
    path, name, *_ = self._any_code()
    return path, name.rpartition('.')[2]

  def test(self) -> str:
    """A test, FILE::NAME."""
    path, name, *_ = self.rng.choice(self._tests)
    return f'{path}::{name.replace(".", "::")}'

  def test_file(self) -> str:
    """A file of tests."""
    return self.rng.choice(self._tests)[0]

  def word(self) -> str:
    """A name that stands near a place."""
    path, line = self.place()
    near = '\n'.join(self.files.get(path, '').split('\n')[max(0, line - 5):line + 5])
    return self.rng.choice(_NAME.findall(near) or ['self'])

  def folder(self) -> str:
    """The folder of the code."""
    return self.package.source[0]

  def module(self) -> str:
    """The name under which the package is imported."""
    return self.package.source[0].rpartition('/')[2].removesuffix('.py')

  def option(self, *options: str) -> str:
    return self.rng.choice(options)


def _changed_places(state: str) -> list[tuple[str, int]]:
  """(path, line) of every change that a state shows."""
  found, path = [], ''
  for line in state.partition('\n== changes\n')[2].split('\n'):
    named, hunk = _CHANGED_FILE.match(line), _HUNK.match(line)
    if named:
      path = named[1]
      if line.startswith('new '):
        found.append((path, 1))
    elif hunk and path:
      found.append((path, max(1, int(hunk[1]))))
  return found


def _bash(command: str) -> str:
  return call_text('bash', command=command)


def _read(view: _View) -> str:
  path, line = view.place()
  first = max(1, line - view.rng.randint(0, 12))
  if view.rng.random() < 0.1:
    return call_text('read', path=path)
  return call_text('read', path=path, first=first, last=first + view.rng.randint(4, 24))


def _print_lines(view: _View) -> str:
  path, line = view.place()
  return _bash(f'sed -n {line},{line + view.rng.randint(0, 8)}p {path}')


def _find_function(view: _View) -> str:
  path, name = view.function()
  return _bash(f"grep -n 'def {name}' {path}")


def _mutate(view: _View) -> str:
  """An edit that is sound Python and does something else, near a place."""
  path, line = view.place()
  if path not in view.files or not view.package.is_source(path):
    path, line = view.code(), 1
  text = view.files[path]
  found = sorted(mutations.mutations(text), key=lambda m: abs(m.line - line))[:12]
  if not found:
    return _make_file(view)
  mutation = view.rng.choice(found)
  # As a correction is made, the other way round.
  old, new = mending.repair(
      text, {'line': mutation.line, 'good': mutation.bad, 'bad': mutation.good})
  return call_text('edit', path=path, old=old, new=new)


def _rename(view: _View) -> str:
  return call_text('edit', path=view.code(), old=view.word(), new=view.word())


def _make_file(view: _View) -> str:
  name = view.option(*_NEW_FILES)
  text = f'import {view.module()}\n' if name.endswith('.py') else f'look at {view.word()}\n'
  return call_text('edit', path=name, old='', new=text)


def _substitute(view: _View) -> str:
  path, line = view.place()
  return _bash(f'sed -i {line}s/{view.word()}/{view.word()}/ {path}')


def _print_names(view: _View) -> str:
  module = view.module()
  return _bash(f"python3 -c 'import {module}; print(sorted(dir({module}))[:8])'")


# (weight, maker) of calls that change nothing, and of those that do.
_READING = (
    (8, _read),
    (2, _print_lines),
    (3, _find_function),
    (3, lambda v: _bash(f'grep -n {v.word()} {v.source()} | head -n {v.rng.randint(3, 8)}')),
    (2, lambda v: _bash(f'grep -rn {v.word()} {v.folder()} | head -n {v.rng.randint(3, 6)}')),
    (1, lambda v: _bash(f'grep -c {v.word()} {v.source()}')),
    (1, lambda v: _bash(v.option('ls', f'ls {v.folder()}', 'pwd'))),
    (1, lambda v: _bash(f'wc -l {v.source()}')),
    (1, lambda v: _bash(f'{v.option("head", "tail")} -n {v.rng.randint(3, 10)} {v.source()}')),
    (1, _print_names),
    (2, lambda v: call_text('test', tests=v.test())),
    (1, lambda v: call_text('test', tests=v.test_file(), brief=True)),
)
_WRITING = (
    (8, _mutate),
    (2, _rename),
    (2, _substitute),
    (1, _make_file),
    (1, lambda v: _bash(f'echo "# {v.word()}" >> {v.source()}')),
    (1, lambda v: _bash(f'sed -i {v.place()[1]}d {v.source()}')),
    (1, lambda v: _bash(f'cp {v.source()} {v.option(*_NEW_FILES)}')),
)
# What shows what was changed.
_SURVEYING = (
    (3, _read),
    (2, lambda v: call_text('test', tests=v.test_file())),
    (1, lambda v: call_text('test', tests=v.test_file(), brief=True)),
    (1, lambda v: _bash(f'python3 -m py_compile {v.source()} && echo sound')),
    (1, _print_names),
)


def _draw(calls, view: _View) -> str:
  weights, makers = zip(*calls, strict=True)
  return view.rng.choices(makers, weights)[0](view)


class SweActions(Actions):
  """Exploring and mistakes in a repository."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that changes nothing, over the code at hand."""
    return _draw(_READING, _View(task, state, rng))

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call of any kind, changing files about every third time."""
    return _draw(_WRITING if rng.random() < 0.35 else _READING, _View(task, state, rng))

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that changes files, or tries to."""
    return _draw(_WRITING, _View(task, state, rng))

  def inspect(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that shows places which are not as they were at the start."""
    view = _View(task, state, rng, fresh=0.95)
    return _draw(((6, _read), (3, _print_lines), *_SURVEYING), view)

  def survey(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that shows much, or what tests say of it."""
    return _draw(_SURVEYING, _View(task, state, rng, fresh=0.95))

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any call, each kind equally likely."""
    return rng.choice(_READING + _WRITING)[1](_View(task, task.initial_state, rng))

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` with another path, line or text, without an argument, or of another tool."""
    try:
      call = json.loads(action)
    except ValueError:
      return self.explore(task, state, rng)
    view, arguments = _View(task, state, rng), call['arguments']
    if not arguments:
      return call_text('test', tests=view.test_file())
    kind = rng.choices(('argument', 'missing', 'tool'), (80, 10, 10))[0]
    key = rng.choice(sorted(arguments))
    if kind == 'tool':
      call['name'] = rng.choice(('view', 'write', 'run', 'open', 'search'))
    elif kind == 'missing':
      del arguments[key]
    else:
      arguments[key] = _another(key, arguments[key], view)
    return json.dumps(call, ensure_ascii=False)

  def typo(self, action: str, rng: random.Random) -> str:
    """`action` with two letters exchanged, one left out, or cut off."""
    return action[:-rng.randint(1, 2)] if rng.random() < 0.15 else super().typo(action, rng)


def _another(key: str, value, view: _View):
  """Another value of an argument."""
  if key == 'path':
    return view.source()
  if key == 'tests':
    return view.test()
  if isinstance(value, bool):
    return not value
  if isinstance(value, int):
    return max(1, value + view.rng.choice((-9, -4, 3, 10)))
  words = _NAME.findall(value)
  if not words:
    return value + ' '
  return value.replace(view.rng.choice(words), shlex.quote(view.word()), 1)
