"""Collection as an Apache Beam pipeline: the shards of `collect`, on any of Beam's runners.

The files are those that the workers of one machine write, for an episode is a function of the seed
and its number alone. All of Beam's workers need the programs of the domain, and one folder that
they share. Needs the extra `beam`.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import apache_beam as beam
import tqdm
from apache_beam.options.pipeline_options import PipelineOptions

from aw_jax.environments import collect, registry

_LOOK_SECONDS = 1.0  # between two looks at which shards are there


class _WriteShard(beam.DoFn):
  """Numbers of shards -> their files; an environment for each of Beam's workers."""

  def __init__(self, collection: collect.Collection, out: str):
    self._collection, self._out = collection, out
    self._environment = None

  def setup(self):
    self._environment = registry.make_environment(self._collection.domain)

  def process(self, shard):
    # A bundle that failed is done again: what is whole stays.
    if not os.path.exists(os.path.join(self._out, self._collection.shard_name(shard))):
      collect.write_shard(self._environment, self._collection, self._out, shard)

  def teardown(self):
    if self._environment is not None:
      self._environment.close()


def shard_writer(options: Sequence[str]) -> collect.ShardWriter:
  """What `collect.collect` takes as `write_shards`.

  Args:
    options: of the pipeline, as Beam's own programs take them: `--runner=DirectRunner`, ...
  Returns:
    A function that raises CollectError where the pipeline fails; whole shards are kept.
  """
  def write(collection: collect.Collection, out: str, pending: Sequence[int], bar: tqdm.tqdm):
    if not pending:
      return
    with _progress(collection, out, pending, bar):
      try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
          _ = (pipeline | beam.Create(list(pending)) | beam.Reshuffle()
               | beam.ParDo(_WriteShard(collection, out)))
      except Exception as error:  # runners raise all kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise collect.CollectError(
            f'the pipeline failed: {reason}; the shards that are whole are kept, run the same '
            'command to go on') from error

  return write


@contextlib.contextmanager
def _progress(collection: collect.Collection, out: str, pending: Sequence[int], bar: tqdm.tqdm
              ) -> Iterator[None]:
  """Moves the bar as shards appear, wherever they are written."""
  ended = threading.Event()
  start = bar.n

  def look():
    while not ended.wait(_LOOK_SECONDS):
      update()

  def update():
    there = [shard for shard in pending
             if os.path.exists(os.path.join(out, collection.shard_name(shard)))]
    bar.update(start + sum(len(collection.shard_episodes(shard)) for shard in there) - bar.n)

  thread = threading.Thread(target=look, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    update()
