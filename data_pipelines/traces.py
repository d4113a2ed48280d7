"""Written reasoning traces: a teacher runs over collected trajectories, the choice lies in a file.

    {path}           one JSON line a trajectory, in the order of the trajectories
    {path}.json      what made it, retention by domain, tokens and cost
    {path}.partial   while it is being made: a killed run goes on behind its last whole line

`prepare(traces=path)` reads it.
"""

import asyncio
import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tqdm

from aw_jax.prompts import templates
from aw_jax.trajectories import Trajectory, write_atomically
from data_pipelines import examples, pools, sources
from data_pipelines.teachers import Query, Selection, Teacher, TraceJudge, select

Tokens = tuple[int, int]  # of prompts, of completions


class TracesError(ValueError):
  """Traces cannot be written or read; the message says which file, why, and what to do."""


@dataclasses.dataclass(frozen=True)
class Job:
  """What to write traces of, and how.

  Attributes:
    shards: files of trajectories.
    stage: only trajectories of this training stage; all where None.
    limit: the most trajectories; all where None.
    threshold: the lowest score of a trace that is kept.
    made_by: names teacher and judge; a run goes on only where these, stage, limit,
      threshold and skip_retries are the same.
    concurrency: trajectories at a time.
    prices: dollars for a million tokens of prompts and of completions.
    skip_retries: as in `prepare`, which finds traces only of what was left out alike.
  """

  shards: Sequence[str]
  stage: str | None
  limit: int | None
  threshold: float
  made_by: Mapping[str, Any]
  concurrency: int = 8
  prices: tuple[float, float] = (0.0, 0.0)
  skip_retries: bool = False

  def trajectories(self) -> Iterator[tuple[str, Trajectory]]:
    """(key, trajectory) of each that gets traces."""
    count = 0
    for key, trajectory in sources.read_kept(
        sources.in_turn(self.shards), skip_retries=self.skip_retries):
      if self.stage is None or pools.is_in_stage(trajectory, self.stage):
        if self.limit is not None and count >= self.limit:
          return
        count += 1
        yield key, trajectory

  @property
  def settings(self) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return {**self.made_by, 'stage': self.stage, 'limit': self.limit,
            'threshold': self.threshold, 'skip_retries': self.skip_retries}


def queries(trajectory: Trajectory) -> list[Query]:
  """One for each turn that the world model learns."""
  task, turns = trajectory.task, examples.world_model_turns(trajectory)
  system = templates.world_model_prompt(task.domain, task.initial_state)
  pairs = [(turn.action, turn.observation) for turn in turns]
  return [
      Query(task.domain, system, tuple(pairs[:index]), turn.action, turn.observation,
            *examples.states(trajectory, index))
      for index, turn in enumerate(turns)]


async def write(
    job: Job, teacher: Teacher, judge: TraceJudge, path: str | os.PathLike, *,
    tokens: Callable[[], Tokens] = lambda: (0, 0), progress: bool = True) -> dict[str, Any]:
  """Writes the traces of all trajectories, going on where a run before was killed.

  Args:
    job: see there.
    teacher: writes the candidates.
    judge: chooses; independent of the teacher.
    path: of the file.
    tokens: how many were used in this run, so far.
    progress: whether to show a progress line with tokens and cost.
  Returns:
    What `{path}.json` holds: settings, `retention` by domain, `tokens`, `cost` in dollars.
  Raises:
    TracesError: where there is nothing to write, or the file is of another run.
  """
  path = os.fspath(path)
  keys = [key for key, _ in job.trajectories()]
  fingerprint = hashlib.sha256('\n'.join(keys).encode()).hexdigest()
  if os.path.exists(path):
    return _whole(path, job, fingerprint)
  if not keys:
    raise TracesError(
        f'no trajectory of stage {job.stage!r} in {len(job.shards)} shards; collect more episodes, '
        'or ask for another stage')
  partial = _Partial(f'{path}.partial', job)
  with partial, tqdm.tqdm(total=len(keys), initial=len(partial.lines), desc='write traces',
                          unit=' trajectories', disable=not progress) as bar:
    await _explain_all(job, teacher, judge, partial, tokens, bar)
  lines = {line['key']: line for line in partial.lines}
  used = partial.tokens
  summary = {'settings': job.settings, 'trajectories': len(keys), 'keys': fingerprint,
             'retention': retention(lines.values()), 'tokens': used, 'cost': _cost(used, job)}
  write_atomically(f'{path}.json', json.dumps(summary, indent=1) + '\n')
  # Last, since it says that all is done.
  write_atomically(path, ''.join(
      json.dumps({name: value for name, value in lines[key].items() if name != 'tokens'},
                 ensure_ascii=False) + '\n' for key in keys))
  os.unlink(f'{path}.partial')
  return summary


def _whole(path: str, job: Job, fingerprint: str) -> dict[str, Any]:
  try:
    with open(f'{path}.json', encoding='utf-8') as file:
      summary = json.load(file)
  except (OSError, ValueError):
    summary = {}
  if summary.get('settings') != job.settings:
    raise TracesError(f'{path}: is there, made with other settings; write to another file')
  if summary.get('keys') != fingerprint:
    raise TracesError(f'{path}: is there, made of other episodes; write to another file')
  return summary


