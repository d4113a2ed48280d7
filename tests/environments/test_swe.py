"""Domain swe: tools on real packages in the sandbox, its catalogue of mistakes, and its experts."""

import ast
import dataclasses
import json
import random

import pytest

from aw_jax.environments import (
  base,
  collect,
  experts,
  registry,
  swe,
  swe_packages,
  swe_state,
  swe_tools,
)
from aw_jax.environments.episode import masked, run_episode
from aw_jax.environments.swe import call_text
from aw_jax.environments.swe_tasks import catalogue, mending, mutations
from aw_jax.trajectories import SUBMIT, Task, Verifier

PACKAGE = 'inflection-0.5.1'  # whose tests are the fastest
CODE = 'inflection/__init__.py'
GOOD = '    if number % 100 in (11, 12, 13):\n'
TEST = 'test_inflection.py::test_ordinal'
TEXT = '''\
class Shelf:
  def find(self, key, first=True, *, depth=None):
    """Says where."""
    if key in self.keys and not self.closed:
      return max(self.place(key, depth), 1)
    self.misses += 1
    self.log.append(key)
    return len(key) - 1 if first else None
'''


def broken(files_line=None):
  """A task with one mistake in inflection."""
  lines = swe_packages.files(PACKAGE)[CODE].splitlines(keepends=True)
  line = files_line or lines.index(GOOD) + 1
  edits = [{'path': CODE, 'line': line, 'good': GOOD, 'bad': GOOD.replace(' in ', ' not in ')}]
  setup = {'package': PACKAGE, 'edits': edits, 'shown': [[CODE, line - 1, line + 1]]}
  return Task('swe/x/1', 'swe', 'x', 'train', 1, 'mend', swe.initial_state(setup), setup,
              Verifier('command', swe.ALL_PASS, call_text('test', brief=True)), 12)


@pytest.fixture(scope='module')
def environment():
  with swe.SweEnvironment() as made:
    yield made


def bash(environment, command):
  return environment.step(call_text('bash', command=command)).observation


class Script:
  """Plays given actions."""

  name = 'script'

  def __init__(self, actions):
    self._actions = actions

  def act(self, task, first_observation, turns):
    return self._actions[len(turns)]


MENDED = call_text('edit', path=CODE, old='number % 100 not in', new='number % 100 in')


