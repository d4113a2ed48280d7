"""The process inside the sandbox that plays games; started by game_host.py.

Its one argument is the name of the engine. Requests and answers are JSON with a length of four
bytes before it, on stdin and stdout. A request names an operation, which is a method of the engine.
Several games run side by side, each under the name of its session.
"""

import json
import os
import sys


def make_engine(name):
  """The engine of a name: 'textworld', 'express' or 'scienceworld'."""
  if name == 'textworld':
    from aw_jax.environments.game_engines import inform
    return inform.TextWorld()
  from aw_jax.environments.game_engines import java
  return {'express': java.Express, 'scienceworld': java.ScienceWorld}[name]()


def _read_exactly(stream, count):
  data = stream.read(count)
  if len(data) < count:
    sys.exit(0)
  return data


def main():
  """Serves requests until stdin closes."""
  # What a game or its library prints goes to stderr; answers alone go where they are read.
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  engine = make_engine(sys.argv[1])
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


if __name__ == '__main__':
  main()
