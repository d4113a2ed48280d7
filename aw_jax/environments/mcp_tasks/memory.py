"""Tasks of the memory server: a small graph of people, places and teams with what is known."""

import random
from collections.abc import Sequence
from typing import Any

from aw_jax.environments import mcp_worlds, npm_worlds
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_tasks.shop import CITIES, FIRST_NAMES
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

TEAMS = tuple('Anvil Beacon Comet Delta Ember Falcon Granite Harbor'.split())
LIKES = tuple('chess coffee cycling jazz maps opera pottery rowing sailing tea tennis yoga'.split())
RELATIONS = ('works in', 'lives in', 'leads', 'knows')


class Graph:
  """A knowledge graph in the making: people, each of whom lives in a city and works in a team.

  Attributes:
    people: their names.
    cities: those that people live in, without repetition.
    teams: those that people work in, without repetition.
    likes: person -> what they like, one or two things.
    entities: [name, type, observations], in the order of the server's file.
    relations: [from, type, to], in that order.
  """

  def __init__(self, rng: random.Random):
    self.rng = rng
    self.people = rng.sample(FIRST_NAMES, 3)
    places, groups = rng.sample(CITIES, 3), rng.sample(TEAMS, 3)
    self.new_city, self.new_team = places.pop(), groups.pop()
    self._likes = iter(rng.sample(LIKES, len(LIKES)))
    self.likes = {name: [self.like() for _ in range(rng.randint(1, 2))] for name in self.people}
    self.entities = [[name, 'person', [f'likes {like}' for like in self.likes[name]]]
                     for name in self.people]
    self.city = {name: rng.choice(places) for name in self.people}
    self.team = {name: rng.choice(groups) for name in self.people}
    self.cities, self.teams = sorted(set(self.city.values())), sorted(set(self.team.values()))
    self.entities += [[city, 'city', []] for city in self.cities]
    self.entities += [[team, 'team', []] for team in self.teams]
    self.relations = [[name, 'lives in', self.city[name]] for name in self.people]
    self.relations += [[name, 'works in', self.team[name]] for name in self.people]

  def like(self) -> str:
    """Something that nobody likes yet."""
    return next(self._likes)

  def look(self, name: str) -> str:
    """A call that shows an entity."""
    return self.rng.choice((
        call_text('open_nodes', names=[name]), call_text('search_nodes', query=name)))

  def sometimes(self, *calls: str, chance: float = 0.5) -> list[str]:
    """The calls, or none of them."""
    return list(calls) if self.rng.random() < chance else []

  def recipe(self, phrasings: Sequence[str], verifier: Verifier, plan: Sequence[str]) -> Recipe:
    """The recipe; the plan lacks only the submission."""
    setup = {'server': 'memory', 'entities': self.entities, 'relations': self.relations}
    answer = verifier.expected if verifier.kind == 'answer' else ''
    return Recipe(
        instruction=self.rng.choice(phrasings), setup=setup,
        initial_state=mcp_worlds.state(setup), verifier=verifier, plan=(*plan, SUBMIT + answer))

  def shown(
      self, names: Sequence[str], entities: Sequence[list], relations: Sequence[list]
  ) -> Verifier:
    """That of a call that opens `names`, where these are the entities and relations then."""
    shown = {'entities': [entity_json(*entity) for entity in entities if entity[0] in names],
             'relations': [relation_json(*relation) for relation in relations
                           if relation[0] in names or relation[2] in names]}
    return Verifier('command', npm_worlds.indented(shown),
                    call_text('open_nodes', names=list(names)))


def entity_json(name: str, kind: str, observations: Sequence[str]) -> dict[str, Any]:
  """An entity as the server writes it."""
  return {'name': name, 'entityType': kind, 'observations': list(observations)}


def relation_json(source: str, kind: str, target: str) -> dict[str, Any]:
  """A relation as the server writes it."""
  return {'from': source, 'to': target, 'relationType': kind}


def memory_note(seed: int, rng: random.Random) -> Recipe:
  """Note one more thing of somebody who is known."""
  graph = Graph(rng)
  name, like = rng.choice(graph.people), graph.like()
  plan = [graph.look(name),
          call_text('add_observations',
                    observations=[{'entityName': name, 'contents': [f'likes {like}']}]),
          *graph.sometimes(graph.look(name))]
  after = [[n, kind, [*notes, f'likes {like}'] if n == name else notes]
           for n, kind, notes in graph.entities]
  return graph.recipe([
      f'Note that {name} likes {like}, in the words "likes {like}".',
      f'Add to what is known of {name}: "likes {like}".'],
      graph.shown([name], after, graph.relations), plan)


