"""Measured figures as a table and as a JSON record that says where they come from."""

import datetime
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from aw_jax import trajectories
from aw_jax.evaluation import results
from experiments.benchmarks.timing import Measured

OURS, THEIRS = 'aw_jax', 'transformers'
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'numpy', 'torch', 'transformers')


def ratios(measured: Sequence[Measured]) -> dict[str, float]:
  """Our medians over those of transformers, for every pair of systems of a row, of rates."""
  rates = [m for m in measured if m.unit.endswith('/s')]
  return {
    f'{ours.row}: {ours.system} / {theirs.system}': ours.median / theirs.median
    for ours in rates if ours.system.startswith(OURS)
    for theirs in rates if theirs.row == ours.row and theirs.system.startswith(THEIRS)}


def table(measured: Sequence[Measured]) -> str:
  """The figures as aligned text."""
  lines = [f'{"row":16s} {"system":32s} {"median":>10s} {"low":>10s} {"high":>10s}  unit']
  for m in measured:
    figures = m.to_dict()
    lines.append(f'{m.row:16s} {m.system:32s} {figures["median"]:10.1f} {figures["low"]:10.1f} '
                 f'{figures["high"]:10.1f}  {m.unit}')
  lines += [f'{value:6.2f} x  {name}' for name, value in ratios(measured).items()]
  return '\n'.join(lines)


def versions(*names: str) -> dict[str, str]:
  """Versions of installed distributions; what is missing is left out."""
  found = {}
  for name in names:
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found


def has_transformers() -> bool:
  """Whether there is something to compare with."""
  return len(versions('torch', 'transformers')) == 2


NO_TRANSFORMERS = "torch or transformers is missing, no comparison: pip install -e '.[parity]'"


def write(
    path: str | os.PathLike, command: str, config: Mapping[str, Any],
    hardware: Mapping[str, Any], measured: Sequence[Measured], skipped: Mapping[str, str],
    **more: Any) -> None:
  """Writes the record of this run of a command.

  Args:
    path: of the JSON file.
    command: the module that runs.
    config: the value of every flag.
    hardware: as of `results.hardware`.
    measured: the figures.
    skipped: what was not measured -> why.
    more: further figures, by name.
  """
  figures = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': shlex.join(['python', '-m', command, *sys.argv[1:]]),
    'commit': results.commit(), 'hardware': hardware,
    'versions': versions(*PACKAGES),
    'config': config, 'rows': [m.to_dict() for m in measured], 'ratios': ratios(measured),
    'skipped': skipped, **more}
  trajectories.write_atomically(path, json.dumps(figures, indent=2) + '\n')


class ReportError(ValueError):
  """A record cannot be continued; the message names its file."""


def read(path: str | os.PathLike, config: Mapping[str, Any], devices: Sequence[str]
         ) -> tuple[list[Measured], dict[str, Any]]:
  """What a record holds so far that is to be continued; nothing where there is none.

  Args:
    path: of the JSON file.
    config: flags of this run.
    devices: that this run has.
  Returns:
    The figures, and the whole record ({} where there is none).
  Raises:
    ReportError: where the record is of other flags, devices, code or versions, or is no record.
  """
  if not os.path.exists(path):
    return [], {}
  try:
    with open(path) as file:
      record = json.load(file)
    rows = [Measured(row['row'], row['system'], row['unit'], tuple(row['samples']))
            for row in record['rows']]
    found = {'devices': (record['hardware']['devices'], list(devices)),
             'commit': (record['commit'], results.commit()),
             'versions': (record['versions'], versions(*PACKAGES)),
             **{f'--{name}': (record['config'].get(name), value) for name, value in config.items()}}
  except (ValueError, KeyError, TypeError) as error:
    raise ReportError(f'{path}: not a record of this command ({error}); choose another --out'
                      ) from None
  for name, (before, now) in found.items():
    if before != now:
      raise ReportError(
        f'{path}: was measured with {name} {before}, now it is {now}; choose another --out')
  return rows, record


def show(path: str | os.PathLike, measured: Sequence[Measured], skipped: Mapping[str, str]) -> None:
  """Prints what `write` wrote to `path`."""
  print(table(measured))
  for what, reason in skipped.items():
    print(f'skipped {what}: {reason}')
  print(f'written to {path}')
