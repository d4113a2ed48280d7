"""Chromium under playwright: pages of sites, what actions do to them, what is seen of them.

Time is virtual: it stands still but for the second that passes with every action, in which timers
and animations run, so that what a page shows is a function of the actions alone.
"""

import functools
import os
import time
import urllib.parse

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

from aw_jax.environments.web_browser import sites, tree
from aw_jax.environments.web_browser.worlds import WORLDS

_START = 1_700_000_000  # seconds since 1970: when every episode begins
_STEP_MS = 1000
_PATIENCE_MS = 25_000  # of real time; what takes as long is broken, and no answer depends on it
_VIEW = {'width': 1000, 'height': 700}
_FLAGS = (
    '--enable-blink-features=ComputedAccessibilityInfo', '--disable-gpu',
    '--disable-dev-shm-usage', '--renderer-process-limit=1', '--disable-site-isolation-trials',
    '--js-flags=--max-old-space-size=512')
_HERE = os.path.dirname(os.path.abspath(__file__))
_COMING_SECONDS = 5.0  # of real time, at most, for what a page has asked for to come
# Styles are computed, which asks for the images they name; what has come in is handled.
_LAY_OUT = """() => new Promise(done => {
  document.documentElement.getBoundingClientRect();
  const channel = new MessageChannel();
  channel.port1.onmessage = done;
  channel.port2.postMessage(0);
})"""
_SEE = """({last, leave, ended}) => {
  const seen = awJax.tree({last, leave, all: false});
  const all = awJax.tree({last: seen.last, leave, all: true});
  return {seen: seen.nodes, all: all.nodes, last: seen.last, ended: eval(ended)};
}"""


class RefusedError(Exception):
  """An action cannot be done; the message is what the browser answers."""


class _Session:
  """A page that an episode is played on."""

  def __init__(self, browser, page):
    self.world = WORLDS[page['site']]
    self.address = f'http://{self.world.host}{page["path"]}'
    self.context = browser.new_context(
        viewport=_VIEW, reduced_motion='reduce', accept_downloads=False, locale='en-US',
        timezone_id='UTC', service_workers='block')
    self.context.set_default_timeout(_PATIENCE_MS)
    with open(os.path.join(_HERE, 'page.js'), encoding='utf-8') as file:
      self.context.add_init_script(file.read())
    self.context.add_init_script(self.world.prepare(page['seed'], page.get('stored', {})))
    self.page = self.context.new_page()
    self.page.on('popup', lambda popup: popup.close())
    self._coming = set()  # requests without an answer yet
    self.page.on('request', lambda request: self._coming.add(request))
    for end in ('requestfinished', 'requestfailed'):
      self.page.on(end, lambda request: self._coming.discard(request))
    self.tools = self.context.new_cdp_session(self.page)
    self.tools.send('Accessibility.enable')  # keeps the tree from being made anew for every node
    self.page.clock.install(time=_START - 3600)  # it goes until it is stopped, at a later time
    self.page.clock.pause_at(_START)
    self.open()

  def open(self):
    """Goes to the first page of the episode, in its initial state."""
    self.last = 0
    self.page.goto(self.address, wait_until='load')
    self.pass_time(_STEP_MS)

  def come_home(self):
    """Goes to the episode's page, if another is open."""
    if self.page.url.split('#')[0] != self.address:
      self.page.goto(self.address, wait_until='load')
      self.pass_time(_STEP_MS)

  def pass_time(self, milliseconds):
    """Lets virtual time pass, with what it brings about."""
    for attempt in range(3):
      try:
        self.page.wait_for_load_state('load')
        self._settle()
        self.page.clock.run_for(milliseconds)
        self._settle()
        return
      except PlaywrightError:  # another page came meanwhile
        if attempt == 2 or self.page.is_closed():
          raise

  def _settle(self):
    """Waits until the page is laid out with all that it has asked for.

    An image has no size before it has come, and what has no size is not seen.
    """
    deadline = time.monotonic() + _COMING_SECONDS
    self.page.evaluate(_LAY_OUT)
    while self._coming and time.monotonic() < deadline:
      self.page.wait_for_timeout(2)
      self.page.evaluate(_LAY_OUT)
    self._coming.clear()  # what has not come by now is not waited for again

  def see(self):
    """What the page shows, and its state."""
    world = self.world
    found = self.page.evaluate(
        _SEE, {'last': self.last, 'leave': world.leave, 'ended': world.ended})
    self.last = found['last']
    return {'observation': tree.render(found['seen']), 'state': tree.render(found['all']),
            'ended': found['ended']}

  def find(self, number, how='find'):
    """Where an element is (page.js). Raises RefusedError where it cannot be used."""
    found = self.page.evaluate('([how, number]) => awJax[how](number)', [how, number])
    if 'error' in found:
      raise RefusedError(found['error'])
    return found

  def handle(self, number):
    """The element itself, which was found."""
    return self.page.evaluate_handle('number => awJax.element(number)', number).as_element()


def _press(page, keys):
  try:
    page.keyboard.press(keys)
  except PlaywrightError as error:
    if 'Unknown key' not in str(error):
      raise
    raise RefusedError(f'there is no key {keys!r}') from None


