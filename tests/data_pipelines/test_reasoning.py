"""Reasoning traces say what an action reads, changes and prints."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from data_pipelines import reasoning

_BEFORE = '== docs/\n== notes.txt\ngold\n== run.sh\necho hi\n== todo.txt\nb\na'


def _after(**changed: str | None) -> str:
  files = {'docs/': '', 'notes.txt': 'gold', 'run.sh': 'echo hi', 'todo.txt': 'b\na'}
  files.update({name.replace('_', '.'): text for name, text in changed.items()})
  return '\n'.join(f'== {name}' + (f'\n{text}' if text else '')
                   for name, text in sorted(files.items()) if text is not None)


@pytest.mark.parametrize('action, after, expected', [
    ('cat notes.txt', _BEFORE, ''),
    ('echo river >> notes.txt', _after(notes_txt='gold\nriver'), '== notes.txt\ngold\nriver'),
    ('cp notes.txt new.txt', _after(new_txt='gold'),
     '== new.txt\ngold\nnow docs new.txt notes.txt run.sh todo.txt'),
    ('touch new.txt', _after(new_txt=''), '== new.txt\nnow docs new.txt notes.txt run.sh todo.txt'),
    ('mv notes.txt x.txt', _after(notes_txt=None, x_txt='gold'),
     '== notes.txt gone\n== x.txt\ngold\n'
     'now docs run.sh todo.txt x.txt'),
    ('rm todo.txt', _after(todo_txt=None), '== todo.txt gone\nnow docs notes.txt run.sh'),
    ('sort -o todo.txt todo.txt', _after(todo_txt='a\nb'), '== todo.txt\na\nb'),
    ('chmod +x run.sh', _BEFORE.replace('run.sh', 'run.sh x'), '== run.sh x\necho hi'),
    ('cd docs', _BEFORE + '\ncwd ~/docs', 'cwd ~/docs'),
])
def test_the_brief_trace_notes_what_changed(action, after, expected):
  assert reasoning.candidates(action, '~$', _BEFORE, after)[0] == expected


@pytest.mark.parametrize('action, observation, expected', [
    ('cat notes.txt', 'gold\n~$', 'reads notes.txt\nprints 1 line'),
    ('ls', 'docs\nnotes.txt\nrun.sh\ntodo.txt\n~$', 'prints 4 lines'),
    ('cat x.txt', 'cat: x.txt: No such file or directory\n~$', 'error: x.txt is missing'),
    ('frob', 'bash: frob: command not found\n~$', 'error: frob is no command'),
    ('cat todo.txt x.txt', 'b\na\ncat: x.txt: No such file or directory\n~$',
     'reads todo.txt\nprints 3 lines, error: x.txt is missing'),
])
def test_longer_traces_say_what_is_read_stays_and_is_printed(action, observation, expected):
  brief, medium, full = reasoning.candidates(action, observation, _BEFORE, _BEFORE)
  assert brief == ''
  assert medium == (expected.split('\n')[0] if 'reads' in expected else '')
  assert '\n'.join(line for line in full.split('\n') if ' stay' not in line) == expected
  assert 'docs, notes.txt, run.sh stay' in full


def test_a_file_below_the_working_directory_is_recognised():
  state = '== docs/\n== docs/a.txt\ngold\ncwd ~/docs'
  assert reasoning.candidates('cat a.txt', 'gold\n~/docs$', state, state)[1] == 'reads docs/a.txt'


def test_what_goes_with_its_directory_is_not_named():
  traces = reasoning.candidates('rm -r d', '~$', '== d/\n== d/a\n1\n== e\n2', '== e\n2')
  assert traces[0] == '== d gone\nnow e'
  assert reasoning.candidates('cd', '~$', '== d/\ncwd ~/d', '== d/')[0] == 'cwd ~'


def test_any_other_state_is_compared_by_line():
  before = 'products: id name stock\n7 lamp 4\n8 desk 2'
  call = '{"name": "get_product", "arguments": {"product_id": 8}}'
  assert reasoning.candidates(call, '{"id": 8, "name": "desk"}', before, before)[:2] == (
      '', 'reads 8 desk 2')
  sell = '{"name": "sell", "arguments": {"product_id": 8}}'
  sold = before.replace('desk 2', 'desk 1')
  assert reasoning.candidates(sell, 'ok', before, sold)[0] == '8 desk 1'
  left = before.replace('\n8 desk 2', '')
  assert reasoning.candidates(sell, 'ok', before, left)[0] == 'gone 8 desk 2'
  for error in ('Error: no product 8', 'Error executing tool get_product: no product 8'):
    assert 'error: no product 8' in reasoning.candidates(call, error, before, before)[2]


def test_a_repository_has_lines_before_its_files():
  before = 'branch main\nlog main: Start\n== plan.txt modified\nwave\n== HEAD:plan.txt\nmoon'
  after = before.replace('modified', 'staged').replace('main: Start', 'main: Edit, Start')
  traces = reasoning.candidates('{"name": "git_add"}', 'Files staged', before, after)
  assert traces[0] == 'log main: Edit, Start\n== plan.txt staged\nwave'
  call = '{"name": "git_show", "arguments": {"repo_path": "/repo", "revision": "HEAD:plan.txt"}}'
  assert reasoning.candidates(call, 'moon', before, before)[1].startswith('reads ')


def test_a_note_that_does_not_fit_still_says_what_changed():
  after = '== a.txt\n' + 'gold\n' * 9 + 'gold\n== b.txt\niron'
  brief = reasoning.candidates('cat x >> a.txt', '~$', '== a.txt\n== b.txt', after,
                               lambda text: len(text) <= 32)[0]
  assert brief == '== a.txt changed\n== b.txt\niron'


def test_what_is_left_out_first_is_what_stays():
  state = '== notes.txt\ngold\n== other.txt'
  full = reasoning.candidates('cat notes.txt', 'gold', state, state,
                              lambda text: len(text) <= 30)[2]
  assert full == 'reads notes.txt\nprints 1 line'


def test_an_unseen_state_leaves_what_is_printed():
  assert reasoning.candidates('ls', '~$', None, None) == ('', '', 'prints nothing')


@given(st.text(max_size=80), st.text(max_size=400), st.text(max_size=300), st.text(max_size=300),
       st.integers(1, 60))
def test_traces_always_fit(action, observation, before, after, size):
  traces = reasoning.candidates(action, observation, before, after, lambda t: len(t) <= size)
  assert len(traces) == 3 and all(len(trace) <= size for trace in traces)
