"""What the readers of every format share: records with their places, checks, tasks, counts.

A reader yields a trajectory for every episode that its file holds, uncleaned; what cannot become a
turn it counts in the `Ledger`. Everything that has the wrong form is refused with a `TraceError`.
"""

import collections
import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from aw_jax.trajectories import Task, Trajectory, Turn, Verifier
from data_pipelines.importers import screen

# Of the tasks, by a hash of what was asked; the rest is test.
TRAIN_SHARE, VALIDATION_SHARE = 0.8, 0.1

_SURROGATE_ESCAPE = re.compile(r'\\u[dD][89a-fA-F]')
_SURROGATE = re.compile('[\ud800-\udfff]')
_SPACE = re.compile(r'[ \t\n\r]*')
_MISSING = object()


class TraceError(ValueError):
  """A trace cannot be imported; the message names file, line, field and the remedy."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a file does not say of its traces.

  Attributes:
    domain: of the episodes; None for the format's own.
    family: of the tasks; None for the reader's choice.
    policy: who acted; None for 'agent', or 'human' in terminal recordings.
    tools: the declared action space of episodes that declare none themselves, as OpenAI's API or
      MCP list tools (`aw_jax.prompts.facts.declared_tools`).
    prompt: regular expression of a recording's shell prompt, in place of the usual ones.
  Raises:
    TraceError: where the prompt is no regular expression, or one that matches nothing at all.
  """

  domain: str | None = None
  family: str | None = None
  policy: str | None = None
  tools: list[dict[str, Any]] | None = None
  prompt: str | None = None

  def __post_init__(self):
    if self.prompt is None:
      return
    try:
      matches_nothing = re.match(self.prompt, '') is not None
    except re.error as error:
      raise TraceError(f'prompt: {self.prompt!r} is no regular expression: {error}') from error
    if matches_nothing:
      raise TraceError(f'prompt: {self.prompt!r} also matches an empty text; ask for more of it')


@dataclasses.dataclass
class Ledger:
  """Counts of what was read and of what became of it.

  Attributes:
    records: conversations, files, samples or recordings read.
    apart: pieces of records that became no part of a turn, by reason.
    denoised: observations that lost escapes, carriage returns or other control characters.
    episodes_left_out: by reason.
    turns_left_out: turns of the episodes that were left out whole, by the same reasons.
    turns_skipped: turns that were skipped in episodes that were kept, by reason.
  """

  records: int = 0
  apart: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  denoised: int = 0
  episodes_left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  turns_left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  turns_skipped: collections.Counter = dataclasses.field(default_factory=collections.Counter)

  def observation(self, text: str) -> str:
    """An observation as plain text (`screen.plain`); counts those that were not."""
    cleaned = screen.plain(text)
    self.denoised += cleaned != text
    return cleaned


# --- records --------------------------------------------------------------------------------------


def records(path: str, ledger: Ledger) -> Iterator[tuple[str, Any]]:
  """Yields (place, JSON value) of the records of a file.

  A name that ends in .jsonl means one record a line. Any other file is one JSON document: a list of
  records, or one record alone; a list of messages with roles is one record. A place is file and
  line.
  """
  text = _read_text(path)
  pairs = _json_lines(path, text) if path.endswith('.jsonl') else _document(path, text)
  torn = _SURROGATE_ESCAPE.search(text) is not None
  for where, value in pairs:
    ledger.records += 1
    yield where, without_surrogates(value) if torn else value


def read_lines(path: str) -> list[str]:
  """The lines of a text file. Raises TraceError where it cannot be read as one."""
  return _read_text(path).split('\n')


def _read_text(path: str) -> str:
  try:
    with open(path, 'rb') as file:
      data = file.read()
  except OSError as error:
    raise TraceError(f'{path}: {error.strerror}; name a file that can be read') from error
  try:
    return data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    line = data.count(b'\n', 0, error.start) + 1
    raise TraceError(f'{path}:{line}: not UTF-8 at byte {error.start}; convert the file') from error


