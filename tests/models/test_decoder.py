"""The decoder against a float64 NumPy one, packed against unpacked, cached against whole passes."""

import dataclasses
import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models import attention_cache as caching
from aw_jax.models.attention import attend_packed
from aw_jax.models.attention_cache import ChunkedCache, _leading, attend_cache
from aw_jax.models.cache import go_back, init_cache, repeat_rows
from aw_jax.models.config import ModelConfig, ModelConfigError
from aw_jax.models.decoder import Decoder, init_params, token_logprobs
from aw_jax.models.layers import ShortConv

CONFIG = ModelConfig(
  vocab_size=23, width=16, layers=2, heads=4, kv_heads=2, head_dim=6, mlp_width=20,
  rope_theta=50.0, norm_epsilon=1e-3, short_conv_width=3, dtype='float32', query_block=8)
PLAIN = dataclasses.replace(CONFIG, short_conv_width=0, tied_embeddings=False)
CONFIGS = {'convolutions': CONFIG, 'plain': PLAIN}
# Of those with a cache: its keys and values in the order of training too.
# And by a loop over the layers.
CACHED = {**CONFIGS, 'rows': dataclasses.replace(CONFIG, attention_kind='plain'),
          'scanned': dataclasses.replace(CONFIG, scan_decode=True)}


@functools.cache
def random_params(config):
  """Parameters of which none is at its initial 0 or 1, where a misplaced one would not show."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(config, key)), jax.random.key(0))
  return jax.tree.map(lambda x: rng.normal(0.5 * (len(x.shape) == 1), 0.3, x.shape).astype(
    np.float32), shapes)


def random_tokens(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, CONFIG.vocab_size, shape).astype(np.int32)


# --- a plain decoder in float64 -------------------------------------------------------------------


def rms_norm(x, scale, epsilon):
  return x / np.sqrt(np.mean(x * x) + epsilon) * scale


def rope(x, position, theta):
  """Pairs (i, i + D/2) turned by position * theta^(-2i/D), as complex numbers."""
  half = len(x) // 2
  turned = (x[:half] + 1j * x[half:]) * np.exp(
    1j * position * theta ** (-2 * np.arange(half) / len(x)))
  return np.concatenate([turned.real, turned.imag])


def short_conv(rows, segments, kernel):
  """A loop over tokens and taps; `rows` are the vectors of one packed row."""
  out = []
  for t, row in enumerate(rows):
    total = row.copy()
    for delay, tap in enumerate(kernel):
      if t >= delay and segments[t - delay] == segments[t]:
        total += tap * rows[t - delay]
    out.append(total)
  return out


def attention(rows, segments, positions, p, c):
  def heads(x, name, count):
    return (x @ p[name]).reshape(count, c.head_dim)

  def normed(x, name, count, position):
    return [rope(rms_norm(head, p[f'{name}_norm']['scale'], c.norm_epsilon), position, c.rope_theta)
            for head in heads(x, name, count)]

  queries = [normed(x, 'q', c.heads, t) for x, t in zip(rows, positions, strict=True)]
  keys = [normed(x, 'k', c.kv_heads, t) for x, t in zip(rows, positions, strict=True)]
  values = [heads(x, 'v', c.kv_heads) for x in rows]
  out = []
  for t in range(len(rows)):
    seen = [s for s in range(t + 1) if segments[s] == segments[t]]
    said = []
    for h in range(c.heads):
      kv = h * c.kv_heads // c.heads
      scores = np.array([queries[t][h] @ keys[s][kv] for s in seen]) / np.sqrt(c.head_dim)
      weights = np.exp(scores) / np.exp(scores).sum()
      said.append(sum(w * values[s][kv] for w, s in zip(weights, seen, strict=True)))
    out.append(np.concatenate(said) @ p['o'])
  return out


def swiglu(x, p):
  gate = x @ p['gate']
  return (gate / (1 + np.exp(-gate)) * (x @ p['up'])) @ p['down']


def numpy_logits(params, c, tokens, positions, segments):
  """float64[L, V] of one packed row."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  rows = [params['embedding'][token] for token in tokens]

  def normed(p, name):
    x = [rms_norm(row, p[f'{name}_norm']['scale'], c.norm_epsilon) for row in rows]
    return short_conv(x, segments, p[f'{name}_conv']['kernel']) if c.short_conv_width else x

  for layer in range(c.layers):
    p = jax.tree.map(lambda x, i=layer: x[i], params['layers']['layer_0'])
    out = attention(normed(p, 'mixer'), segments, positions, p['attention'], c)
    rows = [row + x for row, x in zip(rows, out, strict=True)]
    rows = [row + swiglu(x, p['mlp']) for row, x in zip(rows, normed(p, 'mlp'), strict=True)]
  table = params['embedding' if c.tied_embeddings else 'unembedding']
  return np.stack(
    [table @ rms_norm(row, params['final_norm']['scale'], c.norm_epsilon) for row in rows])


