"""Web pages as an environment: a real browser in its sandbox."""

import base64
import hashlib
import importlib.util
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import tarfile
import time

import hypothesis
import hypothesis.strategies as st
import pytest

from aw_jax.environments import collect, registry, web, web_actions, web_host, web_sites
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.web_browser import tree
from aw_jax.environments.web_tasks import page as pages
from aw_jax.environments.web_tasks import plans
from aw_jax.rewards.structure import tree_nodes
from aw_jax.trajectories import SUBMIT, Task, Verifier
from tests.environments.processes import descendants

NEEDS = ('bwrap', 'chromium', 'playwright', 'miniwob')
TEST_SEED = 9  # its last digit makes it so
LOCAL = {'todo_add', 'todo_done', 'todo_delete', 'todo_rename', 'todo_clear', 'wiki_write',
         'wiki_edit'}
HELD_OUT = {'unicode_test', 'click_tab_2_hard', 'login_user_popup', 'multi_layouts',
            'email_inbox_star_reply'}
ONE_OF_EACH_KIND = ('click_menu', 'click_scroll_list', 'drag_items', 'use_autocomplete',
                    'choose_date_easy', 'email_inbox_reply')
REPLAYED = ('click_collapsible_2', 'drag_sort_numbers', 'search_engine')


class TestActions:

  @pytest.mark.parametrize('text, name, arguments', [
      ("click('12')", 'click', {'bid': 12, 'button': 'left', 'modifiers': []}),
      (' click(12, "right", modifiers=["Shift"]) ', 'click',
       {'bid': 12, 'button': 'right', 'modifiers': ['Shift']}),
      ("fill('3', 'it\\'s')", 'fill', {'bid': 3, 'value': "it's"}),
      ("select_option('7', 'red')", 'select_option', {'bid': 7, 'options': ['red']}),
      ("select_option(bid='7', options=['a', 'b'])", 'select_option',
       {'bid': 7, 'options': ['a', 'b']}),
      ('scroll(0, -200.5)', 'scroll', {'delta_x': 0, 'delta_y': -200.5}),
      ('noop()', 'noop', {'wait_ms': 1000}), ('noop(1e5)', 'noop', {'wait_ms': 10000}),
      ('go_back()', 'go_back', {})])
  def test_calls(self, text, name, arguments):
    assert web_actions.parse(text) == (name, arguments)

  @pytest.mark.parametrize('text, problem', [
      ('', 'one call'), ('click', 'one call'), ("click('1'); click('2')", 'one call'),
      ("click('1'", 'one call'), ("page.click('1')", 'one call'), ('(' * 500, 'one call'),
      ("click('1')('2')", 'one call'), ('click(\0)', 'one call'),
      ("open('/etc/passwd')", 'no action open'), ("__import__('os')", 'no action __import__'),
      ("fill('1', open('x'))", 'constants'), ("fill('1', 'a' * 9)", 'constants'),
      ("fill('1', *['a'])", 'constants'), ("fill(**{'bid': '1'})", 'takes'),
      ("fill('1')", 'needs value'), ("fill('1', 'a', 'b')", 'takes'),
      ("fill('1', 'a', bid='2')", 'takes'), ("fill('1', text='a')", 'takes'),
      ("click('a')", 'bid is'), ("click('-1')", 'bid is'), ("click('\N{SUPERSCRIPT TWO}')", 'bid'),
      ('click(True)', 'bid is'), ("click('1', 'both')", 'button is'),
      ("click('1', modifiers=['Hyper'])", 'modifiers are'), ("fill('1', 2)", 'value is'),
      ("scroll('0', 1)", 'delta_x is'), ('scroll(0, 1e9)', 'delta_y is'),
      ("select_option('1', [1])", 'options is'), ("fill('1', '" + 'a' * 2000 + "')", 'at most')])
  def test_what_is_none(self, text, problem):
    with pytest.raises(web_actions.ActionError, match=problem):
      web_actions.parse(text)

  @hypothesis.given(st.text(max_size=40), st.text(max_size=40))
  def test_what_is_written_is_read(self, value, key):
    assert web_actions.parse(web_actions.text('fill', '3', value))[1]['value'] == value
    assert web_actions.parse(web_actions.text('press', 3, key))[1] == {'bid': 3, 'key_comb': key}


