"""A home directory as text: what a terminal's state looks like to a model.

Standard library only: the same source runs on the host, where it turns a task's files into
`Task.initial_state`, and inside the sandbox, where it reads the real home directory.

    == notes.txt
    alpha beta
    == docs/
    == run.sh x
    echo hi

Paths are sorted; ` x` marks an executable (755), an octal number any other unusual mode. A last
line holding only a backslash means that the file does not end with a newline. Archives, databases,
git repositories and binary files are summarised. Control characters, and bytes of a name that are
not UTF-8, are shown as U+FFFD.

Whatever an agent may have put there, the text stays small and reading it ends: what is too much for
that raises OSError, and only regular files are opened.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
import zlib

MAX_FILE_CHARACTERS = 2000
MAX_BYTES = 4 * MAX_FILE_CHARACTERS  # read of a file that is not summarised
MAX_SUMMARISED_BYTES = 1 << 22
MAX_READ_BYTES = 1 << 26  # of all files together
MAX_ENTRIES = 60
CUT = '...'
_UNSHOWN = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_UNSHOWN_IN_TEXT = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]')
MTIME = 1705312800  # 2024-01-15 10:00:00 UTC, also what the sandbox's `date` says


def render(entries, cwd='~'):
  """The state as text.

  Args:
    entries: (path, kind, mode, data) of every file and directory below home; kind is 'file', 'dir',
      'link', 'git' or 'other', data the file's bytes, a link's target or a summary.
    cwd: the working directory as the prompt shows it.
  """
  lines = []
  entries = sorted(entries, key=lambda entry: entry[0])
  for path, kind, mode, data in entries[:MAX_ENTRIES]:
    lines.append('== ' + printable(path + _suffix(kind, mode, data)))
    if kind in ('file', 'git'):
      lines += _bounded(_file_lines(path, data) if kind == 'file' else data)
  if len(entries) > MAX_ENTRIES:
    lines.append(f'== {len(entries) - MAX_ENTRIES} more')
  if cwd != '~':
    lines.append('cwd ' + printable(cwd))
  return '\n'.join(lines)


def printable(name):
  """A file's name on one line, as text that can be encoded and does nothing to a terminal."""
  return _UNSHOWN.sub('\ufffd', name)


def printable_text(text):
  """Text of any lines as it may be shown; tabs stay."""
  return _UNSHOWN_IN_TEXT.sub('\ufffd', text)


def setup_entries(files, modes=None, dirs=()):
  """Entries of a home directory that holds exactly `files` (path -> text) and `dirs`."""
  modes = modes or {}
  entries = {}
  folders = set(dirs)
  for path in list(files) + list(dirs):
    while '/' in path:
      path = path.rpartition('/')[0]
      folders.add(path)
  for path in folders:
    entries[path] = (path, 'dir', int(modes.get(path, '755'), 8), b'')
  for path, text in files.items():
    entries[path] = (path, 'file', int(modes.get(path, '644'), 8), text.encode('utf-8'))
  return list(entries.values())


def read_entries(home):
  """Entries of the real directory `home`; every modification time in it becomes MTIME.

  Links are never followed.

  Raises:
    OSError: where there is more than MAX_READ_BYTES to read, or paths are too long.
    RecursionError: where directories are too deep.
  """
  entries = _Entries()
  _walk(home, '', entries)
  os.utime(home, (MTIME, MTIME))
  return entries


class _Entries(list):
  """What was found so far, and how much more may be read."""

  left = MAX_READ_BYTES


def touched(before, after):
  """Paths whose entries differ, or that are too big or too deep to tell."""
  old = {entry[0]: entry for entry in before}
  new = {entry[0]: entry for entry in after}
  return sorted(path for path in {**old, **new} if old.get(path) != new.get(path)
                or new[path][1] == 'git' or len(new[path][3]) >= MAX_BYTES)


def _bounded(lines):
  """Lines as they may be shown: not too many, which summaries may be, and without controls."""
  text = '\n'.join(lines)
  if len(text) > MAX_FILE_CHARACTERS + len(CUT) + 1:
    text = text[:MAX_FILE_CHARACTERS] + '\n' + CUT
  return printable_text(text).split('\n') if lines else []


