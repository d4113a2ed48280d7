"""Commands a player might try, over what is at hand: for exploring and for noise."""

import random
import re

from aw_jax.environments import game_host
from aw_jax.environments.experts import Actions, Commands, draw
from aw_jax.trajectories import SUBMIT, Task

_DIRECTIONS = ('north', 'south', 'east', 'west')
_CUTS = ('slice', 'dice', 'chop')
_LOOKING = ('look', 'inventory', 'examine', 'read', 'task')  # first words of what changes nothing
_LINE = re.compile(r'^(in|on) ([^:]+): (.*)$', re.MULTILINE)
_MANNER = re.compile(r' \([^)]*\)')
# A thing in a sentence: what follows an article, up to where a name cannot go on.
_NOUN = re.compile(
    r'\b(?:[Aa]n?|[Tt]he|substance called)[ ]((?!substance called|door|room\b)[a-z0-9][\w-]*'
    r'(?: (?!that\b|on\b|and\b|in\b|of\b|which\b|is\b|has\b|to\b|you\b|room\b)[\w-]+){0,3})')
_ROOM = re.compile(r'(?:[Dd]oor to the|(?:North|South|East|West) you see (?:the|a)) ([a-z ]+?)[ .]')


class _View:
  """What is at hand in a state; now and then something that is not."""

  def __init__(self, task: Task, state: str | None, rng: random.Random):
    self.rng = rng
    self._far = _nouns_of_plan(task)
    state, _, possible = (state or '').partition('possible: ')
    self.possible = possible.split(', ') if possible else []
    if task.setup['engine'] == 'textworld':
      self.near, self.carried = _tracked(state)
    else:
      seen, _, carried = state.partition('nventory')
      self.near = sorted(set(_NOUN.findall(seen)))
      self.carried = sorted(set(_NOUN.findall(carried)))
    self.rooms = sorted(set(_ROOM.findall(state)))

  def _one(self, names: list[str]) -> str:
    if not names or self.rng.random() < 0.08:
      names = self._far or ['key']
    return self.rng.choice(names)

  def thing(self) -> str:
    """Anything that can be seen or is carried."""
    return self._one(self.near + self.carried)

  def held(self) -> str:
    """A thing that is carried, if there is any."""
    return self._one(self.carried)

  def other(self) -> str:
    """A thing in the room."""
    return self._one(self.near)

  def way(self) -> str:
    """A direction."""
    return self.rng.choice(_DIRECTIONS)

  def room(self) -> str:
    """A room next door, if the text names any."""
    return self._one(self.rooms)


def _tracked(state: str) -> tuple[list[str], list[str]]:
  """What is in the player's room, and what he carries, by a state made of facts."""
  room = re.search(r'^player in: (.+)$', state, re.MULTILINE)
  carried = re.search(r'^carried: (.+)$', state, re.MULTILINE)
  places: dict[str, list[str]] = {}
  for _, place, things in _LINE.findall(state):
    places.setdefault(place, []).extend(_MANNER.sub('', things).split(', '))
  near = list(places.get(room[1], [])) if room else []
  for thing in near:  # grows on the way
    near.extend(places.get(thing, []))
  for line in state.split('\n') if room else ():
    if line.startswith(f'{room[1]}: '):
      near += re.findall(r' by ([^(]+?) \(', line)
  held = _MANNER.sub('', carried[1]).split(', ') if carried else []
  return near, [thing for thing in held if thing != 'nothing']


def _nouns_of_plan(task: Task) -> list[str]:
  """What the game's own commands name: things that are somewhere in it."""
  plan = game_host.describe(task.setup['engine'], task.setup['game'])['plan']
  found = set()
  for command in plan:
    for part in re.split(r' (?:with|from|in|on|to|into) ', command.partition(' ')[2]):
      if part and part not in _DIRECTIONS:
        found.add(part)
  return sorted(found)


