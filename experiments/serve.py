"""Serves a checkpoint's world model over OpenAI's chat-completions API.

    python -m experiments.serve --checkpoint=checkpoints/base --port=8000

Any client of that API then has the world model as its environment: the system message is the
world's description and state, user messages are actions, the answers are observations.

    from openai import OpenAI
    client = OpenAI(base_url='http://127.0.0.1:8000/v1', api_key='none')
    system = world_model_prompt('terminal', initial_state)  # of aw_jax.prompts.templates
    answer = client.chat.completions.create(model='base', temperature=0, messages=[
      {'role': 'system', 'content': system}, {'role': 'user', 'content': 'cat a.txt'}])

An answer is <think>…</think> where the model thinks and <predicted_observation>…
</predicted_observation>; send it back as the assistant's message of the next turn. Requests are
batched continuously. GET /health says how busy the server is. Clients need a key where the
environment variable AW_JAX_API_KEY is set. Ctrl-C ends the server.
"""

import contextlib
import os
import pathlib

import jax
from absl import flags

from aw_jax.serving.api import Api
from aw_jax.serving.app import listen, make_app, require_packages
from aw_jax.serving.engine import Engine
from aw_jax.tokenizer import IM_END
from aw_jax.training.checkpoints import load_params
from experiments import commands

KEY_VARIABLE = 'AW_JAX_API_KEY'
LOOPBACK = ('127.0.0.1', 'localhost', '::1')
_CHECKPOINT = flags.DEFINE_string(
  'checkpoint', None, 'Folder of a stage, such as {workdir}/rl, or an export.', required=True)
_PORT = flags.DEFINE_integer(
  'port', 8000, 'Port to listen on.', lower_bound=0, upper_bound=65535)
_HOST = flags.DEFINE_string(
  'host', '127.0.0.1', 'Address to listen on; 0.0.0.0 lets other machines in.')
_NAME = flags.DEFINE_string(
  'name', None, "The model's name in the API; by default that of the checkpoint's folder.")
_SLOTS = flags.DEFINE_integer(
  'slots', 64, 'Completions decoded at a time; each takes the memory of --context tokens.',
  lower_bound=1)
_CONTEXT = flags.DEFINE_integer(
  'context', 1024, 'Tokens of messages and answer together.', lower_bound=2)
_WAITING = flags.DEFINE_integer(
  'max_waiting', 256, 'Completions that may wait for a slot; further ones are refused with 429.',
  lower_bound=0)
_THINKING = flags.DEFINE_bool(
  'thinking', True, 'Let the model think before it answers; not after the stage cpt alone.')


def main():
  require_packages()
  import uvicorn

  listening = listen(_HOST.value, _PORT.value)  # before what takes long
  params, config, tokenizer = load_params(_CHECKPOINT.value)
  name = _NAME.value or pathlib.Path(_CHECKPOINT.value).resolve().name
  engine = Engine(
    config, params, tokenizer.special(IM_END), slots=_SLOTS.value, context=_CONTEXT.value,
    max_waiting=_WAITING.value, progress=True)
  key = os.environ.get(KEY_VARIABLE) or None
  api = Api(engine, tokenizer, name, thinking=_THINKING.value, key=key)
  application = make_app(api, LOOPBACK if _HOST.value in LOOPBACK else ())
  server = uvicorn.Server(uvicorn.Config(
    application, log_level='warning', access_log=False, timeout_graceful_shutdown=10))
  host = f'[{_HOST.value}]' if ':' in _HOST.value else _HOST.value
  print(f'{name}: http://{host}:{listening.getsockname()[1]}/v1 on {jax.device_count()} '
        f'{jax.devices()[0].platform} device(s), {engine.slots} completions at a time of '
        f'{engine.context} tokens{"" if key else ", no key needed"}', flush=True)
  if not key and _HOST.value not in LOOPBACK:
    print(f'whoever reaches this machine may use it; {KEY_VARIABLE} sets a key', flush=True)
  try:
    with contextlib.suppress(KeyboardInterrupt):
      server.run(sockets=[listening])
  finally:
    engine.close()


if __name__ == '__main__':
  commands.run(main, 'serve')
