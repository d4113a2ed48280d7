"""The endpoint without its web framework: requests to choices of the engine, and back.

The world model's answer is the content of the assistant's message, tags included, as it stands in
the history of the next turn; the observation is what `prompts.chat.parse_prediction` takes out.
"""

import asyncio
import contextlib
import dataclasses
import functools
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from aw_jax.serving import prompt, protocol
from aw_jax.serving.engine import Choice, Engine, EngineError, QueueFullError, Sampling, Tokens
from aw_jax.serving.protocol import ChatRequest, Head, RequestError, TokenLogprob
from aw_jax.serving.text import TextStream
from aw_jax.tokenizer import PREDICTED, Tokenizer


@dataclasses.dataclass(frozen=True)
class Piece:
  """What a choice adds to its answer: text, its tokens where they are wanted, how it ended."""

  text: str
  tokens: tuple[TokenLogprob, ...]
  finish: str | None


class Reader:
  """Makes text of one choice's tokens: stop strings, whole characters, log-probabilities."""

  def __init__(self, tokenizer: Tokenizer, request: ChatRequest, prefix: str):
    """
    Args:
      tokenizer: the vocabulary.
      request: that the choice answers.
      prefix: what its text begins with before the first token.
    """
    self._request = request
    self._stream = TextStream(tokenizer, request.stop, prefix)
    self._unread: list[int] = []
    self._pending: list[tuple[int, int, TokenLogprob]] = []  # with the text's places
    self.count = 0

  def read(self, tokens: Tokens) -> Piece:
    """What `tokens` add. Where a stop string comes, `finish` is 'stop' before the choice's end."""
    stream, before = self._stream, len(self._stream.text)
    if self._request.stop or self._request.logprobs:
      self._read_each(tokens)
    else:
      self._read_all(tokens)
    if tokens.finish and not stream.stopped:
      stream.finish()
    finish = 'stop' if stream.stopped else tokens.finish
    return Piece(stream.text[before:], self._settled(bool(finish)), finish)

  def _read_all(self, tokens: Tokens) -> None:
    """Together; of an answer that is sent whole only at its end: each call decodes all anew."""
    self._unread += tokens.ids
    self.count += tokens.count
    if self._request.stream or tokens.finish:
      self._stream.feed(self._unread)
      self._unread = []

  def _read_each(self, tokens: Tokens) -> None:
    """One by one, up to the token that completes a stop string."""
    stream = self._stream
    for i, token in enumerate(tokens.ids):
      start = len(stream.settled)
      top = ()
      if self._request.top_logprobs:
        most = self._request.top_logprobs
        top = tuple((stream.addition(other), logprob) for other, logprob in zip(
            tokens.likeliest[i][0][:most], tokens.likeliest[i][1][:most], strict=True))
      stream.feed([token])
      self.count += 1
      if self._request.logprobs:
        self._pending.append(
            (start, len(stream.settled), TokenLogprob('', tokens.logprobs[i], top)))
      if stream.stopped:
        return
    self.count += tokens.count - len(tokens.ids)

  def _settled(self, final: bool) -> tuple[TokenLogprob, ...]:
    """The tokens whose text is certain. The last of all has what was not, until the end."""
    text, found = self._stream.text, []
    while self._pending and (final or self._pending[0][1] <= len(text)):
      start, end, token = self._pending.pop(0)
      if final and not self._pending:
        end = len(text)
      if start < len(text) or not self._stream.stopped:  # else behind a stop string's beginning
        found.append(dataclasses.replace(token, text=text[start:end]))
    return tuple(found)


@dataclasses.dataclass
class Answer:
  """An answer in progress.

  Attributes:
    request: that it answers.
    head: what every piece begins with.
    prompt_tokens: ids of the prompt.
    choices: of the engine.
    readers: one for each.
    events: (choice's number, what it said) from the engine's thread.
  """

  request: ChatRequest
  head: Head
  prompt_tokens: int
  choices: list[Choice]
  readers: list[Reader]
  events: asyncio.Queue[tuple[int, Tokens | EngineError]]

  async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
    """(number, piece) of all choices as they come. Raises RequestError where the engine fails."""
    running = set(range(len(self.choices)))
    try:
      while running:
        number, event = await self.events.get()
        if isinstance(event, EngineError):
          raise server_error(event)
        if number not in running:
          continue
        piece = self.readers[number].read(event)
        if piece.finish:
          running.remove(number)
          self.choices[number].cancel()  # where a stop string ended it, it would go on
        yield number, piece
    finally:
      self.cancel()

  def cancel(self) -> None:
    """Frees what the choices hold."""
    for choice in self.choices:
      choice.cancel()

  def usage(self) -> dict[str, int]:
    """Tokens so far."""
    return protocol.usage(self.prompt_tokens, sum(reader.count for reader in self.readers))

  async def whole(self) -> dict[str, Any]:
    """The whole answer, when all choices have ended."""
    found: list[list[Piece]] = [[] for _ in self.choices]
    async for number, piece in self.pieces():
      found[number].append(piece)
    choices = [
        protocol.choice(
            number, ''.join(piece.text for piece in pieces), pieces[-1].finish,
            sum((piece.tokens for piece in pieces), ()) if self.request.logprobs else None)
        for number, pieces in enumerate(found)]
    return protocol.completion(self.head, choices, self.usage())

  async def chunks(self) -> AsyncIterator[dict[str, Any]]:
    """The answer in pieces: each choice's role, its text, how it ended; the usage where wanted."""
    extra = {'usage': None} if self.request.include_usage else {}
    chunk = functools.partial(protocol.chunk, self.head)
    for number in range(len(self.choices)):
      yield chunk(number, {'role': 'assistant', 'content': ''}) | extra
    async for number, piece in self.pieces():
      if piece.text or piece.tokens:
        tokens = piece.tokens if self.request.logprobs else None
        yield chunk(number, {'content': piece.text}, tokens=tokens) | extra
      if piece.finish:
        yield chunk(number, {}, piece.finish) | extra
    if self.request.include_usage:
      yield protocol.usage_chunk(self.head, self.usage())


