"""The screen of an Android device: the XML of `uiautomator dump` as numbered lines of text.

    app com.android.settings, screen .Settings
    [1] RecyclerView id/list [0,200][1080,1920] scrollable
      [2] LinearLayout [0,260][1080,400] clickable
        [3] TextView "Wi-Fi" id/title [40,260][400,340]
        [4] Switch id/switch_widget [920,260][1040,340] clickable checked

The XML is made by whatever app is in front, so it is read as a stranger's: no DOCTYPE and with it
no entities, limits on size, depth and count, and nothing in it can break out of its line.
"""

import dataclasses
import json
import re
from xml.parsers import expat

MAX_BYTES = 2 << 20
MAX_DEPTH = 128
MAX_ELEMENTS = 5000
MAX_LABEL_CHARACTERS = 120
MAX_TEXT_CHARACTERS = 6000
_BOUNDS = re.compile(r'\[(-?\d{1,6}),(-?\d{1,6})\]\[(-?\d{1,6}),(-?\d{1,6})\]', re.ASCII)
_FLAGS = ('clickable', 'long-clickable', 'scrollable', 'focused', 'selected', 'password')
# What nobody can predict: all that the system shows (time, battery, notifications), and clocks.
_SYSTEM = 'com.android.systemui'
_CLOCK = re.compile(r'(^|[/_])(clock|date|battery)(_|$)')


