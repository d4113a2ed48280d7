"""Short reasoning traces from the environment's own state before and after an action.

A trace says what the action reads, what it changes in the state, what stays, and what is printed
(PAPER.md section 4; three candidates a sample, from brief to full). The state is text: sections
`== path` of a home directory, or any other lines.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Callable, Sequence

MAX_TOKENS = 40
_CLIP = 40  # characters of one quoted line
_QUOTED_LINES = 2
_MENTIONED = 3  # changes and files that are named

Section = tuple[str, tuple[str, ...]]  # mark and lines

_PROMPT = re.compile(r'(?:\A|\n)[~/][^\n]*\$ ?\Z')
_HEADER = re.compile(
    r'== (?P<path>.+?)/?(?P<mark> x| [0-7]{3,4}| -> .*| \(special\)'
    r'|(?: (?:new|staged|modified|deleted|untracked))+)?')
_ERROR = re.compile(r'\W*(?:\w+: )?error\b(?: executing tool \w+)?\W*', re.IGNORECASE)
_PROBLEMS = (
    (r"([^\s:'\"‘]+)['\"’]?: No such file or directory", '{} is missing'),
    (r'([^\s:]+): (?:command )?not found', '{} is no command'),
    (r"([^\s:'\"‘]+)['\"’]?: Permission denied", '{} is forbidden'),
    (r"([^\s:'\"‘]+)['\"’]?: Is a directory", '{} is a directory'),
    (r"([^\s:'\"‘]+)['\"’]?: Not a directory", '{} is no directory'),
    (r"([^\s:'\"‘]+)['\"’]?: File exists", '{} exists already'),
    (r"([^\s:'\"‘]+)['\"’]?: Directory not empty", '{} is not empty'),
)


@dataclasses.dataclass(frozen=True)
class Change:
  """What happened to one section of the state.

  Attributes:
    name: the section; '' where the state has none.
    kind: 'new', 'gone', 'moved', 'lines', 'order' or 'mode'.
    added: lines it gained; of 'moved' its old name.
    removed: lines it lost.
  """

  name: str
  kind: str
  added: tuple[str, ...] = ()
  removed: tuple[str, ...] = ()


def output_of(observation: str) -> str:
  """What was printed: the observation without a terminal's prompt at its end."""
  return _PROMPT.sub('', observation)


def sections(state: str) -> dict[str, Section]:
  """Section name -> (mark, lines); a text without `== ` headers is one section named ''."""
  lines = state.split('\n') if state else []
  found: dict[str, tuple[str, list[str]]] = {}
  if lines and re.match(r'cwd [~/]', lines[-1]):
    found['cwd'] = ('', [lines.pop()[len('cwd '):]])
  name = ''
  for line in lines:
    header = _HEADER.fullmatch(line)
    if header:
      name = header['path']
      found[name] = ((header['mark'] or '').strip(), [])
    else:
      found.setdefault(name, ('', []))[1].append(line)
  return {name: (mark, tuple(lines)) for name, (mark, lines) in found.items()}


def changes(before: str, after: str) -> list[Change]:
  """What differs between two states, section by section, in the order of the state."""
  old, new = sections(before), sections(after)
  gone = [name for name in old if name not in new]
  result = []
  for name, (mark, lines) in new.items():
    if name not in old:
      source = next((g for g in gone if old[g][1] == lines and lines), None)
      if source is not None:
        gone.remove(source)
        result.append(Change(name, 'moved', (source,)))
      else:
        result.append(Change(name, 'new', lines))
    elif old[name] != (mark, lines):
      result.append(_changed(name, old[name], (mark, lines)))
  # What goes with its directory needs no mention of its own.
  alone = [name for name in gone if not any(name.startswith(f'{other}/') for other in gone)]
  return result + [Change(name, 'gone') for name in alone]


def _changed(name: str, old: Section, new: Section) -> Change:
  if old[1] == new[1]:
    return Change(name, 'mode', (new[0] or 'usual mode',))
  added = tuple((collections.Counter(new[1]) - collections.Counter(old[1])).elements())
  removed = tuple((collections.Counter(old[1]) - collections.Counter(new[1])).elements())
  return Change(name, 'lines' if added or removed else 'order', added, removed)


def _clip(line: str) -> str:
  return line if len(line) <= _CLIP else line[:_CLIP].rstrip() + '...'


def _quoted(lines: Sequence[str]) -> str:
  shown = ' | '.join(map(_clip, lines[:_QUOTED_LINES]))
  rest = len(lines) - _QUOTED_LINES
  return f'{shown} and {rest} more' if rest > 0 else shown


def describe(change: Change, full: bool) -> str:
  """One change in words; `full` quotes the lines."""
  name = change.name or 'the state'
  if change.kind == 'moved':
    return f'{change.added[0]} becomes {name}'
  if change.kind == 'gone':
    return f'{name} is gone'
  if change.kind == 'mode':
    return f'{name} is now {change.added[0]}'
  if change.kind == 'order':
    return f'{name} in new order'
  if name == 'cwd' and change.added:
    return f'now in {change.added[0]}'
  if change.kind == 'new':
    return f'new {name}: {_quoted(change.added)}' if full and change.added else f'new {name}'
  if not full:
    return f'{name} changes'
  signed = [f'{sign} {_quoted(lines)}'
            for sign, lines in (('-', change.removed), ('+', change.added)) if lines]
  return f'{name}: {" ".join(signed)}' if change.name else ' '.join(signed)


