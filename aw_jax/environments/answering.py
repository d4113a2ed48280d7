"""What a program of ours does inside its sandbox: it answers requests (asking.py).

Requests and answers are JSON with a length of four bytes before it, on stdin and stdout. A request
names an operation, which is a method of one object. Imported inside sandboxes alone, by programs
that are handed this file; it needs the standard library only.
"""

import json
import os
import sys


def serve(make):
  """Answers until stdin closes; `make()` is the object whose methods are the operations.

  A method that fails is answered with {'error': 'operation: what it raised'}.
  """
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


def _read_exactly(stream, count):
  data = stream.read(count)
  if len(data) < count:
    sys.exit(0)
  return data
