"""Collects real trajectories: worker processes, whole shards, resumable.

Episode i of a collection is a function of (seed, i) alone, whatever the number of workers and
whatever crashed on the way. A shard appears in one piece or not at all; shards that are there are
kept. A worker that dies is replaced and its shard done again.
"""

import collections
import contextlib
import dataclasses
import json
import math
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import tqdm

from aw_jax import trajectories
from aw_jax.environments import registry
from aw_jax.environments.base import BrokenEnvironmentError, Environment, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import POLICIES, make_policy
from aw_jax.trajectories import Trajectory

DEFAULT_POLICIES = {'expert': 0.2, 'noisy_expert': 0.45, 'explorer': 0.35}
ATTEMPTS = 3  # at one shard, before the collection is given up


class CollectError(RuntimeError):
  """A collection cannot be made as asked; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Collection:
  """What is collected; see `collect`. Written beside the shards, so that nothing else mixes in."""

  domain: str
  episodes: int
  split: str
  policies: dict[str, float]
  seed: int
  episodes_per_shard: int
  pool: str | None
  mark_changed_state: bool

  @property
  def shards(self) -> int:
    """How many files it makes."""
    return -(-self.episodes // self.episodes_per_shard)

  def shard_name(self, shard: int) -> str:
    """The name of a file."""
    return f'shard-{shard:05d}-of-{self.shards:05d}.jsonl'

  def shard_episodes(self, shard: int) -> range:
    """The numbers of a file's episodes."""
    start = shard * self.episodes_per_shard
    return range(start, min(start + self.episodes_per_shard, self.episodes))


# (collection, directory, numbers of the shards to write, bar to update by episodes)
ShardWriter = Callable[[Collection, str, Sequence[int], tqdm.tqdm], None]


def run_numbered_episode(
    environment: Environment, collection: Collection, index: int) -> Trajectory:
  """Episode `index` of a collection."""
  rng = random.Random(f'{collection.seed}/{index}')
  task = registry.task_at(
      collection.domain, collection.split, index, collection.seed, collection.pool)
  names = sorted(collection.policies)
  (name,) = rng.choices(names, [collection.policies[name] for name in names])
  policy = make_policy(name, task, rng.randrange(1 << 30))
  return run_episode(
      environment, task, policy, mark_changed_state=collection.mark_changed_state)


def collect(
    domain: str, episodes: int, out: str | os.PathLike, *, split: str = 'train',
    policies: dict[str, float] | None = None, seed: int = 0, workers: int = 2,
    episodes_per_shard: int = 50, pool: str | None = None, mark_changed_state: bool = True,
    progress: bool = True, write_shards: ShardWriter | None = None) -> dict[str, Any]:
  """Collects trajectories into `out`/shard-*.jsonl, and what is in them into `out`/summary.json.

  Args:
    domain: which domain.
    episodes: how many; tasks go round-robin over the families of the split.
    out: a directory; started again on the same one, whole shards are kept.
    split: 'train', 'validation' or 'test'.
    policies: who acts: name -> weight of the mixture (DEFAULT_POLICIES where None).
    seed: selects tasks and what policies do.
    workers: processes at a time; the content does not depend on it.
    episodes_per_shard: episodes of one file.
    pool: keep to the tasks of one training stage ('cpt', 'sft', 'rl').
    mark_changed_state: mark turns by counterfactual replay.
    progress: show a progress bar.
    write_shards: writes the missing shards, in place of worker processes of this machine.
  Returns:
    The summary.
  Raises:
    CollectError, registry.RegistryError: for what cannot be collected.
    MissingProgramError: where a program of the domain is missing.
  """
  collection = Collection(
      domain, episodes, split, dict(policies or DEFAULT_POLICIES), seed, episodes_per_shard, pool,
      mark_changed_state)
  _validate(collection, workers)
  out = os.fspath(out)
  _claim(collection, out)
  start = time.monotonic()
  pending = [shard for shard in range(collection.shards)
             if not os.path.exists(os.path.join(out, collection.shard_name(shard)))]
  kept = [shard for shard in range(collection.shards) if shard not in set(pending)]
  stats = [_read_statistics(collection, out, shard) for shard in kept]
  reused = sum(len(collection.shard_episodes(shard)) for shard in kept)
  with tqdm.tqdm(total=episodes, initial=reused, unit='episode', desc=f'collect {domain}',
                 disable=not progress) as bar:
    if write_shards is None:
      stats += _Crew(collection, out, bar).run(pending, workers)
    else:
      write_shards(collection, out, pending, bar)
      stats += [_read_statistics(collection, out, shard) for shard in pending]
  seconds = time.monotonic() - start
  new_steps = sum(one['steps'] for one in stats[len(kept):])
  summary = _summarise(collection, stats) | {
      'wall_seconds': round(seconds, 2), 'steps_per_second': round(new_steps / seconds, 1),
      'collected_now': episodes - reused, 'workers': workers}
  with writing(out):
    trajectories.write_atomically(
        os.path.join(out, 'summary.json'), json.dumps(summary, indent=2) + '\n')
  return summary


