"""Tasks and experts of the local sites: two of TodoMVC's applications, and TiddlyWiki."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from aw_jax.environments.web_actions import text as action
from aw_jax.environments.web_tasks.page import Node, Page

_VERBS = ('buy', 'call', 'clean', 'fetch', 'fix', 'paint', 'return', 'sell', 'wash', 'water')
_THINGS = ('bread', 'the bicycle', 'the car', 'the cat', 'flowers', 'the landlord', 'a lamp',
           'milk', 'the plants', 'the roof', 'shoes', 'a ticket', 'the window')
_TITLES = ('Bridges', 'Canals', 'Ferries', 'Gardens', 'Harbours', 'Lighthouses', 'Markets',
           'Mills', 'Museums', 'Orchards', 'Stations', 'Towers')
_PLACES = ('beside the river', 'in the north', 'near the coast', 'on the hill', 'under repair',
           'open on Sundays', 'closed in winter', 'older than the town', 'known to few')
# A plain field in place of an editor in a frame of its own.
_WIKI = {'$:/config/TextEditor/EnableToolbar': 'no', '$:/config/AnimationDuration': '0'}

Todos = list[tuple[str, bool]]  # (title, whether it is done)


class Errand(NamedTuple):
  """A task on a local site: what is asked, the site as it is, and the hidden check's answer."""

  goal: str
  setup: dict[str, Any]
  command: str
  expected: str


def _todo_setup(todos: Todos, rng: random.Random) -> dict[str, Any]:
  """A list of todos, in one of the two applications."""
  items = [{'title': title, 'completed': done} for title, done in todos]
  name = rng.choice(('vanillajs', 'vue'))
  if name == 'vanillajs':
    items = [{**item, 'id': place} for place, item in enumerate(items, 1)]
    stored = {'todos-vanillajs': json.dumps({'todos': items})}
  else:
    stored = {'todos-vuejs': json.dumps(items)}
  return {'site': 'todomvc', 'path': f'/examples/{name}/index.html', 'seed': 0, 'stored': stored}


def _titles(count: int, rng: random.Random) -> list[str]:
  """Different things to do."""
  things = rng.sample(_THINGS, count)
  return [f'{rng.choice(_VERBS)} {thing}' for thing in things]


def _draw(rng: random.Random) -> Todos:
  return [(title, rng.random() < 0.4) for title in _titles(rng.randint(2, 4), rng)]


def _todo_errand(goal: str, before: Todos, after: Todos, rng: random.Random) -> Errand:
  lines = (f'[{"x" if done else " "}] {title}' for title, done in after)
  return Errand(goal, _todo_setup(before, rng), 'todos', '\n'.join(lines))


def todo_add(rng: random.Random) -> Errand:
  """New todos."""
  titles = _titles(rng.randint(3, 5), rng)
  count = rng.randint(1, 2)
  before = [(title, False) for title in titles[count:]]
  added = titles[:count]
  goal = f'Add to the list: {", then ".join(added)}.'
  return _todo_errand(goal, before, before + [(title, False) for title in added], rng)


def todo_done(rng: random.Random) -> Errand:
  """One todo turned round."""
  before = _draw(rng)
  place = rng.randrange(len(before))
  title, done = before[place]
  after = [(name, state != (i == place)) for i, (name, state) in enumerate(before)]
  return _todo_errand(f'Mark "{title}" as {"not yet done" if done else "done"}.', before, after,
                      rng)


def todo_delete(rng: random.Random) -> Errand:
  """One todo taken off the list."""
  before = _draw(rng)
  place = rng.randrange(len(before))
  after = before[:place] + before[place + 1:]
  return _todo_errand(f'Delete "{before[place][0]}" from the list.', before, after, rng)


def todo_rename(rng: random.Random) -> Errand:
  """One todo reworded."""
  *titles, new = _titles(rng.randint(3, 5), rng)
  before = [(title, rng.random() < 0.4) for title in titles]
  place = rng.randrange(len(before))
  after = [(new if i == place else title, done) for i, (title, done) in enumerate(before)]
  return _todo_errand(f'Change "{titles[place]}" to "{new}".', before, after, rng)


def todo_clear(rng: random.Random) -> Errand:
  """All that is done taken off the list."""
  before = [*_draw(rng)[1:], ('read the letter', True)]
  after = [todo for todo in before if not todo[1]]
  return _todo_errand('Remove all todos that are done.', before, after, rng)


