"""Samples of AgentWorldBench (`aw_jax.prompts.bench_format`), put together to their trajectories.

The samples of one trajectory share their first turns. The longest gives the turns, and a sample
whose turns all stand at the beginning of another one adds what was known of its own turn. It is a
benchmark: its trajectories are test where nothing else is asked for.
"""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from aw_jax.prompts import bench_format
from aw_jax.trajectories import Trajectory, Turn
from data_pipelines.importers import common
from data_pipelines.importers.common import Ledger, Settings, TraceError, check

SUFFIXES = (bench_format.SUFFIX,)


@dataclasses.dataclass
class _Sample:
  """A sample: its place, its turns, and all samples that it stands for, itself among them."""

  where: str
  value: dict[str, Any]
  turns: list[tuple[str, str]]
  known: list[tuple[int, dict[str, Any]]]  # (index of a turn, what is known of it)
  ids: list[str]


def read(path: str, settings: Settings, ledger: Ledger) -> Iterator[Trajectory]:
  """Yields the trajectories of a file.

  Args:
    path: named {domain}_test.jsonl.
    settings: see there; the domain is that of the name where none is given.
    ledger: takes in what becomes no turn.
  Raises:
    TraceError: naming file, line and field.
  """
  groups: dict[str, list[_Sample]] = {}
  try:
    domain = bench_format.domain_of(path)
    for line, value in bench_format.records(path):
      ledger.records += 1
      sample = _sample(common.without_surrogates(value), f'{path}:{line}', ledger)
      begin = [value['system_str'], *sample.turns[:1], value['total_turns']]
      groups.setdefault(json.dumps(begin), []).append(sample)
  except bench_format.BenchError as error:
    raise TraceError(str(error)) from error
  for samples in groups.values():
    for number, sample in enumerate(_longest(samples, ledger)):
      yield _trajectory(path, sample, number, settings.domain or domain, settings)


def _sample(value: dict[str, Any], where: str, ledger: Ledger) -> _Sample:
  turn, prompt, responses = value['turn_idx'], value['prompt'], value['response']
  for name in ('prompt', 'response'):
    for index, text in enumerate(value[name]):
      check(text, str, f'{where}.{name}[{index}]')
  actions = [*prompt[:turn - 1], value['current_prompt'], *prompt[turn:]]
  count = min(len(actions), len(responses))
  ledger.apart['action or observation without the other'] += (
      max(len(actions), len(responses)) - count)
  turns = [(action, bench_format.observation_of(response))
           for action, response in zip(actions[:count], responses[:count], strict=True)]
  known = bench_format.known_of(value, where)
  for start, end in (known and known['runtime_metadata']) or ():
    if not 0 <= start <= end:
      raise TraceError(f'{where}.aw_jax.runtime_metadata: [{start}, {end}] is no span of a text')
  return _Sample(where, value, turns, [(turn - 1, known)] if known else [], [str(value['id'])])


def _longest(samples: list[_Sample], ledger: Ledger) -> list[_Sample]:
  """The samples that no other one contains, each with what the contained ones knew."""
  kept: list[_Sample] = []
  for sample in sorted(samples, key=lambda one: -len(one.turns)):
    whole = next((one for one in kept if one.turns[:len(sample.turns)] == sample.turns), None)
    if whole is None:
      kept.append(sample)
    else:
      ledger.apart['sample whose turns another one has'] += 1
      whole.known += sample.known
      whole.ids += sample.ids
  return kept


def _trajectory(path: str, sample: _Sample, number: int, domain: str, settings: Settings
                ) -> Trajectory:
  turns = [Turn(action, observation) for action, observation in sample.turns]
  state, family = None, 'agentworldbench'
  for index, known in sample.known:
    state, family = known['initial_state'], known['family'] or family
    spans = known['runtime_metadata'] or ()
    turns[index] = dataclasses.replace(
        turns[index], changed_state=known['changed_state'],
        runtime_metadata=tuple((start, end) for start, end in spans))
  system = sample.value['system_str']
  return common.make_trajectory(
      domain=domain, family=settings.family or family, initial_state=state,
      key=json.dumps([system, sample.turns[0]]), instruction='', turns=turns,
      policy=settings.policy or 'agent', setup={'system_prompt': system},
      source={'format': 'agentworldbench', 'place': common.place_of(path, sample.where),
              'part': number, 'samples': sorted(sample.ids),
              'total_turns': sample.value['total_turns']})
