"""The os domain: GTK programs on real X servers in their sandboxes."""

import json
import os
import random
import re
import shutil
import signal
import time

import pytest

from aw_jax import trajectories
from aw_jax.environments import collect, desktop, desktop_host, desktop_screen, registry
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.desktop_tasks import ACTIONS
from aw_jax.environments.episode import masked, run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import CallError, call_text
from aw_jax.prompts import domains
from aw_jax.trajectories import SUBMIT, Task, Verifier

TEST_SEED = 9  # its last digit makes it so
HELD_OUT = {'thunar_copy', 'note_result'}
# One family of each program and kind of check; the others' experts run in collections.
SOLVED = ('editor_replace', 'editor_setting', 'calculator_press', 'files_trash', 'thunar_copy',
          'open_with')
EDITOR = {'files': {'list.txt': 'milk\n', 'box/old.txt': ''}, 'folders': ['box'],
          'programs': [['mousepad', 'list.txt']]}
LINE = re.compile(r' *\[\d+\] [a-z-]+( "([^"\\]|\\.)*")?( text="([^"\\]|\\.)*")?'
                  r'( cursor=\d+| marked="([^"\\]|\\.)*")?( \([a-z, ]+\))?')
BAD_ACTIONS = (
    ('click it', 'invalid JSON'),
    (call_text('run', command='id'), "there is no tool 'run'; there are click, double_click, "),
    (call_text('read_file', path='list.txt'), "there is no tool 'read_file'"),
    (call_text('click'), 'click takes element or label'),
    (call_text('click', element='2'), 'element must be an integer'),
    (call_text('click', element=99), "there is no element '99' on the screen"),
    (call_text('click', label=''), "there is no label '' on the screen"),
    (call_text('drag', element=1, to=98), "there is no element '98' on the screen"),
    (call_text('scroll', element=1, direction='left'), 'direction must be one of up, down'),
    (call_text('key', keys='power'), 'keys must be one of enter, escape, '),
    (call_text('key', keys='hyper+a'), 'keys must be one of '),
    (call_text('key', keys=''), 'keys must be one of '),
    (call_text('type', text='a\nb'), 'text must be 1 to 200 printable ASCII characters'),
    (call_text('type', text=''), 'text must be'))


def node(depth, role, name='', text='', marks=(), box=(0, 0, 10, 10), selection=None):
  return [depth, role, name, text, list(marks), list(box), selection]


NODES = (
    node(0, 'frame', 'a - Editor', marks=['active'], box=(100, 200, 300, 400)),
    node(1, 'filler', 'Some Widget'),
    node(2, 'menu', 'File   '),
    node(2, 'text', text='one\ntwo', marks=['focused', 'editable'], selection=[1, 3]),
    node(2, 'label', '10:35', '10:35', box=(10, 20, 30, 40)),
    node(2, 'label', 'far', box=(0, 0, 0, 5)))


def a_task(setup=EDITOR):
  return Task('os/made/1', 'os', 'made', 'train', 1, 'x', None, setup, Verifier('answer', '1'), 9)


class TestScreen:

  def test_nodes_as_text(self):
    screen = desktop_screen.read(NODES, {})
    assert screen.text == (
        '[1] frame "a - Editor" (active)\n  [2] menu "File"\n'
        '  [3] text text="one\\ntwo" marked="ne" (focused, editable)\n  [4] label "10:35"')
    ((start, end),) = screen.volatile
    assert screen.text[start:end] == '10:35'
    assert all(LINE.fullmatch(line) for line in screen.text.split('\n'))

  def test_the_mouse_acts_on_centres_and_on_title_bars(self):
    places = [element.place for element in desktop_screen.read(NODES, {}).elements]
    assert places[0] == (250, 210) and places[-1] == (25, 40)

  def test_elements_keep_their_numbers(self):
    numbers = {}
    desktop_screen.read(NODES, numbers)
    opened = [node(0, 'frame', '*a - Editor'), NODES[1], NODES[2], node(3, 'menu item', 'New'),
              *NODES[3:]]
    assert [one.number for one in desktop_screen.read(opened, numbers).elements] == [1, 2, 5, 3, 4]

  def test_what_is_long_is_cut(self):
    many = [node(0, 'frame', 'x'), *(node(1, 'push button', f'{n:0100}') for n in range(200))]
    text = desktop_screen.read(many, {}).text
    assert len(text) < desktop_screen.MAX_SCREEN_CHARACTERS + 100 and 'more elements]' in text
    assert len(desktop_screen.read([node(0, 'frame', 'y' * 5000)], {}).text) < 200

  def test_files_as_text(self):
    screen = desktop_screen.read([node(0, 'frame', 'x')], {})
    assert desktop_screen.state(screen, {'b.txt': 'two\n', 'a': None}) == (
        '[1] frame "x"\nfolder "a"\nfile "b.txt" text="two\\n"')

  @pytest.mark.parametrize('keys, expected', [
      ('ctrl+s', 'ctrl+s'), ('Ctrl+Shift+N', 'ctrl+shift+n'), ('enter', 'Return'), ('f2', 'F2')])
  def test_keys(self, keys, expected):
    assert desktop.x_keys(keys) == expected

  @pytest.mark.parametrize('keys', ['super+l', 'ctrl+', '+', 'ctrl+alt', 'é'])
  def test_unknown_keys(self, keys):
    with pytest.raises(CallError, match='keys must be one of'):
      desktop.x_keys(keys)


