"""Single-turn knowledge text for continual pre-training (PAPER.md section 3): facts of a domain.

Written for this project; each is one sample by itself, without system prompt or template.
"""

TEXTS: dict[str, tuple[str, ...]] = {
    'terminal': (
        'cat FILE prints the lines of FILE unchanged.',
        'cat A B prints A, then B.',
        'cat on a file that is not there prints: cat: FILE: No such file or directory',
        'head -n N FILE prints the first N lines of FILE; without -n it prints ten.',
        'tail -n N FILE prints the last N lines of FILE; without -n it prints ten.',
        'sort FILE prints the lines in order. The file itself stays as it was.',
        'sort -r turns the order round; sort -n compares numbers; sort -u prints a line once.',
        'uniq drops a line equal to the one before it; uniq -c puts the count in front.',
        'wc -l FILE prints the number of lines and the name. wc -l < FILE prints the number alone.',
        'wc -w counts words, wc -c counts bytes.',
        'grep WORD FILE prints the lines of FILE that hold WORD, and nothing when none does.',
        'grep -c prints how many lines match; grep -n puts the line number in front; grep -v '
        'prints the lines that do not match; grep -i takes small and capital letters as equal.',
        'grep -r WORD DIR searches every file below DIR and puts the path in front of each line.',
        'grep -l prints only the names of files that match.',
        'echo TEXT prints TEXT. echo TEXT > FILE writes it to FILE and prints nothing.',
        'echo TEXT >> FILE adds a line at the end of FILE and prints nothing.',
        'cp A B makes B a copy of A and prints nothing. A stays.',
        'mv A B gives A the name B and prints nothing. A is gone.',
        'rm FILE removes FILE and prints nothing. rm on a missing file is an error.',
        'mkdir DIR makes a directory and prints nothing; mkdir -p makes its parents too and does '
        'not mind one that exists.',
        'rmdir removes a directory only when it is empty.',
        'touch FILE makes an empty file where there is none, and prints nothing.',
        'ls prints the names in a directory in order. ls DIR prints those in DIR. Hidden names, '
        'which begin with a dot, need -a.',
        'cd DIR changes the working directory and prints nothing. cd alone goes home.',
        'pwd prints the working directory.',
        "sed 's/A/B/' FILE prints FILE with the first A of each line replaced by B; with g every "
        'A. The file stays.',
        'sed -i changes the file itself and prints nothing.',
        'sed -n Np FILE prints line N alone.',
        'cut -d, -f2 FILE prints the second field of each line, with commas between fields.',
        "tr 'a-z' 'A-Z' turns small letters into capitals.",
        'A | B gives what A prints to B.',
        'A && B runs B only when A succeeded; A || B only when A failed.',
        'chmod +x FILE makes FILE executable; chmod 600 FILE lets its owner alone read it.',
        'find DIR -name PATTERN prints the paths below DIR that match.',
        'tar -czf A.tar.gz DIR packs DIR; tar -tzf lists an archive; tar -xzf unpacks it.',
        'git init makes a repository; git add stages; git commit -m MESSAGE records the stage.',
        'git status --short prints ?? before an untracked file, M before a changed one.',
        'git log --oneline prints a line for each commit, the newest first.',
        "sqlite3 FILE 'QUERY' prints the rows of the answer, with | between columns.",
        "python3 -c 'print(X)' prints the value of X.",
        'A command that is not there prints: bash: NAME: command not found',
    ),
    'mcp': (
        'A tool call names a tool and gives its arguments as JSON.',
        'A call with a missing or a wrong argument is answered with an error and changes nothing.',
        'A call of a tool that does not exist is answered with an error.',
        'A tool that lists pages its answer: page says which of how many, next_page the next one.',
        'A tool that reads changes nothing: the same call gives the same answer.',
        'After a tool that writes, later reads show what was written.',
        'An order can only be placed while there is stock, and placing it lowers the stock.',
        'Cancelling an order puts its items back in stock.',
        'git_status shows what is staged, changed and untracked; git_add stages files.',
        'git_commit records what is staged and answers with the hash of the commit.',
        'git_log lists commits, the newest first. git_branch lists branches.',
        'convert_time moves a time of day from one time zone to another.',
    ),
}
