"""Tasks of the git server: commits, branches, the index."""

import random
from collections.abc import Sequence
from typing import Any

from aw_jax.environments import mcp_worlds
from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

REPOSITORY = '/repo'  # where the server sees it
WORDS = tuple("""
amber apple arrow bean bell birch blue boat bread brick cedar clay cloud coral corn crow
dawn delta drum dune eagle elm fern flint fog fox frost grape green hazel heron honey iris
iron ivy jade kite lake leaf lemon lime linen maple marsh mint moon moss oak olive onyx opal
otter pearl pine plum pond quartz rain reed river robin rose ruby sage sand slate snow
spruce stone swan thyme tin violet wave wheat wren
""".split())
FILES = tuple(f'{stem}.txt' for stem in (
    'agenda colors crew draft goals guests ideas index list menu names notes plan prices rules '
    'stock tasks team').split())
BRANCHES = tuple('beta dev fix next review spike trial update'.split())
VERBS = tuple('Add Change Check Clean Edit Fix Improve Revise Tidy Update'.split())


class Project:
  """A repository in the making: two files, two commits, a second branch.

  Attributes:
    names: the files.
    commits: see git_files.Commit.
    branches: name -> index of a commit.
    present: the working tree; starts as main's files.
    staged: paths in the index as they are in the working tree.
  """

  def __init__(self, rng: random.Random):
    self.rng = rng
    self._words = iter(rng.sample(WORDS, len(WORDS)))
    self._branches = iter(rng.sample(BRANCHES, len(BRANCHES)))
    self.names = sorted(rng.sample(FILES, 2))
    first = {self.names[0]: self._text()}
    second = first | {self.names[1]: self._text()}
    self.commits: list[dict[str, Any]] = [
        {'message': f'Start {_stem(self.names[0])}', 'files': first},
        {'message': f'Add {_stem(self.names[1])}', 'files': second, 'parent': 0}]
    self.branches = {'main': 1}
    if rng.random() < 0.5:
      self.branches[self.new_branch()] = rng.randint(0, 1)
    self.present = dict(second)
    self.staged: list[str] = []

  def _text(self) -> str:
    return ''.join(f'{next(self._words)}\n' for _ in range(self.rng.randint(1, 3)))

  def new_branch(self) -> str:
    """A branch name not used yet."""
    return next(self._branches)

  def change(self, path: str) -> None:
    """Changes a line of a file in the working tree, or adds one."""
    lines = self.present[path].splitlines()
    place = self.rng.randrange(len(lines) + 1)
    lines[place:place + 1] = [next(self._words)]
    self.present[path] = ''.join(f'{line}\n' for line in lines)

  def new_file(self) -> str:
    """Adds an untracked file; returns its path."""
    path = self.rng.choice([name for name in FILES if name not in self.present])
    self.present[path] = self._text()
    return path

  def diverge(self, branch: str, path: str) -> str:
    """Gives `branch` a commit of its own that rewrites a file; returns the new text."""
    text = self._text()
    files = self.commits[1]['files'] | {path: text}
    self.commits.append({'message': f'Edit {_stem(path)}', 'files': files, 'parent': 1})
    self.branches[branch] = len(self.commits) - 1
    return text

  def message(self, path: str) -> str:
    """A commit message."""
    return f'{self.rng.choice(VERBS)} {_stem(path)}'

  def sometimes(self, *calls: str, chance: float = 0.5) -> list[str]:
    """The calls, or none of them."""
    return list(calls) if self.rng.random() < chance else []

  def recipe(self, phrasings: Sequence[str], verifier: Verifier, plan: Sequence[str]) -> Recipe:
    """The recipe; the plan lacks only the submission."""
    setup = {'server': 'git', 'commits': self.commits, 'branches': self.branches, 'head': 'main',
             'present': self.present, 'staged': self.staged}
    answer = verifier.expected if verifier.kind == 'answer' else ''
    return Recipe(
        instruction=self.rng.choice(phrasings), setup=setup, initial_state=mcp_worlds.state(setup),
        verifier=verifier, plan=(*plan, SUBMIT + answer))


def call(tool: str, **arguments: Any) -> str:
  """A call of the git server."""
  return call_text(f'git_{tool}', repo_path=REPOSITORY, **arguments)


