"""The reward of world-model RL: rubric and rule verifier, 9 : 1 (PAPER.md section 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aw_jax.prompts import chat
from aw_jax.rewards import rubric
from aw_jax.rewards.content import Reference
from aw_jax.rewards.verifiers import exact_match

MAX_REWARD = 25.0
RUBRIC_WEIGHT, RULE_WEIGHT = 0.9, 0.1


class Reward(NamedTuple):
  """The reward of one generated turn.

  Attributes:
    total: the weighted sum, in [0, 25].
    rubric: mean of the five dimensions times 5, in [5, 25]; 0 where invalid.
    rule: 25 for an exact match, else 0.
    valid: whether the turn could be taken apart.
  """

  total: float
  rubric: float
  rule: float
  valid: bool


def reward(
    generated_text: str, reference: Reference, rubric_weight: float = RUBRIC_WEIGHT,
    rule_weight: float = RULE_WEIGHT) -> Reward:
  """The reward of a generated turn, tags included.

  Args:
    generated_text: what the world model wrote; only what stands in the observation tag is judged.
    reference: what really happened.
    rubric_weight: of the rubric; 1 with `rule_weight` 0 is the rubric alone.
    rule_weight: of the rule verifier; the two weights should sum to 1.
  """
  prediction = chat.parse_prediction(generated_text)
  if prediction is None:
    return Reward(0.0, 0.0, 0.0, False)
  scores = rubric.judge(prediction.observation, reference)
  rule = MAX_REWARD * exact_match(prediction.observation, reference)
  judged = MAX_REWARD / rubric.MAX_SCORE * scores.mean
  return Reward(rubric_weight * judged + rule_weight * rule, judged, rule, True)


def rewards(
    generated_texts: Sequence[str], references: Sequence[Reference],
    rubric_weight: float = RUBRIC_WEIGHT, rule_weight: float = RULE_WEIGHT) -> np.ndarray:
  """Total rewards of a batch, float32[N] in [0, 25]; pass one Reference per group, not per sample.

  Raises:
    ValueError: where the two sequences differ in length.
  """
  return np.array(
      [reward(text, reference, rubric_weight, rule_weight).total
       for text, reference in zip(generated_texts, references, strict=True)], np.float32)
