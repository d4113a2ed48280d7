"""Software engineering: a code repository that is read, edited, and tested."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='a code repository',
    state_name='Files',
    purpose=(
        'A programmer mends a repository through tools that read files, edit them and run '
        'commands. You stand for the machine with the repository on it: given its files and every '
        'call so far, give the output of the next call, test results included.'),
    actions=(
        'An action is one tool call: JSON {"name": TOOL, "arguments": {…}}, or a command line that '
        'begins with the name of the tool.',
        'Reading takes a path and lines, editing a path with the text to replace and the text to '
        'put there, and a command runs in bash at the top of the repository.'),
    observations=(
        'A file that is read comes with the number of each line in front.',
        'An edit is answered with the lines around the place as they are now, or with the reason '
        'why nothing was changed.',
        'A command gives what it printed, standard output and errors; a traceback ends with the '
        'kind of the error and its message.',
        'Long output is cut in the middle or at the end, and a line says so.'),
    state=(
        'Each file has a line == path below the top of the repository, then its lines. Files that '
        'are not shown exist all the same where others import them.',),
    rules=(
        'An edit changes exactly the text it names; line numbers after it shift by what was added '
        'or taken away.',
        'Tests and programs run on the files as they are at that moment: results change with '
        'edits, and with nothing else.',
        'A program prints what its code says; work it out line by line rather than guess.',
        'Installed packages and the version of the language stay the same.'),
    errors=(
        'A text to replace that is not in the file, or stands there more than once, is refused, '
        'and nothing changes.',
        'A syntax error names file, line and the place in it before anything runs.',
        'A failing test shows the assertion with its values, then the count of what failed and '
        'passed.',
        'A command that runs too long is stopped, and the output so far is shown.'),
    runtime=(
        'Durations of tests, memory addresses, process ids and temporary paths cannot be known: '
        'keep their form and an ordinary size.',),
    demonstration=(
        ('{"name": "read", "arguments": {"path": "area.py"}}',
         '1 def area(width, height):\n2   return width + height'),
        ('{"name": "bash", "arguments": {"command": "python -c \'import area; '
         'print(area.area(3, 4))\'"}}', '7'),
        ('{"name": "edit", "arguments": {"path": "area.py", "old": "width + height", '
         '"new": "width * height"}}', '1 def area(width, height):\n2   return width * height'),
        ('{"name": "bash", "arguments": {"command": "python -c \'import area; '
         'print(area.area(3, 4))\'"}}', '12')),
    demonstration_state='== area.py\ndef area(width, height):\n  return width + height',
    toolsets={'': (
        Tool('read', 'Show a file or some lines of it.',
             (('path', 'string'), ('first?', 'integer'), ('last?', 'integer'))),
        Tool('edit', 'Replace a text that stands in a file once.',
             (('path', 'string'), ('old', 'string'), ('new', 'string'))),
        Tool('bash', 'Run a command.', (('command', 'string'),)))})
