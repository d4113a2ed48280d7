"""Continuous batching against the library's own batch decoding, and rows against each other."""

import dataclasses
import queue
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.models.cache import init_cache, take_rows, write_rows
from aw_jax.models.config import DELTA_NET
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from aw_jax.serving import slots
from aw_jax.serving.engine import Engine, EngineError, QueueFullError, Sampling, Tokens
from tests.serving.tiny_world import WAITING

MAX_TOKENS = 20
LENGTHS = (3, 70, 1, 9, 64, 12, 5, 33, 65, 2, 40, 7)


def prompts(lengths=LENGTHS, seed=1):
  rng = np.random.default_rng(seed)
  return [rng.integers(10, 290, length).tolist() for length in lengths]


def start(engine, prompt, sampling):
  events = queue.Queue()
  choice, = engine.submit(prompt, [sampling], [events.put])
  return choice, events


def said(events):
  """All ids and log-probabilities of a choice, and how it ended."""
  ids, logprobs, finish, count = [], [], None, 0
  while finish is None:
    tokens = events.get(timeout=60)
    assert isinstance(tokens, Tokens), tokens
    ids += tokens.ids
    logprobs += tokens.logprobs
    count += tokens.count
    finish = tokens.finish
  assert count == len(ids) + (finish == 'stop')
  return ids, logprobs, finish


def run(engine, prompts, sampling):
  return [said(events) for _, events in [start(engine, prompt, sampling) for prompt in prompts]]


def library(world, prompts, temperature=0.0, seed=0, group=1):
  """What `generate` says, in the form of `said`."""
  width = max(map(len, prompts))
  tokens = np.zeros((len(prompts), width), np.int32)
  for row, prompt in enumerate(prompts):
    tokens[row, :len(prompt)] = prompt
  turn = jax.device_get(generate(
    Decoder(world.config), world.params, tokens, np.array([len(p) for p in prompts], np.int32),
    jax.random.key(seed), group=group, stop=world.stop, max_tokens=MAX_TOKENS,
    temperature=temperature))
  found = []
  for row, count in enumerate(turn.lengths):
    kept = int(count) - int(turn.stopped[row])
    found.append((turn.tokens[row, :kept].tolist(), turn.logprobs[row, :kept].tolist(),
                  'stop' if turn.stopped[row] else 'length'))
  return found


def assert_same(one, other, tolerance=2e-5):
  for (ids, logprobs, finish), (other_ids, other_logprobs, other_finish) in zip(
      one, other, strict=True):
    assert (ids, finish) == (other_ids, other_finish)
    np.testing.assert_allclose(logprobs, other_logprobs, rtol=0, atol=tolerance)


def test_greedy_choices_are_those_of_the_library(world, engine):
  """More prompts than slots, of both lengths of prefill, so that slots change hands."""
  found = run(engine, prompts(), Sampling(MAX_TOKENS, temperature=0.0))
  assert_same(found, library(world, prompts()))
  assert {finish for *_, finish in found} == {'stop', 'length'}


def test_samples_of_a_seed_are_those_of_the_library(world, engine):
  prompt, = prompts((9,))
  found = [said(events) for _, events in [
    start(engine, prompt, Sampling(MAX_TOKENS, 0.7, seed=5, number=i)) for i in range(8)]]
  assert_same(found, library(world, [prompt], 0.7, 5, 8))
  assert len({tuple(ids) for ids, *_ in found}) > 4


def test_what_runs_beside_a_choice_has_no_effect(engine):
  """To the bit where as many rows decode, which decides how a product is rounded."""
  mine = [(prompt, Sampling(MAX_TOKENS, temperature, top_p, seed=3, likeliest=bool(number % 2)))
          for number, (prompt, temperature, top_p) in enumerate(zip(
            prompts((5, 66, 20, 64)), (0.0, 1.0, 0.8, 1.3), (1.0, 1.0, 0.6, 0.9), strict=True))]

  def beside(seed):
    others = [start(engine, prompt, Sampling(40, 1.5, 0.9, seed=i))
              for i, prompt in enumerate(prompts(LENGTHS, seed=seed))]
    found = [said(events) for events in [start(engine, *choice)[1] for choice in mine]]
    for _, events in others:
      said(events)
    return found

  alone = [said(start(engine, *choice)[1]) for choice in mine]
  one, other = beside(7), beside(8)
  assert_same(alone, one)
  assert_same(one, other, tolerance=0)


def test_seeds_of_64_bits_are_all_different(engine):
  prompt, = prompts((9,))
  found = [run(engine, [prompt], Sampling(MAX_TOKENS, seed=seed))[0][0]
           for seed in (1, 2, 1 + 2**32, 1 + 2**33, 2**64 - 1)]
  assert len({tuple(ids) for ids in found}) == 5


def test_the_likeliest_tokens(engine):
  prompt, = prompts((9,))
  _, events = start(engine, prompt, Sampling(MAX_TOKENS, temperature=0.0, likeliest=True))
  places = 0
  while True:
    tokens = events.get(timeout=60)
    for token, logprob, (ids, logprobs) in zip(
        tokens.ids, tokens.logprobs, tokens.likeliest, strict=True):
      assert len(set(ids)) == len(logprobs) == slots.LIKELIEST
      assert logprobs == sorted(logprobs, reverse=True) and sum(np.exp(logprobs)) < 1 + 1e-5
      assert ids[0] == token and logprobs[0] == pytest.approx(logprob, abs=1e-6)
      places += 1
    if tokens.finish:
      break
  assert places


def test_nothing_is_compiled_for_a_request(engine, gate):
  gate.open()
  with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
    def refuse(*_, **__):
      raise AssertionError('compiled for a request')

    patch.setattr('jax._src.compiler.backend_compile_and_load', refuse)
    found = run(engine, prompts((1, 64, 65, 100)), Sampling(7, 1.1, 0.4, 9, 2, True))
  assert len(found) == 4


