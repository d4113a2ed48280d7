"""Git repositories as plain files, written and read without running git.

The host builds the repositories of the mcp domain and looks at them after a sandboxed server has
changed them. Running git there would be slower, and would obey a configuration the host did not
write. Loose objects, an index of version 2 and loose branch references: what git itself leaves in a
small repository.
"""

import dataclasses
import hashlib
import os
import zlib

IDENTITY = ('agent', 'agent@localhost')
DATE = 1705312800  # 2024-01-15 10:00:00 UTC; commits are a function of their content
_CONFIG = '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n'
_SIGNATURE = f'{IDENTITY[0]} <{IDENTITY[1]}> {DATE} +0000'


@dataclasses.dataclass(frozen=True)
class Commit:
  """A commit with all files of its tree.

  Attributes:
    message: its first line is the subject.
    files: path -> text, of the whole tree; paths without directories.
    parent: the index of its parent among the repository's commits, None for a root.
  """

  message: str
  files: dict[str, str]
  parent: int | None = None


@dataclasses.dataclass(frozen=True)
class Repository:
  """A repository and its working tree.

  Attributes:
    head: the current branch, or '' where HEAD is detached.
    branches: name -> subjects of its commits, newest first, and the files of its tip.
    committed: path -> text at HEAD.
    staged: path -> text in the index.
    present: path -> text in the working tree.
    log: subjects at HEAD, newest first.
  """

  head: str
  branches: dict[str, tuple[list[str], dict[str, str]]]
  committed: dict[str, str]
  staged: dict[str, str]
  present: dict[str, str]
  log: list[str]


def write(
    commits: list[Commit], branches: dict[str, int], head: str, present: dict[str, str],
    staged: list[str]) -> dict[str, bytes]:
  """The files of a repository and its working tree.

  Args:
    commits: parents before children.
    branches: name -> index into `commits`.
    head: the current branch.
    present: path -> text in the working tree.
    staged: paths of the working tree that are in the index as they are.
  Returns:
    path -> content, with `.git/` among them.
  """
  files = {'.git/config': _CONFIG.encode(), '.git/HEAD': f'ref: refs/heads/{head}\n'.encode()}
  names = []
  for commit in commits:
    lines = [f'tree {_write_tree(files, commit.files)}']
    if commit.parent is not None:
      lines.append(f'parent {names[commit.parent]}')
    lines += [f'author {_SIGNATURE}', f'committer {_SIGNATURE}', '', commit.message]
    names.append(_write_object(files, b'commit', '\n'.join(lines).encode()))
  for branch, index in branches.items():
    files[f'.git/refs/heads/{branch}'] = f'{names[index]}\n'.encode()
  entries = dict(commits[branches[head]].files) | {path: present[path] for path in staged}
  files['.git/index'] = _index_bytes(
      {p: _write_object(files, b'blob', text.encode()) for p, text in entries.items()})
  return files | {path: text.encode() for path, text in present.items()}


def describe(
    commits: list[Commit], branches: dict[str, int], head: str, present: dict[str, str],
    staged: list[str]) -> Repository:
  """What `read` finds after `write` of the same."""
  tips = {branch: (_subjects(commits, i), commits[i].files) for branch, i in branches.items()}
  committed = dict(commits[branches[head]].files)
  index = committed | {path: present[path] for path in staged}
  return Repository(head, tips, committed, index, dict(present), tips[head][0])


def read(folder: str) -> Repository:
  """The repository in `folder`. Raises ValueError where it is damaged."""
  try:
    return _read(folder)
  except (OSError, KeyError, IndexError, zlib.error) as error:
    raise ValueError(f'unreadable repository: {error!r}') from error


def _subjects(commits: list[Commit], index: int | None) -> list[str]:
  found = []
  while index is not None:
    found.append(commits[index].message.split('\n')[0])
    index = commits[index].parent
  return found