TREE = """document "Sign \\"up\\"", url="http://a.test/"
  [1] heading "Join"
  text "Name"
  [2] textbox "Name" value="A, b", required, focused
  [3] combobox value="red"
    option "red", selected
  [4] generic, clickable, class="close\""""
NODES = [(0, 0, 'document', 'Sign "up"', '', ['url="http://a.test/"']),
         (1, 1, 'heading', 'Join', '', []), (1, 0, 'text', 'Name', '', []),
         (1, 2, 'textbox', 'Name', 'A, b', ['required', 'focused']),
         (1, 3, 'combobox', '', 'red', []), (2, 0, 'option', 'red', '', ['selected']),
         (1, 4, 'generic', '', '', ['clickable', 'class="close"'])]


class TestTrees:

  def test_a_tree_as_text_and_back(self):
    assert tree.render(NODES) == TREE
    found = pages.parse(TREE)
    assert [(node.depth, int(node.number or 0), node.role, node.name, node.value,
             [state for state in node.states if state]) for node in found] == NODES

  def test_rewards_know_it_as_a_tree(self):
    assert [(node.role, node.name) for node in tree_nodes(TREE)][2:4] == [
        ('text', 'Name'), ('textbox', 'Name')]

  def test_what_is_long_is_cut(self):
    lines = tree.render([(0, 1, 'text', 'x' * 999, 'y' * 1999, [])] * 300).split('\n')
    assert len(lines) == tree.MAX_NODES + 1 and lines[-1] == '  more "50 nodes"'
    (node,) = pages.parse(lines[0])
    assert len(node.name) == 300 and len(node.value) == 1500
    assert tree_nodes('\n'.join(lines))

  def test_what_an_expert_finds(self):
    page = pages.Page('Write "Ada" into it', TREE)
    assert page.asked('"(.*)"') == ('Ada',)
    assert page.click('heading') == "click('1')" and page.fill(1, 'a') == "fill('3', 'a')"
    assert [node.name for node in page.inside(page.nodes[0])][:2] == ['Join', 'Name']
    assert page.holder(page.nodes[5]).number == '3' and page.texts() == ['Name']


@pytest.fixture(scope='module')
def world():
  """One environment for all tests of this file, as a worker has it for all its episodes."""
  with registry.make_environment('web') as environment:
    yield environment


def solved(world, family, seed=TEST_SEED):
  task = registry.make_task('web', family, seed)
  return run_episode(world, task, make_policy('expert', task), mark_changed_state=True)