def _suffix(kind, mode, data):
  if kind == 'link':
    return ' -> ' + data
  if kind == 'other':
    return ' (special)'
  usual = 0o644 if kind == 'file' else 0o755
  mark = '' if kind == 'file' else '/'
  if mode == usual:
    return mark
  return mark + (' x' if mode == 0o755 else f' {mode:o}')


def _file_lines(path, data):
  if not data:
    return []
  summary = _summary(path, data)
  if summary is not None:
    return summary
  text = data.decode('utf-8', 'replace')
  if len(text) > MAX_FILE_CHARACTERS:
    return text[:MAX_FILE_CHARACTERS].split('\n') + [CUT]
  lines = text.split('\n')
  return lines[:-1] if lines[-1] == '' else lines + ['\\']


def _summary(path, data):
  """Lines that stand for a file that is not text, or None for text."""
  if data.startswith(b'SQLite format 3\0'):
    return _database_lines(data)
  if data.startswith(b'\x1f\x8b') or data[257:262] == b'ustar':
    return _archive_lines(data)
  if b'\0' in data:
    return [f'(binary, {len(data)} bytes)']
  try:
    data[:MAX_FILE_CHARACTERS].decode('utf-8')
  except UnicodeDecodeError as error:
    if error.start < min(len(data), MAX_FILE_CHARACTERS) - 4:
      return [f'(binary, {len(data)} bytes)']
  return None


def _archive_lines(data):
  try:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
      names = [m.name + '/' * m.isdir() for m in archive.getmembers()[:MAX_ENTRIES]]
    return [f'(tar: {" ".join(names)})']
  except (tarfile.TarError, EOFError, OSError, zlib.error):
    pass
  try:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
      text = file.read(MAX_FILE_CHARACTERS)
    return ['(gzip)'] + _file_lines('', text)
  except (EOFError, OSError, zlib.error):
    return [f'(binary, {len(data)} bytes)']


def _database_lines(data):
  """Tables and rows; read from a copy in memory, so that the file is never locked or changed."""
  import sqlite3  # only where there is a database: it is slow to import
  try:
    connection = sqlite3.connect(':memory:')
    steps = iter(range(200))  # a hostile view must not hang the reader
    connection.set_progress_handler(lambda: next(steps, None) is None, 1000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_SUMMARISED_BYTES)
    connection.deserialize(data)
    lines = []
    query = "select name from sqlite_master where type='table' order by name limit 20"
    for (table,) in connection.execute(query).fetchall():
      name = table.replace('"', '""')
      cursor = connection.execute(f'select * from "{name}" limit 50')
      lines.append(f'{table}({", ".join(column[0] for column in cursor.description)})')
      lines += ['|'.join('' if v is None else str(v) for v in row) for row in cursor]
    return lines or ['(empty database)']
  except sqlite3.Error:
    return ['(damaged database)']


def _walk(top, prefix, entries):
  with _lent(top, 0o700, os.access(top, os.R_OK | os.W_OK | os.X_OK)):
    with os.scandir(top) as found:
      children = sorted(found, key=lambda child: child.name)
    for child in children:
      _add(child, top, prefix + child.name, entries)


def _add(child, top, path, entries):
  status = child.stat(follow_symlinks=False)
  mode = stat.S_IMODE(status.st_mode)
  if stat.S_ISLNK(status.st_mode):
    entries.append((path, 'link', mode, os.readlink(child.path)))
  elif stat.S_ISDIR(status.st_mode):
    if child.name == '.git':
      entries.append((path, 'git', mode, git_lines(top)))
    else:
      entries.append((path, 'dir', mode, b''))
      _walk(child.path, path + '/', entries)
  elif stat.S_ISREG(status.st_mode):
    with _lent(child.path, 0o400, mode & 0o400):
      data = _read_file(child.path)
      entries.append((path, 'file', mode, data))
      entries.left -= len(data)
      if entries.left < 0:
        raise OSError('the files hold too much')
  else:
    entries.append((path, 'other', mode, b''))
  if status.st_mtime != MTIME:
    os.utime(child.path, (MTIME, MTIME), follow_symlinks=False)


def _read_file(path):
  with _open_regular(path) as file:
    data = file.read(MAX_BYTES)
    if data[:2] == b'\x1f\x8b' or data[257:262] == b'ustar' or data[:6] == b'SQLite':
      data += file.read(MAX_SUMMARISED_BYTES)
  return data


