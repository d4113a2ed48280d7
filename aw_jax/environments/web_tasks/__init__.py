"""Web task families: pages of MiniWoB++, each with an expert that reads the tree alone."""

import random

from aw_jax.environments.registry import Family, Recipe
from aw_jax.environments.web_tasks import clicking
from aw_jax.environments.web_tasks.actions import WebActions
from aw_jax.environments.web_tasks.plans import Expert, play
from aw_jax.trajectories import SUBMIT, Verifier

_SPARE_TURNS = 6  # beyond the expert's
_SEEDS = 1 << 30


def _miniwob(expert: Expert, page: str, *, held_out: bool = False) -> Family:
  def make(seed: int, rng: random.Random) -> Recipe:
    del seed
    setup = {'site': 'miniwob', 'path': f'/miniwob/{page}.html', 'seed': rng.randrange(_SEEDS)}
    found = play(expert, setup)
    return Recipe(
        instruction=f'{found["goal"]}\n\n{found["observation"]}', setup=setup,
        initial_state=found['state'], verifier=Verifier('command', 'solved', 'verdict'),
        plan=(*found['plan'], SUBMIT), max_turns=len(found['plan']) + _SPARE_TURNS)
  return Family(page.replace('-', '_'), make, held_out)


ACTIONS = WebActions()
FAMILIES = (
    _miniwob(clicking.click_test, 'click-test'),
)
