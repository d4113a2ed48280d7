"""Questions over the factbook and the encyclopedia, of two or three steps, with exact answers.

A question is about one *subject* first of all. Subjects are divided like seeds: a test task of a
family never asks about the subject of a train task of it. The collection itself is one for all.
"""

import functools
import random
import zlib
from collections.abc import Callable, Sequence

from aw_jax.environments import search_sources
from aw_jax.environments.registry import Recipe
from aw_jax.environments.search_sources import Country, Person
from aw_jax.environments.search_tasks.trail import FACTBOOK, Trail, has_line
from aw_jax.trajectories import SUBMIT, Verifier

GEOGRAPHY, GOVERNMENT, PEOPLE, COMMUNICATIONS = (
    'Geography', 'Government', 'People and Society', 'Communications')
CAPITAL, ADJECTIVE, CODE = 'Capital, name', 'Nationality, adjective', 'Internet country code'
BORDERS, PEAK = 'Land boundaries, border countries', 'Elevation, highest point'
POPULATION, LIFE = 'Population, total', 'Life expectancy at birth, total population'
_LINES = ((GOVERNMENT, CAPITAL), (COMMUNICATIONS, CODE), (PEOPLE, POPULATION))


def neighbour(seed: int, rng: random.Random) -> Recipe:
  """The capital of the country with which another has its longest land boundary."""
  country = _subject(seed, rng, _countries(_longest_neighbour))
  other, trail = _longest_neighbour(country), Trail(rng)
  trail.country(country, GEOGRAPHY, BORDERS)
  trail.country(other, GOVERNMENT, CAPITAL)
  return _recipe(trail, [
      f'Which city is the capital of the country with which {country.name} has its longest land '
      'boundary?',
      f'{country.name} shares its longest land boundary with one country. Name the capital of it.'],
      other.capital)


def code(seed: int, rng: random.Random) -> Recipe:
  """The Internet country code of the country of a capital."""
  country, trail = _subject(seed, rng, _countries(_has_own_capital)), Trail(rng)
  trail.search(f'capital name {country.capital} factbook')
  trail.read(country.address(GOVERNMENT), CAPITAL)
  trail.country(country, COMMUNICATIONS, CODE)
  return _recipe(trail, [
      f'What is the Internet country code of the country whose capital is {country.capital}?',
      f'{country.capital} is a capital. Which Internet country code has its country?'],
      country.code)


def common(seed: int, rng: random.Random) -> Recipe:
  """The one country that borders two others."""
  country = _subject(seed, rng, _countries(lambda country: _partners()[country.name]))
  other, answer = rng.choice(_partners()[country.name])
  pair, trail = [country, search_sources.countries()[other]], Trail(rng)
  rng.shuffle(pair)
  for one in pair:
    trail.country(one, GEOGRAPHY, BORDERS)
  first, second = (one.name for one in pair)
  return _recipe(trail, [
      f'Which country has land boundaries with both {first} and {second}?',
      f'{first} and {second} both border one and the same third country. Which?'], answer)


def populous(seed: int, rng: random.Random) -> Recipe:
  """The one of three countries that has most inhabitants."""
  found, trail = _group(seed, rng, 3, lambda country: country.population), Trail(rng)
  for one in found:
    trail.country(one, PEOPLE, POPULATION)
  names = _listed(found)
  return _recipe(trail, [
      f'Which country has the most inhabitants: {names}?',
      f'Of {names}, which has the largest population?'],
      max(found, key=lambda country: country.population).name)


def life(seed: int, rng: random.Random) -> Recipe:
  """The difference of two countries in life expectancy."""
  found, trail = _group(seed, rng, 2, lambda country: country.life), Trail(rng)
  for one in found:
    trail.country(one, PEOPLE, LIFE)
  high, low = sorted(found, key=lambda country: -country.life)
  return _recipe(trail, [
      f'By how many years is life expectancy at birth higher in {high.name} than in {low.name}? '
      'Answer with one decimal.',
      f'How many years longer is life expectancy at birth in {high.name} than in {low.name}, to '
      'one decimal?'], f'{(high.life - low.life) / 10:.1f}')


def peak(seed: int, rng: random.Random) -> Recipe:
  """The capital of the country that a mountain is the highest point of."""
  country, trail = _subject(seed, rng, _countries(_has_own_peak)), Trail(rng)
  trail.search(f'{country.peak[0]} highest point factbook')
  trail.read(country.address(GEOGRAPHY), PEAK)
  trail.country(country, GOVERNMENT, CAPITAL)
  return _recipe(trail, [
      f'{country.peak[0]} is the highest point of a country. Which city is the capital of it?',
      f'Name the capital of the country whose highest point is {country.peak[0]}.'],
      country.capital)


def nationality(seed: int, rng: random.Random) -> Recipe:
  """The capital of the country whose people a person of the encyclopedia belonged to."""
  person, trail = _subject(seed, rng, _people_with_country()), Trail(rng)
  country = _nations()[person.description.split()[0]]
  trail.search(person.name)
  trail.open(person.address)
  trail.country(country, PEOPLE, ADJECTIVE)
  trail.country(country, GOVERNMENT, CAPITAL)
  return _recipe(trail, [
      f'The encyclopedia begins on {person.name} with a nationality. Which city is the capital of '
      'the country that the factbook gives this nationality?',
      f'Of which nationality does the encyclopedia call {person.name}? Name the capital of that '
      "nationality's country, as the factbook has it."], country.capital)