def wiki_write(rng: random.Random) -> Errand:
  """A new note."""
  title, other = rng.sample(_TITLES, 2)
  return _wiki_errand(
      f'Create a tiddler with the title "{title}" and the text "%s".', other, title, '', rng)


def wiki_edit(rng: random.Random) -> Errand:
  """A note with another text."""
  title, other = rng.sample(_TITLES, 2)
  return _wiki_errand(
      f'Replace the text of the tiddler "{title}" by "%s".', other, title,
      rng.choice(_PLACES[:4]), rng)


def _wiki_errand(goal: str, other: str, title: str, old: str, rng: random.Random) -> Errand:
  """A wiki of one or two notes, of which one is to have a new text."""
  notes = {other: rng.choice(_PLACES)} | ({title: old} if old else {})
  new = rng.choice(_PLACES[4:])
  shown = ' '.join(sorted(notes))
  setup = {'site': 'tiddlywiki', 'path': '/index.html', 'seed': 0,
           'stored': {**_WIKI, '$:/DefaultTiddlers': shown, **notes}}
  after = sorted((notes | {title: new}).items())
  return Errand(goal % new, setup, 'tiddlers',
                '\n'.join(f'{name}: {text}' for name, text in after))


def _row(page: Page, title: str) -> Node:
  """The row of a todo."""
  return next(row for row in page.all('listitem')
              if any(node.name == title for node in page.inside(row)))


def play_add(page: Page) -> Iterator[str]:
  """Types each into the field above the list."""
  for title in page.asked(r'list: (.*)\.')[0].split(', then '):
    yield page.fill(0, title)
    yield action('press', page.one('textbox').number, 'Enter')


def play_done(page: Page) -> Iterator[str]:
  """Clicks its box."""
  (title,) = page.asked(r'"(.*)"')
  boxes = [node for node in page.inside(_row(page, title)) if node.role == 'checkbox']
  yield action('click', boxes[0].number)


def play_delete(page: Page) -> Iterator[str]:
  """Clicks the cross that a row shows under the mouse."""
  (title,) = page.asked(r'"(.*)"')
  yield action('hover', _row(page, title).number)
  crosses = [node for node in page.inside(_row(page, title)) if node.role == 'button']
  yield action('click', crosses[0].number)


def play_rename(page: Page) -> Iterator[str]:
  """Opens its field by a double click."""
  old, new = page.asked(r'"(.*)" to "(.*)"')
  row = _row(page, old)
  label = next(node for node in page.inside(row) if node.name == old)
  yield action('dblclick', page.holder(label).number)
  field = next(node for node in page.all('textbox') if node.value == old)
  yield action('fill', field.number, new)
  yield action('press', field.number, 'Enter')


def play_clear(page: Page) -> Iterator[str]:
  """Clicks the button below the list."""
  button = next(node for node in page.all('button') if node.name.startswith('Clear completed'))
  yield action('click', button.number)


def play_write(page: Page) -> Iterator[str]:
  """Fills the form of a new tiddler."""
  title, text = page.asked(r'the title "(.*)" and the text "(.*)"')
  yield page.click('button', 'new tiddler')
  field = next(node for node in page.all('textbox') if node.value == 'New Tiddler')
  yield action('fill', field.number, title)
  yield from _finish(page, text)


def play_edit(page: Page) -> Iterator[str]:
  """Opens a tiddler's form and fills it."""
  title, text = page.asked(r'the tiddler "(.*)" by "(.*)"')
  article = next(node for node in page.all('article')
                 if any(held.name == title for held in page.inside(node)))
  edit = next(node for node in page.inside(article) if node.name == 'Edit this tiddler')
  yield action('click', edit.number)
  yield from _finish(page, text)


def _finish(page: Page, text: str) -> Iterator[str]:
  """Fills the text of the open form, and closes it."""
  body = next(node for node in page.all('textbox') if 'multiline' in node.states)
  yield action('fill', body.number, text)
  yield page.click('button', 'Confirm changes to this tiddler')


Draw = Callable[[random.Random], Errand]
ERRANDS: tuple[tuple[Draw, Callable[[Page], Iterator[str]]], ...] = (
    (todo_add, play_add), (todo_done, play_done), (todo_delete, play_delete),
    (todo_rename, play_rename), (todo_clear, play_clear), (wiki_write, play_write),
    (wiki_edit, play_edit))
