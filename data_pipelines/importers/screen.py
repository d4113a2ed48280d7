"""What a terminal shows of a stream of bytes meant for it: plain lines, as a reader sees them.

Colours and titles go, carriage returns and cursor moves write over what was there, and a line that
the terminal wrapped at its width is one line again. Unlike a real screen this one scrolls without
losing anything: what was cleared away stays above as text.
"""

import re
import unicodedata

# CSI, then strings ended by BEL or ST (titles, links, device control), then all other escapes. A
# string or sequence that the stream cuts off ends with it.
_ESCAPE = re.compile(
    '\x1b\\[(?P<arguments>[0-?]*)[ -/]*(?P<final>[@-~])?'
    '|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?'
    '|\x1b[ -/]*[0-~]?')
_CONTROL = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]')
_SURROGATE = re.compile('[\ud800-\udfff]')
_TAB = 8
_ALTERNATE = {'47', '1047', '1049'}
_MAX_STEP = 10_000  # what one escape may move or erase; a corrupt count asks for billions
_WIDE_PLACE = ''  # the second cell of a wide character


def plain(text: str) -> str:
  """The lines that a terminal of any width would show of `text`, without trailing spaces.

  A text without control characters comes back as it is.
  """
  text = _SURROGATE.sub('\N{REPLACEMENT CHARACTER}', text.replace('\r\n', '\n'))
  if not _CONTROL.search(text):
    return text
  screen = Screen(width=None)
  screen.write(text)
  return '\n'.join(line for _, line in screen.lines())


