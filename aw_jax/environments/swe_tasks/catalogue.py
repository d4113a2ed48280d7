"""The catalogue of mistakes that tests catch, and the survey that makes it.

A row of catalogue.jsonl is a mistake in a package (PACKAGES of swe_packages.py) with the first test
that it fails. It was made by running the tests: what no test notices, what hangs and what is no
Python is not in it. Whether a row is for training is decided by the function that it is in.
"""

import ast
import collections
import dataclasses
import difflib
import functools
import heapq
import itertools
import json
import os
import random
from collections.abc import Iterable, Iterator
from typing import Any

from aw_jax.environments import swe, swe_packages
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.sandbox import Sandbox
from aw_jax.environments.swe_tasks import mutations

REAL_FIX = 'real_fix'
PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'catalogue.jsonl')
_SPLITS = ('train',) * 6 + ('validation',) * 2 + ('test',) * 2
_PROGRAM = '/opt/driver/swe_survey.py'
_ASKED = 'survey.json'
_LATER = {later: earlier for earlier, later in swe_packages.PAIRS}
_TRIES = 3  # mistakes that are tried for each that is wanted
_TURNS = ('train', 'validation', 'train', 'test')
_LIMITS = dataclasses.replace(swe.LIMITS, seconds=1800.0, cpu_seconds=1800)


@dataclasses.dataclass(frozen=True)
class Row:
  """A mistake that a test catches.

  Attributes:
    package: name of the package.
    family: one of mutations.FAMILIES, or REAL_FIX.
    function: the function that it is in.
    test: the first test that fails, FILE::NAME without parameters, or a file that fails to load.
    edits: path, line, good and bad lines of each place; see swe.py.
  """

  package: str
  family: str
  function: str
  test: str
  edits: tuple[dict[str, Any], ...]

  @property
  def split(self) -> str:
    """The split of its function, the same for all mistakes in it."""
    place = f'{self.package}/{self.edits[0]["path"]}/{self.function}'
    return random.Random(place).choice(_SPLITS)


@functools.cache
def rows() -> tuple[Row, ...]:
  """All of the catalogue, in its order."""
  with open(PATH, encoding='utf-8') as file:
    values = [json.loads(line) for line in file]
  return tuple(Row(**value | {'edits': tuple(value['edits'])}) for value in values)


def packages() -> list[str]:
  """The names of the packages that the mistakes are in, which every task needs fetched."""
  return sorted({row.package for row in rows()})


def text_of(found: Iterable[Row]) -> str:
  """The text of a catalogue of these rows."""
  return ''.join(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + '\n' for row in found)


def survey(package: str, wanted: int, seed: int = 0) -> Iterator[Row]:
  """Makes mistakes in a package one after the other and yields those that its tests catch.

  Args:
    package: which one; the later of a pair of releases gets the earlier one's code.
    wanted: mistakes of each family; `_TRIES` times as many are tried at most.
    seed: of the order in which they are tried.
  Raises:
    BrokenEnvironmentError: where the sandbox failed or stopped the survey.
  """
  groups = list(_candidates(package, wanted, seed))
  asked = {'groups': [[row.edits for row in group] for group in groups], 'wanted': wanted,
           'in_memory': package not in _LATER}
  sandbox = Sandbox(_LIMITS, swe.files_inside() | {_PROGRAM: _read_program()})
  try:
    sandbox.reset({'files': swe_packages.files(package) | {_ASKED: json.dumps(asked)}}, 0)
    result = sandbox.call(f'{swe.SETTINGS}python3 -S {_PROGRAM} {_ASKED}')
  finally:
    sandbox.close()
  if result.killed_for:
    raise BrokenEnvironmentError(f'the survey of {package} was killed for its {result.killed_for}')
  for line in result.output.splitlines():
    group, number, test = json.loads(line)
    yield dataclasses.replace(groups[group][number], test=test.partition('[')[0])


def _read_program() -> bytes:
  with open(os.path.join(os.path.dirname(swe.__file__), 'swe_survey.py'), 'rb') as file:
    return file.read()


def _candidates(package: str, wanted: int, seed: int) -> Iterator[list[Row]]:
  """Possible mistakes, family by family."""
  if package in _LATER:
    yield list(_real_fixes(_LATER[package], package))
    return
  families = collections.defaultdict(list)
  info, texts = swe_packages.PACKAGES[package], swe_packages.files(package)
  for path, text in texts.items():
    if info.is_source(path) and path.endswith('.py'):
      for mutation in mutations.mutations(text):
        if mutation.function:
          edit = {'path': path, 'line': mutation.line, 'good': mutation.good, 'bad': mutation.bad}
          families[mutation.family].append(
              Row(package, mutation.family, mutation.function, '', (edit,)))
  place = sorted(swe_packages.PACKAGES).index(package)
  for number, family in enumerate(mutations.FAMILIES):
    order = _spread(families[family], random.Random(f'{package}/{family}/{seed}'), place + number)
    sound = (row for row in order if _is_python(texts, row))
    yield list(itertools.islice(sound, _TRIES * wanted))


def _is_python(texts: dict[str, str], row: Row) -> bool:
  """Whether the file of a mistake can still be compiled."""
  edit = row.edits[0]
  lines = texts[edit['path']].splitlines(keepends=True)
  lines[edit['line'] - 1] = edit['bad']
  try:
    ast.parse(''.join(lines))
    return True
  except SyntaxError:
    return False


def _spread(found: list[Row], rng: random.Random, turn: int) -> Iterator[Row]:
  """The rows in an order in which splits take turns, and functions within a split."""
  rng.shuffle(found)
  seen = collections.Counter()
  queues = collections.defaultdict(list)
  for row in found:
    key = row.edits[0]['path'], row.function
    seen[key] += 1
    heapq.heappush(queues[row.split], (seen[key], len(queues[row.split]), row))
  while any(queues.values()):
    queue = queues[_TURNS[turn % len(_TURNS)]]
    if queue:
      yield heapq.heappop(queue)[-1]
    turn += 1


def _real_fixes(earlier: str, later: str) -> Iterator[Row]:
  """The later release with one difference put back, and with all of them."""
  before, after = swe_packages.files(earlier), swe_packages.files(later)
  everything = []
  for path, text in after.items():
    if not swe_packages.PACKAGES[later].is_source(path) or path not in before:
      continue
    good, bad = text.splitlines(keepends=True), before[path].splitlines(keepends=True)
    for kind, i, j, k, l in difflib.SequenceMatcher(None, good, bad, autojunk=False).get_opcodes():
      edit = {'path': path, 'line': i + 1, 'good': ''.join(good[i:j]), 'bad': ''.join(bad[k:l])}
      matters = '__version__' not in edit['good'] and (edit['good'] + edit['bad']).strip()
      if kind != 'equal' and matters:
        everything.append(edit)
        yield Row(later, REAL_FIX, _function_at(text, i + 1), '', (edit,))
  yield Row(later, REAL_FIX, '', '', tuple(everything))


def _function_at(text: str, line: int) -> str:
  inside = [(first, name) for name, (first, last) in mutations.functions(text).items()
            if first <= line <= last]
  return max(inside)[1] if inside else ''