def problem(observation: str) -> str:
  """What went wrong, in words, or '' where nothing did."""
  for pattern, words in _PROBLEMS:
    match = re.search(pattern, observation)
    if match:
      return 'error: ' + words.format(_clip(match[1]))
  first = observation.lstrip().split('\n')[0]
  match = _ERROR.match(first)
  return 'error: ' + _clip(first[match.end():]) if match else ''


def _prints(observation: str, full: bool) -> str:
  output = output_of(observation)
  if not output.strip():
    return 'prints nothing'
  error = problem(output)
  lines = output.rstrip('\n').split('\n')
  if len(lines) == 1:
    return error or (f'prints {_clip(lines[0])}' if full else 'prints 1 line')
  if error:
    return f'prints {len(lines)} lines, {error}'
  span = f' from {_clip(lines[0].strip())} to {_clip(lines[-1].strip())}' if full else ''
  return f'prints {len(lines)} lines{span}'


def _values(action: str) -> list[str]:
  """The argument values of a JSON tool call that may name something; else the action's words."""
  try:
    call = json.loads(action)
  except (ValueError, RecursionError):  # not JSON, or more than Python reads
    return action.split()
  values, rest = [], [('', call)]
  while rest:
    key, item = rest.pop()
    if isinstance(item, dict):
      rest += item.items()
    elif isinstance(item, list):
      rest += [(key, value) for value in item]
    elif key.endswith('id') or len(str(item)) > 1:  # a bare digit else is a page or a quantity
      values.append(str(item))
  return values


def _reads(action: str, state: str, changed: set[str]) -> str:
  """Which part of the state an action looks at: its files, or its best-matching line."""
  found = sections(state)
  if set(found) - {'', 'cwd'}:
    cwd = found['cwd'][1][0] if 'cwd' in found else '~'
    here = cwd.removeprefix('~').lstrip('/') + '/'
    places = {name: max(_place(action, name), _place(action, name.removeprefix(here)))
              for name in found if name not in changed}
    named = sorted((name for name in places if name and places[name] >= 0), key=places.get)
    return f'reads {", ".join(named)}' if named else ''
  values = {value for value in _values(action) if len(value) < _CLIP}
  best, line = max(
      ((len(values & set(re.findall(r'[\w.-]+', line))), line)
       for line in found.get('', ('', ()))[1]), default=(0, ''), key=lambda pair: pair[0])
  return f'reads {_clip(line)}' if best else ''


def _place(action: str, path: str) -> int:
  """Where `path` stands in `action` as a word of its own, -1 where it does not."""
  match = re.search(rf'(?<![\w./-]){re.escape(path)}(?![\w-]|[./]\w)', action)
  return match.start() if match else -1


def _stays(state: str, changed: set[str]) -> str:
  names = [name for name in sections(state) if name not in changed | {'', 'cwd'}]
  if not names:
    return ''
  shown = ', '.join(names[:_MENTIONED])
  return f'{shown} {"stays" if len(names) == 1 else "stay"}'


def _few_words(text: str) -> bool:
  return len(re.findall(r'\w+|[^\w\s]', text)) <= MAX_TOKENS


def _join(parts: Sequence[tuple[int, str]], fits: Callable[[str], bool]) -> str:
  """Joins (importance, text), leaving out the least important until the rest fits."""
  parts = [part for part in parts if part[1]]
  while len(parts) > 1 and not fits('; '.join(text for _, text in parts)):
    parts.remove(min(parts, key=lambda part: part[0]))
  text = '; '.join(text for _, text in parts)
  while text and not fits(text):
    text = text[:len(text) * 3 // 4].rstrip()
  return text


def candidates(
    action: str, observation: str, before: str | None, after: str | None,
    fits: Callable[[str], bool] = _few_words,
) -> tuple[str, str, str]:
  """Three traces of one turn: brief, medium and full.

  Args:
    action: what the agent did.
    observation: what the environment answered.
    before: the state before the action, None where it cannot be seen.
    after: the state after it, None where it cannot be seen.
    fits: whether a text is short enough; by default at most MAX_TOKENS words and signs.
  """
  known = before is not None and after is not None
  found = changes(before, after) if known else []
  changed = {change.name for change in found}
  changed |= {change.added[0] for change in found if change.kind == 'moved'}
  reads = '' if before is None else _reads(action, before, changed)

  def say(full: bool) -> str:
    if not known:
      return ''
    said = [describe(change, full) for change in found[:_MENTIONED]]
    said += [f'{len(found) - _MENTIONED} more changes'] if len(found) > _MENTIONED else []
    return ', '.join(said) or 'nothing changes'

  stays = _stays(after, changed) if known else ''
  brief = _prints(observation, False)
  full = [(1, reads), (3, say(True)), (0, stays), (2, _prints(observation, True))]
  if not fits('; '.join(text for _, text in full if text)):
    full[-1] = (2, brief)  # better a shorter account of the output than none of what is read
  return (
      _join([(3, say(False)), (2, brief)], fits),
      _join([(1, reads), (3, say(True)), (2, brief)], fits),
      _join(full, fits),
  )
