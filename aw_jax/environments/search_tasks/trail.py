"""An expert's way through the pages: searches, pages opened, passages found.

The way is written when the task is made, without the engine. What it looks up it has seen before:
every address that is opened stands in results, or on a page, that came earlier (held by a test).
"""

import random

from aw_jax.environments import search_sources
from aw_jax.environments.mcp import call_text
from aw_jax.environments.search_sources import Country
from aw_jax.environments.servers.search import MOST_RESULTS, PASSAGES, parts, passages

FACTBOOK = ('factbook', 'wikipedia')  # the libraries of questions about countries and people


class Trail:
  """The actions so far, in `plan`."""

  def __init__(self, rng: random.Random):
    self.rng = rng
    self.plan: list[str] = []

  def search(self, query: str, crowded: bool = False) -> None:
    """Searches; many results where the words are `crowded` by other documents."""
    if crowded:
      self.plan.append(call_text('search', query=query, count=MOST_RESULTS))
    else:
      self.plan.append(call_text('search', query=query))

  def open(self, address: str) -> None:
    """Opens the first part of a page."""
    self.plan.append(call_text('open', address=address))

  def country(self, country: Country, section: str, *labels: str) -> None:
    """Searches for a page of the factbook and reads lines of it."""
    query = self.rng.choice((f'{country.name} {section}', f'{section} of {country.name}'))
    self.search(query, crowded=is_crowded(country))
    self.read(country.address(section), *labels)

  def read(self, address: str, *labels: str) -> None:
    """Reads the lines of a factbook's page that begin with the labels, by the shortest of ways."""
    _, text = search_sources.pages('factbook')[address]
    for label in labels:
      self._read(address, text, label)

  def _read(self, address: str, text: str, label: str) -> None:
    line = next(line for line in text.split('\n') if line.startswith(f'{label}: '))
    number = next((number for number, part in enumerate(parts(text), 1) if line in part), 0)
    if number == 1 and self.rng.random() < 0.5:
      self.plan.append(call_text('open', address=address))
      return
    self.plan.append(call_text('find', address=address, text=label))
    seen = [passage for _, passage in passages(text, label)[:PASSAGES]]
    if number > 0 and line not in seen:
      self.plan.append(call_text('open', address=address, part=number))


def is_crowded(country: Country) -> bool:
  """Whether all words of a country's name stand in the name of another."""
  words = set(country.name.split())
  return any(words <= set(name.replace('-', ' ').split())
             for name in search_sources.countries() if name != country.name)


def has_line(country: Country, section: str, label: str) -> bool:
  """Whether a page of the factbook has a line that begins with the label."""
  _, text = search_sources.pages('factbook').get(country.address(section), ('', ''))
  return f'\n{label}: ' in f'\n{text}'