def parse(text: str, where: str) -> Any:
  """The JSON value of a text. Raises TraceError naming the place."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise TraceError(f'{where}: not JSON: {error}') from error


def _json_lines(path: str, text: str) -> Iterator[tuple[str, Any]]:
  for number, line in enumerate(text.split('\n'), 1):
    if line.strip():
      yield f'{path}:{number}', parse(line, f'{path}:{number}')


def _document(path: str, text: str) -> Iterator[tuple[str, Any]]:
  """The records of a document, decoded one after the other so that each has its line."""
  start = _SPACE.match(text).end()
  if text[start:start + 1] != '[':
    yield f'{path}:{_line(text, start)}', _parse_document(path, text)
    return
  elements = list(_elements(path, text, start + 1))
  if elements and all(isinstance(value, dict) and 'role' in value for _, value in elements):
    yield f'{path}:{_line(text, start)}', [value for _, value in elements]
  else:
    yield from elements


def _parse_document(path: str, text: str) -> Any:
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as error:
    raise TraceError(f'{path}:{getattr(error, "lineno", 1)}: not JSON: {error}') from error


def _elements(path: str, text: str, position: int) -> Iterator[tuple[str, Any]]:
  decoder = json.JSONDecoder()
  line, counted = 1, 0
  first = True
  while True:
    position = _SPACE.match(text, position).end()
    if first and text[position:position + 1] == ']':
      break
    line, counted = line + text.count('\n', counted, position), position
    where = f'{path}:{line}'
    try:
      value, position = decoder.raw_decode(text, position)
    except (ValueError, RecursionError) as error:
      raise TraceError(f'{where}: not JSON: {error}') from error
    yield where, value
    first = False
    position = _SPACE.match(text, position).end()
    if text[position:position + 1] == ']':
      break
    if text[position:position + 1] != ',':
      raise TraceError(f'{path}:{_line(text, position)}: not JSON: a comma or ] was expected')
    position += 1
  if text[position + 1:].strip():
    raise TraceError(
        f'{path}:{_line(text, position)}: more text after the list; name a file of JSON lines '
        'something.jsonl')


def _line(text: str, position: int) -> int:
  return text.count('\n', 0, position) + 1


def without_surrogates(value: Any) -> Any:
  """The value with half a surrogate pair, which UTF-8 cannot hold, as a replacement character."""
  if isinstance(value, str):
    return _SURROGATE.sub('\N{REPLACEMENT CHARACTER}', value)
  if isinstance(value, list):
    return [without_surrogates(item) for item in value]
  if isinstance(value, dict):
    return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
  return value


# --- checks ---------------------------------------------------------------------------------------

_NAMES = {dict: 'an object', list: 'a list', str: 'a text', int: 'a whole number',
          float: 'a number', bool: 'true or false', type(None): 'null'}


def check(value: Any, kinds: type | tuple[type, ...], where: str) -> Any:
  """The value, which must be of the kinds; a bool is no number, and NaN is none either."""
  kinds = kinds if isinstance(kinds, tuple) else (kinds,)
  right = isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
  if not right or (isinstance(value, float) and not math.isfinite(value)):
    expected = ' or '.join(_NAMES[kind] for kind in kinds)
    raise TraceError(f'{where}: expected {expected}, found {json.dumps(value)[:60]}')
  return value


def number(value: dict[str, Any], name: str, where: str) -> float | None:
  """A field that is a number, None where it is null or not there."""
  found = field(value, name, (float, int, type(None)), where, None)
  try:
    return None if found is None else float(found)
  except OverflowError as error:
    raise TraceError(f'{where}.{name}: too large a number') from error


def field(value: dict[str, Any], name: str, kinds: type | tuple[type, ...], where: str,
          default: Any = _MISSING) -> Any:
  """A field of an object; without a default it must be there."""
  if name not in value:
    if default is _MISSING:
      raise TraceError(f'{where}.{name}: missing')
    return default
  return check(value[name], kinds, f'{where}.{name}')


def check_tools(value: Any, where: str) -> list[dict[str, Any]]:
  """A declared action space as `Settings.tools` describes it."""
  for index, tool in enumerate(check(value, list, where)):
    place = f'{where}[{index}]'
    check(tool, dict, place)
    if 'function' in tool:
      tool, place = field(tool, 'function', dict, place), f'{place}.function'
    field(tool, 'name', str, place)
    field(tool, 'description', (str, type(None)), place, '')
    for name in ('parameters', 'inputSchema'):
      schema = field(tool, name, (dict, type(None)), place, None) or {}
      for argument in field(schema, 'required', list, f'{place}.{name}', []):
        check(argument, str, f'{place}.{name}.required')
      properties = field(schema, 'properties', dict, f'{place}.{name}', {})
      for key, entry in properties.items():
        _check_argument(entry, f'{place}.{name}.properties.{key}')
  return value


def read_tools(path: str) -> list[dict[str, Any]]:
  """A declared action space from a JSON file. Raises TraceError naming file and field."""
  return check_tools(_parse_document(path, _read_text(path)), path)


def _check_argument(entry: Any, where: str) -> None:
  if isinstance(entry, dict):
    field(entry, 'enum', list, where, [])
    kind = field(entry, 'type', (str, list), where, '')
    for one in kind if isinstance(kind, list) else ():
      check(one, str, f'{where}.type')


def text_of(content: Any, where: str, ledger: Ledger) -> str:
  """The text of a message's content: a text, null, or a list of parts of which texts count."""
  if not isinstance(content, list):
    return check(content, (str, list, type(None)), where) or ''
  texts = []
  for index, part in enumerate(content):
    check(part, dict, f'{where}[{index}]')
    if isinstance(part.get('text'), str):
      texts.append(part['text'])
    else:
      ledger.apart['part of a message that is no text'] += 1
  return '\n'.join(texts)


