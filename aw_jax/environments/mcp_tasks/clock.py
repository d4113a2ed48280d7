"""Tasks of the time server. Its zones have no daylight saving, its clock stands still."""

import datetime
import random
from collections.abc import Sequence

from aw_jax.environments import mcp_worlds
from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

ZONES = {  # city -> zone, minutes east of Greenwich
    'Tokyo': ('Asia/Tokyo', 540), 'Kolkata': ('Asia/Kolkata', 330), 'Lagos': ('Africa/Lagos', 60),
    'Dubai': ('Asia/Dubai', 240), 'Bogota': ('America/Bogota', -300),
    'Shanghai': ('Asia/Shanghai', 480), 'Nairobi': ('Africa/Nairobi', 180),
    'Honolulu': ('Pacific/Honolulu', -600), 'Phoenix': ('America/Phoenix', -420),
    'Johannesburg': ('Africa/Johannesburg', 120), 'Karachi': ('Asia/Karachi', 300),
    'Caracas': ('America/Caracas', -240)}


def convert(seed: int, rng: random.Random) -> Recipe:
  """Tell a time of one city in two others."""
  clock = _clock(rng)
  source, *targets = rng.sample(sorted(ZONES), 3)
  minutes = 5 * rng.randrange(288)
  time = f'{minutes // 60:02d}:{minutes % 60:02d}'
  answers = [_in_zone(clock.replace(hour=0, minute=0)
                      + datetime.timedelta(minutes=minutes - ZONES[source][1]), city)
             for city in targets]
  plan = [call_text('convert_time', source_timezone=ZONES[source][0], time=time,
                    target_timezone=ZONES[city][0]) for city in targets]
  first, second = targets
  return _recipe(rng, clock, [
      f'A call starts at {time} in {source}. When is that in {first}, and when in {second}?',
      f'Convert {time} in {source} to the times of {first} and {second}.'],
      ' '.join(answers), plan)


def now(seed: int, rng: random.Random) -> Recipe:
  """Tell the present time in two cities."""
  clock = _clock(rng)
  cities = rng.sample(sorted(ZONES), 2)
  answers = [_in_zone(clock, city) for city in cities]
  plan = [call_text('get_current_time', timezone=ZONES[city][0]) for city in cities]
  return _recipe(rng, clock, [
      f'What time is it now in {cities[0]} and in {cities[1]}?',
      f'Tell the present times of {cities[0]} and {cities[1]}.'], ' '.join(answers), plan)


def _clock(rng: random.Random) -> datetime.datetime:
  start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
  return start + datetime.timedelta(days=rng.randrange(366), minutes=5 * rng.randrange(288))


def _in_zone(moment: datetime.datetime, city: str) -> str:
  return (moment + datetime.timedelta(minutes=ZONES[city][1])).strftime('%H:%M')


def _recipe(
    rng: random.Random, clock: datetime.datetime, phrasings: Sequence[str], answer: str,
    plan: Sequence[str]) -> Recipe:
  setup = {'server': 'time', 'clock': clock.isoformat()}
  return Recipe(
      instruction=rng.choice(phrasings), setup=setup, initial_state=mcp_worlds.state(setup),
      verifier=Verifier('answer', answer), plan=(*plan, SUBMIT + answer))
