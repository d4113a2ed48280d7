"""The chat-completions API as data: requests read strictly, answers and errors in OpenAI's form.

Whatever a client sends becomes a `ChatRequest` or a `RequestError` that names the field. A field
that would change the answer and is not supported is refused, not ignored; fields that say nothing
about the answer (`user`, `metadata`, ...) are let through.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

ROLES = {'system': 'system', 'developer': 'system', 'user': 'user', 'assistant': 'assistant'}
MAX_STOPS, MAX_TOP_LOGPROBS = 4, 20

# What is let through, whatever it says: it does not change what is sampled.
_NO_MATTER = frozenset((
    'metadata', 'parallel_tool_calls', 'prompt_cache_key', 'prompt_cache_options',
    'prompt_cache_retention', 'safety_identifier', 'service_tier', 'store', 'user'))
# What is not supported, with the values (besides null) that ask for nothing.
_UNSUPPORTED = {
    'audio': (), 'frequency_penalty': (0,), 'function_call': ('none', 'auto'), 'functions': ([],),
    'logit_bias': ({},), 'modalities': (['text'],), 'moderation': (), 'prediction': (),
    'presence_penalty': (0,), 'reasoning_effort': (), 'response_format': ({'type': 'text'},),
    'tool_choice': ('none', 'auto'), 'tools': ([],), 'verbosity': (), 'web_search_options': ()}
_MESSAGE_FIELDS = frozenset(('role', 'content', 'name', 'refusal', 'annotations'))
_MESSAGE_NULLS = frozenset(('audio', 'function_call', 'tool_calls'))


class RequestError(ValueError):
  """A request cannot be answered.

  Attributes:
    status: of HTTP.
    param: the field that is wrong, as in `messages[1].role`; None where it is none.
    code: OpenAI's name of the error, None where it has none.
    kind: OpenAI's `type`.
  """

  def __init__(self, message: str, param: str | None = None, code: str | None = None,
               status: int = 400, kind: str = 'invalid_request_error'):
    super().__init__(message)
    self.status, self.param, self.code, self.kind = status, param, code, kind

  def to_json(self) -> dict[str, Any]:
    return {'error': {'message': str(self), 'type': self.kind, 'param': self.param,
                      'code': self.code}}


@dataclasses.dataclass(frozen=True)
class Message:
  """One message: `role` is system, user or assistant."""

  role: str
  text: str


@dataclasses.dataclass(frozen=True)
class ChatRequest:
  """A request for completions.

  Attributes:
    model: the name that was asked for.
    messages: at least one.
    n: choices.
    max_tokens: of a choice; None is as many as the context has room for.
    temperature: 0 is greedy.
    top_p: share of the probability that is sampled from.
    seed: from 0 to below 2^64, None where any will do.
    stop: texts before which a choice ends.
    logprobs: whether log-probabilities are wanted.
    top_logprobs: likeliest tokens at each place that are wanted too.
    stream: whether the answer comes in pieces.
    include_usage: whether the last piece counts the tokens.
  """

  model: str
  messages: tuple[Message, ...]
  n: int = 1
  max_tokens: int | None = None
  temperature: float = 1.0
  top_p: float = 1.0
  seed: int | None = None
  stop: tuple[str, ...] = ()
  logprobs: bool = False
  top_logprobs: int = 0
  stream: bool = False
  include_usage: bool = False


def parse_request(body: bytes, max_choices: int) -> ChatRequest:
  """Reads the body of a request. Raises RequestError, and nothing else, whatever it is.

  Args:
    body: as it came.
    max_choices: the most that `n` may be.
  """
  try:
    fields = json.loads(body)
  except (ValueError, RecursionError) as error:
    raise RequestError(f'the body is not JSON ({type(error).__name__})') from error
  if not isinstance(fields, dict):
    raise RequestError('the body must be a JSON object')
  fields = {name: value for name, value in fields.items() if value is not None}
  _refuse_unsupported(fields)
  logprobs = _boolean(fields, 'logprobs')
  top_logprobs = _integer(fields, 'top_logprobs', 0, MAX_TOP_LOGPROBS, 0)
  if top_logprobs and not logprobs:
    raise RequestError('top_logprobs needs logprobs to be true', 'top_logprobs')
  stream = _boolean(fields, 'stream')
  seed = _integer(fields, 'seed', -2**63, 2**64 - 1)
  return ChatRequest(
      _text(fields.get('model'), 'model'), _messages(fields.get('messages')),
      _integer(fields, 'n', 1, max_choices, 1), _max_tokens(fields),
      _number(fields, 'temperature', 2.0), _number(fields, 'top_p', 1.0),
      None if seed is None else seed % 2**64, _stops(fields.get('stop')), logprobs, top_logprobs,
      stream, _include_usage(fields.get('stream_options'), stream))


def _refuse_unsupported(fields: Mapping[str, Any]) -> None:
  known = {field.name for field in dataclasses.fields(ChatRequest)} - {'include_usage'}
  known |= {'max_completion_tokens', 'stream_options'} | _NO_MATTER
  for name, value in fields.items():
    if name in _UNSUPPORTED:
      if value not in _UNSUPPORTED[name] or isinstance(value, bool):
        raise RequestError(f'{name} is not supported by this server; leave it out', name,
                           'unsupported_parameter')
    elif name not in known:
      field = shown(name)
      raise RequestError(f'there is no field {field}; leave it out', field.strip("'"),
                         'unknown_parameter')


def shown(value: Any) -> str:
  """A value of the client's as an error shows it: short, and valid Unicode."""
  plain = value is None or isinstance(value, (str, int, float))  # others may nest without end
  text = repr(value) if plain else type(value).__name__
  text = text if len(text) <= 80 else f'{text[:77]}...'
  return text.encode('utf-8', errors='replace').decode('utf-8')


