"""Tokens as text: grows by whole characters, never beyond a stop string, however it is cut up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aw_jax.serving.text import TextStream
from aw_jax.tokenizer import END_PREDICTED, PREDICTED, Tokenizer

TOKENIZER = Tokenizer.train(
  [f'hello {i} worldly chair "chair"24 chair\n' for i in range(50)], vocab_size=340)
IDS = st.lists(st.integers(0, TOKENIZER.vocab_size + 2), max_size=24)


def bytes_of(text):
  """Ids of a text, each of its bytes by itself."""
  return [TOKENIZER._model.piece_to_id(f'<0x{byte:02X}>') for byte in text.encode()]


def stream_of(ids, cuts, stops=(), prefix=''):
  """All that was added, piece by piece, and whether a stop string came."""
  stream, added, start = TextStream(TOKENIZER, stops, prefix), [], 0
  for cut in [*sorted(cut % (len(ids) + 1) for cut in cuts), len(ids)]:
    added.append(stream.feed(ids[start:cut]))
    assert ''.join(added) == stream.text
    start = cut
  return [*added, stream.finish()], stream.stopped


def cut_at_stop(text, stops):
  ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
  return text[:min(ends)[1]] if ends else text


@given(ids=IDS, cuts=st.lists(st.integers(0, 99), max_size=8))
def test_the_text_is_that_of_all_tokens(ids, cuts):
  added, stopped = stream_of(ids, cuts, prefix='> ')
  assert ''.join(added) == '> ' + TOKENIZER.decode(ids) and not stopped


@given(ids=IDS, more=IDS)
def test_settled_text_stays(ids, more):
  settled = TOKENIZER.settled(ids)
  assert TOKENIZER.decode(ids + more).startswith(settled)
  assert TOKENIZER.settled(ids + more).startswith(settled)


@given(ids=IDS, cuts=st.lists(st.integers(0, 99), max_size=8), data=st.data())
def test_the_text_ends_before_the_stop_string_that_is_complete_first(ids, cuts, data):
  text = TOKENIZER.decode(ids)
  parts = st.tuples(st.integers(0, max(len(text) - 1, 0)), st.integers(1, 6)).map(
    lambda part: text[part[0]:sum(part)]).filter(bool) if text else st.nothing()
  stops = data.draw(st.lists(parts | st.text('ehl o', min_size=1, max_size=3), max_size=4))
  added, stopped = stream_of(ids, cuts, stops)
  assert ''.join(added) == cut_at_stop(text, stops)
  assert stopped == any(stop in text for stop in stops)
  assert (added, stopped) == stream_of(ids, cuts, stops)


@pytest.mark.parametrize('text', ['é', '日本', '🙂!', 'a🙂日é'])
def test_half_characters_are_held_back(text):
  stream = TextStream(TOKENIZER)
  added = [stream.feed([token]) for token in bytes_of(text)]
  assert [piece for piece in added if piece] == list(text)


def test_bytes_that_are_no_character_are_shown_once_that_is_certain():
  first, *_ = bytes_of('é')
  stream = TextStream(TOKENIZER)
  assert stream.feed([first]) == ''
  assert stream.feed(bytes_of('x')) == '\ufffdx'
  assert stream.feed([first]) == '' and stream.finish() == '\ufffd'


def test_a_stop_string_over_several_tokens():
  stream = TextStream(TOKENIZER, ['lo wor'])
  added = [stream.feed([token]) for token in bytes_of('hello worldly')]
  assert ''.join(added) == 'hel' and stream.stopped
  assert stream.finish() == ''


def test_what_only_began_like_a_stop_string_is_given_out():
  stream = TextStream(TOKENIZER, ['lo there'])
  assert stream.feed(bytes_of('hello ')) == 'hel'
  assert stream.feed(bytes_of('w')) == 'lo w'
  assert stream.feed(bytes_of('lo')) == ''
  assert stream.finish() == 'lo' and not stream.stopped


def test_tags_are_text_to_stop_at_and_the_prefix_is_not():
  ids = [*TOKENIZER.encode('hello'), TOKENIZER.special(END_PREDICTED)]
  stream = TextStream(TOKENIZER, [PREDICTED, END_PREDICTED], PREDICTED)
  assert stream.feed(ids) == PREDICTED + 'hello' and stream.stopped


def test_what_a_token_would_add():
  stream = TextStream(TOKENIZER)
  stream.feed(TOKENIZER.encode('hello'))
  assert stream.addition(TOKENIZER.special(PREDICTED)) == PREDICTED
  assert stream.addition(bytes_of('x')[0]) == 'x'
