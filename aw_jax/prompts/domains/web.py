"""Web pages in a browser, seen as their accessibility tree."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='a web browser',
    state_name='Page',
    purpose=(
        'An agent uses web pages in a browser. You stand for the browser and the site: given the '
        'page and every action so far, give the accessibility tree of the page after the next '
        'action.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'Elements are named by the number that stands in front of them in the current tree.'),
    observations=(
        'An observation is the whole tree after the action: a line for each node with its number '
        'in brackets, its role, its name in quotes, then its states.',
        'Children are indented below their parent. The first line is the document with its title.',
        'States are words such as focused, checked, disabled, expanded, selected, and the value '
        'of a field.'),
    state=(
        'The tree of the page before the first action, as an observation would show it.',),
    rules=(
        'What an action does not touch stays: same nodes, same order, same names and values.',
        'Numbers belong to one tree: after a change nodes are numbered anew from the top.',
        'A click moves the focus to what was clicked; typing goes into the named field and keeps '
        'what stood there unless it is cleared.',
        'A checkbox turns round with each click; of radio buttons one alone is checked; an option '
        'that is chosen becomes the value of its list.',
        'A link or a form that is sent may bring another page; going back brings the former one as '
        'it was.'),
    errors=(
        'An element that is not there, hidden or disabled: a line beginning with Error names it, '
        'and the page stays.',
        'An address that does not answer gives the page of an error with its reason.',
        'A field that is required or ill-formed shows its message beside it once the form is sent.',
    ),
    runtime=(
        'Clocks, counters of visitors and advertisements cannot be known: keep their place and '
        'form.',),
    demonstration=(
        ('{"name": "type", "arguments": {"element": 2, "text": "Ada"}}',
         '[0] document "Sign up"\n  [1] heading "Sign up"\n  [2] textbox "Name" value="Ada" focused'
         '\n  [3] checkbox "News"\n  [4] button "Send"'),
        ('{"name": "click", "arguments": {"element": 3}}',
         '[0] document "Sign up"\n  [1] heading "Sign up"\n  [2] textbox "Name" value="Ada"'
         '\n  [3] checkbox "News" checked focused\n  [4] button "Send"'),
        ('{"name": "click", "arguments": {"element": 9}}', 'Error: no element 9')),
    demonstration_state=(
        '[0] document "Sign up"\n  [1] heading "Sign up"\n  [2] textbox "Name"'
        '\n  [3] checkbox "News"\n  [4] button "Send"'),
    toolsets={'': (
        Tool('click', 'Click an element.', (('element', 'integer'),)),
        Tool('type', 'Type into a field.', (('element', 'integer'), ('text', 'string'))),
        Tool('clear', 'Empty a field.', (('element', 'integer'),)),
        Tool('select', 'Choose an option of a list.',
             (('element', 'integer'), ('option', 'string'))),
        Tool('press', 'Press a key.', (('key', 'string'),)),
        Tool('scroll', 'Scroll the page.', (('direction', '"up" | "down"'),)),
        Tool('go', 'Open an address.', (('address', 'string'),)),
        Tool('back', 'Go back to the page before.'))})
