"""The jitted rollout of an agent in a world model (DESIGN.md section 3): one XLA program.

Every device plays its own tasks, at its own pace, with both models. Phases alternate: agents speak
until their turn ends, worlds answer, and each model's cache ingests what the other said. Finished
rows are masked, and nothing returns to the host before the whole batch of episodes, hidden check
included, is done.

Shapes: N tasks, G episodes of each, B = N * G rows, K turns, A / O tokens of an action / an
observation at most, S agent cache slots.
"""

import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp

from aw_jax.imagination.markup import Markup, compose, first, reserved_between
from aw_jax.models.decoder import Decoder, gather_for_decoding
from aw_jax.partitioning import by_rows
from aw_jax.sampling.decode import (
    Speaker,
    decode_turn,
    fold_in,
    ingest_message,
    prefill,
    row_keys,
)


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
  """The static part of a rollout; each new one compiles anew.

  Attributes:
    group: episodes of each task.
    turns: turns at most; a task may have fewer.
    max_action: tokens of an action, its end included.
    max_answer: tokens of a world's answer: thinking, tags and end included.
    max_observation: tokens of an observation; a longer one ends the episode.
    agent_slots: tokens an agent's context may reach; an episode that might outgrow it ends.
    world_slots: the same of the world model.
    agent_temperature: of the agents.
    world_temperature: of the worlds; the hidden check is answered greedily.
    thinking: whether the world model may think before an answer; its thinking stays in its cache.
  """

  group: int = 8
  turns: int = 8
  max_action: int = 32
  max_answer: int = 72
  max_observation: int = 64
  agent_slots: int = 512
  world_slots: int = 768
  agent_temperature: float = 1.0
  world_temperature: float = 0.0
  thinking: bool = False


@flax.struct.dataclass
class EpisodePrompts:
  """What a batch of tasks starts from; token arrays are padded on the right.

  Attributes:
    agent: int32[N, PA], the agent's context up to the header of its first action.
    agent_lengths: int32[N].
    world: int32[N, PW], the world model's system message.
    world_lengths: int32[N].
    check: int32[N, PC], the hidden command as a message, without the header of its answer.
    check_lengths: int32[N]; 0 where the task is verified by answer.
    turns: int32[N], turns each task allows.
  """

  agent: jax.Array
  agent_lengths: jax.Array
  world: jax.Array
  world_lengths: jax.Array
  check: jax.Array
  check_lengths: jax.Array
  turns: jax.Array


@flax.struct.dataclass
class Rollout:
  """What happened.

  Attributes:
    tokens: int32[B, S], each agent's whole context.
    lengths: int32[B].
    speaker: bool[B, S], the tokens that the agent itself said.
    logprobs: float32[B, S] of those, under the sampling parameters.
    actions: int32[B, K, A] and action_lengths: int32[B, K]; 0 where there was no such turn.
    observations: int32[B, K, O] and observation_lengths: int32[B, K], text tokens only.
    answered: bool[B, K], turns that the world answered (an observation may be empty).
    check: int32[B, O] and check_lengths: int32[B], the answer to the hidden command.
    checked: bool[B], whether there is such an answer.
    submitted: bool[B], whether the agent ended the episode itself.
  """

  tokens: jax.Array
  lengths: jax.Array
  speaker: jax.Array
  logprobs: jax.Array
  actions: jax.Array
  action_lengths: jax.Array
  observations: jax.Array
  observation_lengths: jax.Array
  answered: jax.Array
  check: jax.Array
  check_lengths: jax.Array
  checked: jax.Array
  submitted: jax.Array


