"""The jitted rollout against a host-side loop without any cache, token for token."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.imagination.markup import compose
from aw_jax.imagination.rollout import EpisodePrompts, RolloutConfig, rollout
from aw_jax.models.decoder import Decoder
from aw_jax.training.objectives import sequence_logprobs
from tests.imagination.tiny_chat import (
    CONFIG,
    MARKUP,
    TEXT,
    VOCABULARY,
    is_text,
    parse_answer,
    say,
    trained_models,
)

SIZES = RolloutConfig(
    group=2, turns=4, max_action=6, max_answer=14, max_observation=10, agent_slots=96,
    world_slots=160, agent_temperature=0.0, world_temperature=0.0)


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
