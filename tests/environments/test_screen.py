"""The terminal's full-screen mode: keystrokes into a tmux, the screen's text, its task families."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from aw_jax.environments import experts, registry, screen, terminal
from aw_jax.environments.base import MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.sandbox import Limits
from aw_jax.environments.terminal_tasks.screens import keys
from aw_jax.trajectories import SUBMIT, Task, Verifier

FILES = {'a.txt': 'alpha beta\ngamma\n', 'docs/c.txt': 'one\ntwo\n',
         'long.txt': ''.join(f'line {i}\n' for i in range(40))}
FORM = 'an action is a JSON array of {"keystrokes": string, "duration": seconds}'
SETUP = {'files': FILES, 'screen': [40, 10]}
LS = '~$ ls\na.txt  docs  long.txt\n~$'


def task_of(setup):
  return Task('terminal/x/1', 'terminal', 'x', 'train', 1, 'do', None, setup,
              Verifier('command', '~$', 'cd; :'), 10)


@pytest.fixture(scope='module')
def environment():
  with terminal.TerminalEnvironment(Limits(seconds=4)) as made:
    yield made


def observe(environment, *actions):
  """Resets, acts, and returns the last observation."""
  assert environment.reset(task_of(SETUP), 1) == '~$'
  return [environment.step(action).observation for action in actions][-1]


class _Script:
  """Plays given actions."""

  name = 'script'

  def __init__(self, actions):
    self._actions = actions

  def act(self, task, first_observation, turns):
    return self._actions[len(turns)]


@pytest.mark.requires('bwrap', 'tmux')
class TestScreen:

  @pytest.mark.parametrize('actions, expected', [
    ([keys('ls\n')], LS),
    ([keys('ls\n'), keys('')], LS),
    ([keys('cd docs\n', 'cat c.txt\n')], '~$ cd docs\n~/docs$ cat c.txt\none\ntwo\n~/docs$'),
    ([keys('ls\n'), keys('clear\n')], '~$'),
    ([keys('echo unfinished')], '~$ echo unfinished'),
    ([keys('echo a;')], '~$ echo a;'),
    ([keys('-n x\n')], '~$ -n x\nbash: -n: command not found\n~$'),
    ([keys('echo häß "\'$HOME\n', '"\n')], '~$ echo häß "\'$HOME\n> "\nhäß \'/home/agent\n\n~$'),
    ([keys('echo one\n', 'Up', '\n')], '~$ echo one\none\n~$ echo one\none\n~$'),
    ([keys('read x; echo "[$x]"\n'), keys('yes\n')], '~$ read x; echo "[$x]"\nyes\n[yes]\n~$'),
    ([keys('cat\n'), keys('a\n', 'C-d')], '~$ cat\na\na\n~$'),
    ([keys('sleep 60\n'), keys('C-c')], '~$ sleep 60\n^C\n~$'),
    ([keys('seq 30\n')], '\n'.join(map(str, range(22, 31))) + '\n~$'),
    ([keys('exit\n')], '[the shell ended; new screen]\n~$'),
    ([keys('tmux kill-server\n'), keys('echo on\n')], '~$ echo on\non\n~$'),
    ([keys('while :; do :; done\n'), keys('C-c')], '~$ while :; do :; done\n^C\n~$'),
    (['ls'], f'[{FORM}]\n~$'),
    ([keys('ls\n'), '[{"keystrokes": "ls\\n"}]'], f'[{FORM}]\n{LS}'),
  ])
  def test_of_actions(self, environment, actions, expected):
    assert observe(environment, *actions) == expected

  @pytest.mark.requires('less')
  def test_a_pager_takes_the_screen_and_gives_it_back(self, environment):
    pages = ['\n'.join(f'line {i}' for i in range(start, start + 9)) for start in (0, 20)]
    assert observe(environment, keys('ls\n'), keys('less long.txt\n')) == f'{pages[0]}\nlong.txt'
    assert environment.step(keys('/line 20\n')).observation == f'{pages[1]}\n:'
    assert environment.step(keys('q')).observation == LS[:-1] + '$ less long.txt\n~$'

  @pytest.mark.requires('nano')
  def test_an_editor_writes_a_file_when_it_is_told_to(self, environment):
    shown = observe(environment, keys('nano a.txt\n', 'new\n'))
    assert 'GNU nano' in shown and '\nnew\nalpha beta\ngamma\n' in shown
    assert '== a.txt\nalpha beta' in environment.snapshot()
    assert environment.step(keys('C-o', '\n', 'C-x')).observation == '~$ nano a.txt\n~$'
    assert '== a.txt\nnew\nalpha beta\ngamma\n==' in environment.snapshot()

  def test_a_prompt_ends_the_wait_and_nothing_else_does(self, environment):
    environment.reset(task_of(SETUP), 1)
    start = time.monotonic()
    action = json.dumps([{'keystrokes': 'sleep 0.5; echo done\n', 'duration': 3}])
    assert environment.step(action).observation == '~$ sleep 0.5; echo done\ndone\n~$'
    assert time.monotonic() - start < 2.5
    start = time.monotonic()
    action = json.dumps([{'keystrokes': 'clear; sleep 60\n', 'duration': 0.6}])
    assert environment.step(action).observation == ''
    assert 0.6 < time.monotonic() - start < 3

  def test_waiting_ends_before_the_sandbox_kills(self, environment):
    action = json.dumps([{'keystrokes': 'sleep 60\n', 'duration': 9}] * 3)
    assert observe(environment, action, keys('C-c')).startswith('~$ sleep 60\nsleep 60\n')

  def test_the_state_is_home_and_where_the_shell_is(self, environment):
    observe(environment, keys('cd docs\n', 'echo three > d.txt\n'))
    assert environment.snapshot() == terminal.initial_state(
        {'files': {**FILES, 'docs/d.txt': 'three\n'}}) + '\ncwd ~/docs'

  def test_the_hidden_check_sees_files_alone(self, environment):
    observe(environment, keys('cat() { echo fooled; }\n', 'cd docs\n', 'nano ../a.txt\n'))
    assert environment.verify('cd; cat a.txt') == 'alpha beta\ngamma\n~$'

  def test_unpredictable_numbers_are_marked_as_long_as_they_may_be_seen(self, environment):
    environment.reset(task_of(SETUP), 1)
    for action in (keys('sleep 60 &\n'), keys('echo\n')):
      step = environment.step(action)
      numbers = [step.observation[start:end] for start, end in step.info['runtime_metadata']]
      assert step.observation.startswith(f'~$ sleep 60 &\n[1] {numbers[2]}\n')

  def test_what_kills_all_ends_the_screen_alone(self, environment):
    assert observe(environment, keys('echo kept > k\n'), keys('kill -9 -1\n')).endswith('~$')
    assert environment.step(keys('cat k\n')).observation == '~$ cat k\nkept\n~$'

  def test_the_screen_works_again_after_a_fork_bomb(self, environment):
    environment.reset(task_of(SETUP), 1)
    actions = [keys('bomb() { bomb | bomb & }; bomb\n'), *[keys('C-c', 'clear\n', 'pwd\n')] * 5]
    shown = [environment.step(action).observation for action in actions]
    assert '~$ pwd\n/home/agent\n~$' in shown and 'Traceback' not in ''.join(shown)

  def test_escapes_are_the_screens_business(self, environment):
    action = keys(r"printf '\033[31mred\033[0m\033]0;title\007\a\n'; clear; printf 'a\rb\n'" '\n')
    assert observe(environment, action) == 'b\n~$'

  def test_counterfactuals_are_typed_on_a_fresh_screen(self, environment):
    actions = [keys('ls\n'), keys('clear\n'), keys('rm a.txt; clear; ls\n'), keys('clear; ls\n')]
    turns = run_episode(environment, task_of(SETUP), _Script([*actions, SUBMIT]),
                        mark_changed_state=True).turns
    assert [turn.changed_state for turn in turns] == [False, False, False, True]

  def test_the_seed_decides_what_random_says(self, environment):
    said = []
    for seed in (1, 1, 2):
      environment.reset(task_of(SETUP), seed)
      said.append(environment.step(keys('echo $RANDOM\n')).observation)
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize('action', [
  '', 'ls', '{}', '[]', '[1]', '"ls"', '[{"duration": 1}]', '[{"keystrokes": 1, "duration": 1}]',
  '[{"keystrokes": "a"}]', '[{"keystrokes": "a", "duration": true}]', '[' * 9999])
def test_what_is_no_array_of_keystrokes_is_told_what_is(action):
  with pytest.raises(screen.KeystrokeError) as error:
    screen.parse(action)
  assert str(error.value) == FORM and screen.complaint(action) == f'[{FORM}]\n'


@pytest.mark.parametrize('duration', ['-1', '11', 'NaN', 'Infinity'])
def test_durations_are_bounded(duration):
  with pytest.raises(screen.KeystrokeError, match='a duration is 0 to 10 seconds'):
    screen.parse('[{"keystrokes": "a", "duration": DURATION}]'.replace('DURATION', duration))


def test_without_tmux_only_full_screen_tasks_say_so(monkeypatch):
  monkeypatch.setattr(screen.shutil, 'which', lambda name: None)
  assert screen.size_of({'files': FILES}) is None
  with terminal.TerminalEnvironment() as environment, pytest.raises(
      MissingProgramError, match='^full-screen tasks need tmux: apt-get install -y tmux$'):
    environment.reset(task_of(SETUP))


FAMILIES = [family for family in registry.families('terminal', 'train')
            if family.startswith('screen_')]


@pytest.mark.requires('bwrap', 'tmux', 'less', 'nano')
class TestFamilies:

  def test_they_are_all_here(self):
    assert len(FAMILIES) == 6

  @pytest.mark.parametrize('family', FAMILIES)
  def test_experts_solve_them_and_doing_nothing_does_not(self, environment, family):
    for index in range(3):
      task = registry.task_at('terminal', 'test', index, seed=9, among=(family,))
      environment.reset(task, task.seed)
      assert environment.snapshot() == task.initial_state
      assert not run_episode(environment, task, _Script([SUBMIT])).success, task.id
      assert run_episode(environment, task, experts.Expert(task)).success, task.id

  def test_a_busy_machine_shows_the_same_screens(self, environment):
    """Episodes with noise, alone and beside more processes than there are cores."""
    tasks = [registry.task_at('terminal', 'train', 3, seed=4, among=(family,))
             for family in FAMILIES]
    runs = [[run_episode(environment, task, experts.NoisyExpert(task, 5)) for task in tasks]]
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass'])
            for _ in range(2 * os.cpu_count())]
    try:
      runs.append([run_episode(environment, task, experts.NoisyExpert(task, 5)) for task in tasks])
    finally:
      for process in busy:
        process.kill()
        process.wait()
    assert runs[0] == runs[1]

  @pytest.mark.parametrize('family', FAMILIES)
  def test_whatever_policies_do_are_keystrokes(self, family):
    task = registry.task_at('terminal', 'train', 0, among=(family,))
    actions, rng = registry.actions('terminal'), random.Random(0)
    plan = registry.expert_plan(task)[:-1]
    state = task.initial_state
    found = plan + [make(task, state, rng) for _ in range(40) for make in (
        actions.explore, actions.wander, actions.change, actions.inspect, actions.survey)]
    found += [actions.anything(task, rng) for _ in range(40)]
    changed = [actions.typo(action, rng) for action in plan * 5]
    changed += [actions.mistake(action, task, state, rng) for action in plan * 5]
    assert all(screen.parse(action) for action in found + changed)
    assert set(changed) - set(plan)