def _cost(used: Sequence[int], job: Job) -> float:
  return sum(count * price for count, price in zip(used, job.prices, strict=True)) / 1e6


async def _explain_all(job, teacher, judge, partial, tokens, bar) -> None:
  """Workers take one trajectory after the other; each line is on disk before the next begins."""
  done = {line['key'] for line in partial.lines}
  pending = (pair for pair in job.trajectories() if pair[0] not in done)
  counted = [0, 0]

  async def work() -> None:
    for key, trajectory in pending:
      found = await asyncio.gather(
          *(_explain(teacher, judge, query, job.threshold) for query in queries(trajectory)))
      now = tokens()
      # What was used since the line before, by whichever trajectory: the sum is what counts.
      line = _line(key, trajectory, found) | {
          'tokens': [new - old for new, old in zip(now, counted, strict=True)]}
      counted[:] = now
      partial.append(line)
      bar.update()
      used = partial.tokens
      if any(used):
        bar.set_postfix_str(f'{sum(used):,} tokens, ${_cost(used, job):.2f}')

  try:
    async with asyncio.TaskGroup() as group:
      for _ in range(job.concurrency):
        group.create_task(work())
  except ExceptionGroup as errors:
    raise errors.exceptions[0] from None


async def _explain(
    teacher: Teacher, judge: TraceJudge, query: Query, threshold: float) -> Selection:
  return await select(judge, query, await teacher.candidates(query), threshold)


def _line(key: str, trajectory: Trajectory, found: Sequence[Selection]) -> dict[str, Any]:
  return {'key': key, 'domain': trajectory.task.domain,
          'turns': [dataclasses.asdict(selection) for selection in found]}


class _Partial:
  """The lines of an unfinished file; a torn last one is cut off and made again."""

  def __init__(self, path: str, job: Job):
    self._path = path
    header = json.dumps({'settings': job.settings}, sort_keys=True)
    self.lines: list[dict[str, Any]] = []
    self.tokens = [0, 0]  # of prompts and completions, in all runs
    if not os.path.exists(path):
      write_atomically(path, header + '\n')
      return
    with open(path, 'rb') as file:
      whole, _, torn = file.read().rpartition(b'\n')
    first, *rest = whole.decode('utf-8').split('\n')
    if first != header:
      raise TracesError(
          f'{path}: was begun with other settings; run with those, or remove it to begin again')
    for number, line in enumerate(rest, 2):
      try:
        self._add(json.loads(line))
      except (ValueError, KeyError, TypeError) as error:
        raise TracesError(
            f'{path}:{number}: damaged ({type(error).__name__}: {error}); remove this line, then '
            'its trajectory is done again') from error
    if torn:
      os.truncate(path, len(whole) + 1)

  def __enter__(self) -> '_Partial':
    self._file = open(self._path, 'ab')
    return self

  def __exit__(self, *error: Any) -> None:
    self._file.close()

  def append(self, line: dict[str, Any]) -> None:
    """Adds a line that survives a power cut."""
    self._file.write(json.dumps(line, ensure_ascii=False).encode() + b'\n')
    self._file.flush()
    os.fsync(self._file.fileno())
    self._add(line)

  def _add(self, line: dict[str, Any]) -> None:
    self.lines.append(line)
    self.tokens = [sum(both) for both in zip(self.tokens, line['tokens'], strict=True)]


def retention(lines) -> dict[str, dict[str, Any]]:
  """Domain -> `turns`, `kept`, their ratio `retention`, `chosen` (how often each candidate)."""
  found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
  for line in lines:
    for turn in line['turns']:
      found[line['domain']][turn['chosen']] += 1
  return {
      domain: {
          'turns': counts.total(), 'kept': counts.total() - counts[None],
          'retention': 1 - counts[None] / counts.total(),
          'chosen': [counts[i] for i in range(max((k for k in counts if k is not None),
                                                  default=-1) + 1)]}
      for domain, counts in sorted(found.items())}


def read(path: str | os.PathLike) -> dict[str, tuple[str | None, ...]]:
  """Key of a trajectory -> the chosen trace of each turn, None where none was good enough.

  Raises:
    TracesError: where the file is not there or a line is not one that `write` writes.
  """
  if not os.path.exists(path):
    raise TracesError(f'{path}: no such file; write it with python -m experiments.write_traces')
  found = {}
  with open(path, encoding='utf-8') as lines:
    for number, text in enumerate(lines, 1):
      try:
        line = json.loads(text)
        found[line['key']] = tuple(
            None if turn['chosen'] is None else turn['candidates'][turn['chosen']]
            for turn in line['turns'])
      except (ValueError, KeyError, TypeError, IndexError) as error:
        raise TracesError(
            f'{path}:{number}: not a line of traces ({type(error).__name__}: {error}); write the '
            'file again') from error
  return found
