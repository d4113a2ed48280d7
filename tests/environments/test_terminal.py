"""The terminal as an environment, and its task families with their experts."""

import random

import hypothesis
import pytest
from hypothesis import strategies as st

from aw_jax.environments import collect, experts, registry, terminal, terminal_state
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.sandbox import Limits
from aw_jax.environments.terminal_tasks import worlds
from aw_jax.trajectories import SUBMIT, Task, Verifier

FILES = {'a.txt': 'alpha beta\ngamma\n', 'b.csv': 'red,3\nblue,1\n', 'docs/c.txt': 'one\ntwo\n'}


def task_of(files=None, **setup):
  setup = {'files': FILES if files is None else files, **setup}
  return Task('terminal/x/1', 'terminal', 'x', 'train', 1, 'do', None, setup,
              Verifier('command', '~$', 'cd; :'), 10)


@pytest.fixture(scope='module')
def environment():
  with terminal.TerminalEnvironment(Limits(seconds=3)) as made:
    yield made


def observe(environment, *actions, task=None):
  """Resets, acts, and returns the last observation."""
  environment.reset(task or task_of(), 1)
  return [environment.step(action).observation for action in actions][-1]


@pytest.mark.requires('bwrap')
class TestObservations:

  @pytest.mark.parametrize('actions, expected', [
    (['true'], '~$'),
    (['cat a.txt'], 'alpha beta\ngamma\n~$'),
    (['cd docs', 'pwd'], '/home/agent/docs\n~/docs$'),
    (['cd /tmp'], '/tmp$'),
    (['cd nowhere'], 'bash: cd: nowhere: No such file or directory\n~$'),
    (['cat x.txt'], 'cat: x.txt: No such file or directory\n~$'),
    (['frobnicate'], 'bash: frobnicate: command not found\n~$'),
    (['printf abc'], 'abc\n~$'),
    (['echo a; echo b >&2'], 'a\nb\n~$'),
    (['x=5', 'echo $x'], '5\n~$'),
    (['f() { echo hi; }', 'f'], 'hi\n~$'),
    (['false', 'echo $?'], '1\n~$'),
    (['cat > n <<EOF\none\ntwo\nEOF', 'wc -l n'], '2 n\n~$'),
    (['cat'], '~$'),  # stdin is empty
    (['read x; echo "[$x]"'], '[]\n~$'),
    (["printf '\\033[31mred\\033[0m\\a\\n'"], 'red\n~$'),
    (["printf 'a\\r\\nb\\n'"], 'a\nb\n~$'),
    (["printf '\\302\\23331mred \\033]0;title\\007\\033P1$r\\033\\\\\\033(Bblue\\n'"],
     'red blue\n~$'),
    (["mkdir $'a\\e[31mb'; cd a*/"], '~/a\ufffd[31mb$'),
    (['echo häß'], 'häß\n~$'),
    (['echo (', 'echo on'], 'on\n~$'),
    (['cd docs; exit'], '~$'),
    (['# nothing'], '~$'),
    (['cd docs; rm -r ~/docs; pwd'], '/home/agent/docs\n~/docs$'),
  ])
  def test_of_actions(self, environment, actions, expected):
    assert observe(environment, *actions) == expected

  def test_reset_is_the_bare_prompt(self, environment):
    assert environment.reset(task_of(), 1) == '~$'

  def test_long_output_is_cut(self, environment):
    observation = observe(environment, 'seq 10000')
    assert observation.endswith('\n[output cut]\n~$')
    assert len(observation) < terminal.MAX_OUTPUT_CHARACTERS + 30

  def test_time_out_is_said_and_the_episode_goes_on(self):
    with terminal.TerminalEnvironment(Limits(seconds=0.3)) as hasty:
      hasty.reset(task_of(), 1)
      hasty.step('cd docs; echo kept > ~/k')
      assert hasty.step('echo a; sleep 9').observation == 'a\n[killed after 0.3 s; new shell]\n~$'
      assert hasty.step('cat k').observation == 'kept\n~$'

  def test_a_shell_that_is_killed_with_all_else_is_said(self, environment):
    environment.reset(task_of(), 1)
    assert environment.step('kill -9 $$ $BASHPID').observation == (
        '[the shell was killed; new shell]\n~$')
    assert environment.step('ls').observation == 'a.txt\nb.csv\ndocs\n~$'

  def test_unpredictable_numbers_are_marked(self, environment):
    environment.reset(task_of(), 1)
    step = environment.step('echo pid $$')
    (span,) = step.info['runtime_metadata']
    assert step.observation[slice(*span)].isdigit()
    assert environment.step('echo 15').info['runtime_metadata'] == ()

  def test_verify_ignores_what_the_agent_defined(self, environment):
    environment.reset(task_of(), 1)
    environment.step('cat() { echo fooled; }; alias ls=true; cd docs; PATH=/none')
    assert environment.verify('cd; cat a.txt; ls') == 'alpha beta\ngamma\na.txt\nb.csv\ndocs\n~$'

  def test_a_broken_sandbox_is_an_error_and_the_next_reset_works(self, environment):
    environment.reset(task_of(), 1)
    environment._episode._process.kill()
    environment._episode._process.wait()
    with pytest.raises(BrokenEnvironmentError):
      environment.step('ls')
    assert observe(environment, 'ls') == 'a.txt\nb.csv\ndocs\n~$'


