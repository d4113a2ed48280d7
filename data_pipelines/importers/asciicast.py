"""Terminal recordings of asciinema, asciicast v2 and v3: `*.cast`.

The recorded stream is played into a `Screen` and cut at the shell's prompts: an action is the
command line behind a prompt, its observation all that is printed until the next prompt, and that
prompt. Where keys were recorded the prompt is what stood before the cursor when a line was begun;
otherwise it is found by its form, and the form of the first one counts for the whole recording. A
program that takes the whole screen, or reads lines of its own, gets input that no action shows:
its turn is left out, and what follows is an episode of its own.
"""

import dataclasses
import re
import shlex
from collections.abc import Iterator
from typing import Any

from aw_jax.trajectories import Trajectory, Turn
from data_pipelines.importers import common
from data_pipelines.importers.common import Ledger, Settings, TraceError, check, field
from data_pipelines.importers.screen import Screen

SUFFIXES = ('.cast',)
_LARGEST = (10_000, 500)  # columns and rows
_ENVIRONMENT = r'(?:\([^()]*\) ?)?'  # of conda or venv
# The forms of prompts. Lines have no space at their ends, so that a bare prompt ends with its sign.
_FORMS = (
    rf'{_ENVIRONMENT}\[?[\w.-]+@[^\s$#%][^$#%]*[$#%](?: |$)',
    rf'{_ENVIRONMENT}(?:bash|sh|zsh)-?[\d.]*[$#%](?: |$)',
    rf'{_ENVIRONMENT}[~/][^\s$#%>]*[$#%>](?: |$)',
    rf'{_ENVIRONMENT}➜ +\S+(?: git:\(\S+\))?(?: ✗)?(?: |$)',
    rf'{_ENVIRONMENT}[❯»](?: |$)',
    rf'{_ENVIRONMENT}\$(?: |$)',
)
_SIGNS = '$#%>❯»:'  # one of them ends a prompt that keys were typed at
_READS_LINES = re.compile(
    r'(?:>>> ?|In \[\d+\]: ?|(?:sqlite|mysql|ftp|irb\S*|\w+=[#>]|\((?:gdb|Pdb|lldb)\))>? |\.\.\. )')
_CONTINUATION = re.compile(r'>(?: |$)')
_OPEN_END = re.compile(r'(?:\\|\||&&|\b(?:do|then|else)|[{(])\s*\Z')
_COMPOUND = re.compile(r'\s*(?:for|while|until|if|case|select)\b')


@dataclasses.dataclass(frozen=True)
class _Header:
  """What the first line says."""

  version: int
  width: int
  height: int
  title: str
  command: str


@dataclasses.dataclass(frozen=True)
class _Mark:
  """A prompt on the screen: the row of its line, and the prompt."""

  row: int
  prompt: str


def read(path: str, settings: Settings, ledger: Ledger) -> Iterator[Trajectory]:
  """Yields the episodes of a recording.

  Args:
    path: JSON lines, a header and events.
    settings: see there; the domain is 'terminal' where none is given.
    ledger: takes in what becomes no turn.
  Raises:
    TraceError: naming file, line and field.
  """
  lines = common.read_lines(path)
  header = _read_header(lines[0] if lines else '', f'{path}:1')
  ledger.records += 1
  screen = Screen(header.width, header.height)
  typed = _play(lines, path, screen, ledger)
  marks = [] if settings.prompt else _typed_marks(typed)
  marks = marks or _marks_by_form(screen, settings.prompt)
  if not marks:
    ledger.apart['recording without a shell prompt'] += 1
    return
  parts = _episodes(screen, marks, ledger)
  begin = next((part[0] for part in parts if part), Turn('', ''))
  for number, turns in enumerate(part for part in parts if part):
    yield common.make_trajectory(
        domain=settings.domain or 'terminal', family=settings.family or 'asciicast',
        # Episodes of one recording belong together.
        key=f'{header.title}\n{begin.action}\n{begin.observation}', instruction=header.title,
        turns=turns, policy=settings.policy or 'human',
        source={'format': 'asciicast', 'place': common.place_of(path, path), 'part': number,
                'version': header.version, 'command': header.command})


# --- the file -------------------------------------------------------------------------------------


def _read_header(line: str, where: str) -> _Header:
  value = check(common.parse(line, where), dict, where)
  version = field(value, 'version', int, where)
  if version not in (2, 3):
    raise TraceError(
        f'{where}.version: {version} is not 2 or 3; `asciinema convert` makes one of the others')
  size, names = (value, ('width', 'height')), where
  if version == 3:
    size, names = (field(value, 'term', dict, where), ('cols', 'rows')), f'{where}.term'
  found = []
  for name, largest in zip(size[1], _LARGEST, strict=True):
    number = field(size[0], name, int, names)
    if not 1 <= number <= largest:
      raise TraceError(f'{names}.{name}: {number} is not from 1 to {largest}')
    found.append(number)
  texts = [common.without_surrogates(field(value, name, (str, type(None)), where, None) or '')
           for name in ('title', 'command')]
  return _Header(version, *found, *texts)


