"""Text games as an environment: real engines in their sandboxes."""

import collections
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess

import pytest

from aw_jax import trajectories
from aw_jax.environments import collect, game_host, registry, textgame
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.game_engines import inform
from aw_jax.environments.textgame_tasks import ACTIONS
from aw_jax.environments.textgame_tasks.actions import _tracked
from aw_jax.trajectories import SUBMIT

NEEDS = ('bwrap', 'java', 'textworld', 'textworld_express', 'scienceworld')
TEST_SEED = 9  # its last digit makes it so
FAMILIES = registry.families('textgame')
ONE_OF_EACH = ('tw_coin', 'twx_arithmetic', 'sw_short_lived')
REPLAYED = ('tw_coin', 'tw_cooking', 'twx_cooking', 'twx_simon', 'sw_short_lived', 'sw_power',
            'sw_conductor', 'sw_mix')
HELD_OUT = {'tw_treasure', 'twx_order', 'sw_lifespans'}

Fact = collections.namedtuple('Fact', 'name arguments')
Argument = collections.namedtuple('Argument', 'name type')


def facts(*lines):
  """'in key:k box:c' and so on as facts."""
  return [Fact(line.split()[0], [Argument(*word.replace('_', ' ').split(':'))
                                 for word in line.split()[1:]]) for line in lines]


HOUSE = facts(
    'at P:P hall:r', 'north_of kitchen:r hall:r', 'south_of hall:r kitchen:r',
    'link hall:r oak_door:d kitchen:r', 'link kitchen:r oak_door:d hall:r', 'locked oak_door:d',
    'at chest:c hall:r', 'closed chest:c', 'in key:k chest:c', 'match key:k oak_door:d',
    'at table:s kitchen:r', 'on apple:f table:s', 'raw apple:f', 'in leek:f I:I', 'sliced leek:f',
    'in part:ingredient RECIPE:RECIPE', 'base apple:f part:ingredient', 'raw part:ingredient',
    'diced part:ingredient', 'edible apple:f')
HOUSE_TEXT = """player in: hall
hall: north to kitchen by oak door (locked)
kitchen: south to hall by oak door (locked)
in hall: chest (closed)
in kitchen: table
on table: apple (raw)
in chest: key
key: key fits oak door
recipe: apple diced
carried: leek (sliced)"""


class TestState:

  def test_facts_as_text(self):
    assert inform.render(HOUSE) == HOUSE_TEXT
    shuffled = list(HOUSE)
    random.Random(1).shuffle(shuffled)
    assert inform.render(shuffled) == HOUSE_TEXT

  def test_what_is_at_hand(self):
    near, carried = _tracked(HOUSE_TEXT)
    assert near == ['chest', 'key', 'oak door'] and carried == ['leek']
    assert _tracked('') == ([], [])
    assert _tracked('player in: hut\nhut: no exits\ncarried: nothing') == ([], [])

  @pytest.mark.parametrize('command', [
      'quit', 'Q', 'look. quit', 'look then restart', 'undo', 'save', 'tw-print facts', ' restore'])
  def test_commands_from_outside_the_game(self, command):
    assert inform._OUTSIDE.search(command)

  @pytest.mark.parametrize('command', [
      'look', 'take type Q box', 'put saver on undone table', 'examine restart button'])
  def test_commands_of_the_game(self, command):
    assert not inform._OUTSIDE.search(command)

  def test_the_screens_status_line_is_cut(self):
    text = 'You look.\n\n>     -= Cubicle =-0/3'
    assert inform._STATUS.sub('', text) == 'You look.'
    assert inform._STATUS.sub('', '-= Cubicle =-\nYou look.') == '-= Cubicle =-\nYou look.'


@pytest.fixture(scope='module')
def world():
  """One environment for all tests of this file, as a worker has it for all its episodes."""
  with registry.make_environment('textgame') as environment:
    yield environment


def host_process(host, java=False):
  """The engine's process: bwrap, its init in the sandbox, the engine, and below that its `java`."""
  pid = host._process.pid
  for _ in range(3 if java else 2):
    with open(f'/proc/{pid}/task/{pid}/children', encoding='utf-8') as file:
      children = file.read().split()
    if not children:
      break
    pid = int(children[0])
  return pid


