"""One-step fidelity: how well a predictor answers single turns of real trajectories.

Given the true history, a predictor says what the action will get. Its answers are compared with the
truth by the rule verifier (`exact_match`) and the reference judge (five dimensions). Averages over
all turns flatter whoever copies, so turns with output and *changed-state* turns stand apart
(PAPER.md sections 6 and 9).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from aw_jax.evaluation.examples import Predictor, TurnExample, has_output
from aw_jax.evaluation.statistics import (
    NOTHING,
    RESAMPLES,
    Interval,
    bootstrap_means,
    bootstrap_rate,
    macro_means,
)
from aw_jax.rewards import rubric
from aw_jax.rewards.judges import REFERENCE_JUDGE, Judge
from aw_jax.rewards.rubric import Scores
from aw_jax.rewards.verifiers import exact_match

METRICS = ('exact_match', 'valid', *rubric.DIMENSIONS)
SUBSETS: dict[str, Callable[[TurnExample], bool]] = {
    'all': lambda example: True,
    'with_output': lambda example: has_output(example.domain, example.observation),
    'changed_state': lambda example: bool(example.changed_state),
    'seen_families': lambda example: not example.held_out_family,
    'held_out_families': lambda example: example.held_out_family,
}


def context_characters(example: TurnExample) -> int:
  """Characters of all that stands before the answer."""
  before = [example.system or example.initial_state or '', example.action]
  return sum(map(len, before + [text for turn in example.history for text in turn]))


_CONTEXT_ENDS = (0, 1_000, 4_000, 16_000, 64_000, 10**12)
CONTEXTS: dict[str, Callable[[TurnExample], bool]] = {
    f'context_from_{low}': lambda example, low=low, high=high: (
        low <= context_characters(example) < high)
    for low, high in itertools.pairwise(_CONTEXT_ENDS)}


@dataclasses.dataclass(frozen=True)
class FidelityReport:
  """Figures of one predictor on one set of turns.

  Attributes:
    examples: the turns.
    predictions: what was predicted for each; None where it was invalid.
    values: float64[N, len(METRICS)]: exact match and validity as 0 or 1, dimensions from 1 to 5 (1
      where invalid).
    figures: domain -> subset -> metric -> interval. Domains are those of the examples, 'all' (the
      mean over turns, micro) and 'macro' (the mean over domains); subsets are those of SUBSETS,
      'turn_1', 'turn_2', ... and by length of the context those of CONTEXTS. Metrics are METRICS, a
      dimension on the scale of the benchmark, (raw - 1) / 4 * 100, and as '{dimension}_raw';
      'rubric', the mean of the five on that scale; 'judged', the share of valid predictions whose
      judgement was valid; and 'rubric_judged', the mean of the five over those predictions alone,
      which is what AgentWorldBench's own scorer averages over.
  """

  examples: Sequence[TurnExample]
  predictions: Sequence[str | None]
  values: np.ndarray
  figures: dict[str, dict[str, dict[str, Interval]]]

  def get(self, metric: str, domain: str = 'all', subset: str = 'all') -> Interval:
    """One figure; empty (n = 0) where no turn belongs to it."""
    return self.figures.get(domain, {}).get(subset, {}).get(metric, NOTHING)

  def to_json(self) -> dict[str, dict[str, dict[str, dict]]]:
    """`figures` as JSON values."""
    return {
        domain: {
            subset: {metric: interval.to_json() for metric, interval in metrics.items()}
            for subset, metrics in subsets.items()}
        for domain, subsets in self.figures.items()}


def evaluate(
    predict: Predictor, examples: Sequence[TurnExample], *, batch_size: int | None = None,
    resamples: int = RESAMPLES, seed: int = 0, judge: Judge = REFERENCE_JUDGE,
    progress: Callable[[Iterable], Iterable] = iter) -> FidelityReport:
  """Lets a predictor answer every turn, and measures the answers.

  Args:
    predict: takes turns, returns the text of their observations; None, or '' where the truth is
      not empty, is an invalid answer.
    examples: the turns.
    batch_size: how many turns `predict` gets at a time; all where None.
    resamples: draws of the bootstrap, by trajectory.
    seed: of the bootstrap.
    judge: gives the five dimensions; an answer without a valid judgement gets the lowest scores.
    progress: wraps the iteration over batches (a progress bar).
  Raises:
    ValueError: where `predict` returns another number of answers than it got turns.
  """
  predictions: list[str | None] = []
  size = batch_size or max(1, len(examples))
  for start in progress(range(0, len(examples), size)):
    batch = examples[start:start + size]
    answers = predict(batch)
    if len(answers) != len(batch):
      raise ValueError(f'the predictor gave {len(answers)} answers to {len(batch)} turns')
    predictions += answers
  predictions = [
      None if answer is None or (not answer and example.observation) else answer
      for answer, example in zip(predictions, examples, strict=True)]
  given = [i for i, prediction in enumerate(predictions) if prediction is not None]
  judged = dict(zip(given, judge.judge(
      [predictions[i] for i in given], [examples[i].reference for i in given]), strict=True))
  rows = [_row(prediction, example, judged.get(i)) for i, (prediction, example) in enumerate(
      zip(predictions, examples, strict=True))]
  values = np.array(rows, np.float64).reshape(-1, len(METRICS))
  was_judged = np.array([judged.get(i) is not None for i in range(len(examples))], bool)
  return FidelityReport(
      examples, predictions, values, _figures(examples, values, was_judged, resamples, seed))


def _row(prediction: str | None, example: TurnExample, scores: Scores | None) -> list[float]:
  if prediction is None:
    return [0.0, 0.0, *[rubric.MIN_SCORE] * len(rubric.DIMENSIONS)]
  scores = scores or [rubric.MIN_SCORE] * len(rubric.DIMENSIONS)
  return [float(exact_match(prediction, example.reference)), 1.0, *scores]


def _figures(examples, values, was_judged, resamples, seed
             ) -> dict[str, dict[str, dict[str, Interval]]]:
  subsets = {**SUBSETS, **CONTEXTS}
  for index in sorted({example.turn_index for example in examples}):
    subsets[f'turn_{index}'] = lambda example, index=index: example.turn_index == index
  scores = values[:, [METRICS.index(name) for name in rubric.DIMENSIONS]].mean(axis=1)
  columns = np.column_stack([values, scores])
  judgements = np.column_stack([was_judged, scores])
  valid = values[:, METRICS.index('valid')] == 1
  clusters = _clusters(examples)
  domains = sorted({example.domain for example in examples})
  figures: dict[str, dict[str, dict[str, Interval]]] = {}
  for domain in ['all', 'macro', *domains]:

    def means(columns, rows, domain=domain) -> list[Interval]:
      if domain == 'macro':
        return macro_means(columns[rows], [examples[row].domain for row in rows], clusters[rows],
                           resamples=resamples, seed=seed)
      return bootstrap_means(columns[rows], clusters[rows], resamples=resamples, seed=seed)

    figures[domain] = {}
    for name, belongs in subsets.items():
      rows = [row for row, example in enumerate(examples)
              if domain in ('all', 'macro', example.domain) and belongs(example)]
      found = _intervals(means(columns, rows), values[rows], clusters[rows], resamples, seed)
      rows = [row for row in rows if valid[row]]
      found['judged'], score = means(judgements, rows)
      if not was_judged[rows].all():
        _, score = means(judgements, [row for row in rows if was_judged[row]])
      figures[domain][name] = found | {'rubric_judged': _scaled(score)}
  return figures


def _clusters(examples: Sequence[TurnExample]) -> np.ndarray:
  """int[N], the trajectory of each turn: those of another domain or file are others."""
  numbers: dict[tuple, int] = {}
  return np.array([
      numbers.setdefault((example.domain, example.file, example.trajectory), len(numbers))
      for example in examples], int)


def _intervals(means, values, clusters, resamples, seed) -> dict[str, Interval]:
  intervals = dict(zip((*METRICS, 'rubric'), means, strict=True))
  intervals['rubric'] = _scaled(intervals['rubric'])
  for column, name in enumerate(METRICS):
    if name in rubric.DIMENSIONS:
      intervals[f'{name}_raw'] = intervals[name]
      intervals[name] = _scaled(intervals[name])
    elif intervals[name].mean in (0.0, 1.0):
      intervals[name] = bootstrap_rate(values[:, column], clusters, resamples=resamples, seed=seed)
  return intervals


def _scaled(raw: Interval) -> Interval:
  """Scores from 1 to 5 on the scale of the benchmark, 0 to 100."""
  scale = 100 / (rubric.MAX_SCORE - rubric.MIN_SCORE)
  return raw.scaled(scale, -rubric.MIN_SCORE * scale)
