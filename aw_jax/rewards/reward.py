"""The reward of world-model RL: rubric and rule verifier, 9 : 1 (PAPER.md section 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aw_jax.prompts import chat
from aw_jax.rewards import rubric
from aw_jax.rewards.content import Reference
from aw_jax.rewards.judges import REFERENCE_JUDGE, Judge
from aw_jax.rewards.rubric import Scores
from aw_jax.rewards.verifiers import rule

MAX_REWARD = 25.0
RUBRIC_WEIGHT, RULE_WEIGHT = 0.9, 0.1


class Reward(NamedTuple):
  """The reward of one generated turn.

  Attributes:
    total: the weighted sum, in [0, 25]; the rubric alone where there is no rule.
    rubric: mean of the five dimensions times 5, in [5, 25]; 0 where invalid.
    rule: 25 where the rule verifier of the domain passes, else 0; None where it has none.
    valid: whether the turn could be taken apart and the judge gave a valid judgement.
  """

  total: float
  rubric: float
  rule: float | None
  valid: bool


def reward(
    generated_text: str, reference: Reference, rubric_weight: float = RUBRIC_WEIGHT,
    rule_weight: float = RULE_WEIGHT, judge: Judge = REFERENCE_JUDGE) -> Reward:
  """The reward of a generated turn, tags included.

  Args:
    generated_text: what the world model wrote; only what stands in the observation tag is judged.
    reference: what really happened.
    rubric_weight: of the rubric; 1 with `rule_weight` 0 is the rubric alone.
    rule_weight: of the rule verifier; the two weights should sum to 1.
    judge: gives the five dimensions.
  """
  found, = _rewards([generated_text], [reference], rubric_weight, rule_weight, judge)
  return found


def rewards(
    generated_texts: Sequence[str], references: Sequence[Reference],
    rubric_weight: float = RUBRIC_WEIGHT, rule_weight: float = RULE_WEIGHT,
    judge: Judge = REFERENCE_JUDGE) -> np.ndarray:
  """Total rewards of a batch, float32[N] in [0, 25]; pass one Reference per group, not per sample.

  Raises:
    ValueError: where the two sequences differ in length.
  """
  found = _rewards(generated_texts, references, rubric_weight, rule_weight, judge)
  return np.array([one.total for one in found], np.float32)


def _rewards(
    texts: Sequence[str], references: Sequence[Reference], rubric_weight: float, rule_weight: float,
    judge: Judge) -> list[Reward]:
  pairs = list(zip(map(chat.parse_prediction, texts), references, strict=True))
  whole = [(prediction.observation, reference)
           for prediction, reference in pairs if prediction is not None]
  scores = judge.judge([observation for observation, _ in whole],
                       [reference for _, reference in whole])
  judged = iter([
      _combine(*one, score, rubric_weight, rule_weight)
      for one, score in zip(whole, scores, strict=True)])
  return [Reward(0.0, 0.0, 0.0, False) if prediction is None else next(judged)
          for prediction, _ in pairs]


def _combine(observation: str, reference: Reference, scores: Scores | None, rubric_weight: float,
             rule_weight: float) -> Reward:
  judged = 0.0 if scores is None else MAX_REWARD / rubric.MAX_SCORE * scores.mean
  passes = rule(observation, reference)
  if passes is None:
    return Reward(judged, judged, None, scores is not None)
  ruled = MAX_REWARD * passes
  return Reward(rubric_weight * judged + rule_weight * ruled, judged, ruled, scores is not None)
