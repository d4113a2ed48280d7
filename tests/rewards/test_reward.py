"""The combined reward: bounds, weights, invalid turns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.rewards.content import Reference
from aw_jax.rewards.reward import MAX_REWARD, Reward, reward, rewards

REFERENCE = Reference('terminal', 'cat a', 'alpha\nbeta\n~$', known='alpha beta')


def turn(observation):
  return f'<predicted_observation>{observation}</predicted_observation>'


def test_the_truth_gets_everything():
  assert reward(turn(REFERENCE.observation), REFERENCE) == Reward(25.0, 25.0, 25.0, True)


def test_an_invalid_turn_gets_nothing():
  assert reward(REFERENCE.observation, REFERENCE) == Reward(0.0, 0.0, 0.0, False)


def test_nine_to_one():
  found = reward(turn('alpha\n~$'), REFERENCE)
  assert found.rule == 0 and 5 <= found.rubric < 25
  assert found.total == pytest.approx(0.9 * found.rubric)


def test_where_there_is_no_rule_the_rubric_counts_alone():
  searched = Reference('search', '{"tool": "search", "query": "x"}', '1. A page\n   of words')
  found = reward(turn('1. A page\n   of words'), searched)
  assert found == Reward(25.0, 25.0, None, True)
  other = reward(turn('1. Another\n   of words'), searched)
  assert other.rule is None and other.total == other.rubric < 25


def test_weights_select_one_part():
  text = turn('alpha\n~$')
  both = reward(text, REFERENCE)
  assert reward(text, REFERENCE, 1, 0).total == both.rubric
  assert reward(text, REFERENCE, 0, 1).total == 0
  assert reward(turn(REFERENCE.observation), REFERENCE, 0, 1).total == MAX_REWARD


@settings(deadline=None)
@given(st.text(max_size=100), st.booleans())
def test_bounds(text, tagged):
  found = reward(turn(text) if tagged else text, REFERENCE)
  assert 0 <= found.total <= MAX_REWARD
  assert found.rubric == 0 if not found.valid else 5 <= found.rubric <= 25


def test_a_batch():
  texts = [turn(REFERENCE.observation), 'invalid', turn('alpha\n~$')]
  found = rewards(texts, [REFERENCE] * 3)
  assert found.dtype == np.float32 and found.shape == (3,)
  assert list(found[:2]) == [25, 0] and 4.5 <= found[2] < 22.5
  with pytest.raises(ValueError):
    rewards(texts, [REFERENCE])
