"""TextWorld: games generated from a seed, compiled by Inform 7 and run on a Z-machine.

The state is text made of the facts that TextWorld tracks: the rooms and their exits, what is where
and how it is, which key fits what, the recipe of a cooking game.
"""

import collections
import os
import re

_FOLDER = '/tmp/games'
_TRIES = 20  # at generating a game: some seeds lead to no quest of the length asked for
_KEPT = 32  # compiled games, of about a megabyte each
# These do not act in the game: they end, save or rewind it, or show what a player must not see.
_OUTSIDE = re.compile(
    r'(?:^|[.,;"]|\bthen\b)\s*(?:quit|q|restart|restore|save|undo|oops|script|transcript|notify|'
    r'verify|recording|tw-\S*)\b', re.IGNORECASE)
# The status line of the Z-machine's screen, which is no part of the answer.
_STATUS = re.compile(r'\s*>?\s*-= [^=\n]+ =-\s*-?\d+/\d+\s*\Z')
_UNKNOWN_VERB = "That's not a verb I recognise."
_DIRECTIONS = ('north_of', 'south_of', 'east_of', 'west_of')
_MANNERS = (
    'open', 'closed', 'locked', 'raw', 'fried', 'roasted', 'grilled', 'burned', 'uncut', 'chopped',
    'sliced', 'diced')
_PLAIN = ('raw', 'uncut')  # not worth a word of a recipe


class TextWorld:
  """Games by the name of their generator.

  A game is {'kind', 'seed', 'settings'}: kind 'quest' for TextWorld's own generator, else one of
  its challenges.
  """

  def __init__(self):
    import textworld.challenges  # noqa: F401  # a second, and not for the first game to pay
    os.makedirs(_FOLDER, exist_ok=True)
    self._games = collections.OrderedDict()  # key -> (path, game)
    self._sessions = {}  # name -> [environment, state]

  def describe(self, game):
    """What a task says of a game: instruction, opening text, state and the way to win it."""
    _, made = self._make(game)
    started = self.start('describe', game)
    self.end('describe')
    return {'instruction': _tidy(made.objective), 'opening': started['observation'],
            'state': started['state'], 'plan': list(made.metadata['walkthrough'])}

  def start(self, session, game):
    """A game from its beginning."""
    import textworld
    self.end(session)
    path, _ = self._make(game)
    environment = textworld.start(path, textworld.EnvInfos(facts=True, score=True, max_score=True))
    state = environment.reset()
    self._sessions[session] = [environment, state]
    text = state.feedback
    return self._answer(text[text.index('-= '):] if '-= ' in text else text, state)

  def act(self, session, command):
    """One command."""
    environment, state = self._sessions[session]
    if _OUTSIDE.search(command):
      return self._answer(_UNKNOWN_VERB, state)
    # A command is one line, in letters that the Z-machine knows.
    command = ' '.join(command.encode('ascii', 'replace').decode().split())
    state, _, _ = environment.step(command)
    self._sessions[session][1] = state
    return self._answer(state.feedback, state)

  def end(self, session):
    """Forgets a session."""
    if session in self._sessions:
      self._sessions.pop(session)[0].close()
    return {}

  def _answer(self, text, state):
    text = _STATUS.sub('', text.partition('Would you like to RESTART')[0])
    return {'observation': _tidy(text), 'state': render(state['facts']),
            'score': (state.score or 0) / max(state.max_score, 1),
            'won': bool(state.won), 'lost': bool(state.lost)}

  def _make(self, game):
    """The path and the description of a game, compiled where it is not at hand."""
    key = repr(sorted(game.items()))
    if key in self._games:
      self._games.move_to_end(key)
      return self._games[key]
    from textworld.generator import compile_game
    from textworld.generator.chaining import QuestGenerationError
    for attempt in range(_TRIES):
      options = _options(game, attempt)
      try:
        made = _generate(game, options)
        break
      except QuestGenerationError:
        if attempt == _TRIES - 1:
          raise
    path = compile_game(made, options)
    self._games[key] = path, made
    if len(self._games) > _KEPT:
      _, (old, _) = self._games.popitem(last=False)
      for name in os.listdir(_FOLDER):
        if name.startswith(os.path.basename(old).rpartition('.')[0]):
          os.unlink(os.path.join(_FOLDER, name))
    return path, made


def _options(game, attempt):
  import textworld
  options = textworld.GameOptions()
  options.seeds = game['seed'] + attempt
  options.path = f'{_FOLDER}/{game["kind"]}-{game["seed"]}-{abs(hash(str(game["settings"])))}.z8'
  options.force_recompile = True
  return options


def _generate(game, options):
  from textworld.challenges import CHALLENGES
  from textworld.generator import make_game
  settings = game['settings']
  if game['kind'] != 'quest':
    return CHALLENGES[game['kind']][1](dict(settings), options)
  options.nb_rooms, options.nb_objects = settings['rooms'], settings['objects']
  options.quest_length, options.quest_breadth = settings['length'], 1
  options.grammar.theme = 'house'
  return make_game(options)


def _tidy(text):
  """Text without the gaps that Inform leaves: no blank line beside another, none at the ends."""
  lines = [' '.join(line.split()) for line in text.split('\n')]
  return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines)).strip()


def render(facts):
  """The facts of a game as text, in an order that does not depend on theirs.

  Args:
    facts: propositions; each has a name and arguments, of which each has a name and a type.
  """
  about = collections.defaultdict(list)  # name of a fact -> its arguments
  for fact in facts:
    about[str(fact.name)].append(tuple(argument.name for argument in fact.arguments))
  manners = collections.defaultdict(list)
  for manner in _MANNERS:
    for arguments in about[manner]:
      if len(arguments) == 1:
        manners[arguments[0]].append(manner)
  rooms = sorted({argument.name for fact in facts for argument in fact.arguments
                  if argument.type == 'r'})
  inside, on, at = _places(about['in']), _places(about['on']), _places(about['at'])
  lines = [f'player in: {next(place for thing, place in about["at"] if thing == "P")}']
  lines += [_exits(room, about, manners) for room in rooms]
  for word, places in (('in', at), ('on', on), ('in', inside)):
    for place in sorted(places.keys() - {'I', 'RECIPE'}):
      lines.append(f'{word} {place}: {_listed(places[place], manners)}')
  lines += [f'key: {key} fits {lock}' for key, lock in sorted(about['match'])]
  recipe = [
      ' '.join([food, *(m for m in manners[part] if m not in _PLAIN)])
      for food, part in about['base'] if part in inside.get('RECIPE', ())]
  if recipe:
    lines.append('recipe: ' + ', '.join(sorted(recipe)))
  lines.append('carried: ' + (_listed(inside['I'], manners) if inside.get('I') else 'nothing'))
  return '\n'.join(lines)


def _places(pairs):
  """place -> the things there."""
  places = collections.defaultdict(list)
  for thing, place in pairs:
    if thing != 'P':
      places[place].append(thing)
  return places


def _listed(things, manners):
  return ', '.join(
      thing + (f' ({", ".join(manners[thing])})' if manners[thing] else '')
      for thing in sorted(things))


def _exits(room, about, manners):
  doors = {(one, other): door for one, door, other in about['link']}
  exits = []
  for relation in _DIRECTIONS:
    for other, here in sorted(about[relation]):
      if here == room:
        door = doors.get((room, other))
        by = '' if door is None else f' by {door} ({", ".join(manners[door]) or "open"})'
        exits.append(f'{relation[:-3]} to {other}{by}')
  return f'{room}: ' + (', '.join(exits) or 'no exits')
