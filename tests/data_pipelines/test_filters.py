"""Every filter on hand-made episodes, with its count; nothing is lost uncounted."""

import dataclasses
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from aw_jax.trajectories import Task, Trajectory, Turn, Verifier
from data_pipelines import filters

TREE = '[0] document "Form"\n  [1] textbox "Name"\n  [2] button "Send"'
CLICKED = '[0] document "Form"\n  [1] textbox "Name"\n  [2] button "Send" focused'
FAILED = 'cat: x.txt: No such file or directory\n~$'
TOOLS = [{'name': 'get', 'description': 'Get it.', 'parameters': {'type': 'object'}},
         {'type': 'function', 'function': {'name': 'put'}}]


def episode(*turns: Turn, domain='terminal', error='', initial_state=None, **setup) -> Trajectory:
  task = Task(f'{domain}/f/1', domain, 'f', 'train', 1, 'Do it.', initial_state, setup,
              Verifier('answer', 'x'), 12)
  return Trajectory(task, 'agent', turns, '', None, None if error else False, error)


def call(name: str, **arguments) -> str:
  return json.dumps({'name': name, 'arguments': arguments})


def cleaned(trajectory: Trajectory, skip_retries: bool = False):
  """(actions that are kept or None, trajectories left out, turns skipped)."""
  counts = filters.Counts()
  found = filters.clean(trajectory, counts, skip_retries)
  actions = None if found is None else [turn.action for turn in found.turns]
  return actions, dict(counts.trajectories), dict(counts.turns)


LS, PWD = Turn('ls', 'a.txt\n~$'), Turn('pwd', '/home\n~$')


def test_a_sound_episode_stays_as_it_is():
  whole = episode(LS, PWD, Turn('ls', 'a.txt\n~$'))
  counts = filters.Counts()
  assert filters.clean(whole, counts, skip_retries=True) == whole
  assert counts == filters.Counts()


def test_fewer_than_two_turns():
  assert cleaned(episode(LS)) == (None, {'fewer than 2 turns': 1}, {})
  assert cleaned(episode()) == (None, {'fewer than 2 turns': 1}, {})
  assert cleaned(episode(LS, PWD)) == (['ls', 'pwd'], {}, {})


def test_too_few_turns_are_left_when_the_idle_ones_have_gone():
  assert cleaned(episode(LS, Turn(' ', '~$'))) == (None, {'fewer than 2 turns': 1}, {})


def test_a_broken_episode():
  assert cleaned(episode(LS, PWD, error='the sandbox died')) == (None, {'episode broke': 1}, {})


@pytest.mark.parametrize('action', ['', ' \n', '# a comment\n  # another', '{}', call(''),
                                    '{"name": " "}'])
def test_an_empty_action_is_skipped_alone(action):
  assert cleaned(episode(LS, Turn(action, '~$'), PWD)) == (
      ['ls', 'pwd'], {}, {'empty action': 1})


@pytest.mark.parametrize('action', ['ls # all', '[]', '0', '{"name": 3}', '{', '# x\nls', '""'])
def test_an_action_that_does_something_is_not_empty(action):
  assert not filters.is_empty_action(action)


@pytest.mark.parametrize('domain', ['mcp', 'swe'])
def test_a_tool_outside_the_declared_action_space(domain):
  inside = [Turn(call('get', x=1), '{}'), Turn(call('put', x=2), 'ok')]
  outside = Turn(call('drop', x=2), 'ok')
  actions = [turn.action for turn in inside]
  assert cleaned(episode(*inside, domain=domain, tools=TOOLS)) == (actions, {}, {})
  assert cleaned(episode(*inside, outside, domain=domain, tools=TOOLS)) == (
      None, {'undeclared tool': 1}, {})
  # What is not declared is not outside, and other domains have no tools.
  assert cleaned(episode(*inside, outside, domain=domain))[0] is not None
  assert cleaned(episode(*inside, outside, domain='search', tools=TOOLS))[0] is not None
  assert cleaned(episode(*inside, domain=domain, tools=[])) == (None, {'undeclared tool': 1}, {})


def test_a_malformed_call_is_a_mistake_and_a_command_line_names_its_tool():
  torn = Turn('{"name": "get", "argum', 'Error: invalid JSON')
  good = Turn(call('get'), '{}')
  assert cleaned(episode(good, torn, domain='mcp', tools=TOOLS))[1] == {}
  assert cleaned(episode(good, torn, domain='swe', tools=TOOLS))[1] == {}
  shell = [Turn('get file.py 12', '...'), Turn('drop file.py', '...')]
  assert cleaned(episode(good, *shell[:1], domain='swe', tools=TOOLS))[1] == {}
  assert cleaned(episode(good, *shell, domain='swe', tools=TOOLS))[1] == {'undeclared tool': 1}
  assert cleaned(episode(good, *shell, domain='mcp', tools=TOOLS))[1] == {}


@pytest.mark.parametrize('capture', [
    '', ' \n ', '[]', 'ERROR: could not get idle state.', 'ERROR: null root node returned',
    '(no accessibility tree)', '<hierarchy rotation="0"><node text="a"', '<hierarchy></hierarchy>'])
