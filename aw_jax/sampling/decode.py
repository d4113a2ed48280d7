"""Prefill and decode: every speaker's turn, in generation and in imagination, is `decode_turn`.

Shapes: B rows, T tokens given, C tokens generated at most, E width, V vocabulary.
"""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp

from aw_jax.models.cache import Cache, go_back, init_cache, repeat_rows
from aw_jax.models.decoder import Decoder, gather_for_decoding, token_logprobs, unstack_layers
from aw_jax.partitioning import by_rows


@flax.struct.dataclass
class Speaker:
  """A model in the middle of a conversation.

  Attributes:
    cache: what it has read and said.
    hidden: float32[B, E], the final hidden state of each row's last token.
  """

  cache: Cache
  hidden: jax.Array


@flax.struct.dataclass
class Turn:
  """What `decode_turn` generated.

  Attributes:
    tokens: int32[B, C], the stop token included, padding (0) after it.
    logprobs: float32[B, C] of those tokens under the sampling parameters, at temperature 1.
    lengths: int32[B]; 0 in rows that were not to speak.
    stopped: bool[B], whether the stop token came within C tokens.
  """

  tokens: jax.Array
  logprobs: jax.Array
  lengths: jax.Array
  stopped: jax.Array


def ingest(model: Decoder, params: Any, speaker: Speaker, tokens_BxT: jax.Array,
           counts_B: jax.Array, attended: int | None = None) -> Speaker:
  """Reads `counts_B` tokens a row; rows with none are left as they are."""
  hidden, cache = model.apply({'params': params}, speaker.cache, tokens_BxT, counts_B, attended,
                              last_only=True, method='extend')
  return Speaker(cache, jnp.where((counts_B > 0)[:, None], hidden[:, 0], speaker.hidden))


def ingest_message(model: Decoder, params: Any, speaker: Speaker, tokens_BxT: jax.Array,
                   counts_B: jax.Array, chunk: int = 16) -> Speaker:
  """`ingest` of messages far shorter than T in most rows: `chunk` tokens at a time, while any."""
  params, length = unstack_layers(model.config, params), tokens_BxT.shape[1]
  padded = jnp.pad(tokens_BxT, ((0, 0), (0, -length % chunk)))
  chunks = (jnp.max(counts_B) + chunk - 1) // chunk

  def body(carry):
    speaker, index = carry
    tokens = jax.lax.dynamic_slice_in_dim(padded, index * chunk, chunk, axis=1)
    counts = jnp.clip(counts_B - index * chunk, 0, chunk)
    return ingest(model, params, speaker, tokens, counts), index + 1

  return jax.lax.while_loop(
      lambda carry: carry[1] < chunks, body, (speaker, jnp.zeros((), jnp.int32)))[0]


def rewind(speaker: Speaker, earlier: Speaker, rows_B: jax.Array) -> Speaker:
  """`speaker` as it was `earlier` in the rows of bool[B]; what it read since is written over."""
  return Speaker(go_back(speaker.cache, earlier.cache, rows_B),
                 jnp.where(rows_B[:, None], earlier.hidden, speaker.hidden))


def prefill(model: Decoder, params: Any, tokens_BxT: jax.Array, counts_B: jax.Array, slots: int,
            group: int = 1) -> Speaker:
  """Reads each prompt once, into a cache of `slots` tokens, and gives it to `group` rows."""
  batch = tokens_BxT.shape[0]
  start = Speaker(init_cache(model.config, batch, slots), jnp.zeros((batch, model.config.width)))
  speaker = ingest(model, params, start, tokens_BxT, counts_B, tokens_BxT.shape[1])
  return Speaker(repeat_rows(speaker.cache, group), jnp.repeat(speaker.hidden, group, axis=0))


# Tokens are found in two steps, first the block of the vocabulary and then the place in it: XLA's
# CPU backend reduces to an index one value at a time, a twentieth of a decode step.
_BLOCK = 64


def greedy(logits_BxV: jax.Array) -> jax.Array:
  """int32[B]: the likeliest tokens, the first of equals."""
  blocks = _in_blocks(logits_BxV)
  block = jnp.argmax(jnp.max(blocks, axis=-1), axis=-1)
  return block * _BLOCK + jnp.argmax(_take_block(blocks, block), axis=-1)


def categorical(keys_B: jax.Array, logits_BxV: jax.Array) -> jax.Array:
  """int32[B]: tokens drawn from softmax(logits), a key each; never one of no probability.

  By the inverse of the cumulative distribution: one uniform number a row, of 2^23 different ones,
  where Gumbel noise takes as many as there are tokens, a quarter of a decode step on a CPU.
  """
  blocks = _in_blocks(logits_BxV)
  weights = jnp.exp(blocks - jnp.max(blocks, axis=(1, 2), keepdims=True))
  totals = jnp.sum(weights, axis=-1)
  drawn = jax.vmap(jax.random.uniform)(keys_B) * jnp.sum(totals, axis=-1)
  block, rest = _search(totals, drawn)
  place, _ = _search(_take_block(weights, block), rest)
  return block * _BLOCK + place


def _in_blocks(logits_BxV: jax.Array) -> jax.Array:
  """[B, blocks, _BLOCK]; the places after the last token are never chosen."""
  padded = jnp.pad(logits_BxV, ((0, 0), (0, -logits_BxV.shape[1] % _BLOCK)),
                   constant_values=-jnp.inf)
  return padded.reshape(len(padded), -1, _BLOCK)


