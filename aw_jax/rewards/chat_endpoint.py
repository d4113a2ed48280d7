"""A thin client of OpenAI-compatible chat endpoints: bounded concurrency, retries, token counts.

The package `openai` is an extra and imported where a session opens. The API key comes from an
environment variable alone; it stands in no log, no error and no file.
"""

import asyncio
import concurrent.futures
import dataclasses
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from absl import logging

Messages = Sequence[Mapping[str, str]]
_T = TypeVar('_T')
_SHORTEST = ({'role': 'user', 'content': 'Hello'},)
_REFUSALS = (400, 413, 422)  # of one request: another may be taken


class EndpointError(RuntimeError):
  """An endpoint cannot be used; the message says why and what to do."""


class RequestRefusedError(EndpointError):
  """The endpoint does not take this one request, such as one too long for its context."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """A model behind a chat-completions endpoint, and how it is asked.

  Attributes:
    model: its name there.
    url: the endpoint's base, as in 'http://127.0.0.1:8000/v1'; OpenAI's own where None.
    api_key_variable: the environment variable that holds the key; not needed where `url` is
      given.
    concurrency: the most requests at a time.
    retries: of a request that is refused for load (429), fails in the server (5xx) or times out,
      each after twice the wait of the one before, or what the server asks for.
    timeout: seconds that one try may take.
    temperature: of sampling; the server's default where None.
    max_tokens: of an answer.
  """

  model: str
  url: str | None = None
  api_key_variable: str = 'OPENAI_API_KEY'
  concurrency: int = 16
  retries: int = 5
  timeout: float = 120.0
  temperature: float | None = 0.0
  max_tokens: int = 1024


@dataclasses.dataclass
class Usage:
  """What was asked of an endpoint.

  Attributes:
    requests: that were answered.
    prompt_tokens: that the endpoint counted, of those.
    completion_tokens: likewise.
    refused: requests that it does not take.
    cut_off: answers that ended at `max_tokens`.
  """

  requests: int = 0
  prompt_tokens: int = 0
  completion_tokens: int = 0
  refused: int = 0
  cut_off: int = 0


class ChatSession:
  """An open connection to an endpoint: an async context manager of one event loop."""

  def __init__(self, endpoint: Endpoint, usage: Usage | None = None):
    self._endpoint = endpoint
    self.usage = Usage() if usage is None else usage

  async def __aenter__(self) -> 'ChatSession':
    endpoint, openai = self._endpoint, _openai()
    self._errors, self._bad_request = openai.OpenAIError, openai.BadRequestError
    self._parameters = {'max_tokens': endpoint.max_tokens}
    if endpoint.temperature is not None:
      self._parameters['temperature'] = endpoint.temperature
    self._key = _api_key(endpoint)
    self._free = asyncio.Semaphore(endpoint.concurrency)
    self._client = openai.AsyncOpenAI(
        base_url=endpoint.url, api_key=self._key, timeout=endpoint.timeout,
        max_retries=endpoint.retries)
    return self

  async def __aexit__(self, *error: Any) -> None:
    await self._client.close()
    if self.usage.cut_off:
      logging.warning('%d of %d answers of %s end at max_tokens = %d, and count as they are',
                      self.usage.cut_off, self.usage.requests, self._endpoint.model,
                      self._endpoint.max_tokens)

  async def complete(self, messages: Messages) -> str:
    """The endpoint's answer to `messages`, '' where it says nothing.

    Raises:
      RequestRefusedError: where it does not take this request (400, 413, 422).
      EndpointError: where it gives none after all retries, refuses all, or answers something else.
    """
    try:
      async with self._free:
        answer = await self._ask(messages)
      text = answer.choices[0].message.content or ''
    except self._errors as error:
      refused = getattr(error, 'status_code', None) in _REFUSALS
      raise self._said(f'{type(error).__name__}: {error}', refused) from None
    except (AttributeError, IndexError, TypeError):
      raise self._said('what it answers is no chat completion; give the base URL, often …/v1'
                       ) from None
    self.usage.requests += 1
    self.usage.cut_off += answer.choices[0].finish_reason == 'length'
    if answer.usage is not None:
      self.usage.prompt_tokens += answer.usage.prompt_tokens
      self.usage.completion_tokens += answer.usage.completion_tokens
    return text

  async def answers(self, questions: Sequence[Messages],
                    done: Callable[[int, str | None], None] = lambda index, answer: None
                    ) -> list[str | None]:
    """The answers to all questions; None to those that the endpoint does not take.

    Args:
      questions: each as of `complete`.
      done: told the number and the answer of each as it comes.
    Raises:
      EndpointError: as of `complete`; and where every one is refused, and the shortest of
        questions too: then it is not their length that the endpoint minds.
    """
    refusals: list[RequestRefusedError] = []

    async def ask(index: int) -> str | None:
      try:
        answer = await self.complete(questions[index])
      except RequestRefusedError as error:
        refusals.append(error)
        answer = None
      done(index, answer)
      return answer

    found = await gather(ask(index) for index in range(len(questions)))
    if refusals:
      if len(refusals) == len(found):
        await self._require_an_answer(refusals[0])
      logging.warning('%d of %d requests are refused and count as no answer, the first: %s',
                      len(refusals), len(found), refusals[0])
    return found

  async def _require_an_answer(self, refusal: RequestRefusedError) -> None:
    """Raises `refusal` where the endpoint refuses the shortest of questions as well."""
    try:
      await self.complete(_SHORTEST)
    except RequestRefusedError:
      raise refusal from None

  async def _ask(self, messages: Messages) -> Any:
    """An answer; what the endpoint does not take of the parameters is not sent again.

    Reasoning models of OpenAI's have one temperature, and the limit by another name.
    """
    while True:
      sent = dict(self._parameters)
      try:
        return await self._client.chat.completions.create(
            model=self._endpoint.model, messages=list(messages), **sent)
      except self._bad_request as error:
        refused = getattr(error, 'param', None)
        if refused not in sent or refused not in ('temperature', 'max_tokens'):
          raise
        limit = self._parameters.pop(refused, None)
        if refused == 'max_tokens' and limit is not None:
          self._parameters['max_completion_tokens'] = limit
        elif limit is not None:
          logging.warning('%s takes no temperature %g: asked at its own', self._endpoint.model,
                          limit)

  def _said(self, reason: str, refused: bool = False) -> EndpointError:
    place = self._endpoint.url or 'the OpenAI API'
    self.usage.refused += refused
    return (RequestRefusedError if refused else EndpointError)(
        f'{self._endpoint.model} at {place} gave no answer ({self._endpoint.retries} retries at '
        f'most): {reason.replace(self._key, "[key]")}')


async def gather(works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
  """The results of all `works`; where one fails the others are stopped and its error is raised."""
  try:
    async with asyncio.TaskGroup() as group:
      tasks = [group.create_task(work) for work in works]
  except ExceptionGroup as errors:
    raise errors.exceptions[0] from None
  return [task.result() for task in tasks]


def run(work: Coroutine[Any, Any, _T]) -> _T:
  """Runs `work` to its end in an event loop of its own, also where one runs already (notebooks)."""
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    return pool.submit(asyncio.run, work).result()


def _openai() -> Any:
  try:
    import openai
  except ModuleNotFoundError as error:
    raise EndpointError(
        "no package 'openai' here, which speaks to endpoints; pip install -e '.[llm]'") from error
  return openai


def _api_key(endpoint: Endpoint) -> str:
  key = os.environ.get(endpoint.api_key_variable, '')
  if not key and endpoint.url is None:
    raise EndpointError(
        f'{endpoint.api_key_variable} is not set; export the API key in it, or give the URL of an '
        'endpoint that needs none')
  return key or 'no key'