def births(seed: int, rng: random.Random) -> Recipe:
  """The years between the births of two people."""
  first, trail = _subject(seed, rng, _people()), Trail(rng)
  second = rng.choice([one for one in _people() if abs(one.born - first.born) in range(1, 120)])
  _look_up(trail, (first, second))
  early, late = sorted((first, second), key=lambda person: person.born)
  return _recipe(trail, [
      f'How many years before {late.name} was {early.name} born?',
      f'How many years after the birth of {early.name} was {late.name} born?'],
      str(late.born - early.born))


def longest_life(seed: int, rng: random.Random) -> Recipe:
  """The one of three people who lived longest, by the years of birth and death."""
  found, trail = rng.sample(_people(), 3), Trail(rng)
  while len({_age(person) for person in found}) < 3:
    found = rng.sample(_people(), 3)
  _look_up(trail, found)
  names = _listed(found)
  return _recipe(trail, [
      f'Who lived longest, counting from the year of birth to that of death: {names}?',
      f'By the years of birth and death, who of {names} reached the greatest age?'],
      max(found, key=_age).name)


def neighbour_population(seed: int, rng: random.Random) -> Recipe:
  """The inhabitants of the country that has the longest boundary with a capital's country."""
  found = [one for one in _countries(_longest_neighbour) if _has_own_capital(one)]
  country, trail = rng.choice(found), Trail(rng)
  other = _longest_neighbour(country)
  trail.search(f'capital name {country.capital} factbook')
  trail.read(country.address(GOVERNMENT), CAPITAL)
  trail.country(country, GEOGRAPHY, BORDERS)
  trail.country(other, PEOPLE, POPULATION)
  return _recipe(trail, [
      f'{country.capital} is the capital of a country. With which country has that one its longest '
      'land boundary, and what is the total population there? Answer with the digits alone.',
      'What is the total population of the country that has the longest land boundary with the '
      f'country whose capital is {country.capital}? Answer with the digits alone.'],
      str(other.population))


def part_of(seed: int, name: str) -> bool:
  """Whether a subject is for tasks of this seed: by one digit, as seeds are divided in splits."""
  digit = zlib.crc32(name.encode()) % 10
  return digit == seed % 10 if seed % 10 >= 8 else digit < 8


def _subject(seed: int, rng: random.Random, found: Sequence) -> Country | Person:
  return rng.choice([one for one in found if part_of(seed, one.name)])


def _group(seed: int, rng: random.Random, count: int, value: Callable) -> list[Country]:
  """A subject and other countries, no two with the same value."""
  first = _subject(seed, rng, _countries(value))
  found = [first]
  while len({value(one) for one in found}) < count:
    found = [first, *rng.sample(_countries(value), count - 1)]
  rng.shuffle(found)
  return found


def _countries(fits: Callable[[Country], object]) -> list[Country]:
  """Countries that fit, those with all lines that plans read."""
  return [country for country in _complete_countries().values() if fits(country)]


@functools.cache
def _complete_countries() -> dict[str, Country]:
  return {
      name: country for name, country in search_sources.countries().items()
      if country.code and all(has_line(country, *place) for place in _LINES)}


def _longest_neighbour(country: Country) -> Country | None:
  """The country with the longest land boundary, where there are two or more and no doubt."""
  lengths = sorted((country.borders or {}).values())
  if len(lengths) < 2 or lengths[-1] == lengths[-2]:
    return None
  return _complete_countries().get(max(country.borders, key=country.borders.get))


@functools.cache
def _partners() -> dict[str, list[tuple[str, str]]]:
  """country -> (another country, the only one that borders both), of each."""
  found = {name: [] for name in _complete_countries()}
  for country in _complete_countries().values():
    for other in _complete_countries().values():
      shared = set(country.borders or ()) & set(other.borders or ())
      if other.name != country.name and len(shared) == 1:
        found[country.name].append((other.name, *shared))
  return found


def _has_own_capital(country: Country) -> bool:
  capitals = [one.capital for one in search_sources.countries().values()]
  return capitals.count(country.capital) == 1


def _has_own_peak(country: Country) -> bool:
  peaks = [one.peak[0] for one in search_sources.countries().values() if one.peak]
  return country.peak is not None and peaks.count(country.peak[0]) == 1


@functools.cache
def _nations() -> dict[str, Country]:
  """Countries by adjectives of nationality that only they have."""
  every = [country.adjective for country in search_sources.countries().values()]
  return {country.adjective: country for country in _complete_countries().values()
          if country.adjective and every.count(country.adjective) == 1
          and has_line(country, PEOPLE, ADJECTIVE)}


@functools.cache
def _people() -> tuple[Person, ...]:
  return tuple(search_sources.people().values())


@functools.cache
def _people_with_country() -> tuple[Person, ...]:
  return tuple(person for person in _people() if person.description.split()[0] in _nations())


def _age(person: Person) -> int:
  return person.died - person.born


def _look_up(trail: Trail, found: Sequence[Person]) -> None:
  for person in found:
    trail.search(person.name)
    trail.open(person.address)


def _listed(found: Sequence[Country | Person]) -> str:
  *names, last = (one.name for one in found)
  return f'{", ".join(names)} or {last}'


def _recipe(trail: Trail, phrasings: Sequence[str], answer: str) -> Recipe:
  return Recipe(
      instruction=trail.rng.choice(phrasings), setup={'libraries': list(FACTBOOK)},
      initial_state=None, verifier=Verifier('answer', answer),
      plan=(*trail.plan, SUBMIT + answer), max_turns=max(12, len(trail.plan)))