@pytest.mark.requires('bwrap')
class TestSnapshots:

  def test_without_running_it_is_what_the_sandbox_shows(self, environment):
    setup = {'files': {**FILES, 'empty': '', 'no_end': 'x', 'd/e/f.txt': 'deep\n'},
             'modes': {'a.txt': '600', 'b.csv': '755', 'docs': '700'}, 'dirs': ['void', 'g/h']}
    environment.reset(task_of(**setup), 1)
    assert environment.snapshot() == terminal.initial_state(setup)

  @hypothesis.settings(max_examples=20)
  @hypothesis.given(st.dictionaries(
      st.from_regex(r'[a-z]{1,5}(\.txt)?', fullmatch=True),
      st.text(st.characters(exclude_categories=['Cs', 'Cc']) | st.just('\n'), max_size=60)))
  def test_of_any_text_files(self, environment, files):
    environment.reset(task_of(files), 1)
    assert environment.snapshot() == terminal.initial_state({'files': files})

  def test_changes_show(self, environment):
    observe(environment, 'echo new > docs/n', 'chmod +x a.txt', 'chmod 600 b.csv', 'rm docs/c.txt',
            'ln -s a.txt l', 'mkfifo p', 'printf x > y', 'cd docs')
    assert environment.snapshot() == (
        '== a.txt x\nalpha beta\ngamma\n== b.csv 600\nred,3\nblue,1\n== docs/\n== docs/n\nnew\n'
        '== l -> a.txt\n== p (special)\n== y\nx\n\\\ncwd ~/docs')

  def test_unreadable_files_are_read_and_stay_unreadable(self, environment):
    observe(environment, 'chmod 000 a.txt docs')
    assert '== a.txt 0\nalpha beta' in environment.snapshot()
    assert '== docs/ 0\n== docs/c.txt\none' in environment.snapshot()
    assert environment.step('stat -c %a a.txt docs').observation == '0\n0\n~$'

  def test_archives_and_binaries_are_summarised(self, environment):
    observe(environment, 'tar cf t.tar a.txt docs; tar czf z.tgz a.txt; gzip b.csv',
            'head -c 100 /dev/zero > zero; rm -r docs a.txt')
    assert environment.snapshot() == (
        '== b.csv.gz\n(gzip)\nred,3\nblue,1\n== t.tar\n(tar: a.txt docs/ docs/c.txt)\n'
        '== z.tgz\n(tar: a.txt)\n== zero\n(binary, 100 bytes)')

  @pytest.mark.requires('sqlite3')
  def test_databases_show_their_rows(self, environment):
    observe(environment, 'sqlite3 s.db "create table t(n, v); insert into t values(\'a\', 1)"',
            'rm -r docs *.txt *.csv')
    assert environment.snapshot() == '== s.db\nt(n, v)\na|1'

  @pytest.mark.requires('git')
  def test_repositories_show_branch_log_and_status(self, environment):
    observe(environment, 'git init -q; git add a.txt docs; git commit -qm first')
    assert environment.snapshot().startswith(
        '== .git/\nbranch main\ncommit first\nuntracked b.csv\n== a.txt\n')
    environment.step('echo x >> a.txt; git add b.csv; git rm -q docs/c.txt')
    assert environment.snapshot().startswith(
        '== .git/\nbranch main\ncommit first\nstaged b.csv docs/c.txt\nmodified a.txt\n== a.txt')
    environment.step('git checkout -qb side; git commit -qam second; git checkout -q main')
    assert environment.snapshot().startswith(
        '== .git/\nbranch main\ncommit first\n== a.txt\n')

  def test_big_states_are_cut(self, environment):
    observe(environment, 'seq 5000 > big; for i in $(seq 99); do touch f$i; done')
    assert len(environment.snapshot()) < 4000
    assert environment.snapshot().endswith('more')


