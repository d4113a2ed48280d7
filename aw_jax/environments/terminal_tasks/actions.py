"""Commands a person might try in a terminal, over the files at hand: to explore and to err.

In full-screen mode the same commands are typed, and now and then keys and full-screen programs.
"""

import random
import re
from collections.abc import Callable

from aw_jax.environments import screen
from aw_jax.environments.experts import Actions
from aw_jax.environments.terminal_tasks.screens import keys
from aw_jax.environments.terminal_tasks.worlds import FOLDERS, STEMS, WORDS
from aw_jax.trajectories import Task

_HEADER = re.compile(r'== (\S+?)(/?)(?: .*)?')
_FILE_NAME = re.compile(r'[\w/]+\.[a-z]+\b')


def _parse(state: str) -> tuple[dict[str, list[str]], list[str], str]:
  """Files (path -> lines), directories and working directory ('' for home) of a state."""
  files, folders, cwd = {}, [], ''
  lines: list[str] = []
  for line in state.split('\n'):
    header = _HEADER.fullmatch(line)
    if header and header[2]:
      folders.append(header[1])
    elif header:
      files[header[1]] = lines = []
    elif line.startswith('cwd ~/'):
      cwd = line[len('cwd ~/'):]
    else:
      lines.append(line)
  return files, folders, cwd


class _View:
  """What is at hand in a state: files and directories as the working directory names them.

  A file is drawn with probability `fresh` from those that differ from the initial state, where
  there are any: what earlier actions did is what there is to see.
  """

  def __init__(
      self, state: str | None, initial: str | None, rng: random.Random, fresh: float = 0.5):
    self.rng, self._fresh_share = rng, fresh
    files, folders, self.cwd = _parse(state or '')
    before = _parse(initial or '')[0]
    self.files = [self._relative(path) for path in files]
    self.fresh = [self._relative(path) for path in files if files[path] != before.get(path)]
    self.folders = [self._relative(path) for path in folders if path != self.cwd]
    self._words = {self._relative(path): re.findall(r'\w+', ' '.join(lines))
                   for path, lines in files.items()}
    self.words = [word for words in self._words.values() for word in words]

  def _relative(self, path: str) -> str:
    if not self.cwd:
      return path
    inside = self.cwd + '/'
    return path[len(inside):] if path.startswith(inside) else '../' * (
        self.cwd.count('/') + 1) + path

  def file(self) -> str:
    return self._choose(self.files, self.fresh)

  def text(self) -> str:
    """A file that is text, as far as its name tells."""
    return self._choose(*([f for f in files if not f.endswith(('.tar', '.db', '.gz'))]
                          for files in (self.files, self.fresh)))

  def _choose(self, files: list[str], fresh: list[str]) -> str:
    if fresh and self.rng.random() < self._fresh_share:
      return self.rng.choice(fresh)
    return self.rng.choice(files) if files else self.new()

  def folder(self) -> str:
    return self.rng.choice(self.folders) if self.folders else self.rng.choice(FOLDERS)

  def new(self) -> str:
    return f'{self.rng.choice(STEMS)}.txt'

  def target(self) -> str:
    """A new file, a file that is there, or a place in a directory."""
    draw = self.rng.random()
    if draw < 0.25 and self.folders:
      return f'{self.folder()}/{self.new()}'
    return self.text() if draw < 0.45 else self.new()

  def word(self) -> str:
    """A word of the files, or any."""
    if self.words and self.rng.random() < 0.75:
      return self.rng.choice(self.words)
    return self.rng.choice(WORDS)

  def word_in(self, file: str) -> str:
    """A word of this file, or any."""
    words = self._words.get(file)
    return self.rng.choice(words) if words and self.rng.random() < 0.6 else self.word()

  def line(self) -> str:
    return ' '.join(self.rng.choice(WORDS) for _ in range(self.rng.randint(1, 3)))

  def number(self) -> int:
    return self.rng.randint(1, 4)

  def option(self, *options: str) -> str:
    return self.rng.choice(options)


