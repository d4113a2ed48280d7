"""seqio's offline cache: a stage's examples made by an Apache Beam pipeline and kept on disk.

Worth it where making them takes longer than reading them: many trajectories, many machines. Needs
the extra `beam`; all of Beam's workers share the folder.
"""

import os
from collections.abc import Callable, Sequence

import apache_beam as beam
import seqio
from apache_beam.options.pipeline_options import PipelineOptions
from seqio import beam_utils


class CachingError(RuntimeError):
  """The pipeline failed; the message says why. What is whole is kept."""


def cache(names: Sequence[str], folder: str, register: Callable[[], object],
          options: Sequence[str]) -> None:
  """Makes the examples of registered tasks, those that are not in the cache yet.

  Args:
    names: of seqio tasks.
    folder: of the cache, which seqio then looks in. It has to be another one where the tasks make
      other examples.
    register: registers the tasks, in whichever process runs a part of the pipeline.
    options: of the pipeline, as Beam's own programs take them: `--runner=DirectRunner`, ...
  Raises:
    CachingError: where the pipeline fails.
  """
  seqio.set_global_cache_dirs([folder])  # tasks of the same names may be cached elsewhere
  missing = [name for name in names if seqio.TaskRegistry.get(name).cache_dir is None]
  if not missing:
    return
  try:
    with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
      for name in missing:
        _cache_task(pipeline, name, folder, register)
  except Exception as error:  # runners raise all kinds
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    raise CachingError(
        f'the pipeline failed: {reason}; run the same command to go on') from error


def _cache_task(pipeline: beam.Pipeline, name: str, folder: str, register: Callable[[], object]
                ) -> None:
  """Adds what writes all splits of a task, and after them the file that says it is whole."""
  task = seqio.TaskRegistry.get(name)
  out = os.path.join(folder, seqio.get_task_dir_from_name(name))
  done = []
  for split in task.splits:
    label = f'{name} {split}'
    made = beam_utils.PreprocessTask(task, split, setup_fn=register)
    examples = pipeline | f'{label}: make' >> made | f'{label}: spread' >> beam.Reshuffle()
    shards = len(made.shards)
    done += [
        examples | f'{label}: write' >> beam_utils.WriteExampleTfRecord(
            seqio.get_cached_tfrecord_prefix(out, split), num_shards=shards),
        examples | f'{label}: describe' >> beam_utils.GetInfo(shards)
        | f'{label}: write description' >> beam_utils.WriteJson(
            seqio.get_cached_info_path(out, split)),
        examples | f'{label}: count' >> beam_utils.GetStats(task.output_features)
        | f'{label}: write counts' >> beam_utils.WriteJson(
            seqio.get_cached_stats_path(out, split))]
  _ = (
      done | f'{name}: wait' >> beam.Flatten() | f'{name}: drop' >> beam.Filter(lambda _: False)
      | f'{name}: complete' >> beam.io.WriteToText(
          os.path.join(out, 'COMPLETED'), append_trailing_newlines=False, num_shards=1,
          shard_name_template=''))
