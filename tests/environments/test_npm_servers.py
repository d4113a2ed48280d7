"""The servers filesystem, memory and everything: real ones, run by node in their sandboxes."""

import asyncio
import json
import os
import shutil
import signal

import pytest

from aw_jax import trajectories
from aw_jax.environments import (
  caches,
  mcp_servers,
  mcp_tasks,
  mcp_worlds,
  npm_servers,
  npm_worlds,
  registry,
)
from aw_jax.environments.base import MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_servers import INSIDE
from aw_jax.prompts.domains import FACTS
from aw_jax.trajectories import Task, Verifier
from tests.environments.processes import server_process

pytestmark = pytest.mark.requires('bwrap', *npm_servers.SERVERS)

FAMILIES = [family.name for family in mcp_tasks.FAMILIES
            if family.name.startswith(('fs_', 'memory_', 'everything_'))]
FILES = {'server': 'filesystem', 'files': {'a/one.txt': 'red\nblue\n', 'b/two.md': 'pear\n'}}
GRAPH = {'server': 'memory', 'entities': [['Ann', 'person', ['likes tea']], ['Oslo', 'city', []]],
         'relations': [['Ann', 'lives in', 'Oslo']]}


def made(setup):
  return Task('mcp/made/1', 'mcp', 'made', 'train', 1, 'Try.', mcp_worlds.state(setup), setup,
              Verifier('answer', ''), 10)


@pytest.fixture(scope='module')
def world():
  with registry.make_environment('mcp') as environment:
    yield environment


class TestTasks:

  @pytest.mark.parametrize('family', FAMILIES)
  def test_expert_solves_them(self, world, family):
    for index in range(4):
      task = registry.task_at('mcp', 'test', index, among=(family,))
      world.reset(task)
      assert world.snapshot() == task.initial_state
      if task.verifier.kind == 'command':
        assert not task.verifier.passes(world.verify(task.verifier.command))
      trajectory = run_episode(world, task, make_policy('expert', task))
      assert trajectory.success and len(trajectory.turns) < task.max_turns, trajectory

  def test_families_of_each_server(self):
    held_out = set(registry.held_out('mcp'))
    for name, least in (('fs_', 4), ('memory_', 3), ('everything_', 2)):
      mine = {family for family in FAMILIES if family.startswith(name)}
      assert len(mine - held_out) >= least and mine & held_out

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'tracker', 'random'])
  def test_policies_never_break_them(self, world, policy):
    changed = solved = 0
    for family in FAMILIES:
      task = registry.make_task('mcp', family, 31)
      trajectory = run_episode(world, task, make_policy(policy, task, 1), mark_changed_state=True)
      assert not trajectory.error, trajectory
      assert trajectories.from_json(json.loads(json.dumps(trajectories.to_json(trajectory))))
      changed += sum(turn.changed_state is True for turn in trajectory.turns)
      solved += trajectory.success
    assert changed or policy == 'random'
    assert policy == 'noisy_expert' or solved <= 2

  @pytest.mark.parametrize('family', ['fs_archive', 'memory_move', 'everything_weather'])
  def test_same_seed_and_actions_twice(self, world, family):
    task = registry.make_task('mcp', family, 12)
    first = run_episode(world, task, make_policy('explorer', task, 5), mark_changed_state=True)
    with registry.make_environment('mcp') as other:
      again = run_episode(other, task, make_policy('explorer', task, 5))
    assert [turn.state for turn in first.turns] == [turn.state for turn in again.turns]
    for one, two in zip(first.turns, again.turns, strict=True):
      if not one.runtime_metadata:
        assert one.observation == two.observation

  def test_a_series_without_them_is_that_of_the_default_install(self, monkeypatch):
    """The default families' tasks are the same ones, in the same order."""
    mine = tuple(family.name for family in mcp_tasks.FAMILIES
                 if not family.optional and not family.held_out)
    there = [registry.task_at('mcp', 'train', index, among=mine) for index in range(40)]
    everything = {task.id for task in registry.tasks('mcp', 'train', 120)}
    gone = frozenset(family.name for family in mcp_tasks.FAMILIES if family.optional)
    monkeypatch.setattr(registry, '_missing', lambda domain: gone)
    assert list(registry.tasks('mcp', 'train', 40)) == there
    assert {task.id for task in there} <= everything


