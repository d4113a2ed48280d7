"""Requests of every kind: what is right is read, what is wrong is named, nothing else happens."""

import contextlib
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.serving import protocol
from aw_jax.serving.protocol import ChatRequest, Message, RequestError, parse_request

USER = [{'role': 'user', 'content': 'ls'}]


def parse(**fields):
  return parse_request(json.dumps({'model': 'm', 'messages': USER} | fields).encode(), 8)


def refusal(**fields):
  with pytest.raises(RequestError) as error:
    parse(**fields)
  found = error.value.to_json()['error']
  assert error.value.status == 400 and found['type'] == 'invalid_request_error'
  return found


def test_a_request_without_options():
  assert parse() == ChatRequest('m', (Message('user', 'ls'),))


def test_all_options():
  found = parse(
    n=3, max_completion_tokens=7, temperature=0, top_p=0.5, seed=-1, stop='\n', logprobs=True,
    top_logprobs=20, stream=True, stream_options={'include_usage': True})
  assert found == ChatRequest(
    'm', (Message('user', 'ls'),), 3, 7, 0.0, 0.5, 2**64 - 1, ('\n',), True, 20, True, True)
  assert parse(stop=['a', 'b']).stop == ('a', 'b')
  assert parse(max_tokens=7, max_completion_tokens=7).max_tokens == 7


def test_null_is_as_good_as_nothing():
  nothing = dict.fromkeys((
    'n', 'max_tokens', 'temperature', 'top_p', 'seed', 'stop', 'logprobs', 'top_logprobs', 'stream',
    'stream_options', 'tools', 'response_format', 'logit_bias', 'metadata'))
  assert parse(**nothing) == parse()


def test_what_asks_for_nothing_is_let_through():
  assert parse(
    user='me', metadata={'a': 'b'}, store=False, service_tier='auto', frequency_penalty=0,
    presence_penalty=0.0, logit_bias={}, tools=[], tool_choice='none',
    response_format={'type': 'text'}, modalities=['text']) == parse()


def test_messages():
  found = parse(messages=[
    {'role': 'developer', 'content': 'world'},
    {'role': 'user', 'content': [{'type': 'text', 'text': 'a'}, {'type': 'text', 'text': 'b'}]},
    {'role': 'assistant', 'content': '', 'refusal': None, 'tool_calls': None, 'name': 'w'}])
  assert found.messages == (
    Message('system', 'world'), Message('user', 'ab'), Message('assistant', ''))


@pytest.mark.parametrize(('field', 'value', 'param'), [
  ('model', 3, 'model'), ('model', None, 'model'),
  ('messages', None, 'messages'), ('messages', [], 'messages'), ('messages', 'hi', 'messages'),
  ('messages', [3], 'messages[0]'),
  ('messages', [{'content': 'x'}], 'messages[0].role'),
  ('messages', [{'role': 'tool', 'content': 'x'}], 'messages[0].role'),
  ('messages', [{'role': ['user'], 'content': 'x'}], 'messages[0].role'),
  ('messages', [*USER, {'role': 'user'}], 'messages[1].content'),
  ('messages', [{'role': 'user', 'content': 3}], 'messages[0].content'),
  ('messages', [{'role': 'user', 'content': '\ud800'}], 'messages[0].content'),
  ('messages', [{'role': 'user', 'content': [{'type': 'image_url'}]}], 'messages[0].content[0]'),
  ('messages', [{'role': 'user', 'content': [{'type': 'text'}]}], 'messages[0].content[0].text'),
  ('messages', [{'role': 'user', 'content': 'x', 'tool_calls': [{}]}], 'messages[0].tool_calls'),
  ('messages', [{'role': 'user', 'content': 'x', 'mood': 1}], 'messages[0].mood'),
  ('n', 0, 'n'), ('n', 9, 'n'), ('n', 1.0, 'n'), ('n', True, 'n'), ('n', '1', 'n'),
  ('max_tokens', 0, 'max_tokens'), ('max_tokens', 1.5, 'max_tokens'),
  ('max_completion_tokens', -1, 'max_completion_tokens'),
  ('temperature', 2.1, 'temperature'), ('temperature', -0.1, 'temperature'),
  ('temperature', float('nan'), 'temperature'), ('temperature', 'hot', 'temperature'),
  ('temperature', True, 'temperature'), ('top_p', 1.01, 'top_p'), ('top_p', float('inf'), 'top_p'),
  ('seed', 2**64, 'seed'), ('seed', 1.0, 'seed'), ('seed', 'a', 'seed'),
  ('stop', '', 'stop'), ('stop', ['a', ''], 'stop[1]'), ('stop', ['a'] * 5, 'stop'),
  ('stop', {'a': 1}, 'stop'), ('stop', [3], 'stop[0]'), ('stop', '\udfff', 'stop'),
  ('logprobs', 1, 'logprobs'), ('top_logprobs', 2, 'top_logprobs'),
  ('stream', 'yes', 'stream'), ('stream_options', {'include_usage': True}, 'stream_options'),
  ('tools', [{'type': 'function'}], 'tools'), ('tool_choice', 'required', 'tool_choice'),
  ('response_format', {'type': 'json_object'}, 'response_format'),
  ('frequency_penalty', 0.5, 'frequency_penalty'), ('presence_penalty', False, 'presence_penalty'),
  ('logit_bias', {'1': 5}, 'logit_bias'), ('functions', [{}], 'functions'),
  ('reasoning_effort', 'low', 'reasoning_effort'), ('modalities', ['audio'], 'modalities'),
  ('max_token', 3, 'max_token'),
])
def test_every_wrong_field_is_named(field, value, param):
  found = refusal(**{field: value})
  assert found['param'] == param
  assert field.partition('[')[0] in found['message']


