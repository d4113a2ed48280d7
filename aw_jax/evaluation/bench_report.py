"""The benchmark's figures for people: a table and a figure."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from aw_jax.evaluation.fidelity import CONTEXTS
from aw_jax.evaluation.plots import STYLE, png
from aw_jax.rewards.rubric import DIMENSIONS

# predictor -> domain, 'all' (over turns) or 'macro' (over domains) -> subset -> metric -> interval;
# the first predictor has all that there are, another may lack some
Figures = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]]
_SCORES = (*DIMENSIONS, 'rubric', 'rubric_judged')
_COLUMNS = (*DIMENSIONS, 'rubric', 'rubric of judged', 'exact match', 'changed-state', 'valid',
            'judged')


def _cells(subsets: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
  everything = subsets['all']
  return [*(everything[name] for name in _SCORES), everything['exact_match'],
          subsets['changed_state']['exact_match'], everything['valid'], everything['judged']]


def _percent(interval: Mapping[str, Any], rate: bool) -> str:
  if interval['mean'] is None:
    return '–'
  mean, low, high = (100 ** rate * interval[key] for key in ('mean', 'low', 'high'))
  return f'{mean:.1f} ({low:.1f} to {high:.1f})'


def as_markdown(figures: Figures) -> str:
  """Domains, predictors and metrics, 0 to 100 each, with their intervals and numbers of turns.

  'rubric' is the mean of the five dimensions; an answer without a valid judgement has the lowest
  there and is left out of 'rubric of judged'.
  """
  lines = [f'| over | predictor | {" | ".join(_COLUMNS)} | turns |',
           '|' + '---|' * (len(_COLUMNS) + 3)]
  names = {'all': 'all turns (micro)', 'macro': 'domains (macro)'}
  for domain in next(iter(figures.values())):
    for predictor, domains in figures.items():
      if domain not in domains:
        continue
      cells = [_percent(cell, place >= len(_SCORES))
               for place, cell in enumerate(_cells(domains[domain]))]
      count = domains[domain]['all']['exact_match']['n']
      lines.append(f'| {names.get(domain, domain)} | {predictor} | {" | ".join(cells)} | {count} |')
  return '\n'.join(lines) + '\n'


def figure(figures: Figures) -> bytes:
  """PNG: the mean of the five dimensions over all turns, by turn and by length of the context."""
  subsets = next(iter(figures.values()))['all']
  turns = sorted((name for name in subsets if name.startswith('turn_')),
                 key=lambda name: int(name.removeprefix('turn_')))
  contexts = list(CONTEXTS)
  with matplotlib.rc_context(STYLE):
    drawn = Figure(figsize=(9, 3.2), layout='constrained')
    panels = drawn.subplots(1, 2, sharey=True)
    for axes, names, label in zip(
        panels, (turns, contexts), ('turn', 'characters of context, from'), strict=True):
      for predictor, domains in figures.items():
        if 'all' not in domains:
          continue
        points = [(name.rpartition('_')[2], domains['all'][name]['rubric']['mean'])
                  for name in names]
        points = [(name, value) for name, value in points if value is not None]
        axes.plot([name for name, _ in points], [value for _, value in points], marker='o', ms=3,
                  label=predictor)
      axes.set(xlabel=label, ylim=(0, 102))
    panels[0].set(ylabel='mean of five dimensions')
    panels[0].legend(fontsize=7)
    return png(drawn)
