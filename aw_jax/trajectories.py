"""The one schema: tasks, turns and trajectories, and their JSONL files.

A *task* says what an agent has to do in one environment, from which initial state, and how success
is verified. A *trajectory* is the record of one episode of a task: turns of (action, observation)
(PAPER.md section 1). Every reader validates and names file, line and field; every writer is atomic.
"""

import dataclasses
import json
import os
import tempfile
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

DOMAINS = ('terminal', 'mcp', 'search', 'swe', 'web', 'os', 'android', 'textgame')
SPLITS = ('train', 'validation', 'test')
VERIFIER_KINDS = ('command', 'answer', 'recorded')
SUBMIT = '<submit>'  # an action that begins so ends the episode; what follows is the answer


class TrajectoryError(ValueError):
  """A record does not follow the schema; the message names where, which field, and the remedy."""


@dataclasses.dataclass(frozen=True)
class Verifier:
  """Decides whether an episode solved its task.

  Attributes:
    kind: 'command': after the last turn the hidden action `command` is run and its observation must
      equal `expected`. 'answer': the agent's submission must equal `expected`. 'recorded': of an
      imported trace; whoever recorded it decided, and nothing can be asked again.
    command: the hidden action; empty for kind 'answer'.
    expected: the observation or the answer that means success.
  """

  kind: str
  expected: str
  command: str = ''

  def passes(self, text: str | None) -> bool:
    """Whether `text`, the check's observation or the submission, means success."""
    if self.kind == 'recorded' or text is None:
      return False
    return text.strip() == self.expected.strip()


@dataclasses.dataclass(frozen=True)
class Task:
  """One thing to do in one environment.

  Attributes:
    id: unique, '{domain}/{family}/{seed}'.
    domain: one of DOMAINS.
    family: the generator it came from; whole families are held out for test.
    split: 'train', 'validation' or 'test'; a function of family and seed alone.
    seed: the generator's seed.
    instruction: what the agent is told.
    initial_state: the state as text before the first action, or None where it cannot be seen.
    setup: what the environment needs to build that state; JSON values only.
    verifier: how success is decided.
    max_turns: turns after which an episode ends.
  """

  id: str
  domain: str
  family: str
  split: str
  seed: int
  instruction: str
  initial_state: str | None
  setup: dict[str, Any]
  verifier: Verifier
  max_turns: int


@dataclasses.dataclass(frozen=True)
class Turn:
  """One action and what the environment answered.

  Attributes:
    action: what the agent did; never empty.
    observation: what the environment answered.
    state: the state as text after the action (`Environment.snapshot`), where it can be seen.
    changed_state: True where the observation differs from the one the same action would have got in
      the initial state (PAPER.md section 9), None where that was not determined.
    runtime_metadata: (start, end) character spans of the observation that nobody can predict
      (times, PIDs); they never count as a difference.
    thinking: the agent's own reasoning before the action, in agentic trajectories.
  """

  action: str
  observation: str
  state: str | None = None
  changed_state: bool | None = None
  runtime_metadata: tuple[tuple[int, int], ...] = ()
  thinking: str | None = None


def what_could_be_seen(start: str | None, history: Iterable[tuple[str, str]]) -> str:
  """What a predictor knows before an action, as text: the same wherever predictions are judged.

  Args:
    start: the state before the first action, or a prompt that tells it; None where it is hidden.
    history: (action, observation) of the turns before.
  """
  return '\n'.join([start or '', *(text for turn in history for text in turn)])


@dataclasses.dataclass(frozen=True)
class Trajectory:
  """The record of one episode.

  Attributes:
    task: the task.
    policy: who acted: 'expert', 'noisy_expert', 'random', 'agent', ...
    turns: what happened.
    submission: the text the agent ended the episode with ('' for a bare submit), or None where the
      turn limit or a failure ended it.
    verification: the hidden check of a 'command' verifier as it was answered, else None.
    success: whether the verifier passed; None where the episode broke before it could be asked, or
      where the source of an imported one does not say.
    error: why an episode broke ('' where it did not); such an episode is kept and marked.
    reward: of an imported episode, as its source gave it, else None.
    source: of an imported episode where it comes from: format, file, record and what else is known
      of it there (`data_pipelines.importers`); JSON values. Empty for one collected here.
  """

  task: Task
  policy: str
  turns: tuple[Turn, ...]
  submission: str | None = None
  verification: Turn | None = None
  success: bool | None = None
  error: str = ''
  reward: float | None = None
  source: dict[str, Any] = dataclasses.field(default_factory=dict)


def to_json(trajectory: Trajectory) -> dict[str, Any]:
  """The trajectory as JSON values; `from_json` is its inverse."""
  return dataclasses.asdict(trajectory)


def _allowed_types(field: dataclasses.Field) -> tuple[type, ...]:
  """The Python types that JSON may hold for a field, from its annotation."""
  union = isinstance(field.type, types.UnionType)
  alternatives = typing.get_args(field.type) if union else [field.type]
  return tuple(typing.get_origin(alternative) or alternative for alternative in alternatives)