@pytest.mark.requires(*NEEDS)
class TestTasks:

  def test_families_and_splits(self):
    assert set(registry.held_out('web')) == HELD_OUT | LOCAL
    train = registry.families('web', 'train')
    assert len(train) > 60 and not set(train) & (HELD_OUT | LOCAL)
    assert registry.split_of('web', 'click_menu', 9) == 'test'

  @pytest.mark.parametrize('family', ONE_OF_EACH_KIND)
  def test_the_expert_solves_it(self, world, family):
    episode = solved(world, family)
    assert episode.success, [(turn.action, turn.observation) for turn in episode.turns]
    assert not any(turn.observation.startswith('Error') for turn in episode.turns)
    assert all('reward' not in turn.observation.lower() for turn in episode.turns)

  @pytest.mark.requires('web sites')
  @pytest.mark.parametrize('family', ['todo_rename', 'wiki_write'])
  def test_the_expert_solves_what_is_local(self, world, family):
    episode = solved(world, family)
    assert episode.success and episode.verification.observation == episode.task.verifier.expected

  def test_a_task_is_a_function_of_its_seed(self, world):
    plans._played.cache_clear()
    first = registry.make_task('web', 'click_tab_2', 19)
    plans._played.cache_clear()
    assert registry.make_task('web', 'click_tab_2', 19) == first
    assert registry.make_task('web', 'click_tab_2', 29).setup != first.setup
    plan = registry.expert_plan(first)
    assert plan[-1] == SUBMIT and len(plan) <= first.max_turns
    assert first.instruction.startswith('Switch between the tabs')
    assert world.reset(first) == '' and world.snapshot() == first.initial_state

  def test_an_expert_that_is_lost_gives_up(self):
    def lost(page):
      yield page.click('button')
      yield page.click('nothing of the kind')

    setup = {'site': 'miniwob', 'path': '/miniwob/click-test-2.html', 'seed': 1}
    assert plans.play(lost, setup)['plan'] == ["click('1')"]

  def test_giving_up_does_not_solve(self, world):
    task = registry.make_task('web', 'login_user', TEST_SEED)
    world.reset(task)
    assert world.verify('verdict') == 'not solved'

  def test_a_wrong_answer_does_not_solve_and_does_not_show(self, world):
    task = registry.make_task('web', 'click_button_sequence', TEST_SEED)
    world.reset(task)
    step = world.step("click('2')")  # the second first
    world.step("click('1')")
    assert 'solved' not in step.observation and world.verify('verdict') == 'not solved'

  def test_the_noisy_expert_and_the_random_agent_play(self, world, tmp_path):
    policies = {'noisy_expert': 1, 'random': 1}
    found = collect.Collection('web', 3, 'train', policies, 3, 3, None, True)
    episodes = collect.write_shard(world, found, str(tmp_path), 0)
    assert len(episodes) == 3 and not any(episode.error for episode in episodes)
    turns = [turn for episode in episodes for turn in episode.turns]
    # Of screens: an action counts that changes what is shown, and an error does not.
    assert {turn.changed_state for turn in turns} == {True, False}
    assert not any(turn.changed_state for turn in turns if turn.observation.startswith('Error: '))
    assert any(turn.observation.startswith('document') for turn in turns)


def fixed(world, page, seed=1):
  """A page of MiniWoB++ without an expert."""
  setup = {'site': 'miniwob', 'path': f'/miniwob/{page}.html', 'seed': seed}
  world.reset(Task('web/x/0', 'web', 'x', 'test', 0, '', None, setup,
                   Verifier('command', 'solved', 'verdict'), 20))
  return world


