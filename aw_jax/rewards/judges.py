"""What a judge is, and the one that needs no model.

A judge sees the text inside the observation tag and the truth, nothing else of what a world model
said (PAPER.md section 5). `ReferenceJudge` is a program, `llm_judge.LlmJudge` a language model.
"""

from collections.abc import Sequence
from typing import Protocol

from aw_jax.rewards import rubric
from aw_jax.rewards.content import Reference
from aw_jax.rewards.rubric import Scores


class Judge(Protocol):
  """Anything that scores predicted observations in five dimensions."""

  def judge(
      self, predictions: Sequence[str], references: Sequence[Reference]) -> list[Scores | None]:
    """The scores of a batch, each dimension in [1, 5].

    Args:
      predictions: texts inside the observation tag.
      references: what really happened, one for each.
    Returns:
      Scores in the same order; None where no valid judgement was had.
    Raises:
      ValueError: where the two sequences differ in length.
    """


class ReferenceJudge:
  """Compares with the truth by `rubric.judge`: deterministic, on this machine, always valid."""

  def judge(
      self, predictions: Sequence[str], references: Sequence[Reference]) -> list[Scores | None]:
    """See `Judge.judge`."""
    return [rubric.judge(predicted, reference)
            for predicted, reference in zip(predictions, references, strict=True)]


REFERENCE_JUDGE = ReferenceJudge()
