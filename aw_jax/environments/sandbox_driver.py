"""The first process inside the sandbox, which drives bash; started by sandbox.py.

Standard library and terminal_state.py only. Requests and answers are JSON with a length of four
bytes before it, on stdin and stdout. One bash, the *zygote*, stays pristine for ever and forks the
shell of each episode, which is several times faster than starting bash anew. A shell reads
NUL-terminated commands on descriptor 3 and reports its working directory on descriptor 4; what
commands print arrives on 5.

The agent has the same uid as all of these. As process 1 the driver cannot be killed or stopped from
within, and collects the orphans. The zygote and its shells run a copy of bash that may be executed
but not read, for then the kernel lets nobody trace them or open their descriptors: a command cannot
overhear the next one, or the check at an episode's end, or leave something in the zygote for the
episodes to come.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import time

from aw_jax.environments import terminal_state

BASH = '/opt/driver/bash'
MAX_CHANGES = 50  # files that `call` reports
MAX_CHANGE_BYTES = 200_000  # of one of them
ENDED = b'\1'  # the zygote's report that a shell has ended
WATCH_SECONDS = 0.05  # between two looks at what the agent uses
MAX_REPORT_BYTES = 1 << 16
READ_SECONDS = 5.0  # at least, for the state after a command
READ_ATTEMPTS = 20  # at it, while something in the background moves files about
MAX_OWN_BYTES = 1 << 30  # address space of the driver
SOCKET_BYTES = 4 << 20  # what a socket's buffers may hold, which counts as no process's
SHELL = r"""
__status() { return $__last; }
__serve() {
  while IFS= builtin read -r -d '' -u 3 __command; do
    [[ $__command ]] || exit 0
    __status
    builtin eval "$__command" </dev/null >&5 2>&1 3<&- 4>&- 5>&-
    __last=$?
    builtin printf '%s\0' "$PWD" >&4
  done
}
while IFS= read -r -d '' -u 3 __seed; do
  ( trap - EXIT; RANDOM=$__seed; __last=0; unset __seed; __serve ) 2>/dev/null
  printf '\1\0' >&4
done
"""


class ShellError(Exception):
  """A shell ended or did not answer: ShellError(what it had printed, why it was killed)."""


class LimitError(Exception):
  """Something took more than it may: LimitError(what of)."""


class Shell:
  """The zygote and the shell it has forked."""

  def __init__(self, home, limits, watch):
    self._home, self._limits, self._watch = home, limits, watch
    self.pid = 0
    self.alive = False
    self._process = None

  def start(self, seed):
    """A fresh shell in the home directory."""
    self.stop()
    if self._process is None:
      self._start_zygote()
    self._send(str(seed))
    self.alive = True

  def stop(self):
    """Ends the shell; the zygote stays unless something is wrong with it."""
    if not self.alive:
      return
    self.alive = False
    try:
      self._send('')
      self._receive(2.0, 0)
    except (ShellError, OSError):
      self.kill_all()
      return
    if not self._ended:
      self.kill_all()

  def run(self, command, limit, cap):
    """Runs a command. Returns (output bytes, working directory or None where the shell ended)."""
    try:
      self._send(command)
      output = self._receive(limit, cap)
    except OSError as error:
      raise ShellError(b'', 'shell') from error
    if self._ended:
      self.alive = False
      return output, None
    return output, self._cwd

  def kill_all(self):
    """Kills every process but the driver, however fast they multiply."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
      with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
      self._process = None
      reap()
      if len(_processes()) <= 1:
        break
      time.sleep(0.002)
    else:
      sys.exit('processes cannot be killed')
    for descriptor in getattr(self, '_descriptors', ()):
      os.close(descriptor)
    self._descriptors = ()
    self.alive = False

  def kill_strays(self):
    """Kills what the agent left running, with the shell already stopped.

    The zygote goes with it: what is still there may be a shell that only said it had ended.
    """
    reap()
    if _processes() - {1, self.pid}:
      self.kill_all()

  def _start_zygote(self):
    command_read, self._commands = os.pipe()
    self._control, control_write = os.pipe()
    self._output, output_write = os.pipe()
    os.set_blocking(self._output, False)
    inside = {3: command_read, 4: control_write, 5: output_write}

    def prepare():
      spare = {target: os.dup2(source, 50 + target) for target, source in inside.items()}
      for target, source in spare.items():
        os.dup2(source, target)
        os.close(source)
      for name, value in self._limits.items():
        resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (value, value))

    self._process = subprocess.Popen(
        ['bash', '--norc', '--noprofile', '-c', SHELL, 'bash'], executable=BASH, cwd=self._home,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=prepare, pass_fds=(3, 4, 5))
    self.pid = self._process.pid
    for descriptor in inside.values():
      os.close(descriptor)
    self._descriptors = (self._commands, self._control, self._output)
    self._poll = select.poll()
    self._poll.register(self._control, select.POLLIN)
    self._poll.register(self._output, select.POLLIN)

  def _send(self, text):
    data = text.replace('\0', '').encode('utf-8', 'replace') + b'\0'
    while data:
      data = data[os.write(self._commands, data):]

  def _receive(self, limit, cap):
    """Waits for the shell's report; returns what was printed. Raises ShellError."""
    chunks, size, control = [], 0, b''
    deadline = time.monotonic() + limit
    while not control.endswith(b'\0'):
      left = deadline - time.monotonic()
      ready = dict(self._poll.poll(max(0, min(left, WATCH_SECONDS)) * 1000))
      if left <= 0:
        raise ShellError(b''.join(chunks), 'time')
      try:
        self._watch()
      except LimitError as error:
        raise ShellError(b''.join(chunks), str(error)) from error
      if self._output in ready:
        size = self._drain(chunks, size, cap)
      if self._control in ready:
        piece = os.read(self._control, 65536)
        control += piece
        if not piece or len(control) > MAX_REPORT_BYTES:
          raise ShellError(b''.join(chunks), 'shell')
    self._drain(chunks, size, cap)
    reports = control[:-1].split(b'\0')
    self._ended = ENDED in reports
    self._cwd = reports[0].decode('utf-8', 'replace')
    return b''.join(chunks)

  def _drain(self, chunks, size, cap):
    """Reads what is there, keeping at most `cap` bytes in all; bounded, so that `yes` ends too."""
    for _ in range(64):
      try:
        data = os.read(self._output, 65536)
      except BlockingIOError:
        break
      if not data:
        break
      if size < cap:
        chunks.append(data[:cap - size])
      size += len(data)
    return size


