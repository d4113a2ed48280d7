"""Collects real trajectories of one domain into JSONL shards.

    python -m experiments.collect --domain=terminal --episodes=1000 --out=/tmp/terminal

Run again with the same flags, it keeps the shards that are whole and goes on. `dataset_card.md` in
the folder says what was collected.
"""

import shlex
import sys

from absl import app, flags

from aw_jax.environments import collect, registry
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.trajectories import SPLITS, TrajectoryError, read_jsonl
from data_pipelines import dataset_card, sources

_DOMAIN = flags.DEFINE_string(
    'domain', None, f'Which world: {", ".join(registry.domains())}.', required=True)
_EPISODES = flags.DEFINE_integer('episodes', 1000, 'How many episodes.', lower_bound=1)
_OUT = flags.DEFINE_string('out', None, 'Directory for the shards.', required=True)
_SPLIT = flags.DEFINE_enum('split', 'train', SPLITS, 'Which tasks.')
_POOL = flags.DEFINE_enum(
    'pool', None, registry.POOLS, 'Only train tasks of this training stage (all where not given).')
_POLICIES = flags.DEFINE_list(
    'policies', [f'{name}:{weight}' for name, weight in collect.DEFAULT_POLICIES.items()],
    'Who acts, as name:weight; names are ' + ', '.join(collect.POLICIES) + '.')
_SEED = flags.DEFINE_integer('seed', 0, 'Selects tasks and what policies do.')
_WORKERS = flags.DEFINE_integer('workers', 2, 'Processes at a time.', lower_bound=1)
_SHARD = flags.DEFINE_integer('episodes_per_shard', 50, 'Episodes of one file.', lower_bound=1)
_BEAM = flags.DEFINE_multi_string(
    'beam_options', [], 'Collect by an Apache Beam pipeline with this option, as in '
    '--beam_options=--runner=DirectRunner; may be repeated. Its workers share --out.')
_MARK = flags.DEFINE_bool(
    'mark_changed_state', True, 'Mark turns that depend on earlier actions, by replay.')


def _policies() -> dict[str, float]:
  if not _POLICIES.value:
    raise collect.CollectError('--policies: name at least one, as in expert:1')
  mixture = {}
  for entry in _POLICIES.value:
    name, _, weight = entry.partition(':')
    try:
      mixture[name] = float(weight or 1)
    except ValueError as error:
      raise collect.CollectError(f'--policies: {entry!r} is not name:weight') from error
  return mixture


def _shard_writer() -> collect.ShardWriter | None:
  if not _BEAM.value:
    return None
  try:
    from experiments import beam_collection  # an extra
  except ModuleNotFoundError as error:
    raise collect.CollectError(
        f"{error.name} is missing, which --beam_options needs: pip install -e '.[beam]'") from error
  return beam_collection.shard_writer(_BEAM.value)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    summary = collect.collect(
        _DOMAIN.value, _EPISODES.value, _OUT.value, split=_SPLIT.value, policies=_policies(),
        seed=_SEED.value, workers=_WORKERS.value, episodes_per_shard=_SHARD.value,
        pool=_POOL.value, mark_changed_state=_MARK.value,
        write_shards=_shard_writer())
    with collect.writing(_OUT.value):
      shards = sources.find_shards([_OUT.value])
      dataset_card.write_for_trajectories(
          _OUT.value, (trajectory for shard in shards for trajectory in read_jsonl(shard)),
          shlex.join(['python', '-m', 'experiments.collect', *sys.argv[1:]]))
  except (collect.CollectError, registry.RegistryError, BrokenEnvironmentError,
          MissingProgramError, TrajectoryError) as error:
    sys.exit(f'collect: {error}')
  print(collect.table(summary))


if __name__ == '__main__':
  app.run(main)