@pytest.mark.requires(*NEEDS)
class TestPages:

  @pytest.mark.parametrize('family', REPLAYED)
  def test_a_replay_is_the_same(self, world, family):
    task = registry.make_task('web', family, TEST_SEED)
    episode = run_episode(world, task, make_policy('noisy_expert', task, 5))
    world.reset(task)
    for turn in episode.turns:
      assert world.step(turn.action).observation == turn.observation
      assert world.snapshot() == turn.state

  def test_another_browser_shows_the_same(self, world):
    task = registry.make_task('web', 'click_shades', TEST_SEED)
    episode = run_episode(world, task, make_policy('expert', task))
    with web.WebEnvironment(web_host.Host()) as other:
      other.reset(task)
      assert other.snapshot() == task.initial_state
      assert [other.step(turn.action).observation for turn in episode.turns] == [
          turn.observation for turn in episode.turns]

  def test_numbers_stay_with_their_elements(self, world):
    fixed(world, 'click-menu')
    before = pages.parse(world.snapshot())
    (opened,) = [node for node in before if node.name == 'Jinny']
    after = pages.parse(world.step(f"hover('{opened.number}')").observation)
    numbers = {node.name: node.number for node in after if node.number}
    assert all(numbers[node.name] == node.number for node in before if node.number and node.name)
    assert int(numbers['Lynett']) > max(int(node.number or 0) for node in before)

  def test_what_is_hidden_is_in_the_state_alone(self, world):
    fixed(world, 'click-menu')
    assert 'menuitem "Lynett", hidden' in world.snapshot()
    assert 'hidden' not in world.step('noop()').observation
    fixed(world, 'login-user')
    assert world.step("fill('2', 'ab')").observation.count('value="••"') == 1
    assert 'value="ab"' in world.snapshot()

  def test_neither_time_nor_reward_is_shown(self, world):
    fixed(world, 'click-test-2')
    shown = world.snapshot() + world.step('noop(5000)').observation + world.snapshot()
    assert not re.search(r'(?i)reward|time left|episode|\bsec\b|START', shown)
    assert world.step("click('1')").done
    assert not re.search(r'(?i)reward|time left|episode|\bsec\b|START', world.snapshot())

  def test_a_page_that_has_ended(self, world):
    fixed(world, 'click-test')
    first = world.step("click('1')")
    assert first.done and first.observation.startswith('document')
    assert world.step("click('1')") == web.Step(web.ENDED, done=True)
    assert world.verify('verdict') == 'solved'

  def test_time_passes_with_actions_alone(self, world):
    for wait, verdict in ((1000, 'solved'), (5000, 'not solved')):
      fixed(world, 'button-delay', 1002)  # three seconds from one click to the other
      for action in ("click('1')", f'noop({wait})', "click('2')"):
        world.step(action)
      assert world.verify('verdict') == verdict

  @pytest.mark.parametrize('action, answer', [
      ('jump', "Error: an action is one call such as click('12')"),
      ("click('9')", 'Error: there is no element 9'),
      ("fill('3', 'a')", 'Error: element 3 is no field'),
      ("select_option('1', 'a')", 'Error: element 1 is no list of options'),
      ("press('1', 'Nokey')", "Error: there is no key 'Nokey'"),
      ('go_back()', 'Error: there is no such page in the history'),
      ('go_forward()', 'Error: there is no such page in the history'),
      ("goto('http://example.com/')", 'Error: the address example.com does not answer'),
      ("goto('http://127.0.0.1/')", 'Error: the address 127.0.0.1 does not answer'),
      ("goto('http://[')", 'Error: this is no address'),
      *((f"goto('{address}')", 'Error: an address begins with http://') for address in (
          'file:///etc/passwd', 'FILE:///etc/passwd', 'view-source:file:///etc/passwd',
          'chrome://version', 'javascript:alert(1)', 'data:text/html,x', 'about:blank', ''))])
  def test_errors(self, world, action, answer):
    if world.snapshot() is None or 'Login' not in world.snapshot():
      fixed(world, 'login-user')
    before = world.snapshot()
    step = world.step(action)
    assert step.observation == answer and not step.done
    assert '[3] button "Login"' in world.snapshot()
    assert world.snapshot().replace(', focused', '') == before.replace(', focused', '')

  def test_a_list_that_was_opened_does_not_stay_in_the_way(self, world):
    fixed(world, 'choose-list')
    assert 'combobox' in world.step("click('1')").observation
    assert world.step("select_option('1', 'Arabela')").observation.count('"Arabela"') == 2
    assert world.step("click('2')").done

  def test_fields_that_take_no_such_value(self, world):
    fixed(world, 'guess-number')
    number = next(node.number for node in pages.parse(world.snapshot())
                  if node.role == 'spinbutton')
    assert world.step(f"fill('{number}', 'many')").observation == (
        f'Error: element {number} does not take this value')
    fixed(world, 'choose-date')
    assert world.step("fill('1', '01/01/2016')").observation == 'Error: element 1 is read only'

  def test_disabled_elements(self, world):
    fixed(world, 'sign-agreement')
    number = next(node.number for node in pages.parse(world.snapshot()) if node.name == 'Agree')
    assert world.step(f"click('{number}')").observation == f'Error: element {number} is disabled'

  def test_another_page_cannot_be_solved_in_its_place(self, world):
    fixed(world, 'use-slider')
    easy = world.step("goto('http://miniwob.test/miniwob/click-test.html')").observation
    assert 'Click Me!' in easy
    (button,) = [node for node in pages.parse(easy) if node.role == 'button']
    world.step(f"click('{button.number}')")
    assert world.verify('verdict') == 'not solved'

  def test_pages_back_and_forth(self, world):
    fixed(world, 'login-user')
    world.step("fill('1', 'a')")
    assert 'Error response' in world.step("goto('http://miniwob.test/none')").observation
    back = world.step('go_back()').observation
    assert 'Login User Task' in back and 'value=' not in back
    assert 'Error response' in world.step('go_forward()').observation

  @pytest.mark.requires('web sites')
  def test_what_is_stored_is_part_of_the_state(self, world):
    task = registry.make_task('web', 'todo_add', TEST_SEED)
    world.reset(task)
    assert 'storage "todos-' in task.initial_state
    for action in registry.expert_plan(task)[:-1]:
      world.step(action)
    title = task.verifier.expected.split('\n')[-1][4:]
    assert world.snapshot().count(title) > 1
    link = next(node.number for node in pages.parse(world.snapshot()) if node.name == 'TodoMVC')
    gone = world.step(f"click('{link}')").observation
    assert gone.endswith('text "This site cannot be reached"')
    assert 'listitem' in world.step('go_back()').observation
    assert world.step('go_forward()').observation == gone
    assert world.step("goto('http://todomvc.test/license.md')").observation == (
        'Error: this address is a file, not a page')
    assert world.verify('todos') == task.verifier.expected  # wherever one is
    assert title in world.step('noop()').observation