@pytest.mark.requires('bwrap', 'swe')
class TestTools:

  def test_read_and_edit(self, environment):
    task = broken()
    assert environment.reset(task, 1) == ''
    line = task.setup['edits'][0]['line']
    read = environment.step(call_text('read', path=CODE, first=line, last=line)).observation
    assert read.split('\n')[0] == f'{line}\t    if number % 100 not in (11, 12, 13):'
    assert read.split('\n')[1].startswith(f'[lines {line}-{line} of ')
    edited = environment.step(MENDED).observation.split('\n')
    assert edited[2] == f'{line}\t{GOOD.rstrip()}' and len(edited) == 5
    assert environment.step(MENDED).observation == f'Error: the text is not in {CODE}'

  @pytest.mark.parametrize(('action', 'answer'), [
    ('ls', 'Error: the call is not JSON'),
    ('[]', 'Error: the call has no name'),
    ('{"name": "view", "arguments": {}}',
     'Error: there is no tool view; there are read, edit, bash, test'),
    (call_text('read'), 'Error: read needs path'),
    (call_text('read', path=3), 'Error: path must be of type str'),
    (call_text('read', path='x', deep=1), 'Error: read has no argument deep'),
    (call_text('test', tests='--pdb'), 'Error: --pdb is no test; name files, or FILE::NAME'),
    (call_text('bash', command='a\0b'), 'Error: a NUL cannot be sent'),
    (call_text('read', path='no.py'), 'Error: no.py: no such file'),
    (call_text('read', path='inflection'), 'Error: inflection is a directory'),
    (call_text('edit', path=CODE, old='def ', new=''),
     f'Error: the text stands 14 times in {CODE}'),
    (call_text('edit', path='/usr/x', old='', new='a'), 'Error: /usr/x: read-only file system'),
    (call_text('bash', command='false'), '[exit status 1]'),
    (call_text('bash', command='echo a; exit 3'), 'a\n[exit status 3]'),
    (call_text('bash', command='kill -9 $PPID; sleep 1'), '[the shell ended]'),
    (call_text('bash', command='kill -9 -1; sleep 1'), '[the shell ended]'),
  ])
  def test_what_goes_wrong_is_said(self, environment, action, answer):
    environment.reset(broken(), 1)
    assert environment.step(action).observation == answer

  def test_nothing_but_files_lasts(self, environment):
    environment.reset(broken(), 1)
    bash(environment, 'cd inflection; x=1; (sleep 1; echo late > late.txt) & echo on > new.txt')
    assert bash(environment, 'pwd; echo "[$x]"; cat inflection/new.txt; sleep 1.2; ls') == (
        '/home/agent\n[]\non\ninflection\ntest_inflection.py')

  def test_the_state_shows_the_difference(self, environment):
    task = broken()
    environment.reset(task, 1)
    assert environment.snapshot() == task.initial_state
    environment.step(MENDED)
    bash(environment, 'echo a > n.txt; rm test_inflection.py; mkfifo p; ln -s /etc/passwd l')
    line = task.setup['edits'][0]['line']
    assert environment.snapshot() == task.initial_state + (
        f'\n== changes\n--- {CODE}\n+++ {CODE}\n@@ -{line} +{line} @@\n'
        f'-{GOOD.rstrip().replace(" in ", " not in ")}\n+{GOOD.rstrip()}\n'
        'new l\n+[link to /etc/passwd]\nnew n.txt\n+a\nnew p\n+[other]\n'
        'removed test_inflection.py')

  def test_runs_show_the_failure_and_no_duration(self, environment):
    environment.reset(broken(), 1)
    shown = environment.step(call_text('test', tests='test_inflection.py'))
    assert 'FAILED test_inflection.py::test_ordinal[' in shown.observation
    assert shown.observation.split('\n')[-1].startswith('3 failed, ')
    assert swe._DURATION.search(shown.observation) is None
    assert len(shown.observation) < swe.MAX_OUTPUT_CHARACTERS + 60
    by_hand = environment.step(call_text(
        'bash', command=f'python3 -S -m pytest -q --tb=no {TEST} | tail -n 1'))
    (span,) = by_hand.info['runtime_metadata']
    assert by_hand.observation[slice(*span)].startswith(' in 0.')

  def test_there_is_no_network_and_no_host(self, environment, tmp_path):
    environment.reset(broken(), 1)
    (tmp_path / 'secret').write_text('secret')
    assert 'No such file' in bash(environment, f'cat {tmp_path}/secret')
    code = 'import socket; print(socket.socket().connect_ex(("1.1.1.1", 80)))'
    assert bash(environment, f"python3 -c '{code}'") == '101'  # ENETUNREACH
    assert 'Read-only' in bash(environment, 'echo > /opt/pytest.zip')

  def test_a_program_that_takes_too_much_is_killed(self):
    limits = swe.Limits(seconds=3, memory_bytes=512 << 20, total_memory_bytes=96 << 20)
    with swe.SweEnvironment(limits) as small:
      small.reset(broken(), 1)
      assert bash(small, 'echo a; sleep 60') == 'a\n[killed after 3 s]'
      take = 'import time; x = b"a" * (200 << 20); time.sleep(2)'
      assert bash(small, f"echo b; python3 -c '{take}'") == 'b\n[killed: out of memory]'
      assert bash(small, 'echo c; ls') == 'c\ninflection\ntest_inflection.py'

  def test_a_broken_sandbox_is_an_error_and_the_next_reset_works(self, environment):
    environment.reset(broken(), 1)
    environment._episode._process.kill()
    with pytest.raises(base.BrokenEnvironmentError):
      bash(environment, 'ls')
    environment.reset(broken(), 1)
    assert bash(environment, 'echo alive') == 'alive'


@pytest.mark.requires('bwrap', 'swe')
class TestVerifier:

  def solves(self, environment, *actions):
    return run_episode(environment, broken(), Script([*actions, SUBMIT])).success

  def test_the_fix_passes_and_nothing_else(self, environment):
    assert self.solves(environment, MENDED)
    assert not self.solves(environment)

  @pytest.mark.parametrize('command', [
    'rm test_inflection.py', 'echo "def test(): pass" > test_inflection.py',
    'printf "collect_ignore_glob = [\'*\']" | tee conftest.py > inflection/conftest.py',
    'printf "[pytest]\\naddopts = --co\\n" > pytest.ini',
    'printf "import os; os._exit(0)" > inflection/__init__.py', 'rm -r inflection',
    'chmod 000 inflection'])
  def test_tests_that_were_weakened_count_for_nothing(self, environment, command):
    assert not self.solves(environment, call_text('bash', command=command))


