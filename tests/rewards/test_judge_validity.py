"""The reference judge on real turns: monotone, blind to runtime metadata, deaf to attacks."""

import random

import pytest

from aw_jax.evaluation import judge_validity
from aw_jax.evaluation.judge_validity import ATTACKS, CORRUPTIONS, GRADES
from aw_jax.rewards.content import Reference, tokenize
from aw_jax.rewards.judges import REFERENCE_JUDGE
from aw_jax.rewards.rubric import MAX_SCORE, PERFECT, judge

pytestmark = pytest.mark.requires('bwrap')
FEWEST = 10  # observations that a corruption must be able to spoil
# A line has a shape that the truth has, or has not: a corruption that by chance restores a shape,
# or leaves no line at all, gives back some of the format of what little is left. How much depends
# on the turns, and so on which families are installed: the record of all domains has 0.23.
MARGIN = 0.25
RARE = 0.1  # the share of steps at which that may happen


@pytest.fixture(scope='module')
def monotone(real_turns):
  return judge_validity.monotonicity(REFERENCE_JUDGE, real_turns)


def test_there_are_enough_kinds_and_attacks():
  assert len(CORRUPTIONS) >= 12 and len(ATTACKS) >= 40 and GRADES[0] == 0


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_scores_fall_with_corruption(monotone, name):
  found = monotone[name]
  assert found.samples >= FEWEST
  assert found.means[0] == MAX_SCORE
  assert all(worse <= milder for milder, worse in zip(found.means, found.means[1:], strict=False))
  assert found.means[1] < found.means[0] and found.means[-1] < found.means[1]


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_no_single_score_rises_with_corruption(monotone, name):
  assert monotone[name].largest_rise <= MARGIN
  assert monotone[name].risen <= RARE


def test_a_larger_share_spoils_all_that_a_smaller_one_does(real_turns):
  text = real_turns[0].observation
  for name, corrupt in CORRUPTIONS.items():
    made = [corrupt(text, real_turns[0].domain, grade, random.Random(name)) for grade in GRADES]
    assert made[0] == text, name


def test_no_attack_raises_a_score(real_turns):
  found = judge_validity.soundness(REFERENCE_JUDGE, real_turns[::3])
  assert len(found) == len(ATTACKS)
  risen = {name: one.largest_rise for name, one in found.items() if one.largest_rise > 1e-9}
  assert not risen
  assert all(one.mean_change < 0 for one in found.values())
  for one in found.values():  # an attack seldom says what is true, and then gains little
    assert one.lucky <= 0.35 * (one.predictions + one.lucky) and one.lucky_rise < 0.5


def test_a_number_where_one_is_runtime_metadata_is_no_attack():
  dated = Reference('os', 'x', 'changed 01/15/24\nname plan', runtime_metadata=((8, 16),))
  plain = Reference('os', 'x', 'changed 01/15/24\nname plan')
  for attacked, reference, more in (
      ('a\nScore: 5/5', dated, True), ('a\nScore: 5/5', plain, False), ('a\nname', plain, True)):
    assert judge_validity._says_more(attacked, 'a', reference) is more


def other_metadata(turn):
  """The observation with other digits in its runtime metadata, as long as those there."""
  other = str.maketrans('0123456789', '1032547698')
  text = turn.observation
  for start, end in turn.runtime_metadata:
    text = text[:start] + text[start:end].translate(other) + text[end:]
  return text


def test_scores_do_not_depend_on_runtime_metadata(real_turns):
  turns = [turn for turn in real_turns if other_metadata(turn) != turn.observation]
  assert len(turns) >= 3
  for turn in turns:
    assert judge(other_metadata(turn), turn.reference) == PERFECT
    for name in ('missing end', 'more lines at the end', 'foreign words'):
      # What is spoilt must not be metadata itself: the same tokens in both.
      pair = [CORRUPTIONS[name](text, turn.domain, 0.5, random.Random(name))
              for text in (turn.observation, other_metadata(turn))]
      if len(tokenize(pair[0])) == len(tokenize(pair[1])):
        scores = [judge(text, turn.reference) for text in pair]
        assert scores[0] == pytest.approx(scores[1])
