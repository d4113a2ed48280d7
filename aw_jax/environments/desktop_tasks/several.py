"""Families of several programs at a time, one of them held out for test."""

import random

from aw_jax.environments import desktop_host
from aw_jax.environments.desktop_tasks import recipes as r
from aw_jax.environments.desktop_tasks.calculator import expression_of
from aw_jax.environments.registry import Family, Recipe


def open_with(seed: int, rng: random.Random) -> Recipe:
  """Open a file from the file manager, and write into it."""
  del seed
  names, first = r.names(rng, 2), r.line(rng)
  files = {name: r.text(rng) for name in names}
  target = rng.choice(names)
  return r.recipe(
      f'Open {target} from the file manager, put the line "{first}" before its first line, and '
      'save it.', [['pcmanfm', desktop_host.HOME]], files,
      [r.double_click(target), r.write(first), r.key('enter'), r.key('ctrl+s')],
      r.file_says(target, f'{first}\n{files[target]}'))


def note_result(seed: int, rng: random.Random) -> Recipe:
  """Compute in the calculator, and note the result in the editor."""
  del seed
  (name,), content, (expression, value) = r.names(rng, 1), r.text(rng), expression_of(rng)
  return r.recipe(
      f'Compute {expression} with the calculator and write the result at the end of {name}, which '
      'is open in the editor; save it.', [['mousepad', name], ['galculator']],
      {name: content, **r.clutter(rng)},
      [r.write(f'{expression}='), r.click(f'~/{name} - Mousepad'), r.key('ctrl+end'),
       r.write(str(value)), r.key('ctrl+s')], r.file_says(name, f'{content}{value}'))


FAMILIES = (Family('open_with', open_with), Family('note_result', note_result, held_out=True))
