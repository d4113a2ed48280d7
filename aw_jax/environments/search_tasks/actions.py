"""Requests a person might make, about a few documents of the task's collection: for exploring."""

import functools
import random
import re
from collections.abc import Callable

from aw_jax.environments import search_sources
from aw_jax.environments.call_mistakes import CallActions
from aw_jax.environments.mcp import call_text
from aw_jax.environments.search_sources import Document
from aw_jax.environments.servers.search import MOST_RESULTS, parts
from aw_jax.trajectories import Task

_WORD = re.compile(r'[^\W_]{3,}')
_AT_HAND = 4  # documents of a library that an episode is about, besides those of the same sites


class SearchActions(CallActions):
  """Searching, opening and finding. Nothing changes a collection: every action only looks."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A request about a document at hand."""
    return rng.choices(_MAKERS, (5, 4, 3))[0](_at_hand(task), rng)

  def survey(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A search with as many results as there can be."""
    query = _query(rng.choice(_at_hand(task)), rng)
    return call_text('search', query=query, count=MOST_RESULTS)

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """The same as `explore`."""
    return self.explore(task, state, rng)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any request, each tool equally likely."""
    return rng.choice(_MAKERS)(_at_hand(task), rng)


def _at_hand(task: Task) -> list[Document]:
  """The documents that an episode of a task is about, always the same."""
  if 'documents' in task.setup:
    return [tuple(document) for document in task.setup['documents']]
  rng, found = random.Random(f'{task.id}/at hand'), []
  for library in task.setup['libraries']:
    every = _documents(library)
    for _ in range(_AT_HAND // len(task.setup['libraries'])):
      place = rng.randrange(len(every))
      found += every[place:place + 2]  # in the factbook most often pages of one country
  return found


@functools.cache
def _documents(library: str) -> list[Document]:
  return [(address, title, text)
          for address, (title, text) in search_sources.pages(library).items()]


def _query(document: Document, rng: random.Random) -> str:
  """Words of a document's title, of its text, or of both."""
  _, title, text = document
  words = _WORD.findall(title) or [title]
  start = rng.randrange(len(words))
  chosen = words[start:start + rng.randint(1, 3)] if rng.random() < 0.85 else []
  inside = _WORD.findall(text)
  if inside and (not chosen or rng.random() < 0.5):
    chosen += rng.sample(inside, min(len(inside), rng.randint(1, 2)))
  return ' '.join(chosen) or title


def _search(documents: list[Document], rng: random.Random) -> str:
  more = {}
  if rng.random() < 0.3:
    more['page'] = rng.choice((1, 2, 2, 2, 3, 3, 9))
  if rng.random() < 0.15:
    more['count'] = rng.choice((1, 2, 5, MOST_RESULTS, 0, 20))
  query = '?' if rng.random() < 0.02 else _query(rng.choice(documents), rng)
  return call_text('search', query=query, **more)


def _open(documents: list[Document], rng: random.Random) -> str:
  address, _, text = rng.choice(documents)
  last, more = len(parts(text)), {}
  if rng.random() < (0.6 if last > 1 else 0.1):
    more['part'] = rng.randint(1, last + (rng.random() < 0.15))
  return call_text('open', address=_perhaps_wrong(address, rng), **more)


def _find(documents: list[Document], rng: random.Random) -> str:
  address, title, text = rng.choice(documents)
  words = _WORD.findall(rng.choice(text.split('\n')))
  start = rng.randrange(len(words)) if words else 0
  sought = ' '.join(words[start:start + rng.randint(1, 2)]) or title
  if rng.random() < 0.15:
    sought = rng.choice(('area', 'king', 'border', 'year', 'music'))
  more = {'page': 2} if rng.random() < 0.1 else {}
  return call_text('find', address=_perhaps_wrong(address, rng), text=sought, **more)


def _perhaps_wrong(address: str, rng: random.Random) -> str:
  """An address; once in twelve one that is likely to be none."""
  return address[:-1] if rng.random() < 0.08 else address


_MAKERS: tuple[Callable[[list[Document], random.Random], str], ...] = (_search, _open, _find)