class ScreenError(ValueError):
  """The XML is no hierarchy of a screen; the message says what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Element:
  """What can be read or acted on.

  Attributes:
    number: names it; an element keeps its number for the whole episode.
    labels: its text and its content description, '' where it has none.
    bounds: left, top, right, bottom in pixels.
    line: what is shown of it.
    volatile: the (start, end) span of `line` that nobody can predict, or None.
  """

  number: int
  labels: tuple[str, str]
  bounds: tuple[int, int, int, int]
  line: str
  volatile: tuple[int, int] | None

  @property
  def center(self) -> tuple[int, int]:
    """Where a tap hits it: x, y in pixels."""
    left, top, right, bottom = self.bounds
    return (left + right) // 2, (top + bottom) // 2

  def is_labelled(self, label: str) -> bool:
    """Whether its text or description is `label`; case, dashes and spacing do not count."""
    return bool(_folded(label)) and _folded(label) in map(_folded, self.labels)


@dataclasses.dataclass(frozen=True)
class Screen:
  """A screen that was read.

  Attributes:
    elements: the shown elements, each after the one that holds it.
    sideways: whether width and height of the device are exchanged.
    text: what is shown of it.
    volatile: the (start, end) spans of `text` that nobody can predict.
  """

  elements: tuple[Element, ...]
  sideways: bool
  text: str
  volatile: tuple[tuple[int, int], ...]


def read(xml: bytes, activity: str, numbers: dict) -> Screen:
  """Reads a dump.

  An element is shown where it has a text or a description or can be acted on; what it holds moves
  up where it is not. It is known again by its place: the activity, and class, resource id and order
  among its like all the way down. So a switch that was turned has the number it had, another screen
  has other numbers, and in a list that was scrolled numbers stay with the places of the rows.

  Args:
    xml: the bytes of a `uiautomator dump`.
    activity: 'package/activity' in front, or '' where that is unknown.
    numbers: what is known of an episode's earlier screens, {} at its start; new ones are added.
  Raises:
    ScreenError: for what is no whole hierarchy, or larger than the limits.
  """
  if len(xml) > MAX_BYTES:
    raise ScreenError(f'it has more than {MAX_BYTES} bytes')
  reader = _Reader(activity, numbers)
  parser = expat.ParserCreate('utf-8')
  parser.StartDoctypeDeclHandler = reader.doctype
  parser.StartElementHandler = reader.start
  parser.EndElementHandler = reader.end
  try:
    parser.Parse(xml, True)
  except expat.ExpatError as error:
    raise ScreenError(f'its XML is torn: {error}') from None
  package, _, name = activity.partition('/')
  text, spans = f'app {package}, screen {name}' if name else 'app unknown', []
  for place, element in enumerate(reader.elements):
    if len(text) + len(element.line) >= MAX_TEXT_CHARACTERS:
      text += f'\n[{len(reader.elements) - place} more elements]'
      break
    if element.volatile:
      spans.append(tuple(len(text) + 1 + end for end in element.volatile))
    text += f'\n{element.line}'
  return Screen(tuple(reader.elements), reader.sideways, text, tuple(spans))


class _Reader:
  """What expat calls."""

  def __init__(self, activity: str, numbers: dict):
    self.elements: list[Element] = []
    self.sideways = False
    self._activity, self._numbers = activity, numbers
    self._count = 0
    # Of each element that is open: its key, how many of each kind it holds, its children's depth.
    self._open: list[tuple[tuple, dict, int]] = []

  def doctype(self, *declaration) -> None:
    raise ScreenError('its XML has a DOCTYPE, which no screen has')

  def start(self, tag: str, attributes: dict[str, str]) -> None:
    if not self._open:
      if tag != 'hierarchy':
        raise ScreenError('its XML is no hierarchy')
      self.sideways = attributes.get('rotation') in ('1', '3')
      self._open.append(((self._activity,), {}, 0))
      return
    self._count += 1
    if self._count > MAX_ELEMENTS or len(self._open) > MAX_DEPTH:
      raise ScreenError(f'it has over {MAX_ELEMENTS} elements or is over {MAX_DEPTH} deep')
    above, counts, depth = self._open[-1]
    kind = _name(attributes.get('class', '').rpartition('.')[2]) or 'View'
    resource = _name(attributes.get('resource-id', '').rpartition(':')[2])
    order = counts[kind, resource] = counts.get((kind, resource), 0) + 1
    key = (above, kind, resource, order)
    self._open.append((key, {}, depth + self._show(key, depth, attributes)))

  def end(self, tag: str) -> None:
    self._open.pop()

  def _show(self, key: tuple, depth: int, attributes: dict[str, str]) -> bool:
    """Adds an element where it is to be shown; returns whether it is."""
    match = _BOUNDS.fullmatch(attributes.get('bounds', ''))
    left, top, right, bottom = bounds = tuple(map(int, match.groups())) if match else (0,) * 4
    text, description = (_plain(attributes.get(name, '')) for name in ('text', 'content-desc'))
    flags = [flag for flag in _FLAGS if attributes.get(flag) == 'true']
    if attributes.get('checkable') == 'true':
      flags.append('checked' if attributes.get('checked') == 'true' else 'unchecked')
    if left >= right or top >= bottom or not (text or description or flags):
      return False
    if attributes.get('enabled') == 'false':
      flags.append('disabled')
    _, kind, resource, _ = key
    number = self._numbers.setdefault(key, len(self._numbers) + 1)
    head = f'{"  " * depth}[{number}] {kind}'
    label = f' {_quoted(text)}' if text else ''
    if description not in ('', text):
      label += f' ({_quoted(description)})'
    place = f'[{left},{top}][{right},{bottom}]'
    line = ' '.join((head + label, *([resource] if resource else []), place, *flags))
    volatile = label and (attributes.get('package') == _SYSTEM or _CLOCK.search(resource))
    self.elements.append(Element(
        number, (text, description), bounds, line,
        (len(head) + 1, len(head) + len(label)) if volatile else None))
    return True


def _quoted(text: str) -> str:
  """In quotes, on one line, cut."""
  cut = text if len(text) <= MAX_LABEL_CHARACTERS else text[:MAX_LABEL_CHARACTERS - 1] + '…'
  return json.dumps(cut, ensure_ascii=False)


def _plain(text: str) -> str:
  """Without what cannot be printed; every space is a plain one, line breaks are kept."""
  spaced = (' ' if c.isspace() and c != '\n' else c for c in text)
  return ''.join(c for c in spaced if c.isprintable() or c == '\n').strip()


def _name(text: str) -> str:
  return re.sub('[^A-Za-z0-9_./$-]', '?', text)[:80]


def _folded(label: str) -> str:
  return re.sub('[\N{HYPHEN}-\N{EM DASH}]', '-', ' '.join(label.split()).casefold())
