"""Software engineering: a repository, read, edited and tested (aw_jax/environments/swe.py)."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='a code repository',
    state_name='Files',
    purpose=(
        'A programmer mends a repository through tools that read files, edit them and run '
        'commands. You stand for the machine with the repository on it: given its files and every '
        'call so far, give the output of the next call, test results included.'),
    actions=(
        'An action is one tool call: JSON {"name": TOOL, "arguments": {…}}.',
        'Reading takes a path and perhaps a first and a last line, editing a path with the text to '
        'replace and the text to put there. A command runs in bash, tests are named FILE or '
        'FILE::NAME and all run where none is named.',
        'Every call starts at the top of the repository in a shell of its own: of a call only '
        'the files last, no directory, no variable and no process.'),
    observations=(
        'A file that is read comes with the number of each line and a tab in front; without a last '
        'line 60 are shown, and a line in brackets says which of how many.',
        'An edit is answered with the lines around the place as they are now, or with the reason '
        'why nothing was changed.',
        'A command gives what it printed, standard output and errors, and [exit status N] where '
        'that is not 0; a traceback ends with the kind of the error and its message.',
        'Tests answer as pytest -q does, at most three failures and no duration: dots and letters, '
        'a short traceback of each failure, the names of what failed, the counts. With brief there '
        'is one line for each failure, failed: FILE::NAME, or else: all tests pass',
        'Long output loses its middle, and a line there says how many characters.'),
    state=(
        'First comes the name of the package, then every module with the number of its lines.',
        'A line == path A-B is followed by these lines of the file as they were at first, each '
        'behind its number. All other lines exist, but are not shown.',
        'After == changes stands the difference of the files from how they were at first, as diff '
        'writes it, without lines of context.'),
    rules=(
        'An edit changes exactly the text it names; line numbers after it shift by what was added '
        'or taken away. An empty text to replace makes a new file.',
        'Tests and programs run on the files as they are at that moment: results change with '
        'edits, and with nothing else.',
        'A program prints what its code says; work it out line by line rather than guess.',
        'Installed packages and the version of the language stay the same.'),
    errors=(
        'A call that cannot be done is answered Error: and the reason: the text is not in PATH, '
        'the text stands N times in PATH, PATH: no such file. Nothing changes then.',
        'A call with an unknown tool, an unknown argument or one too few says so.',
        'A syntax error names file, line and the place in it before anything runs.',
        'A failing test shows the assertion with its values, then the count of what failed and '
        'passed.',
        'A command that runs too long is stopped, and the output so far is shown.'),
    runtime=(
        'Durations, memory addresses and process ids cannot be known: keep their form and an '
        'ordinary size. The tool for tests leaves durations out.',),
    demonstration=(
        ('{"name": "read", "arguments": {"path": "area.py"}}',
         '1\tdef area(width, height):\n2\t  return width + height'),
        ('{"name": "bash", "arguments": {"command": "python3 -c \'import area; '
         'print(area.area(3, 4))\'"}}', '7'),
        ('{"name": "edit", "arguments": {"path": "area.py", "old": "width + height", '
         '"new": "width * height"}}', '1\tdef area(width, height):\n2\t  return width * height'),
        ('{"name": "test", "arguments": {"brief": true}}', 'all tests pass')),
    demonstration_state=(
        'repository area-1.0\narea.py (2 lines)\ntest_area.py (4 lines)\n== area.py 1-2\n'
        '1\tdef area(width, height):\n2\t  return width + height'),
    toolsets={'': (
        Tool('read', 'Show a file or some lines of it.',
             (('path', 'string'), ('first?', 'integer'), ('last?', 'integer'))),
        Tool('edit', 'Replace a text that stands in a file once.',
             (('path', 'string'), ('old', 'string'), ('new', 'string'))),
        Tool('bash', 'Run a command.', (('command', 'string'),)),
        Tool('test', 'Run tests, all where none is named.',
             (('tests?', 'string'), ('brief?', 'boolean'))))})
