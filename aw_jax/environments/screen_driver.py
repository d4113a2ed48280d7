"""Types keys into a grid of characters, a tmux, and reads it; run inside the sandbox by screen.py.

Standard library only. Usage: python3 screen_driver.py JSON, with the arguments of `main`. The
screen goes to standard output, the directory that its shell is in to descriptor 3.

A sleep of a fixed length would show more or less as the machine is busy or not. So the wait ends
when nothing goes on any more, which the kernel knows: no process runs or is about to, and none has
since the last look. A program in the foreground may still be waiting for time to pass, so there the
duration passes first.
"""

import json
import os
import signal
import subprocess
import sys
import time

SOCKET = '/tmp/.screen'
LOOK_SECONDS = 0.005
GRACE_SECONDS = 1.0  # after the duration, for programs that are still at work


def tmux(*arguments):
  """Runs a tmux command; returns what it printed, None where there is no server or it failed."""
  run = subprocess.run(['tmux', '-S', SOCKET, '-f', '/dev/null', *arguments],
                       stdin=subprocess.DEVNULL, capture_output=True, check=False)
  return run.stdout.decode('utf-8', 'replace') if run.returncode == 0 else None


def ready(columns, rows, seed, deadline):
  """The process id of the screen's shell, which is started where there is none."""
  shell = tmux('display', '-p', '#{pane_pid}')
  if shell is None:
    os.environ.update(
        PROMPT_COMMAND=f"PS1='\\w$ '; RANDOM={seed}; unset PROMPT_COMMAND", HISTFILE='',
        LESSHISTFILE='-', PAGER='less', GIT_PAGER='less', EDITOR='nano', GIT_EDITOR='nano')
    tmux('start-server', ';', 'set', '-g', 'status', 'off', ';', 'new-session', '-d', '-x',
         str(columns), '-y', str(rows), '-c', os.environ['HOME'], 'exec bash --noprofile --norc')
    shell = tmux('display', '-p', '#{pane_pid}') or ''
    wait(shell.strip(), 0, deadline)
  return shell.strip()


def look():
  """What goes on: whether any process is at work, and counts that change when one was."""
  busy, counts = False, {}
  for name in os.listdir('/proc'):
    if not name.isdigit() or int(name) in (1, os.getpid()):
      continue
    try:
      with open(f'/proc/{name}/status', encoding='utf-8', errors='replace') as file:
        fields = dict(line.partition(':')[::2] for line in file)
    except OSError:  # it has just ended
      return True, {}
    busy = busy or fields['State'].split()[0] in 'RD'
    counts[name] = fields['voluntary_ctxt_switches'], fields['nonvoluntary_ctxt_switches']
  return busy, counts


def at_prompt(shell):
  """Whether the screen's shell is in the foreground."""
  try:
    with open(f'/proc/{shell}/stat', encoding='utf-8', errors='replace') as file:
      fields = file.read().rpartition(')')[2].split()
  except OSError:
    return True
  return fields[5] == shell  # tpgid


def wait(shell, duration, deadline):
  """Waits until nothing goes on at a prompt, or `duration` has passed and nothing goes on.

  It ends at `deadline` at the latest, and GRACE_SECONDS after the duration.
  """
  begin, before = time.monotonic(), None
  while True:
    time.sleep(LOOK_SECONDS)
    busy, counts = look()
    now = time.monotonic()
    if now >= min(deadline, begin + duration + GRACE_SECONDS):
      return
    if not busy and counts == before and (now >= begin + duration or at_prompt(shell)):
      return
    before = counts


def key_argument(text):
  """`text` for send-keys: the name of a key alone is that key, all else is typed as it stands."""
  text = text.replace('\n', '\r')  # what the Enter key sends
  return text[:-1] + '\\;' if text.endswith(';') else text  # a last ; would end tmux's command


def main(columns, rows, seed, seconds, keys):
  """Types (text, seconds to wait) pairs, waits `seconds` at most in all, prints the screen."""
  deadline = time.monotonic() + seconds
  shell = ready(columns, rows, seed, deadline)
  for text, duration in keys:
    if text:
      tmux('send-keys', '--', key_argument(text))
    wait(shell, duration, deadline)
  shown, note = read(), ''
  if shown is None:
    ready(columns, rows, seed, deadline + GRACE_SECONDS)
    shown, note = read() or '', '[the shell ended; new screen]\n'
  folder, *lines = shown.split('\n')
  sys.stdout.write(note + '\n'.join(line.rstrip() for line in lines).rstrip('\n'))
  os.write(3, folder.encode())


def read():
  """The directory of what is in the foreground, then the lines of the screen."""
  return tmux('display', '-p', '#{pane_current_path}', ';', 'capture-pane', '-p')


if __name__ == '__main__':
  try:
    main(**json.loads(sys.argv[1]))
  except (OSError, MemoryError):  # too much runs for a tmux to start: begin anew
    os.kill(-1, signal.SIGKILL)
