"""tau2's and BFCL's worlds as tool servers in their sandboxes, and the episodes behind them."""

import json
import os
import signal
import subprocess
import sys

import pytest

from aw_jax import trajectories
from aw_jax.environments import benchmark_servers, caches, mcp_servers, registry
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_tasks import benchmarks
from aw_jax.environments.servers import benchmark
from aw_jax.environments.servers.benchmark import OPEN, SOLVED, STATE, VERDICT
from aw_jax.prompts import templates
from tests.environments.processes import server_process

FAMILIES = [family.name for family in benchmarks.FAMILIES]
needs_servers = pytest.mark.requires('bwrap', *benchmark_servers.SERVERS)


@pytest.fixture(scope='module')
def world():
  with registry.make_environment('mcp') as environment:
    yield environment


@needs_servers
class TestTasks:

  @pytest.mark.parametrize('family', FAMILIES)
  def test_expert_solves_them_and_nothing_done_does_not(self, world, family):
    for index in range(3):
      task = registry.task_at('mcp', 'test', index, among=(family,))
      world.reset(task)
      assert world.snapshot() == task.initial_state and len(task.initial_state) <= 6000
      assert world.verify(VERDICT) == OPEN
      trajectory = run_episode(world, task, make_policy('expert', task))
      assert trajectory.success and trajectory.verification.observation == SOLVED
      assert len(trajectory.turns) < task.max_turns
      assert trajectory.turns[-1].state != task.initial_state

  @pytest.mark.parametrize('family', FAMILIES)
  def test_parts_share_no_task(self, family):
    seeds = {'test': 9, 'validation': 8, 'cpt': 0, 'sft': 60, 'rl': 80}
    parts = {name: {task.name for task in benchmarks.part(family, seed)}
             for name, seed in seeds.items()}
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    for split, pool in (('train', 'sft'), ('validation', None), ('test', None)):
      found = {registry.task_at('mcp', split, index, 5, pool, (family,)).setup['task']
               for index in range(30)}
      assert found <= parts[pool or split]

  def test_tau2_keeps_its_own_test_tasks(self):
    for name in ('retail', 'airline', 'telecom'):
      assert {task.split for task in benchmarks.part(name, 9)} == {'test'}
      assert {task.split for seed in (0, 8, 60, 80)
              for task in benchmarks.part(name, seed)} == {'train'}

  def test_tasks_declare_their_tools(self):
    task = registry.make_task('mcp', 'telecom', 0)
    prompt = templates.task_prompt(task, 'v0', size='full')
    assert 'toggle_airplane_mode()' in prompt and 'get_customer_by_phone(phone_number' in prompt
    assert task.setup == json.loads(json.dumps(task.setup))

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'random'])
  def test_policies_never_break_them(self, world, policy):
    episodes = []
    for family in FAMILIES:
      task = registry.make_task('mcp', family, 39)
      episodes.append(
          run_episode(world, task, make_policy(policy, task, 1), mark_changed_state=True))
      assert not episodes[-1].error, episodes[-1]
      assert trajectories.from_json(json.loads(json.dumps(trajectories.to_json(episodes[-1]))))
    assert any(turn.changed_state for episode in episodes for turn in episode.turns)
    assert policy == 'noisy_expert' or sum(episode.success for episode in episodes) <= 1

  @pytest.mark.parametrize('family', ['retail', 'telecom', 'bfcl_travel'])
  def test_replays_are_the_same(self, world, family):
    task = registry.make_task('mcp', family, 12)
    first = run_episode(world, task, make_policy('explorer', task, 5), mark_changed_state=True)
    with registry.make_environment('mcp') as other:
      again = run_episode(other, task, make_policy('explorer', task, 5))
    assert [(turn.observation, turn.state) for turn in first.turns] == [
        (turn.observation, turn.state) for turn in again.turns]