@pytest.mark.requires('bwrap')
class TestCounterfactual:

  @pytest.mark.parametrize('actions, changed', [
    (['ls', 'cat a.txt', 'ls'], [False, False, False]),
    (['echo x >> a.txt', 'cat a.txt', 'cat b.csv'], [False, True, False]),
    (['mv a.txt z.txt', 'cat a.txt', 'ls docs', 'ls'], [False, True, False, True]),
    (['cd docs', 'ls', 'cat ../a.txt', 'cat c.txt'], [False, True, True, True]),
    (['x=1', 'echo $x', 'echo y'], [False, True, False]),
    (['alias', 'cat() { echo no; }', 'cat a.txt'], [False, False, True]),
    (['echo hi > /tmp/h', 'cat /tmp/h', 'cat a.txt'], [False, True, False]),
    (['rm a.txt', 'rm a.txt'], [False, True]),
    (['chmod 600 a.txt', 'stat -c %a a.txt', 'cat a.txt'], [False, True, False]),
    (['rm -r docs', 'cat docs/c.txt', 'grep -r one', 'grep -c one *'], [False, True, True, True]),
    (['false', 'echo $?', 'true', 'echo $?'], [False, True, False, False]),
    (['mkdir e', 'sort a.txt -o e/s', 'cat e/s'], [False, True, True]),
    (['sed -i 1d a.txt', 'sed -n 1p a.txt', 'sed -n 1p b.csv'], [False, True, False]),
    (['exit', 'pwd'], [False, False]),
    (['echo $$', 'echo $$'], [False, False]),  # runtime metadata is no difference
  ])
  def test_of_hand_made_cases(self, environment, actions, changed):
    turns = run_episode(
        environment, task_of(), _Script([*actions, SUBMIT]), mark_changed_state=True).turns
    assert [turn.changed_state for turn in turns] == changed

  def test_the_episode_is_untouched(self, environment):
    environment.reset(task_of(), 1)
    environment.step('echo x > n')
    before = environment.snapshot()
    assert environment.counterfactual('rm -r *; y=2').observation == '~$'
    assert environment.counterfactual('ls').observation == 'a.txt\nb.csv\ndocs\n~$'
    assert environment.snapshot() == before
    assert environment.step('ls; echo $y').observation == 'a.txt\nb.csv\ndocs\nn\n\n~$'

  def test_another_action_than_the_one_asked_about(self, environment):
    environment.reset(task_of(), 1)
    environment.counterfactual('rm a.txt')
    assert environment.step('ls').observation == 'a.txt\nb.csv\ndocs\n~$'
    assert 'a.txt' in environment.snapshot()

  def test_shortcuts_agree_with_running_everything_twice(self, environment):
    """Shortcuts (terminal.py) against a twin that is rebuilt for every action."""
    mixture = {'noisy_expert': 1, 'explorer': 2, 'random': 1}
    collection = collect.Collection('terminal', 60, 'test', mixture, 3, 60, None, True)
    with _Thorough() as thorough:
      for index in _line_episodes(collection):
        assert collect.run_numbered_episode(environment, collection, index) == (
            collect.run_numbered_episode(thorough, collection, index))

  def test_a_tracker_sees_more_of_what_it_changed_than_an_explorer(self, environment):
    shares = {}
    for policy in ('explorer', 'tracker'):
      collection = collect.Collection('terminal', 40, 'train', {policy: 1}, 3, 40, None, True)
      turns = [turn for index in _line_episodes(collection)
               for turn in collect.run_numbered_episode(environment, collection, index).turns]
      shares[policy] = sum(turn.changed_state for turn in turns) / len(turns)
    assert shares['tracker'] > 1.25 * shares['explorer'] > 0.2

  @pytest.mark.parametrize('action', [
    'sort -o a b', 'sort -ro a b', 'sort --output a b', 'sed -i 1d a', 'cat a > b', 'cat a; rm a',
    'uniq a b', 'sed -n 1p a -i', 'ls $(rm a)', 'ls `rm a`', 'cat a | tee b', 'cat a & rm a',
    'sed s/a/b/ --in-place a', 'sed s/a/b/ -e wb', 'cat a\nrm a', 'catx a', 'echo a'])
  def test_what_may_write_is_not_read_only(self, action):
    assert not terminal.is_read_only(action)

  @pytest.mark.parametrize('action', [
    'x=1', 'alias a', 'set -e', 'cat a; x', 'f() { :; }', 'echo $(x)', 'exit', 'sleep 9 &',
    'cat a | alias b', 'true && umask 0', 'echo a\nx', ''])
  def test_what_may_change_the_shell_is_not_plain(self, action):
    assert not terminal.is_plain(action)


class _Thorough(terminal.TerminalEnvironment):
  """Runs every counterfactual on a twin built anew."""

  def _run_initial(self, action):
    self._twin.reset(self._task.setup, self._seed)
    return self._twin.probe(action)


class _Script:
  """Plays given actions."""

  name = 'script'

  def __init__(self, actions):
    self._actions = actions

  def act(self, task, first_observation, turns):
    return self._actions[len(turns)]


def _line_mode(families):
  """Those that are not played on a screen, which is slower: test_screen.py has these."""
  return [family for family in families if not family.startswith('screen_')]