def _write_object(files: dict[str, bytes], kind: bytes, data: bytes) -> str:
  data = b'%s %d\0' % (kind, len(data)) + data
  name = hashlib.sha1(data).hexdigest()
  files[f'.git/objects/{name[:2]}/{name[2:]}'] = zlib.compress(data, 1)
  return name


def _write_tree(files: dict[str, bytes], texts: dict[str, str]) -> str:
  entries = [
      b'100644 %s\0' % path.encode() + bytes.fromhex(_write_object(files, b'blob', text.encode()))
      for path, text in sorted(texts.items())]
  return _write_object(files, b'tree', b''.join(entries))


def _index_bytes(blobs: dict[str, str]) -> bytes:
  """An index whose file times are zero: git compares the contents once and fills them in."""
  data = b'DIRC' + (2).to_bytes(4, 'big') + len(blobs).to_bytes(4, 'big')
  for path, blob in sorted(blobs.items()):
    name = path.encode()
    entry = bytes(24) + (0o100644).to_bytes(4, 'big') + bytes(12) + bytes.fromhex(blob)
    entry += len(name).to_bytes(2, 'big') + name
    data += entry + bytes(8 - len(entry) % 8)
  return data + hashlib.sha1(data).digest()


def _read(folder: str) -> Repository:
  git = os.path.join(folder, '.git')
  head = _bytes(git, 'HEAD').decode().strip()
  branches = {}
  for name in _branch_names(os.path.join(git, 'refs', 'heads')):
    commit = _bytes(git, 'refs', 'heads', name).decode().strip()
    branches[name] = _log(git, commit), _tree(git, commit)
  branch = head[len('ref: refs/heads/'):] if head.startswith('ref: ') else ''
  log, committed = branches[branch] if branch else (_log(git, head), _tree(git, head))
  staged = {path: _object(git, blob).decode('utf-8', 'replace')
            for path, blob in _index(git).items()}
  present = {}
  for entry in os.scandir(folder):
    if entry.is_file(follow_symlinks=False):
      present[entry.name] = _bytes(folder, entry.name).decode('utf-8', 'replace')
  return Repository(branch, branches, committed, staged, present, log)


def _branch_names(heads: str) -> list[str]:
  found = [os.path.relpath(os.path.join(folder, name), heads)
           for folder, _, names in os.walk(heads) for name in names]
  return sorted(found)


def _bytes(*path: str) -> bytes:
  descriptor = os.open(os.path.join(*path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
  with open(descriptor, 'rb') as file:
    return file.read(1 << 20)


def _object(git: str, name: str) -> bytes:
  packed = _bytes(git, 'objects', name[:2], name[2:])
  return zlib.decompressobj().decompress(packed, 1 << 20).partition(b'\0')[2]


def _field(commit: bytes, field: str) -> str:
  for line in commit.partition(b'\n\n')[0].decode('utf-8', 'replace').split('\n'):
    key, _, value = line.partition(' ')
    if key == field:
      return value
  return ''


def _log(git: str, name: str) -> list[str]:
  subjects = []
  while name and len(subjects) < 20:
    commit = _object(git, name)
    message = commit.partition(b'\n\n')[2].decode('utf-8', 'replace')
    subjects.append(message.split('\n')[0])
    name = _field(commit, 'parent')
  return subjects


def _tree(git: str, commit: str) -> dict[str, str]:
  data = _object(git, _field(_object(git, commit), 'tree'))
  files = {}
  while data:
    header, _, rest = data.partition(b'\0')
    path = header.partition(b' ')[2].decode()
    files[path] = _object(git, rest[:20].hex()).decode('utf-8', 'replace')
    data = rest[20:]
  return files


def _index(git: str) -> dict[str, str]:
  data = _bytes(git, 'index')
  found, place = {}, 12
  for _ in range(int.from_bytes(data[8:12], 'big')):
    end = data.index(b'\0', place + 62)
    found[data[place + 62:end].decode()] = data[place + 40:place + 60].hex()
    place += (end - place) // 8 * 8 + 8
  return found
