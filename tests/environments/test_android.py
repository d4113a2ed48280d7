"""The Android adapter against a scripted adb (scripted_adb.py): real processes, a made-up phone."""

import dataclasses
import json
import re
import shlex
import subprocess
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from aw_jax.environments import android, android_screen, collect, registry
from aw_jax.environments.android_screen import ScreenError, read
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import call_text
from aw_jax.prompts import domains
from aw_jax.trajectories import Task, Verifier
from tests.environments import scripted_adb

DATE = {'page': 'android.settings.DATE_SETTINGS', 'settings': {'system/time_12_24': '12'}}
SOUND = {'page': 'android.settings.SOUND_SETTINGS', 'settings': {'system/dtmf_tone': '0'}}
RENAME = {'page': 'android.settings.DEVICE_INFO_SETTINGS',
          'settings': {'global/device_name': 'Box'}}
LINE = re.compile(r' *\[\d+\] [\w./?$:-]+( "([^"\\]|\\.)*")?( \("([^"\\]|\\.)*"\))?( [\w./?$-]+)?'
                  r' \[-?\d+,-?\d+\]\[-?\d+,-?\d+\]( [a-z-]+)*')

BAD_ACTIONS = (
    ('tap it', 'invalid JSON'),
    ('{"name": "tap", "arguments": []}', 'arguments must be an object'),
    (call_text('shell', command='id'), "there is no tool 'shell'; there are tap, long_press, "),
    (call_text('tap'), 'tap takes element or label or x and y'),
    (call_text('tap', element=2, x=1), 'tap takes element or label or x and y'),
    (call_text('tap', element='2'), 'element must be an integer'),
    (call_text('tap', element=True), 'element must be an integer'),
    (call_text('tap', element=99), "there is no element '99' on the screen"),
    (call_text('tap', label=''), "there is no label '' on the screen"),
    (call_text('tap', x=1080, y=5), 'the point is outside the screen of 1080 by 1920 pixels'),
    (call_text('swipe', x=1, y=1, to_x=1, to_y=-1), 'the point is outside the screen'),
    (call_text('swipe', direction='in'), 'direction must be one of up, down, left, right'),
    (call_text('key', key='power'), 'key must be one of enter, delete, '),
    (call_text('type', text='é'), 'text must be 1 to 500 printable ASCII characters'),
    (call_text('type', text='a\nb'), 'text must be'),
    (call_text('type', text=''), 'text must be'),
    (call_text('type', text='a' * 501), 'text must be'),
    (call_text('wait', seconds=11), 'seconds must be 1 to 10'),
    (call_text('home', now=1), 'home takes no arguments'))
# The XML of a screen, and what to put into it.
RENAMING = scripted_adb.hierarchy(
    scripted_adb.FRESH | {'stack': ['rename'], 'typed': 'Ünï'}).encode()
PIECES = st.binary(max_size=12) | st.sampled_from(
    [b'<node', b'/>', b'">', b'&#10;', b'&lt;!', b'<!DOCTYPE a>', b'<![CDATA[', b'&#xD800;', b'"'])


class Phone:
  """The state of the scripted phone."""

  def __init__(self, folder, **changes):
    self.path = scripted_adb.install(folder, **changes)

  def __getitem__(self, name):
    return json.loads(self.path.read_text())[name]

  def set(self, **changes):
    self.path.write_text(json.dumps(json.loads(self.path.read_text()) | changes))


@pytest.fixture
def phone(tmp_path, monkeypatch):
  """A scripted phone whose adb is the first on the path."""
  monkeypatch.setenv('PATH', f'{tmp_path}/host:/usr/bin:/bin')
  monkeypatch.delenv('ANDROID_SERIAL', raising=False)
  monkeypatch.setenv('TMPDIR', str(tmp_path))
  monkeypatch.setattr('tempfile.tempdir', None)
  return Phone(tmp_path)


@pytest.fixture
def world(phone):
  with registry.make_environment('android') as environment:
    yield environment