def test_options_that_do_not_go_together():
  assert refusal(logprobs=False, top_logprobs=1)['param'] == 'top_logprobs'
  assert refusal(logprobs=True, top_logprobs=21)['param'] == 'top_logprobs'
  assert refusal(max_tokens=1, max_completion_tokens=2)['param'] == 'max_tokens'
  for options, param in (
      (3, 'stream_options'), ({'include_usage': 1}, 'stream_options.include_usage'),
      ({'usage': True}, 'stream_options.usage')):
    assert refusal(stream=True, stream_options=options)['param'] == param


@pytest.mark.parametrize('body', [
  b'', b'{', b'[]', b'"a"', b'null', b'\xff\xfe\xfa', b'[' * 100_000, b'{"a":' * 50_000,
  b'{"n": ' + b'9' * 5000 + b'}', b'\x00'])
def test_what_is_no_object_of_json(body):
  with pytest.raises(RequestError):
    parse_request(body, 8)


FIELDS = sorted({
  *(field for field in ChatRequest.__dataclass_fields__), 'max_completion_tokens',
  'stream_options', *protocol._UNSUPPORTED, *protocol._NO_MATTER, 'top_k', 'é', ''})
VALUES = (None, True, False, 0, 1, 2, -1, 7, 20, 2**31, 2**63, 2**64, 10**40, 0.0, 0.5, 1.0, 2.5,
          -0.1, 1e300, float('inf'), float('nan'), '', 'm', 'user', 'text', '\ud800', '\0')
MESSAGE_FIELDS = ('role', 'content', 'name', 'tool_calls', 'refusal', 'type', 'text', 'mood')


def any_json(draw, depth=0):
  """A value that often is of the right kind and often is not."""
  kind = draw.randrange(8)
  if depth > 3 or kind > 3:
    return draw.choice(VALUES)
  if kind < 2:
    return [any_json(draw, depth + 1) for _ in range(draw.randrange(6))]
  names = draw.choices((*MESSAGE_FIELDS, *FIELDS), k=draw.randrange(4))
  return {name: any_json(draw, depth + 1) for name in names}


def nearly(draw, right):
  """Mostly `right`."""
  return any_json(draw) if draw.random() < 0.05 else right


def nearly_a_message(draw):
  parts = [nearly(draw, {'type': 'text', 'text': nearly(draw, 'x')})
           for _ in range(draw.randrange(3))]
  found = {'role': nearly(draw, draw.choice((*protocol.ROLES, 'tool'))),
           'content': nearly(draw, draw.choice(('x', '', parts)))}
  if draw.random() < 0.2:
    found[draw.choice(MESSAGE_FIELDS)] = any_json(draw)
  return nearly(draw, found)


def nearly_a_request(draw):
  messages = [nearly_a_message(draw) for _ in range(draw.randrange(4))]
  found = {'model': nearly(draw, 'm'), 'messages': nearly(draw, messages)}
  for name in draw.choices(FIELDS, k=draw.randrange(3)):
    found[name] = any_json(draw)
  return nearly(draw, found)


def read_or_refused(body):
  try:
    request = parse_request(body, 8)
  except RequestError as error:
    answer = json.dumps(error.to_json()).encode('utf-8')
    assert str(error) and 400 <= error.status < 500 and len(answer) < 2000
  else:
    assert request.messages and 1 <= request.n <= 8 and 0 <= request.temperature <= 2
    assert 0 <= request.top_p <= 1
    assert request.seed is None or 0 <= request.seed < 2**64
    for text in (request.model, *request.stop, *(message.text for message in request.messages)):
      text.encode('utf-8')


@given(st.integers(0, 2**32))
@settings(max_examples=1000)
def test_any_json_is_read_or_refused(seed):
  draw = random.Random(seed)
  for _ in range(9):
    read_or_refused(json.dumps(nearly_a_request(draw)).encode())


def test_some_of_them_are_right():
  """Else nothing but refusals was looked at."""
  draw, right = random.Random(0), 0
  for _ in range(500):
    with contextlib.suppress(RequestError):
      parse_request(json.dumps(nearly_a_request(draw)).encode(), 8)
      right += 1
  assert 25 < right < 475


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
@settings(max_examples=1000)
def test_any_bytes_are_read_or_refused(body):
  read_or_refused(body)


def test_answers_have_the_form_of_the_api():
  head = protocol.Head('chatcmpl-1', 5, 'm')
  token = protocol.TokenLogprob('é', float('-inf'), (('e', -0.5),))
  whole = protocol.completion(
    head, [protocol.choice(0, 'é', 'stop', [token])], protocol.usage(3, 2))
  assert whole['usage'] == {'prompt_tokens': 3, 'completion_tokens': 2, 'total_tokens': 5}
  assert whole['choices'][0]['logprobs']['content'] == [{
    'token': 'é', 'logprob': -9999.0, 'bytes': [195, 169],
    'top_logprobs': [{'token': 'e', 'logprob': -0.5, 'bytes': [101]}]}]
  piece = protocol.chunk(head, 1, {'content': 'x'})
  assert piece['choices'] == [
    {'index': 1, 'delta': {'content': 'x'}, 'finish_reason': None, 'logprobs': None}]
