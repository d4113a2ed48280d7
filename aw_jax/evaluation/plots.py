"""The figures of a report, as PNG bytes; every interval is drawn, what is missing is a dash."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from aw_jax.evaluation.results import BASELINES

NAMES = {
    'cpt': 'CPT', 'cpt_thinking': 'CPT,\nthinking', 'sft': 'SFT', 'rl': 'RL',
    'copy_last': 'copy last', 'ngram': 'n-gram',
    'nearest_action': 'nearest', 'real_success_before': 'real,\nbefore',
    'real_success_after': 'real,\nafter', 'imagined_success': 'imagined', 'w2r': 'W2R'}
_MODEL, _BASELINE, _ACCENT = '#2563a8', '#a9b4c0', '#d9822b'
_LINES = ('#2563a8', '#d9822b', '#3a8f5c', '#8a5fb0', '#b0413e', '#6b7785')
STYLE = {
    'font.size': 9, 'axes.titlesize': 10, 'axes.titleweight': 'bold', 'axes.titlelocation': 'left',
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.edgecolor': '#8a95a1',
    'axes.labelcolor': '#39424e', 'xtick.color': '#39424e', 'ytick.color': '#39424e',
    'axes.grid': True, 'axes.grid.axis': 'y', 'grid.color': '#e6eaee', 'axes.axisbelow': True,
    'legend.frameon': False, 'figure.facecolor': 'white'}
_DPI = 160


def fidelity_by_stage(domain: str, entries: Mapping[str, Any]) -> bytes:
  """Exact match on all and on changed-state turns of a domain, by stage and baseline."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(4.6, 3.1), layout='constrained')
    _fidelity_panel(figure.subplots(), domain, entries)
    return png(figure)


def fidelity_by_turn(domain: str, series: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
  """Exact match of a domain by turn index: predictor -> intervals of turn 1, 2, ..."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(4.6, 3.1), layout='constrained')
    axes = figure.subplots()
    for color, (name, intervals) in zip(_cycle(len(series)), series.items(), strict=True):
      points = [(turn, i) for turn, i in enumerate(intervals, 1) if i['mean'] is not None]
      turns = [turn for turn, _ in points]
      axes.plot(turns, [i['mean'] for _, i in points], color=color, marker='o', ms=3,
                linestyle='--' if name in BASELINES else '-', label=NAMES.get(name, name))
      axes.fill_between(turns, [i['low'] for _, i in points], [i['high'] for _, i in points],
                        color=color, alpha=0.08, linewidth=0)
    axes.set(xlabel='turn', ylabel='exact match', ylim=(0, 1.02), title=f'{domain}, by turn')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=7, ncols=2)
    return png(figure)


def curve(points: Sequence[tuple[float, float]], title: str, ylabel: str) -> bytes:
  """(step, value) over training; many points get a running mean."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(3.4, 2.5), layout='constrained')
    axes = figure.subplots()
    steps, values = np.array(points, float).reshape(-1, 2).T
    many = len(values) > 20
    axes.plot(steps, values, color=_MODEL, alpha=0.3 if many else 1, linewidth=1)
    if many:
      axes.plot(steps, _running_mean(values, len(values) // 20), color=_MODEL)
    axes.set(xlabel='step', ylabel=ylabel, title=title)
    return png(figure)


def agent_success(agent: Mapping[str, Any]) -> bytes:
  """Success in the real world before and after, in imagination, and W2R, with intervals."""
  with matplotlib.rc_context(STYLE):
    figure = Figure(figsize=(4.4, 3.0), layout='constrained')
    _agent_panel(figure.subplots(), agent)
    return png(figure)


def overview(results: Mapping[str, Any]) -> bytes:
  """The one figure of a run: fidelity in each domain, and the agent."""
  with matplotlib.rc_context(STYLE):
    world_model = results['world_model']
    figure = Figure(figsize=(4.0 * len(world_model) + 3.4, 3.2), layout='constrained')
    panels = figure.subplots(1, len(world_model) + 1, squeeze=False,
                             width_ratios=[4.0] * len(world_model) + [3.2])[0]
    for axes, (domain, entries) in zip(panels, world_model.items(), strict=False):
      _fidelity_panel(axes, domain, entries)
    _agent_panel(panels[-1], results['agent'])
    return png(figure)


def _fidelity_panel(axes, domain: str, entries: Mapping[str, Any]) -> None:
  names = list(entries)
  places = np.arange(len(names))
  colors = [_BASELINE if name in BASELINES else _MODEL for name in names]
  _bars(axes, places - 0.2, [entries[n]['exact_match'] for n in names], colors, 0.38, alpha=0.4)
  _bars(axes, places + 0.2, [entries[n]['changed_state_exact_match'] for n in names], colors, 0.38)
  axes.set_xticks(places, [NAMES.get(name, name) for name in names], fontsize=8)
  axes.set(ylim=(0, 1.02), ylabel='exact match', title=domain)
  axes.legend(
      handles=[Patch(color=_MODEL, alpha=0.4, label='all turns'),
               Patch(color=_MODEL, label='changed-state turns')],
      loc='lower right', bbox_to_anchor=(1, 0.98), ncols=2, fontsize=8, handlelength=1.2,
      borderaxespad=0)
  axes.tick_params(axis='x', length=0)


def _agent_panel(axes, agent: Mapping[str, Any]) -> None:
  names = ('real_success_before', 'real_success_after', 'imagined_success', 'w2r')
  colors = [_BASELINE, _MODEL, _ACCENT, _ACCENT]
  _bars(axes, np.arange(4), [agent[name] for name in names], colors, 0.6)
  axes.set_xticks(range(4), [NAMES[name] for name in names], fontsize=8)
  axes.set(ylim=(0, 1.02), ylabel='success', title='agent on held-out tasks')
  axes.tick_params(axis='x', length=0)


def _bars(axes, places, intervals, colors, width: float, alpha: float = 1.0) -> None:
  for place, interval, color in zip(places, intervals, colors, strict=True):
    mean, low, high = (interval[key] for key in ('mean', 'low', 'high'))
    if mean is None:
      axes.text(place, 0.01, '–', ha='center', color='#8a95a1')
      continue
    axes.bar(place, mean, width, color=color, alpha=alpha)
    if low is not None and high is not None:
      axes.errorbar(place, mean, [[max(0, mean - low)], [max(0, high - mean)]], color='#39424e',
                    linewidth=1, capsize=2)


def _cycle(count: int) -> list[str]:
  return [_LINES[index % len(_LINES)] for index in range(count)]


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
  """Mean of the last `width` values, of fewer at the beginning."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - max(1, width))
  return (sums[ends] - sums[starts]) / (ends - starts)


def width(png: bytes) -> int:
  """The width of a figure on a page, in CSS pixels."""
  return round(int.from_bytes(png[16:20]) / _DPI * 100)


def png(figure: Figure) -> bytes:
  """A figure as PNG bytes."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=_DPI)
  return buffer.getvalue()
