"""Questions over dictionaries that are installed as Debian packages.

As in library.py, the subjects of train, validation and test tasks are disjoint.
"""

import collections
import functools
import random
import re

from aw_jax.environments import search_sources
from aw_jax.environments.registry import Recipe
from aw_jax.environments.search_sources import entry_address, wordnet_address
from aw_jax.environments.search_tasks.library import part_of
from aw_jax.environments.search_tasks.trail import Trail
from aw_jax.trajectories import SUBMIT, Verifier

_REFERENCE = re.compile(r'\{([^{}]+)\}')
_SUBJECT = re.compile(r'<([a-z ,]+)>')
_PLAIN = re.compile(r'[a-z]{4,12}')


def kind(seed: int, rng: random.Random) -> Recipe:
  """What the thing that a noun is a kind of is a kind of, in WordNet."""
  offset = rng.choice(_nouns_for(seed % 10))
  (first,) = search_sources.synsets()[offset].kinds
  (second,) = search_sources.synsets()[first].kinds
  word, trail = _word(offset), Trail(rng)
  trail.search(word)
  for one in (offset, first):
    trail.open(wordnet_address(one))
  answer = ', '.join(search_sources.synsets()[second].words)
  return _recipe(trail, ['wordnet'], rng.choice([
      f'What is a kind of thing that the noun {word} is a kind of itself a kind of? Answer with '
      'the title of its page.',
      f'The noun {word} is a kind of something, and that again of something wider. Give the title '
      'of the page of the wider one.']), answer)


def reference(seed: int, rng: random.Random) -> Recipe:
  """The subject of the article to which another one of the dictionary of computing refers first."""
  headword = rng.choice([one for one in _articles() if part_of(seed, one)])
  target, subject = _articles()[headword]
  trail = Trail(rng)
  for one in (headword, target):
    trail.search(one, crowded=True)
    trail.open(entry_address('foldoc', one))
  return _recipe(trail, ['foldoc', 'jargon'], rng.choice([
      f'The article of foldoc.test on {headword} refers in braces to others. Which subject stands '
      'in angle brackets at the beginning of the first of them?',
      f'Follow the first reference in braces in the article of foldoc.test on {headword}. Under '
      'which subject, in angle brackets, does the dictionary put what it leads to?']), subject)


def _word(offset: str) -> str:
  return search_sources.synsets()[offset].words[0]


@functools.cache
def _nouns() -> tuple[str, ...]:
  """Nouns of one meaning and one word, whose kinds are one each, twice in a row."""
  found = search_sources.synsets()
  meanings = collections.Counter(word for synset in found.values() for word in synset.words)
  return tuple(
      offset for offset, synset in found.items()
      if len(synset.words) == len(synset.kinds) == len(found[synset.kinds[0]].kinds) == 1
      and meanings[synset.words[0]] == 1 and _PLAIN.fullmatch(synset.words[0]))


@functools.cache
def _nouns_for(digit: int) -> tuple[str, ...]:
  """Those of `_nouns` that are subjects of tasks whose seeds end with a digit."""
  return tuple(offset for offset in _nouns() if part_of(digit, _word(offset)))


@functools.cache
def _articles() -> dict[str, tuple[str, str]]:
  """headword -> (the headword its article refers to first, the subject of that one's article)."""
  texts, found = search_sources.foldoc(), {}
  for headword, text in texts.items():
    match = _REFERENCE.search(text)
    target = match[1] if match else ''
    subject = _SUBJECT.match(texts.get(target, ''))
    if subject and target != headword and _PLAIN.fullmatch(headword) and _PLAIN.fullmatch(target):
      found[headword] = target, subject[1]
  return found


def _recipe(trail: Trail, libraries: list[str], instruction: str, answer: str) -> Recipe:
  return Recipe(
      instruction=instruction, setup={'libraries': libraries}, initial_state=None,
      verifier=Verifier('answer', answer), plan=(*trail.plan, SUBMIT + answer))