HOSTILE = """<!doctype html><title>hostile</title><p id="said">nothing</p>
<button onclick="for (;;) {}">hang</button>
<button onclick="const all = []; for (;;) all.push(new Array(1e6).fill(Math.random()))">eat</button>
<button onclick="ask()">ask</button><button onclick="alert(1)">alert</button>
<button onclick="window.open('http://todomvc.test/examples/vanillajs/index.html')">open</button>
<a href="file:///etc/passwd">file</a>
<script>
async function ask() {
  const said = [];
  for (const address of ['file:///etc/passwd', 'http://127.0.0.1:22/', 'http://192.0.2.1/',
                         'http://example.com/', 'http://miniwob.test/miniwob/click-test.html'])
    said.push(await fetch(address).then(() => 'read', () => 'refused'));
  document.getElementById('said').textContent = said.join(' ');
}
</script>"""
HOSTILE_TASK = Task(
    'web/x/0', 'web', 'x', 'test', 0, '', None,
    {'site': 'todomvc', 'path': '/examples/vanillajs/index.html', 'seed': 0}, Verifier(
        'command', 'x', 'todos'), 20)


@pytest.fixture
def hostile(tmp_path, monkeypatch):
  """A browser whose site is a hostile page."""
  monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path))
  path = web_sites.SITES['todomvc'].path
  os.makedirs(os.path.dirname(path))
  with open(path, 'w', encoding='utf-8') as file:
    file.write(HOSTILE)
  host = web_host.Host(web_host.Limits(call_seconds=20))
  with web.WebEnvironment(host) as environment:
    environment.reset(HOSTILE_TASK)
    yield environment


def press(environment, name):
  number = next(node.number for node in pages.parse(environment.snapshot()) if node.name == name)
  return environment.step(f"click('{number}')").observation


