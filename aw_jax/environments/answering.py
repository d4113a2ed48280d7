"""The process inside a sandbox that answers requests; the one who asks is `asking.py`.

Requests and answers are JSON with a length of four bytes before it, on stdin and stdout. A request
names an operation, which is a method of one object.
"""

import json
import os
import resource
import sys


def confine(limits, uid):
  """Sets resource limits ({'NPROC': 64, …}) and drops to `uid`, where that is not 0."""
  for name, value in limits.items():
    resource.setrlimit(getattr(resource, 'RLIMIT_' + name), (value, value))
  if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
  os.umask(0o022)


def serve(make):
  """Answers until stdin closes; `make()` is the object whose methods are the operations.

  A method that fails is answered with {'error': 'operation: what it raised'}.
  """
  # What a library prints goes to stderr; answers alone go where they are read.
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  engine = make()
  while True:
    size = int.from_bytes(_read_exactly(sys.stdin.buffer, 4), 'big')
    request = json.loads(_read_exactly(sys.stdin.buffer, size))
    operation = request.pop('op')
    try:
      answer = getattr(engine, operation)(**request)
    except Exception as error:  # the reader says it in one sentence
      answer = {'error': f'{operation}: {error!r}'}
    data = json.dumps(answer).encode()
    answers.write(len(data).to_bytes(4, 'big') + data)
    answers.flush()


def _read_exactly(stream, count):
  data = stream.read(count)
  if len(data) < count:
    sys.exit(0)
  return data
