"""A repository as text: what the state of domain swe looks like to a model.

    repository tinydb-4.9.0
    tinydb/table.py (780 lines)
    ...
    == tinydb/table.py 301-330
    301	  def insert(self, document):
    ...
    == changes
    --- tinydb/table.py
    +++ tinydb/table.py
    @@ -310 +310 @@
    -    if document:
    +    if not document:

First every file of code and tests with its length, then the parts that the task is about as they
are at first, then the working copy's difference from that.
"""

import difflib
from collections.abc import Mapping, Sequence

from aw_jax.environments import terminal_state

MAX_CHANGE_LINES = 80
MAX_LINE_CHARACTERS = 200


def render(
    name: str, files: Mapping[str, str], shown: Sequence[Sequence],
    changes: Mapping[str, str | None]) -> str:
  """The state as text.

  Args:
    name: of the package.
    files: path -> text, as they are at first.
    shown: (path, first line, last line) of the parts that are shown.
    changes: path -> text of what is different now, None where it is gone.
  """
  lines = [f'repository {name}']
  lines += [f'{path} ({text.count(chr(10))} lines)' for path, text in files.items()
            if path.endswith('.py')]
  for path, first, last in shown:
    lines.append(f'== {path} {first}-{last}')
    part = files[path].split('\n')[first - 1:last]
    lines += [f'{number}\t{line}' for number, line in enumerate(part, first)]
  different = [line[:MAX_LINE_CHARACTERS] for path, text in changes.items()
               for line in _difference(terminal_state.printable(path), files.get(path), text)]
  if different:
    lines.append('== changes')
    lines += different[:MAX_CHANGE_LINES]
    if len(different) > MAX_CHANGE_LINES:
      lines.append(f'[{len(different) - MAX_CHANGE_LINES} more lines]')
  return terminal_state.printable_text('\n'.join(lines))


def _difference(path: str, before: str | None, now: str | None) -> list[str]:
  if now is None:
    return [f'removed {path}']
  if before is None:
    return [f'new {path}', *(f'+{line}' for line in now.splitlines())]
  return list(difflib.unified_diff(
      before.splitlines(), now.splitlines(), path, path, lineterm='', n=0))
