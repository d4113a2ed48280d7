"""Arms of a study side by side: means over seeds, and differences from the first arm.

Seeds are the units: what is drawn again with each of them (data order, sampling noise, episodes) is
what an interval covers. Differences are paired by seed, whose arms share episodes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from aw_jax.evaluation.plots import STYLE, png
from aw_jax.evaluation.statistics import Interval, t_interval
from aw_jax.rewards.rubric import DIMENSIONS

METRICS = {'exact_match': 'exact match', 'changed_state_exact_match': 'changed-state exact match',
           'rubric': 'rubric'}
ALL = 'all'  # of the domains
LAST = 'last'  # of an arm's stages
Row = dict[str, Any]


def summarise(runs: Mapping[tuple[str, int], Mapping[str, Mapping[str, Any]]], first: str
              ) -> list[Row]:
  """The table of a study.

  Args:
    runs: (arm, seed) -> stage -> an entry with `domains`: domain -> metric -> {mean, ...}.
    first: the arm that others are compared with.
  Returns:
    Rows with `arm`, `stage`, `domain`, `metric`; `value`, the mean over seeds with Student's
    interval; `difference` from the same stage of the first arm, paired by seed, None for itself and
    where it has no such stage; `gain` over the stage before that is measured in the same way
    ('sft_sampled' of 'rl_sampled'), paired by seed, None for the first.
    `rubric` is the mean of the five dimensions, 0 to 100. Where there are several domains, one
    more, `ALL`, is their mean in each seed. Where there are several arms, the stage `LAST` is each
    arm's last one, whichever that is: an arm that leaves a stage out is compared by it. What a
    seed has no turns for is null.
  """
  arms = list(dict.fromkeys(arm for arm, _ in runs))
  runs = {key: _with_last(found, len(arms) > 1) for key, found in runs.items()}
  rows = []
  for arm in arms:
    seeds = [seed for other, seed in runs if other == arm]
    stages = list(runs[arm, seeds[0]])
    for stage in stages:
      before = _before(stage, stages)
      domains = list(runs[arm, seeds[0]][stage]['domains'])
      for domain in domains + [ALL] * (len(domains) > 1):
        for metric in METRICS:
          def values(arm, stage, domain=domain, metric=metric, seeds=seeds):
            return [_value(runs[arm, seed][stage]['domains'], domain, metric) for seed in seeds]

          own = values(arm, stage)
          comparable = arm != first and all(stage in runs.get((first, s), {}) for s in seeds)
          rows.append({
            'arm': arm, 'stage': stage, 'domain': domain, 'metric': metric,
            'value': t_interval(own).to_json(),
            'difference': _difference(own, values(first, stage)) if comparable else None,
            'gain': _difference(own, values(arm, before)) if before else None})
  return rows


def _with_last(found: Mapping[str, Any], wanted: bool) -> Mapping[str, Any]:
  *_, last = (stage for stage in found if '_' not in stage)
  return {**found, LAST: found[last]} if wanted else found


def _before(stage: str, stages: Sequence[str]) -> str | None:
  """The stage before, with the same suffix."""
  earlier = stages[:stages.index(stage)] if stage != LAST else []
  return next((other for other in reversed(earlier)
               if other.partition('_')[2] == stage.partition('_')[2]), None)


def _value(domains: Mapping[str, Mapping[str, Any]], domain: str, metric: str) -> float:
  if domain == ALL:
    return sum(_value(domains, one, metric) for one in domains) / len(domains)
  metrics = domains[domain]
  if metric == 'rubric':
    return sum(metrics[name]['mean'] for name in DIMENSIONS) / len(DIMENSIONS)
  mean = metrics[metric]['mean']
  return math.nan if mean is None else 100 * mean


def _difference(ours: list[float], theirs: list[float]) -> dict[str, Any]:
  return t_interval([a - b for a, b in zip(ours, theirs, strict=True)]).to_json()


def _text(interval: Mapping[str, Any] | None, signed: bool) -> str:
  if interval is None or interval['mean'] is None:
    return ''
  number = '{:+.1f}' if signed else '{:.1f}'
  found = number.format(interval['mean'])
  if interval['low'] is None:
    return found
  return f'{found} ({number.format(interval["low"])} to {number.format(interval["high"])})'


def as_markdown(table: list[Row]) -> str:
  """The table for people: a line for each arm, stage, domain and metric."""
  lines = ['| domain | metric | arm | stage | mean over seeds | against the first arm '
           '| against the stage before |', '|---|---|---|---|---|---|---|']
  for row in sorted(table, key=lambda row: (row['domain'], list(METRICS).index(row['metric']))):
    lines.append('| ' + ' | '.join((
      row['domain'], METRICS[row['metric']], row['arm'], row['stage'], _text(row['value'], False),
      _text(row['difference'], True), _text(row['gain'], True))) + ' |')
  return '\n'.join(lines) + '\n'


def figure(table: list[Row]) -> bytes:
  """PNG: a panel for each domain and metric, a point with its interval for each arm and stage."""
  domains = list(dict.fromkeys(row['domain'] for row in table))
  names = list(dict.fromkeys((row['arm'], row['stage']) for row in table))
  with matplotlib.rc_context(STYLE):
    drawn = Figure(figsize=(4.2 * len(METRICS), 0.6 + (0.5 + 0.22 * len(names)) * len(domains)),
                   layout='constrained')
    panels = drawn.subplots(len(domains), len(METRICS), squeeze=False, sharey=True)
    for domain, axes_of_domain in zip(domains, panels, strict=True):
      for (metric, label), axes in zip(METRICS.items(), axes_of_domain, strict=True):
        for row in table:
          known = row['value']['mean'] is not None
          if known and (row['domain'], row['metric']) == (domain, metric):
            _draw(axes, Interval(**row['value']),
                  names.index((row['arm'], row['stage'])))
        axes.set(title=f'{domain}, {label}', yticks=range(len(names)),
                 yticklabels=[f'{arm}, {stage}' for arm, stage in names])
        axes.grid(axis='x')
      axes_of_domain[0].invert_yaxis()
    return png(drawn)


def _draw(axes, interval: Interval, place: int) -> None:
  if interval.low is not None:
    axes.plot([interval.low, interval.high], [place] * 2, color='#8a95a1')
  axes.plot([interval.mean], [place], color='#2563a8', marker='o')