@pytest.mark.requires('bwrap', 'swe')
class TestCounterfactual:

  def test_marks_what_depends_on_earlier_calls(self, environment):
    look = call_text('bash', command=f'grep -c "not in (11" {CODE}')
    other = call_text('bash', command='wc -l < test_inflection.py')
    turns = run_episode(environment, broken(), Script(
        [other, look, MENDED, look, MENDED, other, 'nonsense', SUBMIT]),
                        mark_changed_state=True).turns
    assert [turn.changed_state for turn in turns] == [
        False, False, False, True, True, False, False]

  def test_the_episode_is_untouched(self, environment):
    environment.reset(broken(), 1)
    environment.counterfactual(call_text('bash', command='rm -r *'))
    assert bash(environment, 'ls') == 'inflection\ntest_inflection.py'
    bash(environment, 'echo a > n')
    environment.counterfactual(call_text('bash', command='rm -r *'))
    assert bash(environment, 'ls') == 'inflection\nn\ntest_inflection.py'


def sample(split, each, names):
  return [registry.task_at('swe', split, i * len(names) + k, seed=3, among=tuple(names))
          for k in range(len(names)) for i in range(each)]


@pytest.mark.requires('swe')
class TestFamilies:

  def test_every_family_has_tasks_of_its_splits(self):
    trained = registry.families('swe', 'train')
    assert trained == list(mutations.FAMILIES)
    assert registry.held_out('swe') == ['two_mistakes', 'new_package', 'real_fix']
    for split in ('train', 'validation', 'test'):
      for task in sample(split, 4, registry.families('swe', split)):
        assert task.split == split
        assert task.initial_state == swe.initial_state(task.setup)
        assert len(registry.expert_plan(task)) <= task.max_turns

  def test_splits_share_no_function_and_held_out_packages_are_for_test_alone(self):
    places = {}
    for split in ('train', 'validation', 'test'):
      tasks = sample(split, 25, registry.families('swe', 'train'))
      places[split] = {
          (t.setup['package'], e['path'], _function(t, e)) for t in tasks for e in t.setup['edits']}
      assert not {package for package, *_ in places[split]} & set(swe_packages.HELD_OUT)
    assert not places['train'] & (places['validation'] | places['test'])
    assert not places['validation'] & places['test']
    double = sample('test', 30, ['two_mistakes'])
    assert not (places['train'] | places['validation']) & {
        (t.setup['package'], e['path'], _function(t, e))
        for t in double for e in t.setup['edits']}

  def test_what_releases_mended_stands_in_no_package_of_train(self):
    known = {swe_packages.PACKAGES[name].project for name in swe_packages.MUTATED}
    for pair in swe_packages.PAIRS:
      assert not {swe_packages.PACKAGES[name].project for name in pair} & known

  def test_the_catalogue_is_of_these_packages(self):
    rows = catalogue.rows()
    later = {later for _, later in swe_packages.PAIRS}
    assert {row.package for row in rows} <= {
        *swe_packages.MUTATED, *swe_packages.HELD_OUT, *later}
    assert {row.package for row in rows if row.family == catalogue.REAL_FIX} <= later
    assert len(set(map(repr, rows))) == len(rows) >= 150
    for row in rows:
      setup = {'package': row.package, 'edits': list(row.edits), 'shown': []}
      files, good = swe.initial_files(setup), swe_packages.files(row.package)
      for edit in row.edits:
        ast.parse(files[edit['path']])
      present = dict(files)
      for edit in sorted(row.edits, key=lambda edit: edit['line']):
        old, new = mending.repair(present[edit['path']], edit)
        assert present[edit['path']].count(old) == 1
        present[edit['path']] = present[edit['path']].replace(old, new)
      assert present == good
      assert row.test.partition('::')[0] in files

  @pytest.mark.requires('bwrap')
  def test_without_a_mistake_all_tests_pass(self, environment):
    packages = catalogue.packages()
    answers = {}
    for package in packages:
      setup = {'package': package, 'edits': [], 'shown': []}
      environment.reset(dataclasses.replace(broken(), setup=setup), 1)
      answers[package] = environment.step(call_text('test', brief=True)).observation
    assert answers == dict.fromkeys(packages, swe.ALL_PASS)

  @pytest.mark.requires('bwrap')
  def test_experts_solve_their_tasks_and_nothing_done_solves_none(self, environment):
    tasks = sample('test', 1, [*mutations.FAMILIES[::3], *registry.held_out('swe')])
    solved = [task.id for task in tasks
              if run_episode(environment, task, experts.Expert(task)).success]
    assert solved == [task.id for task in tasks]
    for task in tasks[:3]:
      assert not run_episode(environment, task, Script([SUBMIT])).success

  @pytest.mark.requires('bwrap')
  def test_same_seed_and_actions_same_observations(self, environment):
    for policy, task in zip((experts.NoisyExpert, experts.Explorer),
                            sample('train', 1, mutations.FAMILIES[:2]), strict=True):
      first = run_episode(environment, task, policy(task, 5), mark_changed_state=True)
      with swe.SweEnvironment() as other:
        again = run_episode(other, task, Script([*(t.action for t in first.turns), SUBMIT]),
                            mark_changed_state=True)
      assert [masked(t.observation, t.runtime_metadata) for t in first.turns] == [
          masked(t.observation, t.runtime_metadata) for t in again.turns]
      assert [(t.state, t.changed_state) for t in first.turns] == [
          (t.state, t.changed_state) for t in again.turns]

  def test_policies_draw_calls_of_every_tool(self):
    task, rng = registry.make_task('swe', 'comparison', 10), random.Random(0)
    actions = registry.actions('swe')
    for draw in (actions.explore, actions.wander, actions.change, actions.inspect, actions.survey):
      for _ in range(40):
        swe.parse_call(draw(task, task.initial_state, rng))
    drawn = [actions.anything(task, rng) for _ in range(120)]
    assert {json.loads(action)['name'] for action in drawn} == {'read', 'edit', 'bash', 'test'}
    plan = registry.expert_plan(task)[:-1]
    assert all(actions.mistake(action, task, None, rng) for action in plan * 5)

  @pytest.mark.requires('bwrap')
  def test_collects(self, tmp_path):
    summary = collect.collect(
        'swe', 2, tmp_path, policies={'expert': 1}, workers=1, progress=False)
    assert summary['errors'] == 0 and summary['success_rate_by_policy'] == {'expert': 1}