def reap():
  """Collects the processes that have ended, the orphans too."""
  with contextlib.suppress(ChildProcessError):
    while os.waitpid(-1, os.WNOHANG)[0]:
      pass


def _processes():
  return {int(name) for name in os.listdir('/proc') if name.isdigit()}


class Watch:
  """Looks now and then at what all processes use together, which no rlimit counts."""

  def __init__(self, folders, memory, files):
    self._folders, self._memory, self._files = folders, memory, files
    self._next = 0.0

  def __call__(self):
    """Raises LimitError('memory' or 'files'); looks once in WATCH_SECONDS."""
    if time.monotonic() < self._next:
      return
    reap()
    for folder in self._folders:
      space = os.statvfs(folder)
      if space.f_files - space.f_ffree > self._files:
        raise LimitError('files')
    processes = _processes() - {1}
    memory = self._memory - _sockets() * SOCKET_BYTES
    if (sum(map(_resident, processes)) > memory
        and sum(map(_proportional, processes)) > memory):  # slower, but counts pages once
      raise LimitError('memory')
    self._next = time.monotonic() + WATCH_SECONDS


def _sockets():
  """How many sockets there are."""
  with open('/proc/net/sockstat', 'rb') as file:
    return int(file.readline().split()[-1])  # sockets: used N


def _resident(pid):
  """Bytes of memory that a process has, those it shares among them."""
  try:
    with open(f'/proc/{pid}/statm', 'rb') as file:
      return int(file.read().split()[1]) * resource.getpagesize()
  except (FileNotFoundError, ProcessLookupError):
    return 0


def _proportional(pid):
  """Bytes of memory that a process has, each divided by the number of those that share it."""
  try:
    with open(f'/proc/{pid}/smaps_rollup', 'rb') as file:
      return next((int(line.split()[1]) << 10 for line in file if line.startswith(b'Pss:')), 0)
  except PermissionError:  # a shell
    return _resident(pid)
  except (FileNotFoundError, ProcessLookupError):
    return 0


