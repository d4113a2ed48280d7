"""Speed of the endpoint beside the library's own batch decoding, the same model and lengths."""

import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from aw_jax.models.config import ModelConfig
from aw_jax.serving.api import Api
from aw_jax.serving.app import make_app, require_packages
from aw_jax.serving.engine import Engine
from aw_jax.tokenizer import Tokenizer
from experiments.benchmarks import jax_systems
from experiments.benchmarks.processes import Process
from experiments.benchmarks.timing import Measured, take_turns

_MODEL = 'benchmark'
_SMALLEST = 300  # ids of a vocabulary: bytes and markup
_MARKUP = 3  # tokens of one message around its text, and the header of its answer


class ServingError(RuntimeError):
  """The endpoint did not answer as it should; the message says how."""


def measure_serving(
    config: ModelConfig, *, clients: Sequence[int], prompt: int, new_tokens: int, calls: int,
    repetitions: int) -> list[Measured]:
  """Tokens/s generated for so many clients at once, and by `generate` in batches of as many.

  Each client sends a request when it has the answer to the one before. The server is in a process
  of its own with the clients outside it, over HTTP on loopback; its slots are as many as the most
  clients. Prefill is in the time of both sides.

  Args:
    config: of the model, which computes in bfloat16.
    clients: numbers of clients.
    prompt: tokens of each prompt, at least 4.
    new_tokens: decoded after each.
    calls: requests of each client, and batches, of one measurement.
    repetitions: see `take_turns`.
  Raises:
    ServingError: where an answer is not what was asked for.
  """
  config = dataclasses.replace(
    jax_systems.with_dtype(config, 'bfloat16'), vocab_size=max(config.vocab_size, _SMALLEST))
  devices = jax.local_device_count()
  systems = {}
  with Process(cpu_devices=devices) as server, Process(cpu_devices=devices) as library:
    port = server.make('server', 'serving.server', config, max(clients), prompt + new_tokens)()
    decode = library.make('decode', 'jax_systems.greedy', config)
    for count in clients:
      tokens = np.random.default_rng(0).integers(
        1, config.vocab_size, (count, prompt), dtype=np.int32)
      systems[f'server, {count} clients'] = ask(port, count, calls, prompt, new_tokens)
      systems[f'library, batch of {count}'] = batches(decode, tokens, calls, new_tokens)
    return take_turns('serving', 'tokens/s', systems, repetitions)


def batches(decode: Callable[[np.ndarray, int], np.ndarray], tokens: np.ndarray, calls: int,
            new_tokens: int) -> Callable[[], int]:
  """One measurement of the library: returns the tokens it decoded."""
  def run() -> int:
    return sum(decode(tokens, new_tokens).size for _ in range(calls))

  return run


def ask(port: int, clients: int, calls: int, prompt: int, new_tokens: int) -> Callable[[], int]:
  """One measurement of the server: returns the tokens that all clients got."""
  def client(number: int) -> int:
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=600)
    digits = np.random.default_rng(number).integers(0, 10, (calls, prompt - _MARKUP))
    got = 0
    for row in digits:
      connection.request('POST', '/v1/chat/completions', json.dumps({
        'model': _MODEL, 'messages': [{'role': 'user', 'content': ''.join(map(str, row))}],
        'max_tokens': new_tokens, 'temperature': 0}), {'Content-Type': 'application/json'})
      response = connection.getresponse()
      answer = json.loads(response.read())
      expected = {'prompt_tokens': prompt, 'completion_tokens': new_tokens,
                  'total_tokens': prompt + new_tokens}
      if response.status != 200 or answer['usage'] != expected:
        raise ServingError(f'{response.status}: {answer.get("error") or answer["usage"]}')
      got += new_tokens
    connection.close()
    return got

  def run() -> int:
    with ThreadPoolExecutor(clients) as pool:
      return sum(pool.map(client, range(clients)))

  return run


def server(config: ModelConfig, slots: int, context: int) -> Callable[[], int]:
  """Starts an endpoint of random parameters in this process; what is made gives its port."""
  require_packages()
  import uvicorn  # an extra

  letters = np.random.default_rng(0).choice(list('etaoinshrdlu'), (4000, 8))
  tokenizer = Tokenizer.train([''.join(word) for word in letters], config.vocab_size)
  engine = Engine(  # no id is -1: nothing stops a choice
    config, jax_systems.random_params(config), -1, slots=slots, context=context)
  running = uvicorn.Server(uvicorn.Config(
    make_app(Api(engine, tokenizer, _MODEL)), port=0, log_level='warning', access_log=False))
  threading.Thread(target=running.run, daemon=True).start()
  while not running.started:
    time.sleep(0.01)
  port = running.servers[0].sockets[0].getsockname()[1]
  return lambda: port