def _function(task, edit):
  found = [(first, name) for name, (first, last) in mutations.functions(
      swe_packages.files(task.setup['package'])[edit['path']]).items()
      if first <= edit['line'] <= last]
  return max(found)[1]


class TestMutations:

  def test_of_each_kind(self):
    found = {(m.family, m.bad.strip()) for m in mutations.mutations(TEXT)}
    assert found >= {
        ('comparison', 'if key not in self.keys and not self.closed:'),
        ('boolean', 'if key in self.keys or not self.closed:'),
        ('boolean', 'if key in self.keys and self.closed:'),
        ('condition', 'if not (key in self.keys and not self.closed):'),
        ('call', 'return min(self.place(key, depth), 1)'),
        ('arguments', 'return max(self.place(depth, key), 1)'),
        ('constant', 'return max(self.place(key, depth), 2)'),
        ('returned', 'return None'), ('missing_line', 'pass'),
        ('arithmetic', 'return len(key) + 1 if first else None'),
        ('default', 'def find(self, key, first=False, *, depth=None):'),
        ('default', 'def find(self, key, first=True, *, depth=False):')}
    assert {m.function for m in mutations.mutations(TEXT)} == {'Shelf.find'}
    assert not any('Says' in m.good for m in mutations.mutations(TEXT))

  def test_one_line_is_changed_and_no_other(self):
    lines = TEXT.splitlines(keepends=True)
    for mutation in mutations.mutations(TEXT):
      assert lines[mutation.line - 1] == mutation.good != mutation.bad
      assert mutation.bad.endswith('\n') and mutation.bad.count('\n') == 1

  def test_what_is_no_python_has_none(self):
    assert mutations.mutations('def f(:') == ()

  def test_functions(self):
    assert mutations.functions(TEXT) == {'Shelf.find': (2, 8)}


