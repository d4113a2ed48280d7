"""The schema of results.json, and what a run notes of itself.

    seconds      {total, <stage>: seconds}
    world_model  {<domain>: {<stage or baseline>: {<metric>: {mean, low, high, n}}}}
    comparisons  {<domain>: {'<stage> - <baseline>': {<metric>: {mean, low, high, n}}}}, paired
    agent        {<measure>: {mean, low, high, n}}
    config       the run's configuration
    seed         its seed
    commit       of the code, or the package's version
    hardware     {cpu, cores, memory_gib, devices}

Exact matches and rates are fractions, `nll` is nats per token, the five dimensions are on the scale
of the benchmark, 0 to 100. What could not be measured is null, with `n` 0 where there was nothing.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import jax

from aw_jax.evaluation.fidelity import FidelityReport
from aw_jax.evaluation.statistics import NOTHING, Interval
from aw_jax.rewards.rubric import DIMENSIONS
from aw_jax.trajectories import DOMAINS, write_atomically

STAGES = ('cpt', 'sft', 'rl')
BASELINES = ('copy_last', 'nearest_action', 'ngram')
WORLD_MODEL_METRICS = (
    'exact_match', 'with_output_exact_match', 'changed_state_exact_match', 'nll', *DIMENSIONS)
AGENT_MEASURES = (
    'real_success_before', 'real_success_after', 'imagined_success', 'w2r', 'consistency_ratio',
    'exploitation_gap')
KEYS = ('seconds', 'world_model', 'agent', 'config', 'seed', 'commit', 'hardware')
_HARDWARE = {'cpu': str, 'cores': int, 'memory_gib': (int, float), 'devices': list}
_INTERVAL = ('mean', 'low', 'high')


class ResultsError(ValueError):
  """results.json does not follow the schema; the message names the key."""


def world_model_entry(
    report: FidelityReport, domain: str, nll: Interval = NOTHING) -> dict[str, dict[str, Any]]:
  """What `world_model[domain][stage]` holds, from a fidelity report and a likelihood.

  Args:
    report: of the stage's model or the baseline.
    domain: the domain of the entry.
    nll: nats per token of the observations; nothing for predictors without likelihoods.
  """
  figures = {
      'exact_match': report.get('exact_match', domain),
      'with_output_exact_match': report.get('exact_match', domain, 'with_output'),
      'changed_state_exact_match': report.get('exact_match', domain, 'changed_state'),
      'nll': nll}
  figures |= {name: report.get(name, domain) for name in DIMENSIONS}
  return {name: interval.to_json() for name, interval in figures.items()}


def validate(results: Any) -> None:
  """Raises ResultsError naming the first key that is missing or ill-typed."""
  for key in KEYS:
    _member(results, key, 'results')
  seconds = _table(results['seconds'], 'seconds')
  _member(seconds, 'total', 'seconds')
  for stage, value in seconds.items():
    _number(value, f'seconds.{stage}')
  world_model = _table(results['world_model'], 'world_model')
  if not world_model:
    raise ResultsError('world_model: empty; it needs at least one domain')
  for domain, entries in world_model.items():
    _validate_domain(domain, entries)
  for measure in AGENT_MEASURES:
    _interval(_member(results['agent'], measure, 'agent'), f'agent.{measure}')
  _table(results['config'], 'config')
  _typed(results['seed'], int, 'seed')
  if not _typed(results['commit'], str, 'commit'):
    raise ResultsError('commit: empty; it needs a commit or a version')
  for key, kind in _HARDWARE.items():
    _typed(_member(results['hardware'], key, 'hardware'), kind, f'hardware.{key}')


def _validate_domain(domain: str, entries: Any) -> None:
  where = f'world_model.{domain}'
  if domain not in DOMAINS:
    raise ResultsError(f'{where}: no such domain; known are {", ".join(DOMAINS)}')
  for name in (*STAGES, *BASELINES):
    _member(entries, name, where)
  for name, entry in entries.items():
    for metric in WORLD_MODEL_METRICS:
      _interval(_member(entry, metric, f'{where}.{name}'), f'{where}.{name}.{metric}')


def _table(value: Any, where: str) -> dict:
  return _typed(value, dict, where)


def _member(table: Any, key: str, where: str) -> Any:
  if key not in _table(table, where):
    raise ResultsError(f'{where}.{key}: missing')
  return table[key]


def _typed(value: Any, kind: Any, where: str) -> Any:
  if not isinstance(value, kind) or isinstance(value, bool):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = ' or '.join(one.__name__ for one in kinds)
    raise ResultsError(f'{where}: expected {names}, found {type(value).__name__}')
  return value


def _number(value: Any, where: str) -> float:
  number = _typed(value, (int, float), where)
  if not abs(number) < float('inf'):
    raise ResultsError(f'{where}: {number} is not finite')
  return number


def _interval(value: Any, where: str) -> None:
  n = _typed(_member(value, 'n', where), int, f'{where}.n')
  if n < 0:
    raise ResultsError(f'{where}.n: negative')
  ends = [_member(value, key, where) for key in _INTERVAL]
  for key, end in zip(_INTERVAL, ends, strict=True):
    if end is not None:
      _number(end, f'{where}.{key}')
  mean, low, high = ends
  if mean is None and n and not where.endswith('consistency_ratio'):
    raise ResultsError(f'{where}.mean: null with n = {n}')
  if None not in ends and not low - 1e-9 <= mean <= high + 1e-9:
    raise ResultsError(f'{where}: mean {mean} lies outside of its interval [{low}, {high}]')


def write(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
  """Validates results and writes them atomically. Raises ResultsError."""
  validate(results)
  write_atomically(path, json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + '\n')


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Reads and validates results. Raises ResultsError naming the file and the key."""
  try:
    with open(path, encoding='utf-8') as file:
      results = json.load(file)
    validate(results)
  except OSError as error:
    raise ResultsError(f'{path}: {error.strerror}; run experiments.quickstart first') from error
  except json.JSONDecodeError as error:
    raise ResultsError(f'{path}:{error.lineno}: not JSON: {error.msg}') from error
  except ResultsError as error:
    raise ResultsError(f'{path}: {error}') from error
  return results


def hardware() -> dict[str, Any]:
  """The machine without its name: CPU model, usable cores, memory in GiB, JAX devices."""
  return {
      'cpu': _cpu_model(),
      'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity')
               else os.cpu_count() or 1,
      'memory_gib': round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1),
      'devices': [device.device_kind for device in jax.devices()],
  }


def _cpu_model() -> str:
  try:
    text = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8')
  except OSError:
    text = ''
  match = re.search(r'^model name\s*:\s*(.+)$', text, re.MULTILINE)
  return match[1].strip() if match else platform.processor() or platform.machine()


def commit() -> str:
  """The checked-out commit, '-dirty' where tracked files differ; without git the version."""
  root = pathlib.Path(__file__).resolve().parents[2]
  try:
    if not (root / '.git').exists():
      raise FileNotFoundError(root)
    run = subprocess.run(
        ['git', 'describe', '--always', '--abbrev=40', '--dirty', '--exclude=*'], cwd=root,
        capture_output=True, text=True, timeout=20, check=True)
    return run.stdout.strip()
  except (OSError, subprocess.SubprocessError):
    pass
  try:
    return f'version {importlib.metadata.version("aw_jax")}'
  except importlib.metadata.PackageNotFoundError:
    return 'unknown'