class Driver:
  """Answers the host's requests."""

  def __init__(self, home, scratch, limits, cap, memory, files):
    self._home, self._scratch, self._cap = home, scratch, cap
    self._watch = Watch(scratch, memory, files)
    self._shell = Shell(home, limits, self._watch)
    self._killed = ''  # why the agent's processes were, since the last command
    self._seed = 0
    self._image = []
    self._pristine = []  # the entries of the initial state
    self._clean = False  # whether home and scratch are known to be as they were at first

  def ping(self):
    """Shows that the sandbox is up."""
    return {}

  def idle(self):
    """Between two requests: what runs in the background may still use too much."""
    try:
      self._watch()
    except LimitError as error:
      self._killed = str(error)
      self._shell.kill_all()

  def reset(self, files, modes, dirs, commands, seed, limit):
    """Builds an initial state from nothing; returns its state."""
    self._seed, self._killed = seed, ''
    self._shell.stop()
    self._shell.kill_strays()
    self._image = [(path, 'dir', 0o755, b'') for path in dirs]
    self._image += [
        (p, 'file', int(modes.get(p, '644'), 8), text.encode('utf-8', 'surrogateescape'))
        for p, text in files.items()]
    self._image += [(p, 'dir', int(mode, 8), b'') for p, mode in modes.items() if p not in files]
    self._restore_files()
    self._shell.start(seed)
    for command in commands:
      output, cwd = self._shell.run(command, limit, self._cap)
      if cwd is None:
        raise ShellError(output, 'shell')
    if commands:
      self._shell.stop()
      self._shell.kill_strays()
      self._image = self._read_image()
      self._pristine = terminal_state.read_entries(self._home)
      self._shell.start(seed)
    return {'state': terminal_state.render(self._pristine)}

  def run(self, command, limit):
    """Runs a command in the episode's shell."""
    return self._run(command, limit)

  def probe(self, command, limit):
    """Runs a command in a fresh shell on a fresh copy of the initial state."""
    self._shell.stop()
    self._shell.kill_strays()
    if not self._clean:
      self._restore_files()
    self._shell.start(self._seed)
    return self._run(command, limit)

  def verify(self, command, limit):
    """Runs a command in a fresh shell on the state as it is, with nothing else running."""
    self._shell.stop()
    self._shell.kill_strays()
    self._killed = ''
    self._shell.start(self._seed)
    return self._run(command, limit)

  def call(self, command, limit, fresh):
    """Runs a command in a shell of its own, which nothing that it starts outlives."""
    self._shell.stop()
    self._shell.kill_strays()
    if fresh and not self._clean:
      self._restore_files()
    self._shell.start(self._seed)
    output, _, killed = self._listen(command, limit)
    self._shell.stop()
    self._shell.kill_strays()
    with _time_limit(max(limit, READ_SECONDS)):
      terminal_state.read_entries(self._home)  # puts modification times back
      changes = self._changes()
    self._clean = not changes and not self._used_scratch()
    return {'output': output.decode('utf-8', 'replace'), 'killed_for': killed,
            'changes': changes, 'initial': self._clean}

  def _changes(self):
    """Path -> text of what is not as in the initial state, None where it is gone."""
    before = {path: (kind, mode, data) for path, kind, mode, data in self._image}
    folders_before = {path.rpartition('/')[0] for path in before}
    for path in list(folders_before):
      while path := path.rpartition('/')[0]:
        folders_before.add(path)
    found, seen = {}, set()
    for top, folders, files in os.walk(self._home):
      for name in folders + files:
        full = os.path.join(top, name)
        path = os.path.relpath(full, self._home)
        seen.add(path)
        usual = before.get(path, ('dir', 0o755 if path in folders_before else -1, b''))
        entry = _entry(full, len(usual[2]))
        if entry[0] == 'dir':
          if entry[1] != usual[1]:
            found[path + '/'] = ''
        elif entry != usual:
          found[path] = _described(*entry)
    found.update(dict.fromkeys(set(before) - seen))
    return dict(sorted(found.items())[:MAX_CHANGES])

  def _run(self, command, limit):
    output, cwd, killed = self._listen(command, limit)
    if cwd is None:
      self._shell.start(self._seed)
    with _time_limit(max(limit, READ_SECONDS)):
      entries = self._entries()
      prompt = self._prompt(cwd)
      state = terminal_state.render(entries, prompt)
    touched = terminal_state.touched(self._pristine, entries)
    self._clean = not touched and not self._used_scratch()
    return {'output': output.decode('utf-8', 'replace'), 'cwd': prompt, 'killed_for': killed,
            'state': state, 'touched': touched}

  def _listen(self, command, limit):
    """(output, working directory or None where the shell ended, why it was killed) of a command."""
    killed, self._killed = self._killed, ''
    if not self._shell.alive:
      self._shell.start(self._seed)
    try:
      output, cwd = self._shell.run(command, limit, self._cap)
    except ShellError as error:
      output, killed = error.args
      cwd = None
      self._shell.kill_all()
    if killed == 'files':
      raise LimitError('number of files')
    return output, cwd, killed

  def _entries(self):
    """What is in the home directory, read again where a file went while it was read."""
    for _ in range(READ_ATTEMPTS - 1):
      with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return terminal_state.read_entries(self._home)
    return terminal_state.read_entries(self._home)

  def _prompt(self, cwd):
    if cwd is None or cwd == self._home:
      return '~'
    return '~' + cwd[len(self._home):] if cwd.startswith(self._home + '/') else cwd

  def _used_scratch(self):
    return any(path != self._home for folder in self._scratch if folder != self._home
               for path in _children(folder))

  def _restore_files(self):
    os.chmod(self._home, 0o755)
    _wipe(self._home)
    for folder in self._scratch:
      if folder != self._home:
        _wipe(folder, keep=self._home)
      os.utime(folder, (terminal_state.MTIME, terminal_state.MTIME))
    for path, kind, _, data in self._image:
      full = os.path.join(self._home, path)
      if kind == 'dir':
        os.makedirs(full, exist_ok=True)
      else:
        if '/' in path:
          os.makedirs(os.path.dirname(full), exist_ok=True)
        if kind == 'link':
          os.symlink(data, full)
        else:
          with open(full, 'wb') as file:
            file.write(data)
    for path, kind, mode, _ in reversed(self._image):
      if kind != 'link' and mode != (0o644 if kind == 'file' else 0o755):
        os.chmod(os.path.join(self._home, path), mode)
    self._pristine = terminal_state.read_entries(self._home)
    self._clean = True

  def _read_image(self):
    """Everything below home, .git too, to be restored later; parents before children."""
    image = []
    for top, folders, files in os.walk(self._home):
      folders.sort()
      for name in folders + sorted(files):
        full = os.path.join(top, name)
        path, status = os.path.relpath(full, self._home), os.lstat(full)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
          image.append((path, 'link', mode, os.readlink(full)))
        elif stat.S_ISDIR(status.st_mode):
          image.append((path, 'dir', mode, b''))
        else:
          with open(full, 'rb') as file:
            image.append((path, 'file', mode, file.read()))
    return image


