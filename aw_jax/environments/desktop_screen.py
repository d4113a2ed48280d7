"""The screen of a desktop as numbered lines of text, from what AT-SPI says of its windows.

    [1] frame "*~/notes.txt - Mousepad" (active)
      [2] menu "File"
      [3] menu "Edit"
      [4] text text="milk\\n" cursor=4 (focused, editable)

Windows come one after another; of those that are not in front there is the title alone.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_NAME_CHARACTERS = 120
MAX_TEXT_CHARACTERS = 1500
MAX_SCREEN_CHARACTERS = 8000
EMPTY = 'desktop (empty)'  # no window is left
# What only holds others: shown where it has a name, or never.
_HOLDERS = frozenset((
    'page tab', 'table', 'tree table', 'list', 'table cell', 'icon', 'image', 'label', 'status bar',
    'window', 'unknown', 'grouping', 'section', 'table column header', 'menu', 'menu item',
    'tool bar', 'menu bar'))
_UNSHOWN = frozenset((
    'filler', 'panel', 'scroll pane', 'split pane', 'viewport', 'page tab list', 'layered pane',
    'list box', 'list item', 'root pane', 'separator'))
_WINDOWS = ('frame', 'dialog', 'alert', 'file chooser', 'color chooser')
_TITLE_BAR = 10  # pixels from the upper edge of a window to the middle of its title bar
# What nobody can predict: the time of day, with the date where both are given.
_CLOCK = re.compile('\\b(?:\\d\\d/\\d\\d/\\d\\d )?\\d{1,2}\u200e?[:\N{RATIO}]\u200e?\\d\\d\\b')


@dataclasses.dataclass(frozen=True)
class Element:
  """What can be read or acted on.

  Attributes:
    number: names it; an element keeps its number for the whole episode.
    label: its name, '' where it has none.
    place: where the mouse acts on it, x and y in pixels; a window's is on its title bar.
    line: what is shown of it.
    volatile: (start, end) spans of `line` that nobody can predict.
    role: what AT-SPI calls it.
    text: what stands in it.
  """

  number: int
  label: str
  place: tuple[int, int]
  line: str
  volatile: tuple[tuple[int, int], ...]
  role: str
  text: str


@dataclasses.dataclass(frozen=True)
class Screen:
  """A screen that was read.

  Attributes:
    elements: the shown elements, each after the one that holds it.
    text: what is shown of them.
    volatile: the (start, end) spans of `text` that nobody can predict.
  """

  elements: tuple[Element, ...]
  text: str
  volatile: tuple[tuple[int, int], ...]


def read(nodes: Sequence[Sequence[Any]], numbers: dict) -> Screen:
  """Reads what desktop_session/accessibility.py gives.

  An element is shown where it has a name or can be acted on; what it holds moves up where it is
  not. It is known again by its place: role, name and order among its like all the way down.

  Args:
    nodes: the nodes, each after the one that holds it.
    numbers: what is known of an episode's earlier screens, {} at its start; new ones are added.
  """
  elements: list[Element] = []
  open_: list[tuple[tuple, dict, int]] = [((), {}, 0)]  # key, how many of a kind, children's depth
  for depth, role, name, text, marks, box, selection in nodes:
    del open_[depth + 1:]
    above, counts, indent = open_[-1]
    name = _plain(name)
    kind = (role, '' if depth == 0 else name)  # a title may change
    order = counts[kind] = counts.get(kind, 0) + 1
    key = (above, *kind, order)
    shown = (role not in _UNSHOWN and bool(name or role not in _HOLDERS)
             and box[2] > 0 and box[3] > 0)
    open_.append((key, {}, indent + shown))
    if shown:
      number = numbers.setdefault(key, len(numbers) + 1)
      elements.append(_element(number, indent, role, name, text, marks, box, selection))
  lines, spans, length = [], [], 0
  for place, element in enumerate(elements):
    if length + len(element.line) > MAX_SCREEN_CHARACTERS:
      lines.append(f'[{len(elements) - place} more elements]')
      break
    spans += [(length + start, length + end) for start, end in element.volatile]
    lines.append(element.line)
    length += len(element.line) + 1
  return Screen(tuple(elements), '\n'.join(lines) or EMPTY, tuple(spans))


def state(screen: Screen, files: Mapping[str, str | None]) -> str:
  """The state as text: the screen, then files and folders below home by their paths."""
  lines = [screen.text]
  for path, text in sorted(files.items()):
    lines.append(f'folder {_quoted(path)}' if text is None else
                 f'file {_quoted(path)} text={_cut(text, MAX_TEXT_CHARACTERS)}')
  return '\n'.join(lines)


def _element(
    number: int, indent: int, role: str, name: str, text: str, marks: Sequence[str],
    box: Sequence[int], selection: Sequence[int] | None) -> Element:
  left, top, width, height = box
  line = f'{"  " * indent}[{number}] {role.replace(" ", "-")}'
  if name:
    line += f' {_quoted(name)}'
  if text and _plain(text) != name or 'editable' in marks:
    line += f' text={_cut(text, MAX_TEXT_CHARACTERS)}'
  if selection:
    start, end = selection
    line += f' cursor={start}' if start == end else f' marked={_quoted(text[start:end])}'
  if marks:
    line += f' ({", ".join(marks)})'
  is_window = role in _WINDOWS and indent == 0
  place = left + width // 2, top + (_TITLE_BAR if is_window else height // 2)
  volatile = () if 'editable' in marks else tuple(m.span() for m in _CLOCK.finditer(line))
  return Element(number, name, place, line, volatile, role, text)


def _quoted(text: str) -> str:
  return _cut(text, MAX_NAME_CHARACTERS)


def _cut(text: str, limit: int) -> str:
  """In quotes, on one line, cut."""
  cut = text if len(text) <= limit else text[:limit - 1] + '…'
  return json.dumps(cut, ensure_ascii=False)


def _plain(text: str) -> str:
  """Without what cannot be printed; every space is a plain one, none at the ends."""
  return ' '.join(''.join(c if c.isprintable() else ' ' for c in text).split())
