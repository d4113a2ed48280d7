"""Text-game task families: the games of three engines whose published paths do not vary.

Left out are games in which the engine draws from an unseeded generator: TextWorld-Express's coin,
common-sense and sorting games, and the ScienceWorld tasks with thermometers, animals or paint.
Validation and test tasks play the folds that an engine keeps for them.
"""

import random
from collections.abc import Callable
from typing import Any

from aw_jax.environments import game_host
from aw_jax.environments.registry import Family, Recipe
from aw_jax.environments.textgame import VERDICT, WON
from aw_jax.environments.textgame_tasks.actions import TextGameActions
from aw_jax.trajectories import SUBMIT, Verifier

Draw = Callable[[int, random.Random], dict[str, Any]]

_FOLDS = {8: 'dev', 9: 'test'}  # by the seed's last digit, as registry.py splits; else train
_SPARE_TURNS = 8  # beyond the expert's
_SEEDS = 1 << 30


def _fold(seed: int) -> str:
  return _FOLDS.get(seed % 10, 'train')


def _textworld(kind: str, draw: Callable[[random.Random], dict[str, Any]]) -> Draw:
  def game(seed: int, rng: random.Random) -> dict[str, Any]:
    settings = draw(rng)
    if kind == 'tw-cooking':
      settings['split'] = {'dev': 'valid'}.get(_fold(seed), _fold(seed))
    return {'kind': kind, 'seed': rng.randrange(_SEEDS), 'settings': settings}
  return game


def _express(kind: str, *settings: str) -> Draw:
  def game(seed: int, rng: random.Random) -> dict[str, Any]:
    return {'kind': kind, 'settings': rng.choice(settings), 'fold': _fold(seed),
            'seed': rng.randrange(_SEEDS)}
  return game


def _scienceworld(kind: str) -> Draw:
  def game(seed: int, rng: random.Random) -> dict[str, Any]:
    return {'kind': kind, 'fold': _fold(seed), 'draw': rng.random()}
  return game


def _quest(rng: random.Random) -> dict[str, Any]:
  return {'rooms': rng.randint(2, 5), 'objects': rng.randint(4, 8), 'length': rng.randint(3, 6)}


def _coin(rng: random.Random) -> dict[str, Any]:
  return {'level': rng.choice((0, 100)) + rng.randint(3, 8)}


def _house(rng: random.Random) -> dict[str, Any]:
  return {'rewards': 'balanced', 'goal': rng.choice(('detailed', 'brief')), 'test': False}


def _cooking(rng: random.Random) -> dict[str, Any]:
  ingredients = rng.randint(1, 2)
  return {'recipe': ingredients, 'take': rng.randint(1, ingredients), 'go': rng.choice((1, 6)),
          'open': rng.random() < 0.5, 'cook': rng.random() < 0.7, 'cut': rng.random() < 0.7,
          'drop': False, 'recipe_seed': rng.randrange(_SEEDS)}


def _treasure(rng: random.Random) -> dict[str, Any]:
  return {'level': rng.choice((1, 11)) + rng.randint(0, 4)}


def _family(name: str, engine: str, draw: Draw, *, held_out: bool = False) -> Family:
  def make(seed: int, rng: random.Random) -> Recipe:
    game = draw(seed, rng)
    found = game_host.describe(engine, game)
    return Recipe(
        instruction=f'{found["instruction"]}\n\n{found["opening"]}',
        setup={'engine': engine, 'game': game}, initial_state=found['state'],
        verifier=Verifier('command', WON, VERDICT), plan=(*found['plan'], SUBMIT),
        max_turns=len(found['plan']) + _SPARE_TURNS)
  java = () if engine == 'textworld' else ('java',)
  return Family(name, make, held_out, java)


ACTIONS = TextGameActions()
FAMILIES = (
    _family('tw_quest', 'textworld', _textworld('quest', _quest)),
    _family('tw_coin', 'textworld', _textworld('tw-coin_collector', _coin)),
    _family('tw_house', 'textworld', _textworld('tw-simple', _house)),
    _family('tw_cooking', 'textworld', _textworld('tw-cooking', _cooking)),
    _family('twx_cooking', 'express', _express('cookingworld', *(
        f'numLocations={rooms},numIngredients={ingredients},numDistractorItems=3,'
        f'includeDoors={doors},limitInventorySize=0'
        for rooms in (1, 2, 3) for ingredients in (1, 2) for doors in (0, 1)))),
    _family('twx_map', 'express', _express('mapreader', *(
        f'numLocations={rooms},maxDistanceApart={distance},includeDoors=0,'
        'maxDistractorItemsPerLocation=1'
        for rooms in (5, 8) for distance in (2, 3)))),
    _family('twx_arithmetic', 'express', _express('arithmetic', '')),
    _family('twx_simon', 'express', _express('simonsays', *(
        f'gameLength={length},numDistractors=3' for length in (4, 5, 6)))),
    _family('sw_long_lived', 'scienceworld', _scienceworld('lifespan-longest-lived')),
    _family('sw_short_lived', 'scienceworld', _scienceworld('lifespan-shortest-lived')),
    _family('sw_power', 'scienceworld', _scienceworld('power-component')),
    _family('sw_conductor', 'scienceworld', _scienceworld('test-conductivity')),
    _family('sw_mix', 'scienceworld', _scienceworld('chemistry-mix')),
    _family('tw_treasure', 'textworld', _textworld('tw-treasure_hunter', _treasure),
            held_out=True),
    _family('twx_order', 'express', _express('peckingorder', ''), held_out=True),
    _family('sw_lifespans', 'scienceworld',
            _scienceworld('lifespan-longest-lived-then-shortest-lived'), held_out=True),
)
