"""Tasks of the filesystem server: notes in folders, to read, write, correct, move and count."""

import random
from collections.abc import Sequence
from typing import Any

from aw_jax.environments import mcp_worlds
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_servers import INSIDE
from aw_jax.environments.mcp_tasks.git import WORDS
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

FOLDERS = tuple('archive bills drafts house letters plans recipes school trips work'.split())
STEMS = tuple('agenda april budget crew garden guests ideas june list menu notes paint prices '
              'rules stock tasks team tools'.split())
ENDINGS = ('txt', 'md', 'log')


class Shelf:
  """Folders of notes in the making.

  Attributes:
    folders: their names.
    files: path below the root -> text.
  """

  def __init__(self, rng: random.Random, folders: int = 2):
    self.rng = rng
    self._words = iter(rng.sample(WORDS, len(WORDS)))
    self.folders = sorted(rng.sample(FOLDERS, folders))
    self._stems = iter(rng.sample(STEMS, len(STEMS)))
    self.files: dict[str, str] = {}

  def word(self) -> str:
    """A word that is in no file yet."""
    return next(self._words)

  def stem(self) -> str:
    """A name that no file has yet."""
    return next(self._stems)

  def add(self, folder: str, ending: str = 'txt', lines: int = 0) -> str:
    """Adds a file of `lines` lines (1 to 3 where 0); returns its path."""
    path = f'{folder}/{self.stem()}.{ending}'
    count = lines or self.rng.randint(1, 3)
    self.files[path] = ''.join(f'{self.word()} {self.word()}\n' for _ in range(count))
    return path

  def sometimes(self, *calls: str, chance: float = 0.5) -> list[str]:
    """The calls, or none of them."""
    return list(calls) if self.rng.random() < chance else []

  def checked(
      self, phrasings: Sequence[str], check: str, expected: str, plan: Sequence[str]) -> Recipe:
    """A recipe verified by a call and its response."""
    return self._recipe(phrasings, Verifier('command', expected, check), plan)

  def answered(self, phrasings: Sequence[str], answer: str, plan: Sequence[str]) -> Recipe:
    """A recipe verified by the answer that the agent submits."""
    return self._recipe(phrasings, Verifier('answer', answer), plan)

  def _recipe(self, phrasings, verifier, plan) -> Recipe:
    setup = {'server': 'filesystem', 'files': dict(sorted(self.files.items()))}
    answer = verifier.expected if verifier.kind == 'answer' else ''
    return Recipe(
        instruction=f'{self.rng.choice(phrasings)} The files are in {INSIDE}.', setup=setup,
        initial_state=mcp_worlds.state(setup), verifier=verifier, plan=(*plan, SUBMIT + answer))


def call(tool: str, path: str = '', **arguments: Any) -> str:
  """A call with a path below the root."""
  return call_text(tool, path=_full(path), **arguments)


def fs_collect(seed: int, rng: random.Random) -> Recipe:
  """Write the lines of two files into a new one."""
  shelf = Shelf(rng)
  first, second = (shelf.add(folder) for folder in shelf.folders)
  new = f'{shelf.folders[1]}/{shelf.stem()}.txt'
  text = shelf.files[first] + shelf.files[second]
  if rng.random() < 0.5:
    reads = [call('read_text_file', path) for path in (first, second)]
  else:
    reads = [call_text('read_multiple_files', paths=[_full(first), _full(second)])]
  plan = [*shelf.sometimes(call('list_directory', shelf.folders[0])), *reads,
          call('write_file', new, content=text),
          *shelf.sometimes(call('read_text_file', new), chance=0.3)]
  return shelf.checked([
      f'Write the lines of {first}, then those of {second}, into a new file {new}.',
      f'Make a file {new} of what is in {first} and, after it, in {second}.'],
      call('read_text_file', new), text.strip(), plan)


def fs_correct(seed: int, rng: random.Random) -> Recipe:
  """Replace a word in the one file of a folder that holds it."""
  shelf = Shelf(rng)
  folder = rng.choice(shelf.folders)
  paths = [shelf.add(folder) for _ in range(rng.randint(2, 3))]
  path, new = rng.choice(paths), shelf.word()
  old = rng.choice(shelf.files[path].split())
  text = _with_word(shelf.files[path], old, new)
  reads = [call('read_text_file', p) for p in sorted(paths)[:sorted(paths).index(path) + 1]]
  plan = [call('list_directory', folder), *reads,
          call('edit_file', path, edits=[{'oldText': old, 'newText': new}]),
          *shelf.sometimes(call('read_text_file', path), chance=0.3)]
  return shelf.checked([
      f'One file in {folder} has the word {old}. Replace it with {new} there.',
      f'In a file of {folder}, {old} shall become {new}.'],
      call('read_text_file', path), text.strip(), plan)


