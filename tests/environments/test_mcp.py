"""The tool servers as an environment: real servers in their sandboxes."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from aw_jax import trajectories
from aw_jax.environments import (
  collect,
  git_files,
  mcp,
  mcp_client,
  mcp_servers,
  mcp_tasks,
  mcp_worlds,
  registry,
)
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import call_text
from aw_jax.trajectories import Task, Verifier
from tests.environments.processes import descendants, server_process

pytestmark = [
    pytest.mark.requires('bwrap', 'git'),
    *(pytest.mark.skipif(bool(mcp_servers.missing(name)), reason=mcp_servers.missing(name))
      for name in mcp_worlds.SERVERS)]

FAMILIES = [name for name in registry.families('mcp')
            if registry.make_task('mcp', name, 0).setup['server'] in mcp_worlds.SERVERS]
SHOP = {
    'server': 'shop', 'customers': [[1, 'Ada Stone', 'Lyon']],
    'products': [[11, 'lamp', 5, 3], [14, 'chair', 20, 0]],
    'orders': [[101, 1, 11, 2, 10, 'open']]}
NOTES = {'notes.txt': 'alpha\nbeta\n'}
GIT = {
    'server': 'git',
    'commits': [{'message': 'Start notes', 'files': NOTES},
                {'message': 'Add plan', 'files': NOTES | {'plan.txt': 'one\n'}, 'parent': 0}],
    'branches': {'main': 1, 'old': 0}, 'head': 'main',
    'present': {'notes.txt': 'alpha\ngamma\n', 'plan.txt': 'one\n', 'todo.txt': 'tea\n'},
    'staged': []}
TIME = {'server': 'time', 'clock': '2024-03-05T14:20:00+00:00'}
GET_LAMP = call_text('get_product', product_id=11)
ORDER_LAMP = call_text('create_order', customer_id=1, product_id=11, quantity=2)
STATUS = call_text('git_status', repo_path='/repo')


def made(setup):
  return Task('mcp/made/1', 'mcp', 'made', 'train', 1, 'Try.', mcp_worlds.state(setup), setup,
              Verifier('answer', ''), 10)


@pytest.fixture(scope='module')
def world():
  """One environment for all tests of this file, as a worker has it for all its episodes."""
  with registry.make_environment('mcp') as environment:
    yield environment


def eventually(condition, seconds=30):
  """Whether a condition holds at last: the kernel takes a while to clear a sandbox away."""
  deadline = time.monotonic() + seconds
  while not condition() and time.monotonic() < deadline:
    time.sleep(0.05)
  return condition()


class TestTasks:

  @pytest.mark.parametrize('family', FAMILIES)
  def test_expert_solves_them(self, world, family):
    for seed in (0, 9, 17):
      task = registry.make_task('mcp', family, seed)
      trajectory = run_episode(world, task, make_policy('expert', task))
      assert trajectory.success, trajectory
      assert 2 <= len(trajectory.turns) <= task.max_turns or family == 'read_branch'

  @pytest.mark.parametrize('family', FAMILIES)
  def test_nothing_done_is_no_success(self, world, family):
    task = registry.make_task('mcp', family, 4)
    world.reset(task)
    if task.verifier.kind == 'command':
      assert not task.verifier.passes(world.verify(task.verifier.command))
    else:
      assert not task.verifier.passes('')

  @pytest.mark.parametrize('family', FAMILIES)
  def test_initial_state_is_what_the_environment_shows(self, world, family):
    for seed in range(5):
      task = registry.make_task('mcp', family, seed)
      assert world.reset(task) == ''
      assert world.snapshot() == task.initial_state
      assert len(task.initial_state.split()) <= 100

  def test_at_least_six_families_over_three_servers(self):
    tasks = [registry.make_task('mcp', family, 0) for family in registry.families('mcp', 'train')]
    assert len(tasks) >= 6
    assert {task.setup['server'] for task in tasks} >= set(mcp_worlds.SERVERS)

  def test_splits_are_disjoint(self):
    found = {split: {task.id for task in registry.tasks('mcp', split, 400)}
             for split in trajectories.SPLITS}
    assert not found['train'] & found['test'] and not found['validation'] & found['test']
    assert not found['train'] & found['validation']
    held_out = set(registry.held_out('mcp'))
    assert held_out & set(FAMILIES) == {'replace_order', 'branch_commit'}
    assert not held_out & set(registry.families('mcp', 'train'))

  def test_held_out_families_use_known_tools(self):
    def tools(names):
      return {json.loads(action)['name'] for name in names for seed in range(20)
              for action in registry.expert_plan(registry.make_task('mcp', name, seed))[:-1]}
    held_out = set(registry.held_out('mcp')) & set(registry.families('mcp'))  # what is here
    assert held_out and tools(held_out) <= tools(registry.families('mcp', 'train'))

  def test_tasks_are_functions_of_family_and_seed(self):
    for family in FAMILIES:
      task = registry.make_task('mcp', family, 3)
      assert task == registry.make_task('mcp', family, 3)
      assert task.setup == json.loads(json.dumps(task.setup))


class TestPolicies:

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'random'])
  def test_they_never_break_it(self, world, policy):
    changed = 0
    for family in FAMILIES:
      task = registry.make_task('mcp', family, 31)
      trajectory = run_episode(world, task, make_policy(policy, task, 1), mark_changed_state=True)
      assert not trajectory.error and trajectory.success is not None
      assert trajectories.from_json(json.loads(json.dumps(trajectories.to_json(trajectory))))
      changed += sum(turn.changed_state for turn in trajectory.turns)
    assert changed

  def solved(self, world, policy, count):
    """The share of test tasks, `count` of every family, that a policy solves."""
    tasks = [registry.task_at('mcp', 'test', index, 11, among=tuple(FAMILIES))
             for index in range(count * len(FAMILIES))]
    assert {task.family for task in tasks} == set(FAMILIES)
    episodes = [run_episode(world, task, make_policy(policy, task, 3)) for task in tasks]
    assert not [episode.error for episode in episodes if episode.error]
    return sum(episode.success for episode in episodes) / len(episodes)

  def test_noisy_experts_solve_some(self, world):
    assert 0.5 < self.solved(world, 'noisy_expert', 4) < 0.85

  def test_random_agents_solve_nearly_nothing(self, world):
    assert self.solved(world, 'random', 2) < 0.1

  def test_workers_collect_what_one_environment_does(self, world, tmp_path):
    summary = collect.collect(
        'mcp', 16, tmp_path, seed=4, workers=2, episodes_per_shard=8, progress=False)
    assert summary['errors'] == 0 and summary['changed_state_steps'] > 0
    found = [trajectory for path in sorted(tmp_path.glob('shard-*'))
             for trajectory in trajectories.read_jsonl(path, 'mcp')]
    collection = collect.Collection('mcp', 16, 'train', collect.DEFAULT_POLICIES, 4, 8, None, True)
    assert found == [
        collect.run_numbered_episode(world, collection, index) for index in range(16)]

  def test_mistakes_stay_calls_or_words(self):
    for family in FAMILIES:
      task = registry.make_task('mcp', family, 2)
      for seed in range(20):
        for action in registry.expert_plan(task)[:-1]:
          rng = random.Random(seed)
          assert mcp_tasks.ACTIONS.mistake(action, task, task.initial_state, rng).strip()
          assert mcp_tasks.ACTIONS.typo(action, rng).strip()


class TestAnswers:

  @pytest.mark.parametrize('action, observation', [
      ('{"name": "get_order"', 'Error: invalid JSON'),
      ('get_order 101', 'Error: invalid JSON'),
      ('', 'Error: invalid JSON'),
      ('[' * 5000, 'Error: invalid JSON'),
      ('{"name": "get_order", "arguments": {"order_id": NaN}}', 'Error: invalid JSON'),
      ('{"name": "find_customer", "arguments": {"name": "\\ud800"}}', 'Error: invalid JSON'),
      ('x' * 9000, 'Error: call is too long'),
      ('[1, 2]', 'Error: call has no name'),
      ('{"arguments": {}}', 'Error: call has no name'),
      ('{"name": "get_order", "arguments": 3}', 'Error: arguments must be an object'),
      ('{"name": "drop_table", "arguments": {}}', 'Error: Unknown tool: drop_table'),
      ('{"name": "list_products"}', '{"products": [{"id": 11,'),
      (call_text('get_order', order_id=7), 'Error executing tool get_order: no order 7'),
      (call_text('get_order'), 'Error executing tool get_order: 1 validation error'),
  ])
  def test_bad_actions_are_answered(self, world, action, observation):
    task = made(SHOP)
    world.reset(task)
    step = world.step(action)
    assert step.observation.startswith(observation) and not step.done
    assert 'further information' not in step.observation
    assert world.snapshot() == task.initial_state

  @pytest.mark.parametrize('setup, tool, arguments, said', [
      (GIT, 'git_show', {'repo_path': '/repo'}, 'revision'),
      (GIT, 'git_show', {'repo_path': '/repo', 'revision': 'gone'}, 'gone'),
      (GIT, 'git_add', {'repo_path': '/repo', 'files': 'notes.txt'}, 'files'),
      (GIT, 'git_checkout', {'repo_path': '/repo', 'branch_name': 'gone'}, 'gone'),
      (TIME, 'get_current_time', {}, 'timezone'),
      (TIME, 'get_current_time', {'timezone': 'Mars/Olympus'}, 'Mars/Olympus'),
      (TIME, 'convert_time', {'source_timezone': 'Asia/Tokyo', 'time': '25:00',
                              'target_timezone': 'Asia/Tokyo'}, 'Invalid time format')])
  def test_wrong_arguments_of_the_other_servers(self, world, setup, tool, arguments, said):
    task = made(setup)
    world.reset(task)
    observation = world.step(call_text(tool, **arguments)).observation
    assert observation.startswith('Error') and said in observation
    assert world.snapshot() == task.initial_state

  def test_unknown_tools_of_the_other_servers(self, world):
    for setup in (GIT, TIME):
      world.reset(made(setup))
      assert world.step(call_text('nope')).observation == 'Error: Unknown tool: nope'

  @hypothesis.given(
      st.text() | st.dictionaries(st.text(), st.integers() | st.text()).map(json.dumps))
  def test_parsing_refuses_in_one_way(self, action):
    try:
      name, arguments = mcp.parse_call(action)
    except mcp.CallError:
      return
    assert isinstance(name, str) and isinstance(arguments, dict)

  def test_hashes_are_short_and_marked(self, world):
    world.reset(made(GIT))
    world.step(call_text('git_add', repo_path='/repo', files=['notes.txt']))
    step = world.step(call_text('git_commit', repo_path='/repo', message='Fix notes'))
    ((start, end),) = step.info['runtime_metadata']
    assert end - start == 7 and step.observation[:start].endswith('with hash ')
    step = world.step(call_text('git_show', repo_path='/repo', revision='HEAD:notes.txt'))
    assert step.observation == 'alpha\ngamma' and step.info['runtime_metadata'] == ()

  def test_long_answers_are_cut(self):
    text = mcp.render(mcp_client.Answer('word ' * 1000))
    assert len(text) < 2100 and text.endswith('\n[output cut]')

  def test_the_clock_is_the_tasks(self, world):
    for clock, local in (('2024-03-05T14:20:00+00:00', '2024-03-05T23:20:00+09:00'),
                         ('2025-12-31T20:00:00+00:00', '2026-01-01T05:00:00+09:00')):
      world.reset(made(TIME | {'clock': clock}))
      answer = json.loads(world.step(
          call_text('get_current_time', timezone='Asia/Tokyo')).observation)
      assert answer['datetime'] == local

  def test_a_repository_outside_is_refused(self, world):
    world.reset(made(GIT))
    step = world.step(call_text('git_status', repo_path='/etc'))
    assert 'outside the allowed repository' in step.observation


class TestDeterminism:

  @pytest.mark.parametrize('family', ['order', 'commit', 'now'])
  def test_same_seed_and_actions_twice(self, world, family):
    task = registry.make_task('mcp', family, 12)
    def episode(marks):
      return run_episode(world, task, make_policy('explorer', task, 5), mark_changed_state=marks)
    first = episode(True)
    world.reset(made(GIT))
    world.step(call_text('git_checkout', repo_path='/repo', branch_name='old'))
    assert episode(True) == first
    assert [turn.observation for turn in episode(False).turns] == [
        turn.observation for turn in first.turns]

  def test_another_environment(self, world):
    task = registry.make_task('mcp', 'branch_commit', 2)
    with mcp.McpEnvironment() as other:
      assert run_episode(other, task, make_policy('expert', task)) == run_episode(
          world, task, make_policy('expert', task))


class TestCounterfactual:

  @pytest.mark.parametrize('family', ['order', 'return_stock', 'commit', 'read_branch', 'convert'])
  def test_equals_a_fresh_start(self, world, family):
    """What it says is what the action gets as the first of an episode; the episode goes on."""
    task = registry.make_task('mcp', family, 21)
    trajectory = run_episode(world, task, make_policy('explorer', task, 2), mark_changed_state=True)
    for turn in trajectory.turns:
      world.reset(task)
      fresh = world.step(turn.action).observation
      if not turn.runtime_metadata:
        assert turn.changed_state == (turn.observation != fresh), turn

  def test_shop_by_hand(self, world):
    world.reset(made(SHOP))
    before = world.snapshot()
    in_stock = world.counterfactual(GET_LAMP).observation
    assert '"stock": 3' in in_stock
    assert world.counterfactual(ORDER_LAMP).observation.startswith('{"id": 102')
    assert world.snapshot() == before
    assert world.step(GET_LAMP).observation == in_stock  # the order was undone
    assert world.step(ORDER_LAMP).observation.startswith('{"id": 102')
    after = world.snapshot()
    assert after != before
    assert world.counterfactual(GET_LAMP).observation == in_stock
    refund = call_text('refund_order', order_id=102)
    assert 'no order 102' in world.counterfactual(refund).observation
    cancel = call_text('cancel_order', order_id=101)
    assert '"cancelled"' in world.counterfactual(cancel).observation
    again = world.counterfactual(call_text('get_order', order_id=101)).observation
    assert '"open"' in again  # a fresh copy each time
    assert world.snapshot() == after
    assert '"stock": 1' in world.step(GET_LAMP).observation
    assert 'only 1' in world.step(ORDER_LAMP).observation

  def test_one_that_is_not_followed_by_its_action(self, world):
    task = made(SHOP)
    world.reset(task)
    world.counterfactual(ORDER_LAMP)
    restock = call_text('restock', product_id=11, quantity=1)
    assert '"stock": 4' in world.counterfactual(restock).observation
    assert 'no order 102' in world.step(call_text('get_order', order_id=102)).observation
    world.counterfactual(call_text('cancel_order', order_id=101))
    assert world.snapshot() == task.initial_state
    assert '"stock": 4' in world.step(restock).observation
    assert '101 1 11 2 10 open' in world.snapshot()
    world.reset(task)
    world.counterfactual(ORDER_LAMP)
    assert '"stock": 3' in world.verify(GET_LAMP)

  def test_git_by_hand(self, world):
    task = made(GIT)
    world.reset(task)
    add = call_text('git_add', repo_path='/repo', files=['todo.txt'])
    clean = world.counterfactual(STATUS).observation
    world.counterfactual(add)
    assert world.snapshot() == task.initial_state
    assert world.step(add).observation == 'Files staged successfully'
    assert '== todo.txt staged' in world.snapshot()
    assert world.counterfactual(STATUS).observation == clean
    assert 'new file:   todo.txt' in world.step(STATUS).observation

  def test_before_any_reset(self):
    with mcp.McpEnvironment() as environment:
      for act in (environment.step, environment.counterfactual):
        with pytest.raises(BrokenEnvironmentError, match='was not reset'):
          act(GET_LAMP)


class TestFailures:

  def test_a_killed_server_marks_the_episode_and_the_next_one_works(self, world):
    task = registry.make_task('mcp', 'order', 5)

    class Killer:
      name = 'expert'
      def __init__(self):
        self.expert = make_policy('expert', task)
      def act(self, *arguments):
        if len(arguments[2]) == 1:
          os.kill(server_process(world), signal.SIGKILL)
        return self.expert.act(*arguments)

    broken = run_episode(world, task, Killer(), mark_changed_state=True)
    assert broken.success is None and len(broken.turns) == 1
    assert broken.error.startswith('the shop server ended')
    with pytest.raises(BrokenEnvironmentError):
      world.step(GET_LAMP)
    assert run_episode(world, task, make_policy('expert', task)).success

  def test_a_hung_server_is_given_up(self):
    task = made(TIME)
    now = call_text('get_current_time', timezone='Asia/Tokyo')
    with mcp.McpEnvironment(mcp_servers.Limits(call_seconds=5)) as environment:
      environment.reset(task)
      pid = server_process(environment)
      os.kill(pid, signal.SIGSTOP)
      with pytest.raises(BrokenEnvironmentError, match='the time server did not answer in time'):
        environment.step(now)
      assert eventually(lambda: not os.path.exists(f'/proc/{pid}'))
      environment.reset(task)
      assert '23:20' in environment.step(now).observation
    environment.close()  # twice is fine

  def test_closing_leaves_nothing(self):
    before = descendants(os.getpid())
    environment = mcp.McpEnvironment()
    environment.reset(made(SHOP))
    scratch = environment._server.scratch.path
    assert os.path.isdir(scratch)
    environment.close()
    assert eventually(lambda: not descendants(os.getpid()) - before)
    assert not os.path.exists(scratch)

  @pytest.mark.parametrize('server, package, remedy', [
      ('git', 'mcp_server_git', 'pip install mcp-server-git'),
      ('time', 'mcp_server_time', 'pip install mcp-server-time'),
      ('shop', 'mcp', "pip install 'mcp>=2.3,<3'")])
  def test_missing_packages_are_named(self, monkeypatch, server, package, remedy):
    found = mcp_servers.importlib.util.find_spec
    monkeypatch.setattr(mcp_servers.importlib.util, 'find_spec',
                        lambda name: None if name == package else found(name))
    with mcp.McpEnvironment() as environment, pytest.raises(MissingProgramError) as error:
      environment.reset(made({'shop': SHOP, 'git': GIT, 'time': TIME}[server]))
    assert str(error.value) == f'the package {package!r} is not installed: {remedy}'

  def test_missing_programs_are_named(self, monkeypatch):
    found = shutil.which
    for program, remedy in (('bwrap', 'bubblewrap'), ('git', 'git')):
      monkeypatch.setattr(mcp_servers.shutil, 'which',
                          lambda name, gone=program: None if name == gone else found(name))
      with mcp.McpEnvironment() as environment, pytest.raises(MissingProgramError) as error:
        environment.reset(made(GIT))
      assert str(error.value) == f'{program} not found: apt-get install -y {remedy}'


PROBE = """
import ctypes, os, socket
def attempt(action):
  try:
    action()
    return 'done'
  except OSError as error:
    return type(error).__name__ + str(error.errno)
