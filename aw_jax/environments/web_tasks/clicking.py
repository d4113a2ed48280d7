"""Experts of MiniWoB++ pages that are solved by clicking, hovering and dragging."""

import re
from collections.abc import Iterator

from aw_jax.environments.web_actions import text as action
from aw_jax.environments.web_tasks.page import Page


def submit(page: Page) -> str:
  """The action that ends most pages."""
  return page.click('button', 'Submit')


def click_test(page: Page) -> Iterator[str]:
  """The only button."""
  yield page.click('button')


def named_button(page: Page) -> Iterator[str]:
  """One of a few buttons."""
  (name,) = page.asked(r'(?:Click button |Click on the ")(.*?)(?:"|\.$)')
  yield page.click('button', name)


def button_sequence(page: Page) -> Iterator[str]:
  """One button, then the other."""
  yield page.click('button', 'ONE')
  yield page.click('button', 'TWO')


def button_delay(page: Page) -> Iterator[str]:
  """One button, the other after some seconds; one passes with every action."""
  (seconds,) = page.asked(r'wait (\d+) seconds')
  yield page.click('button', 'ONE')
  if seconds != '1':
    yield action('noop', 1000 * (int(seconds) - 2))
  yield page.click('button', 'TWO')


def click_link(page: Page) -> Iterator[str]:
  """A word of a text."""
  yield page.click('generic|link', page.asked(r'the link "(.*)"')[0])


def click_option(page: Page) -> Iterator[str]:
  """A radio button."""
  yield page.click('radio', page.asked(r'Select (.*) and click')[0])
  yield submit(page)


def click_checkboxes(page: Page) -> Iterator[str]:
  """Some of the checkboxes, or none."""
  names = page.asked(r'Select (.*) and click')[0].split(', ')
  for box in page.all('checkbox'):
    if box.name in names:
      yield action('click', box.number)
  yield submit(page)


def choose_list(page: Page) -> Iterator[str]:
  """One or more options of a list."""
  names = page.asked(r'Select (.*) from the')[0].split(', ')
  yield action('select_option', page.one('combobox|listbox').number,
               names if len(names) > 1 else names[0])
  yield submit(page)


def click_tab(page: Page) -> Iterator[str]:
  """A tab by its name."""
  yield page.click('tab', page.asked(r'Click on (.*)\.')[0])


def search_tabs(page: Page) -> Iterator[str]:
  """A link under one of the tabs."""
  (name,) = page.asked(r'the link "(.*)"')
  tabs = [tab.number for tab in page.all('tab')]
  for tab in tabs:
    if not page.all('generic|link', name):
      yield action('click', tab)
  yield page.click('generic|link', name)


def expand_section(page: Page) -> Iterator[str]:
  """A section, then the button in it."""
  yield page.click('tab')
  yield submit(page)


def search_sections(page: Page) -> Iterator[str]:
  """A link in one of the sections."""
  (name,) = page.asked(r'the link "(.*)"')
  sections = [tab.number for tab in page.all('tab')]
  for section in sections:
    if not page.all('generic|link', name):
      yield action('click', section)
  yield page.click('generic|link', name)


def click_dialog(page: Page) -> Iterator[str]:
  """A button of a dialog; the cross in its corner is named Close."""
  (name,) = page.asked(r'"(.*)"')
  yield page.click('button', 'Close' if name == 'x' else name)


def click_menu(page: Page) -> Iterator[str]:
  """An item at the end of a path of menus."""
  *path, last = page.asked(r'Select (.*)')[0].split('>')
  for name in path:
    yield action('hover', page.one('menuitem', name).number)
  yield page.click('menuitem', last)


def click_widget(page: Page) -> Iterator[str]:
  """A widget of a kind."""
  (kind,) = page.asked(r'Click on a "(.*)" widget')
  role = {'text': 'textbox', 'textarea': 'textbox'}.get(kind, kind)
  yield next(action('click', node.number) for node in page.all(role)
             if role != 'textbox' or ('multiline' in node.states) == (kind == 'textarea'))


def click_shades(page: Page) -> Iterator[str]:
  """Boxes in shades of a colour: its part is the greatest."""
  (colour,) = page.asked(r'shades of (\w+)')
  place = ('red', 'green', 'blue').index(colour)
  for node in page.all('generic'):
    (shade,) = [state[8:14] for state in node.states if state.startswith('color="#')]
    parts = [int(shade[i:i + 2], 16) for i in (0, 2, 4)]
    if parts[place] == max(parts):
      yield action('click', node.number)
  yield submit(page)


def navigate_tree(page: Page) -> Iterator[str]:
  """A file or folder of a tree, whose folders open when they are clicked."""
  (name,) = page.asked(r'named "(.*)"')
  opened = set()
  while True:
    target = [node for node in page.nodes if node.name == name]
    if target:
      yield action('click', page.holder(target[0]).number)
      return
    folder = next(node for node in page.all('generic') if node.name not in ('', *opened))
    opened.add(folder.name)
    yield action('click', folder.number)


def focus_text(page: Page) -> Iterator[str]:
  """One of the fields."""
  place = re.search(r'the (\d)', page.goal)
  yield action('focus', page.all('textbox')[int(place[1]) - 1 if place else 0].number)


