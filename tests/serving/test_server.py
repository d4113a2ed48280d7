"""The endpoint over HTTP, with the official client: what it says, and what it does under load."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import openai
import pytest

from aw_jax.models.decoder import Decoder
from aw_jax.prompts import chat
from aw_jax.sampling.decode import generate
from aw_jax.sampling.sampler import Sampler
from aw_jax.serving import app, prompt
from aw_jax.serving.api import Api
from aw_jax.tokenizer import PREDICTED
from tests.serving.tiny_world import CONTEXT, SLOTS, WAITING, serve, wait_until

SYSTEM = {'role': 'system', 'content': 'hello 7'}
MAX_TOKENS = 24


def messages(action='hello'):
  return [SYSTEM, {'role': 'user', 'content': action}]


def prompt_ids(world, action='hello'):
  return [*chat.world_model_context(world.tokenizer, SYSTEM['content'], []),
          *chat.action_message(world.tokenizer, action)]


def sample(world, actions, **options):
  """What the library says."""
  sampler = Sampler(world.config, world.params, world.tokenizer, batch_size=8, bucket=64)
  return sampler.sample(
    [prompt_ids(world, action) for action in actions], max_tokens=MAX_TOKENS, **options)


def streamed(stream):
  """Text and ends by choice, log-probabilities, usage."""
  texts, ends, tokens, usage = {}, {}, [], None
  for chunk in stream:
    assert chunk.object == 'chat.completion.chunk'
    usage = chunk.usage or usage
    for choice in chunk.choices:
      assert choice.index not in ends
      texts[choice.index] = texts.get(choice.index, '') + (choice.delta.content or '')
      assert '\ufffd' not in (choice.delta.content or '')[-1:] or choice.finish_reason is None
      tokens += choice.logprobs.content if choice.logprobs else []
      if choice.finish_reason:
        ends[choice.index] = choice.finish_reason
  return texts, ends, tokens, usage


ACTIONS = [f'world {i}' for i in range(8)]


# --- answers --------------------------------------------------------------------------------------


def test_greedy_answers_are_those_of_the_library(world, ask):
  for action, (expected,) in zip(ACTIONS, sample(world, ACTIONS), strict=True):
    answer = ask(messages=messages(action), temperature=0, max_tokens=MAX_TOKENS)
    choice, = answer.choices
    assert choice.message.content == expected.text and choice.message.role == 'assistant'
    assert choice.finish_reason == ('stop' if expected.finished else 'length')
    assert answer.usage.prompt_tokens == len(prompt_ids(world, action))
    assert answer.usage.completion_tokens == len(expected.tokens)
    assert answer.usage.total_tokens == sum((
      answer.usage.prompt_tokens, answer.usage.completion_tokens))
    assert answer.object == 'chat.completion' and answer.model == 'tiny'


def test_choices_of_a_seed_are_those_of_the_library(world, ask):
  answer = ask(messages=messages(), n=6, seed=11, temperature=0.8, max_tokens=MAX_TOKENS)
  tokens = np.array([prompt_ids(world)], np.int32)
  turn = jax.device_get(generate(
    Decoder(world.config), world.params, tokens, np.array([tokens.shape[1]], np.int32),
    jax.random.key(11), group=6, stop=world.stop, max_tokens=MAX_TOKENS, temperature=0.8))
  assert [choice.index for choice in answer.choices] == list(range(6))
  for choice, ids, count, stopped in zip(
      answer.choices, turn.tokens, turn.lengths, turn.stopped, strict=True):
    kept = ids[:count - stopped]
    assert choice.message.content == world.tokenizer.decode(kept.tolist())
  assert answer.usage.completion_tokens == turn.lengths.sum()
  assert answer.usage.prompt_tokens == tokens.shape[1]


@pytest.mark.parametrize('n', [1, 3])
def test_a_stream_is_the_answer_in_pieces(ask, n):
  options = {'messages': messages(), 'n': n, 'seed': 2, 'max_tokens': MAX_TOKENS, 'logprobs': True,
             'top_logprobs': 2}
  whole = ask(**options)
  texts, ends, tokens, usage = streamed(
    ask(**options, stream=True, stream_options={'include_usage': True}))
  assert texts == {c.index: c.message.content for c in whole.choices}
  assert ends == {c.index: c.finish_reason for c in whole.choices}
  assert usage == whole.usage
  if n == 1:
    assert tokens == whole.choices[0].logprobs.content
  assert streamed(ask(**options, stream=True))[3] is None


def test_logprobs(world, ask):
  (expected,), = sample(world, ['hello'])
  choice, = ask(messages=messages(), temperature=0, max_tokens=MAX_TOKENS, logprobs=True,
                top_logprobs=3).choices
  tokens = choice.logprobs.content
  assert ''.join(token.token for token in tokens) == choice.message.content
  kept = expected.logprobs[:len(expected.tokens) - expected.finished]
  np.testing.assert_allclose([token.logprob for token in tokens], kept, rtol=0, atol=2e-5)
  for token in tokens:
    assert bytes(token.bytes).decode() == token.token
    assert len(token.top_logprobs) == 3
    assert token.top_logprobs[0].logprob == pytest.approx(token.logprob, abs=1e-6)
  plain, = ask(messages=messages(), temperature=0, max_tokens=3, logprobs=True).choices
  assert [token.top_logprobs for token in plain.logprobs.content] == [[]] * 3
  assert ask(messages=messages(), max_tokens=3).choices[0].logprobs is None


def test_a_stop_string_ends_the_answer_before_it(ask):
  options = {'messages': messages(), 'max_tokens': 60}
  for seed in range(20):
    options['seed'] = seed
    whole = ask(**options)
    text = whole.choices[0].message.content
    if len(text) > 30:
      break
  stop = text[7:12]
  assert len(stop) == 5
  options |= {'stop': [stop, 'never said'], 'logprobs': True}
  cut = ask(**options)
  choice, = cut.choices
  assert choice.message.content == text[:text.index(stop)] and choice.finish_reason == 'stop'
  assert ''.join(token.token for token in choice.logprobs.content) == choice.message.content
  assert cut.usage.completion_tokens < whole.usage.completion_tokens
  texts, ends, tokens, usage = streamed(
    ask(**options, stream=True, stream_options={'include_usage': True}))
  assert (texts, ends) == ({0: choice.message.content}, {0: 'stop'})
  assert tokens == choice.logprobs.content and usage == cut.usage


def test_seeds(ask):
  def say(seed):
    return ask(messages=messages(), seed=seed, max_tokens=MAX_TOKENS).choices[0].message.content

  assert say(1) == say(1) and len({say(seed) for seed in (1, 2, 2**40 + 1, -1)}) == 4
  assert len({say(None) for _ in range(4)}) > 1


def test_without_a_limit_the_context_is_the_limit(world, ask):
  answer = ask(messages=messages(), seed=1, n=4)
  room = CONTEXT - len(prompt_ids(world))
  for choice in answer.choices:
    assert choice.finish_reason in ('stop', 'length')
  assert answer.usage.completion_tokens <= 4 * room
  full = ask(messages=messages(), temperature=0, max_tokens=room)
  assert full.usage.total_tokens <= CONTEXT


def test_an_answer_sent_back_is_history(world, ask):
  """The next turn's prompt is what the model itself has read and said."""
  observation = f'{PREDICTED}hello 3</predicted_observation>'
  history = [*messages('hello 1'), {'role': 'assistant', 'content': observation},
             {'role': 'user', 'content': 'hello 2'}]
  ids = chat.world_model_context(world.tokenizer, 'hello 7', [('hello 1', 'hello 3')])
  ids += chat.action_message(world.tokenizer, 'hello 2')
  sampler = Sampler(world.config, world.params, world.tokenizer, batch_size=8, bucket=64)
  (expected,), = sampler.sample([ids], max_tokens=MAX_TOKENS)
  answer = ask(messages=history, temperature=0, max_tokens=MAX_TOKENS)
  assert answer.choices[0].message.content == expected.text
  assert answer.usage.prompt_tokens == len(ids)
  history[2]['content'] = 'hello 3'
  plain = ask(messages=history, temperature=0, max_tokens=MAX_TOKENS)
  assert plain.choices[0].message.content == expected.text