print('interfaces', [name for _, name in socket.if_nameindex()])
print('connect', attempt(lambda: socket.create_connection(('192.0.2.1', 80), timeout=5)))
print('usr', attempt(lambda: open('/usr/made', 'w')))
print('root', attempt(lambda: open('/made', 'w')))
print('servers', attempt(lambda: open('/opt/servers/made', 'w')))
print('home', os.path.exists('/home'), os.path.exists('/etc/passwd'), os.path.exists('/work'))
library = ctypes.CDLL(None, use_errno=True)
print('vsock', attempt(lambda: socket.socket(40, socket.SOCK_STREAM)))
print('unshare', library.unshare(0x10000000), ctypes.get_errno())
print('ptrace', library.ptrace(0, 0, 0, 0), ctypes.get_errno())
print('processes', len([name for name in os.listdir('/proc') if name.isdigit()]))
"""


class TestSandbox:

  def test_no_network_and_nothing_to_write(self, tmp_path):
    """The probe runs in the server's place."""
    uid = 100_000 + os.getpid() if os.geteuid() == 0 else 0
    (tmp_path / 'world').mkdir()
    command = mcp_servers.command('shop', str(tmp_path), uid, mcp_servers.Limits())
    python = command[:command.index('/opt/servers/launch.py')]
    run = subprocess.run([*python, '-c', PROBE], capture_output=True, text=True, timeout=60,
                         check=True)
    said = dict(line.split(' ', 1) for line in run.stdout.splitlines())
    assert said['interfaces'] == "['lo']"
    assert said['connect'].startswith('OSError')
    assert {said[name] for name in ('usr', 'root', 'servers')} == {'OSError30'}  # read-only
    assert said['vsock'] == 'OSError97'  # of a family that is not supported
    assert said['unshare'] == said['ptrace'] == '-1 1'  # not permitted
    assert said['home'] == 'False False False'
    assert int(said['processes']) <= 2

  def test_a_server_has_no_rights_and_limits(self, world):
    world.reset(made(SHOP))
    pid = server_process(world)
    with open(f'/proc/{pid}/status', encoding='utf-8') as file:
      status = dict(line.rstrip('\n').split(':\t', 1) for line in file)
    assert '0' not in status['Uid'].split() + status['Gid'].split()
    assert int(status['CapEff'], 16) == 0 and int(status['CapPrm'], 16) == 0
    assert status['NoNewPrivs'] == '1'
    assert len(status['NSpid'].split()) == 2
    with open(f'/proc/{pid}/limits', encoding='utf-8') as file:
      limits = file.read()
    for name, value in (('Max address space', 2 << 30), ('Max processes', 128),
                        ('Max file size', 8 << 20)):
      (line,) = [line for line in limits.splitlines() if line.startswith(name)]
      assert line[len(name):].split()[:2] == [str(value)] * 2

  def test_a_world_of_another_episode_is_gone(self, world):
    world.reset(made(SHOP))
    world.step(ORDER_LAMP)
    world.counterfactual(ORDER_LAMP)
    other = made(SHOP | {'orders': []})
    world.reset(other)
    assert world.snapshot() == other.initial_state
    assert 'no order 101' in world.step(call_text('get_order', order_id=101)).observation