def _open_regular(path):
  """The file at `path`; never a link, and never one that makes the reader wait."""
  flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
  file = open(path, 'rb', opener=lambda name, _: os.open(name, flags))  # noqa: SIM115
  if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
    file.close()
    raise OSError(f'{path} is no regular file')
  return file


@contextlib.contextmanager
def _lent(path, bits, permitted):
  """Lends permission for the moment where the owner has taken it away."""
  if permitted:
    yield
    return
  mode = stat.S_IMODE(os.lstat(path).st_mode)
  os.chmod(path, mode | bits)
  try:
    yield
  finally:
    os.chmod(path, mode)


# ---- git, read from its own files: a `git` process would cost more than the agent's command ----


def git_lines(worktree):
  """Branch, subjects (newest first), staged, modified and untracked names of a repository."""
  try:
    return _git_lines(worktree, os.path.join(worktree, '.git'))
  except (OSError, ValueError, KeyError, IndexError, RecursionError, zlib.error):
    return ['(unreadable repository)']


def _git_lines(worktree, folder):
  head = _read(folder, 'HEAD').decode().strip()
  commit = head
  lines = ['branch (detached)']
  if head.startswith('ref: '):
    lines = ['branch ' + head[len('ref: refs/heads/'):]]
    commit = _reference(folder, head[len('ref: '):])
  committed = {}
  subjects = []
  if commit:
    committed = _tree(folder, _commit_field(folder, commit, 'tree'), '')
  while commit and len(subjects) < 10:
    subjects.append(_object(folder, commit).partition(b'\n\n')[2].decode().split('\n')[0])
    commit = _commit_field(folder, commit, 'parent')
  lines += ['commit ' + subject for subject in subjects]
  staged = _index(folder)
  present = {path: data for path, kind, _, data in _work_files(worktree) if kind == 'file'}
  names = {
      'staged': [p for p in sorted({*staged, *committed}) if staged.get(p) != committed.get(p)],
      'modified': [p for p in sorted(staged) if _blob(present.get(p)) != staged[p]],
      'untracked': [p for p in sorted(present) if p not in staged]}
  return lines + [f'{name} {" ".join(paths)}' for name, paths in names.items() if paths]


def _work_files(worktree):
  entries, left = [], MAX_READ_BYTES
  for path, folders, files in os.walk(worktree):
    folders[:] = sorted(f for f in folders if f != '.git')
    for name in files:
      full = os.path.join(path, name)
      if os.path.isfile(full) and not os.path.islink(full) and os.access(full, os.R_OK):
        data = _read(full)
        entries.append((os.path.relpath(full, worktree), 'file', 0, data))
        left -= len(data)
        if left < 0:
          raise ValueError('the files hold too much')
  return entries


def _read(*path):
  with _open_regular(os.path.join(*path)) as file:
    return file.read(MAX_SUMMARISED_BYTES)


def _reference(folder, name):
  try:
    return _read(folder, name).decode().strip()
  except FileNotFoundError:
    return ''


def _object(folder, name):
  packed = _read(folder, 'objects', name[:2], name[2:])
  data = zlib.decompressobj().decompress(packed, MAX_SUMMARISED_BYTES)
  return data.partition(b'\0')[2]


def _commit_field(folder, commit, field):
  for line in _object(folder, commit).partition(b'\n\n')[0].decode().split('\n'):
    key, _, value = line.partition(' ')
    if key == field:
      return value
  return ''


def _tree(folder, name, prefix):
  found = {}
  data = _object(folder, name)
  while data:
    header, _, rest = data.partition(b'\0')
    mode, _, path = header.decode().partition(' ')
    child, data = rest[:20].hex(), rest[20:]
    if mode == '40000':
      found.update(_tree(folder, child, prefix + path + '/'))
    else:
      found[prefix + path] = child
  return found


def _index(folder):
  try:
    data = _read(folder, 'index')
  except FileNotFoundError:
    return {}
  found, position = {}, 12
  for _ in range(int.from_bytes(data[8:12], 'big')):
    name = data[position + 40:position + 60].hex()
    end = data.index(b'\0', position + 62)
    found[data[position + 62:end].decode()] = name
    position += (end - position) // 8 * 8 + 8
  return found


def _blob(data):
  return None if data is None else hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()