# --- trajectories ---------------------------------------------------------------------------------


def split_of(key: str) -> str:
  """The split of a task: a function of what was asked alone, whatever file it comes from."""
  place = int.from_bytes(_digest(key)[6:12]) / 2 ** 48
  if place < TRAIN_SHARE:
    return 'train'
  return 'validation' if place < TRAIN_SHARE + VALIDATION_SHARE else 'test'


def make_trajectory(
    *, domain: str, family: str, key: str, instruction: str, turns: Sequence[Turn], policy: str,
    source: dict[str, Any], setup: dict[str, Any] | None = None, initial_state: str | None = None,
    submission: str | None = None, success: bool | None = None, error: str = '',
    reward: float | None = None) -> Trajectory:
  """A trajectory of an imported task.

  Args:
    domain, family, instruction, setup, initial_state: see `Task`.
    key: what makes the task the same task in another file, for its seed (from which its pool
      follows) and its split; where it is blank, what happened first.
    turns, policy, submission, success, error, reward, source: see `Trajectory`.
  """
  if not key.strip() and turns:
    key = json.dumps([turns[0].action, turns[0].observation])
  seed = int.from_bytes(_digest(key)[:6])
  task = Task(
      id=f'{domain}/{family}/{seed}', domain=domain, family=family, split=split_of(key), seed=seed,
      instruction=instruction, initial_state=initial_state, setup=setup or {},
      verifier=Verifier('recorded', ''), max_turns=max(len(turns), 1))
  return Trajectory(
      task, policy, tuple(turns), submission, success=success, error=error, reward=reward,
      source=source)


def place_of(path: str, where: str) -> str:
  """A place in a file by the file's name alone, without the folders of one machine."""
  name = _SURROGATE.sub('_', os.path.basename(path))
  return name + where.removeprefix(path)


def family_of(path: str) -> str:
  """A family's name from a file's."""
  stem = os.path.basename(path).partition('.')[0]
  return re.sub(r'[^\w-]+', '_', _SURROGATE.sub('_', stem)) or 'imported'


def _digest(key: str) -> bytes:
  return hashlib.sha256(key.encode('utf-8', 'replace')).digest()
