"""One tiny world, engine and server for all tests of serving."""

import contextlib
import functools

import openai
import pytest

from aw_jax.serving.api import Api
from tests.serving.tiny_world import Gate, World, make_world, serve, wait_until


@pytest.fixture(scope='session')
def world() -> World:
  return make_world()


@pytest.fixture
def engine_to_spoil():
  """One that compiles soon, for a test that ends it."""
  with contextlib.closing(make_world(layers=1).engine(slots=2, context=64)) as engine:
    yield engine


@pytest.fixture(scope='session')
def engine(world):
  with contextlib.closing(world.engine()) as engine:
    yield engine


@pytest.fixture
def gate(engine, monkeypatch):
  """The engine stands still but for what the gate allows; it is empty before and after."""
  wait_until(lambda: engine.load() == (0, 0))
  gate = Gate(engine._slots.decode)
  monkeypatch.setattr(engine._slots, 'decode', gate)
  yield gate
  gate.open()
  wait_until(lambda: engine.load() == (0, 0))


@pytest.fixture(scope='session')
def port(world, engine):
  with serve(Api(engine, world.tokenizer, 'tiny')) as port:
    yield port


@pytest.fixture(scope='session')
def client_of():
  """Clients of a port, the official ones; they do not try again."""
  def client(port: int, kind=openai.OpenAI, **options):
    return kind(**{'base_url': f'http://127.0.0.1:{port}/v1', 'api_key': 'none', 'max_retries': 0,
                   'timeout': 60} | options)

  return client


@pytest.fixture(scope='session')
def client(port, client_of):
  return client_of(port)


@pytest.fixture(scope='session')
def ask(client):
  """A completion of one action in the tiny world."""
  return functools.partial(client.chat.completions.create, model='tiny')
