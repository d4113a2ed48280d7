"""Families of the calculator, galculator."""

import random

from aw_jax.environments.desktop_tasks import recipes as r
from aw_jax.environments.registry import Family, Recipe
from aw_jax.trajectories import Verifier

_PROGRAM = [['galculator']]


def expression_of(rng: random.Random) -> tuple[str, int]:
  """An expression without parentheses, and its value."""
  first, second, third = rng.randint(12, 99), rng.randint(3, 19), rng.randint(2, 60)
  operator = rng.choice('+-')
  value = first * second + (third if operator == '+' else -third)
  return f'{first}*{second}{operator}{third}', value


def compute(seed: int, rng: random.Random) -> Recipe:
  """Compute with the keyboard, and submit what is shown."""
  del seed
  expression, value = expression_of(rng)
  return r.recipe(
      f'Compute {expression} with the calculator and submit the result.', _PROGRAM, {},
      [r.write(f'{expression}=')], Verifier('answer', str(value)), answer=str(value))


def press(seed: int, rng: random.Random) -> Recipe:
  """Have a result on the display, by its buttons."""
  del seed
  first, second = rng.randint(2, 99), rng.randint(2, 99)
  operator = rng.choice('+-*')
  value = {'+': first + second, '-': first - second, '*': first * second}[operator]
  return r.recipe(
      f'Press the buttons of the calculator so that it shows the result of {first} {operator} '
      f'{second}.', _PROGRAM, {}, [r.click(button) for button in f'{first}{operator}{second}='],
      r.window_shows('galculator', str(value)))


FAMILIES = (Family('calculator_compute', compute), Family('calculator_press', press))
