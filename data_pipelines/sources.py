"""Collected trajectories on disk: which shards there are, and which of their episodes are kept.

Layout: `{folder}/shard-*.jsonl` or `{folder}/{name}/shard-*.jsonl`, as `experiments/collect.py`
writes them.
"""

import collections
import dataclasses
import glob
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence

import tqdm

from aw_jax.trajectories import Trajectory, TrajectoryError, read_jsonl
from data_pipelines import filters

COLLECTED = 'collected'  # in place of a licence: where the episodes are no imported traces


class SourceError(ValueError):
  """The collected trajectories cannot be used; the message says which file, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Scan:
  """What lies in some folders of trajectories.

  Attributes:
    shards: paths, sorted.
    fingerprint: names the content of all shards, wherever they lie, and what is left out of it.
    sources: SHA-256 of a shard's content -> '{folder}/{shard}'.
    kept: split -> domain -> number of trajectories.
    dropped: reason -> number of trajectories.
    skipped_turns: reason -> number of turns, of trajectories that are kept.
    licences: domain -> those of its imported traces, and COLLECTED where episodes were collected.
    skip_retries: whether failures that were tried again at once are skipped (filters.py).
  """

  shards: tuple[str, ...]
  fingerprint: str
  sources: dict[str, str]
  kept: dict[str, dict[str, int]]
  dropped: dict[str, int]
  skipped_turns: dict[str, int]
  licences: dict[str, list[str]]
  skip_retries: bool = False


def find_shards(folders: Sequence[str | os.PathLike]) -> tuple[str, ...]:
  """The shards below `folders`, sorted. Raises SourceError where a folder has none."""
  found: set[str] = set()
  for folder in folders:
    root = glob.escape(os.path.abspath(folder))
    shards = glob.glob(f'{root}/shard-*.jsonl') + glob.glob(f'{root}/*/shard-*.jsonl')
    if not shards:
      remedy = f'collect some with python -m experiments.collect --domain=terminal --out={folder}'
      if glob.glob(f'{root}/*/*/shard-*.jsonl'):  # as experiments/import_traces.py writes them
        remedy = f'name the folder of a split, as in {folder}/train'
      raise SourceError(f'{folder}: no shard-*.jsonl here or one level below; {remedy}')
    found.update(shards)
  return tuple(sorted(found))


def in_turn(shards: Iterable[str]) -> list[str]:
  """The shards of all folders in turn: the first few are of every domain."""
  folders: dict[str, list[str]] = {}
  for shard in shards:
    folders.setdefault(os.path.dirname(shard), []).append(shard)
  rounds = itertools.zip_longest(*folders.values())
  return [shard for one in rounds for shard in one if shard is not None]


def key_of(trajectory: Trajectory) -> str:
  """Names a trajectory by what makes it unique: task, policy and what happened."""
  turns = [(turn.action, turn.observation) for turn in trajectory.turns]
  digest = hashlib.sha256(json.dumps([turns, trajectory.submission]).encode()).hexdigest()[:16]
  return f'{trajectory.task.id}/{trajectory.policy}/{digest}'


def read_kept(
    shards: Iterable[str], counts: filters.Counts | None = None, skip_retries: bool = False
) -> Iterator[tuple[str, Trajectory]]:
  """Yields (key, trajectory) of every trajectory that may be used, no key twice.

  Args:
    shards: JSONL files; a folder holds one domain.
    counts: takes in what is left out.
    skip_retries: see `filters.without_idle_turns`.
  Raises:
    SourceError: on a trajectory of a test task, naming file, line and task.
    TrajectoryError: on a record that breaks the schema, naming file, line and field.
  """
  counts = filters.Counts() if counts is None else counts
  seen: set[str] = set()
  for shard in shards:
    domain = None
    for number, trajectory in enumerate(read_jsonl(shard), 1):
      domain = domain or trajectory.task.domain
      if trajectory.task.split == 'test':
        raise SourceError(
            f'{shard}:{number}: task {trajectory.task.id} is held out for test and must not be '
            'trained on; collect with --split=train')
      if trajectory.task.domain != domain:
        raise TrajectoryError(
            f'{shard}:{number}.task.domain: {trajectory.task.domain!r} in a file of {domain!r}; '
            'keep one directory a domain')
      skipped = filters.Counts()
      cleaned = filters.clean(trajectory, skipped, skip_retries)
      key = '' if cleaned is None else key_of(cleaned)
      if key in seen:
        skipped = filters.Counts(collections.Counter({filters.DUPLICATE: 1}))
      counts.trajectories += skipped.trajectories
      counts.turns += skipped.turns
      if key and key not in seen:
        seen.add(key)
        yield key, cleaned


def scan(folders: Sequence[str | os.PathLike], progress: bool = False,
         skip_retries: bool = False) -> Scan:
  """Reads and validates everything once. Raises SourceError, TrajectoryError (see `read_kept`)."""
  shards = find_shards(folders)
  sources = {}
  for shard in shards:
    with open(shard, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    sources[digest] = '/'.join(shard.split(os.sep)[-2:])
  counts = filters.Counts()
  kept: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  licences: dict[str, set[str]] = collections.defaultdict(set)
  bar = tqdm.tqdm(shards, desc='check trajectories', unit=' shards', disable=not progress)
  for _, trajectory in read_kept(bar, counts, skip_retries):
    kept[trajectory.task.split][trajectory.task.domain] += 1
    licences[trajectory.task.domain].add(_licence_of(trajectory))
  named = ' '.join([*sorted(sources), *([filters.RETRY] if skip_retries else [])])
  fingerprint = hashlib.sha256(named.encode()).hexdigest()[:16]
  return Scan(
      shards, fingerprint, sources, {s: dict(c) for s, c in kept.items()},
      dict(counts.trajectories), dict(counts.turns),
      {domain: sorted(names) for domain, names in licences.items()}, skip_retries)


def _licence_of(trajectory: Trajectory) -> str:
  return str(trajectory.source.get('licence', 'unknown')) if trajectory.source else COLLECTED
