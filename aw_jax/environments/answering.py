"""What a worker's process does inside its sandbox: confines itself, answers requests (workers.py).

Imported there alone, by programs that are handed its file; it needs the standard library only.
"""

import json
import os
import resource
import sys


def confine(limits, uid):
  """Sets limits (name of an RLIMIT_ -> value) and drops root, where `uid` is not 0."""
  for name, value in limits.items():
    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (value, value))
  if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
  os.umask(0o022)


def _read_exactly(stream, count):
  data = stream.read(count)
  if len(data) < count:
    sys.exit(0)
  return data


def serve(make):
  """Answers requests until stdin closes: 'op' names a method of what `make` makes."""
  # What a library prints goes to stderr; answers alone go where they are read.
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  target = make()
  while True:
    size = int.from_bytes(_read_exactly(sys.stdin.buffer, 4), 'big')
    request = json.loads(_read_exactly(sys.stdin.buffer, size))
    operation = request.pop('op')
    try:
      answer = getattr(target, operation)(**request)
    except Exception as error:  # the reader says it in one sentence
      answer = {'error': f'{operation}: {error!r}'.split('\\n')[0]}
    data = json.dumps(answer).encode()
    answers.write(len(data).to_bytes(4, 'big') + data)
    answers.flush()