def test_a_cancelled_choice_frees_its_slot_at_once(engine, gate):
  prompt, sampling = prompts((12,))[0], Sampling(100, temperature=0.0)
  choices = [start(engine, prompt, sampling) for _ in range(engine.slots + 2)]
  gate.allow(1)
  first = choices[0][1].get(timeout=60)
  assert first.finish is None and engine.load() == (engine.slots, 2)
  for choice, _ in choices[:-1]:
    choice.cancel()
  gate.open()
  said(choices[-1][1])
  assert engine.load() == (0, 0)
  assert all(events.empty() for _, events in choices[1:-1] if events.qsize() != 1)


def test_a_full_queue_takes_all_choices_or_none(engine, gate):
  room = engine.slots + WAITING
  prompt, = prompts((5,))
  events = queue.Queue()
  choices = engine.submit(prompt, [Sampling(2)] * (room - 1), [events.put] * (room - 1))
  with pytest.raises(QueueFullError, match=f'{room} choices'):
    engine.submit(prompt, [Sampling(2)] * 2, [events.put] * 2)
  choices += engine.submit(prompt, [Sampling(2)], [events.put])
  gate.open()
  finished = [events.get(timeout=60).finish for _ in choices]
  assert all(finished)


def test_who_waits_is_told_when_the_engine_is_closed(engine_to_spoil):
  engine = engine_to_spoil
  held = threading.Event()
  prompt, = prompts((5,))
  waiting = queue.Queue()
  engine.submit(prompt, [Sampling(50)], [lambda tokens: held.wait(60)])  # holds the thread
  engine.submit(prompt, [Sampling(50)] * 3, [waiting.put] * 3)
  closing = threading.Thread(target=engine.close)
  closing.start()
  while engine.error is None:
    pass
  held.set()
  closing.join()
  ends = []
  while not waiting.empty():
    ends.append(waiting.get())
  assert sum(isinstance(end, EngineError) for end in ends) == 3
  with pytest.raises(EngineError, match='shutting down'):
    engine.submit(prompt, [Sampling(1)], [waiting.put])


@pytest.mark.parametrize('wrong', [{'slots': 0}, {'context': 1}, {'max_waiting': -1}])
def test_an_engine_without_room_is_refused(world, wrong):
  with pytest.raises(EngineError, match=next(iter(wrong))):
    Engine(world.config, world.params, world.stop, **wrong)


@given(vocabulary=st.integers(1, 90), top_p=st.floats(0, 1), seed=st.integers(0, 99),
       levels=st.sampled_from([3, 1000]))
@settings(max_examples=60)
def test_the_nucleus_is_the_smallest_set_of_that_share(vocabulary, top_p, seed, levels):
  rng = np.random.default_rng(seed)
  logits = (rng.integers(0, levels, vocabulary) * (8 / levels)).astype(np.float32)
  kept = np.isfinite(np.asarray(_nucleus(jnp.asarray(np.pad(
    logits, (0, 90 - vocabulary), constant_values=-np.inf))[None], jnp.asarray([top_p]))))[0]
  weights = np.exp(logits - logits.max()).astype(np.float64)
  if top_p == 1:
    assert kept[:vocabulary].all()
    return
  kept = kept[:vocabulary]
  share, lowest = weights[kept].sum() / weights.sum(), weights[kept].min()
  assert kept[logits == logits.max()].all()
  assert (weights[~kept] < lowest).all() and share >= top_p - 1e-5
  assert weights[weights > lowest * (1 + 1e-6)].sum() / weights.sum() < top_p + 1e-5


_nucleus = jax.jit(slots.nucleus)


def test_sampling_from_the_nucleus(engine):
  """With little of the probability the likeliest token alone: greedy at any temperature."""
  both = [run(engine, prompts((9, 20)), sampling) for sampling in (
    Sampling(MAX_TOKENS, 1.4, 0.0), Sampling(MAX_TOKENS, 0.0))]
  assert_same(*both)


@pytest.mark.parametrize('change', [
  {}, {'scan_decode': True}, {'pattern': (DELTA_NET, 'attention'), 'delta_key_heads': 2,
                              'delta_value_heads': 2, 'delta_key_dim': 4, 'delta_value_dim': 6}])
def test_rows_of_a_cache_are_written_and_taken(world, change):
  """Of every kind of layer, from a cache of fewer slots into one of several parts."""
  config = dataclasses.replace(world.config, **change)

  def filled(rows, slots, seed):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_cache(config, rows, slots))
    return jax.tree.map(lambda x: rng.integers(0, 9, x.shape).astype(x.dtype), shapes)

  @jax.jit
  def work(whole, one, part):
    written = write_rows(whole, one, jnp.int32(2))
    return (take_rows(write_rows(whole, part, 0), 0, 2), written, take_rows(written, 0, 2),
            take_rows(whole, 0, 2))

  whole, one, part = filled(4, 64 * 9, 0), filled(1, 64, 1), filled(2, 64 * 9, 2)
  taken, written, front, before = jax.device_get(work(whole, one, part))
  jax.tree.map(np.testing.assert_array_equal, taken, part)
  jax.tree.map(np.testing.assert_array_equal, front, before)
  np.testing.assert_array_equal(written.lengths, [*whole.lengths[:2], one.lengths[0],
                                                  whole.lengths[3]])
  differs = jax.tree.map(lambda a, b: int((a != b).sum()), written.layers, whole.layers)
  assert all(count > 0 for count in jax.tree.leaves(differs)[:1])
  most = sum(x.size for x in jax.tree.leaves(one.layers))
  assert 0 < sum(jax.tree.leaves(differs)) <= most