class TestGitFiles:

  @pytest.fixture
  def repository(self, tmp_path):
    """GIT with a staged file, on disk."""
    setup = GIT | {'staged': ['notes.txt']}
    for path, content in mcp_worlds.files(setup).items():
      (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
      (tmp_path / path).write_bytes(content)
    return tmp_path, setup

  def git(self, folder, *arguments):
    command = ['git', '-c', f'safe.directory={folder}', '-C', str(folder), *arguments]
    alone = os.environ | {'GIT_CONFIG_GLOBAL': os.devnull, 'GIT_CONFIG_NOSYSTEM': '1'}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=alone, timeout=60).stdout

  def test_git_reads_what_is_written(self, repository):
    folder, _ = repository
    assert self.git(folder, 'status', '--porcelain') == 'M  notes.txt\n?? todo.txt\n'
    assert self.git(folder, 'log', '--format=%s|%an|%ct') == (
        f'Add plan|agent|{git_files.DATE}\nStart notes|agent|{git_files.DATE}\n')
    assert self.git(folder, 'show', 'old:notes.txt') == 'alpha\nbeta\n'
    self.git(folder, 'fsck', '--strict')

  def test_reading_gives_what_was_described(self, repository):
    folder, setup = repository
    assert mcp_worlds.read_state('git', str(folder)) == mcp_worlds.state(setup)

  def test_what_git_leaves_is_read(self, repository):
    folder, _ = repository
    self.git(folder, '-c', 'user.name=a', '-c', 'user.email=a@b', 'commit', '-qm', 'Fix notes')
    self.git(folder, 'branch', 'team/next')
    self.git(folder, 'add', 'todo.txt')
    state = mcp_worlds.read_state('git', str(folder))
    assert 'log main: Fix notes, Add plan, Start notes' in state
    assert 'log team/next: Fix notes, Add plan, Start notes' in state
    assert '== todo.txt staged\ntea' in state and '== notes.txt\n' in state
    self.git(folder, 'checkout', '-q', '--detach', 'old')
    assert mcp_worlds.read_state('git', str(folder)).startswith('detached\nlog HEAD: Start notes\n')

  def test_damage_is_shown_not_raised(self, repository):
    folder, _ = repository
    (folder / '.git' / 'HEAD').write_text('ref: refs/heads/gone\n')
    assert mcp_worlds.read_state('git', str(folder)) == '(damaged repository)'
    (folder / 'shop.db').write_bytes(b'SQLite format 3\0' + bytes(100))
    assert mcp_worlds.read_state('shop', str(folder)) == '(damaged database)'
