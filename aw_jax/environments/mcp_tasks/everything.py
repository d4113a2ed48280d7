"""Tasks of the everything server, which tries out all that the protocol has: sums and weather."""

import random
from collections.abc import Sequence

from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

TEMPERATURES = {'New York': 33, 'Chicago': 36, 'Los Angeles': 73}  # as the server has them
HUMIDITY = {'New York': 82, 'Chicago': 82, 'Los Angeles': 48}


def everything_sum(seed: int, rng: random.Random) -> Recipe:
  """Add up three or four numbers, two at a time."""
  numbers = [rng.randint(-999, 9999) for _ in range(rng.randint(3, 4))]
  plan, total = _sums(numbers)
  if rng.random() < 0.3:
    plan.append(call_text('echo', message=str(total)))
  listed = ', '.join(str(number) for number in numbers[:-1])
  return _recipe(rng, [
      f'What is the sum of {listed} and {numbers[-1]}?',
      f'Add up {listed} and {numbers[-1]}.'], total, plan)


def everything_weather(seed: int, rng: random.Random) -> Recipe:
  """Add a number to the temperatures of two cities."""
  cities, more = rng.sample(sorted(TEMPERATURES), 2), rng.randint(100, 999)
  plan, total = _sums([*(TEMPERATURES[city] for city in cities), more])
  looks = [call_text('get-structured-content', location=city) for city in cities]
  return _recipe(rng, [
      f'What do the temperatures of {cities[0]} and {cities[1]} and {more} make together?',
      f'Add {more} to the temperatures of {cities[0]} and {cities[1]}.'], total, looks + plan)


def everything_humidity(seed: int, rng: random.Random) -> Recipe:
  """Echo the sum of a city's humidity and a number."""
  city, more = rng.choice(sorted(HUMIDITY)), rng.randint(100, 9999)
  plan, total = _sums([HUMIDITY[city], more])
  word = rng.choice(('total', 'result', 'sum'))
  return _recipe(rng, [
      f'Add {more} to the humidity of {city}, let the server echo "{word}" and the number, and '
      'tell the number.',
      f'What is {more} more than the humidity of {city}? Echo "{word}" and the number first.'],
      total, [call_text('get-structured-content', location=city), *plan,
              call_text('echo', message=f'{word} {total}')])


def _sums(numbers: Sequence[int]) -> tuple[list[str], int]:
  """The calls that add up numbers from the left, and what they make."""
  plan, total = [], numbers[0]
  for number in numbers[1:]:
    plan.append(call_text('get-sum', a=total, b=number))
    total += number
  return plan, total


def _recipe(
    rng: random.Random, phrasings: Sequence[str], answer: int, plan: Sequence[str]) -> Recipe:
  return Recipe(
      instruction=rng.choice(phrasings), setup={'server': 'everything'}, initial_state=None,
      verifier=Verifier('answer', str(answer)), plan=(*plan, f'{SUBMIT}{answer}'))