# What each command reads; (weight, maker).
_READING = (
    (4, lambda v: v.option('ls', 'ls', 'ls *', 'ls -l', f'ls {v.folder()}')),
    (8, lambda v: f'cat {v.text()}'),
    (2, lambda v: f'cat {v.text()} {v.text()}'),
    (3, lambda v: f'head -n {v.number()} {v.text()}'),
    (3, lambda v: f'tail -n {v.number()} {v.text()}'),
    (3, lambda v: f'sort {v.option("", "-r ", "-n ", "-u ")}{v.text()}'),
    (1, lambda v: f'sort {v.text()} | uniq{v.option("", " -c", " -d")}'),
    (3, lambda v: f'wc {v.option("", "-l ", "-w ")}{v.text()}'),
    (1, lambda v: f'wc -l < {v.text()}'),
    (3, lambda v: f'grep {v.option("", "-n ", "-c ", "-v ")}{v.word()} {v.text()}'),
    (2, lambda v: f'grep {v.option("-l ", "", "-c ")}{v.word()} *'),
    (1, lambda v: f'cut -d, -f{v.option("1", "2")} {v.text()}'),
    (1, lambda v: f'cut -d" " -f{v.option("1", "2")} {v.text()}'),
    (2, lambda v: f'sed -n {v.number()}p {v.text()}'),
    (2, lambda v: f'sed s/{v.word()}/{v.word()}/ {v.text()}'),
    (1, lambda v: f'tr , " " < {v.text()}'),
    (1, lambda v: f'{v.option("tac", "nl")} {v.text()}'),
    (1, lambda v: f'diff {v.text()} {v.text()}'),
    (1, lambda v: v.option('find . | sort', 'find . -type f | sort', f'find . -name {v.file()}')),
    (1, lambda v: f'test -e {v.option(v.file(), v.new())} && echo yes || echo no'),
    (1, lambda v: f'stat -c %a {v.file()}'),
    (1, lambda v: 'pwd'),
)
_WRITING = (
    (4, lambda v: f'echo {v.line()} > {v.target()}'),
    (5, lambda v: f'echo {v.line()} >> {v.text()}'),
    (3, lambda v: f'cp {v.file()} {v.target()}'),
    (4, lambda v: f'mv {v.file()} {v.option(v.target(), v.folder())}'),
    (2, lambda v: f'rm {v.file()}'),
    (2, lambda v: f'mkdir {v.option(*FOLDERS)}'),
    (2, lambda v: f'sed -i s/{v.word()}/{v.option(*WORDS)}/ {v.text()}'),
    (2, lambda v: f'sed -i {v.number()}d {v.text()}'),
    (2, lambda v: f'sort {v.option("", "-r ", "-n ")}{v.text()} > {v.new()}'),
    (2, lambda v: f'cat {v.text()} {v.text()} > {v.new()}'),
    (2, lambda v: f'{v.option("head", "tail")} -n {v.number()} {v.text()} > {v.new()}'),
    (1, lambda v: f'grep {v.word()} {v.text()} > {v.new()}'),
    (1, lambda v: f'chmod {v.option("600", "755", "+x", "444")} {v.file()}'),
    (1, lambda v: f'touch {v.new()}'),
    (1, lambda v: f'rmdir {v.folder()}'),
    (2, lambda v: v.option(f'cd {v.folder()}', 'cd ..', 'cd') if v.cwd else f'cd {v.folder()}'),
    (1, lambda v: f'tar cf {v.option(*STEMS)}.tar {v.file()}'),
)


def _replace_word(view: _View) -> str:
  file = view.text()
  return f'sed -i s/{view.word_in(file)}/{view.option(*WORDS)}/ {file}'


def _write_matches(view: _View) -> str:
  file = view.text()
  return f'grep {view.option("", "-v ")}{view.word_in(file)} {file} > {view.new()}'


def _show_matches(view: _View) -> str:
  file = view.text()
  return f'grep {view.option("", "-n ", "-c ", "-v ")}{view.word_in(file)} {file}'


# Commands whose result has to be worked out from the lines of a file, not only copied.
_COMPUTED_WRITING = (
    (6, lambda v: f'sort {v.option("", "", "-r ", "-n ", "-u ")}{v.text()} > {v.new()}'),
    (2, lambda v: f'sort {v.text()} | uniq > {v.new()}'),
    (6, _replace_word),
    (2, lambda v: f'sed -i {v.number()}d {v.text()}'),
    (3, lambda v: f'cat {v.text()} {v.text()} > {v.new()}'),
    (2, lambda v: f'{v.option("head", "tail")} -n {v.number()} {v.text()} > {v.new()}'),
    (2, _write_matches),
    (1, lambda v: f'cut -d, -f{v.option("1", "2")} {v.text()} > {v.new()}'),
)
_COMPUTED_READING = (
    (5, lambda v: f'sort {v.option("", "", "-r ", "-n ", "-u ")}{v.text()}'),
    (1, lambda v: f'sort {v.text()} | uniq{v.option("", " -c", " -d")}'),
    (3, lambda v: f'wc {v.option("", "-l ", "-w ")}{v.text()}'),
    (1, lambda v: f'wc -l < {v.text()}'),
    (3, _show_matches),
    (1, lambda v: f'tail -n {v.number()} {v.text()}'),
    (1, lambda v: f'sed -n {v.number()}p {v.text()}'),
)
# What shows many files at once.
_SURVEYING = (
    (2, lambda v: f'grep "" {v.option("*", "-r . | sort")}'),
    (2, lambda v: 'head *'),
    (1, lambda v: 'cat *'),
    (1, lambda v: f'wc {v.option("", "-l ", "-w ")}*'),
    (1, lambda v: v.option('ls -R', 'find . -type f | sort', 'ls -l')),
)