@pytest.mark.requires(*NEEDS)
class TestFailures:

  def test_a_page_reads_no_file_and_has_no_network(self, hostile):
    said, deadline = press(hostile, 'ask'), time.monotonic() + 60
    while 'refused' not in said and time.monotonic() < deadline:  # the network is no clock of ours
      said = hostile.step('noop()').observation
    assert 'refused refused refused refused refused' in said
    assert 'refused' in press(hostile, 'file')  # the link does nothing
    assert 'root:' not in hostile.snapshot()

  def test_dialogs_and_new_windows_are_closed(self, hostile):
    assert 'hostile' in press(hostile, 'alert')
    assert 'hostile' in press(hostile, 'open')
    assert len(pages.parse(hostile.snapshot())) > 5

  def test_a_page_that_hangs(self, hostile, monkeypatch):
    monkeypatch.setattr(hostile._host, '_limits', web_host.Limits(call_seconds=2))
    with pytest.raises(BrokenEnvironmentError, match='the browser did not answer in time'):
      press(hostile, 'hang')
    monkeypatch.undo()
    monkeypatch.setenv('AW_JAX_CACHE', os.path.dirname(os.path.dirname(os.path.dirname(
        os.path.dirname(os.path.dirname(web_sites.SITES['todomvc'].path))))))
    with pytest.raises(BrokenEnvironmentError, match='has ended, and its pages'):
      hostile.step('noop()')

  def test_a_page_that_eats_memory(self, hostile):
    with pytest.raises(BrokenEnvironmentError, match='the browser (failed|ended)') as error:
      press(hostile, 'eat')
    assert '\n' not in str(error.value)
    hostile.reset(HOSTILE_TASK)
    assert 'hostile' in hostile.step('noop()').observation

  def test_a_killed_browser(self):
    task = registry.make_task('web', 'click_option', TEST_SEED)
    host = web_host.Host()

    class Killer:
      name = 'expert'
      expert = make_policy('expert', task)

      def act(self, *arguments):
        if arguments[-1]:
          os.kill(host._process.pid, signal.SIGKILL)
        return self.expert.act(*arguments)

    with web.WebEnvironment(host) as environment:
      broken = run_episode(environment, task, Killer())
      assert broken.success is None and len(broken.turns) == 1
      assert broken.error.startswith('the browser ended') and '\n' not in broken.error
      assert run_episode(environment, task, make_policy('expert', task)).success
      inside = descendants(host._process.pid)
    assert host._process is None and inside
    deadline = time.monotonic() + 20
    while any(os.path.exists(f'/proc/{pid}') for pid in inside) and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not [pid for pid in inside if os.path.exists(f'/proc/{pid}')]
    environment.close()  # twice is fine

  def test_before_any_reset(self):
    environment = web.WebEnvironment(web_host.Host())
    for act in (environment.step, environment.verify):
      with pytest.raises(BrokenEnvironmentError, match='was not opened'):
        act('noop()')

  def test_the_processes_have_no_rights_and_limits(self, world):
    fixed(world, 'click-test')
    found = [pid for pid in descendants(web_host.shared()._process.pid)
             if 'chromium' in os.readlink(f'/proc/{pid}/exe')]
    assert len(found) > 2
    for pid in found:
      with open(f'/proc/{pid}/status', encoding='utf-8') as file:
        status = dict(line.rstrip('\n').split(':\t', 1) for line in file)
      assert '0' not in status['Uid'].split() and int(status['CapEff'], 16) == 0
      assert status['NoNewPrivs'] == '1'
      with open(f'/proc/{pid}/limits', encoding='utf-8') as file:
        limits = file.read()
      for name, value in (('Max data size', 2 << 30), ('Max processes', 400),
                          ('Max file size', 512 << 20)):
        (line,) = [line for line in limits.splitlines() if line.startswith(name)]
        assert line[len(name):].split()[1] == str(value)


PROBE = """
import os, socket
def attempt(action):
  try:
    action()
    return 'done'
  except OSError as error:
    return type(error).__name__ + str(error.errno)
print('interfaces', [name for _, name in socket.if_nameindex()])
print('connect', attempt(lambda: socket.create_connection(('192.0.2.1', 80), timeout=5)))
print('usr', attempt(lambda: open('/usr/made', 'w')))
print('pages', attempt(lambda: open('/opt/sites/miniwob/made', 'w')))
print('home', os.path.exists('/home'), os.path.exists('/etc/passwd'), os.path.exists('/work'))
print('tmp', attempt(lambda: open('/tmp/big', 'wb').write(bytes(600 << 20))))
"""


@pytest.mark.requires(*NEEDS)
def test_the_sandbox_has_no_network_and_little_to_write():
  """The probe runs in the driver's place, with more rights than it ever has."""
  command = web_host._command(web_host.Limits())
  python = command[:command.index('--') + 2]
  run = subprocess.run([*python, '-c', PROBE], capture_output=True, text=True, timeout=120,
                       check=True)
  said = dict(line.split(' ', 1) for line in run.stdout.splitlines())
  assert said['interfaces'] == "['lo']" and said['connect'].startswith('OSError')
  assert {said['usr'], said['pages']} == {'OSError30'}  # read-only
  assert said['home'] == 'False False False' and said['tmp'] == 'OSError28'  # full


