"""Recordings of terminals: real ones of bash, prompts of other shells, v2 and v3, torn files."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from data_pipelines.importers import run
from data_pipelines.importers.common import TraceError

GARDEN = [
  ("printf 'rose 3\\ntulip 12\\nfern 7\\n' > garden.txt", 'ada@box:~$'),
  ('cat gardne.txt', 'cat: gardne.txt: No such file or directory\nada@box:~$'),
  # Typed wrong at first, and deleted again.
  ('cat garden.txt', 'rose 3\ntulip 12\nfern 7\nada@box:~$'),
  ('ls --color=always -a', '.  ..  garden.txt\nada@box:~$'),
  ('for f in garden.txt none.txt; do\nwc -l $f\ndone',
   '3 garden.txt\nwc: none.txt: No such file or directory\nada@box:~$'),
  # Longer than the screen is wide.
  ('awk \'{ total += $2 } END { print "plants altogether:", total }\' garden.txt | tee total.txt',
   'plants altogether: 22\nada@box:~$'),
  ('mkdir beds && cd beds && clear', 'ada@box:~/beds$'),
  ("printf '10%%\\r50%%\\r100%% done\\n'", '100% done\nada@box:~/beds$')]
AFTER_VIM = [('cat note.txt', 'hello\nada@box:~/beds$'), ('cd ..; pwd', '/tmp/ada\nada@box:~$')]


def pairs(trajectory):
  return [(turn.action, turn.observation) for turn in trajectory.turns]


def as_v3(path, target):
  """The same recording as v3: the header's other names, intervals, comments, an exit status."""
  header, *events = map(json.loads, path.read_text().splitlines())
  header = {'version': 3, 'term': {'cols': header['width'], 'rows': header['height']},
            'title': header['title']}
  lines, last = [json.dumps(header), '# events'], 0.0
  for time, *rest in events:
    lines.append(json.dumps([round(time - last, 6), *rest]))
    last = time
  target.write_text('\n'.join([*lines, '[0.1, "x", "0"]', '']))
  return target


@pytest.mark.parametrize('name', ['garden.cast', 'garden_keys.cast'])
@pytest.mark.parametrize('version', [2, 3])
def test_a_session_in_bash(read, traces, tmp_path, name, version):
  path = traces / name if version == 2 else as_v3(traces / name, tmp_path / name)
  (first, second), ledger = read('asciicast', path)
  assert pairs(first) == GARDEN and pairs(second) == AFTER_VIM
  assert dict(+ledger.apart) == {'turn of a full-screen program': 1,
                                 'turn without a prompt after it': 1}  # vim, exit
  assert first.task.instruction == 'Notes of a garden' and first.task.domain == 'terminal'
  assert (first.policy, first.source['version']) == ('human', version)
  assert first.task.id == second.task.id  # so that they share their split
  assert (first.source['part'], second.source['part']) == (0, 1)


def cast(tmp_path, *events, **header):
  path = tmp_path / 'one.cast'
  lines = [{'version': 2, 'width': 80, 'height': 24} | header, *events]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return path


def play(read, tmp_path, text, **settings):
  return read('asciicast', cast(tmp_path, [0.1, 'o', text.replace('\n', '\r\n')]), **settings)


@pytest.mark.parametrize('prompt', [
  '$', '~/work$', 'bash-5.2$', 'sh-5.1#', '[ada@box work]$', '(base) ada@box:~/a b$',
  'root@c0ffee:/#',
  '\u276f', '\u279c  work git:(main) \u2717', '(venv) \u279c  work', 'ada@mac ~ %'])