@pytest.mark.requires(*NEEDS)
class TestTasks:

  def test_families_and_splits(self):
    assert set(registry.held_out('textgame')) == HELD_OUT
    assert len(registry.families('textgame', 'train')) == 13
    for family, seed, split in (('tw_coin', 8, 'validation'), ('tw_coin', 9, 'test'),
                                ('tw_coin', 10, 'train'), ('twx_order', 10, 'test')):
      assert registry.split_of('textgame', family, seed) == split

  def test_folds_follow_the_splits(self):
    for seed, fold in ((8, 'dev'), (9, 'test'), (10, 'train')):
      for family in ('twx_arithmetic', 'sw_short_lived'):
        assert registry.make_task('textgame', family, seed).setup['game']['fold'] == fold

  def test_experts_solve_and_random_agents_do_not(self, world):
    tasks = [registry.make_task('textgame', family, TEST_SEED) for family in FAMILIES]
    solved = {}
    for policy in ('expert', 'random'):
      episodes = [run_episode(world, task, make_policy(policy, task, 3)) for task in tasks]
      assert not [episode.error for episode in episodes if episode.error]
      solved[policy] = sum(episode.success for episode in episodes) / len(episodes)
    assert solved['expert'] >= 0.95 and solved['random'] <= 0.2

  @pytest.mark.parametrize('family', FAMILIES)
  def test_initial_state_is_what_the_environment_shows(self, world, family):
    task = registry.make_task('textgame', family, TEST_SEED)
    assert world.reset(task) == ''
    assert world.snapshot() == task.initial_state
    assert task.setup == json.loads(json.dumps(task.setup))
    assert world.verify(task.verifier.command) == 'not won yet'

  @pytest.mark.parametrize('family', ONE_OF_EACH)
  def test_the_agent_cannot_ask_for_the_verdict(self, world, family):
    task = registry.make_task('textgame', family, TEST_SEED)
    world.reset(task)
    observation = world.step(task.verifier.command).observation
    assert 'won' not in observation and 'score' not in observation
    assert world.snapshot() == task.initial_state

  @pytest.mark.parametrize('family', ONE_OF_EACH)
  def test_a_game_that_is_won_has_ended(self, world, family):
    task = registry.make_task('textgame', family, TEST_SEED)
    world.reset(task)
    steps = [world.step(action) for action in registry.expert_plan(task)[:-1]]
    assert steps[-1].done and steps[-1].info['score'] == 1
    assert not any(step.done for step in steps[:-1])
    state = world.snapshot()
    for action in ('look', 'inventory'):
      step = world.step(action)
      assert step.observation == textgame.ENDED and step.done
    assert world.snapshot() == state and world.verify('verdict') == 'won'

  def test_score_is_told_only_by_the_game_itself(self, world):
    for family in FAMILIES:
      if not family.startswith('tw_'):
        task = registry.make_task('textgame', family, TEST_SEED)
        episode = run_episode(world, task, make_policy('expert', task))
        assert not [t for t in episode.turns if re.search(r'\bscore|reward', t.observation)]


@pytest.mark.requires(*NEEDS)
class TestDeterminism:

  @pytest.mark.slow
  def test_recorded_episodes_replay_on_other_engines(self, world):
    """These are started anew, make the games anew, and play them in another order."""
    tasks = [registry.make_task('textgame', family, TEST_SEED) for family in REPLAYED]
    episodes = [run_episode(world, task, make_policy(policy, task, 5), mark_changed_state=True)
                for task in tasks for policy in ('explorer', 'expert')]
    hosts = {engine: game_host.Host(engine) for engine in game_host.ENGINES}
    with textgame.TextGameEnvironment(hosts) as other:
      for episode in reversed(episodes):
        record = trajectories.from_json(json.loads(json.dumps(trajectories.to_json(episode))))
        assert record == episode
        engine, game = record.task.setup['engine'], record.task.setup['game']
        assert hosts[engine].request(op='describe', game=game) == game_host.describe(engine, game)
        other.reset(record.task)
        assert other.snapshot() == record.task.initial_state
        for turn in record.turns:
          assert other.step(turn.action).observation == turn.observation
          assert other.snapshot() == turn.state

  @pytest.mark.parametrize('family', ONE_OF_EACH)
  def test_two_environments_do_not_meet(self, world, family):
    task = registry.make_task('textgame', family, TEST_SEED)
    alone = run_episode(world, task, make_policy('expert', task))
    with registry.make_environment('textgame') as other:
      other.reset(task)
      world.reset(task)
      for turn in alone.turns:
        for environment in (world, other):
          assert environment.step(turn.action).observation == turn.observation
    assert world.verify('verdict') == 'won'  # closing the other left this one alone

  @pytest.mark.parametrize('family', ONE_OF_EACH)
  def test_counterfactuals_equal_a_fresh_start(self, world, family):
    task = registry.make_task('textgame', family, TEST_SEED)
    episode = run_episode(world, task, make_policy('noisy_expert', task, 4),
                          mark_changed_state=True)
    plain = run_episode(world, task, make_policy('noisy_expert', task, 4))
    assert [t.observation for t in plain.turns] == [t.observation for t in episode.turns]
    for turn in episode.turns:
      world.reset(task)
      assert turn.changed_state == (world.step(turn.action).observation != turn.observation)