def test_without_thinking_the_tag_is_given(world, engine, client_of):
  with serve(Api(engine, world.tokenizer, 'tiny', thinking=False)) as port:
    answer = client_of(port).chat.completions.create(
      model='tiny', messages=messages(), temperature=0, max_tokens=4)
  assert answer.choices[0].message.content.startswith(PREDICTED)
  assert answer.usage.prompt_tokens == len(prompt_ids(world)) + 1


def test_models_and_health(client, port):
  model, = client.models.list().data
  assert model.id == 'tiny' and client.models.retrieve('tiny') == model
  status, body = get(port, '/health')
  assert status == 200 and (body['status'], body['slots']) == ('ok', SLOTS)


# --- refusals -------------------------------------------------------------------------------------


def get(port, path, method='GET', body=None, headers=()):
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=30)
  with contextlib.closing(connection):
    connection.request(
      method, path, body, {'Content-Type': 'application/json', **dict(headers)})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize(('options', 'param'), [
  ({'temperature': 3}, 'temperature'), ({'n': 0}, 'n'), ({'n': SLOTS + 1}, 'n'),
  ({'max_tokens': 0}, 'max_tokens'), ({'top_logprobs': 3}, 'top_logprobs'),
  ({'messages': []}, 'messages'), ({'stop': ['']}, 'stop[0]'),
  ({'messages': [{'role': 'tool', 'content': 'x', 'tool_call_id': 'y'}]}, 'messages[0].role'),
  ({'response_format': {'type': 'json_object'}}, 'response_format'),
  ({'extra_body': {'top_k': 3}}, 'top_k')])
