"""Intervals against scipy and closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from aw_jax.evaluation import statistics

RNG = np.random.default_rng(0)
NORMAL = RNG.normal(3, 2, 400)


def test_bootstrap_mean_has_the_width_of_the_central_limit():
  found = statistics.bootstrap_mean(NORMAL, resamples=4000)
  half = 1.96 * NORMAL.std() / math.sqrt(len(NORMAL))
  assert found.mean == pytest.approx(NORMAL.mean()) and found.n == 400
  assert found.low == pytest.approx(NORMAL.mean() - half, abs=0.05 * 2 * half)
  assert found.high == pytest.approx(NORMAL.mean() + half, abs=0.05 * 2 * half)


def test_bootstrap_mean_agrees_with_scipy():
  ends = stats.bootstrap((NORMAL,), np.mean, n_resamples=4000, method='percentile',
                         rng=np.random.default_rng(1)).confidence_interval
  found = statistics.bootstrap_mean(NORMAL, resamples=4000)
  width = ends.high - ends.low
  assert found.low == pytest.approx(ends.low, abs=0.06 * width)
  assert found.high == pytest.approx(ends.high, abs=0.06 * width)


def test_bootstrap_is_seeded():
  first, again, other = (statistics.bootstrap_mean(NORMAL, seed=seed) for seed in (5, 5, 6))
  assert first == again != other


def test_clusters_are_drawn_whole():
  """Ten copies of each value tell no more than the value itself."""
  values = RNG.normal(size=60)
  alone = statistics.bootstrap_mean(values, resamples=4000)
  copied = statistics.bootstrap_mean(
    np.repeat(values, 10), np.repeat(np.arange(60), 10), resamples=4000)
  naive = statistics.bootstrap_mean(np.repeat(values, 10), resamples=4000)
  assert copied[:3] == pytest.approx(alone[:3]) and copied.n == 600
  assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_clusters_of_unequal_size_keep_the_plain_mean():
  values, clusters = [1, 0, 0, 0, 1], ['a', 'b', 'b', 'b', 'c']
  found = statistics.bootstrap_mean(values, clusters)
  assert found.mean == pytest.approx(0.4) and 0 <= found.low <= 0.4 <= found.high <= 1


def test_columns_share_their_draws():
  columns = np.stack([NORMAL, 2 * NORMAL + 1], axis=1)
  first, second = statistics.bootstrap_means(columns)
  assert second == pytest.approx(first.scaled(2, 1))


def test_nothing_to_average():
  assert statistics.bootstrap_means(np.zeros((0, 2))) == [statistics.NOTHING] * 2
  assert statistics.bootstrap_mean([]).to_json() == {
    'mean': None, 'low': None, 'high': None, 'n': 0}


@pytest.mark.parametrize('successes, n', [(0, 5), (5, 5), (8, 10), (1, 200), (99, 100)])
def test_the_ends_of_wilson_are_the_rates_that_a_score_test_just_keeps(successes, n):
  found, z = statistics.wilson(successes, n), 1.959964
  for end in found[1:3]:
    assert abs(found.mean - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-6)


def test_wilson_bad_counts():
  assert statistics.wilson(0, 0) is statistics.NOTHING
  with pytest.raises(ValueError, match='6 successes in 5 trials'):
    statistics.wilson(6, 5)


def test_a_rate_that_never_varied_keeps_a_width():
  found = statistics.bootstrap_rate([1, 1, 1, 1], ['a', 'a', 'b', 'b'])
  assert found.mean == found.high == 1 and found.n == 4
  assert found.low == pytest.approx(statistics.wilson(2, 2).low)
  assert statistics.bootstrap_rate([0] * 9).high == pytest.approx(statistics.wilson(0, 9).high)
  assert statistics.bootstrap_rate([]).n == 0


@pytest.mark.parametrize('n, quantile', [(2, 12.706205), (3, 4.302653), (10, 2.262157)])
def test_t_interval(n, quantile):
  values = NORMAL[:n]
  found = statistics.t_interval(values)
  half = quantile * values.std(ddof=1) / math.sqrt(n)
  assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half, n))


def test_t_interval_of_one_run_has_no_width():
  found = statistics.t_interval([0.5])
  assert found.mean == 0.5 and math.isnan(found.low) and found.n == 1
  assert statistics.t_interval([]).n == 0


def test_paired_difference_is_narrower_than_its_sides():
  second = NORMAL + RNG.normal(0.2, 0.1, 400)
  found = statistics.paired_difference(second, NORMAL)
  assert found.mean == pytest.approx((second - NORMAL).mean())
  assert found.low > 0 and found.high - found.low < 0.05
  with pytest.raises(ValueError, match='3 values against 2'):
    statistics.paired_difference([1, 2, 3], [1, 2])


def test_ratio():
  """Against the delta method."""
  below = RNG.normal(10, 1, 500)
  above = 0.8 * below + RNG.normal(0, 0.5, 500)
  found = statistics.ratio(above, below, resamples=4000)
  rate = above.sum() / below.sum()
  half = 1.96 * (above - rate * below).std() / below.mean() / math.sqrt(500)
  assert found.mean == pytest.approx(rate)
  assert found.low == pytest.approx(rate - half, abs=0.1 * half)
  assert found.high == pytest.approx(rate + half, abs=0.1 * half)


def test_ratio_without_a_denominator():
  found = statistics.ratio([1, 1], [0, 0])
  assert math.isnan(found.mean) and found.n == 2
  assert statistics.ratio([1, 0, 0], [1, 0, 0]).mean == 1  # draws without a success are left out
  with pytest.raises(ValueError, match='1 values over 2'):
    statistics.ratio([1], [1, 2])


def test_macro_means_weigh_strata_alike():
  rng = np.random.default_rng(0)
  strata = ['a'] * 300 + ['b'] * 20
  values = np.concatenate([rng.normal(1, 1, 300), rng.normal(3, 1, 20)])
  found, = statistics.macro_means(values[:, None], strata, resamples=4000)
  assert found.mean == pytest.approx((values[:300].mean() + values[300:].mean()) / 2)
  error = np.sqrt(values[:300].var() / 300 + values[300:].var() / 20) / 2
  assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)
  # Of one stratum it is the plain bootstrap.
  assert statistics.macro_means(values[:, None], ['a'] * 320) == statistics.bootstrap_means(
    values[:, None])
  assert statistics.macro_means(np.zeros((0, 2)), []) == [statistics.NOTHING] * 2
