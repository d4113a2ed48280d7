"""The benchmark's turns and files, in the format of AgentWorldBench (PAPER.md section 6).

One JSON object a line, one file a domain, `{domain}_test.jsonl`:

    task            the domain
    id              of the sample
    prompt          actions of the history, the current one last
    response        observations, each led by `**Environment Observation:**`; that of the current
                    turn, the truth, is the last
    current_prompt  the action to answer
    system_str      the system prompt
    turn_idx        of the current turn, from 1
    total_turns     of its trajectory
    aw_jax          in files written here: what the environment knew of the turn (`Known`)

Published files are read as they are, their histories whole. They may list the turns after the
current one, or leave the current action out of `prompt`: the first `turn_idx` count.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from types import NoneType
from typing import Any

import numpy as np

from aw_jax.evaluation.examples import TurnExample
from aw_jax.prompts import templates
from aw_jax.trajectories import DOMAINS, write_atomically

LEAD = '**Environment Observation:**'
SUFFIX = '_test.jsonl'
_FIELDS = {
    'task': str, 'id': (str, int), 'prompt': list, 'response': list, 'current_prompt': str,
    'system_str': str, 'turn_idx': int, 'total_turns': int}
_KNOWN = {
    'family': str, 'held_out_family': bool, 'task_id': str, 'trajectory': (int, str),
    'runtime_metadata': (list, NoneType), 'changed_state': (bool, NoneType),
    'initial_state': (str, NoneType)}
_MIDDLE_TURNS = 3


class BenchError(ValueError):
  """A benchmark file is no such file; the message names file, line and field."""


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
    seed: of the draws; those of a trajectory do not depend on the others.
    share: of each domain's turns that are kept, rounded up.
  """
  by_trajectory: dict[int, list[TurnExample]] = {}
  for example in examples:
    by_trajectory.setdefault(example.trajectory, []).append(example)
  by_domain: dict[str, list[TurnExample]] = {}
  for number, turns in by_trajectory.items():
    rng = np.random.default_rng((seed, number))
    middle = np.arange(1, len(turns) - 1)
    drawn = {0, len(turns) - 1, *rng.choice(
        middle, min(_MIDDLE_TURNS, len(middle)), replace=False).tolist()}
    by_domain.setdefault(turns[0].domain, []).extend(turns[i] for i in sorted(drawn))
  kept = []
  for domain in sorted(by_domain):
    turns = by_domain[domain]
    rng = np.random.default_rng((seed, DOMAINS.index(domain)))
    chosen = rng.permutation(len(turns))[:int(np.ceil(share * len(turns)))]
    kept += [turns[i] for i in sorted(chosen.tolist())]
  return kept


def samples(examples: Iterable[TurnExample], size: str = 'short') -> list[Sample]:
  """Turns as samples, with RL's system prompt of their tasks in a size of `templates.SIZES`."""
  template, = templates.STAGE_TEMPLATES['rl']
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
      'aw_jax': {name: getattr(example, name) for name in _KNOWN}}


def read(path: str) -> list[Sample]:
  """The samples of a file whose name begins with its domain.

  Raises:
    BenchError: naming file, line and field of the first sample that is wrong.
  """
  name = os.path.basename(path)
  domain = name.removesuffix(SUFFIX).lower()
  if not name.endswith(SUFFIX) or domain not in DOMAINS:
    raise BenchError(
        f'{path}: not named DOMAIN{SUFFIX}, with a domain of {", ".join(DOMAINS)}')
  found = []
  try:
    with open(path, encoding='utf-8') as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          found.append(_read_line(line, f'{path}:{number}', domain, number))
  except UnicodeDecodeError as error:
    raise BenchError(f'{path}: not UTF-8 at byte {error.start} of a line') from error
  except OSError as error:
    raise BenchError(f'{path}: {error.strerror}') from error
  if not found:
    raise BenchError(f'{path}: no sample in it')
  return found


def _read_line(line: str, where: str, domain: str, number: int) -> Sample:
  try:
    value = json.loads(line)
  except (json.JSONDecodeError, RecursionError) as error:
    raise BenchError(f'{where}: not JSON: {error}') from error
  if not isinstance(value, dict):
    raise BenchError(f'{where}: expected an object, found {type(value).__name__}')
  try:
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except UnicodeEncodeError as error:  # half of a surrogate pair, which no tokenizer takes
    raise BenchError(f'{where}: not valid Unicode ({error.reason})') from error
  for field, kind in _FIELDS.items():
    if field not in value:
      raise BenchError(f'{where}.{field}: missing')
    if not isinstance(value[field], kind) or isinstance(value[field], bool):
      raise BenchError(f'{where}.{field}: found {json.dumps(value[field])[:60]}')
  turn = value['turn_idx']
  for field, least in (('prompt', turn - 1), ('response', turn)):
    if turn < 1 or len(value[field]) < least:
      raise BenchError(
          f'{where}.{field}: {len(value[field])} entries, turn_idx = {turn} needs {max(least, 1)}')
    for index, text in enumerate(value[field][:turn]):
      if not isinstance(text, str):
        raise BenchError(f'{where}.{field}[{index}]: found {json.dumps(text)[:60]}')
  history = tuple(zip(
      value['prompt'][:turn - 1], map(observation_of, value['response'][:turn - 1]), strict=True))
  example = TurnExample(
      domain=domain, turn_index=turn, total_turns=value['total_turns'], history=history,
      action=value['current_prompt'], observation=observation_of(value['response'][turn - 1]),
      system=value['system_str'], **_known(value, where, number))
  return Sample(str(value['id']), example)


_UNKNOWN = {'family': '', 'held_out_family': False, 'runtime_metadata': None,
            'changed_state': None, 'initial_state': None}


def _known(value: dict[str, Any], where: str, number: int) -> dict[str, Any]:
  """What the environment knew of a turn; of published files nothing but whose turn it is."""
  if 'aw_jax' not in value:
    # Samples of one trajectory are drawn together: those that begin alike.
    begin = json.dumps([value['system_str'], value['prompt'][:1], value['response'][:1],
                        value['total_turns']])
    name = hashlib.sha256(begin.encode()).hexdigest()
    return {**_UNKNOWN, 'task_id': str(value['id']), 'trajectory': name}
  known = value['aw_jax']
  if not isinstance(known, dict) or set(known) != set(_KNOWN):
    raise BenchError(f'{where}.aw_jax: expected an object of {", ".join(_KNOWN)}')
  for name, kind in _KNOWN.items():
    if not isinstance(known[name], kind):
      raise BenchError(f'{where}.aw_jax.{name}: found {json.dumps(known[name])[:60]}')
  spans = known['runtime_metadata']
  for span in spans or ():
    if not (isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)):
      raise BenchError(f'{where}.aw_jax.runtime_metadata: expected pairs of whole numbers')
  return {**known, 'runtime_metadata': None if spans is None else tuple(map(tuple, spans))}


_LED = re.compile(rf'\s*{re.escape(LEAD)}[ \t]*\n?')


def observation_of(response: str) -> str:
  """An observation without the words that lead it in the files."""
  return _LED.sub('', response, count=1) if response.lstrip().startswith(LEAD) else response