def _build(cls, value: Any, where: str, **nested):
  """An instance of `cls` from JSON `value`; `nested` maps a field to its own reader."""
  if not isinstance(value, dict):
    raise TrajectoryError(f'{where}: expected an object, found {type(value).__name__}')
  known = {f.name: f for f in dataclasses.fields(cls)}
  unknown = sorted(set(value) - set(known))
  if unknown:
    raise TrajectoryError(f'{where}.{unknown[0]}: unknown field; known are {", ".join(known)}')
  arguments = {}
  for name, field in known.items():
    if name not in value:
      if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        raise TrajectoryError(f'{where}.{name}: missing; every {cls.__name__} needs it')
      continue
    if name in nested:
      arguments[name] = nested[name](value[name], f'{where}.{name}')
      continue
    allowed = _allowed_types(field)
    wrong_bool = isinstance(value[name], bool) and bool not in allowed
    if not isinstance(value[name], allowed) or wrong_bool:
      names = ' or '.join('null' if t is types.NoneType else t.__name__ for t in allowed)
      found = json.dumps(value[name])[:60]
      raise TrajectoryError(f'{where}.{name}: expected {names}, found {found}')
    _require_unicode(value[name], f'{where}.{name}')
    arguments[name] = value[name]
  return cls(**arguments)


def _require_unicode(value: Any, where: str) -> None:
  """Refuses half of a surrogate pair, which JSON can hold and no UTF-8 file or tokenizer can."""
  if isinstance(value, str) and not value.isascii():
    try:
      value.encode('utf-8')
    except UnicodeEncodeError as error:
      raise TrajectoryError(f'{where}: not valid Unicode ({error.reason})') from error
  elif isinstance(value, dict):
    for key, inner in value.items():
      _require_unicode(key, where)
      _require_unicode(inner, f'{where}.{key}')
  elif isinstance(value, list):
    for index, inner in enumerate(value):
      _require_unicode(inner, f'{where}[{index}]')


def _one_of(options: tuple[str, ...], text: str, where: str) -> None:
  if text not in options:
    raise TrajectoryError(f'{where}: {text!r} is not one of {", ".join(options)}')


def _read_verifier(value: Any, where: str) -> Verifier:
  verifier = _build(Verifier, value, where)
  _one_of(VERIFIER_KINDS, verifier.kind, f'{where}.kind')
  return verifier


def read_task(value: Any, where: str = 'task') -> Task:
  """A `Task` from JSON values. Raises TrajectoryError naming the field below `where`."""
  task = _build(Task, value, where, verifier=_read_verifier)
  _one_of(DOMAINS, task.domain, f'{where}.domain')
  _one_of(SPLITS, task.split, f'{where}.split')
  return task


def _read_spans(value: Any, where: str) -> tuple[tuple[int, int], ...]:
  if not isinstance(value, list):
    raise TrajectoryError(f'{where}: expected a list of [start, end] pairs')
  for pair in value:
    if not (isinstance(pair, list) and len(pair) == 2 and all(type(i) is int for i in pair)
            and 0 <= pair[0] <= pair[1]):
      raise TrajectoryError(f'{where}: expected [start, end] with 0 <= start <= end, found {pair}')
  return tuple((start, end) for start, end in value)


def _read_turn(value: Any, where: str) -> Turn:
  turn = _build(Turn, value, where, runtime_metadata=_read_spans)
  if not turn.action.strip():
    raise TrajectoryError(f'{where}.action: empty; drop the turn or repair the source')
  return turn


def _read_turns(value: Any, where: str) -> tuple[Turn, ...]:
  if not isinstance(value, list):
    raise TrajectoryError(f'{where}: expected a list of turns, found {type(value).__name__}')
  return tuple(_read_turn(turn, f'{where}[{i}]') for i, turn in enumerate(value))


def from_json(value: Any, where: str = 'trajectory') -> Trajectory:
  """A `Trajectory` from JSON values. Raises TrajectoryError naming the field below `where`."""
  return _build(
      Trajectory, value, where, task=read_task, turns=_read_turns,
      verification=lambda v, w: None if v is None else _read_turn(v, w))


def read_jsonl(path: str | os.PathLike, domain: str | None = None) -> Iterator[Trajectory]:
  """Yields the trajectories of a JSONL file.

  Args:
    path: the file.
    domain: where given, every trajectory must be of it.
  Raises:
    TrajectoryError: naming file, line and field of the first record that is wrong.
  """
  with open(path, 'rb') as lines:
    for number, line in enumerate(lines, 1):
      where = f'{path}:{number}'
      torn = '' if line.endswith(b'\n') else ' (a torn line, without end; collect this file again)'
      try:
        value = json.loads(line.decode('utf-8'))
      except UnicodeDecodeError as error:
        raise TrajectoryError(f'{where}: not UTF-8 at byte {error.start}{torn}') from error
      except json.JSONDecodeError as error:
        raise TrajectoryError(
            f'{where}: not JSON: {error.msg} at column {error.colno}{torn}') from error
      trajectory = from_json(value, where)
      if domain is not None and trajectory.task.domain != domain:
        raise TrajectoryError(
            f'{where}.task.domain: {trajectory.task.domain!r} in a file of {domain!r}; '
            'keep one directory a domain')
      yield trajectory


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
  """Writes `content` to `path` so that a reader sees the old file or the whole new one."""
  directory = os.path.dirname(os.path.abspath(path))
  os.makedirs(directory, exist_ok=True)
  data = content.encode('utf-8') if isinstance(content, str) else content
  descriptor, temporary = tempfile.mkstemp(dir=directory, prefix='.' + os.path.basename(path))
  try:
    with os.fdopen(descriptor, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
    folder = os.open(directory, os.O_RDONLY)  # the rename itself must survive a power cut
    try:
      os.fsync(folder)
    finally:
      os.close(folder)
  except BaseException:
    if os.path.exists(temporary):
      os.unlink(temporary)
    raise


def write_jsonl(path: str | os.PathLike, trajectories: Iterable[Trajectory]) -> None:
  """Writes a JSONL file atomically, one trajectory a line."""
  lines = (json.dumps(to_json(t), ensure_ascii=False) + '\n' for t in trajectories)
  write_atomically(path, ''.join(lines))