def _textworld(view: _View) -> tuple[Commands, Commands]:
  """Commands that look, and commands that act."""
  looking = ((3, lambda: 'look'), (3, lambda: 'inventory'),
             (4, lambda: f'examine {view.thing()}'))
  acting = (
      (6, lambda: f'go {view.way()}'), (4, lambda: f'open {view.other()}'),
      (2, lambda: f'close {view.other()}'), (5, lambda: f'take {view.other()}'),
      (1, lambda: f'take {view.other()} from {view.other()}'),
      (2, lambda: f'drop {view.held()}'), (2, lambda: f'put {view.held()} on {view.other()}'),
      (2, lambda: f'insert {view.held()} into {view.other()}'),
      (2, lambda: f'unlock {view.other()} with {view.held()}'),
      (1, lambda: f'lock {view.other()} with {view.held()}'), (1, lambda: f'eat {view.thing()}'),
      (1, lambda: f'cook {view.held()} with {view.other()}'),
      (1, lambda: f'{view.rng.choice(_CUTS)} {view.held()} with {view.held()}'),
      (1, lambda: 'prepare meal'))
  return looking, acting


def _express(view: _View) -> tuple[Commands, Commands]:
  """Commands that look, and commands that act; mostly among those that the state lists."""
  listed = [command for command in view.possible if command.split()[0] in _LOOKING]
  others = [command for command in view.possible if command.split()[0] not in _LOOKING]
  looking = ((9, lambda: view.rng.choice(listed or ['look around'])),
             (1, lambda: f'examine {view.thing()}'))
  acting = ((18, lambda: view.rng.choice(others or ['move north'])),
            (1, lambda: f'move {view.way()}'), (1, lambda: f'take {view.other()}'))
  return looking, acting


def _scienceworld(view: _View) -> tuple[Commands, Commands]:
  """Commands that look, and commands that act."""
  looking = ((4, lambda: 'look around'), (2, lambda: 'inventory'), (1, lambda: 'task'),
             (4, lambda: f'look at {view.thing()}'), (2, lambda: f'look in {view.other()}'),
             (1, lambda: f'read {view.thing()}'), (1, lambda: 'wait1'))
  acting = (
      (6, lambda: f'go to {view.room()}'), (4, lambda: f'pick up {view.other()}'),
      (2, lambda: f'put down {view.held()}'), (2, lambda: f'open {view.other()}'),
      (2, lambda: f'close {view.other()}'), (2, lambda: f'activate {view.other()}'),
      (1, lambda: f'deactivate {view.other()}'), (3, lambda: f'move {view.thing()} to '
                                                             f'{view.other()}'),
      (1, lambda: f'pour {view.thing()} into {view.other()}'),
      (1, lambda: f'connect {view.thing()} to {view.thing()}'), (1, lambda: f'eat {view.thing()}'))
  return looking, acting


def _commands(task: Task, state: str | None, rng: random.Random) -> tuple[Commands, Commands]:
  view = _View(task, state, rng)
  makers = {'textworld': _textworld, 'express': _express, 'scienceworld': _scienceworld}
  return makers[task.setup['engine']](view)


class TextGameActions(Actions):
  """Exploring and mistakes in the words of a task's engine."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that looks."""
    return draw(_commands(task, state, rng)[0], rng)

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command over what is at hand, two of three of them to do something."""
    return draw(_commands(task, state, rng)[rng.random() < 0.67], rng)

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A command that does something."""
    return draw(_commands(task, state, rng)[1], rng)

  def survey(self, task: Task, state: str | None, rng: random.Random) -> str:
    """The room, or the inventory."""
    del state
    look = 'look' if task.setup['engine'] == 'textworld' else 'look around'
    return rng.choice((look, 'inventory'))

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any command over what the opening shows, each kind equally likely."""
    looking, acting = _commands(task, task.initial_state, rng)
    return rng.choice(looking + acting)[1]()

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` with one of its things, or its direction, replaced."""
    view = _View(task, state, rng)
    way = re.search(r'\b(?:north|south|east|west)$', action)
    if way:
      return action[:way.start()] + rng.choice([d for d in _DIRECTIONS if d != way[0]])
    known = sorted(set(view.near + view.carried + view.rooms + _nouns_of_plan(task)), key=len)
    named = [name for name in reversed(known) if f' {name}' in action]
    others = [name for name in known if name not in action]
    if not named or not others or action.startswith(SUBMIT):
      return self.wander(task, state, rng)
    return action.replace(f' {rng.choice(named[:2])}', f' {rng.choice(others)}', 1)