def _line_episodes(collection):
  """The numbers of a collection's episodes in line mode."""
  families = [registry.task_at('terminal', collection.split, index, collection.seed).family
              for index in range(collection.episodes)]
  return [index for index, family in enumerate(families) if _line_mode([family])]


def _tasks(split, count, held_out):
  families = _line_mode(
      registry.held_out('terminal') if held_out else registry.families('terminal', 'train'))
  return [registry.task_at('terminal', split, i * len(families) + k, seed=9, among=tuple(families))
          for k in range(len(families)) for i in range(count)]


@pytest.mark.requires('bwrap', 'git', 'sqlite3')
class TestFamilies:

  def test_there_are_enough_and_some_are_held_out(self):
    assert len(registry.families('terminal')) >= 30
    assert {'merge_sort', 'rotate', 'top_rows', 'revise_copy', 'complete', 'select_sort'} <= set(
        registry.held_out('terminal'))

  @pytest.mark.parametrize('held_out', [False, True])
  def test_experts_solve_every_family(self, environment, held_out):
    tasks = _tasks('test', 6, held_out)
    failed = [task.id for task in tasks
              if not run_episode(environment, task, experts.Expert(task)).success]
    assert not failed

  def test_noisy_experts_solve_about_half(self, environment):
    tasks = _tasks('validation', 10, False)
    solved = sum(bool(run_episode(environment, task, experts.NoisyExpert(task, 1)).success)
                 for task in tasks)
    assert 0.45 < solved / len(tasks) < 0.75

  def test_what_was_copied_is_not_moved(self, environment):
    for task in registry.tasks('terminal', 'validation', 100):
      if task.family in ('move', 'rename'):
        plan = [action.replace('mv ', 'cp ') for action in registry.expert_plan(task)]
        assert not run_episode(environment, task, _Script(plan)).success, task.id

  def test_random_agents_solve_nearly_nothing(self, environment):
    tasks = _tasks('validation', 3, False)
    solved = sum(bool(run_episode(environment, task, experts.RandomAgent(task, 1)).success)
                 for task in tasks)
    assert solved / len(tasks) < 0.15

  def test_initial_states_are_those_of_the_sandbox(self, environment):
    for task in _tasks('train', 2, False) + _tasks('test', 2, True):
      environment.reset(task, task.seed)
      assert environment.snapshot() == task.initial_state
      assert len(task.initial_state.split()) < 150

  def test_same_seed_and_actions_same_observations(self, environment):
    for task in _tasks('train', 1, False):
      runs = [run_episode(environment, task, experts.NoisyExpert(task, 5)) for _ in range(2)]
      assert runs[0] == runs[1]

  def test_not_solved_before_anything_was_done(self, environment):
    for task in _tasks('train', 3, False) + _tasks('test', 3, True):
      assert not run_episode(environment, task, _Script([SUBMIT])).success, task.id

  def test_words_come_from_the_lexicon(self):
    known = {*worlds.WORDS, *worlds.STEMS, *worlds.FOLDERS, *worlds.COLUMNS,
             'create', 'table', 'name', 'insert', 'into', 'values'}
    for task in _tasks('train', 10, False):
      for text in task.setup['files'].values():
        words = set(''.join(c if c.isalpha() else ' ' for c in text).split())
        assert words <= known, words - known


def test_noise_differs_by_episode_and_repeats_by_seed():
  task = registry.make_task('terminal', 'create', 10)
  scripts = {tuple(experts.NoisyExpert(task, seed).act(task, '~$', ()) for _ in range(3))
             for seed in range(40)}
  assert len(scripts) > 5
  rng = random.Random(0)
  actions = registry.actions('terminal')
  drawn = {actions.wander(task, task.initial_state, rng).split()[0] for _ in range(400)}
  assert drawn >= {'ls', 'cat', 'head', 'tail', 'sort', 'wc', 'grep', 'echo', 'cp', 'mv', 'rm',
                   'mkdir', 'sed', 'cd', 'chmod', 'find', 'cut', 'diff', 'test', 'tr'}


def test_unknown_policy_is_said():
  with pytest.raises(ValueError, match="unknown policy 'x'; known are expert"):
    experts.make_policy('x', registry.make_task('terminal', 'create', 1))


@pytest.mark.parametrize('data, expected', [
  (b'SQLite format 3\0' + b'x' * 100, ['(damaged database)']),
  (b'\x1f\x8b broken', ['(binary, 9 bytes)']),
  (b'\xff\xfe\xfd\xfc\xfb' * 9, ['(binary, 45 bytes)']),
  ('ä'.encode() * 3000, None),
])
def test_damaged_files_are_still_shown(data, expected):
  lines = terminal_state.render([('f', 'file', 0o644, data)]).split('\n')[1:]
  assert lines == expected if expected else lines[-1] == terminal_state.CUT