def table(summary: dict[str, Any]) -> str:
  """A summary as lines of text: success by policy and family."""
  lines = [f'{"policy":14s} {"family":14s} {"episodes":>8s} {"success":>8s} {"errors":>7s}']
  for row in summary['rows']:
    lines.append(f'{row["policy"]:14s} {row["family"]:14s} {row["episodes"]:8d} '
                 f'{row["success_rate"]:8.2f} {row["errors"]:7d}')
  lines.append(
      f'{summary["episodes"]} episodes, {summary["steps"]} steps, '
      f'{summary["changed_state_steps"]} of them changed-state; '
      f'{summary["collected_now"]} episodes now, in {summary["wall_seconds"]} s: '
      f'{summary["steps_per_second"]} steps/s')
  return '\n'.join(lines)


def _validate(collection: Collection, workers: int) -> None:
  if collection.episodes < 1 or collection.episodes_per_shard < 1 or workers < 1:
    raise CollectError('episodes, episodes_per_shard and workers must be at least 1')
  for name, weight in collection.policies.items():
    if name not in POLICIES:
      raise CollectError(f'unknown policy {name!r}; known are {", ".join(POLICIES)}')
    if not 0 <= weight < math.inf:
      raise CollectError(f'policy {name!r} has weight {weight}; weights are finite, not negative')
  if not sum(collection.policies.values()) > 0:
    raise CollectError('the weights of the policies sum to 0; give at least one a positive weight')
  registry.task_at(collection.domain, collection.split, 0, collection.seed, collection.pool)


def _claim(collection: Collection, out: str) -> None:
  """Makes the directory this collection's, or checks that it is; clears what a kill left over."""
  record = json.dumps(dataclasses.asdict(collection), indent=2, sort_keys=True) + '\n'
  path = os.path.join(out, 'collection.json')
  with writing(out):
    os.makedirs(out, exist_ok=True)
  if os.path.exists(path):
    with open(path, encoding='utf-8') as file:
      if file.read() != record:
        raise CollectError(
            f'{out} holds another collection (see {path}); choose another directory or remove it')
  else:
    with writing(out):
      trajectories.write_atomically(path, record)
  _clear(out, '.shard-')


def _clear(out: str, prefix: str) -> None:
  """Removes the temporary files of writers that were killed; none of that prefix may be at work."""
  for name in os.listdir(out):
    if name.startswith(prefix):
      os.unlink(os.path.join(out, name))


@contextlib.contextmanager
def writing(out: str) -> Iterator[None]:
  """Around what writes to the directory `out` of a collection.

  Raises:
    CollectError: where it cannot be written, for a full disk or a missing permission.
  """
  try:
    yield
  except OSError as error:
    raise CollectError(
        f'cannot write to {out}: {error.strerror}; mend that and run the same command again, which '
        'keeps the shards that are whole, or choose another directory') from error


class _Crew:
  """Worker processes and the shards they are at."""

  def __init__(self, collection: Collection, out: str, bar: tqdm.tqdm):
    self._collection, self._out, self._bar = collection, out, bar
    self._context = multiprocessing.get_context('spawn')
    self._at: dict[Any, tuple[Any, int]] = {}  # connection -> (process, shard)
    self._attempts = collections.Counter()
    self._steps = 0
    self._start = time.monotonic()

  def run(self, pending: list[int], workers: int) -> list[dict[str, Any]]:
    """Does the shards; returns their statistics in the order of shards."""
    waiting, done = list(reversed(pending)), {}
    try:
      for _ in range(min(workers, len(waiting))):
        self._hire(waiting.pop())
      while self._at:
        for connection in wait(list(self._at)):
          self._hear(connection, waiting, done)
    finally:
      for process, _ in self._at.values():
        process.terminate()
        process.join()
    return [done[shard] for shard in sorted(done)]

  def _hire(self, shard: int) -> None:
    ours, theirs = self._context.Pipe()
    process = self._context.Process(
        target=_work, args=(theirs, self._collection, self._out), daemon=True)
    process.start()
    theirs.close()
    ours.send(shard)
    self._at[ours] = process, shard

  def _hear(self, connection, waiting: list[int], done: dict[int, dict[str, Any]]) -> None:
    process, shard = self._at[connection]
    try:
      kind, value = connection.recv()
    except (EOFError, OSError):
      self._replace(connection, process, shard)
      return
    if kind == 'broken':
      self._replace(connection, process, shard, value)
      return
    if kind == 'episode':
      self._steps += value
      self._bar.update(1)
      rate = self._steps / (time.monotonic() - self._start)
      self._bar.set_postfix_str(f'{rate:.0f} steps/s', refresh=False)
    elif kind == 'missing':
      raise MissingProgramError(value)
    elif kind == 'refused':
      raise CollectError(value)
    elif kind == 'failed':
      raise CollectError(
          f'{self._collection.shard_name(shard)} failed: {value}; '
          'the shards that are whole are kept, run the same command to go on')
    else:
      done[shard] = value
      if waiting:
        shard = waiting.pop()
        self._at[connection] = process, shard
        connection.send(shard)
      else:
        del self._at[connection]
        connection.close()
        process.join()

  def _replace(self, connection, process, shard: int, reason: str = '') -> None:
    del self._at[connection]
    connection.close()
    process.join()
    _clear(self._out, f'.{self._collection.shard_name(shard)}')
    self._attempts[shard] += 1
    name, reason = self._collection.shard_name(shard), reason or f'exit {process.exitcode}'
    if self._attempts[shard] >= ATTEMPTS:
      raise CollectError(
          f'{name} ended its worker {ATTEMPTS} times, at last: {reason}; '
          'the shards that are whole are kept, run the same command to go on')
    self._bar.write(f'a worker ended ({reason}); {name} is done again')
    self._hire(shard)