@needs_servers
class TestEnvironment:

  def test_counterfactuals_are_fresh_starts(self, world):
    task = registry.make_task('mcp', 'telecom', 9)
    look, toggle = call_text('check_network_status'), call_text('toggle_airplane_mode')
    world.reset(task)
    before = world.counterfactual(look).observation
    toggled = world.counterfactual(toggle).observation
    assert world.snapshot() == task.initial_state
    assert world.step(toggle).observation == toggled
    state = world.snapshot()
    assert 'changed device.airplane_mode' in state
    assert world.counterfactual(toggle).observation == toggled  # not back again
    assert world.counterfactual(look).observation == before
    assert world.snapshot() == state
    world.step(toggle)
    assert 'changed device.airplane_mode' not in world.snapshot()

  @pytest.mark.parametrize('action, said', [
      (VERDICT, 'Error: invalid JSON'), (STATE, 'Error: invalid JSON'),
      (call_text(VERDICT), 'Error: Unknown tool: world://verdict'),
      (call_text('nope'), 'Error: Unknown tool: nope'),
      (call_text('get_order_details'), 'Error: '),
      (call_text('get_order_details', order_id='#W0'), 'Error: Order not found'),
      (call_text('get_order_details', order_id={'a': [1]}), 'Error: ')])
  def test_bad_calls_are_answered(self, world, action, said):
    task = registry.make_task('mcp', 'retail', 9)
    world.reset(task)
    assert world.step(action).observation.startswith(said)
    assert world.snapshot() == task.initial_state

  def test_tools_of_other_interfaces_are_unknown(self, world):
    task = registry.make_task('mcp', 'bfcl_files', 9)
    world.reset(task)
    assert world.step(call_text('startEngine', ignitionMode='START')).observation == (
        'Error: Unknown tool: startEngine')

  def test_a_killed_server_marks_the_episode_and_the_next_one_works(self, world):
    task = registry.make_task('mcp', 'bfcl_files', 9)
    world.reset(task)
    os.kill(server_process(world), signal.SIGKILL)
    with pytest.raises(BrokenEnvironmentError, match='the bfcl server'):
      world.verify(VERDICT)
    assert run_episode(world, task, make_policy('expert', task)).success

  def test_missing_services_are_named(self, monkeypatch, tmp_path):
    monkeypatch.setattr(caches, 'folder', lambda name: str(tmp_path / name))
    assert mcp_servers.missing('airline') == (
        'the airline service is not there: python -m experiments.fetch_mcp')

  def test_what_cannot_be_fetched_is_said_in_a_sentence(self, monkeypatch, tmp_path):
    monkeypatch.setattr(caches, 'folder', lambda name: str(tmp_path / name))
    monkeypatch.setattr(benchmark_servers, '_BENCHMARKS', ('no such package',))
    with pytest.raises(MissingProgramError, match='pip could not install the benchmarks'):
      benchmark_servers.fetch()
    assert not os.path.exists(benchmark_servers.packages_folder())


# Run where the packages are: their own checks of a state against what ours say of it.
AGREE = """
import sys
from aw_jax.environments.servers import benchmark
from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import state_checker
def theirs(one, other):
  if hasattr(one, 'instances'):
    return state_checker(one.instances, other.instances)['valid']
  return all(mine.get_db_hash() == yours.get_db_hash()
             for mine, yours in zip(one._kits, other._kits, strict=True))
for name in sys.argv[1:]:
  found = benchmark.make_benchmark(name)
  for task in found.tasks[::40]:
    solved = benchmark.solve(found, task)
    half = found.fresh(task)
    for call in found.gold(task)[:-1]:
      half.call(*call)
    for other in (found.fresh(task), half, benchmark.solve(found, task)):
      assert solved.equals(other) == theirs(solved, other), (name, task)
  print(name, len(found.tasks[::40]))
"""


@needs_servers
def test_states_are_the_same_where_the_benchmarks_say_so():
  environment = {'PATH': os.environ['PATH'], 'PYTHONPATH': ':'.join(
      [os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
       benchmark_servers.packages_folder()])}
  run = subprocess.run(
      [os.path.realpath(sys.executable), '-c', AGREE, *benchmark_servers.SERVERS],
      capture_output=True, text=True, check=False, timeout=120, env=environment)
  assert run.returncode == 0, run.stderr[-2000:]
  assert run.stdout == 'retail 3\nairline 2\ntelecom 3\nbfcl 5\n'


class TestEpisodes:
  """The record of an episode, with a world that adds up."""

  class Sums:
    tools = {'add': {'readOnly': False}, 'show': {'readOnly': True}}
    made = 0

    def fresh(self, task):
      self.made += 1
      return TestEpisodes.Sum()

    def gold(self, task):
      return [('add', {'number': 2}), ('add', {'number': 3})]

    def describe(self, task):
      return {'tools': ['add', 'show']}

  class Sum:
    total = 0

    def call(self, name, arguments):
      self.total += arguments.get('number', 0)
      return str(self.total), False

    def text(self):
      return str(self.total)

    def equals(self, other):
      return self.total == other.total

  def test_a_record_is_replayed(self, tmp_path):
    path = tmp_path / 'episode.json'
    path.write_bytes(benchmark_servers.files('sum')['episode.json'])
    first, sums = path.read_bytes(), self.Sums()
    episodes = benchmark.Episodes(sums, str(tmp_path))
    assert episodes.call('add', {'number': 2}) == ('2', False)
    assert episodes.call('show', {}) == ('2', False)
    assert episodes.read(VERDICT) == OPEN
    record = path.read_bytes()
    path.write_bytes(first)
    assert episodes.read(STATE) == '0'
    path.write_bytes(record)
    made = sums.made
    assert episodes.call('add', {'number': 3}) == ('5', False) and sums.made == made
    assert episodes.read(VERDICT) == SOLVED
    again = benchmark.Episodes(self.Sums(), str(tmp_path))
    assert again.read(STATE) == '5' and again.call('drop', {}) == ('Unknown tool: drop', True)
