"""The process inside the sandbox that drives bash; started by sandbox.py.

Standard library and terminal_state.py only. Requests and answers are JSON with a length of four
bytes before it, on stdin and stdout. One bash, the *zygote*, stays pristine for ever and forks the
shell of each episode, which is several times faster than starting bash anew. A shell reads
NUL-terminated commands on descriptor 3 and reports its working directory on descriptor 4; what
commands print arrives on 5.
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

ENDED = b'\1'  # the zygote's report that a shell has ended
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
  """A shell ended or did not answer."""


class Shell:
  """The zygote and the shell it has forked."""

  def __init__(self, home, limits):
    self._home, self._limits = home, limits
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
      raise ShellError(b'') from error
    if self._ended:
      self.alive = False
      return output, None
    return output, self._cwd

  def kill_all(self):
    """Kills every process but the driver and the sandbox's init, however fast they multiply."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
      with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
      if self._process is not None:
        self._process.wait()
        self._process = None
      if len(_processes()) <= 2:
        break
      time.sleep(0.005)
    else:
      sys.exit('processes cannot be killed')
    for descriptor in getattr(self, '_descriptors', ()):
      os.close(descriptor)
    self._descriptors = ()
    self.alive = False

  def kill_strays(self):
    """Kills what the agent left running, with the shell already stopped."""
    known = {1, os.getpid(), self.pid}
    for _ in range(50):
      strays = _processes() - known
      if not strays:
        return
      for pid in strays:
        with contextlib.suppress(ProcessLookupError):
          os.kill(pid, signal.SIGKILL)
      time.sleep(0.0005)
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
        ['bash', '--norc', '--noprofile', '-c', SHELL, 'bash'], cwd=self._home,
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
    """Waits for the shell's report; returns what was printed. Raises ShellError(output so far)."""
    chunks, size, control = [], 0, b''
    deadline = time.monotonic() + limit
    while not control.endswith(b'\0'):
      left = deadline - time.monotonic()
      ready = dict(self._poll.poll(max(0, left) * 1000))
      if not ready or left <= 0:
        raise ShellError(b''.join(chunks))
      if self._output in ready:
        size = self._drain(chunks, size, cap)
      if self._control in ready:
        piece = os.read(self._control, 65536)
        if not piece:
          raise ShellError(b''.join(chunks))
        control += piece
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


def _processes():
  return {int(name) for name in os.listdir('/proc') if name.isdigit()}


class Driver:
  """Answers the host's requests."""

  def __init__(self, home, scratch, limits, cap):
    self._home, self._scratch, self._cap = home, scratch, cap
    self._shell = Shell(home, limits)
    self._seed = 0
    self._image = []
    self._pristine = []  # the entries of the initial state
    self._clean = False  # whether home and scratch are known to be as they were at first

  def ping(self):
    """Shows that the sandbox is up."""
    return {}

  def reset(self, files, modes, dirs, commands, seed, limit):
    """Builds an initial state from nothing; returns its state."""
    self._seed = seed
    self._shell.stop()
    self._shell.kill_strays()
    self._image = [(path, 'dir', 0o755, b'') for path in dirs]
    self._image += [
        (p, 'file', int(modes.get(p, '644'), 8), text.encode()) for p, text in files.items()]
    self._image += [(p, 'dir', int(mode, 8), b'') for p, mode in modes.items() if p not in files]
    self._restore_files()
    self._shell.start(seed)
    for command in commands:
      output, cwd = self._shell.run(command, limit, self._cap)
      if cwd is None:
        raise ShellError(output)
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
    """Runs a command in a fresh shell on the state as it is."""
    self._shell.start(self._seed)
    return self._run(command, limit)

  def _run(self, command, limit):
    timed_out = False
    try:
      output, cwd = self._shell.run(command, limit, self._cap)
    except ShellError as error:
      output, cwd, timed_out = error.args[0], None, True
      self._shell.kill_all()
    if cwd is None:
      self._shell.start(self._seed)
    entries = terminal_state.read_entries(self._home)
    touched = terminal_state.touched(self._pristine, entries)
    self._clean = not touched and not self._used_scratch()
    prompt = self._prompt(cwd)
    return {'output': output.decode('utf-8', 'replace'), 'cwd': prompt, 'timed_out': timed_out,
            'state': terminal_state.render(entries, prompt), 'touched': touched}

  def _prompt(self, cwd):
    if cwd is None or cwd == self._home:
      return '~'
    return '~' + cwd[len(self._home):] if cwd.startswith(self._home + '/') else cwd

  def _used_scratch(self):
    return any(path != self._home for folder in self._scratch for path in _children(folder))

  def _restore_files(self):
    os.chmod(self._home, 0o755)
    _wipe(self._home)
    for folder in self._scratch:
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
  data = sys.stdin.buffer.read(count)
  if len(data) < count:
    sys.exit(0)
  return data


def main():
  """Serves requests until stdin closes."""
  ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: the agent may not read or trace us
  os.umask(0o022)
  driver = Driver(**json.loads(sys.argv[1]))
  while True:
    request = json.loads(_read_exactly(int.from_bytes(_read_exactly(4), 'big')))
    operation = request.pop('op')
    try:
      answer = getattr(driver, operation)(**request)
    except (OSError, ShellError, ValueError) as error:
      answer = {'error': f'{operation}: {error!r}'}
    data = json.dumps(answer).encode()
    sys.stdout.buffer.write(len(data).to_bytes(4, 'big') + data)
    sys.stdout.buffer.flush()


if __name__ == '__main__':
  main()