def _work(connection, collection: Collection, out: str) -> None:
  """A worker: does the shards it is told until the connection closes."""
  try:
    with registry.make_environment(collection.domain) as environment:
      while True:
        shard = connection.recv()
        found = write_shard(
            environment, collection, out, shard,
            lambda steps: connection.send(('episode', steps)))
        connection.send(('done', _statistics(found)))
  except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
    return
  except MissingProgramError as error:
    _tell(connection, 'missing', str(error))
  except CollectError as error:
    _tell(connection, 'refused', str(error))
  except BrokenEnvironmentError as error:  # while a task was made; episodes say it themselves
    _tell(connection, 'broken', str(error))
  except Exception as error:  # the parent says it in one sentence
    _tell(connection, 'failed', f'{type(error).__name__}: {error}')


def _tell(connection, kind: str, text: str) -> None:
  with contextlib.suppress(OSError):  # the parent may be gone
    connection.send((kind, text))


def write_shard(
    environment: Environment, collection: Collection, out: str, shard: int,
    on_episode: Callable[[int], None] = lambda steps: None) -> list[Trajectory]:
  """Runs the episodes of a shard and writes its file, atomically.

  Args:
    environment: of the collection's domain.
    collection: see there.
    out: its directory.
    shard: number of the file.
    on_episode: told the steps of each episode when it is over.
  Returns:
    The episodes.
  Raises:
    CollectError: where the file cannot be written.
  """
  found = []
  for index in collection.shard_episodes(shard):
    found.append(run_numbered_episode(environment, collection, index))
    on_episode(len(found[-1].turns))
  with writing(out):
    trajectories.write_jsonl(os.path.join(out, collection.shard_name(shard)), found)
  return found


def _read_statistics(collection: Collection, out: str, shard: int) -> dict[str, Any]:
  path = os.path.join(out, collection.shard_name(shard))
  return _statistics(list(trajectories.read_jsonl(path, collection.domain)))


def _statistics(found: list[Trajectory]) -> dict[str, Any]:
  """Counts of one shard; keys of 'rows' are (policy, family, split)."""
  rows = collections.defaultdict(collections.Counter)
  for trajectory in found:
    task = trajectory.task
    rows[trajectory.policy, task.family, task.split].update(
        episodes=1, success=bool(trajectory.success), errors=int(bool(trajectory.error)))
  turns = [turn for trajectory in found for turn in trajectory.turns]
  return {'rows': dict(rows), 'steps': len(turns),
          'changed_state_steps': sum(turn.changed_state is True for turn in turns)}


def _summarise(collection: Collection, stats: list[dict[str, Any]]) -> dict[str, Any]:
  rows = collections.defaultdict(collections.Counter)
  for one in stats:
    for key, counts in one['rows'].items():
      rows[key].update(counts)
  by = {'family': collections.Counter(), 'split': collections.Counter(),
        'policy': collections.Counter()}
  success = collections.Counter()
  for (policy, family, split), counts in rows.items():
    by['family'][family] += counts['episodes']
    by['split'][split] += counts['episodes']
    by['policy'][policy] += counts['episodes']
    success[policy] += counts['success']
  return {
      'collection': dataclasses.asdict(collection),
      'episodes': collection.episodes,
      'steps': sum(one['steps'] for one in stats),
      'changed_state_steps': sum(one['changed_state_steps'] for one in stats),
      'errors': sum(counts['errors'] for counts in rows.values()),
      'episodes_by': {name: dict(sorted(counter.items())) for name, counter in by.items()},
      'success_rate_by_policy': {
          policy: success[policy] / count for policy, count in sorted(by['policy'].items())},
      'rows': [{'policy': policy, 'family': family, 'split': split,
                'episodes': counts['episodes'],
                'success_rate': counts['success'] / counts['episodes'],
                'errors': counts['errors']}
               for (policy, family, split), counts in sorted(rows.items())],
  }