@pytest.mark.requires(*NEEDS)
class TestPolicies:

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'tracker', 'random'])
  def test_they_never_break_it(self, world, policy):
    changed = 0
    for family in FAMILIES:
      task = registry.make_task('textgame', family, TEST_SEED)
      episode = run_episode(world, task, make_policy(policy, task, 1), mark_changed_state=True)
      assert not episode.error and episode.success is not None
      changed += sum(turn.changed_state for turn in episode.turns)
    assert changed or policy == 'random'

  def test_mistakes_stay_commands(self):
    for family in FAMILIES:
      task = registry.make_task('textgame', family, TEST_SEED)
      changed = 0
      for action in registry.expert_plan(task)[:-1]:
        mistake = ACTIONS.mistake(action, task, task.initial_state, random.Random(2))
        assert mistake.strip() and '\n' not in mistake and SUBMIT not in mistake
        changed += mistake != action
      assert changed

  @pytest.mark.parametrize('family', ONE_OF_EACH)
  def test_any_text_is_answered(self, world, family):
    world.reset(registry.make_task('textgame', family, TEST_SEED))
    for action in ('', ' ', 'x' * 5000, 'look\nlook', '\0\x1b[2J', '"', 'caf\u00e9 \U0001f600',
                   'quit', 'y', '0', '-1', '<think>', '[looking - succeeded]'):
      assert isinstance(world.step(action).observation, str)
    assert not world.step('inventory').done

  def test_workers_collect_what_one_environment_does(self, world, tmp_path):
    summary = collect.collect('textgame', 2, tmp_path, split='test', seed=2, workers=1,
                              episodes_per_shard=1, progress=False)
    assert summary['errors'] == 0
    found = [episode for path in sorted(tmp_path.glob('shard-*'))
             for episode in trajectories.read_jsonl(path, 'textgame')]
    collection = collect.Collection('textgame', 2, 'test', collect.DEFAULT_POLICIES, 2, 1, None,
                                    True)
    assert found == [collect.run_numbered_episode(world, collection, i) for i in range(2)]


