"""Families of domain swe: a package with a mistake that its tests catch, to be mended.

Every family takes its mistakes from the catalogue. Which ones a task may take is decided by the
function that they are in, so that no function of a train task is in a validation or test task.
"""

import random
from typing import Any

from aw_jax.environments import registry, swe, swe_packages
from aw_jax.environments.registry import Recipe
from aw_jax.environments.swe import call_text
from aw_jax.environments.swe_tasks import catalogue, mutations
from aw_jax.environments.swe_tasks.catalogue import Row
from aw_jax.trajectories import SUBMIT, Verifier

MAX_TURNS = 20
_AROUND = 8  # lines of the state before and after a mistake
_TEST_LINES = 20  # of the failing test in the state
_SHOWN_PLACES = 4


def mend(family: str, seed: int, rng: random.Random) -> Recipe:
  """One mistake of a kind, in a function of the task's split."""
  split = registry.split_of('swe', family, seed)
  return _recipe([rng.choice(
      [row for row in catalogue.rows() if row.family == family and row.split == split
       and row.package in swe_packages.MUTATED])], rng)


def two_mistakes(seed: int, rng: random.Random) -> Recipe:
  """Two mistakes in two functions of a package, both of the test split."""
  del seed
  found: dict[str, list[Row]] = {}
  for row in catalogue.rows():
    if row.package in swe_packages.MUTATED and row.split == 'test':
      found.setdefault(row.package, []).append(row)
  pairs = [(one, other) for rows in found.values() for i, one in enumerate(rows)
           for other in rows[:i] if one.function != other.function]
  return _recipe(list(rng.choice(pairs)), rng)


def new_package(seed: int, rng: random.Random) -> Recipe:
  """One mistake in a package of which no other family has a task."""
  del seed
  return _recipe([rng.choice(
      [row for row in catalogue.rows() if row.package in swe_packages.HELD_OUT])], rng)


def real_fix(seed: int, rng: random.Random) -> Recipe:
  """What a release mended or added, put back; the release's own tests say what is wanted.

  Of packages that no other family knows: a later release of a train package would hold the answer.
  """
  del seed
  return _recipe([rng.choice(
      [row for row in catalogue.rows() if row.family == catalogue.REAL_FIX])], rng)


def repair(text: str, edit: dict[str, Any]) -> tuple[str, str]:
  """The text to replace, which stands in `text` once, and the one to put there.

  Args:
    text: a file in which everything above the mistake is right.
    edit: the mistake (swe.py).
  """
  good, bad = edit['good'], edit['bad']
  one_line = bad.count('\n') == good.count('\n') == 1 and _indent(good) == _indent(bad)
  if one_line and bad.strip() and text.count(bad.strip()) == 1:
    return bad.strip(), good.strip()
  lines = text.splitlines(keepends=True)
  first = edit['line'] - 1
  last = first + len(bad.splitlines())
  before, after = first, last
  while before == after or text.count(''.join(lines[before:after])) != 1:
    before, after = max(0, before - 1), min(len(lines), after + 1)
  return (''.join(lines[before:after]),
          ''.join(lines[before:first]) + good + ''.join(lines[last:after]))


def _recipe(rows: list[Row], rng: random.Random) -> Recipe:
  edits = sorted((edit for row in rows for edit in row.edits),
                 key=lambda edit: (edit['path'], edit['line']))
  setup = {'package': rows[0].package, 'edits': edits, 'shown': []}
  files = swe.initial_files(setup)
  setup['shown'] = _shown(files, edits, rows)
  told = rng.choice(('test', 'file', 'suite', 'function'))
  return Recipe(
      instruction=_instruction(rows, told, rng), setup=setup,
      initial_state=swe.initial_state(setup),
      verifier=Verifier('command', swe.ALL_PASS, call_text('test', brief=True)),
      plan=tuple(_plan(files, edits, rows, told, rng)), max_turns=MAX_TURNS)