def test_bad_requests(ask, options, param):
  with pytest.raises(openai.BadRequestError) as error:
    ask(**{'messages': messages()} | options)
  assert error.value.param == param and error.value.type == 'invalid_request_error'


def test_bodies_that_are_no_request(port):
  for body in (b'', b'{', b'[1]', b'\xff', b'[' * 100_000):
    status, answer = get(port, '/v1/chat/completions', 'POST', body)
    assert status == 400 and answer['error']['type'] == 'invalid_request_error'
  status, answer = get(port, '/v1/chat/completions', 'POST', b' ' * (app.MAX_BODY_BYTES + 1))
  assert status == 413 and answer['error']['code'] == 'request_too_large'


def test_what_a_page_in_a_browser_could_send_is_refused(world, engine, port):
  path, body = '/v1/chat/completions', b'{}'
  status, answer = get(port, path, 'POST', body, {'Content-Type': 'text/plain'})
  assert status == 415 and answer['error']['code'] == 'unsupported_type'
  with serve(Api(engine, world.tokenizer, 'tiny'), hosts=('127.0.0.1', '::1')) as local:
    for path, method in (('/v1/models', 'GET'), ('/v1/chat/completions', 'POST')):
      status, answer = get(local, path, method, body, {'Host': f'evil.example:{local}'})
      assert status == 403 and answer['error']['code'] == 'unknown_host'
    assert get(local, '/v1/models')[0] == 200
    assert get(local, '/v1/models', headers={'Host': f'[::1]:{local}'})[0] == 200


def test_what_is_not_there(ask, client, port):
  with pytest.raises(openai.NotFoundError) as error:
    ask(messages=messages(), model='huge')
  assert error.value.code == 'model_not_found' and 'tiny' in error.value.message
  with pytest.raises(openai.NotFoundError):
    client.models.retrieve('huge')
  with pytest.raises(openai.NotFoundError) as error:
    client.embeddings.create(model='tiny', input='x')
  assert error.value.code == 'unknown_url'
  status, answer = get(port, '/v1/chat/completions')
  assert status == 405 and answer['error']['message']


def test_what_does_not_fit_the_context(world, ask):
  with pytest.raises(openai.BadRequestError) as error:
    ask(messages=messages('hello ' * 200))
  assert (error.value.code, error.value.param) == ('context_length_exceeded', 'messages')
  room = CONTEXT - len(prompt_ids(world))
  with pytest.raises(openai.BadRequestError) as error:
    ask(messages=messages(), max_tokens=room + 1)
  assert (error.value.code, error.value.param) == ('context_length_exceeded', 'max_tokens')
  assert str(CONTEXT) in error.value.message


def test_a_key(world, engine, client_of):
  with serve(Api(engine, world.tokenizer, 'tiny', key='sésame')) as port:
    for wrong in ('none', 'sesame'):
      with pytest.raises(openai.AuthenticationError) as error:
        client_of(port, api_key=wrong).models.list()
      assert error.value.code == 'invalid_api_key'
    path = '/v1/chat/completions'
    assert get(port, path, 'POST', b'{')[0] == 401
    assert get(port, '/health')[0] == 200
    key = {'Authorization': 'Bearer sésame'.encode()}
    assert get(port, '/v1/models', headers=key)[0] == 200
    assert get(port, path, 'POST', b'{', key)[0] == 400


def test_an_engine_that_has_failed(world, engine_to_spoil, client_of, monkeypatch):
  engine = engine_to_spoil

  def fail(rows):
    raise FloatingPointError('no')

  with serve(Api(engine, world.tokenizer, 'tiny')) as port:
    create = client_of(port).chat.completions.create
    monkeypatch.setattr(engine._slots, 'decode', fail)
    with pytest.raises(openai.APIError, match='has failed'):
      list(create(model='tiny', messages=messages(), max_tokens=4, stream=True))
    with pytest.raises(openai.InternalServerError) as error:
      create(model='tiny', messages=messages(), max_tokens=4)
    assert error.value.status_code == 503 and error.value.code == 'server_error'
    assert get(port, '/health')[0] == 503