def made(setup):
  return Task('android/made/1', 'android', 'made', 'train', 1, 'Try.', None, setup,
              Verifier('answer', ''), 10)


def numbered(observation, kind):
  """The number of the first element of a kind."""
  return int(re.search(rf'\[(\d+)\] {kind}', observation)[1])


class TestScreen:

  def test_what_an_observation_shows(self, world):
    assert world.reset(made(DATE)) == (
        'app com.android.settings, screen .Date\n'
        '[1] LinearLayout [0,200][1080,340] clickable\n'
        '  [2] TextView "Use 24\N{NON-BREAKING HYPHEN}hour format" id/title [40,200][700,340]\n'
        '  [3] Switch id/switch_widget [920,200][1040,340] unchecked')
    assert world.snapshot() == world.reset(made(DATE))

  def test_elements_keep_their_numbers(self, world):
    before = world.reset(made(DATE))
    after = world.step(call_text('tap', element=numbered(before, 'Switch'))).observation
    assert after == before.replace('unchecked', 'checked')
    home = world.step(call_text('home')).observation
    assert not set(re.findall(r'\[(\d+)\] ', home)) & set(re.findall(r'\[(\d+)\] ', before))
    world.step(call_text('open_app', name='settings'))
    settings = world.step(call_text('back')).observation
    assert settings == home

  def test_a_clock_is_runtime_metadata(self, world):
    world.reset(made({}))
    step = world.step(call_text('home'))
    (start, end), = step.info['runtime_metadata']
    assert step.observation[start:end] == '"9:41"'

  def test_labels_cannot_break_their_line(self):
    label = 'a"\\\n[9] Button "Pay"\u2028\u202e\x85\x7f' + 'x' * 300
    xml = '<hierarchy rotation="1">' + scripted_adb.node(
        'a.b c', (0, 0, 9, 9), text=label, content_desc='said', resource_id='p:id/x y\n',
        enabled='false', clickable='true') + '</hierarchy>'
    screen = read(xml.encode(), 'p/.A', {})
    first, line = screen.text.splitlines()
    assert LINE.fullmatch(line)
    assert line.endswith('…" ("said") id/x?y? [0,0][9,9] clickable disabled')
    assert first == 'app p, screen .A' and screen.sideways and '\u202e' not in line

  def test_what_says_nothing_moves_up_and_what_has_no_area_is_left_out(self):
    inner = scripted_adb.node('x.Button', (5, 5, 9, 9), text='OK')
    xml = '<hierarchy>' + scripted_adb.node(
        'x.Frame', (0, 0, 9, 9), inner + scripted_adb.node('x.Text', (5, 5, 5, 9), text='gone')
    ) + '</hierarchy>'
    assert read(xml.encode(), '', {}).text == 'app unknown\n[1] Button "OK" [5,5][9,9]'

  def test_a_long_screen_is_cut(self):
    many = ''.join(scripted_adb.node('x.T', (0, i, 9, i + 1), text=f'row {i}') for i in range(900))
    screen = read(f'<hierarchy>{many}</hierarchy>'.encode(), 'p/.A', {})
    assert len(screen.text) < android_screen.MAX_TEXT_CHARACTERS + 40
    shown = screen.text.count('\n') - 1
    assert screen.text.endswith(f'\n[{900 - shown} more elements]') and len(screen.elements) == 900

  @pytest.mark.parametrize(('xml', 'message'), [
      (b'', 'torn: no element'),
      (b'<hierarchy><node', 'torn'),
      (b'<hierarchy><node text="\xff"/></hierarchy>', 'torn'),
      (b'<html/>', 'no hierarchy'),
      (b'<!DOCTYPE h [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><hierarchy t="&b;"/>', 'DOCTYPE'),
      (b'<!DOCTYPE h SYSTEM "file:///etc/passwd"><hierarchy/>', 'DOCTYPE'),
      (b'<hierarchy text="&b;"/>', 'torn: undefined entity'),
      (b'<hierarchy>' + b'<node>' * 200 + b'</node>' * 200 + b'</hierarchy>', 'over 128 deep'),
      (b'<hierarchy>' + b'<node/>' * 5001 + b'</hierarchy>', 'over 5000 elements'),
      (b'<hierarchy>' + b' ' * (2 << 20), 'more than 2097152 bytes')])
  def test_what_is_no_screen_is_refused(self, xml, message):
    with pytest.raises(ScreenError, match=message):
      read(xml, 'p/.A', {})

  @hypothesis.settings(max_examples=10_000)
  @hypothesis.given(st.integers(0, 5000), st.integers(0, 80), PIECES)
  def test_any_bytes_are_a_screen_or_refused(self, place, cut, put):
    place %= len(RENAMING)
    xml = RENAMING[:place] + put + RENAMING[place + cut:]
    try:
      screen = read(xml, 'p/.A', {})
    except ScreenError:
      return
    lines = screen.text.split('\n')
    assert all(LINE.fullmatch(line) for line in lines[1:])
    assert len(lines[1:]) == len(screen.elements)
    assert len({one.number for one in screen.elements}) == len(screen.elements)


