"""Experts of MiniWoB++ pages that are solved by entering something into fields."""

import datetime
import re
from collections.abc import Iterator

from aw_jax.environments.web_actions import text as action
from aw_jax.environments.web_tasks.clicking import submit
from aw_jax.environments.web_tasks.page import Page

_CHANGES = {'upper': str.upper, 'lower': str.lower}


def enter_text(page: Page) -> Iterator[str]:
  """A text of the goal."""
  yield page.fill(0, page.asked(r'Enter "(.*)" into')[0])
  yield submit(page)


def enter_text_case(page: Page) -> Iterator[str]:
  """A text of the goal in capital or small letters."""
  word, case = page.asked(r'Type "(.*)" in all (\w+) case')
  yield page.fill(0, _CHANGES[case](word))
  yield submit(page)


def enter_password(page: Page) -> Iterator[str]:
  """A password, twice."""
  (password,) = page.asked(r'password "(.*)" into')
  yield page.fill(0, password)
  yield page.fill(1, password)
  yield submit(page)


def enter_date(page: Page) -> Iterator[str]:
  """A date, as a field of dates takes it."""
  month, day, year = page.asked(r'Enter (\d+)/(\d+)/(\d+)')
  yield page.fill(0, f'{year}-{month}-{day}')
  yield submit(page)


def enter_time(page: Page) -> Iterator[str]:
  """A time, as a field of times takes it."""
  time = datetime.datetime.strptime(page.asked(r'Enter (.*) as the time')[0], '%I:%M %p')
  yield page.fill(0, f'{time:%H:%M}')
  yield submit(page)


def choose_date(page: Page) -> Iterator[str]:
  """A day of a calendar that shows one month."""
  date = datetime.datetime.strptime(page.asked(r'Select (\S+) as the date')[0], '%m/%d/%Y')
  yield page.click('textbox')
  while f'{date:%B %Y}' not in page.texts():
    yield page.click('link', 'Prev')
  yield page.click('link', str(date.day))
  yield submit(page)


def login(page: Page) -> Iterator[str]:
  """A name and a password; a dialog that may come in between is closed."""
  user, password = page.asked(r'username "(.*)" and the password "(.*)" into')
  (button,) = page.all('button')
  for place, value in enumerate((user, password)):
    yield page.fill(place, value)
    if page.all('button', 'Cancel'):
      yield page.click('button', 'Cancel')
      yield page.fill(place, value)
  yield action('click', button.number)


def search_movies(page: Page) -> Iterator[str]:
  """Three fields whose order and labels vary."""
  genre, director, year = page.asked(r'Search for (.*) movies directed by (.*) from year (\d+)')
  labels = [node.name.lower() for node in page.nodes
            if re.search('genre|director|year|date', node.name.lower())]
  for place, label in enumerate(labels):  # before or behind their fields, in the same order
    yield page.fill(place, genre if 'genre' in label else director if 'director' in label else year)
  yield action('click', page.all('button|generic')[-1].number)


def read_table(page: Page) -> Iterator[str]:
  """The value beside a label of a table."""
  yield page.fill(0, _table(page)[page.asked(r'the value of (.*) into')[0]])
  yield submit(page)


def read_table_form(page: Page) -> Iterator[str]:
  """The values beside the labels of a form."""
  table = _table(page)
  for place, label in enumerate(page.texts()):
    yield page.fill(place, table[label.rstrip(':')])
  yield submit(page)


def _table(page: Page) -> dict[str, str]:
  cells = [node.name for node in page.all('cell')]
  return dict(zip(cells[::2], cells[1::2], strict=True))


def find_word(page: Page) -> Iterator[str]:
  """A word of a text by its place."""
  (place,) = page.asked(r'the (\d+)')
  yield page.fill(0, re.sub(r'\W', '', page.texts()[0].split()[int(place) - 1]))
  yield submit(page)


def copy_paste(page: Page) -> Iterator[str]:
  """The text of one field into another."""
  place = re.search(r'the (\d)', page.goal)
  texts = [node for node in page.all('textbox') if 'multiline' in node.states]
  (field,) = [node for node in page.all('textbox') if 'multiline' not in node.states]
  yield action('fill', field.number, texts[int(place[1]) - 1 if place else 0].value)
  yield submit(page)


def text_transform(page: Page) -> Iterator[str]:
  """A text that the page shows."""
  yield page.fill(0, page.texts()[0])
  yield submit(page)


