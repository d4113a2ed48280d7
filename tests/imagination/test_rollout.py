"""The jitted rollout against a host-side loop without any cache, token for token."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aw_jax.imagination.rollout import EpisodePrompts, Markup, RolloutConfig, compose, rollout
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
SIZES = RolloutConfig(
    group=2, turns=4, max_action=6, max_answer=14, max_observation=10, agent_slots=96,
    world_slots=160, agent_temperature=0.0, world_temperature=0.0)


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


def say(model, params, context, limit):
  tokens, logprobs = [], []
  while len(tokens) < limit:
    token, logprob = next_token(model, params, context + tokens)
    tokens.append(token)
    logprobs.append(logprob)
    if token == MARKUP.end:
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


def host_episode(agent, world, agent_prompt, world_prompt, check, turns, config):
  """One episode as lists of ids: the rollout's meaning, with nothing clever in it."""
  header = [3] if config.thinking else [3, 5]
  agent_context, world_context = list(agent_prompt), list(world_prompt)
  speaker, logprobs = [False] * len(agent_prompt), [0.0] * len(agent_prompt)
  actions, observations, broken, submitted = [], [], False, False
  for turn in range(turns):
    action, action_logprobs = say(*agent, agent_context, config.max_action)
    agent_context += action
    speaker += [True] * len(action)
    logprobs += action_logprobs
    actions.append(action)
    if action[0] == MARKUP.submit:
      submitted = True
      break
    if action[-1] != MARKUP.end or len(action) < 2 or not is_text(action[:-1]):
      broken = True
      break
    world_context += [2, *action, *header]
    answer, _ = say(*world, world_context, config.max_answer)
    observation = parse_answer(answer, config.thinking, config.max_observation)
    if observation is None:
      broken = True
      break
    world_context += answer  # thinking included
    observations.append(observation)
    message = [2, *observation, 4, 3]
    room = len(agent_context) + len(message) <= config.agent_slots - config.max_action
    if turn + 1 >= turns or not room:
      break
    agent_context += message
    speaker += [False] * len(message)
    logprobs += [0.0] * len(message)
  answer = None
  if check and not broken:
    said, _ = say(*world, world_context + list(check) + header, config.max_answer)
    answer = parse_answer(said, config.thinking, config.max_observation)
  return agent_context, speaker, logprobs, actions, observations, answer, submitted


def make_prompts(rng, tasks):
  def padded(rows, width):
    out = np.zeros((len(rows), width), np.int32)
    for i, row in enumerate(rows):
      out[i, :len(row)] = row
    return jnp.array(out), jnp.array([len(row) for row in rows])

  def text(low, high):
    return [int(t) for t in rng.integers(TEXT, VOCABULARY, rng.integers(low, high))]

  agents = [text(5, 12) + [4, 2, 4, 3] for _ in range(tasks)]
  worlds = [text(8, 20) + [4] for _ in range(tasks)]
  checks = [[2, *text(1, 4), 4] if i % 2 == 0 else [] for i in range(tasks)]
  turns = [int(rng.integers(1, SIZES.turns + 1)) for _ in range(tasks)]
  prompts = EpisodePrompts(*padded(agents, 16), *padded(worlds, 24), *padded(checks, 6),
                           jnp.array(turns))
  return prompts, agents, worlds, checks, turns


@pytest.mark.parametrize('thinking', [False, True])
def test_rollout_equals_host_loop(thinking):
  config = dataclasses.replace(SIZES, thinking=thinking)
  agent, world = trained_models()['agent', False], trained_models()['world', thinking]
  tasks = 8
  prompts, agents, worlds, checks, turns = make_prompts(np.random.default_rng(0), tasks)
  out = rollout(*agent, *world, prompts, jax.random.key(0), MARKUP, config)
  episodes = [
      host_episode(agent, world, agents[task], worlds[task], checks[task], turns[task], config)
      for task in range(tasks)]
  answered = 0
  for row in range(tasks * config.group):  # at temperature 0 a group's episodes are the same
    context, speaker, logprobs, actions, observations, check, submitted = (
        episodes[row // config.group])
    length = int(out.lengths[row])
    assert out.tokens[row, :length].tolist() == context
    assert out.speaker[row, :length].tolist() == speaker
    assert not out.speaker[row, length:].any()
    np.testing.assert_allclose(out.logprobs[row, :length], logprobs, atol=1e-4)
    got = [out.actions[row, k, :int(n)].tolist()
           for k, n in enumerate(out.action_lengths[row]) if n]
    assert got == actions
    got = [out.observations[row, k, :int(out.observation_lengths[row, k])].tolist()
           for k in range(config.turns) if out.answered[row, k]]
    assert got == observations
    assert bool(out.checked[row]) == (check is not None)
    if check is not None:
      assert out.check[row, :int(out.check_lengths[row])].tolist() == check
    assert bool(out.submitted[row]) == submitted
    answered += len(observations)
  assert answered >= tasks


def test_markup_in_an_action_ends_the_episode_in_a_failure():
  """Else an agent could write the world's lines; these agents are noisy enough to try."""
  world = trained_models()['world', False]
  noisy = jax.tree.map(lambda x: 0.3 * x, trained_models()['agent', False][1])
  prompts, *_ = make_prompts(np.random.default_rng(1), 8)
  config = dataclasses.replace(SIZES, group=32, agent_temperature=1.0)
  out = rollout(Decoder(CONFIG), noisy, *world, prompts, jax.random.key(0), MARKUP, config)
  forged = 0
  for row in range(8 * 32):
    for k, length in enumerate(out.action_lengths[row]):
      action = out.actions[row, k, :int(length)].tolist()
      if action and action[0] != MARKUP.submit and not is_text(action[:-1]):
        forged += action[-1] == MARKUP.end
        assert not out.answered[row, k] and not out.checked[row]
        assert not out.action_lengths[row, k + 1:].any()
  assert forged > 3


def test_logprobs_are_the_trainers():
  agent, world = trained_models()['agent', False], trained_models()['world', False]
  prompts, *_ = make_prompts(np.random.default_rng(3), 4)
  config = dataclasses.replace(SIZES, agent_temperature=1.0, world_temperature=1.0)
  out = rollout(*agent, *world, prompts, jax.random.key(1), MARKUP, config)
  logprobs, _ = jax.jit(functools.partial(sequence_logprobs, agent[0]))(agent[1], out.tokens)
  np.testing.assert_allclose(
      jnp.where(out.speaker[:, 1:], logprobs, 0), out.logprobs[:, 1:], atol=1e-4)
  assert out.speaker.any()


def test_compose():
  tokens, lengths = compose((2,), jnp.array([[9, 8, 0], [7, 0, 0]]), jnp.array([2, 0]), (4, 3))
  assert tokens[0, :5].tolist() == [2, 9, 8, 4, 3] and tokens[1, :3].tolist() == [2, 4, 3]
  assert lengths.tolist() == [5, 3]