def _shown(files: dict[str, str], edits: list[dict[str, Any]], rows: list[Row]) -> list[list]:
  """The parts of the state: around the mistakes, and the beginning of each failing test."""
  shown, shift = [], {}
  for edit in edits:
    path, count = edit['path'], len(edit['bad'].splitlines())
    line = edit['line'] + shift.get(path, 0)
    shift[path] = shift.get(path, 0) + count - len(edit['good'].splitlines())
    length = files[path].count('\n')
    shown.append([path, max(1, line - _AROUND), min(length, line + count + _AROUND - 1)])
  shown = shown[:_SHOWN_PLACES]
  for row in rows:
    place = _test_lines(files, row.test)
    if place:
      path, first, last = place
      shown.append([path, first, min(last, first + _TEST_LINES - 1)])
  return shown


def _test_lines(files: dict[str, str], test: str) -> tuple[str, int, int] | None:
  """Path, first and last line of a test; None where it is a file, or made by a base class."""
  path, _, name = test.partition('::')
  lines = mutations.functions(files[path]).get(name.replace('::', '.')) if path in files else None
  return (path, *lines) if lines else None


def _instruction(rows: list[Row], told: str, rng: random.Random) -> str:
  project = swe_packages.PACKAGES[rows[0].package].project
  path, function = rows[0].edits[0]['path'], rows[0].function
  tests = ' and '.join(dict.fromkeys(row.test for row in rows))
  several = len(rows) > 1
  also = ' There are two mistakes.' if several else ''
  if told == 'test':
    return rng.choice((
        f'In {project}, {tests} fail{"" if several else "s"}. Find out why and mend the code; the '
        f'tests are right.{also}',
        f'Make {tests} of {project} pass again without changing any test.{also}'))
  if told == 'function' and function and not several:
    return rng.choice((
        f'{function} in {path} of {project} does not do what its tests ask for. Mend it.',
        f'There is a mistake in {function} ({path}, {project}): correct it, all tests must pass.'))
  if told == 'file' and not several:
    return rng.choice((
        f'Something in {path} is wrong: tests of {project} fail. Mend it and leave the tests '
        'alone.',
        f'Since the last change of {path} the tests of {project} do not pass. Repair it.'))
  return rng.choice((
      f'The tests of {project} do not all pass. Mend the package; the tests are right.{also}',
      f'Find out why tests of {project} fail and correct the code, not the tests.{also}'))


def _plan(
    files: dict[str, str], edits: list[dict[str, Any]], rows: list[Row], told: str,
    rng: random.Random) -> list[str]:
  """Run the failing test, read it, find and read the code, correct it, test, submit."""
  tests = list(dict.fromkeys(row.test for row in rows))
  named = call_text('test', tests=' '.join(tests))
  steps = [named if told == 'test' else call_text('test')]
  for test in tests:
    place = _test_lines(files, test)
    if place and rng.random() < 0.7:
      path, first, last = place
      steps.append(call_text('read', path=path, first=first, last=min(last, first + 30)))
  present = dict(files)
  for edit in edits:
    path, line = edit['path'], edit['line']
    function = _function_name(rows, edit)
    if function and rng.random() < 0.7:
      steps.append(call_text('bash', command=f"grep -n 'def {function}' {path}"))
    if len(edits) <= _SHOWN_PLACES:
      length = present[path].count('\n')
      steps.append(call_text('read', path=path, first=max(1, line - rng.randint(3, 12)),
                             last=min(length, line + len(edit['bad'].splitlines())
                                      + rng.randint(2, 12))))
    old, new = repair(present[path], edit)
    steps.append(call_text('edit', path=path, old=old, new=new))
    present[path] = present[path].replace(old, new)
  if rng.random() < 0.5:
    steps.append(named)
  if rng.random() < 0.6:
    steps.append(call_text('test', **({'brief': True} if rng.random() < 0.5 else {})))
  return [*steps, SUBMIT]


def _function_name(rows: list[Row], edit: dict[str, Any]) -> str:
  """The name, without its class, of the function that a mistake is in."""
  return next((row.function for row in rows if edit in row.edits), '').rpartition('.')[2]


def _indent(line: str) -> int:
  return len(line) - len(line.lstrip())