class _Actions:
  """What each action does. Raises RefusedError where it cannot be done."""

  def __init__(self, session):
    self._session, self._page = session, session.page

  def _point(self, bid):
    """Moves the mouse to an element; what it looks like under the mouse may have to load."""
    place = self._session.find(bid, 'reach')
    self._page.mouse.move(place['x'], place['y'])
    for _ in range(200):
      try:
        return self._session.find(bid, 'reach')
      except RefusedError:
        self._page.wait_for_timeout(10)
    return place

  def _click(self, bid, button, modifiers, count):
    place = self._point(bid)
    for key in modifiers:
      self._page.keyboard.down(key)
    self._page.mouse.click(place['x'], place['y'], button=button, click_count=count)
    for key in reversed(modifiers):
      self._page.keyboard.up(key)

  def click(self, bid, button, modifiers):
    self._click(bid, button, modifiers, 1)

  def dblclick(self, bid, button, modifiers):
    self._click(bid, button, modifiers, 2)

  def hover(self, bid):
    self._point(bid)

  def focus(self, bid):
    self._session.find(bid)
    self._session.handle(bid).focus()

  def check(self, bid):
    if not self._session.find(bid, 'reach')['checked']:
      self._click(bid, 'left', [], 1)

  def uncheck(self, bid):
    if self._session.find(bid, 'reach')['checked']:
      self._click(bid, 'left', [], 1)

  def fill(self, bid, value):
    found = self._session.find(bid)
    if not found['typed']:
      raise RefusedError(f'element {bid} is no field')
    if found['fixed']:
      raise RefusedError(f'element {bid} is read only')
    try:
      self._session.handle(bid).fill(value)
    except PlaywrightError as error:
      if 'Malformed value' not in str(error) and 'Cannot type text' not in str(error):
        raise
      raise RefusedError(f'element {bid} does not take this value') from None

  def clear(self, bid):
    self.fill(bid, '')

  def press(self, bid, key_comb):
    self.focus(bid)
    _press(self._page, key_comb)

  def select_option(self, bid, options):
    if not self._session.find(bid)['list']:
      raise RefusedError(f'element {bid} is no list of options')
    known = self._session.handle(bid).evaluate(
        "list => Array.from(list.options, o => o.disabled ? [] : "
        "[o.label.replace(/\\s+/g, ' ').trim(), o.value])")
    places = []
    for option in options:
      place = next((i for i, names in enumerate(known) if option in names), None)
      if place is None:
        raise RefusedError(f'element {bid} has no option {option!r}')
      places.append(place)
    self._session.handle(bid).select_option(index=places)

  def drag_and_drop(self, from_bid, to_bid):
    start, end = (self._session.find(bid, 'reach') for bid in (from_bid, to_bid))
    beyond = 3 if end['y'] > start['y'] else -3  # a list makes room once its middle is passed
    self._page.mouse.move(start['x'], start['y'])
    self._page.mouse.down()
    self._page.mouse.move(end['x'], end['y'] + beyond, steps=10)
    self._page.mouse.up()

  def keyboard_press(self, key):
    _press(self._page, key)

  def keyboard_type(self, text):
    self._page.keyboard.type(text)

  def scroll(self, delta_x, delta_y):
    self._page.mouse.wheel(delta_x, delta_y)

  def noop(self, wait_ms):
    self._session.pass_time(wait_ms)

  def _visit(self, go):
    """Goes to another page. One that cannot be had shows itself as such."""
    try:
      go(wait_until='load')
    except PlaywrightError as error:
      if 'Download is starting' in str(error):
        raise RefusedError('this address is a file, not a page') from None
      if 'net::ERR' not in str(error):
        raise

  def goto(self, url):
    try:
      parts = urllib.parse.urlsplit(url)
    except ValueError:
      raise RefusedError('this is no address') from None
    if parts.scheme != 'http':
      raise RefusedError('an address begins with http://')
    if parts.netloc not in {world.host for world in WORLDS.values()}:
      raise RefusedError(f'the address {parts.netloc} does not answer')
    self._visit(functools.partial(self._page.goto, url))

  def _travel(self, by):
    history = self._session.tools.send('Page.getNavigationHistory')
    place = history['currentIndex'] + by
    if not 1 <= place < len(history['entries']):  # the first is the empty page of the beginning
      raise RefusedError('there is no such page in the history')
    self._visit(self._page.go_back if by < 0 else self._page.go_forward)

  def go_back(self):
    self._travel(-1)

  def go_forward(self):
    self._travel(1)


class Browser:
  """What a request can ask for; pages are named by sessions."""

  def __init__(self, program, roots):
    self._playwright = sync_playwright().start()
    self._browser = self._playwright.chromium.launch(
        executable_path=program, chromium_sandbox=False,
        args=[*_FLAGS, f'--host-resolver-rules={sites.serve(roots)}'])
    self._sessions = {}

  def start(self, session, page):
    """Opens a page in its initial state: 'goal' (what the site asks for, or ''), and `see`."""
    self.end(session)
    self._sessions[session] = made = _Session(self._browser, page)
    return made.see() | {'goal': made.page.evaluate(made.world.goal)}

  def act(self, session, name, arguments):
    """Does an action: 'observation', 'state', 'ended'."""
    made = self._sessions[session]
    try:
      getattr(_Actions(made), name)(**arguments)
    except RefusedError as error:
      return made.see() | {'observation': f'Error: {error}'}
    made.pass_time(_STEP_MS)
    return made.see()

  def verify(self, session, command):
    """What a hidden check says."""
    made = self._sessions[session]
    made.come_home()
    return {'answer': made.page.evaluate(made.world.checks[command])}

  def end(self, session):
    """Closes a page, if it is open."""
    made = self._sessions.pop(session, None)
    if made is not None:
      made.context.close()
    return {}