# --- whole rows -----------------------------------------------------------------------------------

SEGMENTS = np.array([1] * 5 + [2] * 1 + [3] * 6 + [0] * 2)  # a block of 8 queries ends in one
POSITIONS = np.array([*range(5), 0, *range(6), 0, 1])


@functools.partial(jax.jit, static_argnums=0)
def forward(config, params, tokens, positions=None, segments=None):
  return Decoder(config).apply({'params': params}, tokens, positions, segments)


def packed_logits(config, tokens):
  return np.asarray(forward(
    config, random_params(config), tokens[None], POSITIONS[None], SEGMENTS[None]))[0]


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_forward_pass_is_the_numpy_decoder(config):
  tokens = random_tokens(len(SEGMENTS))
  expected = numpy_logits(random_params(config), config, tokens, POSITIONS, SEGMENTS)
  assert expected.std() > 0.5
  np.testing.assert_allclose(packed_logits(config, tokens), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_packed_rows_equal_unpacked_ones(config):
  tokens = random_tokens(len(SEGMENTS))
  packed = jax.nn.log_softmax(packed_logits(config, tokens))
  rows = random_tokens(3, SLOTS, seed=8)  # what stands behind a segment is not seen
  for segment in (1, 2, 3):
    inside = tokens[segment == SEGMENTS]
    rows[segment - 1, :len(inside)] = inside
  unpacked = jax.nn.log_softmax(forward(config, random_params(config), rows))
  for segment in (1, 2, 3):
    inside = segment == SEGMENTS
    np.testing.assert_allclose(
      packed[inside], unpacked[segment - 1, :inside.sum()], rtol=0, atol=1e-5)


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize('segment', [0, 1, 2, 3])
def test_nothing_crosses_a_segment(config, segment):
  tokens = random_tokens(len(SEGMENTS))
  other = np.where(segment == SEGMENTS, (tokens + 7) % config.vocab_size, tokens)
  before, after = packed_logits(config, tokens), packed_logits(config, other)
  outside = segment != SEGMENTS
  np.testing.assert_array_equal(before[outside], after[outside])
  assert (before[~outside] != after[~outside]).any()


def test_no_gradient_crosses_a_segment():
  tokens = np.arange(len(SEGMENTS), dtype=np.int32)  # each id once: its embedding is its place
  config = dataclasses.replace(CONFIG, tied_embeddings=False)

  def second_segment(embedding):
    logits = forward(config, {**random_params(config), 'embedding': embedding}, tokens[None],
                     POSITIONS[None], SEGMENTS[None])
    return jnp.sum(jnp.where(SEGMENTS[:, None] == 3, jnp.sin(logits[0]), 0))

  gradient = np.asarray(jax.jit(jax.grad(second_segment))(random_params(config)['embedding']))
  reached = np.abs(gradient).max(axis=1)[:len(SEGMENTS)] > 0
  np.testing.assert_array_equal(reached, SEGMENTS == 3)


def plain_attention(q, k, v, mask):
  """The textbook form: every score at once, one head after the other."""
  group = q.shape[2] // k.shape[2]
  heads = []
  for head in range(q.shape[2]):
    scores = jnp.einsum('btd,bsd->bts', q[:, :, head], k[:, :, head // group]) / q.shape[-1]**0.5
    probabilities = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1)
    heads.append(jnp.einsum('bts,bsd->btd', probabilities, v[:, :, head // group]))
  return jnp.stack(heads, axis=2)


@pytest.mark.parametrize('block', [4, 64])
def test_blocks_of_queries_equal_plain_attention(block):
  """Values and gradients, of blocks that do not divide the length and of a single one."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(2, 10, heads, 4)).astype(np.float32) for heads in (4, 2, 2))
  segments = np.array([[1] * 4 + [2] * 6, [1] * 7 + [0] * 3])
  causal = np.tril(np.ones((10, 10), bool))
  mask = (segments[:, :, None] == segments[:, None, :]) & causal
  weights = rng.normal(size=(2, 10, 4, 4))

  def value_and_gradients(function):
    return jax.jit(jax.value_and_grad(
      lambda *x: jnp.sum(function(*x) * weights), argnums=(0, 1, 2)))(q, k, v)

  blocked = value_and_gradients(
    lambda *x: attend_packed(*x, segments, kind='blocks', dtype='float32', block=block))
  plain = value_and_gradients(lambda *x: plain_attention(*x, mask))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), blocked, plain)


@pytest.mark.parametrize('width', [2, 4])
def test_short_convolution_is_the_loop(width):
  rng = np.random.default_rng(width)
  x, kernel = rng.normal(size=(len(SEGMENTS), 3)), rng.normal(size=(width, 3))
  actual, _ = jax.jit(ShortConv(width).apply)(
    {'params': {'kernel': kernel.astype(np.float32)}}, x[None].astype(np.float32), POSITIONS[None])
  np.testing.assert_allclose(
    actual[0], np.stack(short_conv(list(x), SEGMENTS, kernel)), rtol=0, atol=1e-5)


def test_remat_changes_nothing():
  def loss_and_gradients(config):
    def loss(params):
      logits = forward(config, params, tokens, POSITIONS[None], SEGMENTS[None])
      return jnp.mean(token_logprobs(logits, tokens))
    return jax.jit(jax.value_and_grad(loss))(random_params(CONFIG))

  tokens = random_tokens(1, len(SEGMENTS))
  stored, recomputed = map(
    loss_and_gradients, (CONFIG, dataclasses.replace(CONFIG, remat='full')))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), stored, recomputed)


# --- a cache --------------------------------------------------------------------------------------

# Tokens that each of three rows takes in a call, and the call's padded width: prefill of uneven
# prompts, single steps, a row that waits, a message to some rows, a call in which nobody moves.
CALLS = (
  ((5, 6, 2), 6), ((1, 1, 1), 1), ((1, 0, 1), 1), ((0, 6, 3), 6), ((0, 0, 0), 1), ((1, 1, 0), 1),
  ((4, 1, 6), 6), ((1, 1, 1), 1))
SLOTS = 20


@functools.partial(jax.jit, static_argnums=(0, 5))
def extend(config, params, cache, tokens, counts, attended=None):
  model = Decoder(config)
  hidden, cache = model.apply({'params': params}, cache, tokens, counts, attended, method='extend')
  return model.apply({'params': params}, hidden, method='logits'), cache


def feed(config, cache, rows, counts, width):
  """Appends `counts` tokens of `rows` from where the cache is; what pads them is garbage."""
  tokens = random_tokens(len(rows), width, seed=99)
  starts = np.asarray(cache.lengths)
  for row, (start, count) in enumerate(zip(starts, counts, strict=True)):
    tokens[row, :count] = rows[row, start:start + count]
  logits, cache = extend(config, random_params(config), cache, tokens, np.array(counts))
  return [np.asarray(logits)[row, :count] for row, count in enumerate(counts)], cache


@pytest.mark.parametrize('chunk', [3, 128])
@pytest.mark.parametrize('config', [*CACHED.values(), dataclasses.replace(CONFIG, remat='full')],
                         ids=[*CACHED, 'remat'])
def test_any_way_of_extending_equals_the_whole_pass(config, chunk, monkeypatch):
  """Of a cache in one chunk, and of one whose seven chunks are read as they fill up."""
  monkeypatch.setattr(caching, 'CHUNK', chunk)
  rows = random_tokens(3, SLOTS)
  whole = np.asarray(forward(config, random_params(config), rows))
  cache, pieces = init_cache(config, 3, SLOTS), []
  for counts, width in CALLS:
    logits, cache = feed(config, cache, rows, counts, width)
    pieces.append(logits)
  np.testing.assert_array_equal(cache.lengths, np.sum([counts for counts, _ in CALLS], axis=0))
  for row in range(3):
    said = np.concatenate([logits[row] for logits in pieces])
    np.testing.assert_allclose(said, whole[row, :len(said)], rtol=0, atol=2e-5)


@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_the_last_token_alone_is_that_of_all(config):
  """And leaves the same cache; of a row that takes no token the hidden state means nothing."""
  whole = alone = init_cache(config, 3, SLOTS)
  params, rows = random_params(config), random_tokens(3, 6)
  for counts in ((5, 6, 2), (0, 3, 6), (1, 1, 1)):
    hidden, whole = hidden_states(config, params, whole, rows, np.array(counts), False)
    last, alone = hidden_states(config, params, alone, rows, np.array(counts), True)
    assert last.shape == (3, 1, config.width)
    for row, count in enumerate(counts):
      if count:
        np.testing.assert_allclose(last[row, 0], hidden[row, count - 1], rtol=0, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), whole, alone)


@functools.partial(jax.jit, static_argnums=(0, 5))
def hidden_states(config, params, cache, tokens, counts, last_only):
  return Decoder(config).apply(
    {'params': params}, cache, tokens, counts, last_only=last_only, method='extend')


def test_a_loop_over_layers_of_every_kind_is_each_after_the_other():
  """DeltaNet and experts as well; in steps, for repeated rows, and after going back."""
  config = dataclasses.replace(
    CONFIG, layers=6, pattern=('delta_net', 'attention'), delta_key_heads=2, delta_value_heads=4,
    delta_key_dim=5, delta_value_dim=4, experts=4, experts_per_token=2, expert_width=6,
    shared_expert_width=5)
  params, rows, found = random_params(config), random_tokens(6, 6), []
  for scans in (False, True):
    own = dataclasses.replace(config, scan_decode=scans)
    _, cache = hidden_states(
      own, params, init_cache(own, 3, SLOTS), rows[:3], np.array([5, 0, 6]), False)
    earlier = cache = repeat_rows(cache, 2)
    hidden, cache = hidden_states(own, params, cache, rows, np.array([1, 2, 6, 0, 3, 4]), False)
    back = go_back(cache, earlier, np.arange(6) % 2 == 0)
    again, _ = hidden_states(own, params, back, rows[:, :2], np.array([2] * 6), True)
    found.append((hidden, again, back.lengths))
  for one, other in zip(*found, strict=True):
    np.testing.assert_allclose(one[:3], other[:3], rtol=0, atol=2e-4)


def test_a_bfloat16_cache_rounds_keys_and_values_alone():
  """Against float64 over keys and values rounded to bfloat16, as the trainer's operands are."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=shape).astype(np.float32)
             for shape in ((2, 1, 4, 8), (3, 2, 2, 8, 5), (3, 2, 2, 5, 8)))
  positions = np.array([[11], [6]])
  stored = [(jnp.asarray(x[:2], jnp.bfloat16), jnp.asarray(x[2:], jnp.bfloat16)) for x in (k, v)]
  found = attend_cache(
    jnp.asarray(q), ChunkedCache(*stored), jnp.asarray(positions), kind='blocks')
  k, v = (np.asarray(jnp.asarray(x).astype(jnp.bfloat16), np.float64) for x in (k, v))
  for row in range(2):
    for head in range(4):
      keys = np.concatenate([k[n, row, head // 2].T for n in range(3)])[:positions[row, 0] + 1]
      values = np.concatenate([v[n, row, head // 2] for n in range(3)])[:positions[row, 0] + 1]
      weights = np.exp(keys @ q[row, 0, head] / np.sqrt(8))
      np.testing.assert_allclose(
        found[row, 0, head], weights @ values / weights.sum(), rtol=0, atol=2e-6)


@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_rolled_back_rows_forget(config):
  """As if nothing was said."""
  rows, others = random_tokens(3, SLOTS), random_tokens(3, SLOTS, seed=5)
  _, before = feed(config, init_cache(config, 3, SLOTS), rows, (5, 6, 2), 6)
  _, after = feed(config, before, others, (6, 1, 4), 6)
  rolled_back = go_back(after, before, np.ones(3, bool))
  logits, _ = feed(config, rolled_back, rows, (3, 4, 6), 6)
  expected, _ = feed(config, before, rows, (3, 4, 6), 6)
  for actual, wanted in zip(logits, expected, strict=True):
    np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_parameters_may_be_stored_in_bfloat16(config):
  """As samplers on accelerators have them: what they are rounded to is what counts."""
  stored = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), random_params(config))
  rows, counts = random_tokens(3, 6), np.array([6, 3, 5])
  found, wanted = (
    hidden_states(config, params, init_cache(config, 3, SLOTS), rows, counts, True)[0]
    for params in (stored, jax.tree.map(lambda x: x.astype(jnp.float32), stored)))
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-2)


@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_rows_without_tokens_stay_as_they_are(config):
  rows = random_tokens(3, SLOTS)
  _, before = feed(config, init_cache(config, 3, SLOTS), rows, (5, 6, 2), 6)
  _, after = feed(config, before, rows, (0, 3, 0), 6)
  np.testing.assert_array_equal(after.lengths, [5, 9, 2])
  for now, then in zip(after.layers, before.layers, strict=True):
    in_chunks = isinstance(now.mixer, ChunkedCache)
    for part_now, part_then in zip(*map(jax.tree.leaves, (now, then)), strict=True):
      for waiting in (0, 2):
        axis = config.scan_decode + (in_chunks and part_now.ndim - config.scan_decode == 5)
        np.testing.assert_array_equal(
          *(np.take(np.asarray(part), waiting, axis) for part in (part_now, part_then)))


@pytest.mark.parametrize('chunk', [3, 128])
@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_looking_at_leading_slots_alone_changes_nothing(config, chunk, monkeypatch):
  monkeypatch.setattr(caching, 'CHUNK', chunk)
  rows = random_tokens(3, 6)
  cache = init_cache(config, 3, SLOTS)
  all_slots, _ = extend(config, random_params(config), cache, rows, np.array([6, 4, 0]))
  leading, _ = extend(config, random_params(config), cache, rows, np.array([6, 4, 0]), 6)
  np.testing.assert_allclose(all_slots[0], leading[0], rtol=0, atol=1e-5)
  np.testing.assert_allclose(all_slots[1, :4], leading[1, :4], rtol=0, atol=1e-5)


@pytest.mark.parametrize(('attended', 'expected'), [
  (1, [(1, 1)]), (2, [(1, 2)]), (3, [(1, 3)]), (4, [(2, 3)]), (7, [(2, 3), (1, 3)]),
  (12, [(2, 3), (2, 3)]), (20, [(2, 3), (5, 3)]), (27, [(2, 3), (6, 3), (1, 3)])])
def test_no_more_than_the_leading_slots_are_looked_at(attended, expected, monkeypatch):
  monkeypatch.setattr(caching, 'CHUNK', 3)
  layer, *_ = init_cache(CONFIG, 2, 27).layers
  keys, values = _leading(layer.mixer.k, layer.mixer.v, attended)
  assert [(k.shape[0], k.shape[-1]) for k in keys] == expected
  assert [(v.shape[0], v.shape[3]) for v in values] == expected


@pytest.mark.parametrize('config', CACHED.values(), ids=CACHED)
def test_repeated_rows_go_on_by_themselves(config):
  rows = random_tokens(3, SLOTS)
  _, cache = feed(config, init_cache(config, 3, SLOTS), rows, (5, 3, 4), 6)
  grouped = repeat_rows(cache, 2)
  lengths = np.array([5, 5, 3, 3, 4, 4])
  np.testing.assert_array_equal(grouped.lengths, lengths)
  samples, counts = random_tokens(6, SLOTS, seed=3), (4, 2, 6, 1, 0, 5)
  logits, _ = feed(config, grouped, samples, counts, 6)
  for row, length in enumerate(lengths):
    samples[row, :length] = rows[row // 2, :length]
  whole = [*forward(config, random_params(config), samples[:3]),
           *forward(config, random_params(config), samples[3:])]
  for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
    np.testing.assert_allclose(
      logits[row], whole[row][length:length + count], rtol=0, atol=2e-5)


@pytest.mark.parametrize(('slots', 'parts'), [
  (1, [(1, 1)]), (64, [(1, 64)]), (65, [(2, 64)]), (192, [(2, 64), (1, 64)]),
  (512, [(2, 64), (6, 64)]), (1280, [(2, 64), (6, 64), (12, 64)]),
  (2112, [(2, 64), (6, 64), (24, 64), (1, 64)])])
def test_each_part_makes_a_cache_four_times_as_long(slots, parts):
  assert caching.cache_parts(slots) == parts
  layer, *_ = init_cache(CONFIG, 2, slots).layers
  assert [(k.shape[0], k.shape[-1]) for k in layer.mixer.k] == parts
  assert [(v.shape[0], v.shape[3]) for v in layer.mixer.v] == parts


def test_every_buffer_of_a_cache_is_its_own():
  pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(init_cache(CONFIG, 2, 8))]
  assert all(a != b for a, b in itertools.combinations(pointers, 2))


# --- the rest -------------------------------------------------------------------------------------


def test_token_logprobs():
  rng = np.random.default_rng(0)
  logits, tokens = 30 * rng.normal(size=(2, 5, 7)), rng.integers(0, 7, (2, 5))
  shifted = logits - logits.max(axis=-1, keepdims=True)
  expected = np.log(np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True))
  np.testing.assert_allclose(
    token_logprobs(jnp.asarray(logits, jnp.float32), jnp.asarray(tokens)),
    np.take_along_axis(expected, tokens[..., None], axis=-1)[..., 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('field', 'value', 'message'), [
  ('layers', 0, 'model.layers: must be at least 1, is 0'),
  ('kv_heads', 3, 'model.kv_heads: 3 does not divide model.heads = 4'),
  ('head_dim', 5, 'model.head_dim: its rotated part must be even for RoPE, is 5'),
  ('rotary_fraction', 0.1, 'model.head_dim: its rotated part must be even for RoPE, is 0'),
  ('dtype', 'float16', "model.dtype: one of float32, bfloat16, is 'float16'"),
  ('cache_dtype', 'int8', "model.cache_dtype: one of float32, bfloat16, is 'int8'"),
  ('remat', 'some', "model.remat: one of none, dots, full, is 'some'"),
  ('pattern', ('attention', 'mamba'), 'model.pattern: of attention, delta_net, is '),
  ('pattern', ('attention',) * 3, 'model.pattern: 3 layers long, which does not divide'),
  ('pattern', ('delta_net',), 'model.delta_key_heads: must be at least 1, is 0'),
  ('experts', 4, 'model.experts_per_token: must be at least 1, is 0'),
  ('mlp_width', 0, 'model.mlp_width: must be at least 1, is 0')])
def test_what_cannot_be_built_is_refused_by_field(field, value, message):
  with pytest.raises(ModelConfigError, match=message):
    dataclasses.replace(CONFIG, **{field: value})
