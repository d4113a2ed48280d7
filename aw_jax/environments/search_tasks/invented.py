"""Questions over a few invented documents, which nobody can know; their answers come from SQL.

A small database of towns, firms and people is made, each row becomes a document, and the real
engine indexes them. All of it is the task's initial state, so that results can be predicted.
"""

import random
import sqlite3
from collections.abc import Sequence

from aw_jax.environments import search
from aw_jax.environments.mcp_tasks.shop import FIRST_NAMES, LAST_NAMES, PRODUCTS
from aw_jax.environments.registry import Recipe
from aw_jax.environments.search_tasks.trail import Trail
from aw_jax.trajectories import SUBMIT, Verifier

_STARTS, _ENDS = 'Ar Bel Cor Dra El Fen Gol Hal Ir Kor'.split(), 'vel dun mar rick tha wen'.split()
_KINDS = ('Mills', 'Works', 'Brothers', 'Guild')
_TABLES = """
create table towns (name text primary key, founded integer, inhabitants integer);
create table firms (name text primary key, product text, town text, director text);
create table people (name text primary key, born integer, town text);
"""
_SIZE = """select towns.inhabitants from firms join people on people.name = firms.director
join towns on towns.name = people.town where firms.name = ?"""
_PRODUCT = """select firms.product from people join firms on firms.town = people.town
where people.name = ?"""
_YEARS = """select people.born - towns.founded from firms join towns on towns.name = firms.town
join people on people.name = firms.director where firms.name = ?"""
_OLDER = """select people.name from firms join people on people.name = firms.director
where firms.name in (?, ?) order by people.born limit 1"""


class World:
  """Two towns, a firm in each, and their directors, each born in the other's town or in its own."""

  def __init__(self, rng: random.Random):
    self.rng = rng
    starts = rng.sample(_STARTS, 4)
    names = [start + rng.choice(_ENDS) for start in starts]
    self.towns, owners = names[:2], names[2:]
    self.firms = [f'{owner} {rng.choice(_KINDS)}' for owner in owners]
    self.people = [f'{first} {last}' for first, last in zip(
        rng.sample(FIRST_NAMES, 2), rng.sample(LAST_NAMES, 2), strict=True)]
    products = rng.sample(PRODUCTS, 2)
    births = rng.sample(range(1900, 1990), 2)
    homes = [rng.choice(self.towns) for _ in self.people]
    self._database = sqlite3.connect(':memory:')
    self._database.executescript(_TABLES)
    for town in self.towns:
      self._insert('towns', town, rng.randint(1100, 1800), rng.randint(300, 9900))
    for i, firm in enumerate(self.firms):
      self._insert('firms', firm, f'{products[i]}s', self.towns[i], self.people[i])
    for person, born, home in zip(self.people, births, homes, strict=True):
      self._insert('people', person, born, home)

  def _insert(self, table: str, *values: str | int) -> None:
    self._database.execute(f'insert into {table} values ({", ".join("?" * len(values))})', values)

  def ask(self, query: str, *values: str) -> str:
    """The one value that a query gives."""
    (row,) = self._database.execute(query, values).fetchall()
    return str(row[0])

  def documents(self) -> list[list[str]]:
    """A document for each row, in an order of their own."""
    texts = {
        'towns': 'The town was founded in {1}. It has {2} inhabitants.',
        'firms': 'The firm makes {1} in {2}. Its director is {3}.',
        'people': 'Born in {1} in the town of {2}.'}
    found = []
    for table, text in texts.items():
      for row in self._database.execute(f'select * from {table}'):
        found.append([address(table, row[0]), row[0], text.format(*row)])
    self.rng.shuffle(found)
    return found

  def home(self, person: str) -> str:
    """The town in which a person was born."""
    return self.ask('select town from people where name = ?', person)

  def recipe(self, trail: Trail, phrasings: Sequence[str], answer: str) -> Recipe:
    """A recipe whose answer is known."""
    setup = {'documents': self.documents()}
    self._database.close()
    return Recipe(
        instruction=self.rng.choice(phrasings), setup=setup, initial_state=search.state(setup),
        verifier=Verifier('answer', answer), plan=(*trail.plan, SUBMIT + answer))


def address(table: str, name: str) -> str:
  """Where the document of a row is."""
  return f'https://{table}.test/{name.lower().replace(" ", "-")}'


def birthplace_size(seed: int, rng: random.Random) -> Recipe:
  """The inhabitants of the town in which the director of a firm was born."""
  world, trail = World(rng), Trail(rng)
  place = rng.randrange(2)
  firm, director = world.firms[place], world.people[place]
  _visit(trail, ('firms', firm), ('people', director), ('towns', world.home(director)))
  return world.recipe(trail, [
      f'How many inhabitants has the town in which the director of {firm} was born?',
      f'The director of {firm} was born in a town. How many people live there?'],
      world.ask(_SIZE, firm))


def birthplace_product(seed: int, rng: random.Random) -> Recipe:
  """What the firm in a person's town of birth makes."""
  world, trail = World(rng), Trail(rng)
  person = rng.choice(world.people)
  home = world.home(person)
  _visit(trail, ('people', person))
  trail.search(f'firm in {home}')
  trail.open(address('firms', world.firms[world.towns.index(home)]))
  return world.recipe(trail, [
      f'What does the firm make that is in the town where {person} was born?',
      f'{person} was born in a town with one firm. What is made there?'],
      world.ask(_PRODUCT, person))


def founding(seed: int, rng: random.Random) -> Recipe:
  """The years from the founding of a firm's town to the birth of the firm's director."""
  world, trail = World(rng), Trail(rng)
  place = rng.randrange(2)
  firm = world.firms[place]
  _visit(trail, ('firms', firm), ('towns', world.towns[place]), ('people', world.people[place]))
  return world.recipe(trail, [
      f'How many years after the founding of the town of {firm} was the director of {firm} born?',
      f'{firm} is in a town and has a director. How many years lie between the founding of the '
      'one and the birth of the other?'], world.ask(_YEARS, firm))


def older_director(seed: int, rng: random.Random) -> Recipe:
  """The one of two directors who was born first."""
  world, trail = World(rng), Trail(rng)
  places = rng.sample(range(2), 2)
  for place in places:
    _visit(trail, ('firms', world.firms[place]), ('people', world.people[place]))
  first, second = (world.firms[place] for place in places)
  return world.recipe(trail, [
      f'Who was born first, the director of {first} or the director of {second}? Give the name.',
      f'Name the older one of the directors of {first} and of {second}.'],
      world.ask(_OLDER, first, second))


def _visit(trail: Trail, *rows: tuple[str, str]) -> None:
  """Searches for the documents of rows and opens them."""
  for table, name in rows:
    trail.search(name)
    trail.open(address(table, name))