@pytest.fixture(scope='module')
def world():
  """One environment for all tests of this file, as a worker has it for all its episodes."""
  with registry.make_environment('os') as environment:
    yield environment
  desktop_host.close_parked()


@pytest.mark.requires('bwrap', 'desktop')
class TestTasks:

  def test_families_and_splits(self):
    assert set(registry.held_out('os')) == HELD_OUT
    assert len(registry.families('os', 'train')) >= 12

  @pytest.mark.parametrize('family', SOLVED)
  def test_experts_solve_and_the_initial_state_is_what_is_shown(self, world, family):
    task = registry.make_task('os', family, TEST_SEED)
    assert task.setup == json.loads(json.dumps(task.setup)) and task.split == 'test'
    screen = world.reset(task)
    assert world.snapshot() == task.initial_state and task.initial_state.startswith(screen)
    assert not task.verifier.passes(
        world.verify(task.verifier.command) if task.verifier.command else None)
    steps = [world.step(action) for action in registry.expert_plan(task)[:-1]]
    assert not [step for step in steps if step.observation.startswith('Error')]
    assert task.verifier.passes(world.verify(task.verifier.command))

  def test_a_random_agent_solves_nothing(self, world):
    task = registry.make_task('os', 'editor_write', TEST_SEED)
    episode = run_episode(world, task, make_policy('random', task, 3))
    assert episode.success is False and not episode.error

  def test_mistakes_stay_calls(self):
    task = registry.make_task('os', 'editor_write', TEST_SEED)
    rng = random.Random(2)
    for action in registry.expert_plan(task)[:-1]:
      mistake = ACTIONS.mistake(action, task, task.initial_state, rng)
      assert json.loads(mistake)['name'] in desktop.TOOLS and SUBMIT not in mistake
    for make in (ACTIONS.explore, ACTIONS.wander, ACTIONS.change):
      assert json.loads(make(task, task.initial_state, rng))['name'] in desktop.TOOLS
    assert json.loads(ACTIONS.anything(task, rng))['name'] in desktop.TOOLS


@pytest.mark.requires('bwrap', 'desktop')
class TestDesktop:

  def test_every_line_is_an_element(self, world):
    screen = world.reset(a_task())
    screens = [screen, *(world.step(call_text('click', label=label)).observation
                         for label in ('File', 'Save As...'))]
    assert all(LINE.fullmatch(line) for text in screens for line in text.split('\n'))

  def test_bad_actions_are_answered_and_change_nothing(self, world):
    world.reset(a_task())
    state = world.snapshot()
    for action, said in BAD_ACTIONS:
      assert world.step(action).observation.startswith(f'Error: {said}'), action
    assert world.snapshot() == state

  def test_hidden_checks(self, world):
    world.reset(a_task())
    assert world.verify(call_text('list_files')) == 'box/\nbox/old.txt\nlist.txt'
    assert world.verify(call_text('read_file', path='list.txt')) == 'milk\n'
    assert world.verify(call_text('read_file', path='no.txt')).startswith('Error')
    assert world.verify(call_text('read_text', window='Mousepad')) == 'milk\n'
    assert world.verify(call_text('read_text', window='No')).startswith('Error')
    assert world.verify(call_text('read_setting', key='word-wrap')) == 'default'

  def test_nothing_passes_from_one_episode_to_the_next(self, world):
    first = world.reset(a_task())
    for action in (call_text('type', text='tea'), call_text('key', keys='ctrl+a'),
                   call_text('key', keys='ctrl+c'), call_text('key', keys='ctrl+s'),
                   call_text('click', label='View'), call_text('click', label='Line Numbers')):
      world.step(action)
    assert world.verify(call_text('read_setting', key='show-line-numbers')) == 'true'
    assert world.reset(a_task()) == first
    assert world.verify(call_text('read_setting', key='show-line-numbers')) == 'default'
    pasted = world.step(call_text('key', keys='ctrl+v')).observation
    assert 'tea' not in pasted and 'text="milk\\n"' in pasted

  def test_recorded_episodes_replay(self, world):
    for family, policy in (('editor_save_as', 'expert'), ('files_folder', 'expert'),
                           ('editor_write', 'explorer')):
      task = registry.make_task('os', family, TEST_SEED)
      episode = run_episode(world, task, make_policy(policy, task, 5))
      record = trajectories.from_json(json.loads(json.dumps(trajectories.to_json(episode))))
      world.reset(record.task)
      for turn in record.turns:
        step = world.step(turn.action)
        spans = step.info.get('runtime_metadata', ())
        assert masked(step.observation, spans) == masked(turn.observation, turn.runtime_metadata)

  def test_a_program_that_is_closed_is_gone(self, world):
    world.reset(a_task())
    assert world.step(call_text('key', keys='alt+f4')).observation == desktop_screen.EMPTY
    assert world.step(call_text('key', keys='enter')).observation == desktop_screen.EMPTY
    assert world.verify(call_text('read_file', path='list.txt')) == 'milk\n'

  def test_no_network_and_nothing_of_the_host(self):
    arguments, descriptors = desktop_host._command(desktop_host.Limits())
    for descriptor in descriptors:
      os.close(descriptor)
    assert '--unshare-net' in arguments and '--bind' not in arguments

  def test_the_tools_are_those_of_the_prompts(self):
    tools = domains.FACTS['os'].toolsets['']
    assert {tool.name for tool in tools} == set(desktop.TOOLS)
    for tool in tools:
      known = {argument for form in desktop.TOOLS[tool.name] for argument in form}
      assert {name.rstrip('?') for name, _ in tool.arguments} == known


