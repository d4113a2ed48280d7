"""TFDS builder of collected trajectories: JSONL shards in, TFDS splits train and validation out."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Sequence

import tensorflow_datasets as tfds
import tqdm

from aw_jax.trajectories import to_json
from data_pipelines import pools, sources

VERSION = '1.0.0'
NAME = 'agent_trajectories'


class _LocalInfo(tfds.core.DatasetInfo):
  """Looks for nothing in TFDS's public bucket, and leaves no temporary folder of the search."""

  def initialize_from_bucket(self) -> None:
    pass


class AgentTrajectories(tfds.core.GeneratorBasedBuilder):
  """Episodes of language agents, one example each.

  An example holds the trajectory as JSON (`aw_jax.trajectories.from_json` reads it) beside the
  fields by which a stage selects. Without `shards` the builder only reads what was prepared.
  """

  name = NAME
  VERSION = tfds.core.Version(VERSION)
  # Nothing is downloaded. TFDS would look for checksums beside the code, for which it imports
  # importlib_resources, a package it does not require on this Python.
  url_infos = None

  def __init__(self, *, shards: Sequence[str] = (), splits: Sequence[str] = (),
               skip_retries: bool = False, progress: bool = False, **kwargs):
    """Reads `shards` (`sources.find_shards`) into those of `splits` that the data have."""
    self._shards = tuple(shards)
    self._skip_retries = skip_retries
    self._splits = tuple(splits)
    self._progress = progress
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    text = tfds.features.Text()
    return _LocalInfo(
        builder=self,
        description='Episodes of language agents in text environments.',
        features=tfds.features.FeaturesDict({
            'id': text, 'domain': text, 'family': text, 'policy': text, 'pool': text,
            'trajectory': text}))

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {split: self._generate_examples(split) for split in self._splits}

  def _generate_examples(self, split: str):
    bar = tqdm.tqdm(
        self._shards, desc=f'TFDS {split}', unit=' shards', disable=not self._progress)
    for key, trajectory in sources.read_kept(bar, skip_retries=self._skip_retries):
      task = trajectory.task
      if task.split == split:
        yield key, {
            'id': task.id, 'domain': task.domain, 'family': task.family,
            'policy': trajectory.policy, 'pool': pools.pool_of(task),
            'trajectory': json.dumps(to_json(trajectory), ensure_ascii=False)}


def build(scan: sources.Scan, data_dir: str, progress: bool = False) -> None:
  """Prepares the dataset in `data_dir`, unless it is there already."""
  parent = os.path.join(data_dir, NAME)
  for name in os.listdir(parent) if os.path.isdir(parent) else ():
    if name.startswith('incomplete'):  # of a run that was killed
      shutil.rmtree(os.path.join(parent, name))
  builder = AgentTrajectories(
      shards=scan.shards, splits=sorted(scan.kept), skip_retries=scan.skip_retries,
      progress=progress, data_dir=data_dir)
  tfds.disable_progress_bar()  # it would draw three, and say that it downloads
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False))