def test_prompts_of_many_shells(read, tmp_path, prompt):
  text = f'Welcome.\n{prompt} ls\na.txt  b.txt\n{prompt} cat b.txt\n$ in a file\n\n{prompt} '
  (found,), ledger = play(read, tmp_path, text if prompt != '$' else text.replace('$ in', 'in'))
  last = '$ in a file' if prompt != '$' else 'in a file'
  assert pairs(found) == [('ls', f'a.txt  b.txt\n{prompt}'), ('cat b.txt', f'{last}\n\n{prompt}')]
  assert dict(+ledger.apart) == {'text before the first prompt': 1}


def test_an_unusual_prompt_is_named(read, tmp_path):
  text = 'box@@ ls\na.txt\nbox@@ pwd\n/\nbox@@ '
  assert play(read, tmp_path, text)[0] == []
  assert play(read, tmp_path, text)[1].apart['recording without a shell prompt'] == 1
  (found,), _ = play(read, tmp_path, text, prompt='box@@ ?')
  assert pairs(found) == [('ls', 'a.txt\nbox@@'), ('pwd', '/\nbox@@')]
  for wrong, message in (('(', 'no regular expression'), ('x*', 'matches an empty text')):
    with pytest.raises(TraceError, match=message):
      play(read, tmp_path, text, prompt=wrong)


def test_what_a_program_reads_is_no_action_of_the_shell(read, tmp_path):
  text = '$ ls\na\n$ cd /\n$ python3\nPython 3.11\n>>> 1 + 1\n2\n>>> exit()\n$ pwd\n/\n$ ls\nb\n$ '
  (first, second), ledger = play(read, tmp_path, text)
  assert [turn.action for turn in first.turns] == ['ls', 'cd /']
  assert [turn.action for turn in second.turns] == ['pwd', 'ls']
  assert ledger.apart['turn of a program that reads lines'] == 1


def test_empty_lines_and_a_here_document(read, tmp_path):
  text = "$ \n$ cat <<END\n> one\n>\n> END\none\n\n$ echo 'a\n> b'\na\nb\n$ ls | \n> wc\n1 1 2\n$ "
  (found,), _ = play(read, tmp_path, text)
  kept, _, skipped = run.clean(found, run.Cleaning())
  assert pairs(kept) == [('cat <<END\none\n\nEND', 'one\n\n$'), ("echo 'a\nb'", 'a\nb\n$'),
                         ('ls |\nwc', '1 1 2\n$')]
  assert skipped == {'empty action': 1}


def test_a_resized_terminal_and_unknown_events(read, tmp_path):
  path = cast(tmp_path, [0, 'o', '$ echo aaaa'], [1, 'r', '40x10'], [1, 'o', 'bbbbbbb\r\nx\r\n$ '],
              [2, 'm', 'chapter'], [3, 'z', ''], width=11)
  (found,), ledger = read('asciicast', path)
  assert pairs(found) == [('echo aaaabbbbbbb', 'x\n$')]
  assert ledger.apart['event of an unknown kind'] == 1


def test_keys_before_the_prompt_and_prompts_that_were_written_over(read, tmp_path):
  path = cast(
    tmp_path, [0, 'o', '$ '], [0, 'i', 'ls\r'], [0, 'i', '\r'], [0, 'o', 'ls\r\na\r\n$ '],
    [1, 'i', 'p'], [1, 'i', 'wd'], [1, 'o', 'pwd'], [1, 'i', '\r'], [1, 'o', '\r\n/\r\n$ '],
    [2, 'i', 'exit\r'])
  (found,), ledger = read('asciicast', path)
  assert pairs(found) == [('ls', 'a\n$'), ('pwd', '/\n$')]
  assert ledger.apart['prompt that was written over'] == 1


