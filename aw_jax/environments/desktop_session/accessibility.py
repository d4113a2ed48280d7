"""Reads what applications show through AT-SPI: a list of nodes, hidden subtrees left out.

A node is [depth, role, name, text, marks, place, selection]: `marks` are states worth a word,
`place` is [x, y, width, height] in pixels of the screen, `selection` [start, end] of the text that
has the focus (equal ends are the cursor), else None.

The bus is asked directly, as at-spi2-core's XML describes it: libatspi handles events of the
applications while it waits for an answer, and can then wait for ever.
"""

import contextlib

MAX_NODES = 1500
_CHILDREN = 400  # of one node
_CALL_MS = 3000
_NOWHERE = -(2 ** 31)  # where what is not on the screen is said to be
# Numbers of states, as the protocol has them.
_ACTIVE, _CHECKED, _EDITABLE, _EXPANDED, _FOCUSED = 1, 4, 7, 10, 12
_SELECTED, _SENSITIVE, _SHOWING = 23, 24, 25
_MARKS = {'active': _ACTIVE, 'focused': _FOCUSED, 'checked': _CHECKED, 'selected': _SELECTED,
          'expanded': _EXPANDED, 'editable': _EDITABLE}
_CHECKABLE = ('check box', 'check menu item', 'radio button', 'radio menu item', 'toggle button')
_TEXTS = ('text', 'entry', 'label', 'table cell', 'password text', 'spin button', 'status bar')
_POPUP = 'window'  # of a menu
_UNSEEN = ('tool tip', 'redundant object', 'scroll bar', 'separator', 'tear off menu item')
_ATSPI = 'org.a11y.atspi'
_ROOT = f'{_ATSPI}.Registry', '/org/a11y/atspi/accessible/root'


class Reader:
  """Reads the applications of this session. An accessible object is (bus name, path).

  Attributes:
    GoneError: what is raised where an application does not answer, or no longer.
  """

  def __init__(self):
    from gi.repository import Gio, GLib
    self.GoneError, self._variant = GLib.Error, GLib.Variant
    session = Gio.bus_get_sync(Gio.BusType.SESSION)
    (address,) = session.call_sync(
        'org.a11y.Bus', '/org/a11y/bus', 'org.a11y.Bus', 'GetAddress', None, None, 0, -1)
    flags = Gio.DBusConnectionFlags
    self._bus = Gio.DBusConnection.new_for_address_sync(
        address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)

  def applications(self):
    """Process ids of the applications that show a window."""
    found = set()
    for application in self._children(_ROOT):
      try:
        if any(self._shows(window) for window in self._children(application)):
          found.add(self._process(application[0]))
      except self.GoneError:
        continue
    return found

  def read(self):
    """All windows; of those that are in front the contents. Raises GoneError."""
    windows = []  # (node, role, states)
    for application in self._children(_ROOT):
      for window in self._children(application):
        states = self._states(window)
        if _has(states, _SHOWING):
          windows.append((window, self._role(window), states))
    in_front = [window for window, role, states in windows
                if _has(states, _ACTIVE) or role == _POPUP]
    nodes = []
    for window, _, _ in windows:
      self._walk(window, 0, window in in_front or not in_front, nodes)
    return nodes

  def _walk(self, node, depth, whole, nodes, in_menu=False):
    states = self._states(node)
    # GTK 2 does not say of the entries of an open menu that they are showing.
    shown = _has(states, _SHOWING) or in_menu and self._place(node)[0] > _NOWHERE
    if not shown or len(nodes) >= MAX_NODES:
      return
    role = self._role(node)
    if role in _UNSEEN:
      return
    nodes.append(self._describe(node, depth, role, states))
    is_menu = role == 'menu' and depth > 1
    if whole and (not is_menu or _has(states, _SELECTED) or _has(states, _FOCUSED)):
      for child in self._children(node):  # of a closed menu all are hidden
        with contextlib.suppress(self.GoneError):  # a row that was just removed
          self._walk(child, depth + 1, True, nodes, is_menu)

  def _describe(self, node, depth, role, states):
    marks = [mark for mark, state in _MARKS.items() if _has(states, state)]
    if role in _CHECKABLE and 'checked' not in marks:
      marks.append('unchecked')
    if not _has(states, _SENSITIVE):
      marks.append('disabled')
    text, selection = '', None
    if role in _TEXTS:
      text = self._text(node)
      if 'editable' in marks and 'focused' in marks:
        selection = self._selection(node)
    return [depth, role, self._property(node, 'Accessible', 'Name'), text, marks,
            self._place(node), selection]

  def _place(self, node):
    return list(self._call(node, 'Component', 'GetExtents', self._variant('(u)', (0,)))[0])

  def _text(self, node):
    try:
      return self._call(node, 'Text', 'GetText', self._variant('(ii)', (0, -1)))[0]
    except self.GoneError:
      return ''  # this one has none

  def _selection(self, node):
    if self._call(node, 'Text', 'GetNSelections')[0]:
      return list(self._call(node, 'Text', 'GetSelection', self._variant('(i)', (0,))))
    return [self._property(node, 'Text', 'CaretOffset')] * 2

  def _children(self, node):
    return [tuple(child) for child in self._call(node, 'Accessible', 'GetChildren')[0][:_CHILDREN]
            if not child[1].endswith('/null')]

  def _states(self, node):
    low, high = self._call(node, 'Accessible', 'GetState')[0]
    return low | high << 32

  def _shows(self, node):
    return _has(self._states(node), _SHOWING)

  def _role(self, node):
    return self._call(node, 'Accessible', 'GetRoleName')[0]

  def _property(self, node, interface, name):
    return self._ask(node, 'org.freedesktop.DBus.Properties', 'Get',
                     self._variant('(ss)', (f'{_ATSPI}.{interface}', name)))[0]

  def _process(self, name):
    return self._ask(('org.freedesktop.DBus', '/org/freedesktop/DBus'), 'org.freedesktop.DBus',
                     'GetConnectionUnixProcessID', self._variant('(s)', (name,)))[0]

  def _call(self, node, interface, method, arguments=None):
    return self._ask(node, f'{_ATSPI}.{interface}', method, arguments)

  def _ask(self, node, interface, method, arguments):
    return self._bus.call_sync(*node, interface, method, arguments, None, 0, _CALL_MS).unpack()


def _has(states, state):
  return bool(states >> state & 1)
