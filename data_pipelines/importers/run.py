"""Public traces to folders of trajectories, through the cleaning of PAPER.md section 2.

    files -> reader of a format -> filters, quality score -> {out}/{split}/{domain}/shard-*.jsonl

Nothing goes uncounted: `report.json` has every record, episode and turn, kept or not, with the
reason. It is written last, so that a folder without one is not whole; `request.json` says what the
folder is for, and nothing else is mixed in.
"""

import collections
import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tqdm

from aw_jax.trajectories import Trajectory, read_jsonl, write_atomically, write_jsonl
from data_pipelines import filters, sources
from data_pipelines.importers import agentworldbench, asciicast, openai_chat, swe_agent
from data_pipelines.importers.common import Ledger, Settings, TraceError

LOW_QUALITY = 'low quality'
REPORT, REQUEST = 'report.json', 'request.json'
EPISODES_PER_SHARD = 500


@dataclasses.dataclass(frozen=True)
class Format:
  """A format that can be imported.

  Attributes:
    read: yields a file's episodes, uncleaned.
    suffixes: of the files that count in a folder.
    split: of all its tasks; None where each task has its own (`common.split_of`).
  """

  read: Callable[[str, Settings, Ledger], Iterator[Trajectory]]
  suffixes: tuple[str, ...]
  split: str | None = None


FORMATS = {
    'openai_chat': Format(openai_chat.read, openai_chat.SUFFIXES),
    'swe_agent': Format(swe_agent.read, swe_agent.SUFFIXES),
    'agentworldbench': Format(agentworldbench.read, agentworldbench.SUFFIXES, 'test'),
    'asciicast': Format(asciicast.read, asciicast.SUFFIXES)}


@dataclasses.dataclass(frozen=True)
class Cleaning:
  """How episodes are cleaned.

  Attributes:
    skip_retries: whether failures that were tried again at once are skipped (filters.py).
    min_quality: the lowest score (`quality`) of an episode that is kept.
  """

  skip_retries: bool = True
  min_quality: float = 0.4


def quality(trajectory: Trajectory) -> float:
  """How much an episode's turns can teach, from 0 to 1; 0 without turns.

  The mean of three shares of its turns: those that were answered with anything, those that did not
  fail, and those that are not there twice.
  """
  turns = trajectory.turns
  if not turns:
    return 0.0
  answered = sum(bool(turn.observation.strip()) for turn in turns)
  sound = sum(not filters.is_failure(turn.observation) for turn in turns)
  distinct = len({(turn.action, turn.observation) for turn in turns})
  return (answered + sound + distinct) / (3 * len(turns))


def clean(trajectory: Trajectory, cleaning: Cleaning
          ) -> tuple[Trajectory | None, str, collections.Counter]:
  """What is fit to learn from, with its quality in `source`.

  Returns:
    (episode, '', its skipped turns by reason), or (None, why it is left out, nothing).
  """
  counts = filters.Counts()
  cleaned = filters.clean(trajectory, counts, cleaning.skip_retries)
  if cleaned is None:
    reason, = counts.trajectories
    return None, reason, collections.Counter()
  score = quality(cleaned)
  if score < cleaning.min_quality:
    return None, LOW_QUALITY, collections.Counter()
  source = cleaned.source | {'quality': round(score, 4)}
  return dataclasses.replace(cleaned, source=source), '', counts.turns


