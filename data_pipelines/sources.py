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

_MIN_TURNS = 2  # PAPER.md section 2


class SourceError(ValueError):
  """The collected trajectories cannot be used; the message says which file, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Scan:
  """What lies in some folders of trajectories.

  Attributes:
    shards: paths, sorted.
    fingerprint: names the content of all shards, wherever they lie.
    sources: SHA-256 of a shard's content -> '{folder}/{shard}'.
    kept: split -> domain -> number of trajectories.
    dropped: reason -> number of trajectories.
  """

  shards: tuple[str, ...]
  fingerprint: str
  sources: dict[str, str]
  kept: dict[str, dict[str, int]]
  dropped: dict[str, int]


def find_shards(folders: Sequence[str | os.PathLike]) -> tuple[str, ...]:
  """The shards below `folders`, sorted. Raises SourceError where a folder has none."""
  found: set[str] = set()
  for folder in folders:
    root = glob.escape(os.path.abspath(folder))
    shards = glob.glob(f'{root}/shard-*.jsonl') + glob.glob(f'{root}/*/shard-*.jsonl')
    if not shards:
      raise SourceError(
          f'{folder}: no shard-*.jsonl here or one level below; collect some with '
          f'python -m experiments.collect --domain=terminal --out={folder}')
    found.update(shards)
  return tuple(sorted(found))


def in_turn(shards: Iterable[str]) -> list[str]:
  """The shards of all folders in turn: the first few are of every domain."""
  folders: dict[str, list[str]] = {}
  for shard in shards:
    folders.setdefault(os.path.dirname(shard), []).append(shard)
  rounds = itertools.zip_longest(*folders.values())
  return [shard for one in rounds for shard in one if shard is not None]


def _drop_reason(trajectory: Trajectory) -> str:
  if trajectory.error:
    return 'episode broke'
  if len(trajectory.turns) < _MIN_TURNS:
    return f'fewer than {_MIN_TURNS} turns'
  return ''


def key_of(trajectory: Trajectory) -> str:
  """Names a trajectory by what makes it unique: task, policy and what happened."""
  turns = [(turn.action, turn.observation) for turn in trajectory.turns]
  digest = hashlib.sha256(json.dumps([turns, trajectory.submission]).encode()).hexdigest()[:16]
  return f'{trajectory.task.id}/{trajectory.policy}/{digest}'


def read_kept(
    shards: Iterable[str], dropped: collections.Counter | None = None
) -> Iterator[tuple[str, Trajectory]]:
  """Yields (key, trajectory) of every trajectory that may be used, no key twice.

  Args:
    shards: JSONL files; a folder holds one domain.
    dropped: counts what is left out, by reason.
  Raises:
    SourceError: on a trajectory of a test task, naming file, line and task.
    TrajectoryError: on a record that breaks the schema, naming file, line and field.
  """
  dropped = collections.Counter() if dropped is None else dropped
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
      key = key_of(trajectory)
      reason = _drop_reason(trajectory) or ('duplicate' if key in seen else '')
      if reason:
        dropped[reason] += 1
        continue
      seen.add(key)
      yield key, trajectory


def scan(folders: Sequence[str | os.PathLike], progress: bool = False) -> Scan:
  """Reads and validates everything once. Raises SourceError, TrajectoryError (see `read_kept`)."""
  shards = find_shards(folders)
  sources = {}
  for shard in shards:
    with open(shard, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    sources[digest] = '/'.join(shard.split(os.sep)[-2:])
  dropped: collections.Counter = collections.Counter()
  kept: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  bar = tqdm.tqdm(shards, desc='check trajectories', unit=' shards', disable=not progress)
  for _, trajectory in read_kept(bar, dropped):
    kept[trajectory.task.split][trajectory.task.domain] += 1
  fingerprint = hashlib.sha256(' '.join(sorted(sources)).encode()).hexdigest()[:16]
  return Scan(shards, fingerprint, sources, {s: dict(c) for s, c in kept.items()}, dict(dropped))
