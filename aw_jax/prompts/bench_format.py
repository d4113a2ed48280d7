"""The files of AgentWorldBench (PAPER.md section 6): their fields, and how an observation is led.

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
    aw_jax          in files written here: what the environment knew of the turn (`KNOWN`)

Published files may list the turns after the current one, or leave the current action out of
`prompt`.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from types import NoneType
from typing import Any

from aw_jax.trajectories import DOMAINS

LEAD = '**Environment Observation:**'
SUFFIX = '_test.jsonl'
KNOWN = {
    'family': str, 'held_out_family': bool, 'task_id': str, 'trajectory': (int, str),
    'runtime_metadata': (list, NoneType), 'changed_state': (bool, NoneType),
    'initial_state': (str, NoneType)}
_FIELDS = {
    'task': str, 'id': (str, int), 'prompt': list, 'response': list, 'current_prompt': str,
    'system_str': str, 'turn_idx': int, 'total_turns': int}
_LED = re.compile(rf'\s*{re.escape(LEAD)}[ \t]*\n?')


class BenchError(ValueError):
  """A benchmark file is no such file; the message names file, line and field."""


def domain_of(path: str) -> str:
  """The domain that a file is named by. Raises BenchError where its name has none."""
  name = os.path.basename(path)
  domain = name.removesuffix(SUFFIX).lower()
  if not name.endswith(SUFFIX) or domain not in DOMAINS:
    raise BenchError(
        f'{path}: not named DOMAIN{SUFFIX}, with a domain of {", ".join(DOMAINS)}')
  return domain


def records(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
  """Yields (line number, sample) of a file, each with the fields above, of their types.

  Raises:
    BenchError: naming file, line and field of the first sample that is wrong.
  """
  try:
    with open(path, encoding='utf-8') as file:
      for number, line in enumerate(file, 1):
        if line.strip():
          yield number, _record(line, f'{path}:{number}')
  except UnicodeDecodeError as error:
    raise BenchError(f'{path}: not UTF-8 at byte {error.start} of a line') from error
  except OSError as error:
    raise BenchError(f'{path}: {error.strerror}') from error


def _record(line: str, where: str) -> dict[str, Any]:
  try:
    value = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise BenchError(f'{where}: not JSON: {error}') from error
  if not isinstance(value, dict):
    raise BenchError(f'{where}: expected an object, found {type(value).__name__}')
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
  return value


def known_of(value: dict[str, Any], where: str) -> dict[str, Any] | None:
  """What the environment knew of a sample's turn, `KNOWN`; None where the file does not say.

  Raises:
    BenchError: naming the field below `where`.
  """
  if 'aw_jax' not in value:
    return None
  known = value['aw_jax']
  if not isinstance(known, dict) or set(known) != set(KNOWN):
    raise BenchError(f'{where}.aw_jax: expected an object of {", ".join(KNOWN)}')
  for name, kind in KNOWN.items():
    if not isinstance(known[name], kind):
      raise BenchError(f'{where}.aw_jax.{name}: found {json.dumps(known[name])[:60]}')
  spans = known['runtime_metadata']
  for span in spans or ():
    if not (isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)):
      raise BenchError(f'{where}.aw_jax.runtime_metadata: expected pairs of whole numbers')
  return {**known, 'runtime_metadata': None if spans is None else tuple(map(tuple, spans))}


def begin_of(value: dict[str, Any]) -> str:
  """Names what a sample begins with: alike for the samples of one trajectory."""
  begin = json.dumps([value['system_str'], value['prompt'][:1], value['response'][:1],
                      value['total_turns']])
  return hashlib.sha256(begin.encode()).hexdigest()


def observation_of(response: str) -> str:
  """An observation without the words that lead it in the files."""
  return _LED.sub('', response, count=1) if response.lstrip().startswith(LEAD) else response
