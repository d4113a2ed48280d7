"""The classes of the information-theoretic loss mask, their precedence, and the seeded choice."""

import json
import pathlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from aw_jax.environments import registry
from aw_jax.trajectories import Task, Verifier
from data_pipelines import loss_mask

_LONG = 'item ' + ' '.join(f'n{i}' for i in range(40))

_EXAMPLES = {
    'echo': ('echo one two three', 'one two three echo'),
    'boilerplate': ('set colour blue', 'colour blue done'),
    'transform': ('python -c "print(alpha beta gamma delta epsilon zeta)"', 'alpha beta'),
    'expansion': ('show item n1', _LONG),
    'retrieval': ('cat notes.txt', 'gold river\nsilver lake\n~$'),
    'action': ('rm -r some very long directory name here', 'refused'),
    # Half of the words are new, but it is neither short nor longer than its action by enough.
    'other': ('a b c d e f g', 'a b c ' + 'x' * 30 + ' ' + 'y' * 30 + ' ' + 'z' * 30),
}


@pytest.mark.parametrize('turn_class', loss_mask.CLASSES)
def test_every_class_has_an_example(turn_class):
  assert loss_mask.classify(*_EXAMPLES[turn_class]) == turn_class


@pytest.mark.parametrize('action, observation, expected', [
    ('a b c', 'a b c', 'echo'),  # would be boilerplate too
    ('a b c d long words here', 'a b c d', 'boilerplate'),  # and a transform
    ('a b', 'a b p q r s t u v', 'expansion'),  # and a retrieval
    ('cat f', 'p q r s', 'retrieval'),  # and an action, as it is short
])
def test_precedence(action, observation, expected):
  assert loss_mask.classify(action, observation) == expected


def signatures(action: str, observation: str) -> set[str]:
  """The rows of the table in PAPER.md section 3 that a turn matches, whatever comes first."""
  def words(text):
    spaced = ''.join(c if c.isalnum() or c == '_' else ' ' for c in text.lower())
    return set(spaced.split())

  a, o = words(action), words(observation)
  overlap, novelty = len(a & o) / len(a), len(o - a) / len(o)
  ratio = len(observation) / len(action)
  found = {
      'retrieval': novelty >= 0.6 and ratio > 1,
      'expansion': overlap >= 0.5 and novelty >= 0.5 and ratio > 1.5,
      'action': novelty >= 0.5 and (ratio <= 1 or len(observation) <= 80),
      'transform': novelty < 0.5 and ratio < 1,
      'boilerplate': overlap >= 0.5 and novelty < 0.5,
      'echo': overlap >= 0.7 and novelty < 0.3}
  return {name for name, matches in found.items() if matches}


@pytest.mark.parametrize('rows, action, observation', [
    ({'echo', 'boilerplate', 'transform'}, 'say one two three', 'one two three'),
    ({'echo', 'boilerplate'}, 'one two', 'one two two two'),
    ({'boilerplate', 'transform'}, 'say one two to all', 'one two all now'),
    ({'boilerplate'}, 'get one two', 'one two one two now'),
    ({'transform'}, 'python -c "print(alpha, beta, gamma, delta)"', 'alpha beta'),
    ({'expansion', 'retrieval', 'action'}, 'get item', 'item has four parts'),
    ({'expansion', 'retrieval'}, 'show item n1', _LONG),
    ({'expansion', 'action'}, 'one two', 'one two three four'),
    ({'retrieval', 'action'}, 'cat f', 'p q r s'),
    ({'retrieval'}, 'cat f', ' '.join(f'word{i}' for i in range(30))),
    ({'action'}, 'remove the directory there', 'refused'),
    (set(), *_EXAMPLES['other']),
])
def test_the_class_is_the_first_of_the_rows_that_match(rows, action, observation):
  """Hand-made turns for sets of rows that meet: the one with the least news comes first."""
  assert signatures(action, observation) == rows
  order = ('echo', 'boilerplate', 'transform', 'expansion', 'retrieval', 'action')
  first = next((name for name in order if name in rows), 'other')
  assert loss_mask.classify(action, observation) == first


_WORD = st.sampled_from('a b c d e f g h i j'.split())


@given(st.lists(_WORD, min_size=1).map(' '.join), st.lists(_WORD, min_size=1).map(' '.join))
def test_no_class_but_one_whose_row_matches(action, observation):
  turn_class, rows = loss_mask.classify(action, observation), signatures(action, observation)
  assert turn_class in rows if rows else turn_class == 'other'
  kept = [loss_mask.KEPT[name] for name in rows]
  assert loss_mask.KEPT[turn_class] == min(kept, default=1.0)  # the cheapest row decides


REAL = json.loads((pathlib.Path(__file__).parent / 'real_turns.json').read_text())


@pytest.mark.parametrize('turn', REAL['turns'], ids=lambda turn: turn['action'][:40])
def test_real_turns_of_public_traces(turn):
  assert turn['source'] in REAL['sources']
  assert loss_mask.classify(turn['action'], turn['observation']) == turn['class']


@pytest.mark.requires('bwrap')
def test_real_turns_of_a_terminal():
  setup = {'files': {'notes.txt': 'alpha\nrain\nsnow\nhail\n', 'a.txt': 'one\n'}}
  task = Task('terminal/t/0', 'terminal', 't', 'train', 0, 'Look.', None, setup,
              Verifier('answer', 'x'), 12)
  expected = {
      'echo one two three four five': 'echo',  # prints its own words
      'echo sun moon star sky > b; cat b': 'boilerplate',  # half of its words, and nothing new
      'sed -i s/alpha/beta/ notes.txt && head -n 1 notes.txt': 'transform',
      'grep -c . notes.txt': 'action',  # a number, shorter than what asked for it
      'wc -l notes.txt a.txt': 'expansion',  # names both, with numbers that are new
      'cat notes.txt': 'retrieval',
      'cat missing.txt': 'expansion',
      'test -d very_long_directory_name && echo yes || echo no': 'transform',
      'cp a.txt c.txt': 'other',  # the bare prompt has no word
  }
  with registry.make_environment('terminal') as environment:
    environment.reset(task)
    found = {action: environment.step(action).observation for action in expected}
  assert {action: loss_mask.classify(action, seen) for action, seen in found.items()} == expected


@pytest.mark.parametrize('action, observation', [('ls', ''), ('???', '!!!'), ('', '')])
def test_nothing_to_measure_is_other(action, observation):
  assert loss_mask.classify(action, observation) == 'other'


def test_an_action_without_words_overlaps_with_nothing():
  assert loss_mask.classify('?', 'some words') == 'retrieval'


@given(st.text(max_size=60), st.text(max_size=200))
def test_every_turn_has_a_class(action, observation):
  assert loss_mask.classify(action, observation) in loss_mask.CLASSES


@pytest.mark.parametrize('turn_class', loss_mask.CLASSES)
def test_the_kept_share_is_that_of_the_class(turn_class):
  kept = loss_mask.keep(turn_class, 20_000, 0, 'task', 1)
  assert kept.dtype == np.float32 and set(np.unique(kept)) <= {0.0, 1.0}
  assert abs(kept.mean() - loss_mask.KEPT[turn_class]) < 0.01


def test_the_choice_is_a_function_of_its_key():
  first = loss_mask.keep('transform', 100, 0, 'task', 1)
  np.testing.assert_array_equal(first, loss_mask.keep('transform', 100, 0, 'task', 1))
  for other in ((1, 'task', 1), (0, 'other', 1), (0, 'task', 2)):
    assert (first != loss_mask.keep('transform', 100, *other)).any()