def _text(value: Any, name: str) -> str:
  if not isinstance(value, str):
    raise RequestError(f'{name} must be a string', name)
  try:
    value.encode('utf-8')
  except UnicodeEncodeError as error:
    raise RequestError(f'{name} is not valid Unicode ({error.reason})', name) from error
  return value


def _boolean(fields: Mapping[str, Any], name: str) -> bool:
  value = fields.get(name, False)
  if not isinstance(value, bool):
    raise RequestError(f'{name} must be true or false', name)
  return value


def _integer(fields: Mapping[str, Any], name: str, low: int, high: int,
             default: int | None = None) -> int | None:
  if name not in fields:
    return default
  value = fields[name]
  if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
    raise RequestError(f'{name} must be an integer from {low} to {high}', name)
  return value


def _number(fields: Mapping[str, Any], name: str, high: float) -> float:
  value = fields.get(name, 1.0)
  if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= high:
    raise RequestError(f'{name} must be a number from 0 to {high:g}', name)
  return float(value)


def _max_tokens(fields: Mapping[str, Any]) -> int | None:
  found = {name: _integer(fields, name, 1, 2**31 - 1)
           for name in ('max_completion_tokens', 'max_tokens')}
  given = {value for value in found.values() if value is not None}
  if len(given) > 1:
    raise RequestError('max_tokens and max_completion_tokens differ; give one', 'max_tokens')
  return given.pop() if given else None


def _stops(value: Any) -> tuple[str, ...]:
  if value is None:
    return ()
  stops = [value] if isinstance(value, str) else value
  if not isinstance(stops, list) or len(stops) > MAX_STOPS:
    raise RequestError(f'stop must be a string or a list of at most {MAX_STOPS}', 'stop')
  names = ['stop'] if isinstance(value, str) else [f'stop[{i}]' for i in range(len(stops))]
  for name, text in zip(names, stops, strict=True):
    if not _text(text, name):
      raise RequestError(f'{name} must not be empty', name)
  return tuple(stops)


def _include_usage(options: Any, stream: bool) -> bool:
  if options is None:
    return False
  if not stream:
    raise RequestError('stream_options needs stream to be true', 'stream_options')
  if not isinstance(options, dict):
    raise RequestError('stream_options must be an object', 'stream_options')
  for name in options:
    if name not in ('include_usage', 'include_obfuscation'):
      field = shown(name).strip("'")
      raise RequestError(f'stream_options has no field {field}', f'stream_options.{field}',
                         'unknown_parameter')
  value = options.get('include_usage')
  if value is not None and not isinstance(value, bool):
    raise RequestError('stream_options.include_usage must be true or false',
                       'stream_options.include_usage')
  return bool(value)


