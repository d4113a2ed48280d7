"""Tiny decoders that can chat in ids alone, and the host loop they are checked with: no cache."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from aw_jax.imagination.markup import Markup
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.training.objectives import sequence_logprobs

VOCABULARY = 40
MARKUP = Markup(user=(2,), assistant=(3,), end=4, predicted=5, end_predicted=6, submit=7, think=8,
                end_think=9, reserved=tuple(range(2, 10)))
TEXT = 10  # the first id of text
CONFIG = ModelConfig(
    vocab_size=VOCABULARY, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, mlp_width=48,
    short_conv_width=3, dtype='float32', query_block=160)


def dialogue(rng, side, thinking):
  """Ids of a made-up chat of the right form, as `side` ('agent' or 'world') reads it."""
  def text(low, high):
    return [int(t) for t in rng.integers(TEXT, VOCABULARY, rng.integers(low, high))]

  ids = text(5, 12) + [4]
  for _ in range(4):
    action, observation = text(2, 3), text(0, 6)
    if side == 'agent':  # a long observation makes it submit
      ids += [2, *observation, 4, 3, *([7] if len(observation) > 4 else action), 4]
    else:  # an observation as long as the action's first token says
      thought = [8, action[0], 9] if thinking else []
      ids += [2, *action, 4, 3, *thought, 5, *[action[1]] * (action[0] % 6), 6, 4]
  return ids[:80] + [0] * (80 - len(ids))


OPTIMIZER = optax.adam(1e-2)
SIDES = (('agent', False), ('world', False), ('world', True))


@jax.jit
@jax.vmap
def train(key, batches):
  """Adam over batches int32[steps, B, L] from fresh parameters, every model at once."""
  def step(carry, tokens):
    params, state = carry

    def loss(params):
      return -jnp.mean(sequence_logprobs(Decoder(CONFIG), params, tokens)[0])

    updates, state = OPTIMIZER.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  params = nn.unbox(init_params(CONFIG, key))
  return jax.lax.scan(step, (params, OPTIMIZER.init(params)), batches)[0][0]


@functools.cache
def trained_models():
  """Tiny decoders that have learned the form of a chat, so that their turns mostly end."""
  rng = np.random.default_rng(0)
  batches = np.array(
      [[[dialogue(rng, *side) for _ in range(8)] for _ in range(250)] for side in SIDES], np.int32)
  params = jax.device_get(train(jax.random.split(jax.random.key(0), len(SIDES)), batches))
  return {side: (Decoder(CONFIG), jax.tree.map(lambda x, i=i: x[i], params))
          for i, side in enumerate(SIDES)}


def next_token(model, params, context):
  """Greedy, from a whole forward pass over the context; its log-probability too."""
  tokens = np.zeros((1, 160), np.int32)  # one compiled shape; padding lies behind and is not seen
  tokens[0, :len(context)] = context
  logits = np.asarray(_forward(model, params, tokens))[0, len(context) - 1].astype(np.float64)
  token = int(np.argmax(logits))
  return token, logits[token] - np.log(np.sum(np.exp(logits - logits.max()))) - logits.max()


@jax.jit
def _forward_jit(params, tokens):
  return Decoder(CONFIG).apply({'params': params}, tokens)


def _forward(model, params, tokens):
  del model
  return _forward_jit(params, tokens)


def say(model, params, context, limit, end=MARKUP.end):
  tokens, logprobs = [], []
  while len(tokens) < limit:
    token, logprob = next_token(model, params, context + tokens)
    tokens.append(token)
    logprobs.append(logprob)
    if token == end:
      break
  return tokens, logprobs


def is_text(tokens):
  return all(token >= TEXT or token < 2 for token in tokens)


def parse_answer(tokens, thinking, limit):
  if tokens[-2:] != [MARKUP.end_predicted, MARKUP.end]:
    return None
  body = tokens[:-2]
  if thinking:
    if MARKUP.predicted not in body:
      return None
    start = body.index(MARKUP.predicted)
    thought, body = body[:start], body[start + 1:]
    if thought and not (thought[0] == 8 and thought[-1] == 9 and len(thought) > 1
                        and is_text(thought[1:-1])):
      return None
  return body if is_text(body) and len(body) <= limit else None
