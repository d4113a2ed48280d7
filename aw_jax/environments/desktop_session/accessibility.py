"""Reads what applications show through AT-SPI: a list of nodes, hidden subtrees left out.

A node is [depth, role, name, text, marks, place, selection]: `marks` are states worth a word,
`place` is [x, y, width, height] in pixels of the screen, `selection` [start, end] of the text that
has the focus (equal ends are the cursor), else None.
"""

MAX_NODES = 1500
_CHILDREN = 400  # of one node
_MARKS = ('active', 'focused', 'checked', 'selected', 'expanded', 'editable')
_CHECKABLE = ('check box', 'check menu item', 'radio button', 'radio menu item', 'toggle button')
_TEXTS = ('text', 'entry', 'label', 'table cell', 'password text', 'spin button', 'status bar')
_POPUP = 'window'  # of a menu
_UNSEEN = ('tool tip', 'redundant object', 'scroll bar', 'separator')


class Reader:
  """Reads the applications of this session.

  Attributes:
    GoneError: what is raised where a window goes while it is read.
  """

  def __init__(self):
    import gi
    gi.require_version('Atspi', '2.0')
    from gi.repository import Atspi, GLib
    self._atspi, self._states = Atspi, Atspi.StateType
    self.GoneError = GLib.Error
    Atspi.init()

  def applications(self):
    """Process ids of the applications that show a window."""
    found = set()
    for application in _children(self._atspi.get_desktop(0)):
      try:
        if any(self._showing(window) for window in _children(application)):
          found.add(application.get_process_id())
      except self.GoneError:
        continue
    return found

  def read(self):
    """All windows; of those that are in front the contents."""
    desktop = self._atspi.get_desktop(0)
    windows = []
    for application in _children(desktop):
      application.set_cache_mask(self._atspi.Cache.NONE)
      windows += [window for window in _children(application) if self._showing(window)]
    in_front = [window for window in windows
                if window.get_state_set().contains(self._states.ACTIVE)
                or window.get_role_name() == _POPUP]
    nodes = []
    for window in windows:
      self._walk(window, 0, window in in_front or not in_front, nodes)
    return nodes

  def _walk(self, node, depth, whole, nodes):
    states = node.get_state_set()
    role = node.get_role_name()
    if (len(nodes) >= MAX_NODES or role in _UNSEEN
        or not states.contains(self._states.SHOWING)):
      return
    nodes.append(self._describe(node, depth, role, states))
    if whole and (role != 'menu' or states.contains(self._states.SELECTED)):
      for child in _children(node):
        self._walk(child, depth + 1, True, nodes)

  def _describe(self, node, depth, role, states):
    marks = [mark for mark in _MARKS if states.contains(getattr(self._states, mark.upper()))]
    if role in _CHECKABLE and 'checked' not in marks:
      marks.append('unchecked')
    if not states.contains(self._states.SENSITIVE):
      marks.append('disabled')
    box = node.get_extents(self._atspi.CoordType.SCREEN)
    text, selection = '', None
    if role in _TEXTS and node.get_text_iface() is not None:
      text = self._atspi.Text.get_text(node, 0, -1)
      if 'editable' in marks and 'focused' in marks:
        selection = self._selection(node)
    return [depth, role, node.get_name() or '', text, marks,
            [box.x, box.y, box.width, box.height], selection]

  def _selection(self, node):
    text = self._atspi.Text
    if text.get_n_selections(node):
      chosen = text.get_selection(node, 0)
      return [chosen.start_offset, chosen.end_offset]
    return [text.get_caret_offset(node)] * 2

  def _showing(self, node):
    return node.get_state_set().contains(self._states.SHOWING)


def _children(node):
  count = min(node.get_child_count(), _CHILDREN)
  children = (node.get_child_at_index(index) for index in range(count))
  return [child for child in children if child is not None]