def _messages(value: Any) -> tuple[Message, ...]:
  if not isinstance(value, list) or not value:
    raise RequestError('messages must be a list of at least one message', 'messages')
  return tuple(_message(entry, f'messages[{i}]') for i, entry in enumerate(value))


def _message(value: Any, name: str) -> Message:
  if not isinstance(value, dict):
    raise RequestError(f'{name} must be an object', name)
  role = value.get('role')
  if not isinstance(role, str) or role not in ROLES:
    raise RequestError(
        f'{name}.role must be one of {", ".join(ROLES)}, is {shown(role)}', f'{name}.role')
  for field, content in value.items():
    if field in _MESSAGE_NULLS and content is not None and content != []:
      raise RequestError(f'{name}.{field} is not supported by this server', f'{name}.{field}',
                         'unsupported_parameter')
    if field not in _MESSAGE_FIELDS | _MESSAGE_NULLS:
      other = shown(field).strip("'")
      raise RequestError(
          f'{name} has no field {other}; leave it out', f'{name}.{other}', 'unknown_parameter')
  return Message(ROLES[role], _content(value.get('content'), f'{name}.content'))


def _content(value: Any, name: str) -> str:
  """A string, or parts of text, which are joined."""
  if isinstance(value, str):
    return _text(value, name)
  if not isinstance(value, list):
    raise RequestError(f'{name} must be a string or a list of text parts', name)
  texts = []
  for i, part in enumerate(value):
    if not isinstance(part, dict) or part.get('type') != 'text':
      raise RequestError(f'{name}[{i}] must be of type text; a world model reads nothing else',
                         f'{name}[{i}]')
    texts.append(_text(part.get('text'), f'{name}[{i}].text'))
  return ''.join(texts)


# --- answers --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Head:
  """What every piece of one answer begins with: its id, the time in seconds, the model's name."""

  id: str
  created: int
  model: str

  def to_json(self, kind: str) -> dict[str, Any]:
    return {'id': self.id, 'object': kind, 'created': self.created, 'model': self.model}


@dataclasses.dataclass(frozen=True)
class TokenLogprob:
  """A token as the text that it added, its log-probability, and the likeliest at its place."""

  text: str
  logprob: float
  top: tuple[tuple[str, float], ...] = ()

  def to_json(self) -> dict[str, Any]:
    top = [_token_json(text, logprob) for text, logprob in self.top]
    return _token_json(self.text, self.logprob) | {'top_logprobs': top}


def _token_json(text: str, logprob: float) -> dict[str, Any]:
  return {'token': text, 'logprob': max(logprob, -9999.0), 'bytes': list(text.encode('utf-8'))}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
  """Tokens read and generated, those that end a turn included."""
  return {'prompt_tokens': prompt_tokens, 'completion_tokens': completion_tokens,
          'total_tokens': prompt_tokens + completion_tokens}


def _logprobs(tokens: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
  return None if tokens is None else {
      'content': [token.to_json() for token in tokens], 'refusal': None}


def choice(index: int, text: str, finish_reason: str, tokens: Sequence[TokenLogprob] | None
           ) -> dict[str, Any]:
  """A whole choice; `tokens` is None where no log-probabilities were asked for."""
  return {'index': index, 'message': {'role': 'assistant', 'content': text, 'refusal': None},
          'finish_reason': finish_reason, 'logprobs': _logprobs(tokens)}


def completion(head: Head, choices: Sequence[dict[str, Any]], counts: dict[str, int]
               ) -> dict[str, Any]:
  """A whole answer."""
  return head.to_json('chat.completion') | {'choices': list(choices), 'usage': counts}


def chunk(head: Head, index: int, delta: dict[str, str], finish_reason: str | None = None,
          tokens: Sequence[TokenLogprob] | None = None) -> dict[str, Any]:
  """A piece of a choice."""
  return head.to_json('chat.completion.chunk') | {'choices': [{
      'index': index, 'delta': delta, 'finish_reason': finish_reason,
      'logprobs': _logprobs(tokens)}]}


def usage_chunk(head: Head, counts: dict[str, int]) -> dict[str, Any]:
  """The piece that counts the tokens."""
  return head.to_json('chat.completion.chunk') | {'choices': [], 'usage': counts}


def model_card(name: str, created: int) -> dict[str, Any]:
  """A model as `/v1/models` lists it."""
  return {'id': name, 'object': 'model', 'created': created, 'owned_by': 'aw_jax'}
