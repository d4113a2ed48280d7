"""The tools `read` and `edit` of domain swe, run inside the sandbox: swe_tools.py JSON.

Standard library only. The argument is a tool call, `{"name": …, "arguments": {…}}`, whose arguments
the host has checked. The answer is printed; one that begins with `Error: ` changed nothing.
"""

import json
import os
import sys

PAGE_LINES = 60  # what `read` shows where no last line is given
MAX_LINES = 120
AROUND = 2  # lines that `edit` shows before and after the place


class ToolError(Exception):
  """What a call is answered that cannot be done."""


def read(path, first=1, last=None):
  """Lines `first` to `last` of a file, each behind its number."""
  lines = _lines(_load(path))
  if last is None:
    last = first + PAGE_LINES - 1
  if first < 1 or last < first:
    raise ToolError(f'no lines {first} to {last}: they are counted from 1')
  if first > max(1, len(lines)):
    raise ToolError(f'{path} has {len(lines)} lines')
  last = min(last, first + MAX_LINES - 1, len(lines))
  shown = _numbered(lines, first, last)
  if first > 1 or last < len(lines):
    shown.append(f'[lines {first}-{last} of {len(lines)}]')
  return '\n'.join(shown)


def edit(path, old, new):
  """Replaces `old`, which stands in the file once; an empty one makes a new file of `new`."""
  if old == '':
    if os.path.lexists(path):
      raise ToolError(f'{path} is there already: name the text to replace')
    text, place = '', 0
  else:
    text = _load(path)
    count = text.count(old)
    if count != 1:
      raise ToolError(f'the text stands {count} times in {path}' if count
                      else f'the text is not in {path}')
    place = text.index(old)
  changed = text[:place] + new + text[place + len(old):]
  _store(path, changed)
  lines = _lines(changed)
  first = text[:place].count('\n') + 1
  last = first + new.count('\n')
  return '\n'.join(_numbered(lines, max(1, first - AROUND), min(len(lines), last + AROUND)))


def _lines(text):
  lines = text.split('\n')
  return lines if lines[-1] else lines[:-1]


def _numbered(lines, first, last):
  return [f'{number}\t{lines[number - 1]}' for number in range(first, last + 1)]


def _load(path):
  if os.path.isdir(path):
    raise ToolError(f'{path} is a directory')
  if not os.path.isfile(path):
    raise ToolError(f'{path}: no such file')
  try:
    with open(path, encoding='utf-8', newline='') as file:
      return file.read()
  except UnicodeDecodeError:
    raise ToolError(f'{path} is not text') from None
  except OSError as error:
    raise ToolError(f'{path}: {error.strerror.lower()}') from None


def _store(path, text):
  try:
    with open(path, 'w', encoding='utf-8', newline='') as file:
      file.write(text)
  except OSError as error:
    raise ToolError(f'{path}: {error.strerror.lower()}') from None


def main():
  """Does the call and prints its answer."""
  call = json.loads(sys.argv[1])
  try:
    answer = {'read': read, 'edit': edit}[call['name']](**call['arguments'])
  except ToolError as error:
    answer = f'Error: {error}'
  sys.stdout.buffer.write((answer + '\n').encode('utf-8', 'replace'))


if __name__ == '__main__':
  main()