def import_traces(
    name: str, inputs: Sequence[str], out: str, *, settings: Settings | None = None,
    cleaning: Cleaning | None = None, split: str | None = None, licence: str = 'unknown',
    progress: bool = True) -> dict[str, Any]:
  """Imports files of one format into an empty folder.

  Args:
    name: of FORMATS.
    inputs: files, and folders whose files of the format are all taken.
    out: where the trajectories go; started again on it after a kill, the import begins anew, and
      where it is whole nothing is done.
    settings: what the files do not say.
    cleaning: how episodes are cleaned.
    split: of all tasks, in place of the format's own rule.
    licence: of the traces; it is noted in the report and with every episode.
    progress: whether to show a progress bar.
  Returns:
    The report.
  Raises:
    TraceError: where a file is no file of the format, or the folder holds something else.
  """
  settings, cleaning = settings or Settings(), cleaning or Cleaning()
  files = find_files(name, inputs)
  request = {
      'format': name, 'files': [_fingerprint(file) for file in files], 'licence': licence,
      'split': split or FORMATS[name].split or 'by task',
      'settings': dataclasses.asdict(settings), 'cleaning': dataclasses.asdict(cleaning)}
  found = _claim(out, request)
  if found is not None:
    return found
  ledger = Ledger()
  writer = _Writer(out)
  read = collections.Counter()
  for trajectory in _read_all(name, files, settings, ledger, progress):
    read.update(episodes=1, turns=len(trajectory.turns))
    fixed = split or FORMATS[name].split
    if fixed:
      trajectory = dataclasses.replace(
          trajectory, task=dataclasses.replace(trajectory.task, split=fixed))
    trajectory = dataclasses.replace(trajectory, source=trajectory.source | {'licence': licence})
    cleaned, reason, skipped = clean(trajectory, cleaning)
    if cleaned is not None and not writer.add(cleaned):
      reason = filters.DUPLICATE
    if reason:
      ledger.episodes_left_out[reason] += 1
      ledger.turns_left_out[reason] += len(trajectory.turns)
    else:
      ledger.turns_skipped += skipped
  writer.flush()
  report = {**request, **_report(ledger, read, writer)}
  with writing(out):
    write_atomically(os.path.join(out, REPORT), json.dumps(report, indent=2) + '\n')
  return report


@contextlib.contextmanager
def writing(out: str) -> Iterator[None]:
  """Around what writes to the folder of an import.

  Raises:
    TraceError: where it cannot be written, for a full disk or a missing permission.
  """
  try:
    yield
  except OSError as error:
    raise TraceError(
        f'cannot write to {out}: {error.strerror}; mend that and run the same command again, or '
        'choose another folder') from error


def read_kept(out: str) -> Iterator[Trajectory]:
  """Yields the trajectories of all splits that an import left in its folder."""
  for shard in _shards(out):
    yield from read_jsonl(shard)


def _shards(out: str) -> list[str]:
  return sorted(glob.glob(f'{glob.escape(out)}/*/*/shard-*.jsonl'))


def find_files(name: str, inputs: Sequence[str]) -> list[str]:
  """The files that `inputs` name, those of folders sorted. Raises TraceError where one has none."""
  if name not in FORMATS:
    raise TraceError(f'unknown format {name!r}; known are {", ".join(FORMATS)}')
  found: list[str] = []
  for place in inputs:
    if os.path.isdir(place):
      inside = sorted(
          path for path in glob.glob(f'{glob.escape(place)}/**', recursive=True)
          if path.endswith(FORMATS[name].suffixes) and os.path.isfile(path))
      if not inside:
        suffixes = ' or '.join(FORMATS[name].suffixes)
        raise TraceError(f'{place}: no file that ends in {suffixes} here or below')
      found += inside
    elif os.path.isfile(place):
      found.append(place)
    else:
      raise TraceError(f'{place}: no such file or folder; name what --input should read')
  return list(dict.fromkeys(found))