def fs_archive(seed: int, rng: random.Random) -> Recipe:
  """Move the files of one ending into a new folder."""
  shelf = Shelf(rng, folders=3)
  source, _, target = rng.sample(shelf.folders, 3)
  ending, other = rng.sample(ENDINGS, 2)
  moved = sorted(shelf.add(source, ending, 1) for _ in range(rng.randint(1, 2)))
  shelf.add(source, other, 1)
  pairs = [(path, f'{target}/{path.partition("/")[2]}') for path in moved]
  if rng.random() < 0.5:
    look = call('list_directory', source)
  else:
    look = call('search_files', source, pattern=f'*.{ending}')
  plan = [look, call('create_directory', target),
          *(call_text('move_file', source=_full(old), destination=_full(new))
            for old, new in pairs),
          *shelf.sometimes(call('list_directory', target))]
  expected = [f'{_full(new)}:\n{shelf.files[old]}\n' for old, new in pairs]
  expected += [f"{_full(old)}: Error - ENOENT: no such file or directory, open '{_full(old)}'"
               for old, _ in pairs]
  check = call_text('read_multiple_files', paths=[
      *(_full(new) for _, new in pairs), *(_full(old) for old, _ in pairs)])
  return shelf.checked([
      f'Move every .{ending} file of {source} into a new folder {target}.',
      f'Make a folder {target} and put the .{ending} files of {source} there.'],
      check, '\n---\n'.join(expected), plan)


def fs_count(seed: int, rng: random.Random) -> Recipe:
  """Tell how many files of an ending there are in all folders."""
  shelf = Shelf(rng)
  ending, other = rng.sample(ENDINGS, 2)
  for folder in shelf.folders:
    for _ in range(rng.randint(0, 2)):
      shelf.add(folder, ending, 1)
  shelf.add(shelf.folders[0], ending, 1)
  shelf.add(rng.choice(shelf.folders), other, 1)
  count = sum(path.endswith(f'.{ending}') for path in shelf.files)
  plan = [*shelf.sometimes(call('list_directory')),
          call('search_files', pattern=f'**/*.{ending}')]
  return shelf.answered([
      f'How many .{ending} files are there in all folders together?',
      f'Count the files that end in .{ending}, in every folder.'], str(count), plan)


def fs_line(seed: int, rng: random.Random) -> Recipe:
  """Tell the last line of the longest file of a folder."""
  shelf = Shelf(rng)
  folder = rng.choice(shelf.folders)
  longest, *_ = (shelf.add(folder, lines=lines) for lines in (rng.randint(4, 5), 1, 2))
  last = shelf.files[longest].splitlines()[-1]
  plan = [*shelf.sometimes(call('list_directory', folder), chance=0.3),
          call('list_directory_with_sizes', folder, sortBy='size'),
          call('read_text_file', longest, tail=2)]
  return shelf.answered([
      f'What is the last line of the largest file in {folder}?',
      f'Tell the last line of that file in {folder} which has the most bytes.'], last, plan)


def fs_exchange(seed: int, rng: random.Random) -> Recipe:
  """Two files exchange their names."""
  shelf = Shelf(rng)
  folder = rng.choice(shelf.folders)
  first, second = shelf.add(folder), shelf.add(folder)
  spare = f'{folder}/{shelf.stem()}.txt'
  plan = [*shelf.sometimes(call('list_directory', folder)),
          *(call_text('move_file', source=_full(old), destination=_full(new))
            for old, new in ((first, spare), (second, first), (spare, second))),
          *shelf.sometimes(call('read_text_file', first), chance=0.3)]
  check = call_text('read_multiple_files', paths=[_full(first), _full(second)])
  return shelf.checked([
      f"{first} and {second} have each other's names. Exchange them.",
      f'Let {first} and {second} change places: each shall hold what the other does now.'],
      check, f'{_full(first)}:\n{shelf.files[second]}\n\n---\n'
             f'{_full(second)}:\n{shelf.files[first].strip()}', plan)


def _full(path: str) -> str:
  return f'{INSIDE}/{path}'.rstrip('/')


def _with_word(text: str, old: str, new: str) -> str:
  """`text` with the first `old` replaced, as edit_file does it."""
  return text.replace(old, new, 1)
