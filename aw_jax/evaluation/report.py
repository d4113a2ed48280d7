"""The report of a run: `report.html`, one file that needs nothing else, and `figure.png`.

It shows what results.json holds, whichever way the figures point, and what explains them: curves of
training, fidelity by turn, and transcripts of imagined and real episodes side by side.
"""

import base64
import dataclasses
import difflib
import html
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from aw_jax.evaluation import plots
from aw_jax.evaluation.results import AGENT_MEASURES, BASELINES, WORLD_MODEL_METRICS, validate
from aw_jax.training.runner import read_metrics
from aw_jax.trajectories import write_atomically

_RATES = ('exact_match', 'with_output_exact_match', 'changed_state_exact_match')
_HEADS = {
    'exact_match': 'exact match', 'with_output_exact_match': 'with output',
    'changed_state_exact_match': 'changed state', 'nll': 'NLL', 'format': 'format',
    'factuality': 'fact.', 'consistency': 'cons.', 'realism': 'real.', 'quality': 'qual.'}
_COMPARED = ('exact_match', 'changed_state_exact_match')
_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; color: #1f2933;
  background: #fff; max-width: 62rem; margin: 0 auto; padding: 1.2rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .6rem 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid #e1e6eb;
  padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p.lead { font-size: 1.06rem; color: #39424e; }
p.note, figcaption { font-size: .88rem; color: #5a6672; }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1.5px solid #8a95a1; font-weight: 600; }
tbody tr { border-bottom: 1px solid #edf0f3; }
tr.baseline td { color: #66717d; }
td small { color: #7b8794; display: block; line-height: 1.2; }
.turn { border: 1px solid #e1e6eb; border-radius: 6px; margin: .5rem 0; overflow: hidden; }
.turn > code { display: block; background: #f3f5f7; padding: .3rem .6rem; font-size: .82rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; }
.pair > div { padding: .3rem .6rem; min-width: 0; }
.pair > div + div { border-left: 1px solid #e1e6eb; }
.pair b { font-size: .72rem; color: #7b8794; font-weight: 600; text-transform: uppercase;
  letter-spacing: .04em; }
pre { margin: .1rem 0; font-size: .8rem; line-height: 1.45; white-space: pre-wrap;
  overflow-wrap: anywhere; }
pre span { display: block; min-height: 1.45em; }
pre .differs { background: #fde7d3; }
pre.config { background: #f3f5f7; padding: .7rem; border-radius: 6px; }
@media (max-width: 34rem) { body { font-size: 15px; } .pair { grid-template-columns: 1fr; }
  .pair > div + div { border-left: 0; border-top: 1px dashed #e1e6eb; } }
"""


@dataclasses.dataclass(frozen=True)
class Transcript:
  """One episode in two worlds.

  Attributes:
    title: of what.
    turns: (action, imagined observation, real observation); None where a world was not asked.
    note: a sentence below the title, such as how the episode ended in each world.
  """

  title: str
  turns: Sequence[tuple[str, str | None, str | None]]
  note: str = ''


@dataclasses.dataclass(frozen=True)
class Extras:
  """What a report shows beyond results.json; every part may be left out.

  Attributes:
    title: heading of the page.
    metrics: stage -> folder of its metrics.jsonl (`step`, `loss`, for RL stages `reward`).
    transcripts: episodes to show.
  """

  title: str = 'A world model and an agent trained inside it'
  metrics: Mapping[str, str] = dataclasses.field(default_factory=dict)
  transcripts: Sequence[Transcript] = ()


def write_report(
    results: Mapping[str, Any], extras: Extras | None, out_dir: str | os.PathLike) -> None:
  """Writes `report.html` and `figure.png` into `out_dir`.

  Raises:
    ResultsError: where `results` do not follow the schema.
  """
  validate(results)
  out = pathlib.Path(out_dir)
  write_atomically(out / 'figure.png', plots.overview(results))
  write_atomically(out / 'report.html', render(results, extras or Extras()))


def render(results: Mapping[str, Any], extras: Extras) -> str:
  """The page as HTML; all text that came from anywhere else is escaped."""
  parts = [
      f'<h1>{_escape(extras.title)}</h1>', f'<p class="lead">{_escape(summary(results))}</p>',
      '<h2>World model</h2>', *_world_model(results['world_model']),
      *_comparisons(results.get('comparisons', {}))]
  parts += _subsets(results.get('subsets', {}))
  parts += ['<h2>Agent</h2>', *_agent(results['agent'])]
  parts += _training(extras.metrics)
  if extras.transcripts:
    parts += ['<h2>Imagined and real</h2>',
              '<p class="note">The same actions in the world model and in the real environment. '
              'Lines that differ are marked.</p>']
    parts += [_transcript(transcript) for transcript in extras.transcripts]
  parts += _run(results)
  return (
      '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
      f'<title>{_escape(extras.title)}</title><style>{_STYLE}</style></head>\n<body>\n'
      + '\n'.join(parts) + '\n</body></html>\n')


def summary(results: Mapping[str, Any]) -> str:
  """The run in two sentences."""
  worlds = []
  for domain, entries in results['world_model'].items():
    measured = [(entries[name]['changed_state_exact_match']['mean'], name) for name in BASELINES]
    best = max(((value, name) for value, name in measured if value is not None), default=None)
    own = _percent(entries['rl']['changed_state_exact_match']['mean'])
    against = 'no baseline' if best is None else (
        f'{_percent(best[0])} for the best baseline ({plots.NAMES[best[1]]})')
    worlds.append(f'{own} in {domain} (against {against})')
  agent = {name: _percent(results['agent'][name]['mean']) for name in AGENT_MEASURES}
  return (
      'On held-out tasks the world model after RL is exactly right on changed-state turns in '
      f'{", ".join(worlds)}. Trained in it, the agent solves {agent["real_success_after"]} of '
      f'held-out tasks in the real world; before, it solved {agent["real_success_before"]}. '
      f'In imagination it solves {agent["imagined_success"]}. The run took '
      f'{_duration(results["seconds"]["total"])}.')


def table(results: Mapping[str, Any]) -> str:
  """The results as plain text, at most 100 columns wide."""
  lines = []
  width = max(len(n) for entries in results['world_model'].values() for n in entries) + 2
  for domain, entries in results['world_model'].items():
    lines += ['', f'{domain:<{width}}' + ''.join(
        f'{_HEADS[metric]:>{_width(metric)}}' for metric in WORLD_MODEL_METRICS)]
    for name, entry in entries.items():
      lines.append(f'{name:<{width}}' + ''.join(
          f'{_short(metric, entry[metric]):>{_width(metric)}}' for metric in WORLD_MODEL_METRICS))
  lines += ['', f'{"agent":<24}{"mean":>8}{"95 % interval":>20}{"n":>8}']
  for name in AGENT_MEASURES:
    value = results['agent'][name]
    interval = f'{_decimal(value["low"])} to {_decimal(value["high"])}'
    lines.append(f'{name:<24}{_decimal(value["mean"]):>8}{interval:>20}{value["n"]:>8}')
  lines += ['', 'seconds']
  lines += [f'{name[:31]:<24}{value:>8.0f}' for name, value in results['seconds'].items()]
  return '\n'.join(lines[1:])


def print_table(results: Mapping[str, Any]) -> None:
  """Prints `table`."""
  print(table(results))


def _width(metric: str) -> int:
  return 14 if metric in _RATES else 7


def _short(metric: str, value: Mapping[str, Any]) -> str:
  if value['mean'] is None:
    return '–'
  if metric not in _RATES:
    return f'{value["mean"]:.2f}' if metric == 'nll' else f'{value["mean"]:.1f}'
  half = (value['high'] - value['low']) / 2
  return f'{100 * value["mean"]:.1f} ±{100 * half:.1f} %'


def _world_model(world_model: Mapping[str, Any]) -> list[str]:
  parts = [_figure(
      [plots.fidelity_by_stage(*item) for item in world_model.items()],
      'Share of turns predicted exactly, runtime metadata apart. A changed-state turn is one whose '
      'answer depends on earlier actions. Whiskers are 95 % intervals by trajectory.')]
  for domain, entries in world_model.items():
    heads = ''.join(f'<th>{_HEADS[metric]}</th>' for metric in WORLD_MODEL_METRICS)
    rows = [
        f'<tr{" class=baseline" if name in BASELINES else ""}>'
        f'<td>{_escape(plots.NAMES.get(name, name))}</td>'
        + ''.join(_cell(metric, entry[metric]) for metric in WORLD_MODEL_METRICS) + '</tr>'
        for name, entry in entries.items()]
    parts.append(f'<h3>{_escape(domain)}</h3><div class="scroll"><table><thead><tr><th></th>{heads}'
                 f'</tr></thead><tbody>{"".join(rows)}</tbody></table></div>')
  parts.append('<p class="note">Exact matches in per cent; NLL in nats per token of the '
               'observation; the five dimensions of the reference judge from 0 to 100. Below each '
               'figure its 95 % interval.</p>')
  return parts


def _subsets(subsets: Mapping[str, Any]) -> list[str]:
  """Exact match by turn index, and every measure on turns with output and changed-state turns."""
  if not subsets:
    return []
  by_turn = {
      domain: {name: [found[f'turn_{k}']['exact_match']
                      for k in range(1, 1 + sum(subset.startswith('turn_') for subset in found))]
               for name, found in predictors.items()}
      for domain, predictors in subsets.items()}
  parts = [_figure(
      [plots.fidelity_by_turn(*item) for item in by_turn.items()],
      'Exact match by turn index; bands are 95 % intervals. Dashed: baselines.')]
  metrics = [metric for metric in WORLD_MODEL_METRICS
             if metric in next(iter(next(iter(subsets.values())).values()))['all']]
  heads = ''.join(f'<th>{_HEADS[metric]}</th>' for metric in metrics)
  for domain, predictors in subsets.items():
    for subset, title in (('with_output', 'turns with output'),
                          ('changed_state', 'changed-state turns')):
      rows = [f'<tr{" class=baseline" if name in BASELINES else ""}>'
              f'<td>{_escape(plots.NAMES.get(name, name))}</td>'
              + ''.join(_cell(metric, found[subset][metric]) for metric in metrics) + '</tr>'
              for name, found in predictors.items()]
      parts.append(f'<h3>{_escape(domain)}, {title}</h3><div class="scroll"><table><thead><tr>'
                   f'<th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>')
  return parts


def _comparisons(comparisons: Mapping[str, Any]) -> list[str]:
  rows = [
      f'<tr><td>{_escape(domain)}: {_escape(pair)}</td>'
      + ''.join(_cell(metric, entry[metric]) for metric in _COMPARED) + '</tr>'
      for domain, pairs in comparisons.items() for pair, entry in pairs.items()
      if pair.startswith('rl ')]
  if not rows:
    return []
  heads = ''.join(f'<th>{_HEADS[metric]}</th>' for metric in _COMPARED)
  return [
      '<h3>After RL against each baseline</h3>',
      f'<div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead>'
      f'<tbody>{"".join(rows)}</tbody></table></div>',
      '<p class="note">Differences on the same turns, in percentage points, with their 95 % '
      'intervals: the model is ahead where the whole interval is above zero.</p>']


def _cell(metric: str, value: Mapping[str, Any]) -> str:
  if value['mean'] is None:
    return '<td>–</td>'
  factor, digits = (100, 1) if metric in _RATES else (1, 2 if metric == 'nll' else 1)
  mean, low, high = (
      '–' if value[key] is None else f'{factor * value[key]:.{digits}f}'
      for key in ('mean', 'low', 'high'))
  return f'<td title="n = {value["n"]}">{mean}<small>{low}–{high}</small></td>'


def _agent(agent: Mapping[str, Any]) -> list[str]:
  rows = []
  for name in AGENT_MEASURES:
    value = agent[name]
    rows.append(
        f'<tr><td>{_escape(name.replace("_", " "))}</td><td>{_decimal(value["mean"])}</td>'
        f'<td>{_decimal(value["low"])} to {_decimal(value["high"])}</td><td>{value["n"]}</td></tr>')
  return [
      _figure([plots.agent_success(agent)],
              'Success on the same held-out tasks. W2R: the actions taken in imagination, replayed '
              'in the real world.'),
      '<div class="scroll"><table><thead><tr><th></th><th>mean</th><th>95 % interval</th>'
      f'<th>n</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>',
      '<p class="note">Consistency ratio: W2R over real success. Exploitation gap: imagined minus '
      'real success of the same policy.</p>']


def _training(metrics: Mapping[str, str]) -> list[str]:
  records = {stage: read_metrics(folder) for stage, folder in metrics.items()}
  parts = []
  for key, title, caption in (
      ('loss', 'Loss', 'Loss of every training step, and its running mean.'),
      ('reward', 'Reward', 'Mean reward of every RL step, and its running mean.')):
    series = {
        stage: [(r['step'], r[key]) for r in found if isinstance(r.get(key), (int, float))]
        for stage, found in records.items()}
    series = {stage: points for stage, points in series.items() if points}
    if series:
      parts.append(_figure(
          [plots.curve(points, f'{title}, {plots.NAMES.get(stage, stage)}', key)
           for stage, points in series.items()], caption))
  return ['<h2>Training</h2>', *parts] if parts else []


def _transcript(transcript: Transcript) -> str:
  turns = []
  for action, imagined, real in transcript.turns:
    left, right = _side_by_side(imagined, real)
    turns.append(
        f'<div class="turn"><code>{_escape(action)}</code><div class="pair">'
        f'<div><b>imagined</b>{left}</div><div><b>real</b>{right}</div></div></div>')
  note = f'<p class="note">{_escape(transcript.note)}</p>' if transcript.note else ''
  return f'<h3>{_escape(transcript.title)}</h3>{note}{"".join(turns)}'


def _side_by_side(imagined: str | None, real: str | None) -> tuple[str, str]:
  """Both texts as HTML lines; those without a counterpart on the other side are marked."""
  sides = [None if text is None else text.split('\n') for text in (imagined, real)]
  marked: list[set[int]] = [set(), set()]
  if sides[0] is not None and sides[1] is not None:
    for tag, *ranges in difflib.SequenceMatcher(None, *sides, autojunk=False).get_opcodes():
      if tag != 'equal':
        marked[0].update(range(*ranges[:2]))
        marked[1].update(range(*ranges[2:]))
  return tuple(
      '<pre>–</pre>' if lines is None else '<pre>' + ''.join(
          f'<span{" class=differs" if index in found else ""}>{_escape(line)}</span>'
          for index, line in enumerate(lines)) + '</pre>'
      for lines, found in zip(sides, marked, strict=True))


def _run(results: Mapping[str, Any]) -> list[str]:
  seconds = ''.join(f'<tr><td>{_escape(name)}</td><td>{_duration(value)}</td></tr>'
                    for name, value in results['seconds'].items())
  machine = results['hardware']
  facts = (
      f'Commit {results["commit"]}, seed {results["seed"]}; {machine["cpu"]}, '
      f'{machine["cores"]} cores, {machine["memory_gib"]:g} GiB, devices: '
      f'{", ".join(map(str, machine["devices"]))}.')
  config = json.dumps(results['config'], indent=2, ensure_ascii=False, default=str)
  return [
      '<h2>The run</h2>', f'<p>{_escape(facts)}</p>',
      f'<div class="scroll"><table><tbody>{seconds}</tbody></table></div>',
      f'<h3>Configuration</h3><pre class="config">{_escape(config)}</pre>']


def _figure(pngs: Sequence[bytes], caption: str) -> str:
  images = ''.join(
      f'<img width="{plots.width(png)}" alt="{_escape(caption)}" src="data:image/png;base64,'
      f'{base64.b64encode(png).decode("ascii")}">' for png in pngs)
  return f'<figure>{images}<figcaption>{_escape(caption)}</figcaption></figure>'


def _escape(text: Any) -> str:
  return html.escape(str(text))


def _decimal(value: float | None) -> str:
  return '–' if value is None else f'{value:.3f}'


def _percent(value: float | None) -> str:
  return 'an unknown share' if value is None else f'{100 * value:.0f}\N{NO-BREAK SPACE}%'


def _duration(seconds: float) -> str:
  minutes, rest = divmod(round(seconds), 60)
  return f'{minutes} min {rest:02d} s' if minutes else f'{seconds:.1f} s'