class TestAnswers:

  @pytest.mark.parametrize('tool, arguments, said', [
      ('read_text_file', {'path': f'{INSIDE}/none.txt'}, 'Error: ENOENT: no such file'),
      ('read_text_file', {'path': '/etc/hostname'}, 'Error: Access denied'),
      ('read_text_file', {'path': f'{INSIDE}/../../etc/hostname'}, 'Error: Access denied'),
      ('read_text_file', {}, 'Error: MCP error -32602: Input validation error'),
      ('move_file', {'source': f'{INSIDE}/a/one.txt', 'destination': f'{INSIDE}/b/two.md'},
       'Error: Destination already exists'),
      ('nope', {}, 'Error: MCP error -32602: Tool nope not found')])
  def test_bad_calls_are_answered(self, world, tool, arguments, said):
    task = made(FILES)
    world.reset(task)
    assert world.step(call_text(tool, **arguments)).observation.startswith(said)
    assert world.snapshot() == task.initial_state

  def test_times_of_files_are_marked(self, world):
    world.reset(made(FILES))
    step = world.step(call_text('get_file_info', path=f'{INSIDE}/a/one.txt'))
    marked = [step.observation[start:end] for start, end in step.info['runtime_metadata']]
    assert len(marked) == 3 and all('GMT' in text for text in marked)

  def test_files_by_hand(self, world):
    world.reset(made(FILES))
    read = call_text('read_text_file', path=f'{INSIDE}/a/one.txt')
    assert world.counterfactual(read).observation == 'red\nblue'
    world.step(call_text('move_file', source=f'{INSIDE}/a/one.txt',
                         destination=f'{INSIDE}/b/three.txt'))
    assert world.snapshot() == '== a/\n== b/three.txt\nred\nblue\n== b/two.md\npear'
    assert world.counterfactual(read).observation == 'red\nblue'
    assert world.step(read).observation.startswith('Error: ENOENT')

  def test_a_graph_by_hand(self, world):
    world.reset(made(GRAPH))
    world.step(call_text('delete_entities', entityNames=['Oslo']))
    assert world.snapshot() == 'Ann (person): likes tea'
    look = call_text('open_nodes', names=['Oslo'])
    assert '"lives in"' in world.counterfactual(look).observation
    assert world.step(look).observation == npm_worlds.indented({'entities': [], 'relations': []})

  def test_what_everything_keeps_ends_with_the_episode(self, world):
    task = registry.make_task('mcp', 'everything_sum', 1)
    toggle = call_text('toggle-simulated-logging')
    for _ in range(2):
      world.reset(task)
      assert world.step(toggle).observation.startswith('Started')
      assert world.counterfactual(call_text('echo', message='x')) is None
    assert world.step(toggle).observation.startswith('Stopped')

  def test_what_is_no_text_is_named(self, world):
    world.reset(registry.make_task('mcp', 'everything_sum', 1))
    assert '[image]' in world.step(call_text('get-tiny-image')).observation
    links = world.step(call_text('get-resource-links', count=1)).observation
    assert '[link demo://resource/dynamic/blob/1 Blob Resource 1]' in links
    step = world.step(call_text('get-resource-reference', resourceId=2))
    assert 'plaintext resource created at' in step.observation and step.info['runtime_metadata']

  @pytest.mark.parametrize('setup', [FILES, GRAPH, {'server': 'everything'}])
  def test_tools_are_those_that_prompts_name(self, world, setup):
    world.reset(made(setup))
    server = world._server
    listed = asyncio.run_coroutine_threadsafe(server._session.list_tools(), server._loop).result()
    found = {tool.name: {name if name in tool.input_schema.get('required', ()) else f'{name}?'
                         for name in tool.input_schema.get('properties', {})}
             for tool in listed.tools}
    told = {tool.name: {name for name, _ in tool.arguments}
            for tool in FACTS['mcp'].toolsets[setup['server']]}
    assert told == found


class TestFailures:

  def test_a_killed_server_marks_the_episode_and_the_next_one_works(self, world):
    task = made(FILES)
    world.reset(task)
    os.kill(server_process(world), signal.SIGKILL)
    trees = call_text('directory_tree', path=INSIDE)
    with pytest.raises(Exception, match='the filesystem server ended'):
      world.step(trees)
    world.reset(task)
    assert '"one.txt"' in world.step(trees).observation

  def test_missing_servers_and_programs_are_named(self, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
      patch.setattr(caches, 'folder', lambda name: str(tmp_path / name))
      assert mcp_servers.missing('memory') == (
          'the memory server is not there: python -m experiments.fetch_mcp')
    found = shutil.which
    monkeypatch.setattr(shutil, 'which', lambda name: None if name == 'node' else found(name))
    assert mcp_servers.missing('memory') == 'node not found: apt-get install -y nodejs npm'
    monkeypatch.setattr(caches, 'folder', lambda name: str(tmp_path / name))
    with pytest.raises(MissingProgramError, match='node not found'):
      npm_servers.fetch()

  def test_damage_is_shown_not_raised(self, tmp_path):
    (tmp_path / 'memory.jsonl').write_text('{"type": "entity"}\n')
    assert npm_worlds.read_graph(str(tmp_path)) == '(damaged graph)'

  def test_endless_files_are_cut(self, tmp_path):
    (tmp_path / 'long.txt').write_text('x' * 100_000)
    assert len(npm_worlds.read_files(str(tmp_path))) < 2000