class Screen:
  """A terminal of a width and height whose lines are kept for ever.

  Attributes:
    row: the line of the cursor, of all lines there ever were.
    full_screen_rows: lines at which a program took the whole screen (the alternate one); what it
      drew there is not kept.
  """

  def __init__(self, width: int | None = 80, height: int = 24):
    """An empty screen; a width of None never wraps."""
    self._width, self._height = width, height
    self._cells: list[list[str]] = [[]]
    self._continued: set[int] = set()  # rows that go on from the one above
    self._column = 0
    self._saved = (0, 0)
    self._top = 0  # at least this far down begins the visible part
    self._alternate = False
    self._unfinished = ''  # an escape that the next write completes
    self.row = 0
    self.full_screen_rows: list[int] = []

  def resize(self, width: int, height: int) -> None:
    """Another size from now on; lines that are there stay as they are."""
    self._width, self._height = width, height

  def write(self, text: str) -> None:
    """Takes in a part of the stream; an escape may be cut off at its end."""
    text = self._unfinished + _SURROGATE.sub('\N{REPLACEMENT CHARACTER}', text)
    self._unfinished = ''
    start = text.rfind('\x1b')
    if start >= 0 and not _is_whole(text[start:]):
      text, self._unfinished = text[:start], text[start:]
    position = 0
    for match in _ESCAPE.finditer(text):
      self._put_all(text[position:match.start()])
      if match['final']:
        self._escape(match['arguments'], match['final'])
      position = match.end()
    self._put_all(text[position:])

  def lines(self) -> list[tuple[int, str]]:
    """(row, text) of all lines, wrapped ones joined, without spaces at their ends."""
    found: list[tuple[int, str]] = []
    for row, cells in enumerate(self._cells):
      if row in self._continued and found:
        first, text = found.pop()
        found.append((first, text + ''.join(cells)))
      else:
        found.append((row, ''.join(cells)))
    return [(row, text.rstrip()) for row, text in found]

  def line_start(self) -> int:
    """The row in which the (wrapped) line of the cursor begins."""
    row = self.row
    while row in self._continued:
      row -= 1
    return row

  def text_before_cursor(self) -> str:
    """The (wrapped) line of the cursor up to the cursor, spaces included."""
    first = self.line_start()
    cells = [cell for row in range(first, self.row)
             for cell in self._cells[row]]
    return ''.join(cells + self._cells[self.row][:self._column])

  def _put_all(self, text: str) -> None:
    for character in '' if self._alternate else text:
      if character >= ' ' and not '\x7f' <= character <= '\x9f':
        self._put(character)
      elif character == '\n':
        self._move(self.row + 1, self._column if self._width else 0)
      elif character == '\r':
        self._column = 0
      elif character == '\b':
        self._column = max(0, self._column - 1)
      elif character == '\t':
        self._column += _TAB - self._column % _TAB
        if self._width:
          self._column = min(self._column, self._width - 1)

  def _put(self, character: str) -> None:
    if unicodedata.combining(character):
      if self._column and len(self._cells[self.row]) >= self._column:
        self._cells[self.row][self._column - 1] += character
      return
    wide = unicodedata.east_asian_width(character) in 'WF'
    if self._width and self._column + wide >= self._width and self._column:
      self._move(self.row + 1, 0)
      self._continued.add(self.row)
    cells = self._cells[self.row]
    end = self._column + 1 + wide
    cells += [' '] * (end - len(cells))
    cells[self._column:end] = [character] + [_WIDE_PLACE] * wide
    self._column = end

  def _move(self, row: int, column: int) -> None:
    self.row, self._column = max(row, 0), max(column, 0)
    while len(self._cells) <= self.row:
      self._cells.append([])

  def _screen_top(self) -> int:
    return max(self._top, len(self._cells) - self._height)

  def _escape(self, arguments: str, final: str) -> None:
    if arguments[:1] == '?' and final in 'hl' and _ALTERNATE & set(arguments[1:].split(';')):
      if final == 'h' and not self._alternate:
        self.full_screen_rows.append(self.row)
      self._alternate = final == 'h'
    elif not self._alternate and arguments[:1] not in ('?', '>', '<', '='):
      numbers = [min(int(number or 0), _MAX_STEP) if number.isdecimal() or not number else 0
                 for number in arguments.split(';')]
      self._control(numbers, final)

  def _control(self, numbers: list[int], final: str) -> None:
    count = max(numbers[0], 1)
    column = self._column
    if final in 'AF':
      self._move(max(self.row - count, self._screen_top()), 0 if final == 'F' else column)
    elif final in 'BE':
      last = self._screen_top() + self._height - 1
      self._move(min(self.row + count, max(last, self.row)), 0 if final == 'E' else column)
    elif final == 'C':
      limit = self._width - 1 if self._width else _MAX_STEP
      self._column = min(column + count, max(limit, column))
    elif final == 'D':
      self._column = max(0, column - count)
    elif final in 'G`':
      self._column = count - 1
    elif final == 'd':
      self._move(self._screen_top() + min(count, self._height) - 1, column)
    elif final in 'Hf':
      across = max(numbers[1] if len(numbers) > 1 else 1, 1)
      self._move(self._screen_top() + min(count, self._height) - 1, across - 1)
    elif final == 's':
      self._saved = (self.row, column)
    elif final == 'u':
      self._move(*self._saved)
    elif final == 'J':
      self._erase_screen(numbers[0])
    else:
      self._edit_line(numbers[0], final)

  def _erase_screen(self, part: int) -> None:
    down, column = self.row - self._screen_top(), self._column
    if part in (2, 3) or (part == 0 and down == 0 and column == 0):
      # Cleared: what was shown stays above as text, and the screen begins below it.
      while self._cells and not self._cells[-1]:
        self._cells.pop()
      self._continued = {row for row in self._continued if row < len(self._cells)}
      self._top = len(self._cells)
      self._move(self._top + max(down, 0), column)
    elif part == 0:
      del self._cells[self.row][column:]
      for row in range(self.row + 1, len(self._cells)):
        self._cells[row] = []
        self._continued.discard(row)

  def _edit_line(self, number: int, final: str) -> None:
    cells, column = self._cells[self.row], self._column
    count = min(max(number, 1), _MAX_STEP)
    if final == 'K':
      if number in (0, 2):
        del cells[column:]
      if number in (1, 2):
        cells[:column + 1] = [' '] * min(column + 1, len(cells))
    elif final == 'P':
      del cells[column:column + count]
    elif final == '@':
      if column < len(cells):
        cells[column:column] = [' '] * count
    elif final == 'X':
      cells[column:column + count] = [' '] * len(cells[column:column + count])


def _is_whole(text: str) -> bool:
  """Whether a text that begins with an escape has all of it, or is too long to wait for more."""
  match = _ESCAPE.match(text)
  if match.end() < len(text) or len(text) > _MAX_STEP:
    return True
  kind = text[1:2]
  if kind == '[':
    return match['final'] is not None
  if kind and kind in ']PX^_':
    return text.endswith(('\x07', '\x1b\\'))
  return kind != '' and '0' <= text[-1] <= '~'
