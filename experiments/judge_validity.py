"""Measures a judge on collected turns: do scores fall with corruption, does an attack raise one.

    python -m experiments.judge_validity --trajectories=/data/terminal,/data/mcp
    python -m experiments.judge_validity --trajectories=/data/mcp --turns=5 \
        --judge_model=MODEL --judge_url=http://127.0.0.1:8000/v1 --cache=/tmp/judged

Without a model it is the reference judge that is measured.
"""

import dataclasses
import json

from absl import app, flags

from aw_jax.evaluation import judge_validity
from aw_jax.evaluation.examples import TurnExample, turn_examples
from aw_jax.rewards.chat_endpoint import EndpointError
from aw_jax.rewards.judges import REFERENCE_JUDGE, Judge
from aw_jax.rewards.llm_judge import LlmJudge
from aw_jax.trajectories import TrajectoryError, write_atomically
from data_pipelines import sources
from experiments import endpoint_flags

_TRAJECTORIES = flags.DEFINE_list(
    'trajectories', None, 'Folders of collected trajectories.', required=True)
_TURNS = flags.DEFINE_integer(
    'turns', 50, 'Turns of each domain, spread evenly over the trajectories.', lower_bound=2)
_MEASURE = flags.DEFINE_multi_enum(
    'measure', ['corruptions', 'attacks'], ['corruptions', 'attacks'],
    'What to measure; may be repeated. Attacks take a thousand judgements a turn.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of what a corruption spoils first.')
_OUT = flags.DEFINE_string('out', None, 'JSON file for all figures.')
_CACHE = flags.DEFINE_string('cache', None, "Folder that keeps the model's judgements.")
_JUDGE = endpoint_flags.define('judge', 'the judge, in place of the reference judge', 0.0)


def _judge() -> Judge:
  endpoint = _JUDGE.endpoint()
  return REFERENCE_JUDGE if endpoint is None else LlmJudge(endpoint, _CACHE.value, progress=True)


def _examples() -> list[TurnExample]:
  kept = sources.read_kept(sources.in_turn(sources.find_shards(_TRAJECTORIES.value)))
  by_domain: dict[str, list[TurnExample]] = {}
  for example in turn_examples(trajectory for _, trajectory in kept):
    by_domain.setdefault(example.domain, []).append(example)
  chosen = []
  for found in by_domain.values():
    chosen += found[::-(-len(found) // _TURNS.value)]
  return chosen


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    judge, examples = _judge(), _examples()
    monotone, sound = {}, {}
    if 'corruptions' in _MEASURE.value:
      monotone = judge_validity.monotonicity(judge, examples, _SEED.value, progress=True)
    if 'attacks' in _MEASURE.value:
      sound = judge_validity.soundness(judge, examples, _SEED.value, progress=True)
  except (EndpointError, sources.SourceError, TrajectoryError) as error:
    raise SystemExit(f'judge_validity: {error}') from error
  print(judge_validity.table(monotone, sound))
  if _OUT.value:
    figures = {'turns': len(examples), 'grades': judge_validity.GRADES, 'corruptions': monotone,
               'attacks': sound}
    write_atomically(_OUT.value, json.dumps(figures, indent=1, default=dataclasses.asdict) + '\n')


if __name__ == '__main__':
  app.run(main)