def commit(seed: int, rng: random.Random) -> Recipe:
  """Commit one changed or new file and leave another as it is."""
  project = Project(rng)
  path, other = rng.sample(project.names, 2)
  project.change(path)
  left = project.new_file() if rng.random() < 0.5 else None
  if left is None:
    project.change(other)
    left = other
  message = project.message(path)
  plan = [call('status'), *project.sometimes(call('diff_unstaged'), chance=0.3),
          call('add', files=[path]), call('commit', message=message),
          *project.sometimes(call('status'))]
  return project.recipe([
      f'Commit {path} alone with the message "{message}".',
      f'Commit only the change of {path}: "{message}". Leave {left} as it is.'],
      Verifier('command', _status_text('main', project, [left]), call('status')), plan)


def branch(seed: int, rng: random.Random) -> Recipe:
  """Create a branch and switch to it."""
  project = Project(rng)
  new = project.new_branch()
  names = sorted([*project.branches, new])
  listed = '\n'.join(f'* {name}' if name == new else f'  {name}' for name in names)
  plan = [*project.sometimes(call('branch', branch_type='local')),
          call('create_branch', branch_name=new), call('checkout', branch_name=new),
          *project.sometimes(call('branch', branch_type='local'))]
  return project.recipe([
      f'Create a branch {new} and switch to it.', f'Start a new branch {new} and check it out.',
      f'Make the branch {new} and change to it.'],
      Verifier('command', listed.strip(), call('branch', branch_type='local')), plan)


def unstage(seed: int, rng: random.Random) -> Recipe:
  """The wrong file is staged: stage the other one alone."""
  project = Project(rng)
  wrong, path = rng.sample(project.names, 2)
  project.change(wrong)
  project.change(path)
  project.staged = [wrong]
  expected = _status_text('main', project, [wrong], [path])
  plan = [call('status'), call('reset'), call('add', files=[path]),
          *project.sometimes(call('status'))]
  return project.recipe([
      f'{wrong} was staged by mistake. Unstage it and stage {path}.',
      f'Stage {path} and nothing else.', f'Only {path} shall be staged, {wrong} shall not.'],
      Verifier('command', expected, call('status')), plan)


def read_branch(seed: int, rng: random.Random) -> Recipe:
  """Tell a line of a file on another branch."""
  project = Project(rng)
  name, path = project.new_branch(), rng.choice(project.names)
  lines = project.diverge(name, path).splitlines()
  which, line = rng.choice([('first', lines[0]), ('last', lines[-1])])
  if rng.random() < 0.5:
    reads = [call('checkout', branch_name=name), call('show', revision=f'HEAD:{path}')]
  else:
    reads = [call('show', revision=f'{name}:{path}')]
  plan = [*project.sometimes(call('branch', branch_type='local')), *reads]
  return project.recipe([
      f'What is the {which} line of {path} on branch {name}?',
      f'Tell the {which} line that {path} has on the branch {name}.'],
      Verifier('answer', line), plan)


def branch_commit(seed: int, rng: random.Random) -> Recipe:
  """Commit a change on a new branch."""
  project = Project(rng)
  new, path = project.new_branch(), rng.choice(project.names)
  project.change(path)
  message = project.message(path)
  plan = [*project.sometimes(call('status')), call('create_branch', branch_name=new),
          call('checkout', branch_name=new), call('add', files=[path]),
          call('commit', message=message)]
  return project.recipe([
      f'Commit the change of {path} on a new branch {new}: "{message}".',
      f'Put the change of {path} on a new branch {new}, with the message "{message}".'],
      Verifier('command', _status_text(new, project, []), call('status')), plan)


def _stem(path: str) -> str:
  return path.removesuffix('.txt')


def _status_text(
    head: str, project: Project, left: Sequence[str], staged: Sequence[str] = ()) -> str:
  """What git_status says where `left` is modified or untracked and `staged` is in the index."""
  tracked = project.commits[1]['files']
  groups = (
      ('Changes to be committed:', [f'modified:   {path}' for path in staged]),
      ('Changes not staged for commit:',
       [f'modified:   {path}' for path in left if path in tracked]),
      ('Untracked files:', [path for path in left if path not in tracked]))
  text = f'Repository status:\nOn branch {head}\n'
  text += '\n'.join(f'{title}\n' + ''.join(f'\t{line}\n' for line in lines)
                    for title, lines in groups if lines)
  if staged:
    return text.strip()
  if not left:
    return f'{text}nothing to commit, working tree clean'
  if left[0] in tracked:
    return f'{text}\nno changes added to commit'
  return f'{text}\nnothing added to commit but untracked files present'
