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


@pytest.mark.parametrize('action, observation, after, expected', [
    ('cat notes.txt', 'gold\n~$', _BEFORE, 'reads notes.txt; nothing changes; prints 1 line'),
    ('ls', 'docs\nnotes.txt\nrun.sh\ntodo.txt\n~$', _BEFORE, 'nothing changes; prints 4 lines'),
    ('echo river >> notes.txt', '~$', _after(notes_txt='gold\nriver'),
     'notes.txt: + river; prints nothing'),
    ("sed -i 's/gold/iron/' notes.txt", '~$', _after(notes_txt='iron'),
     'notes.txt: - gold + iron; prints nothing'),
    ('cp notes.txt new.txt', '~$', _after(new_txt='gold'),
     'reads notes.txt; new new.txt: gold; prints nothing'),
    ('mv notes.txt x.txt', '~$', _after(notes_txt=None, x_txt='gold'),
     'notes.txt becomes x.txt; prints nothing'),
    ('rm todo.txt', '~$', _after(todo_txt=None), 'todo.txt is gone; prints nothing'),
    ('sort -o todo.txt todo.txt', '~$', _after(todo_txt='a\nb'),
     'todo.txt in new order; prints nothing'),
    ('chmod +x run.sh', '~$', _BEFORE.replace('run.sh', 'run.sh x'),
     'run.sh is now x; prints nothing'),
    ('cd docs', '~/docs$', _BEFORE + '\ncwd ~/docs', 'reads docs; now in ~/docs; prints nothing'),
    ('cat x.txt', 'cat: x.txt: No such file or directory\n~$', _BEFORE,
     'nothing changes; error: x.txt is missing'),
    ('frob', 'bash: frob: command not found\n~$', _BEFORE,
     'nothing changes; error: frob is no command'),
    ('cat todo.txt x.txt', 'b\na\ncat: x.txt: No such file or directory\n~$', _BEFORE,
     'reads todo.txt; nothing changes; prints 3 lines, error: x.txt is missing'),
])
def test_a_terminal(action, observation, after, expected):
  assert reasoning.candidates(action, observation, _BEFORE, after)[1] == expected


def test_the_brief_trace_leaves_out_and_the_full_one_adds():
  brief, _, full = reasoning.candidates(
      'cat todo.txt', 'b\na\n~$', '== notes.txt\ngold\n== todo.txt\nb\na',
      '== notes.txt\ngold\n== todo.txt\nb\na')
  assert brief == 'nothing changes; prints 2 lines'
  assert full == ('reads todo.txt; nothing changes; notes.txt, todo.txt stay; '
                  'prints 2 lines from b to a')


def test_a_file_below_the_working_directory_is_recognised():
  state = '== docs/\n== docs/a.txt\ngold\ncwd ~/docs'
  assert 'reads docs/a.txt' in reasoning.candidates('cat a.txt', 'gold\n~/docs$', state, state)[1]


def test_what_goes_with_its_directory_is_not_named():
  traces = reasoning.candidates('rm -r d', '~$', '== d/\n== d/a\n1\n== e\n2', '== e\n2')
  assert traces[1] == 'd is gone; prints nothing'


def test_any_other_state_is_compared_by_line():
  before = 'products: id name stock\n7 lamp 4\n8 desk 2'
  call = '{"name": "get_product", "arguments": {"product_id": 8}}'
  reads = reasoning.candidates(call, '{"id": 8, "name": "desk"}', before, before)[1]
  assert reads == 'reads 8 desk 2; nothing changes; prints 1 line'
  writes = reasoning.candidates(
      '{"name": "sell", "arguments": {"product_id": 8}}', 'ok', before,
      before.replace('desk 2', 'desk 1'))
  assert writes[1] == 'reads 8 desk 2; - 8 desk 2 + 8 desk 1; prints 1 line'
  for error in ('Error: no product 8', 'Error executing tool get_product: no product 8'):
    failed = reasoning.candidates(call, error, before, before)
    assert failed[0] == 'nothing changes; error: no product 8'
  page = '{"name": "list_products", "arguments": {"page": 8}}'
  assert reasoning.candidates(page, '{}', before, before)[1] == 'nothing changes; prints 1 line'


def test_a_repository_has_lines_before_its_files():
  before = 'branch main\nlog main: Start\n== plan.txt modified\nwave\n== HEAD:plan.txt\nmoon'
  after = before.replace('modified', 'staged')
  traces = reasoning.candidates('{"name": "git_add"}', 'Files staged', before, after)
  assert traces[1] == 'plan.txt is now staged; prints 1 line'
  assert traces[2] == 'plan.txt is now staged; HEAD:plan.txt stays; prints Files staged'
  call = '{"name": "git_show", "arguments": {"repo_path": "/repo", "revision": "HEAD:plan.txt"}}'
  assert reasoning.candidates(call, 'moon', before, before)[1].startswith('reads ')


def test_a_long_account_of_the_output_is_given_up_before_what_is_read():
  state = '== notes.txt\ngold'
  full = reasoning.candidates('cat notes.txt', 'x' * 30 + '\n' + 'y' * 30, state, state,
                              lambda text: len(text) <= 60)[2]
  assert full == 'reads notes.txt; nothing changes; prints 2 lines'


def test_an_unseen_state_leaves_what_is_printed():
  assert set(reasoning.candidates('ls', '~$', None, None)) == {'prints nothing'}


@given(st.text(max_size=80), st.text(max_size=400), st.text(max_size=300), st.text(max_size=300),
       st.integers(1, 60))
def test_traces_always_fit(action, observation, before, after, size):
  traces = reasoning.candidates(action, observation, before, after, lambda t: len(t) <= size)
  assert len(traces) == 3 and all(len(trace) <= size for trace in traces)