@contextlib.contextmanager
def _time_limit(seconds):
  """Raises LimitError inside where it takes longer: an agent may leave files that do."""
  def stop(*_):
    raise LimitError('time to read the files')
  signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, seconds, WATCH_SECONDS)  # again, where that was caught
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _entry(path, expected):
  """(kind, mode, data) of a path, as an image has them; links are not followed.

  A file is read where it is `expected` bytes long, or short; else its data is None.
  """
  status = os.lstat(path)
  mode = stat.S_IMODE(status.st_mode)
  if stat.S_ISDIR(status.st_mode):
    return 'dir', mode, b''
  if stat.S_ISLNK(status.st_mode):
    return 'link', mode, os.readlink(path)
  if not stat.S_ISREG(status.st_mode):
    return 'other', mode, b''
  if status.st_size > MAX_CHANGE_BYTES and status.st_size != expected:
    return 'file', mode, None
  try:
    with open(path, 'rb') as file:
      return 'file', mode, file.read()
  except PermissionError:
    return 'unreadable', mode, b''


def _described(kind, _, data):
  """A changed file as text, described in brackets where it is none."""
  if kind == 'link':
    return f'[link to {data}]'
  if kind != 'file':
    return f'[{kind}]'
  if data is None or len(data) > MAX_CHANGE_BYTES:
    return f'[more than {MAX_CHANGE_BYTES} bytes]'
  try:
    return data.decode('utf-8')
  except UnicodeDecodeError:
    return f'[binary, {len(data)} bytes]'


def _children(folder):
  return [os.path.join(folder, name) for name in os.listdir(folder)]


def _wipe(folder, keep=''):
  for child in os.scandir(folder):
    if child.path == keep:
      continue
    if child.is_dir(follow_symlinks=False):
      shutil.rmtree(child.path, onerror=_force)
    else:
      os.unlink(child.path)


def _force(function, path, _):
  """Removes what its owner made unreadable or unwritable."""
  for place in (os.path.dirname(path), path):
    if os.path.isdir(place) and not os.path.islink(place):
      os.chmod(place, 0o700)
  if os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path)
  else:
    os.unlink(path)


def _read_exactly(count):
  data = b''
  while len(data) < count:
    piece = os.read(0, count - len(data))
    if not piece:
      sys.exit(0)
    data += piece
  return data


def _read_request(idle):
  while not select.select([0], [], [], WATCH_SECONDS)[0]:
    idle()
  return json.loads(_read_exactly(int.from_bytes(_read_exactly(4), 'big')))


def main():
  """Serves requests until stdin closes."""
  ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: the agent may not read or trace us
  signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 gets no signal it has no handler for
  resource.setrlimit(resource.RLIMIT_AS, (MAX_OWN_BYTES, MAX_OWN_BYTES))
  os.umask(0o022)
  driver = Driver(**json.loads(sys.argv[1]))
  while True:
    request = _read_request(driver.idle)
    operation = request.pop('op')
    try:
      answer = getattr(driver, operation)(**request)
    except (OSError, ShellError, LimitError, ValueError, RecursionError, MemoryError) as error:
      answer = {'error': f'{operation}: {error!r}'}
    data = json.dumps(answer).encode()
    sys.stdout.buffer.write(len(data).to_bytes(4, 'big') + data)
    sys.stdout.buffer.flush()


if __name__ == '__main__':
  main()