@contextlib.contextmanager
def _full_queue() -> Iterator[None]:
  """Tells a client of a full queue."""
  try:
    yield
  except QueueFullError as error:
    raise RequestError(str(error), code='rate_limit_exceeded', status=429,
                       kind='rate_limit_error') from error


def server_error(error: Exception) -> RequestError:
  """What a client is told of an engine that has ended."""
  return RequestError(str(error), code='server_error', status=503, kind='server_error')


class Api:
  """Answers requests with an engine."""

  def __init__(self, engine: Engine, tokenizer: Tokenizer, model: str, *, thinking: bool = True,
               key: str | None = None):
    """
    Args:
      engine: that decodes.
      tokenizer: the vocabulary.
      model: the name it is served under.
      thinking: whether the model may think before it answers.
      key: that clients must give; None where they need none.
    """
    self.engine, self._tokenizer, self._model = engine, tokenizer, model
    self._thinking, self._key = thinking, key
    self._started = int(time.time())

  def authorize(self, header: str | None) -> None:
    """Raises RequestError where the `Authorization` header (as Latin-1) does not have the key."""
    if self._key is None:
      return
    scheme, _, given = (header or '').partition(' ')
    if scheme.lower() != 'bearer' or not secrets.compare_digest(
        given.encode('latin-1', errors='replace'), self._key.encode('utf-8')):
      said = 'Incorrect API key provided' if header else (
          'No API key provided; send it as Authorization: Bearer KEY')
      raise RequestError(said, code='invalid_api_key', status=401)

  def models(self) -> dict[str, Any]:
    """What `/v1/models` answers."""
    return {'object': 'list', 'data': [protocol.model_card(self._model, self._started)]}

  def model(self, name: str) -> dict[str, Any]:
    """The model of a name. Raises RequestError where there is none."""
    if name != self._model:
      raise RequestError(f'there is no model {protocol.shown(name)}; this server has '
                         f'{self._model!r}', 'model', 'model_not_found', 404)
    return protocol.model_card(self._model, self._started)

  def health(self) -> tuple[int, dict[str, Any]]:
    """HTTP status, and how busy the engine is."""
    active, waiting = self.engine.load()
    error = self.engine.error
    return (503 if error else 200), {
        'status': str(error) if error else 'ok', 'model': self._model, 'slots': self.engine.slots,
        'active': active, 'waiting': waiting}

  async def answer(self, body: bytes) -> Answer:
    """Begins to answer a request. Raises RequestError where it cannot be."""
    request = protocol.parse_request(body, self.engine.slots)
    self.model(request.model)
    with _full_queue():  # before work is done for nothing, and once more when it is
      self.engine.require_room(request.n)
    # In a thread: a message of megabytes takes seconds to encode, and others would wait.
    ids = await asyncio.to_thread(
        prompt.render, self._tokenizer, request.messages, self._thinking)
    samplings = self._samplings(request, len(ids))
    events: asyncio.Queue = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def listener(number: int, event: Tokens | EngineError) -> None:
      loop.call_soon_threadsafe(events.put_nowait, (number, event))

    try:
      with _full_queue():
        choices = self.engine.submit(
            ids, samplings, [functools.partial(listener, i) for i in range(request.n)])
    except EngineError as error:
      raise server_error(error) from error
    prefix = '' if self._thinking else PREDICTED
    head = Head(f'chatcmpl-{uuid.uuid4().hex}', int(time.time()), self._model)
    return Answer(request, head, len(ids), choices,
                  [Reader(self._tokenizer, request, prefix) for _ in choices], events)

  def _samplings(self, request: ChatRequest, prompt_tokens: int) -> Sequence[Sampling]:
    """How each choice is sampled. Raises RequestError where the context has no room for them."""
    context, room = self.engine.context, self.engine.context - prompt_tokens
    wanted = request.max_tokens or max(room, 1)
    if wanted > room:
      raise RequestError(
          f'the context is {context} tokens; the messages have {prompt_tokens} and the answer may '
          f'have {wanted}: shorten the messages or lower max_tokens',
          'messages' if room < 1 else 'max_tokens', 'context_length_exceeded')
    seed = secrets.randbits(64) if request.seed is None else request.seed
    return [Sampling(wanted, request.temperature, request.top_p, seed, number,
                     request.top_logprobs > 0) for number in range(request.n)]