# What full-screen mode has beside command lines: the keystrokes of one action.
_KEYS = (
    (3, lambda v: ('Up', '\n')),
    (2, lambda v: ('clear\n',)),
    (2, lambda v: ('C-c',)),
    (1, lambda v: ('C-l',)),
    (1, lambda v: ('Tab',)),
    (1, lambda v: (f'echo {v.line()}', 'C-u')),
    (2, lambda v: (f'cat > {v.new()}\n', f'{v.line()}\n', 'C-d')),
    (2, lambda v: (f'less {v.text()}\n', v.option(' ', 'G', f'/{v.word()}\n'))),
    (1, lambda v: (f'nano {v.text()}\n', f'{v.line()}\n')),
    (2, lambda v: ('q',)),
    (1, lambda v: ('C-x',)),
)


def _draw(commands, view: _View):
  weights, makers = zip(*commands, strict=True)
  return view.rng.choices(makers, weights)[0](view)


def _action(command: str, view: _View, task: Task) -> str:
  """A command as an action: typed where the task has a screen, or keys instead now and then."""
  if 'screen' not in task.setup:
    return command
  return keys(*_draw(_KEYS, view)) if view.rng.random() < 0.25 else keys(f'{command}\n')


def _within(action: str, change: Callable[[str], str], rng: random.Random) -> str:
  """`action` changed; in full-screen mode, one of the keystrokes in it."""
  try:
    texts = [text for text, _ in screen.parse(action)]
  except screen.KeystrokeError:
    return change(action)
  place = rng.randrange(len(texts))
  texts[place] = change(texts[place])
  return keys(*texts)


class TerminalActions(Actions):
  """Exploring and mistakes in a terminal."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that changes nothing, over the files at hand."""
    view = _View(state, task.initial_state, rng)
    return _action(_draw(_READING, view), view, task)

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command of any kind over the files at hand, changing them about every second time."""
    view = _View(state, task.initial_state, rng)
    return _action(_draw(rng.choice([_READING, _WRITING]), view), view, task)

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that changes files, or tries to; every second one has to be worked out."""
    view = _View(state, task.initial_state, rng)
    return _action(_draw(rng.choice([_WRITING, _COMPUTED_WRITING]), view), view, task)

  def inspect(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that shows files which are not as they were at the start, or what is in them."""
    view = _View(state, task.initial_state, rng, fresh=0.95)
    commands = _READING if rng.random() < 0.65 else _COMPUTED_READING
    return _action(_draw(commands, view), view, task)

  def survey(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that shows many files at once."""
    view = _View(state, task.initial_state, rng)
    return _action(_draw(_SURVEYING, view), view, task)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any command, each kind equally likely, over names that need not be there."""
    view = _View(task.initial_state, task.initial_state, rng)
    return _action(rng.choice(_READING + _WRITING)[1](view), view, task)

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` with another file, word or number."""
    return _within(action, lambda text: self._mistake(text, task, state, rng), rng)

  def typo(self, action: str, rng: random.Random) -> str:
    """`action` with two letters exchanged or one left out, in one word."""
    return _within(action, lambda text: super(TerminalActions, self).typo(text, rng), rng)

  def _mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    view = _View(state, task.initial_state, rng)
    names = sorted(set(_FILE_NAME.findall(action)))
    words = sorted({w for w in re.findall(r'\b[a-z]{3,}\b', action) if w in WORDS})
    numbers = sorted(set(re.findall(r'(?<=[ -])\d\b', action)))
    choices = [(name, view.file()) for name in names]
    choices += [(word, view.word()) for word in words]
    choices += [(number, str(view.number())) for number in numbers]
    choices += [('>>', '>')] if '>>' in action else []
    if not choices:
      return super().typo(action, rng)
    old, new = rng.choice(choices)
    return action.replace(old, new, 1)
