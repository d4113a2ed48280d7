"""The classes of the information-theoretic loss mask, their precedence, and the seeded choice."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

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
