"""The reward of world-model RL: rubric and rule verifier, 9 : 1 (PAPER.md section 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aw_jax.prompts import chat
from aw_jax.rewards import rubric
from aw_jax.rewards.content import Reference
from aw_jax.rewards.judges import REFERENCE_JUDGE, Judge
from aw_jax.rewards.verifiers import exact_match, has_rule

MAX_REWARD = 25.0
RUBRIC_WEIGHT = 0.9


class Rewards(NamedTuple):
  """The rewards of a batch of generated turns, and what they are made of: float32[N] each.

  Attributes:
    total: the weighted sum, in [0, 25]. Where the domain has no rule, the rubric alone; NaN where
      that is to weigh nothing: then there is no reward.
    rubric: mean of the five dimensions times 5, in [5, 25]; 0 where invalid.
    rule: 25 where the rule verifier of the domain passes, else 0; NaN where it has none.
    invalid: 1 where the turn could not be taken apart or the judge gave no valid judgement, else 0.
  """

  total: np.ndarray
  rubric: np.ndarray
  rule: np.ndarray
  invalid: np.ndarray


def rewards(
    generated_texts: Sequence[str], references: Sequence[Reference],
    rubric_weight: float = RUBRIC_WEIGHT, judge: Judge = REFERENCE_JUDGE) -> Rewards:
  """Rewards of a batch; pass one Reference per group, not per sample.

  Args:
    generated_texts: what the world model wrote, tags included; only what stands in the observation
      tag is judged.
    references: what really happened, one for each.
    rubric_weight: of the rubric, in [0, 1]; the rest is the rule verifier's.
    judge: gives the five dimensions.
  Raises:
    ValueError: where the two sequences differ in length.
  """
  predictions = [chat.parse_prediction(text) for text in generated_texts]
  rubrics, invalid = np.zeros(len(predictions)), np.ones(len(predictions))
  rules = np.array([0.0 if has_rule(reference.domain) else np.nan for reference in references])
  whole = [(row, prediction.observation, reference) for row, (prediction, reference) in enumerate(
      zip(predictions, references, strict=True)) if prediction is not None]
  scores = judge.judge([observation for _, observation, _ in whole],
                       [reference for _, _, reference in whole])
  for (row, observation, reference), score in zip(whole, scores, strict=True):
    if score is not None:
      rubrics[row], invalid[row] = MAX_REWARD / rubric.MAX_SCORE * score.mean, 0
    if has_rule(reference.domain):
      rules[row] = MAX_REWARD * exact_match(observation, reference)
  total = np.where(np.isnan(rules), rubrics if rubric_weight else np.nan,
                   rubric_weight * rubrics + (1 - rubric_weight) * rules)
  return Rewards(*(part.astype(np.float32) for part in (total, rubrics, rules, invalid)))