class TestActions:

  def test_by_number_label_and_point(self, world, phone):
    observation = world.reset(made(SOUND))
    top = world.step(call_text('swipe', x=500, y=1900, to_x=500, to_y=200)).observation
    assert '"Touch sounds"' in top and '"Touch sounds"' not in observation
    world.step(call_text('tap', label='dial  PAD tones'))
    assert phone['settings']['system/dtmf_tone'] == '1'
    bounds = re.search(r'"Dial pad tones" id/title \[(\d+),(\d+)\]', top)
    world.step(call_text('tap', x=int(bounds[1]), y=int(bounds[2])))
    assert phone['settings']['system/dtmf_tone'] == '0'
    world.step(call_text('long_press', x=3, y=300))
    assert phone['log'][-1] == ['swipe', '3', '300', '3', '300', '800']
    assert world.step(call_text('swipe', direction='down')).observation != top
    assert phone['log'][-1] == ['swipe', '540', '576', '540', '1344', '400']

  def test_text_replaces_text(self, world, phone):
    world.reset(made(RENAME))
    observation = world.step(call_text('tap', label='Device name')).observation
    assert 'EditText "Box" id/edit' in observation and 'clickable focused' in observation
    for _ in range(3):
      world.step(call_text('key', key='delete'))
    text = "; rm -rf $HOME `id` 100%s \"a\\b\" 'c' %% <&|> ~*#!{}()"
    world.step(call_text('type', text=text))
    assert phone['typed'] == text
    assert json.dumps(text) in world.snapshot()
    assert world.step(call_text('tap', label='Cancel')).observation.startswith('app')
    assert world.verify('settings get global device_name') == 'Box'

  @hypothesis.settings(max_examples=1000)
  @hypothesis.given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
                    | st.text(st.sampled_from('%s a'), min_size=1))
  def test_any_text_arrives(self, text):
    state = scripted_adb.FRESH | {'focus': True}
    for piece in android.typed(text):
      word, = shlex.split(shlex.join([piece]))
      scripted_adb.send_text(state, word)
    assert state['typed'] == text

  @hypothesis.settings(max_examples=50)
  @hypothesis.given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
  def test_a_real_shell_reads_the_text_as_it_was(self, text):
    run = subprocess.run(['sh', '-c', shlex.join(['printf', '%s', text])], capture_output=True,
                         text=True, check=True, timeout=30)
    assert run.stdout == text

  def test_apps(self, world):
    world.reset(made({}))
    assert world.step(call_text('open_app', name='Clock')).observation.startswith(
        'app com.android.deskclock, screen .DeskClock\n')
    assert world.step(call_text('open_app', name='com.android.camera2')).observation.startswith(
        'app com.android.camera2')
    before = world.snapshot()
    assert world.step(call_text('open_app', name='camera')).observation == (
        "Error: several apps are 'camera': com.android.camera2, org.example.camerapro")
    assert world.step(call_text('open_app', name='$(reboot)')).observation.startswith(
        "Error: no app is '$(reboot)': com.android.calendar, ")
    assert world.snapshot() == before

  def test_bad_actions_are_answered_and_do_nothing(self, world, phone):
    before, done = world.reset(made({})), phone['log']
    for action, message in BAD_ACTIONS:
      step = world.step(action)
      assert step.observation.startswith(f'Error: {message}') and not step.done
      assert '\n' not in step.observation
      assert phone['log'] == done and world.snapshot() == before

  def test_two_elements_of_one_label(self, world, phone):
    same = ''.join(scripted_adb.node('x.B', (0, i, 9, i + 9), text='Go') for i in (0, 20))
    phone.set(xml=f'<hierarchy>{same}</hierarchy>')
    world.reset(made({}))
    assert world.step(call_text('tap', label='Go')).observation == (
        'Error: 2 elements have that label; give one by number: 1, 2')

  def test_waiting(self, world):
    world.reset(made({}))
    start = time.monotonic()
    assert world.step(call_text('wait', seconds=1)).observation == world.snapshot()
    assert time.monotonic() - start >= 1


