"""Means with intervals: bootstrap, Wilson, Student's t, paired differences, ratios.

Turns of one trajectory are no independent draws, so wherever they are averaged the bootstrap draws
whole *clusters* (trajectories). Every draw is seeded: the same values give the same interval.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

RESAMPLES = 1000
CONFIDENCE = 0.95


class Interval(NamedTuple):
  """A mean with its confidence interval; NaN where there is nothing to average.

  Attributes:
    mean: the estimate.
    low, high: ends of the interval.
    n: how many values it rests on.
  """

  mean: float
  low: float
  high: float
  n: int

  def scaled(self, factor: float, offset: float = 0.0) -> 'Interval':
    """The interval of `factor * value + offset`; the factor must be positive."""
    return Interval(*(factor * value + offset for value in self[:3]), self.n)

  def to_json(self) -> dict[str, float | int | None]:
    """`{mean, low, high, n}`; NaN, which JSON lacks, as null."""
    numbers = {'mean': self.mean, 'low': self.low, 'high': self.high}
    return {key: None if math.isnan(value) else float(value)
            for key, value in numbers.items()} | {'n': int(self.n)}


NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def _cluster_sums(columns: np.ndarray, clusters: Sequence | None) -> tuple[np.ndarray, np.ndarray]:
  """Sums float64[C, M] and sizes float64[C] of the clusters of `columns` float64[N, M]."""
  if clusters is None:
    return columns, np.ones(len(columns))
  names, index = np.unique(np.asarray(clusters), return_inverse=True)
  sums = np.zeros((len(names), columns.shape[1]))
  np.add.at(sums, index, columns)
  return sums, np.bincount(index, minlength=len(names)).astype(np.float64)


def _resampled(sums: np.ndarray, resamples: int, seed: int) -> np.ndarray:
  """Totals float64[resamples, M] of clusters drawn with replacement from `sums` float64[C, M]."""
  count = len(sums)
  draws = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=resamples)
  return draws @ sums


def _ends(values: np.ndarray, confidence: float) -> np.ndarray:
  tail = 50 * (1 - confidence)
  return np.percentile(values, [tail, 100 - tail], axis=0)


def bootstrap_means(
    columns: np.ndarray, clusters: Sequence | None = None, *, resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE, seed: int = 0) -> list[Interval]:
  """Percentile bootstrap intervals of the mean of every column.

  Args:
    columns: float[N, M], N values of M quantities; every column gets the same draws.
    clusters: N labels; rows with the same label are drawn together. None: every row alone.
    resamples: how many draws.
    confidence: of the intervals.
    seed: of the draws.
  """
  columns = np.asarray(columns, np.float64)
  if not len(columns):
    return [NOTHING] * columns.shape[1]
  sums, sizes = _cluster_sums(columns, clusters)
  totals = _resampled(np.column_stack([sums, sizes]), resamples, seed)
  low, high = _ends(totals[:, :-1] / totals[:, -1:], confidence)
  means = columns.mean(axis=0)
  return [Interval(*map(float, row), len(columns)) for row in zip(means, low, high, strict=True)]


def macro_means(
    columns: np.ndarray, strata: Sequence, clusters: Sequence | None = None, *,
    resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0) -> list[Interval]:
  """The mean over strata of the mean of every column in each, with bootstrap intervals.

  Clusters are drawn again within each stratum (a domain): strata are what they are.

  Args:
    columns: float[N, M].
    strata: N labels of strata.
    clusters: N labels, as of `bootstrap_means`.
    resamples, confidence, seed: as of `bootstrap_means`.
  """
  columns, strata = np.asarray(columns, np.float64), np.asarray(strata)
  if not len(columns):
    return [NOTHING] * columns.shape[1]
  means, draws = [], []
  for number, stratum in enumerate(np.unique(strata)):
    rows = np.flatnonzero(strata == stratum)
    own = None if clusters is None else [clusters[row] for row in rows]
    sums, sizes = _cluster_sums(columns[rows], own)
    totals = _resampled(np.column_stack([sums, sizes]), resamples, seed + number)
    means.append(columns[rows].mean(axis=0))
    draws.append(totals[:, :-1] / totals[:, -1:])
  low, high = _ends(np.mean(draws, axis=0), confidence)
  return [Interval(*map(float, row), len(columns))
          for row in zip(np.mean(means, axis=0), low, high, strict=True)]


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence | None = None, *, resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
  """Percentile bootstrap interval of the mean of `values`; see `bootstrap_means`."""
  column = np.asarray(values, np.float64).reshape(-1, 1)
  return bootstrap_means(
      column, clusters, resamples=resamples, confidence=confidence, seed=seed)[0]


def bootstrap_rate(
    values: Sequence[float], clusters: Sequence | None = None, *, resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
  """`bootstrap_mean` of zeros and ones.

  Where all are alike a bootstrap has no width; there the interval is Wilson's over the clusters.
  """
  found = bootstrap_mean(
      values, clusters, resamples=resamples, confidence=confidence, seed=seed)
  if found.mean in (0.0, 1.0):
    count = found.n if clusters is None else len(set(clusters))
    ends = wilson(round(found.mean * count), count, confidence)
    return Interval(found.mean, ends.low, ends.high, found.n)
  return found


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
  """Wilson's score interval of a rate of independent trials.

  Raises:
    ValueError: unless 0 <= successes <= n.
  """
  if not 0 <= successes <= n:
    raise ValueError(f'{successes} successes in {n} trials')
  if not n:
    return NOTHING
  ends = stats.binomtest(successes, n).proportion_ci(confidence, method='wilson')
  return Interval(successes / n, float(ends.low), float(ends.high), n)


def paired_difference(
    first: Sequence[float], second: Sequence[float], clusters: Sequence | None = None, *,
    resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
  """Bootstrap interval of the mean of `first - second`, measured on the same items.

  Raises:
    ValueError: where the two differ in length.
  """
  first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
  if first.shape != second.shape:
    raise ValueError(f'{len(first)} values against {len(second)}: pairs need as many of each')
  return bootstrap_mean(
      first - second, clusters, resamples=resamples, confidence=confidence, seed=seed)


def ratio(
    numerator: Sequence[float], denominator: Sequence[float], clusters: Sequence | None = None, *,
    resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
  """Bootstrap interval of mean(numerator) / mean(denominator), measured on the same items.

  Draws whose denominator is zero are left out; a zero denominator in the data itself gives NaN.

  Raises:
    ValueError: where the two differ in length.
  """
  pairs = [np.asarray(side, np.float64) for side in (numerator, denominator)]
  if pairs[0].shape != pairs[1].shape:
    raise ValueError(f'{len(pairs[0])} values over {len(pairs[1])}: pairs need as many of each')
  above, below = (float(side.sum()) for side in pairs)
  if not below:
    return Interval(math.nan, math.nan, math.nan, len(pairs[0]))
  sums, _ = _cluster_sums(np.column_stack(pairs), clusters)
  totals = _resampled(sums, resamples, seed)
  totals = totals[totals[:, 1] != 0]
  if not len(totals):
    return Interval(above / below, math.nan, math.nan, len(pairs[0]))
  low, high = _ends(totals[:, 0] / totals[:, 1], confidence)
  return Interval(above / below, float(low), float(high), len(pairs[0]))


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
  """Student's interval of the mean of independent runs (seeds); of one run it has no width: NaN."""
  values = np.asarray(values, np.float64)
  n = len(values)
  if not n:
    return NOTHING
  mean = float(values.mean())
  if n == 1:
    return Interval(mean, math.nan, math.nan, 1)
  half = float(stats.t.ppf(0.5 + confidence / 2, n - 1) * stats.sem(values))
  return Interval(mean, mean - half, mean + half, n)