def odd_or_even(page: Page) -> Iterator[str]:
  """Each number's button."""
  for place, number in enumerate(page.texts()):
    name = 'Odd' if int(number) % 2 else 'Even'
    yield action('click', page.all('button', name)[place].number)
  yield submit(page)


def order_food(page: Page) -> Iterator[str]:
  """Each of some dishes once, or some dishes of a kind."""
  dishes = _dishes(page)
  named = re.search(r'each item: (.*)', page.goal)
  if named:
    wanted = named[1].split(', ')
  else:
    count, kind = page.asked(r'Order (\d+) items that are (.*)')
    wanted = [name for name, (kinds, _) in dishes.items() if kind in kinds][:1] * int(count)
  for name in wanted:
    yield action('click', dishes[name][1])
  yield page.click('button', 'Order!')


def _dishes(page: Page) -> dict[str, tuple[list[str], str]]:
  """Name of a dish -> its signs, and the number of the button that orders it."""
  dishes, name, signs = {}, '', []
  for node in page.nodes:
    if node.role == 'text':
      name, signs = node.name, []
    elif node.role == 'image':
      signs.append(node.name)
    elif node.name == '+':
      dishes[name] = signs, node.number
  return dishes


def guess_number(page: Page) -> Iterator[str]:
  """A number between 0 and 9, halving what is left."""
  low, high = 0, 9
  while low <= high:
    guess = (low + high) // 2
    yield page.fill(0, str(guess))
    yield submit(page)
    low, high = (low, guess - 1) if 'lower' in page.tree else (guess + 1, high)


def generate_number(page: Page) -> Iterator[str]:
  """A number that fits, drawn as often as it takes."""
  (kind,) = page.asked(r'(less than|greater than|even|odd)')
  bound = re.search(r'than (\d+)', page.goal)
  fits = {
      'even': lambda number: number % 2 == 0, 'odd': lambda number: number % 2 == 1,
      'less than': lambda number: number < int(bound[1]),
      'greater than': lambda number: number > int(bound[1])}[kind]
  while not page.texts()[0].isdigit() or not fits(int(page.texts()[0])):
    yield page.click('button', 'Generate')
  yield submit(page)


def find_greatest(page: Page) -> Iterator[str]:
  """The card with the greatest number; they show it while they are chosen."""
  cards = [card.number for card in page.all('generic')]
  values = []
  for card in cards:
    yield action('click', card)
    values.append(int(page.texts()[0]))
  yield action('click', cards[values.index(max(values))])
  yield submit(page)


def drag_sort_numbers(page: Page) -> Iterator[str]:
  """A list of numbers put into order, the least of the rest first."""
  for place in range(len(page.all('listitem'))):
    items = page.all('listitem')
    values = [int(page.texts(item)[0]) if page.texts(item) else int(item.name) for item in items]
    least = values.index(min(values[place:]))
    if least != place:
      yield action('drag_and_drop', items[least].number, items[place].number)
  yield submit(page)


def drag_items(page: Page) -> Iterator[str]:
  """An item of a list to another place."""
  name, where = page.asked(r'Drag (\S+) (.*)\.')
  items = page.all('listitem')
  start = [page.texts(item)[0] for item in items].index(name)
  place = re.search(r'(\d+)', where)
  ends = {'up': start - 1, 'down': start + 1, 'top': 0, 'bottom': len(items) - 1}
  end = int(place[1]) - 1 if place else next(ends[word] for word in ends if word in where)
  yield action('drag_and_drop', items[start].number, items[end].number)


def social_media(page: Page) -> Iterator[str]:
  """A button of one post of a user; some are behind the three dots."""
  (user,) = page.asked(r'(@[\w.-]+)')
  (name,) = page.asked(r'"(.*)" button')
  direct = _buttons(page, user, name.lower())
  if direct:
    yield action('click', direct[0])
    return
  yield action('click', _buttons(page, user, 'more')[0])
  item = next(node for node in page.nodes if node.name in (name, f'{name} {user}'))
  yield action('click', page.holder(item).number)


def social_media_posts(page: Page) -> Iterator[str]:
  """A button of all or some posts of a user."""
  (user,) = page.asked(r'(@[\w.-]+)')
  (name,) = page.asked(r'"(.*)" button')
  count = re.search(r'on (\d+) post', page.goal)
  for number in _buttons(page, user, name.lower())[:int(count[1]) if count else None]:
    yield action('click', number)
  yield submit(page)


def _buttons(page: Page, user: str, button: str) -> list[str]:
  """The numbers of a button below each post of a user."""
  author, found = '', []
  for node in page.nodes:
    if node.role == 'text' and '@' in node.name:
      author = re.search(r'@[\w.-]+', node.name)[0]
    elif author == user and f'class="{button}"' in node.states:
      found.append(node.number)
  return found


def phone_book(page: Page) -> Iterator[str]:
  """A person's number, address or mail, on one of the pages."""
  name, what = page.asked(r'Find (\S+) in the contact book and click on their (\w+)')
  while not page.all('heading', name):
    yield page.click('link', '>')
  label = {'phone': 'Phone:', 'email': 'Email:', 'address': 'Address:'}[what]
  texts = [node.name for node in page.nodes]
  yield action('click', page.nodes[texts.index(label) + 1].number)