class TestMissing:

  @pytest.mark.requires('bwrap', 'chromium')
  @pytest.mark.parametrize('package', ['playwright', 'miniwob'])
  def test_packages_are_named(self, monkeypatch, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(web_host.importlib.util, 'find_spec',
                        lambda name: None if name == package else found(name) or 'there')
    with pytest.raises(MissingProgramError) as error:
      web_host.Host().request(op='start')
    assert str(error.value) == (
        f"the package {package!r} is not installed: pip install -e '.[web]' && "
        'pip install --no-deps miniwob==1.1.0')

  @pytest.mark.parametrize('program, remedy', [('bwrap', 'bubblewrap'), ('chromium', 'chromium')])
  def test_programs_are_named(self, monkeypatch, program, remedy):
    monkeypatch.setattr(web_host.shutil, 'which',
                        lambda name: None if name == program else f'/usr/bin/{name}')
    with pytest.raises(MissingProgramError) as error:
      web_host.Host().request(op='start')
    assert str(error.value) == f'{program} not found: apt-get install -y {remedy}'

  def test_families_without_their_site_are_left_out(self):
    registry._missing.cache_clear()
    families = {family.name: family for family in registry._families('web').values()}
    assert all(families[name].requires for name in LOCAL)
    assert not any(families[name].requires for name in HELD_OUT)


class TestFetching:

  @pytest.fixture
  def registry_of_npm(self, tmp_path, monkeypatch):
    """An `npm` that packs one small package, and what it packs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode='w:gz') as archive:
      for name in ('examples/vanillajs/index.html', 'examples/other/index.html', 'license.md'):
        member = tarfile.TarInfo(f'package/{name}')
        member.size = len(name)
        archive.addfile(member, io.BytesIO(name.encode()))
    programs = tmp_path / 'bin'
    programs.mkdir()
    (tmp_path / 'todomvc-0.1.1.tgz').write_bytes(data.getvalue())
    for name in ('npm', 'node', 'bwrap'):
      (programs / name).write_text(
          f'#!/bin/sh\nfor to; do :; done\ncp {tmp_path}/todomvc-0.1.1.tgz "$to" 2>&1\n')
      (programs / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv('PATH', f'{programs}:/usr/bin:/bin')
    monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path / 'cache'))
    return data.getvalue()

  def site(self, data):
    return web_sites.Site(
        'todomvc', '0.1.1', base64.b64encode(hashlib.sha512(data).digest()).decode(),
        ('examples/vanillajs', 'license.md'), 'examples/vanillajs/index.html')

  def test_what_is_needed_is_kept(self, registry_of_npm):
    site = self.site(registry_of_npm)
    web_sites.fetch(site)
    web_sites.fetch(site)  # it is there
    assert sorted(os.listdir(site.folder)) == ['examples', 'license.md']
    assert os.listdir(os.path.join(site.folder, 'examples')) == ['vanillajs']
    assert os.listdir(os.path.dirname(site.folder)) == ['todomvc-0.1.1']

  def test_another_file_is_refused(self, registry_of_npm):
    site = self.site(registry_of_npm + b'.')
    with pytest.raises(MissingProgramError, match='todomvc@0.1.1 is not the file that was tried'):
      web_sites.fetch(site)
    assert not os.path.exists(site.folder)

  def test_no_such_package(self, registry_of_npm, tmp_path):
    os.unlink(tmp_path / 'todomvc-0.1.1.tgz')
    with pytest.raises(MissingProgramError, match='npm gives no todomvc@0.1.1'):
      web_sites.fetch(self.site(registry_of_npm))

  def test_a_missing_npm_is_named(self, registry_of_npm, monkeypatch):
    found = shutil.which
    monkeypatch.setattr(web_sites.shutil, 'which',
                        lambda name: None if name == 'npm' else found(name))
    with pytest.raises(MissingProgramError) as error:
      web_sites.fetch(self.site(registry_of_npm))
    assert str(error.value) == 'npm not found: apt-get install -y npm'