@pytest.mark.parametrize(('lines', 'message'), [
  ([], ':1: not JSON'), ([[]], ':1: expected an object'),
  ([{'version': 1}], r':1.version: 1 is not 2 or 3; `asciinema convert`'),
  ([{'version': 2, 'width': 80}], ':1.height: missing'),
  ([{'version': 3, 'width': 80, 'height': 24}], ':1.term: missing'),
  ([{'version': 3, 'term': {'cols': 0, 'rows': 2}}], ':1.term.cols: 0 is not from 1'),
  ([{'version': 2, 'width': 80, 'height': 10 ** 9}], ':1.height: 1000000000 is not from 1'),
  ([{'version': 2, 'width': 80, 'height': 24, 'title': 3}], ':1.title: expected a text'),
  (['ok', {}], ':2: expected a list'), (['ok', [1, 'o']], r':2: an event is \[time, code, data\]'),
  (['ok', ['1', 'o', '']], r':2\[0\]: expected a number'),
  (['ok', [-1, 'o', '']], r':2\[0\]: a time is not negative'),
  (['ok', [1, 'o', 3]], r':2\[2\]: expected a text, found 3'),
  (['ok', [1, 'r', 'wide']], r":2\[2\]: 'wide' is no size"),
])
def test_what_is_wrong_is_named(read, tmp_path, lines, message):
  path = tmp_path / 'one.cast'
  header = {'version': 2, 'width': 80, 'height': 24}
  path.write_text('\n'.join(json.dumps(header if line == 'ok' else line) for line in lines))
  with pytest.raises(TraceError, match='one.cast' + message):
    read('asciicast', path)


def test_a_torn_recording_is_named(read, traces, tmp_path):
  path = tmp_path / 'torn.cast'
  path.write_bytes((traces / 'garden.cast').read_bytes()[:-9])
  lines = path.read_text().count('\n') + 1
  with pytest.raises(TraceError, match=rf'torn.cast:{lines}: not JSON'):
    read('asciicast', path)


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
  lambda inner: st.lists(inner, max_size=3), max_leaves=4)
_OUTPUT = st.lists(st.sampled_from([
  '$ ', 'a@b:~$ ', 'ls', '\r\n', '> ', '>>> ', '\x1b[2J', '\x1b[H', '\x1b[A', '\x1b[?1049h',
  '\x1b[?1049l', '\x1b[', '\r', '\b', 'x' * 30, '\u754c', '\ud800', "'", '<<', 'for ']) | st.text(
    max_size=4), max_size=9).map(''.join)
_EVENTS = st.lists(st.tuples(st.floats(0, 9), st.sampled_from('ooom'), _OUTPUT) | st.tuples(
  st.just(1), st.just('i'), st.sampled_from(['\r', 'x', '\x03'])) | st.just((1, 'r', '30x9')),
                   max_size=9)
_HEADERS = st.fixed_dictionaries(
  {'version': st.sampled_from([2, 3]), 'width': st.integers(1, 90), 'height': st.integers(1, 30),
   'term': st.just({'cols': 20, 'rows': 4})}, optional={'title': st.text(max_size=4)})


@given(_HEADERS, _EVENTS)
def test_any_recording_is_read(tmp_path_factory, refused_or_kept, header, events):
  path = tmp_path_factory.getbasetemp() / 'fuzz.cast'
  lines = [header, [0, 'o', '$ ls\r\na\r\n$ '], *events, [9, 'o', '\r\n$ ']]
  assert refused_or_kept('asciicast', path, '\n'.join(map(json.dumps, lines)).encode())


@given(_HEADERS, _EVENTS, _JSON, st.integers(0, 9))
def test_any_event_is_read_or_refused(tmp_path_factory, refused_or_kept, header, events, wrong,
                                      place):
  path = tmp_path_factory.getbasetemp() / 'fuzz.cast'
  lines = [header, *events]
  lines[place:place + 1] = [wrong]
  refused_or_kept('asciicast', path, '\n'.join(map(json.dumps, lines)).encode())


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(tmp_path_factory, refused_or_kept, content):
  path = tmp_path_factory.getbasetemp() / 'bytes.cast'
  refused_or_kept('asciicast', path, b'{"version": 2, "width": 9, "height": 9}\n' + content)
  refused_or_kept('asciicast', path, content)