class TestTasks:

  @pytest.mark.parametrize('family', registry.families('android'))
  def test_the_expert_solves_them_on_the_scripted_phone(self, world, family):
    task = registry.make_task('android', family, 9)
    world.reset(task)
    assert not task.verifier.passes(world.verify(task.verifier.command))
    trajectory = run_episode(world, task, make_policy('expert', task), mark_changed_state=True)
    assert trajectory.success, trajectory
    assert any(turn.changed_state for turn in trajectory.turns)
    assert len(trajectory.turns) < task.max_turns

  def test_every_page_of_switches(self, world):
    families = {registry.make_task('android', 'toggle', seed).setup['page']: seed
                for seed in range(60)}
    assert len(families) == 4
    for seed in families.values():
      task = registry.make_task('android', 'toggle', seed)
      assert run_episode(world, task, make_policy('expert', task)).success

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'random'])
  def test_others_play_and_again_alike(self, world, policy):
    task = dataclasses.replace(registry.make_task('android', 'toggle', 3), max_turns=5)
    one, other = (run_episode(world, task, make_policy(policy, task, 5)) for _ in range(2))
    assert one == other and one.error == '' and one.turns

  def test_the_facts_are_those_of_the_adapter(self, world):
    facts = domains.FACTS['android']
    told = {tool.name: {name.rstrip('?') for name, _ in tool.arguments}
            for tool in facts.toolsets['']}
    assert told == {name: {key for form in forms for key in form}
                    for name, forms in android.TOOLS.items()}
    assert world.reset(made(DATE)) == facts.demonstration_state
    for action, observation in facts.demonstration:
      assert world.step(action).observation == observation