def _play(lines: list[str], path: str, screen: Screen, ledger: Ledger) -> list[_Mark]:
  """Plays the events; returns a mark for each line that recorded keys were typed at."""
  typed: list[_Mark] = []
  begun: _Mark | None = None
  for number, line in enumerate(lines[1:], 2):
    if not line.strip() or line.startswith('#'):
      continue
    where = f'{path}:{number}'
    code, data = _read_event(common.parse(line, where), where)
    if code == 'o':
      screen.write(data)
    elif code == 'i':
      begun = begun or _Mark(screen.line_start(), screen.text_before_cursor())
      if re.search('[\r\n\x03\x04]', data):
        typed.append(begun)
        begun = None
    elif code == 'r':
      screen.resize(*_read_size(data, where))
    elif code not in ('m', 'x'):
      ledger.apart['event of an unknown kind'] += 1
  return typed


def _read_event(value: Any, where: str) -> tuple[str, str]:
  check(value, list, where)
  if len(value) != 3:
    raise TraceError(f'{where}: an event is [time, code, data], found {len(value)} entries')
  if check(value[0], (float, int), f'{where}[0]') < 0:
    raise TraceError(f'{where}[0]: a time is not negative')
  return check(value[1], str, f'{where}[1]'), check(value[2], str, f'{where}[2]')


def _read_size(data: str, where: str) -> tuple[int, int]:
  match = re.fullmatch(r'([0-9]{1,5})x([0-9]{1,5})', data)
  numbers = tuple(map(int, match.groups())) if match else (0, 0)
  if not all(1 <= number <= largest for number, largest in zip(numbers, _LARGEST, strict=True)):
    raise TraceError(f'{where}[2]: {data[:20]!r} is no size COLUMNSxROWS')
  return numbers


# --- prompts --------------------------------------------------------------------------------------


def _typed_marks(typed: list[_Mark]) -> list[_Mark]:
  """The lines that were typed at a prompt, other than those that go on with a command."""
  return [mark for mark in typed if mark.prompt.rstrip()[-1:] in tuple(_SIGNS)
          and not _CONTINUATION.fullmatch(mark.prompt)]


def _marks_by_form(screen: Screen, prompt: str | None) -> list[_Mark]:
  """The lines that begin with a prompt of the form that the first of them has."""
  lines = screen.lines()
  forms = [re.compile(form) for form in ([prompt] if prompt else _FORMS)]
  form = next((form for _, line in lines for form in forms if form.match(line)), None)
  if form is None:
    return []
  matches = [(row, form.match(line)) for row, line in lines]
  return [_Mark(row, match[0]) for row, match in matches if match]


# --- turns ----------------------------------------------------------------------------------------


def _episodes(screen: Screen, marks: list[_Mark], ledger: Ledger) -> list[list[Turn]]:
  """The turns between the marks, a list for each episode."""
  lines = screen.lines()
  places = {row: index for index, (row, _) in enumerate(lines)}
  marks = _standing(marks, places, ledger)
  text = [line for _, line in lines]
  if marks and any(line.strip() for line in text[:places[marks[0].row]]):
    ledger.apart['text before the first prompt'] += 1
  parts: list[list[Turn]] = [[]]
  for mark, after in zip(marks, marks[1:], strict=False):
    between = text[places[mark.row]:places[after.row]]
    action, output = _command(between, mark.prompt)
    # Such a program starts below its command, maybe in the row that the next prompt gets.
    full_screen = any(mark.row < row <= after.row for row in screen.full_screen_rows)
    reads_lines = any(_READS_LINES.match(line) for line in output)
    if full_screen or reads_lines:
      ledger.apart['turn of a full-screen program' if full_screen
                   else 'turn of a program that reads lines'] += 1
      parts.append([])
    else:
      parts[-1].append(Turn(action, '\n'.join([*output, after.prompt.rstrip()])))
  if marks and _command(text[places[marks[-1].row]:], marks[-1].prompt)[0].strip():
    ledger.apart['turn without a prompt after it'] += 1
  return parts


def _standing(marks: list[_Mark], places: dict[int, int], ledger: Ledger) -> list[_Mark]:
  """The marks whose line is still there, each below the one before."""
  kept: list[_Mark] = []
  for mark in marks:
    if mark.row in places and (not kept or mark.row > kept[-1].row):
      kept.append(mark)
    else:
      ledger.apart['prompt that was written over'] += 1
  return kept


def _command(lines: list[str], prompt: str) -> tuple[str, list[str]]:
  """The command behind a prompt, which may go on over lines, and the lines of its output."""
  command, output = lines[0][len(prompt):].strip(), lines[1:]
  if _is_open(command):
    while output and _CONTINUATION.match(output[0]):
      command += '\n' + output.pop(0)[2:]
  return command, output


def _is_open(command: str) -> bool:
  """Whether a shell would ask for another line of the command."""
  if _OPEN_END.search(command) or _COMPOUND.match(command) or '<<' in command:
    return True
  try:
    shlex.split(command, comments=True)
  except ValueError:
    return True
  return False
