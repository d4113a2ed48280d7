"""A tiny random world model, a server of it on loopback, and an engine under a test's control."""

import contextlib
import dataclasses
import threading
import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import uvicorn

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import init_params
from aw_jax.serving.api import Api
from aw_jax.serving.app import make_app
from aw_jax.serving.engine import Engine
from aw_jax.tokenizer import IM_END, Tokenizer

# Programs for 2 and for 8 rows of each of two devices, and for prompts of 64 and of 128 tokens.
SLOTS, CONTEXT, WAITING = 16, 128, 64


@dataclasses.dataclass(frozen=True)
class World:
  """A decoder with its vocabulary."""

  config: ModelConfig
  params: Any
  tokenizer: Tokenizer

  @property
  def stop(self) -> int:
    return self.tokenizer.special(IM_END)

  def engine(self, slots: int = SLOTS, context: int = CONTEXT, waiting: int = WAITING) -> Engine:
    return Engine(self.config, self.params, self.stop, slots=slots, context=context,
                  max_waiting=waiting)


def make_world(layers: int = 2) -> World:
  """Parameters at random: it says anything, and now and then comes to an end."""
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  config = ModelConfig(
    vocab_size=320, width=16, layers=layers, heads=4, kv_heads=2, head_dim=8, mlp_width=20,
    short_conv_width=2, tied_embeddings=False, dtype='float32')
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(config, key)), jax.random.key(0))
  params = jax.tree.map(
    lambda x: rng.normal(0.5 * (len(x.shape) == 1), 0.4, x.shape).astype(np.float32), shapes)
  params['unembedding'][tokenizer.special(IM_END)] *= 2.5  # so that some choices end by themselves
  return World(config, params, tokenizer)


class Gate:
  """Lets the engine decode only as often as the test allows, and counts."""

  def __init__(self, decode):
    self.calls = 0
    self._decode = decode
    self._allowed = threading.Semaphore(0)
    self._open = False

  def __call__(self, rows):
    if not self._open:
      assert self._allowed.acquire(timeout=60)
    self.calls += 1
    return self._decode(rows)

  def allow(self, calls: int) -> None:
    self._allowed.release(calls)

  def open(self) -> None:
    self._open = True
    self._allowed.release()


def wait_until(condition, seconds: float = 30) -> None:
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it did not come about'
    time.sleep(0.005)


@contextlib.contextmanager
def serve(api: Api, hosts=()):
  """A server of `api` in a thread; gives its port."""
  server = uvicorn.Server(uvicorn.Config(
    make_app(api, hosts), port=0, access_log=False, timeout_graceful_shutdown=5,
    log_level='warning'))
  thread = threading.Thread(target=server.run)
  thread.start()
  try:
    wait_until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
  finally:
    server.should_exit = True
    thread.join()