def _observation(turn, markup: Markup, config: RolloutConfig):
  """Takes answers apart: observation int32[B, O], lengths, whether the form was right.

  The form is that of `chat.parse_prediction`: thinking or none, one observation, nothing else.
  """
  nowhere = jnp.zeros_like(turn.lengths)
  opening = first(turn.tokens, markup.predicted) if config.thinking else nowhere - 1
  start, closing = opening + 1, turn.lengths - 2
  lengths = closing - start
  at = lambda place: jnp.take_along_axis(
      turn.tokens, jnp.clip(place, 0, turn.tokens.shape[1] - 1)[:, None], axis=1)[:, 0]
  valid = (turn.stopped & (lengths >= 0) & (lengths <= config.max_observation)
           & (at(closing) == markup.end_predicted)
           & (reserved_between(turn.tokens, markup, start, closing) == 0))
  if config.thinking:
    thought = ((turn.tokens[:, 0] == markup.think) & (at(opening - 1) == markup.end_think)
               & (reserved_between(turn.tokens, markup, nowhere, opening) == 2))
    valid &= (opening == 0) | (thought & (opening >= 2))
  lengths = jnp.where(valid, lengths, 0)
  place = jnp.arange(config.max_observation)
  source = jnp.minimum(start[:, None] + place, turn.tokens.shape[1] - 1)
  body = jnp.take_along_axis(turn.tokens, source, axis=1)
  return jnp.where(place < lengths[:, None], body, 0), lengths, valid


@flax.struct.dataclass
class _Record:
  """An agent's context as it grows; a token's place is its cache slot."""

  tokens: jax.Array
  speaker: jax.Array
  logprobs: jax.Array

  def write(self, starts, tokens, counts, logprobs=None):
    slots = self.tokens.shape[1]
    place = jnp.arange(tokens.shape[1])
    where = jnp.where(place < counts[:, None], starts[:, None] + place, slots)
    rows = jnp.arange(tokens.shape[0])[:, None]
    record = self.replace(tokens=self.tokens.at[rows, where].set(tokens, mode='drop'))
    if logprobs is None:
      return record
    return record.replace(
        speaker=record.speaker.at[rows, where].set(True, mode='drop'),
        logprobs=record.logprobs.at[rows, where].set(logprobs, mode='drop'))


def _answer(model, params, world: Speaker, message, counts, keys, markup, config, temperature):
  """The world reads a message and answers it."""
  world = ingest_message(model, params, world, message, counts)
  speaks = counts > 0
  world, turn = decode_turn(model, params, world, keys, speaks, stop=markup.end,
                            max_tokens=config.max_answer, temperature=temperature)
  observation, lengths, valid = _observation(turn, markup, config)
  return world, observation, lengths, valid & speaks


@functools.partial(
    jax.jit, static_argnames=('agent_model', 'world_model', 'markup', 'config'))
def rollout(agent_model: Decoder, agent_params: Any, world_model: Decoder, world_params: Any,
            prompts: EpisodePrompts, key: jax.Array, markup: Markup, config: RolloutConfig
            ) -> Rollout:
  """Plays `config.group` episodes of each task, to the end, on the device.

  Args:
    agent_model: the agent's decoder, and `agent_params` its parameters.
    world_model: the world model's decoder, and `world_params` its parameters.
    prompts: of N tasks.
    key: of all sampling noise.
    markup: ids of the chat markup; both models share one vocabulary.
    config: sizes and temperatures.
  """
  def play(shared, rows):
    (agent_params, world_params, key), (prompts, numbers) = shared, rows
    return _play(agent_model, agent_params, world_model, world_params, prompts,
                 row_keys(key, numbers, config.group), markup, config)

  agent_params = gather_for_decoding(agent_model.config, agent_params)
  world_params = gather_for_decoding(world_model.config, world_params)
  numbers = jnp.arange(len(prompts.turns))
  return by_rows(play, (agent_params, world_params, key), (prompts, numbers))


