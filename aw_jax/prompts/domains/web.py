"""Web pages in a browser, seen as their accessibility tree."""

from aw_jax.prompts.facts import Facts, Tool

_BID = ('bid', 'string')
_POINTER = (_BID, ('button?', '"left" | "middle" | "right"'), ('modifiers?', 'list of strings'))
_LOGIN = """\
document "Login User Task", url="http://miniwob.test/miniwob/login-user.html"
  text "Username"
  [1] textbox{}
  text "Password"
  [2] textbox{}
  [3] button "Login\""""

FACTS = Facts(
    world='a web browser',
    state_name='Page',
    purpose=(
        'An agent uses web pages in a browser. You stand for the browser and the site: given the '
        'page and every action so far, give the accessibility tree of the page after the next '
        'action.'),
    actions=(
        "An action is one call with constants as arguments, as in click('12').",
        'An element is named by the number that stands in front of it in the tree: bid.',
        'press gives an element the focus and then a key, such as Enter or Control+a; '
        'keyboard_press and keyboard_type go to what has the focus.',
        'After the last action a word such as verdict, todos or tiddlers may come: it is answered '
        'by what the site knows, not by a tree.'),
    observations=(
        'An observation is the whole tree after the action: a line for each node with its number '
        'in brackets, its role, its name in quotes, its value, then its states after commas.',
        'Children are indented below their parent. The first line is the document with its title '
        'and address. Text alone, and the options of a list, have no number.',
        'States are words such as focused, checked, disabled, expanded, collapsed, selected, '
        'required, readonly, multiline, clickable. A node without a name shows its class or id.',
        'What is typed into a password field is shown as dots.'),
    state=(
        'The tree of the page before the first action, with what is hidden from sight: closed '
        'menus and sections, passwords, where links lead, and last what the site has stored.',
        'Hidden nodes have no number; an observation does not show them.'),
    rules=(
        'What an action does not touch stays: same nodes, same order, same names and values.',
        'An element keeps its number; new ones get the next numbers, in the order of the tree. '
        'Another document has new elements.',
        'A click moves the focus to what was clicked if it can have it; fill gives a field the '
        'focus and replaces what stood there.',
        'A checkbox turns round with each click; of radio buttons one alone is checked; an option '
        'that is chosen becomes the value of its list.',
        'A link or a form that is sent may bring another page; going back brings the former one, '
        'with nothing of what was typed there.',
        'With every action a second passes, in which animations end and timers run; noop lets '
        'more pass. The clock stands still otherwise.',
        'A page that has taken its last action answers every other: The page takes no more '
        'actions.'),
    errors=(
        'An element that is not there, hidden, disabled or covered by another, a key or an option '
        'that does not exist: a line beginning with Error says so, and the page stays.',
        'What is no action gets such a line too.',
        'An address that cannot be reached by a link gives a page that says so; goto answers it '
        'with an error.'),
    runtime=(
        'Nothing is left to chance but what the site draws: chance is drawn from a seed that is '
        'not shown, and any likely outcome will do.',),
    demonstration=(
        ("fill('1', 'keli')", _LOGIN.format(' value="keli", focused', '')),
        ("press('1', 'Tab')", _LOGIN.format(' value="keli"', ', focused')),
        ("keyboard_type('3hI')", _LOGIN.format(' value="keli"', ' value="•••", focused')),
        ("click('9')", 'Error: there is no element 9')),
    demonstration_state=_LOGIN.format('', ''),
    toolsets={'': (
        Tool('click', 'Click an element.', _POINTER),
        Tool('dblclick', 'Click an element twice.', _POINTER),
        Tool('hover', 'Move the mouse to an element.', (_BID,)),
        Tool('focus', 'Give an element the focus.', (_BID,)),
        Tool('clear', 'Empty a field.', (_BID,)),
        Tool('check', 'Check a box that is not checked.', (_BID,)),
        Tool('uncheck', 'Uncheck a box that is checked.', (_BID,)),
        Tool('fill', 'Put a text into a field.', (_BID, ('value', 'string'))),
        Tool('press', 'Press a key in an element.', (_BID, ('key_comb', 'string'))),
        Tool('select_option', 'Choose one option of a list, or several.',
             (_BID, ('options', 'string | list of strings'))),
        Tool('drag_and_drop', 'Drag an element to another.',
             (('from_bid', 'string'), ('to_bid', 'string'))),
        Tool('keyboard_press', 'Press a key.', (('key', 'string'),)),
        Tool('keyboard_type', 'Type a text.', (('text', 'string'),)),
        Tool('scroll', 'Turn the wheel, in pixels.',
             (('delta_x', 'number'), ('delta_y', 'number'))),
        Tool('noop', 'Let time pass.', (('wait_ms?', 'number'),)),
        Tool('goto', 'Open an address.', (('url', 'string'),)),
        Tool('go_back', 'Go back to the page before.'),
        Tool('go_forward', 'Go to the page that was left by going back.'))})
