"""Calls a person might try with the servers filesystem, memory and everything."""

import random
import re

from aw_jax.environments.experts import Commands
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_servers import INSIDE
from aw_jax.environments.mcp_tasks.everything import TEMPERATURES
from aw_jax.environments.mcp_tasks.filesystem import ENDINGS, FOLDERS, STEMS, call
from aw_jax.environments.mcp_tasks.git import WORDS
from aw_jax.environments.mcp_tasks.memory import (
  LIKES,
  RELATIONS,
  TEAMS,
  entity_json,
  relation_json,
)
from aw_jax.environments.mcp_tasks.shop import CITIES, FIRST_NAMES

_FILE = re.compile(r'^== (\S+)\n?((?:(?!== ).*\n?)*)', re.MULTILINE)
_ENTITY = re.compile(r'^(\S+(?: \S+)?) \((\w+)\)(?:: (.*))?$', re.MULTILINE)
_RELATION = re.compile(r'^(.+) -- (.+) -> (.+)$', re.MULTILINE)


def commands(server: str, state: str | None, rng: random.Random) -> tuple[Commands, Commands]:
  """Calls that read and calls that write, over what is at hand in a state."""
  if server == 'filesystem':
    return _filesystem(_Files(state or '', rng))
  if server == 'memory':
    return _memory(_Graph(state or '', rng))
  return _everything(rng)


class _Files:
  """Paths and words of a filesystem's state; now and then others."""

  def __init__(self, state: str, rng: random.Random):
    self.rng = rng
    self._texts = {match[1]: match[2] for match in _FILE.finditer(state)}
    self._paths = [path for path in self._texts if not path.endswith('/')]
    self._folders = sorted({path.rpartition('/')[0] for path in self._texts} - {''})

  def path(self) -> str:
    """A file; once in ten one that is likely to be none."""
    return self.new() if not self._paths or self.rng.random() < 0.1 else self.rng.choice(
        self._paths)

  def folder(self) -> str:
    """A folder; once in ten one that may not be there."""
    known = self._folders if self._folders and self.rng.random() < 0.9 else FOLDERS
    return self.rng.choice(known)

  def new(self) -> str:
    """A path that is likely to be free."""
    return f'{self.folder()}/{self.rng.choice(STEMS)}.{self.rng.choice(ENDINGS)}'

  def text(self) -> str:
    """A line or two to write."""
    return ''.join(f'{self.rng.choice(WORDS)}\n' for _ in range(self.rng.randint(1, 2)))

  def edit(self) -> str:
    """A call that replaces a word of a file."""
    path = self.path()
    words = self._texts.get(path, '').split() or list(WORDS)
    return call('edit_file', path, edits=[
        {'oldText': self.rng.choice(words), 'newText': self.rng.choice(WORDS)}])

  def move(self) -> str:
    """A call that moves a file, one time in six onto another."""
    target = self.path() if self.rng.random() < 1 / 6 else self.new()
    return call_text('move_file', source=f'{INSIDE}/{self.path()}',
                     destination=f'{INSIDE}/{target}')


def _filesystem(view: _Files) -> tuple[Commands, Commands]:
  choose = view.rng.choice
  reading = (
      (5, lambda: call('read_text_file', view.path())),
      (1, lambda: call('read_text_file', view.path(), **{choose(('head', 'tail')): 1})),
      (1, lambda: call_text('read_multiple_files', paths=[
          f'{INSIDE}/{view.path()}' for _ in range(2)])),
      (3, lambda: call('list_directory', choose(('', view.folder())))),
      (1, lambda: call('list_directory_with_sizes', view.folder(), sortBy=choose(
          ('name', 'size')))),
      (1, lambda: call('directory_tree')),
      (2, lambda: call('search_files', pattern=f'**/*.{choose(ENDINGS)}')),
      (1, lambda: call('get_file_info', view.path())))
  writing = (
      (4, view.edit),
      (3, view.move),
      (2, lambda: call('write_file', view.new(), content=view.text())),
      (1, lambda: call('write_file', view.path(), content=view.text())),
      (1, lambda: call('create_directory', choose(FOLDERS))))
  return reading, writing


class _Graph:
  """Entities and relations of a graph's state; now and then others."""

  def __init__(self, state: str, rng: random.Random):
    self.rng = rng
    self._entities = [(match[1], match[3] or '') for match in _ENTITY.finditer(state)]
    self._relations = [match.groups() for match in _RELATION.finditer(state)]

  def name(self) -> str:
    """An entity; once in ten one that is likely to be none."""
    if not self._entities or self.rng.random() < 0.1:
      return self.rng.choice(FIRST_NAMES)
    return self.rng.choice(self._entities)[0]

  def like(self) -> str:
    """Something to like."""
    return self.rng.choice(LIKES)

  def relation(self) -> str:
    """A relation that is there, or another."""
    if self._relations and self.rng.random() < 0.8:
      return relation_json(*self.rng.choice(self._relations))
    return relation_json(self.name(), self.rng.choice(RELATIONS), self.name())

  def entity(self) -> dict:
    """An entity that is likely to be new."""
    kind, names = self.rng.choice((('person', FIRST_NAMES), ('city', CITIES), ('team', TEAMS)))
    return entity_json(self.rng.choice(names), kind, [])

  def deletion(self) -> str:
    """A call that deletes a note."""
    name, notes = self.rng.choice(self._entities or [(self.name(), '')])
    note = self.rng.choice(notes.split('; ')) or f'likes {self.like()}'
    return call_text('delete_observations',
                     deletions=[{'entityName': name, 'observations': [note]}])


def _memory(view: _Graph) -> tuple[Commands, Commands]:
  reading = (
      (4, lambda: call_text('open_nodes', names=[view.name()])),
      (2, lambda: call_text('search_nodes', query=view.name())),
      (2, lambda: call_text('search_nodes', query=view.like())),
      (1, lambda: call_text('read_graph')))
  writing = (
      (3, lambda: call_text('add_observations', observations=[
          {'entityName': view.name(), 'contents': [f'likes {view.like()}']}])),
      (2, lambda: call_text('create_entities', entities=[view.entity()])),
      (2, lambda: call_text('create_relations', relations=[relation_json(
          view.name(), view.rng.choice(RELATIONS), view.name())])),
      (2, lambda: call_text('delete_relations', relations=[view.relation()])),
      (1, lambda: call_text('delete_entities', entityNames=[view.name()])),
      (2, view.deletion))
  return reading, writing


def _everything(rng: random.Random) -> tuple[Commands, Commands]:
  number = rng.randint
  reading = (
      (3, lambda: call_text('get-sum', a=number(-99, 9999), b=number(-99, 9999))),
      (2, lambda: call_text('echo', message=' '.join(rng.sample(WORDS, 2)))),
      (3, lambda: call_text('get-structured-content', location=rng.choice(
          (*sorted(TEMPERATURES), 'Boston')))),
      (2, lambda: call_text('get-annotated-message', messageType=rng.choice(
          ('error', 'success', 'debug', 'info')), includeImage=rng.random() < 0.3)),
      (1, lambda: call_text('get-resource-links', count=number(0, 4))),
      (2, lambda: call_text('get-resource-reference', resourceType=rng.choice(('Text', 'Blob')),
                            resourceId=number(0, 9))),
      (1, lambda: call_text('get-tiny-image')))
  writing = (
      (1, lambda: call_text('gzip-file-as-resource', name=f'{rng.choice(STEMS)}.gz',
                            data=f'data:text/plain,{rng.choice(WORDS)}', outputType=rng.choice(
                                ('resourceLink', 'resource')))),)
  return reading, writing