@pytest.mark.requires('bwrap', 'desktop')
class TestFailures:

  def test_a_crashed_program_breaks_the_episode_and_the_next_one_works(self, world):
    world.reset(a_task())
    for process in sandboxed(world, 'mousepad'):
      os.kill(process, signal.SIGKILL)
    with pytest.raises(BrokenEnvironmentError, match='mousepad crashed, signal 9'):
      world.step(call_text('key', keys='end'))
    assert world.reset(a_task()).startswith('[1] frame')

  def test_a_killed_desktop_is_told_in_one_sentence(self, world):
    world.reset(a_task())
    os.kill(world._desktop._process.pid, signal.SIGKILL)
    with pytest.raises(BrokenEnvironmentError, match='the desktop ended') as error:
      world.step(call_text('key', keys='end'))
    assert '\n' not in str(error.value)

  def test_a_hung_program_is_told(self, world, monkeypatch):
    world.reset(a_task())
    for process in sandboxed(world, 'mousepad'):
      os.kill(process, signal.SIGSTOP)
    world._desktop._limits = desktop_host.Limits(call_seconds=2)
    start = time.monotonic()
    with pytest.raises(BrokenEnvironmentError, match='the desktop did not answer in time'):
      world.step(call_text('key', keys='end'))
    assert time.monotonic() - start < 10

  def test_before_any_reset_and_after_close(self):
    environment = desktop.DesktopEnvironment()
    with pytest.raises(BrokenEnvironmentError, match='was not reset'):
      environment.step(call_text('key', keys='end'))
    assert environment.snapshot() is None
    environment.close()
    environment.close()

  @pytest.mark.parametrize('program', ['bwrap', 'Xvfb', 'openbox', 'mousepad'])
  def test_missing_programs_are_named(self, monkeypatch, program):
    found = shutil.which
    monkeypatch.setattr(desktop_host.shutil, 'which',
                        lambda name: None if name == program else found(name))
    with pytest.raises(MissingProgramError) as error:
      desktop_host.begin(EDITOR)
    assert str(error.value) == f'{program} not found: {desktop_host.INSTALL}'

  def test_workers_collect(self, tmp_path):
    summary = collect.collect('os', 2, tmp_path, split='test', seed=2, workers=1,
                              episodes_per_shard=1, progress=False)
    assert summary['errors'] == 0 and summary['episodes'] == 2
    assert 0 < summary['changed_state_steps'] <= summary['steps']


def sandboxed(world, name):
  """Process ids, on this machine, of a program in a world's sandbox."""
  found, waiting = [], [world._desktop._process.pid]
  while waiting:
    pid = waiting.pop()
    with open(f'/proc/{pid}/comm', encoding='utf-8') as file:
      if file.read().strip() == name:
        found.append(pid)
    for thread in os.listdir(f'/proc/{pid}/task'):
      with open(f'/proc/{pid}/task/{thread}/children', encoding='utf-8') as file:
        waiting += [int(child) for child in file.read().split()]
  return found