def _take_block(blocks: jax.Array, block_B: jax.Array) -> jax.Array:
  return jnp.take_along_axis(blocks, block_B[:, None, None], axis=1)[:, 0]


def _search(weights_BxN: jax.Array, value_B: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Where in consecutive intervals of these lengths a value lies: which, and how far into it.

  Only intervals of some length are found, whatever rounding does to their ends; a value beyond the
  last one lies in the last one.
  """
  ends = jnp.cumsum(weights_BxN, axis=-1)
  possible = weights_BxN > 0
  last = jnp.max(jnp.where(possible, ends, 0.0), axis=-1)
  value = jnp.minimum(value_B, jnp.nextafter(last, 0.0))
  index = jnp.argmax(possible & (ends > value[:, None]), axis=-1)
  begins = jnp.take_along_axis(ends - weights_BxN, index[:, None], axis=1)[:, 0]
  return index, jnp.maximum(value - begins, 0.0)


def row_keys(key: jax.Array, rows_N: jax.Array, group: int) -> jax.Array:
  """Keys of N * group rows, those of one prompt together.

  A row's noise depends on its own number alone: not on the devices, nor on the rows beside it.

  Args:
    key: of all rows.
    rows_N: int32, numbers of the prompts.
    group: rows of each.
  """
  numbers = (rows_N[:, None] * group + jnp.arange(group)).reshape(-1)
  return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)


def fold_in(keys_B: jax.Array, number: jax.Array | int) -> jax.Array:
  """`jax.random.fold_in` of each key."""
  return jax.vmap(jax.random.fold_in, (0, None))(keys_B, number)


def decode_turn(model: Decoder, params: Any, speaker: Speaker, keys_B: jax.Array | None,
                speaks_B: jax.Array, *, stop: int, max_tokens: int, temperature: float
                ) -> tuple[Speaker, Turn]:
  """Generates until the stop token in every row that speaks, or `max_tokens`.

  What is generated is read into the speaker's own cache, the stop token too. The loop ends when the
  last row is done; finished rows are masked.

  Args:
    speaker: who speaks.
    keys_B: of each row's sampling noise, from `row_keys`; not needed where temperature is 0.
    speaks_B: bool[B], rows that take a turn.
    stop: id of the token that ends a turn.
    max_tokens: C.
    temperature: 0 is greedy.
  """
  batch = speaks_B.shape[0]
  params = unstack_layers(model.config, params)
  variables = {'params': params}

  def running(carry):
    _, _, active, index = carry
    return jnp.logical_and(jnp.any(active), index < max_tokens)

  def body(carry):
    speaker, turn, active, index = carry
    logits = model.apply(variables, speaker.hidden, method='logits')
    if temperature > 0:
      sampled = categorical(fold_in(keys_B, index), logits / temperature)
    else:
      sampled = greedy(logits)
    sampled = jnp.where(active, sampled, 0).astype(jnp.int32)
    logprobs = jnp.where(active, token_logprobs(logits, sampled), 0.0)
    speaker = ingest(model, params, speaker, sampled[:, None], active.astype(jnp.int32))
    is_stop = active & (sampled == stop)
    turn = Turn(
        jax.lax.dynamic_update_index_in_dim(turn.tokens, sampled, index, 1),
        jax.lax.dynamic_update_index_in_dim(turn.logprobs, logprobs, index, 1),
        turn.lengths + active, turn.stopped | is_stop)
    return speaker, turn, active & ~is_stop, index + 1

  empty = Turn(jnp.zeros((batch, max_tokens), jnp.int32), jnp.zeros((batch, max_tokens)),
               jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool))
  speaker, turn, _, _ = jax.lax.while_loop(
      running, body, (speaker, empty, speaks_B, jnp.zeros((), jnp.int32)))
  return speaker, turn


@functools.partial(jax.jit, static_argnames=('model', 'group', 'stop', 'max_tokens', 'temperature'))
def generate(model: Decoder, params: Any, prompts_NxP: jax.Array, prompt_lengths_N: jax.Array,
             key: jax.Array, first: jax.Array | int = 0, *, group: int = 1, stop: int,
             max_tokens: int, temperature: float = 1.0) -> Turn:
  """Samples `group` completions of each prompt.

  Args:
    prompts_NxP: int32, padded on the right; P fixes the compiled shape.
    prompt_lengths_N: int32; a prompt of no tokens (padding of the batch) gets no completion.
    key: of the noise.
    first: the first prompt's number, where these are part of a larger batch: they get the noise
      that they would have in it.
  Returns:
    A Turn of N * group rows, those of one prompt together.
  """
  def complete(shared, rows):
    (params, key), (prompts, lengths, numbers) = shared, rows
    speaker = prefill(model, params, prompts, lengths, prompts.shape[1] + max_tokens, group)
    _, turn = decode_turn(
        model, params, speaker, row_keys(key, numbers, group), jnp.repeat(lengths > 0, group),
        stop=stop, max_tokens=max_tokens, temperature=temperature)
    return turn

  params = gather_for_decoding(model.config, params)
  numbers = first + jnp.arange(len(prompts_NxP))
  return by_rows(complete, (params, key), (prompts_NxP, prompt_lengths_N, numbers))
