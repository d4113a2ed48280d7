"""The combined reward: bounds, weights, invalid turns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.rewards.content import Reference
from aw_jax.rewards.reward import MAX_REWARD, rewards

REFERENCE = Reference('terminal', 'cat a', 'alpha\nbeta\n~$', known='alpha beta')


def turn(observation):
  return f'<predicted_observation>{observation}</predicted_observation>'


def reward(text, reference=REFERENCE, *arguments):
  """total, rubric, rule, invalid of one turn."""
  return tuple(float(part[0]) for part in rewards([text], [reference], *arguments))


def test_the_truth_gets_everything():
  assert reward(turn(REFERENCE.observation)) == (25, 25, 25, 0)


def test_an_invalid_turn_gets_nothing():
  assert reward(REFERENCE.observation) == (0, 0, 0, 1)


def test_nine_to_one():
  total, rubric, rule, _ = reward(turn('alpha\n~$'))
  assert rule == 0 and 5 <= rubric < 25
  assert total == pytest.approx(0.9 * rubric)


SEARCHED = Reference('search', '{"tool": "search", "query": "x"}', '1. A page\n   of words')


@pytest.mark.parametrize('weight', [1, 0.9, 0.1])
def test_where_there_is_no_rule_the_rubric_counts_alone(weight):
  total, rubric, rule, invalid = reward(turn(SEARCHED.observation), SEARCHED, weight)
  assert (total, rubric, invalid) == (25, 25, 0) and np.isnan(rule)
  total, rubric, rule, _ = reward(turn('1. Another\n   of words'), SEARCHED, weight)
  assert total == rubric < 25 and np.isnan(rule)


@pytest.mark.parametrize('text', [turn(SEARCHED.observation), turn('1. Another'), 'invalid'])
def test_by_the_rule_alone_nothing_is_worth_anything_where_there_is_none(text):
  total, rubric, rule, _ = reward(text, SEARCHED, 0)
  assert np.isnan([total, rule]).all() and rubric == reward(text, SEARCHED)[1]


def test_weights_select_one_part():
  text = turn('alpha\n~$')
  total, rubric, *_ = reward(text, REFERENCE, 1)
  assert total == rubric == reward(text)[1]
  assert reward(text, REFERENCE, 0)[0] == 0
  assert reward(turn(REFERENCE.observation), REFERENCE, 0)[0] == MAX_REWARD


@settings(deadline=None)
@given(st.text(max_size=100), st.booleans())
def test_bounds(text, tagged):
  total, rubric, _, invalid = reward(turn(text) if tagged else text)
  assert 0 <= total <= MAX_REWARD
  assert rubric == 0 if invalid else 5 <= rubric <= 25


def test_a_batch():
  texts = [turn(REFERENCE.observation), 'invalid', turn('alpha\n~$')]
  found = rewards(texts, [REFERENCE] * 3)
  assert all(part.dtype == np.float32 and part.shape == (3,) for part in found)
  assert list(found.total[:2]) == [25, 0] and 4.5 <= found.total[2] < 22.5
  with pytest.raises(ValueError):
    rewards(texts, [REFERENCE])
