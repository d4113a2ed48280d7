"""An Android phone, seen as the hierarchy of its screen."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='an Android phone',
    state_name='Screen',
    purpose=(
        'An agent uses the apps of an Android phone by touch. You stand for the phone: given the '
        'screen and every action so far, give the hierarchy of the screen after the next action.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'Points are pixels from the upper left of the screen; text goes into the field that has '
        'the focus.'),
    observations=(
        'The first line names the app and its screen.',
        'Then comes a line for each visible element: its class, its text or description in quotes, '
        'its resource id, its bounds [left,top][right,bottom], and what it is: clickable, checked, '
        'focused, scrollable, disabled.',
        'Children are indented below their parent. Elements outside the screen are left out.'),
    state=(
        'The screen before the first action, as an observation would show it.',),
    rules=(
        'A tap acts on the uppermost clickable element that holds its point.',
        'A switch turns round with each tap; a field that is tapped gets the focus and brings the '
        'keyboard, which covers the lower part of the screen.',
        'A swipe moves a scrollable list by about its length: elements leave at one edge, others '
        'come in at the other, none is lost or doubled.',
        'Back closes the keyboard, else the dialog, else the screen; home shows the launcher and '
        'leaves the app as it is.',
        'What was entered and saved is there when its screen is opened again.'),
    errors=(
        'A tap where nothing can be tapped leaves the screen as it was.',
        'An app that is not installed cannot be opened: a line that begins with Error names it.',
        'A missing permission is asked for in a dialog; a failure shows as a short message at the '
        'lower edge.'),
    runtime=(
        'The time, the battery and notifications cannot be known: keep their place and form.',),
    demonstration=(
        ('{"name": "tap", "arguments": {"x": 980, "y": 300}}',
         'app Settings, screen Network\nFrameLayout [0,0][1080,1920]\n  TextView "Wi-Fi" '
         '[40,260][400,340]\n  Switch "" id/wifi [920,260][1040,340] clickable checked'),
        ('{"name": "press", "arguments": {"key": "back"}}',
         'app Settings, screen Main\nFrameLayout [0,0][1080,1920]\n  TextView "Network" '
         '[40,260][400,340] clickable\n  TextView "Display" [40,380][400,460] clickable')),
    demonstration_state=(
        'app Settings, screen Network\nFrameLayout [0,0][1080,1920]\n  TextView "Wi-Fi" '
        '[40,260][400,340]\n  Switch "" id/wifi [920,260][1040,340] clickable'),
    toolsets={'': (
        Tool('tap', 'Tap a point.', (('x', 'integer'), ('y', 'integer'))),
        Tool('long_press', 'Hold a point.', (('x', 'integer'), ('y', 'integer'))),
        Tool('swipe', 'Swipe from one point to another.',
             (('x', 'integer'), ('y', 'integer'), ('to_x', 'integer'), ('to_y', 'integer'))),
        Tool('type', 'Type into the field that has the focus.', (('text', 'string'),)),
        Tool('press', 'Press a key of the phone.', (('key', '"back" | "home" | "enter"'),)),
        Tool('open_app', 'Open an app by its name.', (('name', 'string'),)))})