class TestErrors:

  def test_without_adb(self, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(MissingProgramError, match='needs the program adb: apt-get install -y adb'):
      registry.make_environment('android')

  @pytest.mark.requires('adb')
  def test_the_real_adb_without_the_device(self, monkeypatch, tmp_path):
    """With an adb server and a home of its own, so that what is here is left alone."""
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('ANDROID_ADB_SERVER_PORT', '5987')
    monkeypatch.setenv('ANDROID_SERIAL', 'no-such-device')
    try:
      with pytest.raises(MissingProgramError, match='device.* is.* attached: (attach|start)'):
        registry.make_environment('android')
    finally:
      subprocess.run(['adb', 'kill-server'], capture_output=True, timeout=30, check=False)

  @pytest.mark.parametrize(('devices', 'serial', 'message'), [
      ({}, '', 'no device is attached: start an emulator'),
      ({'a': 'device', 'b': 'device'}, '', 'more than one .*: set ANDROID_SERIAL to one of a, b'),
      ({'a': 'device'}, 'c', 'device c is not attached: attach it, or use one of a'),
      ({'a': 'unauthorized'}, '', 'device a is unauthorized: unlock it'),
      ({'a': 'device', 'b': 'offline'}, 'b', 'device b is offline')])
  def test_which_device(self, phone, monkeypatch, devices, serial, message):
    phone.set(devices=devices)
    monkeypatch.setenv('ANDROID_SERIAL', serial)
    with pytest.raises(MissingProgramError, match=message):
      registry.make_environment('android')

  def test_the_serial_chooses(self, phone, monkeypatch):
    phone.set(devices={'a': 'device', 'b': 'device'})
    for serial in ('b', 'a'):
      monkeypatch.setenv('ANDROID_SERIAL', serial)
      with registry.make_environment('android') as environment:
        assert environment.reset(made({})).startswith('app com.android.launcher3')

  def test_one_environment_a_device(self, world):
    with pytest.raises(MissingProgramError, match='emulator-5554 is in use .*--workers=1'):
      registry.make_environment('android')
    world.close()
    registry.make_environment('android').close()

  def test_a_device_that_hangs_ends_the_episode_and_not_the_collector(self, phone):
    with android.AndroidEnvironment(seconds=2) as environment:
      environment.reset(made({}))
      phone.set(fault='hang')
      task = registry.make_task('android', 'toggle', 0)
      broken = run_episode(environment, task, make_policy('expert', task))
      assert re.fullmatch(r'the device did not answer `adb .*` within 2 s: restart it',
                          broken.error)
      phone.set(fault='')
      assert run_episode(environment, task, make_policy('expert', task)).success

  def test_a_device_that_is_taken_away(self, world, phone):
    world.reset(made({}))
    phone.set(devices={})
    with pytest.raises(BrokenEnvironmentError, match=r'is gone \(.*not found\): attach it again'):
      world.step(call_text('home'))
    with pytest.raises(MissingProgramError, match='no device is attached'):
      world.reset(made({}))

  def test_a_screen_that_moves(self, world, phone):
    world.reset(made({}))
    phone.set(fault='restless')
    observation = world.step(call_text('open_app', name='clock')).observation
    assert observation == 'Error: the screen moves and cannot be read; wait, or go back or home'
    with pytest.raises(BrokenEnvironmentError, match=r'read \(ERROR: could not get idle state\.\)'):
      world.reset(made({}))

  @pytest.mark.parametrize(('changes', 'message'), [
      ({'fault': 'torn'}, 'its XML is torn'),
      ({'xml': '<!DOCTYPE a><hierarchy/>'}, 'its XML has a DOCTYPE')])
  def test_a_screen_that_cannot_be_read(self, world, phone, changes, message):
    world.reset(made({}))
    phone.set(**changes)
    with pytest.raises(BrokenEnvironmentError, match=message) as caught:
      world.step(call_text('home'))
    assert '\n' not in str(caught.value)

  def test_what_the_device_refuses(self, world):
    with pytest.raises(BrokenEnvironmentError, match='device refused `wm size .*unable to resolve'):
      world.reset(made({'page': 'android.settings.NO_SUCH'}))

  def test_a_step_needs_a_reset(self, world):
    assert world.snapshot() is None
    with pytest.raises(BrokenEnvironmentError, match='was not reset'):
      world.step(call_text('home'))

  def test_a_collection(self, phone, tmp_path):
    summary = collect.collect('android', 2, tmp_path / 'out', split='test', workers=1,
                              policies={'expert': 1}, progress=False)
    assert summary['success_rate_by_policy'] == {'expert': 1.0} and summary['errors'] == 0
    phone.set(devices={})
    with pytest.raises(MissingProgramError, match='no device is attached'):
      collect.collect('android', 2, tmp_path / 'none', workers=1, progress=False)
