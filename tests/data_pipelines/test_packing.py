"""Packing loses nothing, mixes nothing, and keeps the weights beside their tokens."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from data_pipelines import packing

_SEQ_LEN = 24


@st.composite
def _examples(draw):
  lengths = draw(st.lists(st.integers(1, _SEQ_LEN), max_size=40))
  rng = np.random.default_rng(draw(st.integers(0, 1000)))
  return [packing.example(rng.integers(0, 50, n), rng.random(n)) for n in lengths]


def _segments(packed):
  """(tokens, loss weights, positions) of every segment of every row."""
  for row in packing.rows_of(packed):
    for segment in range(1, row['segment_ids'].max(initial=0) + 1):
      inside = row['segment_ids'] == segment
      yield row['tokens'][inside], row['loss_weights'][inside], row['positions'][inside]


@given(_examples())
def test_nothing_is_lost_and_weights_stay_aligned(examples):
  packed = packing.pack(examples, _SEQ_LEN)
  found = sorted((tuple(t), tuple(w[1:])) for t, w, _ in _segments(packed))
  assert found == sorted((tuple(e.tokens), tuple(e.loss_weights[1:])) for e in examples)


@given(_examples())
def test_rows_follow_the_convention(examples):
  packed = packing.pack(examples, _SEQ_LEN)
  for name in packing.FIELDS:
    assert packed[name].shape == (len(packed['tokens']), _SEQ_LEN)
    assert packed[name].dtype == (np.float32 if name == 'loss_weights' else np.int32)
  for row in packing.rows_of(packed):
    ids = row['segment_ids']
    used = np.count_nonzero(ids)
    assert (ids[:used] > 0).all()  # padding stands at the end alone
    steps = np.diff(ids[:used])
    assert ids[0] == 1 and set(steps) <= {0, 1}  # every segment in one piece, in one row
    for name in ('tokens', 'loss_weights', 'positions'):
      assert not row[name][used:].any()
  for _, weights, positions in _segments(packed):
    assert weights[0] == 0
    np.testing.assert_array_equal(positions, np.arange(len(positions)))


@given(st.lists(st.integers(1, _SEQ_LEN), max_size=60))
def test_first_fit_as_in_the_book(lengths):
  rows, free = [], []
  for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    row = next((r for r, space in enumerate(free) if space >= lengths[index]), None)
    if row is None:
      rows.append([])
      free.append(_SEQ_LEN)
      row = len(rows) - 1
    rows[row].append(index)
    free[row] -= lengths[index]
  assert packing.assign(lengths, _SEQ_LEN) == rows


@pytest.mark.parametrize('length', [0, _SEQ_LEN + 1])
def test_a_length_out_of_range_is_refused(length):
  with pytest.raises(ValueError, match=f'example 1 has {length} tokens; a row holds 1 to 24'):
    packing.assign([3, length], _SEQ_LEN)


def test_weights_that_do_not_match_are_refused():
  with pytest.raises(ValueError, match='2 tokens with 1 loss weights'):
    packing.example([1, 2], [1.0])


def test_whole_turns_are_cut_from_the_end():
  item = packing.example(range(30), [1.0] * 30, ends=(8, 15, 30))
  short = packing.shorten(item, _SEQ_LEN)
  assert len(short.tokens) == len(short.loss_weights) == 15 and short.ends == (8, 15)
  assert packing.shorten(item, 8).ends == (8,)
  assert packing.shorten(item, 7) is None
  assert packing.shorten(item, 30) is item
  assert packing.shorten(packing.example(range(30), [1.0] * 30), _SEQ_LEN) is None


def test_padding_share():
  packed = packing.pack([packing.example([1] * 12, [1.0] * 12)], _SEQ_LEN)
  assert packing.padding_share(packed) == 0.5
  assert packing.padding_share(packing.pack([], _SEQ_LEN)) == 0.0