def _fingerprint(path: str) -> dict[str, Any]:
  try:
    with open(path, 'rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise TraceError(f'{path}: {error.strerror}; name a file that can be read') from error
  name = os.path.basename(path).encode('utf-8', 'replace').decode()
  return {'name': name, 'sha256': digest, 'bytes': os.path.getsize(path)}


def _claim(out: str, request: dict[str, Any]) -> dict[str, Any] | None:
  """Makes the folder this import's own; returns its report where it is whole already."""
  report, claim = os.path.join(out, REPORT), os.path.join(out, REQUEST)
  text = json.dumps(request, indent=2) + '\n'
  try:
    if os.path.exists(claim):
      with open(claim, encoding='utf-8') as file:
        if file.read() != text:
          raise TraceError(f'{out} holds another import (see {claim}); name another --out')
      if os.path.exists(report):
        with open(report, encoding='utf-8') as file:
          return json.load(file)
      for shard in _shards(out):
        os.unlink(shard)  # of an import that was killed
    elif os.path.isdir(out) and os.listdir(out):
      raise TraceError(f'{out} is not empty and no import made it; name another --out')
    write_atomically(claim, text)
  except OSError as error:
    raise TraceError(f'{out}: {error.strerror}; name another --out') from error
  return None


def _read_all(name: str, files: Sequence[str], settings: Settings, ledger: Ledger, progress: bool
              ) -> Iterator[Trajectory]:
  """The episodes of all files, under a bar of bytes."""
  total = sum(map(os.path.getsize, files))
  with tqdm.tqdm(total=total, desc=f'import {name}', unit='B', unit_scale=True,
                 disable=not progress) as bar:
    episodes = 0
    for file in files:
      for trajectory in FORMATS[name].read(file, settings, ledger):
        episodes += 1
        bar.set_postfix_str(f'{episodes} episodes', refresh=False)
        yield trajectory
      bar.update(os.path.getsize(file))


class _Writer:
  """Shards of the trajectories that are kept, a folder for each split and domain."""

  def __init__(self, out: str):
    self._out = out
    self._waiting: dict[tuple[str, str], list[Trajectory]] = collections.defaultdict(list)
    self._shards: collections.Counter = collections.Counter()
    self._seen: set[str] = set()
    self.episodes: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    self.turns = 0
    self.tools: collections.Counter = collections.Counter()
    self.rewards: collections.Counter = collections.Counter()
    self.qualities: list[float] = []

  def add(self, trajectory: Trajectory) -> bool:
    """Takes in a trajectory; False where it is there already."""
    key = sources.key_of(trajectory)
    if key in self._seen:
      return False
    self._seen.add(key)
    task = trajectory.task
    place = (task.split, task.domain)
    self._waiting[place].append(trajectory)
    if len(self._waiting[place]) == EPISODES_PER_SHARD:
      self._write(place)
    self.episodes[task.split][task.domain] += 1
    self.turns += len(trajectory.turns)
    self.tools.update(tools_of(trajectory))
    if trajectory.reward is not None:
      self.rewards[str(trajectory.reward)] += 1
    self.qualities.append(trajectory.source['quality'])
    return True

  def flush(self) -> None:
    """Writes what waits."""
    for place in sorted(self._waiting):
      if self._waiting[place]:
        self._write(place)

  def _write(self, place: tuple[str, str]) -> None:
    name = f'shard-{self._shards[place]:05d}.jsonl'
    with writing(self._out):
      write_jsonl(os.path.join(self._out, *place, name), self._waiting[place])
    self._shards[place] += 1
    self._waiting[place] = []


def tools_of(trajectory: Trajectory) -> list[str]:
  """The tools that an MCP or SWE episode calls, once for each call."""
  if trajectory.task.domain not in filters.TOOL_DOMAINS:
    return []
  named = (filters.tool_of(turn.action, trajectory.task.domain) for turn in trajectory.turns)
  return [name for name in named if name]


def _report(ledger: Ledger, read: collections.Counter, writer: _Writer) -> dict[str, Any]:
  scores = writer.qualities
  return {
      'records': ledger.records, 'episodes_read': read['episodes'], 'turns_read': read['turns'],
      'set_apart': _sorted(+ledger.apart), 'observations_denoised': ledger.denoised,
      'episodes_left_out': _sorted(ledger.episodes_left_out),
      'turns_left_out_with_them': _sorted(+ledger.turns_left_out),
      'turns_skipped': _sorted(+ledger.turns_skipped),
      'episodes_kept': len(scores), 'turns_kept': writer.turns,
      'episodes_by_split': {split: _sorted(counts)
                            for split, counts in sorted(writer.episodes.items())},
      'tool_calls': _sorted(writer.tools), 'rewards': _sorted(writer.rewards),
      'quality': {'lowest': min(scores), 'median': round(statistics.median(scores), 4),
                  'highest': max(scores)} if scores else {}}


def _sorted(counts: collections.Counter) -> dict[str, int]:
  return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
