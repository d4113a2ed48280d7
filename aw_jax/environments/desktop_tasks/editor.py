"""Families of the text editor."""

import random

from aw_jax.environments.desktop_tasks import recipes as r
from aw_jax.environments.registry import Family, Recipe


def write(seed: int, rng: random.Random) -> Recipe:
  """Add a line at the end of the file that is open."""
  del seed
  (name,), content, new = r.names(rng, 1), r.text(rng), r.line(rng)
  return r.recipe(
      f'Add the line "{new}" at the end of {name}, which is open, and save it.',
      [['mousepad', name]], {name: content, **r.clutter(rng)},
      [r.key('ctrl+end'), r.write(new), r.key('ctrl+s')], r.file_says(name, content + new))


FAMILIES = (Family('editor_write', write),)