def memory_newcomer(seed: int, rng: random.Random) -> Recipe:
  """Add a person who works in a team that is known."""
  graph = Graph(rng)
  name = rng.choice([n for n in FIRST_NAMES if n not in graph.people])
  like, team = graph.like(), rng.choice(graph.teams)
  entity, relation = [name, 'person', [f'likes {like}']], [name, 'works in', team]
  plan = [*graph.sometimes(graph.look(team)),
          call_text('create_entities', entities=[entity_json(*entity)]),
          call_text('create_relations', relations=[relation_json(*relation)]),
          *graph.sometimes(graph.look(name))]
  return graph.recipe([
      f'{name}, a person, works in {team}. Note "likes {like}" of {name}.',
      f'Add the person {name} with the note "likes {like}", who works in {team}.'],
      graph.shown([name], [*graph.entities, entity], [*graph.relations, relation]), plan)


def memory_move(seed: int, rng: random.Random) -> Recipe:
  """Somebody moves to a city that is not known yet."""
  graph = Graph(rng)
  name, city = rng.choice(graph.people), graph.new_city
  old, new = [name, 'lives in', graph.city[name]], [name, 'lives in', city]
  plan = [graph.look(name),
          call_text('create_entities', entities=[entity_json(city, 'city', [])]),
          call_text('delete_relations', relations=[relation_json(*old)]),
          call_text('create_relations', relations=[relation_json(*new)]),
          *graph.sometimes(graph.look(name))]
  after = [relation for relation in graph.relations if relation != old] + [new]
  return graph.recipe([
      f'{name} no longer lives in {graph.city[name]} but in {city}, a city that is not known yet.',
      f'{name} moved to {city}. Add the city, and let {name} live there and nowhere else.'],
      graph.shown([name, city], [*graph.entities, [city, 'city', []]], after), plan)


def memory_forget(seed: int, rng: random.Random) -> Recipe:
  """Forget one thing of somebody, or the person."""
  graph = Graph(rng)
  name = rng.choice(graph.people)
  if rng.random() < 0.5:
    like = rng.choice(graph.likes[name])
    plan = [graph.look(name), call_text('delete_observations', deletions=[
        {'entityName': name, 'observations': [f'likes {like}']}])]
    phrasings = [f'{name} does not like {like} any more. Delete that note.',
                 f'Forget that {name} likes {like}, and nothing else.']
    entities = [[n, kind, [note for note in notes if n != name or note != f'likes {like}']]
                for n, kind, notes in graph.entities]
    relations = graph.relations
  else:
    plan = [*graph.sometimes(graph.look(name)), call_text('delete_entities', entityNames=[name])]
    phrasings = [f'Forget {name}.', f'Delete {name} and all that has to do with {name}.']
    entities = [entity for entity in graph.entities if entity[0] != name]
    relations = [relation for relation in graph.relations if relation[0] != name]
  plan += graph.sometimes(graph.look(name))
  return graph.recipe(
      phrasings, graph.shown([*graph.people, graph.city[name]], entities, relations), plan)


def memory_likes(seed: int, rng: random.Random) -> Recipe:
  """Tell who of a city likes something."""
  graph = Graph(rng)
  name = rng.choice(graph.people)
  like = rng.choice(graph.likes[name])
  plan = [call_text('search_nodes', query=like),
          *graph.sometimes(call_text('open_nodes', names=[name]), chance=0.3)]
  if rng.random() < 0.5:
    return graph.recipe([
        f'In which team does the one work who likes {like}?',
        f'Somebody likes {like}. Tell the team of that person.'],
        Verifier('answer', graph.team[name]), plan)
  return graph.recipe([
      f'In which city does the one live who likes {like}?',
      f'Somebody likes {like}. Where does that person live?'],
      Verifier('answer', graph.city[name]), plan)


def memory_team(seed: int, rng: random.Random) -> Recipe:
  """Somebody leaves a team for another and leads it."""
  graph = Graph(rng)
  name, team = rng.choice(graph.people), graph.new_team
  old, new = [name, 'works in', graph.team[name]], [name, 'leads', team]
  plan = [graph.look(name),
          call_text('create_entities', entities=[entity_json(team, 'team', [])]),
          call_text('delete_relations', relations=[relation_json(*old)]),
          call_text('create_relations', relations=[relation_json(*new)]),
          call_text('add_observations',
                    observations=[{'entityName': team, 'contents': [f'led by {name}']}])]
  after = [relation for relation in graph.relations if relation != old] + [new]
  entities = [*graph.entities, [team, 'team', [f'led by {name}']]]
  return graph.recipe([
      f'{name} left {graph.team[name]} and leads a new team, {team}: its note is "led by {name}".',
      f'Add the team {team} with the note "led by {name}". {name} leads it, and works no longer in '
      f'{graph.team[name]}.'], graph.shown([name, team], entities, after), plan)
