"""A world model on episodes that others played: it answers every turn, then reads the true answer.

One XLA program answers all turns of a batch of episodes: each turn is predicted from the true
observations before it and, where the model thinks, from its own thinking in the turns before. The
cache stands throughout; after a prediction the row goes back to where the observation begins.

Shapes: B episodes, K turns, A / O tokens of an action / an observation at most.
"""

import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp

from aw_jax.imagination.markup import Markup, compose, reserved_between
from aw_jax.models.decoder import Decoder
from aw_jax.partitioning import by_rows
from aw_jax.sampling.decode import (
    Speaker,
    Turn,
    decode_turn,
    ingest,
    ingest_message,
    prefill,
    rewind,
)


@dataclasses.dataclass(frozen=True)
class Limits:
  """The static part of teacher forcing; each new one compiles anew.

  Attributes:
    context: tokens before an answer at most; an episode that outgrows it is answered no further.
    max_tokens: of an answer, thinking included.
    max_thinking: of thinking with its tags; 0 where the model may not think.
  """

  context: int
  max_tokens: int
  max_thinking: int


@flax.struct.dataclass
class Played:
  """Episodes that were played; token arrays are padded on the right.

  Attributes:
    system: int32[B, P], the world model's system message, and system_lengths: int32[B].
    actions: int32[B, K, A], text alone, and action_lengths: int32[B, K]; 0 where there is no turn.
    observations: int32[B, K, O], text alone, and observation_lengths: int32[B, K].
  """

  system: jax.Array
  system_lengths: jax.Array
  actions: jax.Array
  action_lengths: jax.Array
  observations: jax.Array
  observation_lengths: jax.Array


@flax.struct.dataclass
class Answers:
  """What the model said in each turn.

  Attributes:
    thoughts: int32[B, K, max_thinking], up to the tag that opens the observation, that included;
      what stands in the cache is this thinking where it has the right form, else none.
    thought_lengths: int32[B, K]; 0 where nothing was asked or the model may not think.
    texts: int32[B, K, max_tokens], after that tag, the end of the message included.
    text_lengths: int32[B, K].
    logprobs: float32[B, K] of both together, in nats.
    thought: bool[B, K], whether the thinking, if any, had the right form.
    finished: bool[B, K], whether the answer came to its end within `max_tokens`.
    answered: bool[B, K], the turns that were asked.
  """

  thoughts: jax.Array
  thought_lengths: jax.Array
  texts: jax.Array
  text_lengths: jax.Array
  logprobs: jax.Array
  thought: jax.Array
  finished: jax.Array
  answered: jax.Array


def _is_thinking(turn: Turn, markup: Markup) -> jax.Array:
  """bool[B]: nothing or thinking in its tags, and then the tag that opens an observation."""
  start = jnp.zeros_like(turn.lengths)
  closing = jnp.take_along_axis(
      turn.tokens, jnp.maximum(turn.lengths - 2, 0)[:, None], axis=1)[:, 0]
  thinking = ((turn.lengths > 3) & (turn.tokens[:, 0] == markup.think)
              & (closing == markup.end_think)
              & (reserved_between(turn.tokens, markup, start, turn.lengths - 1) == 2))
  return turn.stopped & ((turn.lengths == 1) | thinking)


def _think(model, params, speaker: Speaker, active, markup, limits
           ) -> tuple[Speaker, Turn, jax.Array]:
  """Up to where the observation begins; a row whose thinking has no form goes on without any."""
  asked = speaker
  speaker, thought = decode_turn(
      model, params, speaker, None, active, stop=markup.predicted,
      max_tokens=limits.max_thinking, temperature=0.0)
  valid = _is_thinking(thought, markup)
  astray = active & ~valid
  opening = jnp.full((active.shape[0], 1), markup.predicted)
  speaker = ingest(model, params, rewind(speaker, asked, astray), opening,
                   astray.astype(jnp.int32))
  return speaker, thought, valid


@functools.partial(jax.jit, static_argnames=('model', 'markup', 'limits'))
def answer_turns(model: Decoder, params: Any, played: Played, markup: Markup, limits: Limits
                 ) -> Answers:
  """Greedy answers to every turn of played episodes.

  Args:
    model: the world model's decoder, and `params` its parameters.
    played: B episodes.
    markup: ids of the chat markup.
    limits: of context and answers.
  """
  return by_rows(
      lambda params, played: _answer_turns(model, params, played, markup, limits), params, played)


def _answer_turns(model, params, played: Played, markup, limits) -> Answers:
  """`answer_turns` on one device."""
  rows, turns = played.action_lengths.shape
  thinks = limits.max_thinking > 0
  header = markup.assistant + (() if thinks else (markup.predicted,))
  slots = limits.context + limits.max_thinking + limits.max_tokens
  speaker = prefill(model, params, played.system, played.system_lengths, slots)

  def answer_turn(carry):
    speaker, answers, active, index = carry
    at = functools.partial(jax.lax.dynamic_index_in_dim, index=index, axis=1, keepdims=False)
    message, counts = compose(
        markup.user, at(played.actions), at(played.action_lengths), (markup.end, *header))
    active &= (at(played.action_lengths) > 0) & (speaker.cache.lengths + counts <= limits.context)
    speaker = ingest_message(model, params, speaker, message, jnp.where(active, counts, 0))
    thought = Turn(jnp.zeros((rows, 0), jnp.int32), jnp.zeros((rows, 0)),
                   jnp.zeros(rows, jnp.int32), active)
    valid = active
    if thinks:
      speaker, thought, valid = _think(model, params, speaker, active, markup, limits)
    spoken, text = decode_turn(
        model, params, speaker, None, active, stop=markup.end, max_tokens=limits.max_tokens,
        temperature=0.0)
    logprobs = jnp.sum(thought.logprobs, axis=1) + jnp.sum(text.logprobs, axis=1)
    speaker = rewind(spoken, speaker, active)
    message, counts = compose(
        (), at(played.observations), at(played.observation_lengths),
        (markup.end_predicted, markup.end))
    active_after = active & (speaker.cache.lengths + counts <= limits.context)
    speaker = ingest_message(model, params, speaker, message, jnp.where(active_after, counts, 0))
    finished = text.stopped & (thought.lengths + text.lengths <= limits.max_tokens)
    answers = jax.tree.map(
        lambda past, new: jax.lax.dynamic_update_index_in_dim(past, new, index, 1), answers,
        Answers(thought.tokens, thought.lengths, text.tokens, text.lengths, logprobs,
                valid & active, finished, active))
    return speaker, answers, active_after, index + 1

  def empty(shape=(), dtype=jnp.int32):
    return jnp.zeros((rows, turns, *shape), dtype)

  answers = Answers(
      empty((limits.max_thinking,)), empty(), empty((limits.max_tokens,)), empty(),
      empty(dtype=jnp.float32), empty(dtype=bool), empty(dtype=bool), empty(dtype=bool))
  start = (speaker, answers, played.system_lengths > 0, jnp.zeros((), jnp.int32))
  return jax.lax.while_loop(
      lambda carry: jnp.any(carry[2]) & (carry[3] < turns), answer_turn, start)[1]