def _play(agent_model, agent_params, world_model, world_params, prompts, keys, markup, config
          ) -> Rollout:
  """`rollout` on one device; `keys` are those of its rows."""
  group = config.group
  rows = prompts.agent.shape[0] * group
  agent = prefill(agent_model, agent_params, prompts.agent, prompts.agent_lengths,
                  config.agent_slots, group)
  world = prefill(world_model, world_params, prompts.world, prompts.world_lengths,
                  config.world_slots, group)
  prompts = jax.tree.map(lambda x: jnp.repeat(x, group, axis=0), prompts)
  # Without thinking the opening tag is given, so that the model cannot begin to think.
  header = markup.assistant + (() if config.thinking else (markup.predicted,))
  message_margin = len(markup.user) + len(header) + 2
  agent_room = config.agent_slots - config.max_action
  world_room = (config.world_slots - prompts.check.shape[1] - 2 * config.max_answer
                - config.max_action - 3 * message_margin)

  empty = jnp.zeros((rows, config.agent_slots))
  record = _Record(empty.astype(jnp.int32), empty.astype(bool), empty).write(
      jnp.zeros(rows, jnp.int32), prompts.agent, prompts.agent_lengths)
  sizes = (rows, config.turns)
  turns = (jnp.zeros((*sizes, config.max_action), jnp.int32), jnp.zeros(sizes, jnp.int32),
           jnp.zeros((*sizes, config.max_observation), jnp.int32), jnp.zeros(sizes, jnp.int32),
           jnp.zeros(sizes, bool))

  def play_turn(carry):
    agent, world, record, turns, active, broken, submitted, index = carry
    starts = agent.cache.lengths
    turn_keys = fold_in(keys, index)
    agent, action = decode_turn(
        agent_model, agent_params, agent, fold_in(turn_keys, 0), active,
        stop=markup.end, max_tokens=config.max_action, temperature=config.agent_temperature)
    record = record.write(starts, action.tokens, action.lengths, action.logprobs)
    submits = active & (action.tokens[:, 0] == markup.submit)
    # An action that does not end, is empty or holds markup has no answer: the episode is broken.
    nowhere = jnp.zeros_like(action.lengths)
    complete = (action.stopped & (action.lengths > 1)
                & (reserved_between(action.tokens, markup, nowhere, action.lengths - 1) == 0))
    broken |= active & ~submits & ~complete
    asks = active & ~submits & complete
    message, counts = compose(markup.user, action.tokens, action.lengths, header)
    world, observation, lengths, valid = _answer(
        world_model, world_params, world, message, jnp.where(asks, counts, 0),
        fold_in(turn_keys, 1), markup, config, config.world_temperature)
    broken |= asks & ~valid
    message, counts = compose(markup.user, observation, lengths, (markup.end, *markup.assistant))
    last_turn = index + 1 >= prompts.turns
    goes_on = (asks & valid & ~last_turn & (agent.cache.lengths + counts <= agent_room)
               & (world.cache.lengths <= world_room))
    counts = jnp.where(goes_on, counts, 0)
    record = record.write(agent.cache.lengths, message, counts)
    agent = ingest_message(agent_model, agent_params, agent, message, counts)
    values = (action.tokens, action.lengths, observation, lengths, asks & valid)
    turns = tuple(jax.lax.dynamic_update_index_in_dim(past, value, index, 1)
                  for past, value in zip(turns, values, strict=True))
    return agent, world, record, turns, goes_on, broken, submitted | submits, index + 1

  nobody = jnp.zeros(rows, bool)
  start = (agent, world, record, turns, prompts.agent_lengths > 0, nobody, nobody,
           jnp.zeros((), jnp.int32))
  agent, world, record, turns, _, broken, submitted, _ = jax.lax.while_loop(
      lambda carry: jnp.any(carry[4]) & (carry[-1] < config.turns), play_turn, start)

  asked = (prompts.check_lengths > 0) & (prompts.agent_lengths > 0) & ~broken
  message, counts = compose((), prompts.check, prompts.check_lengths, header)
  _, check, check_lengths, checked = _answer(
      world_model, world_params, world, message, jnp.where(asked, counts, 0),
      None, markup, config, 0.0)
  return Rollout(record.tokens, agent.cache.lengths, record.speaker, record.logprobs, *turns,
                 check, check_lengths, checked, submitted)
