"""One desktop: an X server, a session bus, a window manager, and the programs of a task."""

import os
import socket
import subprocess
import time

from aw_jax.environments.desktop_session import accessibility

SETTLE_SECONDS = 20.0  # at most, for a screen to rest
# How long nothing has anything to do before the screen is read, because of what waits by a timer:
# a button that a key presses does for 0.25 s, so do typed searches, and what lists a folder.
_IDLE_SECONDS = 0.06
_IDLE_AFTER = {'key': 0.35, 'type': 0.2}
_IDLE_LISTING = 0.4
# What a file manager shows of files that changed follows them later still.
_IDLE_CHANGED = 1.3
_FILE_MANAGERS = ('pcmanfm', 'thunar')
_START_SECONDS = 45.0
_MTIME = 1705312800  # as sandbox.py's clock
_BUTTONS = {'click': ['1'], 'double_click': ['--repeat', '2', '--delay', '10', '1'],
            'right_click': ['3']}
_WHEEL = {'up': '4', 'down': '5'}


class Session:
  """Everything that a desktop is made of, from `start` to the end of this process."""

  def __init__(self, home, size):
    self._home, self._size = home, size
    self._children = []
    self._programs = ()
    os.environ.update(
        HOME=home, DISPLAY=':0', XDG_RUNTIME_DIR='/tmp/run',
        DBUS_SESSION_BUS_ADDRESS='unix:path=/tmp/run/bus')

  def start(self, files, folders, config, programs, known):
    """Writes the home directory and starts what runs in it.

    Args:
      files: path below home -> text.
      folders: paths below home.
      config: path below home -> text of settings, which are not among the files that are shown.
      programs: command lines, started one after another.
      known: names of the programs that open windows.
    """
    self._programs = tuple(known)
    os.makedirs('/tmp/run', mode=0o700)
    self._write(files, folders)
    for path, text in config.items():
      self._write_one(path, text)
    self._launch('Xvfb', ':0', '-screen', '0', f'{self._size}x24', '-nolisten', 'tcp', '-noreset')
    self._launch('dbus-daemon', '--session', '--nofork', '--nopidfile',
                 '--address=unix:path=/tmp/run/bus')
    self._wait_for('/tmp/.X11-unix/X0')
    self._wait_for('/tmp/run/bus')
    self._launch('openbox', '--config-file', os.path.join(self._home, '.config/openbox/rc.xml'),
                 '--startup', 'touch /tmp/run/openbox')
    self._screen = accessibility.Reader()
    self._until(lambda: os.path.exists('/tmp/run/openbox'), 'the window manager did not start')
    for command in programs:
      before = len(self._screen.applications())
      self._launch(*command)
      self._until(lambda: len(self._screen.applications()) > before,  # noqa: B023  # called at once
                  f'{command[0]} did not open a window')
    return self._answer(None, _IDLE_SECONDS)

  def act(self, tool, place=None, to=None, text='', keys='', direction=''):
    """Uses mouse or keyboard, waits until the screen rests, and reads it."""
    before = self._files()
    if tool == 'type':
      self._xdotool('type', '--delay', '4', '--', text)
    elif tool == 'key':
      self._xdotool('key', '--delay', '4', keys)
    elif tool == 'scroll':
      self._xdotool('mousemove', *place, 'click', '--repeat', '3', '--delay', '10',
                    _WHEEL[direction])
    elif tool == 'drag':
      halfway = [(a + b) // 2 for a, b in zip(place, to, strict=True)]
      self._xdotool('mousemove', *place, 'mousedown', '1', 'sleep', '0.05',
                    'mousemove', *halfway, 'sleep', '0.05', 'mousemove', *to,
                    'sleep', '0.1', 'mouseup', '1')
    else:
      self._xdotool('mousemove', *place, 'click', *_BUTTONS[tool])
    return self._answer(before, _IDLE_AFTER.get(tool, _IDLE_SECONDS))

  def read(self, path):
    """The text of a file below home; {'text': None} where there is none."""
    try:
      with open(os.path.join(self._home, path), encoding='utf-8', errors='replace') as file:
        return {'text': file.read(1 << 16)}
    except OSError:
      return {'text': None}

  def _answer(self, before, idle_seconds):
    nodes = self._settle(before, idle_seconds)
    return {'nodes': nodes, 'files': self._files()}

  def _settle(self, before, idle_seconds):
    """Reads the screen until two readings agree, no program is starting and files have rested.

    Args:
      before: the files before what was done, None where a file manager has yet to list them.
      idle_seconds: what has to pass with nothing to do.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    listing = bool(set(_FILE_MANAGERS) & set(self._running()))
    last, files = None, before
    while True:
      found = self._files()
      if listing and (found != files or last is None):
        idle_seconds = max(idle_seconds, _IDLE_LISTING if found == files else _IDLE_CHANGED)
      files = found
      self._idle(idle_seconds, deadline)
      nodes = self._read()
      self._check()
      if nodes == [] and not self._running():
        return nodes
      if time.monotonic() > deadline:
        if nodes is None:
          raise TimeoutError('the screen cannot be read')
        return nodes
      if nodes and nodes == last and self._files() == files and not self._starting():
        return nodes
      last, idle_seconds = nodes, _IDLE_SECONDS

  def _check(self):
    """Raises RuntimeError where something that was started here has crashed."""
    for child in self._children:
      if (child.poll() or 0) < 0:
        raise RuntimeError(f'{child.args[0]} crashed, signal {-child.returncode}')

  def _idle(self, seconds, deadline):
    """Waits until for so long no other process has wanted to run, however busy the machine is."""
    since = time.monotonic()
    while (now := time.monotonic()) - since < seconds and now < deadline:
      if any_runs():
        since = now
      time.sleep(0.004)

  def _read(self):
    """The nodes, or None where a window went while it was read."""
    try:
      return self._screen.read()
    except self._screen.GoneError:
      return None

  def _starting(self):
    """Whether a program runs that shows no window yet, or no longer."""
    return bool(self._running_ids() - self._screen.applications())

  def _running_ids(self):
    return {pid for pid, name in _processes() if name in self._programs}

  def _running(self):
    """Names of the programs that run."""
    return sorted(name for _, name in _processes() if name in self._programs)

  def _files(self):
    """path below home -> text or None for a folder, without what is hidden; the trash as such."""
    found = {}
    for top, prefix in ((self._home, ''), (f'{self._home}/.local/share/Trash/files', 'Trash/')):
      for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith('.'))
        below = os.path.relpath(folder, top)
        for name in sorted([*names, *files]):
          if name.startswith('.'):
            continue
          path = os.path.normpath(os.path.join(below, name))
          found[prefix + path] = None if name in names else self._text(folder, name)
    return found

  def _text(self, folder, name):
    try:
      with open(os.path.join(folder, name), encoding='utf-8', errors='replace') as file:
        return file.read(1 << 14)
    except OSError:
      return ''

  def _write(self, files, folders):
    os.makedirs(self._home, exist_ok=True)
    for path in folders:
      os.makedirs(os.path.join(self._home, path), exist_ok=True)
    for path, text in files.items():
      self._write_one(path, text)
    for folder, names, found in os.walk(self._home, topdown=False):
      for name in (*found, *names):
        os.utime(os.path.join(folder, name), (_MTIME, _MTIME))

  def _write_one(self, path, text):
    target = os.path.join(self._home, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, 'w', encoding='utf-8') as file:
      file.write(text)

  def _launch(self, *command):
    self._children.append(subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, cwd=self._home))

  def _xdotool(self, *words):
    subprocess.run(['xdotool', *map(str, words)], check=True, timeout=20)

  def _wait_for(self, path):
    def answers():
      with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(path) == 0
    self._until(answers, f'{path} does not answer')

  def _until(self, happens, problem):
    deadline = time.monotonic() + _START_SECONDS
    while not happens():
      if time.monotonic() > deadline:
        raise TimeoutError(problem)
      time.sleep(0.01)


def _processes():
  """(process id, name) of all processes that have not ended."""
  found = []
  for entry in os.listdir('/proc'):
    if entry.isdigit():
      try:
        with open(f'/proc/{entry}/stat', encoding='utf-8') as file:
          head, _, rest = file.read().rpartition(')')
      except OSError:
        continue
      if rest.split()[0] not in 'ZX':
        found.append((int(entry), head.partition('(')[2]))
  return found


def any_runs():
  """Whether any thread of another process runs or waits for its turn."""
  own = os.getpid()
  for process, _ in _processes():
    if process == own:
      continue
    try:
      for thread in os.listdir(f'/proc/{process}/task'):
        with open(f'/proc/{process}/task/{thread}/stat', encoding='utf-8') as file:
          if file.read().rpartition(')')[2].split()[0] in 'RD':
            return True
    except OSError:
      continue
  return False
