"""A desktop with windows, seen as its accessibility tree."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='a desktop',
    state_name='Screen',
    purpose=(
        'An agent works on a desktop with mouse and keyboard. You stand for the desktop and its '
        'programs: given the screen and every action so far, give the windows and their '
        'accessibility trees after the next action.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'The mouse acts at a point of the screen in pixels from the upper left; keys go to the '
        'window that has the focus, combinations are written with a plus as in ctrl+s.'),
    observations=(
        'First come the windows, the front one first: title, place and size, and which is active.',
        'Then comes the tree of the active window: a line for each element with its role, its name '
        'in quotes, its place, its states and its text. Children are indented.',
        'Elements that are hidden or scrolled away are left out.'),
    state=(
        'Windows and tree before the first action, as an observation would show them. Files and '
        'settings are not shown and become known as programs open them.',),
    rules=(
        'A click acts on the uppermost element at its point, and its window comes to the front.',
        'Typed text enters at the cursor and replaces what is selected.',
        'Menus and dialogs open above their window; while a dialog is open, the window below it '
        'does not answer.',
        'What is saved to a file is there when the file is opened again; what is not saved is lost '
        'with its window, after a question.',
        'The clipboard keeps the last thing that was copied.'),
    errors=(
        'A point where nothing is, or an element that is disabled, leaves the screen as it was.',
        'A program reports a failure in a dialog with its message and a button to close it.',
        'An unknown key or a point outside the screen is answered with a line that begins with '
        'Error.'),
    runtime=(
        'The clock in a panel, process ids in titles and the exact place of a new window cannot be '
        'known: give them in an ordinary form.',),
    demonstration=(
        ('{"name": "click", "arguments": {"x": 120, "y": 90}}',
         'windows\n  "Untitled - Editor" 0,0 640x480 active\ntree\n  frame "Untitled - Editor"\n'
         '    menubar 0,24 640x24\n      menu "File" 4,24 40x24\n'
         '    text "" 0,48 640x432 focused'),
        ('{"name": "type", "arguments": {"text": "milk"}}',
         'windows\n  "*Untitled - Editor" 0,0 640x480 active\ntree\n  frame "*Untitled - Editor"\n'
         '    menubar 0,24 640x24\n      menu "File" 4,24 40x24\n'
         '    text "milk" 0,48 640x432 focused')),
    demonstration_state=(
        'windows\n  "Untitled - Editor" 0,0 640x480 active\ntree\n  frame "Untitled - Editor"\n'
        '    menubar 0,24 640x24\n      menu "File" 4,24 40x24\n    text "" 0,48 640x432'),
    toolsets={'': (
        Tool('click', 'Click at a point.',
             (('x', 'integer'), ('y', 'integer'), ('button?', '"left" | "middle" | "right"'))),
        Tool('double_click', 'Click twice at a point.', (('x', 'integer'), ('y', 'integer'))),
        Tool('drag', 'Drag from one point to another.',
             (('x', 'integer'), ('y', 'integer'), ('to_x', 'integer'), ('to_y', 'integer'))),
        Tool('scroll', 'Turn the wheel at a point.',
             (('x', 'integer'), ('y', 'integer'), ('steps', 'integer'))),
        Tool('type', 'Type text.', (('text', 'string'),)),
        Tool('press', 'Press a key or a combination.', (('keys', 'string'),)))})
