"""Short reasoning traces from the environment's own state before and after an action.

A trace notes the new content of whatever the action changed, in the words of the state itself, and
the names there are where these changed, so that a later turn finds the state of a file at its last
note and need not apply every action since the start again. Longer traces say too what is read, what
stays, and what is printed (PAPER.md section 4; three candidates a turn, from brief to full). The
state is text: sections `== path` of a home directory, or any other lines.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence

MAX_TOKENS = 64
_CLIP = 40  # characters of one quoted line
_MENTIONED = 3  # files that are named

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
    name: the section; '' is the lines before the first header.
    kind: 'new', 'changed', 'gone' or 'moved'.
    source: of 'moved', its old name.
  """

  name: str
  kind: str
  source: str = ''


def output_of(observation: str) -> str:
  """What was printed: the observation without a terminal's prompt at its end."""
  return _PROMPT.sub('', observation)


def sections(state: str) -> dict[str, str]:
  """Section name -> its text, header included; a text without `== ` headers is one named ''."""
  lines = state.split('\n') if state else []
  found: dict[str, list[str]] = {}
  if lines and re.match(r'cwd [~/]', lines[-1]):
    found['cwd'] = [lines.pop()]
  name = ''
  for line in lines:
    header = _HEADER.fullmatch(line)
    if header:
      name = header['path']
      found[name] = []
    found.setdefault(name, []).append(line)
  return {name: '\n'.join(lines) for name, lines in found.items()}


def changes(before: str, after: str) -> list[Change]:
  """What differs between two states, section by section, in the order of the state."""
  old, new = sections(before), sections(after)
  gone = [name for name in old if name not in new]
  result = []
  for name, text in new.items():
    if name not in old:
      source = next((g for g in gone if _content(text) and _content(old[g]) == _content(text)), '')
      if source:
        gone.remove(source)
      result.append(Change(name, 'moved' if source else 'new', source))
    elif old[name] != text:
      result.append(Change(name, 'changed'))
  # What goes with its directory needs no mention of its own.
  alone = [name for name in gone if not any(name.startswith(f'{other}/') for other in gone)]
  return result + [Change(name, 'gone') for name in alone]


def _content(section: str) -> str:
  return section.partition('\n')[2]


def _clip(line: str) -> str:
  return line if len(line) <= _CLIP else line[:_CLIP].rstrip() + '...'


def update(before: str, after: str) -> list[str]:
  """What the action made of the state, section by section as the state itself would show it.

  Returns:
    Of each changed section its header and all of its lines; of one that is gone its header and
    'gone'; of lines without a header those that are new, and 'gone' before those without successor.
  """
  old, new = sections(before), sections(after)
  notes = []
  for change in changes(before, after):
    if not change.name:
      notes.append(_changed_lines(old.get('', ''), new.get('', '')))
    elif change.kind == 'gone':
      notes.append('cwd ~' if change.name == 'cwd' else f'== {change.name} gone')
    else:
      notes += [f'== {change.source} gone'] * (change.kind == 'moved') + [new[change.name]]
  return notes


def _changed_lines(old: str, new: str) -> str:
  """Lines that are new; then those that are gone and whose first word leads no new one."""
  before, after = old.split('\n'), new.split('\n')
  added = [line for line in after if line not in before]
  keys = {line.split(' ')[0] for line in added}
  gone = [line for line in before if line not in after and line.split(' ')[0] not in keys]
  return '\n'.join(added + [f'gone {line}' for line in gone])


def problem(observation: str) -> str:
  """What went wrong, in words, or '' where nothing did."""
  for pattern, words in _PROBLEMS:
    match = re.search(pattern, observation)
    if match:
      return 'error: ' + words.format(_clip(match[1]))
  first = observation.lstrip().split('\n')[0]
  match = _ERROR.match(first)
  return 'error: ' + _clip(first[match.end():]) if match else ''


def _prints(observation: str) -> str:
  output = output_of(observation)
  if not output.strip():
    return 'prints nothing'
  error = problem(output)
  lines = output.rstrip('\n').split('\n')
  if len(lines) == 1:
    return error or 'prints 1 line'
  return f'prints {len(lines)} lines' + (f', {error}' if error else '')


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
    cwd = found.get('cwd', 'cwd ~').removeprefix('cwd ')
    here = cwd.removeprefix('~').lstrip('/') + '/'
    places = {name: max(_place(action, name), _place(action, name.removeprefix(here)))
              for name in found if name not in changed}
    named = sorted((name for name in places if name and places[name] >= 0), key=places.get)
    return f'reads {", ".join(named)}' if named else ''
  values = {value for value in _values(action) if len(value) < _CLIP}
  best, line = max(
      ((len(values & set(re.findall(r'[\w.-]+', line))), line)
       for line in found.get('', '').split('\n')), default=(0, ''), key=lambda pair: pair[0])
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
  while parts and not fits('\n'.join(text for _, text in parts)):
    parts.remove(min(parts, key=lambda part: part[0]))
  return '\n'.join(text for _, text in parts)


def names(state: str) -> list[str]:
  """Files and directories at the top of a state."""
  return [name for name in sections(state)
          if name not in ('', 'cwd') and '/' not in name and ':' not in name]


def _without_lines(note: str) -> str:
  """A note too long to keep: that the section changed must be known, or an old note would hold."""
  return note.split('\n')[0] + ' changed'


def candidates(
    action: str, observation: str, before: str | None, after: str | None,
    fits: Callable[[str], bool] = _few_words,
) -> tuple[str, str, str]:
  """Three traces of one turn: brief, medium and full; '' where there is nothing to say.

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
  changed |= {change.source for change in found if change.kind == 'moved'}
  reads = '' if before is None else _reads(action, before, changed)
  notes = [(3, note if fits(note) else _without_lines(note))
           for note in (update(before, after) if known else [])]
  if known and names(before) != names(after):
    notes.append((2, ' '.join(['now', *names(after)])))
  stays = _stays(after, changed) if known else ''
  return (
      _join(notes, fits),
      _join([(1, reads), *notes], fits),
      _join([(1, reads), (0, stays), (2, _prints(observation)), *notes], fits),
  )