def scroll_text(page: Page) -> Iterator[str]:
  """The last word of a long text: its end is seen from the last line on."""
  yield page.fill(1, re.findall(r'\w+', page.all('textbox')[0].value)[-1])
  yield submit(page)


def simple_arithmetic(page: Page) -> Iterator[str]:
  """A sum, a difference or a product."""
  one, sign, other = re.search(r'(-?\d+) ?([-+x]) ?(-?\d+)', page.texts()[0]).groups()
  yield page.fill(0, str(_calculated(int(one), sign, int(other))))
  yield submit(page)


def _calculated(one: int, sign: str, other: int) -> int:
  return {'+': one + other, '-': one - other, 'x': one * other}[sign]


def simple_algebra(page: Page) -> Iterator[str]:
  """The unknown of `x + 2 = 43` or `2 + x = 43`."""
  left, sign, right, result = re.match(
      r'(\S+) ([-+]) (\S+) = (-?\d+)', page.texts()[0]).groups()
  if left.lstrip('-').isdigit():  # number sign x
    value = int(result) - int(left)
    value = value if sign == '+' else -value
  else:
    value = int(result) - int(right) if sign == '+' else int(result) + int(right)
  yield page.fill(0, str(value))
  yield submit(page)


def form_slider(page: Page) -> Iterator[str]:
  """A slider, then one of three checkboxes."""
  value, place = page.asked(r'Select (-?\d+) with the slider, click the (\d)')
  yield from _slide(page, 0, int(value))
  yield action('click', page.all('checkbox')[int(place) - 1].number)
  yield submit(page)


def form_radio(page: Page) -> Iterator[str]:
  """One of three radio buttons, and a number into one of three fields."""
  radio, value, field = page.asked(r'the (\d)\w+ radio .* number "(-?\d+)" into the (\d)')
  yield action('click', page.all('radio')[int(radio) - 1].number)
  yield page.fill(int(field) - 1, value)
  yield submit(page)


def form_list(page: Page) -> Iterator[str]:
  """An option of a list, then a button."""
  option, button = page.asked(r'Choose (.*) from the dropdown, .* labeled "(.*)"')
  yield action('select_option', page.one('combobox').number, option)
  yield page.click('button', button)


def use_slider(page: Page) -> Iterator[str]:
  """A slider."""
  yield from _slide(page, 0, int(page.asked(r'Select (-?\d+) with')[0]))
  yield submit(page)


def use_sliders(page: Page) -> Iterator[str]:
  """Three sliders."""
  for place, value in enumerate(page.asked(r'combination \[(.*)\]')[0].split(',')):
    yield from _slide(page, place, int(value))
  yield submit(page)


def _slide(page: Page, place: int, target: int) -> Iterator[str]:
  """Moves slider number `place`, whose value is shown behind it, by the arrow keys."""
  handle = [node.number for node in page.all('generic|slider')
            if 'class="ui-slider-handle"' in node.states][place]
  while (value := int(page.texts()[place])) != target:
    yield action('press', handle, 'ArrowRight' if value < target else 'ArrowLeft')


def use_spinner(page: Page) -> Iterator[str]:
  """A field with arrows, filled."""
  yield page.fill(0, page.asked(r'Select (-?\d+) with')[0])
  yield submit(page)


def use_autocomplete(page: Page) -> Iterator[str]:
  """An item that begins, and may have to end, with given letters."""
  start = page.asked(r'starts with "(.*?)"')[0]
  end = re.search(r'ends with "(.*?)"', page.goal)
  yield page.click('textbox')
  yield action('keyboard_type', start)
  item = next(node for node in page.nodes if node.role != 'textbox'
              and node.name.startswith(start) and node.name.endswith(end[1] if end else ''))
  yield action('click', page.holder(item).number)
  yield submit(page)


def search_engine(page: Page) -> Iterator[str]:
  """A result of a search by its place, three on a page."""
  word, place = page.asked(r'enter "(.*)" and press .* the (\d+)')
  yield page.fill(0, word)
  yield page.click('button', 'Search')
  which = int(place) - 1
  if which >= 3:
    yield page.click('link', str(which // 3 + 1))
  results = [node for node in page.all('link') if not re.fullmatch(r'\d+|[<>]', node.name)]
  yield action('click', results[which % 3].number)
