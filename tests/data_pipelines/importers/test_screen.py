"""What a terminal shows: what is overwritten, erased, wrapped, cleared, or takes the screen."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from data_pipelines.importers.screen import Screen, plain


@pytest.mark.parametrize(('stream', 'shown'), [
  ('as it is  \n\twith space ', 'as it is  \n\twith space '),
  ('a\r\nb\r\n', 'a\nb\n'),
  ('\x1b[1;31mred\x1b[0m text', 'red text'),
  ('\x1b]0;a title\x07x\x1b]8;;http://a.b\x1b\\link\x1b]8;;\x1b\\', 'xlink'),
  ('10%\r50%\r100% done\n', '100% done\n'),
  ('a line\rA', 'A line'),
  ('helo\b\blo', 'helo'),
  ('helo\b \b', 'hel'),
  ('one two\x1b[3D\x1b[K', 'one'),
  ('wrong\x1b[1K\rok', 'ok'),
  ('abcdef\x1b[6D\x1b[2Pxy', 'xyef'),
  ('ad\x1b[1D\x1b[2@bc', 'abcd'),
  ('first\nsecond\x1b[A\rFIRST\n', 'FIRST\nsecond'),
  ('a\x1b[5Gb', 'a   b'),
  ('a\tb\x07', 'a       b'),
  ('bell\x07 null\x00 \x9b', 'bell null'),
  ('half a pair \ud83d', 'half a pair \ufffd'),
  ('cut off \x1b[', 'cut off'),
  ('cut off \x1b]0;tit', 'cut off'),
  ('\x1b(B\x1b=\x1b>text', 'text'),
  ('e\u0301\x1b[m', 'e\u0301'),
])
def test_plain_text(stream, shown):
  assert plain(stream) == shown


def lines(stream, width=20, height=4):
  screen = Screen(width, height)
  screen.write(stream)
  return [line for _, line in screen.lines()]


def test_a_wrapped_line_is_one_line():
  assert lines('x' * 50 + '\r\nend') == ['x' * 50, 'end']
  assert lines('x' * 20 + '\r\nend') == ['x' * 20, 'end']  # full, and not yet wrapped
  # A shell that edits a line over the margin writes a space and returns: nothing is lost.
  assert lines('x' * 20 + ' \ryy') == ['x' * 20 + 'yy']
  assert lines('\u754c' * 15) == ['\u754c' * 15]  # two cells each


def test_what_was_cleared_stays_above():
  assert lines('old\r\n$ clear\r\n\x1b[H\x1b[2J\x1b[3J$ new') == ['old', '$ clear', '$ new']
  assert lines('old\r\n$ clear\r\n\x1b[H\x1b[J$ new') == ['old', '$ clear', '$ new']
  assert lines('keep\r\ngone\r\ngone\x1b[A\r\x1b[J$') == ['keep', '$', '']


def test_the_cursor_moves_on_the_visible_part_alone():
  long = ''.join(f'{number}\r\n' for number in range(9))
  shown = lines(long + '\x1b[Hx')  # four rows: 6, 7, 8 and the empty one
  assert shown[5:8] == ['5', 'x', '7'] and len(shown) == 10
  assert lines(long + '\x1b[99Ax')[6] == 'x'


def test_a_whole_screen_is_not_kept_but_known():
  screen = Screen(20, 4)
  screen.write('$ vim\r\n\x1b[?1049h\x1b[2J\x1b[Htext of a file\x1b[?1049l$ ls')
  assert [line for _, line in screen.lines()] == ['$ vim', '$ ls']
  assert screen.full_screen_rows == [1]


_PIECES = st.one_of(
  st.text(max_size=4), st.sampled_from(['\r', '\n', '\r\n', '\b', '\t', '\x1b', '\x07', '\x1b\\']),
  st.builds(
    '\x1b[{}{}'.format, st.sampled_from(['', '1', '3;2', '?1049', '?25', '99999999999', '0']),
    st.sampled_from('ABCDEFGHJKPX@fdhlmsu`')),
  st.sampled_from(['\x1b]0;title', '\x1bPdata', '\u754c', 'e\u0301', 'long ' * 9]))
_STREAMS = st.lists(_PIECES, max_size=12).map(''.join)


@given(_STREAMS)
def test_plain_text_has_no_control_characters_and_stays_as_it_is(stream):
  shown = plain(stream)
  assert not [c for c in shown if c not in '\n\t' and (c < ' ' or '\x7f' <= c <= '\x9f')]
  assert plain(shown) == shown
  shown.encode('utf-8')


@given(_STREAMS, st.integers(0, 60), st.integers(1, 30), st.integers(1, 6))
def test_where_the_stream_is_cut_does_not_matter(stream, cut, width, height):
  whole, parts = Screen(width, height), Screen(width, height)
  whole.write(stream)
  parts.write(stream[:cut])
  parts.write(stream[cut:])
  assert whole.lines() == parts.lines() and whole.row == parts.row
  assert whole.full_screen_rows == parts.full_screen_rows
