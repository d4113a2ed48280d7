"""An Android phone, seen as the hierarchy of its screen."""

from aw_jax.prompts.facts import Facts, Tool

_PLACE = (('element?', 'integer'), ('label?', 'string'), ('x?', 'integer'), ('y?', 'integer'))
_DATE = """\
app com.android.settings, screen .Date
[1] LinearLayout [0,200][1080,340] clickable
  [2] TextView "Use 24\N{NON-BREAKING HYPHEN}hour format" id/title [40,200][700,340]
  [3] Switch id/switch_widget [920,200][1040,340]"""

FACTS = Facts(
    world='an Android phone',
    state_name='Screen',
    purpose=(
        'An agent uses the apps of an Android phone by touch. You stand for the phone: given the '
        'screen and every action so far, give the hierarchy of the screen after the next action.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'An element is given by its number or its label, else a point in pixels from the upper '
        'left of the screen; text goes into the field that has the focus.',
        'After the last action a line for the shell of the phone may come, such as settings get: '
        'it is answered by what it prints.'),
    observations=(
        'The first line names the app and its screen.',
        'Then comes a line for each element that can be read or acted on: its number, its class, '
        'its text in quotes, its description in quotes and parentheses, its id, its bounds '
        '[left,top][right,bottom], and what it is: clickable, long-clickable, scrollable, focused, '
        'selected, password, checked or unchecked, disabled.',
        'Elements are indented below the one that holds them; what is outside the screen is left '
        'out.',
        'An element keeps its number; new ones get the next numbers.'),
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
        'A call that cannot be done gets one line that begins with Error: no such element or app, '
        'a point outside the screen, a wrong argument; the screen stays as it was.',
        'A missing permission is asked for in a dialog; a failure shows as a short message at the '
        'lower edge.'),
    runtime=(
        'The time, the battery and notifications cannot be known: keep their place and form.',),
    demonstration=(
        ('{"name": "tap", "arguments": {"element": 1}}',
         f'{_DATE} checked'),
        ('{"name": "tap", "arguments": {"x": 540, "y": 1800}}',
         f'{_DATE} checked'),
        ('{"name": "tap", "arguments": {"label": "12-hour"}}',
         "Error: there is no label '12-hour' on the screen")),
    demonstration_state=f'{_DATE} unchecked',
    toolsets={'': (
        Tool('tap', 'Tap an element by number or label, or a point.', _PLACE),
        Tool('long_press', 'Hold an element by number or label, or a point.', _PLACE),
        Tool('swipe', 'Swipe over the screen in a direction, or from one point to another.',
             (('direction?', '"up" | "down" | "left" | "right"'), ('x?', 'integer'),
              ('y?', 'integer'), ('to_x?', 'integer'), ('to_y?', 'integer'))),
        Tool('type', 'Type into the field that has the focus.', (('text', 'string'),)),
        Tool('key', 'Press a key of the keyboard.',
             (('key', '"enter" | "delete" | "tab" | "start" | "end"'),)),
        Tool('back', 'Go back.'),
        Tool('home', 'Go to the home screen.'),
        Tool('open_app', 'Open an app by its name or package.', (('name', 'string'),)),
        Tool('wait', 'Let time pass.', (('seconds', 'integer'),)))})