@pytest.mark.parametrize('domain', filters.GUI_DOMAINS)
def test_a_broken_capture(domain, capture):
  turns = Turn(call('click'), TREE), Turn(call('back'), capture), Turn(call('go'), CLICKED)
  assert cleaned(episode(*turns, domain=domain)) == (None, {'broken capture': 1}, {})
  assert cleaned(episode(*turns, domain='search'))[1] == {}


@pytest.mark.parametrize('capture', [
    TREE, 'Error: no element 9', '[0] document "ERROR: could not pay"',
    '<?xml version="1.0"?><hierarchy><node text="a"/></hierarchy>'])
def test_a_whole_capture(capture):
  assert not filters.is_broken_capture(capture)


def test_gui_turns_in_which_nothing_changed():
  turns = (Turn(call('a'), TREE), Turn(call('b'), TREE + ' \n'), Turn(call('c'), CLICKED),
           Turn(call('d'), CLICKED), Turn(call('e'), TREE))
  kept, left_out, skipped = cleaned(episode(*turns, domain='web'))
  assert (kept, left_out) == ([call('a'), call('c'), call('e')], {})
  assert skipped == {'nothing changed': 2}
  kept, _, skipped = cleaned(episode(*turns, domain='web', initial_state=TREE))
  assert kept == [call('c'), call('e')] and skipped == {'nothing changed': 3}
  assert cleaned(episode(*turns, domain='textgame'))[2] == {}


def test_a_clock_alone_is_no_change():
  times = [Turn(call('a'), f'panel {time}\nwindow "x"', runtime_metadata=((6, 11),))
           for time in ('10:00', '10:01')]
  other = Turn(call('b'), 'panel 10:01\nwindow "y"', runtime_metadata=((6, 11),))
  assert cleaned(episode(*times, other, domain='os')) == (
      [call('a'), call('b')], {}, {'nothing changed': 1})


def test_retry_cycles_are_skipped_on_request_and_the_last_try_stays():
  tries = [Turn('cat x.txt', FAILED)] * 3
  turns = (LS, *tries, PWD)
  assert cleaned(episode(*turns)) == (['ls', *['cat x.txt'] * 3, 'pwd'], {}, {})
  assert cleaned(episode(*turns), skip_retries=True) == (
      ['ls', 'cat x.txt', 'pwd'], {}, {'retry cycle': 2})


def test_a_retry_that_succeeds_keeps_what_it_got_and_the_state():
  busy = Turn(call('get'), 'Error: server is busy', state='s0')
  good = Turn(call('get'), '{"x": 1}', state='s0')
  after = Turn(call('put'), 'ok', state='s1')
  counts = filters.Counts()
  found = filters.clean(
      episode(busy, good, after, domain='mcp', initial_state='s0'), counts, skip_retries=True)
  assert found.turns == (good, after) and counts.turns == {'retry cycle': 1}
  assert found.task.initial_state == 's0' and [t.state for t in found.turns] == ['s0', 's1']


def test_what_is_no_retry():
  def skipped(*turns, **fields):
    return cleaned(episode(*turns, **fields), skip_retries=True)[2]

  assert not skipped(LS, LS)  # the same again, but it did not fail
  assert not skipped(Turn('cat x.txt', FAILED), LS, Turn('cat x.txt', FAILED))
  assert not skipped(Turn('cat x.txt', FAILED), Turn('cat y.txt', FAILED))
  moved = Turn('make', 'error: half done\n~$', state='s1')  # it failed, and left something
  assert not skipped(moved, moved, initial_state='s0')


_TURNS = st.lists(st.builds(
    Turn,
    action=st.sampled_from(['ls', 'cat x', '', '# no', '{}', call('get'), call('drop')]),
    observation=st.sampled_from(['', 'a', 'b', 'error: no', TREE, CLICKED]),
    state=st.sampled_from([None, 's', 't'])), max_size=8)
_EPISODES = st.builds(
    lambda turns, domain, error, state, setup: episode(
        *turns, domain=domain, error=error, initial_state=state, **setup),
    _TURNS, st.sampled_from(['terminal', 'mcp', 'swe', 'web', 'os', 'android', 'search']),
    st.sampled_from(['', '', '', 'died']), st.sampled_from([None, TREE, 's']),
    st.sampled_from([{}, {'tools': TOOLS}]))


@given(st.lists(_EPISODES, max_size=6), st.booleans())
def test_kept_and_left_out_are_all_there_is(episodes, skip_retries):
  """Of trajectories, and of the turns of those that are kept."""
  counts = filters.Counts()
  pairs = [(whole, filters.clean(whole, counts, skip_retries)) for whole in episodes]
  kept = [(whole, found) for whole, found in pairs if found is not None]
  assert len(kept) + counts.trajectories.total() == len(episodes)
  assert (sum(len(found.turns) for _, found in kept) + counts.turns.total()
          == sum(len(whole.turns) for whole, _ in kept))
  for whole, found in kept:
    rest = iter(whole.turns)
    assert all(any(turn is other for other in rest) for turn in found.turns)  # in order
    assert dataclasses.replace(found, turns=whole.turns) == whole  # and nothing else was touched


def test_retries_stay_by_default_whatever_the_domain():
  turn = Turn(call('get'), 'Error: no')
  for domain in ('terminal', 'mcp', 'swe', 'search', 'textgame'):
    assert cleaned(episode(turn, turn, domain=domain))[0] is not None