# --- load -----------------------------------------------------------------------------------------


def test_64_clients_at_once(port, ask, client_of):
  """Each gets what it gets alone, whether streamed or not; more than there are slots."""
  def options(i):
    return {'messages': messages(ACTIONS[i % 8]), 'seed': i, 'max_tokens': 8 + i % 3,
            'temperature': (0.0, 0.7, 1.2)[i % 3], 'stop': ['lo'] if i % 4 == 0 else None}

  async def one(client, i):
    create = client.chat.completions.create
    if i % 2:
      return (await create(model='tiny', **options(i))).choices[0].message.content
    text = ''
    async for chunk in await create(model='tiny', stream=True, **options(i)):
      text += chunk.choices[0].delta.content or ''
    return text

  async def all_at_once():
    clients = [client_of(port, openai.AsyncOpenAI) for _ in range(64)]
    found = await asyncio.gather(*(one(client, i) for i, client in enumerate(clients)))
    await asyncio.gather(*(client.close() for client in clients))
    return found

  together = asyncio.run(all_at_once())
  alone = [ask(**options(i)).choices[0].message.content for i in range(0, 64, 5)]
  assert together[::5] == alone
  assert len(set(together)) > 16


def test_a_full_queue_is_429(engine, gate, ask, port, monkeypatch):
  room = SLOTS + WAITING
  assert room % SLOTS == 0
  with ThreadPoolExecutor(room // SLOTS) as pool:
    asked = [pool.submit(ask, messages=messages(), max_tokens=2, n=SLOTS)
             for _ in range(room // SLOTS)]
    wait_until(lambda: sum(engine.load()) == room)
    with pytest.raises(openai.RateLimitError) as error:
      ask(messages=messages(), max_tokens=2)
    assert error.value.response.headers['retry-after']
    with monkeypatch.context() as patch:  # refused before its messages are encoded
      patch.setattr(prompt, 'render', None)
      with pytest.raises(openai.RateLimitError):
        ask(messages=messages(), max_tokens=2)
    assert get(port, '/health')[1]['waiting'] == WAITING
    gate.open()
    assert all(len(future.result(60).choices) == SLOTS for future in asked)
  assert ask(messages=messages(), max_tokens=2).choices


def test_who_goes_away_mid_stream_frees_the_slots(engine, gate, ask):
  streams = [ask(messages=messages(), seed=4, max_tokens=80, n=2, stream=True) for _ in range(6)]
  wait_until(lambda: sum(engine.load()) == 12)
  gate.allow(1)
  for stream in streams[:3]:
    assert next(stream).choices
  for stream in streams:
    stream.close()
  wait_until(lambda: all(c.cancelled for c in [*engine._active.values(), *engine._waiting]))
  gate.open()
  wait_until(lambda: engine.load() == (0, 0))
  assert gate.calls <= 3  # ten would be needed to the end


def test_who_goes_away_without_a_stream_frees_the_slot(engine, gate, port):
  body = json.dumps({'model': 'tiny', 'messages': messages(), 'max_tokens': 80}).encode()
  head = ('POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
          f'Content-Length: {len(body)}\r\n\r\n')
  with socket.create_connection(('127.0.0.1', port)) as connection:
    connection.sendall(head.encode() + body)
    wait_until(lambda: engine.load() == (1, 0))
  wait_until(lambda: all(choice.cancelled for choice in engine._active.values()))
  gate.open()
  wait_until(lambda: engine.load() == (0, 0))
  assert gate.calls <= 2


def test_half_a_request_holds_nobody_up(port, ask):
  with socket.create_connection(('127.0.0.1', port)) as connection:
    connection.sendall(
      b'POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n'
      b'Content-Length: 99\r\n\r\n{')
    assert ask(messages=messages(), max_tokens=2).choices


def test_the_server_ends_while_clients_wait(world, engine_to_spoil, client_of):
  engine = engine_to_spoil
  found = []
  with serve(Api(engine, world.tokenizer, 'tiny')) as port:
    create = client_of(port).chat.completions.create
    threads = [threading.Thread(target=lambda: found.append(
      create(model='tiny', messages=messages(), max_tokens=20))) for _ in range(4)]
    for thread in threads:
      thread.start()
    wait_until(lambda: sum(engine.load()) > 0 or found)
  for thread in threads:
    thread.join()
  assert found  # those in progress were answered