def test_tools_show_and_change_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'a').write_text(''.join(f'line {i}\n' for i in range(1, 101)))
  assert swe_tools.read('a').split('\n')[59:] == ['60\tline 60', '[lines 1-60 of 100]']
  assert swe_tools.read('a', 99) == '99\tline 99\n100\tline 100\n[lines 99-100 of 100]'
  assert swe_tools.edit('a', 'line 50\n', '') == '48\tline 48\n49\tline 49\n50\tline 51\n' \
                                                  '51\tline 52\n52\tline 53'
  assert swe_tools.edit('b', '', 'x\n') == '1\tx'
  for wrong in (lambda: swe_tools.read('a', 200), lambda: swe_tools.read('a', 0),
                lambda: swe_tools.edit('a', 'line 1', 'x'), lambda: swe_tools.edit('b', '', 'y')):
    with pytest.raises(swe_tools.ToolError):
      wrong()


def test_long_output_loses_its_middle():
  text = swe.cut('a' * 5000 + 'b' * 5000)
  assert text.startswith('a' * 1000 + '\n[7600 characters cut]\nb') and text.endswith('b' * 1400)


def test_a_state_is_cut():
  files = {'a.py': 'one\ntwo\n'}
  state = swe_state.render('p-1', files, [('a.py', 2, 2)], {'n': 'x\n' * 200})
  assert state.startswith(
      'repository p-1\na.py (2 lines)\n== a.py 2-2\n2\ttwo\n== changes\nnew n\n+x\n')
  assert state.endswith('[121 more lines]')


def test_a_state_does_nothing_to_a_terminal():
  files = {'a.py': 'one\x1b[2J\n'}
  state = swe_state.render('p-1', files, [('a.py', 1, 1)], {'x\n\x9b2J\udcff': 'a\tb\x07\n'})
  assert state.split('\n')[3:] == [
      '1\tone\ufffd[2J', '== changes', 'new x\ufffd\ufffd2J\ufffd', '+a\tb\ufffd']


@pytest.mark.parametrize(('command', 'observation', 'expected'), [
  ('', 'at 0x7f01d2a3b4c5>', ['0x7f01d2a3b4c5']), ('', '3 passed in 0.12s', [' in 0.12s']),
  ('grep -n time a.py', '12:  time = 3', []), ('ps', '  7 bash', ['7']),
  ("python3 -c 'import time; print(time.time())'", '17.5', ['17.5'])])
def test_unpredictable_numbers_are_marked(command, observation, expected):
  spans = swe.runtime_metadata(command, observation)
  assert [observation[slice(*span)] for span in spans] == expected


class TestPackages:

  def test_what_is_missing_is_said(self, tmp_path, monkeypatch):
    monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path))
    swe_packages.files.cache_clear()
    fetch = 'python -m experiments.fetch_swe'
    assert swe_packages.missing(['parse-1.22.4']).endswith(f'swe: {fetch}')
    with pytest.raises(base.MissingProgramError, match=f'source package parse-1.22.4 in .*{fetch}'):
      swe_packages.files('parse-1.22.4')

  def test_a_damaged_file_is_said(self, tmp_path, monkeypatch):
    monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path))
    swe_packages.files.cache_clear()
    (tmp_path / 'swe').mkdir()
    (tmp_path / 'swe' / 'parse-1.22.4.tar.gz').write_bytes(b'torn')
    with pytest.raises(base.MissingProgramError, match='is damaged: remove it'):
      swe_packages.files('parse-1.22.4')

  def test_missing_pytest_is_said(self, monkeypatch):
    monkeypatch.setattr(swe_packages.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(base.MissingProgramError, match=r"'pytest': pip install -e '\.\[swe\]'"):
      swe_packages.pytest_archive()

  def test_a_download_that_fails_is_said_and_leaves_nothing(self, tmp_path, monkeypatch):
    monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path))
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.delenv('PIP_FIND_LINKS', raising=False)
    with pytest.raises(base.MissingProgramError, match='cannot fetch parse-1.22.4: '):
      next(swe_packages.fetch(['parse-1.22.4']))
    assert list((tmp_path / 'swe').iterdir()) == []
