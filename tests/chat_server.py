"""A chat-completions endpoint on loopback, which answers as a test tells it to."""

import contextlib
import dataclasses
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass
class Failure:
  """An answer other than a completion: a status, and seconds to wait before it."""

  status: int = 200
  wait: float = 0.0
  body: str = '{"error": {"message": "no"}}'


@dataclasses.dataclass
class ChatServer:
  """What a running endpoint was asked.

  Attributes:
    url: its base.
    requests: the bodies, in the order they came.
    keys: the Authorization headers.
    at_once: the most requests that were in progress together.
  """

  url: str = ''
  requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  keys: list[str] = dataclasses.field(default_factory=list)
  at_once: int = 0


@contextlib.contextmanager
def running(answer: Callable[[dict[str, Any]], str | Failure], delay: float = 0.0,
            finish: str = 'stop') -> Iterator[ChatServer]:
  """Serves while the context is open.

  Args:
    answer: from the body of a request to the text of its completion, or a failure.
    delay: seconds that each completion takes.
    finish: why a completion ended.
  """
  seen, lock, in_progress = ChatServer(), threading.Lock(), [0]

  class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
      body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
      with lock:
        seen.requests.append(body)
        seen.keys.append(self.headers['Authorization'])
        in_progress[0] += 1
        seen.at_once = max(seen.at_once, in_progress[0])
        said = answer(body)
      try:
        failure = said if isinstance(said, Failure) else Failure(
          body=_completion(body, said, finish))
        time.sleep(failure.wait or delay)
        self._send(failure.status, failure.body.encode())
      finally:
        with lock:
          in_progress[0] -= 1

    def _send(self, status, data):
      with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client waits no longer
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
      del arguments

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  server.daemon_threads = True
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  seen.url = f'http://127.0.0.1:{server.server_address[1]}/v1'
  try:
    yield seen
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


def _completion(body: dict[str, Any], text: str, finish: str) -> str:
  return json.dumps({
    'id': 'x', 'object': 'chat.completion', 'created': 0, 'model': body['model'],
    'choices': [{'index': 0, 'finish_reason': finish,
                 'message': {'role': 'assistant', 'content': text}}],
    'usage': {'prompt_tokens': 10, 'completion_tokens': 3, 'total_tokens': 13}})
