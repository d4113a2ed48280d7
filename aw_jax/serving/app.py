"""The endpoint as a web application (Starlette, the extra `serving`)."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Any

from aw_jax.serving.api import Answer, Api
from aw_jax.serving.protocol import RequestError

if TYPE_CHECKING:
  from starlette.applications import Starlette
  from starlette.requests import Request
  from starlette.responses import Response

MAX_BODY_BYTES = 4 << 20


class MissingServerError(RuntimeError):
  """A package that serves is missing; the message says how to install it."""


class AddressError(ValueError):
  """An address cannot be listened on; the message says which and why."""


def listen(host: str, port: int) -> socket.socket:
  """A socket that listens. Raises AddressError."""
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=2048)
  except OSError as error:
    raise AddressError(
        f'{host}:{port}: {error.strerror}; choose another --port or --host') from error


def require_packages() -> None:
  """Raises MissingServerError where the extra `serving` is not installed."""
  try:
    import starlette  # noqa: F401
    import uvicorn  # noqa: F401
  except ImportError as error:
    raise MissingServerError(
        f"{error.name} is missing: pip install -e '.[serving]'") from error


def make_app(api: Api, hosts: Collection[str] = ()) -> 'Starlette':
  """`/v1/chat/completions`, `/v1/models`, `/v1/models/NAME` and `/health`.

  Args:
    api: what answers.
    hosts: names that requests may call this host by; any where empty. On loopback those of it:
      else a page in a browser here could reach the model under a name of its own.
  Raises:
    MissingServerError: where a package is missing.
  """
  require_packages()
  from starlette.applications import Starlette
  from starlette.exceptions import HTTPException
  from starlette.routing import Route

  def admit(request):
    api.authorize(request.headers.get('authorization'))
    if hosts and request.url.hostname not in hosts:
      raise RequestError(f'this server is not {request.url.hostname}', code='unknown_host',
                         status=403)

  async def complete(request):
    admit(request)
    kind = request.headers.get('content-type', '').partition(';')[0].strip()
    if kind != 'application/json':  # which no page can send without asking
      raise RequestError(f'content type {kind!r}; send application/json', code='unsupported_type',
                         status=415)
    answer = await api.answer(await _body(request))
    return await (_stream(request, answer) if answer.request.stream else _whole(request, answer))

  async def models(request):
    admit(request)
    return _json(api.models())

  async def model(request):
    admit(request)
    return _json(api.model(request.path_params['name']))

  async def health(request):
    del request
    status, body = api.health()
    return _json(body, status)

  async def refused(request, error):
    del request
    return _refusal(error)

  async def no_route(request, error):
    said = f'{request.method} {request.url.path}: {error.detail}'
    return _refusal(RequestError(said, code='unknown_url', status=error.status_code))

  async def failed(request, error):
    del request
    return _refusal(RequestError(
        f'the server has failed: {type(error).__name__}', code='server_error', status=500,
        kind='server_error'))

  return Starlette(
      routes=[Route('/v1/chat/completions', complete, methods=['POST']),
              Route('/v1/models', models), Route('/v1/models/{name:path}', model),
              Route('/health', health)],
      exception_handlers={RequestError: refused, HTTPException: no_route, Exception: failed})


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> 'Response':
  from starlette.responses import Response

  return Response(json.dumps(body), status, headers, 'application/json')


def _refusal(error: RequestError) -> 'Response':
  headers = {429: {'Retry-After': '1'}, 401: {'WWW-Authenticate': 'Bearer'}}.get(error.status)
  return _json(error.to_json(), error.status, headers)


async def _body(request: 'Request') -> bytes:
  """The body, of which no more than MAX_BODY_BYTES is read."""
  body = bytearray()
  async for part in request.stream():
    body += part
    if len(body) > MAX_BODY_BYTES:
      raise RequestError(f'the body has more than {MAX_BODY_BYTES} bytes', status=413,
                         code='request_too_large')
  return bytes(body)


async def _disconnected(request: 'Request') -> None:
  """Returns when the client has gone."""
  while (await request.receive())['type'] != 'http.disconnect':
    pass


async def _whole(request: 'Request', answer: Answer) -> 'Response':
  """The answer, unless the client goes before it is there: then its choices end at once."""
  from starlette.responses import Response

  work = asyncio.ensure_future(answer.whole())
  gone = asyncio.ensure_future(_disconnected(request))
  try:
    await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    return _json(work.result()) if work.done() else Response(status_code=499)
  finally:
    answer.cancel()
    for task in (work, gone):
      task.cancel()


async def _stream(request: 'Request', answer: Answer) -> 'Response':
  """The answer as server-sent events; ends with the client's connection."""
  from starlette.responses import StreamingResponse

  async def events() -> AsyncIterator[str]:
    try:
      async for chunk in answer.chunks():
        yield _event(chunk)
      yield 'data: [DONE]\n\n'
    except RequestError as error:
      yield _event(error.to_json())
    finally:
      answer.cancel()

  class Events(StreamingResponse):
    """Frees the choices also where the client went before the first piece."""

    async def __call__(self, scope, receive, send):
      try:
        await super().__call__(scope, receive, send)
      finally:
        answer.cancel()

  del request
  return Events(events(), media_type='text/event-stream', headers={'Cache-Control': 'no-cache'})


def _event(body: Any) -> str:
  return f'data: {json.dumps(body)}\n\n'