@pytest.mark.requires(*NEEDS)
class TestFailures:

  @pytest.mark.parametrize('family, engine, java, said', [
      ('tw_coin', 'textworld', False, 'ended'), ('twx_simon', 'express', False, 'ended'),
      ('twx_simon', 'express', True, 'failed')])
  def test_a_killed_engine_marks_the_episode_and_the_next_one_works(
      self, world, family, engine, java, said):
    task = registry.make_task('textgame', family, TEST_SEED)

    class Killer:
      name = 'expert'
      def __init__(self):
        self.expert = make_policy('expert', task)
      def act(self, *arguments):
        if len(arguments[2]) == 1:
          os.kill(host_process(game_host.shared(engine), java), signal.SIGKILL)
        return self.expert.act(*arguments)

    broken = run_episode(world, task, Killer(), mark_changed_state=True)
    assert broken.success is None and len(broken.turns) == 1
    assert broken.error.startswith(f'the {engine} game process {said}')
    assert '\n' not in broken.error
    with pytest.raises(BrokenEnvironmentError, match='has ended, and its games'):
      world.step('look')
    assert run_episode(world, task, make_policy('expert', task)).success

  def test_a_hung_engine_is_given_up(self, monkeypatch):
    task = registry.make_task('textgame', 'twx_simon', TEST_SEED)
    host = game_host.Host('express')
    with textgame.TextGameEnvironment({'express': host}) as environment:
      environment.reset(task)
      os.kill(host_process(host), signal.SIGSTOP)
      monkeypatch.setattr(host, '_limits', game_host.Limits(call_seconds=2))
      with pytest.raises(BrokenEnvironmentError, match='the express game process did not answer'):
        environment.step('jump')
      monkeypatch.undo()
      assert run_episode(environment, task, make_policy('expert', task)).success
    assert host._process is None
    environment.close()  # twice is fine

  def test_a_dying_engine_is_asked_again_for_a_task(self, monkeypatch):
    asked = []

    class Dying:
      def request(self, **request):
        asked.append(request['op'])
        if len(asked) < 3:
          raise BrokenEnvironmentError('the express game process ended')
        return {'plan': []}

    monkeypatch.setattr(game_host, '_hosts', {'express': Dying()})
    assert game_host.describe('express', {'kind': 'made up'}) == {'plan': []}
    assert asked == ['describe'] * 3

  def test_before_any_reset(self):
    environment = textgame.TextGameEnvironment({})
    for act in (environment.step, environment.counterfactual):
      with pytest.raises(BrokenEnvironmentError, match='was not reset'):
        act('look')

  @pytest.mark.parametrize('engine, package', [
      ('textworld', 'textworld'), ('express', 'textworld_express'),
      ('scienceworld', 'scienceworld')])
  def test_missing_packages_are_named(self, monkeypatch, engine, package):
    found = importlib.util.find_spec
    monkeypatch.setattr(game_host.importlib.util, 'find_spec',
                        lambda name: None if name == package else found(name))
    with pytest.raises(MissingProgramError) as error:
      game_host.Host(engine).request(op='start')
    assert str(error.value) == (
        f"the package {package!r} is not installed: pip install -e '.[games]'")

  @pytest.mark.parametrize('program, remedy', [
      ('bwrap', 'bubblewrap'), ('java', 'default-jre-headless')])
  def test_missing_programs_are_named(self, monkeypatch, program, remedy):
    found = shutil.which
    monkeypatch.setattr(game_host.shutil, 'which',
                        lambda name: None if name == program else found(name))
    with pytest.raises(MissingProgramError) as error:
      game_host.Host('scienceworld').request(op='start')
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
library = ctypes.CDLL(None, use_errno=True)
print('vsock', attempt(lambda: socket.socket(40, socket.SOCK_STREAM)))
print('unshare', library.unshare(0x10000000), ctypes.get_errno())
print('ptrace', library.ptrace(0, 0, 0, 0), ctypes.get_errno())
print('code', attempt(lambda: open('/opt/games/made', 'w')))
print('home', os.path.exists('/home'), os.path.exists('/etc/passwd'), os.path.exists('/work'))
print('processes', len([name for name in os.listdir('/proc') if name.isdigit()]))
"""


@pytest.mark.requires(*NEEDS)
class TestSandbox:

  @pytest.mark.parametrize('engine', ['textworld', 'scienceworld'])
  def test_no_network_and_nothing_to_write(self, engine):
    """The probe runs in the engine's place."""
    command = game_host._command(engine, game_host.Limits())
    python = command[:command.index('-m')]
    run = subprocess.run([*python, '-c', PROBE], capture_output=True, text=True, timeout=120,
                         check=True)
    said = dict(line.split(' ', 1) for line in run.stdout.splitlines())
    assert said['interfaces'] == "['lo']"
    assert said['connect'].startswith('OSError')
    assert {said[name] for name in ('usr', 'root', 'code')} == {'OSError30'}  # read-only
    assert said['vsock'] == 'OSError97'  # of a family that is not supported
    assert said['unshare'] == said['ptrace'] == '-1 1'  # not permitted
    assert said['home'] == 'False False False'
    assert int(said['processes']) <= 2

  def test_an_engine_has_no_rights_and_limits(self, world):
    world.reset(registry.make_task('textgame', 'twx_simon', TEST_SEED))
    pid = host_process(game_host.shared('express'))
    with open(f'/proc/{pid}/status', encoding='utf-8') as file:
      status = dict(line.rstrip('\n').split(':\t', 1) for line in file)
    assert '0' not in status['Uid'].split() + status['Gid'].split()
    assert int(status['CapEff'], 16) == 0 and int(status['CapPrm'], 16) == 0
    assert status['NoNewPrivs'] == '1'
    with open(f'/proc/{pid}/limits', encoding='utf-8') as file:
      limits = file.read()
    for name, value in (('Max address space', 4 << 30), ('Max processes', 256),
                        ('Max file size', 128 << 20)):
      (line,) = [line for line in limits.splitlines() if line.startswith(name)]
      assert line[len(name):].split()[:2] == [str(value)] * 2
