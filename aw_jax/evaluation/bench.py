"""The benchmark's turns and files, in the format of AgentWorldBench (PAPER.md section 6).

`aw_jax.prompts.bench_format` says how the files look. Published ones are read as they are, their
histories whole; of the turns that a sample lists the first `turn_idx` count. Spaces and line ends
around their observations are their layout, and left out.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from aw_jax.evaluation.examples import TurnExample
from aw_jax.prompts import bench_format, templates
from aw_jax.prompts.bench_format import LEAD, SUFFIX, BenchError, observation_of
from aw_jax.trajectories import DOMAINS, write_atomically

_MIDDLE_TURNS = 3


@dataclasses.dataclass(frozen=True)
class Sample:
  """One turn of the benchmark: its id, unique within its domain, and the turn with its prompt."""

  id: str
  example: TurnExample


def draw_turns(examples: Sequence[TurnExample], seed: int, share: float = 0.5
               ) -> list[TurnExample]:
  """The benchmark's draw: first, last and three uniform turns of a trajectory, then a share.

  Args:
    examples: all turns of some trajectories.
    seed: of the draws; those of a trajectory depend on its place among its domain's alone.
    share: of each domain's turns that are kept, rounded up.
  """
  by_trajectory: dict[int, list[TurnExample]] = {}
  for example in examples:
    by_trajectory.setdefault(example.trajectory, []).append(example)
  by_domain: dict[str, list[TurnExample]] = {}
  numbers: collections.Counter[str] = collections.Counter()
  for turns in by_trajectory.values():
    domain = turns[0].domain
    rng = np.random.default_rng((seed, DOMAINS.index(domain), numbers[domain]))
    numbers[domain] += 1
    middle = np.arange(1, len(turns) - 1)
    drawn = {0, len(turns) - 1, *rng.choice(
        middle, min(_MIDDLE_TURNS, len(middle)), replace=False).tolist()}
    by_domain.setdefault(domain, []).extend(turns[i] for i in sorted(drawn))
  kept = []
  for domain in sorted(by_domain):
    turns = by_domain[domain]
    rng = np.random.default_rng((seed, DOMAINS.index(domain)))
    chosen = rng.permutation(len(turns))[:int(np.ceil(share * len(turns)))]
    kept += [turns[i] for i in sorted(chosen.tolist())]
  return kept


def samples(examples: Iterable[TurnExample], template: str = 'v0', size: str = 'short'
            ) -> list[Sample]:
  """Turns as samples, with the system prompts of their tasks: see `templates.task_prompt`."""
  return [
      Sample(f'{example.domain}-{example.trajectory}-{example.turn_index}', dataclasses.replace(
          example, system=templates.task_prompt(example.task, template, size=size)))
      for example in examples]


def write(folder: str, found: Sequence[Sample]) -> list[str]:
  """Writes a file for each domain, atomically; returns their paths."""
  paths = []
  for domain in sorted({sample.example.domain for sample in found}):
    lines = [json.dumps(_to_json(sample), ensure_ascii=False) + '\n'
             for sample in found if sample.example.domain == domain]
    paths.append(os.path.join(folder, domain + SUFFIX))
    write_atomically(paths[-1], ''.join(lines))
  return paths


def _to_json(sample: Sample) -> dict[str, Any]:
  example = sample.example
  past = [*example.history, (example.action, example.observation)]
  return {
      'task': example.domain, 'id': sample.id, 'prompt': [action for action, _ in past],
      'response': [f'{LEAD}\n{observation}' for _, observation in past],
      'current_prompt': example.action, 'system_str': example.system,
      'turn_idx': example.turn_index, 'total_turns': example.total_turns,
      'aw_jax': {name: getattr(example, name) for name in bench_format.KNOWN}}


def read(path: str) -> list[Sample]:
  """The samples of a file whose name begins with its domain.

  Raises:
    BenchError: naming file, line and field of the first sample that is wrong.
  """
  domain = bench_format.domain_of(path)
  found = [_sample(value, path, number, domain) for number, value in bench_format.records(path)]
  if not found:
    raise BenchError(f'{path}: no sample in it')
  return found


def _sample(value: dict[str, Any], path: str, number: int, domain: str) -> Sample:
  where = f'{path}:{number}'
  try:
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except UnicodeEncodeError as error:  # half of a surrogate pair, which no tokenizer takes
    raise BenchError(f'{where}: not valid Unicode ({error.reason})') from error
  turn = value['turn_idx']
  *past, observation = map(observation_of, value['response'][:turn])
  if 'aw_jax' not in value:
    *past, observation = (text.strip() for text in (*past, observation))
  history = tuple(zip(value['prompt'][:turn - 1], past, strict=True))
  example = TurnExample(
      domain=domain, turn_index=turn, total_turns=value['total_turns'], history=history,
      action=value['current_prompt'], observation=observation,
      system=value['system_str'], file=path, **_known(value, where))
  return Sample(str(value['id']), example)


_UNKNOWN = {'family': '', 'held_out_family': False, 'runtime_metadata': None,
            'changed_state': None, 'initial_state': None}


def _known(value: dict[str, Any], where: str) -> dict[str, Any]:
  """What the environment knew of a turn; of published files nothing but whose turn it is."""
  known = bench_format.known_of(value, where)
  if known is None:
    # Samples of one trajectory are drawn together: those that begin alike.
    return {**_UNKNOWN, 'task_id': str(value['id']), 'trajectory': bench_format.begin_of(value)}
  return known
