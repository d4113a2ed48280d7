"""The device's side of continuous batching: a cache of so many rows, prefill into one, decode all.

Rows come and go while the others go on, and nothing is compiled anew for it: a prompt is read into
its row by a program for its length, rounded up; all rows decode together, some tokens a call, with
parameters of their own. Every device has its own rows, as in `partitioning.by_rows`, and its own
pace within a call. A slot's number says device and row: slots that stand together are on
different devices, and few requests use the first rows of each, which decode alone.

Shapes: D devices, R rows of one device, T tokens of a prompt, C tokens of a call, V vocabulary, L
likeliest tokens.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from jax.sharding import NamedSharding, PartitionSpec

from aw_jax import partitioning
from aw_jax.models.cache import init_cache, take_rows, write_rows
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, cast_kernels, token_logprobs, unstack_layers
from aw_jax.sampling.decode import Speaker, categorical, greedy, ingest

TOKENS = 8  # C: the host is asked for once in so many tokens
SHORTEST = 64  # tokens of the shortest prefill program
LIKELIEST = 20  # L: what the API may ask for
_FEWER = 4  # each program for fewer rows has so many times fewer


@flax.struct.dataclass
class Rows:
  """What each row is to do in a call: arrays [D, R] on the host, [R] in the program.

  Attributes:
    active: bool, whether it has a choice in progress.
    said: int32, tokens of the choice so far.
    limit: int32, tokens that it may have.
    temperature: float32; 0 is greedy.
    top_p: float32.
    seed: uint32, the lower half of it.
    seed_high: uint32, the upper half.
    number: int32, of the choice within its request.
    likeliest: bool, whether the likeliest tokens are wanted.
  """

  active: Any
  said: Any
  limit: Any
  temperature: Any
  top_p: Any
  seed: Any
  seed_high: Any
  number: Any
  likeliest: Any

  @classmethod
  def empty(cls, shape: tuple[int, ...]) -> 'Rows':
    """Rows that do nothing, on the host."""
    zeros = functools.partial(np.zeros, shape)
    return cls(zeros(bool), zeros(np.int32), zeros(np.int32), zeros(np.float32),
               np.ones(shape, np.float32), zeros(np.uint32), zeros(np.uint32), zeros(np.int32),
               zeros(bool))


@flax.struct.dataclass
class Said:
  """What rows said in a call.

  Attributes:
    tokens: int32[R, C], the stop token included, padding (0) after it.
    logprobs: float32[R, C] of those, at temperature 1.
    lengths: int32[R].
    stopped: bool[R], whether the stop token came.
    top_tokens: int32[R, C, L], the likeliest at each place, and top_logprobs: float32[R, C, L], in
      rows that want them.
  """

  tokens: Any
  logprobs: Any
  lengths: Any
  stopped: Any
  top_tokens: Any
  top_logprobs: Any


def nucleus(logits_BxV: jax.Array, top_p_B: jax.Array) -> jax.Array:
  """Logits of the likeliest tokens that have a share `top_p` of the probability; others -inf.

  The smallest set of tokens whose probabilities add up to at least `top_p`, and those that are as
  likely as its last one. Its smallest probability is found by bisection of its bits, which are in
  the order of the numbers: an accelerator sorts vocabularies slowly, and so does XLA on a CPU.
  """
  weights = jnp.exp(logits_BxV - jnp.max(logits_BxV, axis=-1, keepdims=True))
  bits = jax.lax.bitcast_convert_type(weights, jnp.int32)
  wanted = top_p_B * jnp.sum(weights, axis=-1)
  batch = top_p_B.shape[0]

  def halve(_, bounds):
    enough_at, beyond = bounds
    middle = enough_at + (beyond - enough_at) // 2
    held = jnp.sum(jnp.where(bits >= middle[:, None], weights, 0.0), axis=-1)
    enough = held >= wanted
    return jnp.where(enough, middle, enough_at), jnp.where(enough, beyond, middle)

  one = int(np.float32(1).view(np.int32))  # the weight of the likeliest
  lowest, _ = jax.lax.fori_loop(
      0, 31, halve, (jnp.zeros(batch, jnp.int32), jnp.full(batch, one + 1, jnp.int32)))
  kept = (bits >= lowest[:, None]) | (top_p_B >= 1)[:, None]
  return jnp.where(kept, logits_BxV, -jnp.inf)


def keys_of(rows: Rows) -> jax.Array:
  """A key for each row, of seed and number: those of `decode.generate` for a seed below 2^32."""
  def key(low, high, number):
    whole = jax.random.key(low)
    whole = jnp.where(high > 0, jax.random.fold_in(whole, high), whole)
    return jax.random.fold_in(whole, number)

  return jax.vmap(key)(rows.seed, rows.seed_high, rows.number)


def _sample(logits, keys, rows: Rows) -> jax.Array:
  """A token for each row by its own parameters; what no row asks for is not computed."""
  likeliest = greedy(logits)

  def noisy():
    scaled = logits / jnp.where(rows.temperature > 0, rows.temperature, 1.0)[:, None]
    scaled = jax.lax.cond(
        jnp.any(rows.top_p < 1), lambda: nucleus(scaled, rows.top_p), lambda: scaled)
    return jnp.where(rows.temperature > 0, categorical(keys, scaled), likeliest)

  return jax.lax.cond(jnp.any(rows.temperature > 0), noisy, lambda: likeliest).astype(jnp.int32)


def _likeliest(logits, wanted, count: int) -> tuple[jax.Array, jax.Array]:
  """The likeliest tokens and their log-probabilities, where any row wants them."""
  def found():
    values, tokens = jax.lax.top_k(logits, count)
    return tokens, values - jax.nn.logsumexp(logits, axis=-1, keepdims=True)

  shape = (logits.shape[0], count)
  return jax.lax.cond(
      jnp.any(wanted), found, lambda: (jnp.zeros(shape, jnp.int32), jnp.zeros(shape)))


def decode_rows(model: Decoder, params: Any, speaker: Speaker, rows: Rows, stop: int
                ) -> tuple[Speaker, Said]:
  """Up to `TOKENS` tokens of each active row, as `decode.decode_turn` generates them."""
  batch, count = rows.active.shape[0], min(LIKELIEST, model.config.vocab_size)
  keys = keys_of(rows)
  # A row that is free reads nothing of the cache, however long what it held.
  speaker = speaker.replace(cache=speaker.cache.replace(
      lengths=jnp.where(rows.active, speaker.cache.lengths, 0)))

  def running(carry):
    _, _, active, index = carry
    return jnp.any(active) & (index < TOKENS)

  def body(carry):
    speaker, said, active, index = carry
    logits = model.apply({'params': params}, speaker.hidden, method='logits')
    noise = jax.vmap(jax.random.fold_in)(keys, rows.said + index)
    tokens = jnp.where(active, _sample(logits, noise, rows), 0)
    logprobs = jnp.where(active, token_logprobs(logits, tokens), 0.0)
    top = _likeliest(logits, rows.likeliest & active, count)
    speaker = ingest(model, params, speaker, tokens[:, None], active.astype(jnp.int32))
    is_stop = active & (tokens == stop)

    def put(array, values):
      return jax.lax.dynamic_update_index_in_dim(array, values, index, 1)

    said = Said(put(said.tokens, tokens), put(said.logprobs, logprobs), said.lengths + active,
                said.stopped | is_stop, put(said.top_tokens, top[0]),
                put(said.top_logprobs, top[1]))
    active &= ~is_stop & (rows.said + index + 1 < rows.limit)
    return speaker, said, active, index + 1

  def zeros(*shape, dtype=jnp.int32):
    return jnp.zeros((batch, *shape), dtype)

  said = Said(
      zeros(TOKENS), zeros(TOKENS, dtype=jnp.float32), zeros(), zeros(dtype=bool),
      zeros(TOKENS, count), zeros(TOKENS, count, dtype=jnp.float32))
  active = rows.active & (rows.said < rows.limit)
  speaker, said, _, _ = jax.lax.while_loop(
      running, body, (speaker, said, active, jnp.zeros((), jnp.int32)))
  return speaker, said


class Slots:
  """A decoder with a cache of so many rows over all devices, and its compiled programs."""

  def __init__(self, config: ModelConfig, params: Any, stop: int, slots: int, context: int):
    """
    Args:
      config: of the decoder.
      params: its parameters.
      stop: id of the token that ends a choice.
      slots: choices at a time at least; rounded up to the same number for each device.
      context: tokens of a row, a multiple of `SHORTEST`.
    """
    self._mesh = partitioning.make_mesh()
    self._devices = self._mesh.size
    self._each = -(-slots // self._devices)
    self.count, self.context = self._each * self._devices, context
    self._model, self._stop = Decoder(config), stop
    self._split = NamedSharding(self._mesh, PartitionSpec(partitioning.ROW_AXES))
    self._params = jax.jit(
        lambda params: cast_kernels(config, unstack_layers(config, params)),
        out_shardings=partitioning.replicated(self._mesh))(params)
    self._speaker = jax.jit(self._empty, out_shardings=self._split)()
    self._prefill = self._program(self._prefill_row)
    self._decode = {rows: self._program(functools.partial(self._decode_first, rows))
                    for rows in self._sizes()}

  def _sizes(self) -> list[int]:
    """Rows of the programs that decode, fewest first."""
    sizes = [self._each]
    while sizes[-1] > _FEWER:
      sizes.append(-(-sizes[-1] // _FEWER))
    return sizes[::-1]

  def bucket(self, length: int) -> int:
    """Tokens of the program that reads a prompt of this length."""
    size = SHORTEST
    while size < length:
      size *= 2
    return min(size, self.context)

  def compile(self, progress: bool = False) -> None:
    """Compiles all programs, before any request has to wait for it."""
    none = np.zeros(self._devices, np.int32)
    reads = [functools.partial(self._read, np.zeros((self._devices, size), np.int32), none, none)
             for size in sorted({self.bucket(length) for length in range(1, self.context + 1)})]
    says = [functools.partial(self._say, size, Rows.empty((self._devices, size)))
            for size in self._decode]
    for run in tqdm.tqdm(reads + says, desc='compile', disable=not progress):
      run()

  # --- on the host --------------------------------------------------------------------------------

  def place(self, slot: int) -> tuple[int, int]:
    """Device and row of a slot."""
    return slot % self._devices, slot // self._devices

  def empty_rows(self) -> Rows:
    """Parameters of all rows, indexed by `place`, for the host to fill in."""
    return Rows.empty((self._devices, self._each))

  def prefill(self, prompts: Mapping[int, Sequence[int]]) -> None:
    """Reads prompts into their slots, those of other devices side by side where alike in length."""
    waiting: dict[int, list[list[tuple[int, Sequence[int]]]]] = {}
    for slot, prompt in prompts.items():
      device, row = self.place(slot)
      queues = waiting.setdefault(self.bucket(len(prompt)), [[] for _ in range(self._devices)])
      queues[device].append((row, prompt))
    for size, queues in waiting.items():
      for turn in range(max(map(len, queues))):
        tokens = np.zeros((self._devices, size), np.int32)
        counts, rows = np.zeros((2, self._devices), np.int32)
        for device, queue in enumerate(queues):
          if turn < len(queue):
            row, prompt = queue[turn]
            tokens[device, :len(prompt)] = prompt
            counts[device], rows[device] = len(prompt), row
        self._read(tokens, counts, rows)

  def decode(self, rows: Rows) -> Said:
    """Up to `TOKENS` tokens of each active row; arrays [D, R', ...], R' rows from the first on."""
    used = int(np.max(np.nonzero(np.any(rows.active, axis=0))[0])) + 1
    size = min(size for size in self._decode if size >= used)
    return self._say(size, jax.tree.map(lambda x: x[:, :size], rows))

  def _read(self, tokens: np.ndarray, counts: np.ndarray, rows: np.ndarray) -> None:
    self._speaker = self._prefill(self._params, self._speaker, (tokens, counts, rows))

  def _say(self, size: int, rows: Rows) -> Said:
    self._speaker, said = self._decode[size](self._params, self._speaker, rows)
    return jax.device_get(said)

  # --- on each device -----------------------------------------------------------------------------

  def _program(self, function: Any) -> Any:
    """`function(params, speaker, inputs)` of one device, jitted for all; the speaker is donated."""
    def local(params, speaker, inputs):
      speaker, inputs = jax.tree.map(lambda x: x[0], (speaker, inputs))
      return jax.tree.map(lambda x: x[None], function(params, speaker, inputs))

    split = self._split.spec
    return jax.jit(
        jax.shard_map(local, mesh=self._mesh, in_specs=(PartitionSpec(), split, split),
                      out_specs=split, check_vma=False), donate_argnums=1)

  def _new_speaker(self, rows: int, slots: int) -> Speaker:
    config = self._model.config
    return Speaker(init_cache(config, rows, slots), jnp.zeros((rows, config.width)))

  def _empty(self) -> Speaker:
    one = jax.eval_shape(functools.partial(self._new_speaker, self._each, self.context))
    return jax.tree.map(lambda x: jnp.zeros((self._devices, *x.shape), x.dtype), one)

  def _prefill_row(self, params: Any, speaker: Speaker, inputs: tuple[jax.Array, ...]) -> Speaker:
    """A prompt int32[T] of so many tokens into a row; of no tokens: nothing."""
    tokens, count, row = inputs
    size = tokens.shape[0]
    before = Speaker(take_rows(speaker.cache, row, 1),
                     jax.lax.dynamic_slice_in_dim(speaker.hidden, row, 1))

    def read():
      fresh = ingest(self._model, params, self._new_speaker(1, size), tokens[None], count[None],
                     size)
      return Speaker(write_rows(before.cache, fresh.cache, 0), fresh.hidden)

    # One row goes through the condition: what does, XLA copies.
    after = jax.lax.cond(count > 0, read, lambda: before)
    return Speaker(
        write_rows(speaker.cache, after.cache, row),
        jax.lax.dynamic_update_slice_in_dim(speaker.hidden, after.hidden, row, axis=0))

  def _decode_first(self, count: int, params: Any, speaker: Speaker, rows: Rows
                    ) -> tuple[Speaker, Said]:
    """The first rows alone: those behind them are free."""
    if count == self._each:
      return decode_rows(self._model, params, speaker, rows, self._stop)
    part = Speaker(take_rows(speaker.cache, 0, count), speaker.hidden[:count])
    part, said = decode_rows(self._model, params, part, rows, self._stop)
    return Speaker(
        write_rows(speaker.cache, part.cache, 0),
        jax.lax.dynamic_update_slice_in_dim(speaker.hidden, part.hidden, 0, axis=0)), said
