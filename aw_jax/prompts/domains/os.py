"""A desktop with windows, seen as its accessibility tree."""

from aw_jax.prompts.facts import Facts, Tool

_PLACE = (('element?', 'integer'), ('label?', 'string'))


def _editor(title: str, text: str, *, menu: str = '', focus: str = '') -> str:
  """A screen with one window of the text editor."""
  entries = '\n    [9] menu-item "Contents"\n    [10] menu-item "About"'
  return (
      f'[1] frame "{title} - Mousepad" (active)\n  [2] menu "File"\n  [3] menu "Edit"\n'
      '  [4] menu "Search"\n  [5] menu "View"\n  [6] menu "Document"\n'
      f'  [7] menu "Help"{menu and menu + entries}\n  [8] text text="{text}"{focus} '
      f'({"focused, " if focus else ""}editable)')


FACTS = Facts(
    world='a desktop',
    state_name='Screen',
    purpose=(
        'An agent works on a desktop with mouse and keyboard. You stand for the desktop and its '
        'programs: given the screen and every action so far, give the windows and their '
        'accessibility trees after the next action.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'The mouse acts on an element, given by its number or by its label, which then must be the '
        'only one with that label; on a window it acts on the title bar.',
        'Keys go to the window that has the focus, combinations are written with a plus as in '
        'ctrl+s; keys have names such as enter, escape, tab, page_down or f2.',
        'After the last action a question about the result may come as a call of read_file, '
        'list_files, read_text or read_setting: it is answered by that alone.'),
    observations=(
        'A line for each window and, indented below it, for each element in it: its number, its '
        'role, its name in quotes, text="…" with what stands in it, where the cursor is or what is '
        'marked, and its states in parentheses.',
        'States are active, focused, checked or unchecked, selected, expanded, editable, disabled.',
        'Windows that are not active show their title alone; while a menu opened by the right '
        'button is there, its entries alone are shown.',
        'Elements that are hidden or only hold others are left out; an element keeps its number, '
        'and new ones get the next numbers.',
        'Where no window is left, the line is: desktop (empty)'),
    state=(
        'The screen before the first action, as an observation would show it, then a line for each '
        'folder and each file of the home directory with its text.',
        'Files are not shown to the agent and become known to it as programs open them.'),
    rules=(
        'A click on an element gives it the focus, and its window comes to the front.',
        'Typed text enters at the cursor and replaces what is marked.',
        'A menu that is clicked shows its entries below it, and the focus is taken from the text '
        'until it closes.',
        'While a dialog is active, the window that it belongs to shows its title alone.',
        'What is saved to a file is there when the file is opened again; a title that begins with '
        'an asterisk says that there is something to save.',
        'A file manager shows folders first, then files, each by name, and what is done to files '
        'shows in it at once.',
        'The clipboard keeps the last thing that was copied or cut.'),
    errors=(
        'An element that is disabled, or an action that means nothing to it, leaves the screen as '
        'it was.',
        'A program reports a failure in a dialog with its message and a button to close it.',
        'A call that cannot be done gets one line that begins with Error: no such element or '
        'label, an unknown key, a wrong argument; the screen stays as it was.'),
    runtime=(
        'Times of day, as beside files that were just made, cannot be known: give them in their '
        'ordinary form.',),
    demonstration=(
        ('{"name": "type", "arguments": {"text": "eggs, "}}',
         _editor('*~/list.txt', 'eggs, milk\\n', focus=' cursor=6')),
        ('{"name": "key", "arguments": {"keys": "ctrl+s"}}',
         _editor('~/list.txt', 'eggs, milk\\n', focus=' cursor=6')),
        ('{"name": "click", "arguments": {"label": "Help"}}',
         _editor('~/list.txt', 'eggs, milk\\n', menu=' (selected)')),
        ('{"name": "click", "arguments": {"element": 99}}',
         "Error: there is no element '99' on the screen")),
    demonstration_state=(
        _editor('~/list.txt', 'milk\\n', focus=' cursor=0') + '\nfile "list.txt" text="milk\\n"'),
    toolsets={'': (
        Tool('click', 'Click on an element by number or label.', _PLACE),
        Tool('double_click', 'Click twice on an element by number or label.', _PLACE),
        Tool('right_click', 'Click on an element with the right button.', _PLACE),
        Tool('drag', 'Drag an element onto another.', (('element', 'integer'), ('to', 'integer'))),
        Tool('scroll', 'Turn the wheel on an element.',
             (('element', 'integer'), ('direction', '"up" | "down"'))),
        Tool('type', 'Type text.', (('text', 'string'),)),
        Tool('key', 'Press a key or a combination.', (('keys', 'string'),)))})
