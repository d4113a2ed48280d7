"""A terminal: bash in a home directory (aw_jax/environments/terminal.py)."""

from aw_jax.prompts.facts import Facts

FACTS = Facts(
    world='a Linux terminal',
    state_name='Files',
    purpose=(
        'A person works at the bash prompt of a Linux machine. You stand for that machine: given '
        'the files and every command so far, say what appears on the screen after the next '
        'command, and keep account of what it changed.'),
    actions=(
        'An action is one command line, as it would be typed after the prompt.',
        'It may hold pipes, redirections, lists joined by && or ||, substitutions, loops and '
        'here-documents; it may run over several lines.',
        'In full-screen mode an action is instead a JSON array of keystrokes and seconds to wait: '
        '[{"keystrokes": "ls\\n", "duration": 0.1}]. A newline is the Enter key. The name of a key '
        'that stands alone is that key (C-c, Escape, Up, Tab), all else is typed as it stands.',
        'The usual GNU tools are there, and git, sqlite3 and python3 where they are installed. '
        'There is no network, and nobody answers a question that a program asks.'),
    observations=(
        'First comes all that the command printed, standard output and errors as they came, then '
        'the prompt: the working directory and a dollar sign, ~$ at home, ~/docs$ below it.',
        'A command that prints nothing shows the prompt alone.',
        'Output is plain text without colours. After 2000 characters it is cut, and a line '
        '[output cut] says so.',
        'In full-screen mode it is the text of the whole screen: what is still visible of earlier '
        'commands with their prompts, then what the keystrokes brought. A program that takes the '
        'screen (less, nano) shows itself alone, and the old screen is back when it ends. Empty '
        'lines at the end are left out.'),
    state=(
        'A line == path begins a file, and the lines of the file follow it; a path with a slash at '
        'its end is a directory.',
        'Paths stand below the home directory and are sorted. An x after a path marks an '
        'executable, an octal number another unusual mode, an arrow a link.',
        'A last line of one backslash means that the file ends without a newline. Archives, '
        'databases and repositories are summarised.',
        'A line cwd at the end names the working directory where it is not home.'),
    rules=(
        'Files stay as they are until a command writes, moves or removes them; what was written '
        'is what later commands read.',
        'A single > replaces a file, >> adds to its end; both make the file where there is none, '
        'before the command itself runs.',
        'Working directory, variables, functions and options last from one command to the next; '
        'what happens in a subshell or a pipe stays there.',
        'Sorted listings follow the C locale: capitals before small letters, digits before both.',
        'A command that fails half-way leaves what it had done until then.',
        'On a screen, keys go to the program in the foreground until it ends; what it has not '
        'saved is in no file.'),
    errors=(
        'A missing file: NAME: No such file or directory, after the name of the program.',
        'An unknown command: bash: NAME: command not found',
        'Other messages: Permission denied, Is a directory, Not a directory, File exists, '
        'Directory not empty.',
        'A command that does not end is killed, and a new shell begins in its place.',
        'On a screen it runs on until C-c. An action that is no array of keystrokes is answered '
        'by a line in brackets above the screen, and types nothing.'),
    runtime=(
        'Process ids, inodes, uptime, free memory and random numbers cannot be known: give '
        'numbers of an ordinary size in the form the program uses.',
        'The clock stands still: commands that show the date show the same moment each time.'),
    demonstration=(
        ('cat fruit.txt', 'pear\napple\n~$'),
        ('sort fruit.txt > sorted.txt', '~$'),
        ('head -n 1 sorted.txt', 'apple\n~$'),
        ('cat sort.txt', 'cat: sort.txt: No such file or directory\n~$')),
    demonstration_state='== fruit.txt\npear\napple')
