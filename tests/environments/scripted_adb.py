"""A scripted adb and the phone behind it, for the tests of the Android adapter.

This one file is `adb` and, under their names, the programs of the phone; which it is says the name
it is started by. A line for `adb shell` goes through a real shell, as it does on a phone. The
phone's state is in state.json beside the folders of the programs. It prints what Android's own
programs print, and is no Android: it shows that the adapter speaks to adb and reads the answers.
"""

import json
import os
import sys
import time

PROGRAMS = ('input', 'uiautomator', 'settings', 'am', 'cmd', 'dumpsys', 'wm')
WIDTH, HEIGHT, TOP, ROW = 1080, 1920, 200, 140
SHOWN = (HEIGHT - TOP) // ROW

# A row is (kind, label, ...): a link to a screen, a switch or a choice of a settings key, a text,
# a field, a button.
SOUND = [('text', f'Volume {number}') for number in range(14)] + [
    ('switch', 'Dial pad tones', 'system/dtmf_tone', '0', '1'),
    ('switch', 'Screen locking sound', 'system/lockscreen_sounds_enabled', '0', '1'),
    ('switch', 'Touch sounds', 'system/sound_effects_enabled', '0', '1')]
TIMEOUTS = {'15 seconds': 15_000, '30 seconds': 30_000, '1 minute': 60_000, '2 minutes': 120_000,
            '5 minutes': 300_000, '10 minutes': 600_000, '30 minutes': 1_800_000}
SCREENS = {
    '.Settings': [('link', 'Display', '.Display'), ('link', 'Sound', '.Sound'),
                  ('link', 'About phone', '.About')],
    '.Date': [('switch', 'Use 24\N{NON-BREAKING HYPHEN}hour format', 'system/time_12_24',
               '12', '24')],
    '.Display': [('text', f'Brightness {number}') for number in range(8)] + [
        ('switch', 'Auto-rotate screen', 'system/accelerometer_rotation', '0', '1'),
        ('link', 'Screen timeout', '.Timeout')],
    '.Timeout': [('choice', label, 'system/screen_off_timeout', str(value))
                 for label, value in TIMEOUTS.items()],
    '.Privacy': [('switch', 'Show passwords', 'system/show_password', '0', '1')],
    '.Sound': SOUND,
    '.About': [('link', 'Device name', 'rename'), ('text', 'Android version')],
    'rename': [('text', 'Device name'), ('field', 'global/device_name'),
               ('button', 'Cancel', 'back'), ('button', 'OK', 'warn')],
    'warn': [('text', 'Apps may see it.'), ('button', 'OK', 'save')],
    'blank': [],
    'home': [('clock', '9:41'), ('text', 'Swipe up for apps')]}
PAGES = {
    'android.settings.DATE_SETTINGS': '.Date', 'android.settings.DISPLAY_SETTINGS': '.Display',
    'android.settings.PRIVACY_SETTINGS': '.Privacy', 'android.settings.SOUND_SETTINGS': '.Sound',
    'android.settings.DEVICE_INFO_SETTINGS': '.About'}
APPS = {'com.android.settings': '.Settings', 'com.android.camera2': '.Camera',
        'com.android.deskclock': '.DeskClock', 'com.android.contacts': '.Contacts',
        'com.android.calendar': '.AllInOne', 'com.google.android.apps.messaging': '.Messages',
        'org.example.camerapro': '.Main'}
FRESH = {'devices': {'emulator-5554': 'device'}, 'settings': {}, 'front': 'com.android.launcher3',
         'stack': ['home'], 'scroll': 0, 'typed': '', 'focus': False, 'fault': '', 'log': []}


def install(folder, **changes):
  """Puts adb, the phone's programs and its state into `folder`; the path of the state."""
  for name in ('host', 'phone'):
    (folder / name).mkdir()
  adb = folder / 'host' / 'adb'
  with open(__file__, encoding='utf-8') as source:
    adb.write_text(f'#!{sys.executable} -IS\n{source.read()}', encoding='utf-8')
  adb.chmod(0o755)
  for name in PROGRAMS:
    (folder / 'phone' / name).symlink_to(adb)
  state = folder / 'state.json'
  state.write_text(json.dumps(FRESH | changes))
  return state


def rows(state: dict) -> list[tuple[int, tuple]]:
  """(upper edge, row) of the rows that are visible."""
  inside = SCREENS.get(state['stack'][-1], [('text', f'This is {state["front"]}')])
  return [(TOP + place * ROW, row)
          for place, row in enumerate(inside[state['scroll']:state['scroll'] + SHOWN])]


def node(kind: str, bounds: tuple[int, ...], children: str = '', **attributes: str) -> str:
  """An element as uiautomator writes it."""
  known = {'text': '', 'resource-id': '', 'class': kind, 'package': 'com.android.settings',
           'content-desc': '', 'checkable': 'false', 'checked': 'false', 'clickable': 'false',
           'enabled': 'true', 'focusable': 'false', 'focused': 'false', 'scrollable': 'false',
           'long-clickable': 'false', 'password': 'false', 'selected': 'false'}
  known |= {name.replace('_', '-'): value for name, value in attributes.items()}
  known['bounds'] = '[{},{}][{},{}]'.format(*bounds)
  said = ' '.join(f'{name}="{escaped(value)}"' for name, value in known.items())
  return f'<node index="0" {said}>{children}</node>'


def escaped(text: str) -> str:
  """A value of an attribute."""
  for character, entity in (('&', '&amp;'), ('<', '&lt;'), ('"', '&quot;'), ('\n', '&#10;')):
    text = text.replace(character, entity)
  return text


def row_xml(state: dict, top: int, row: tuple) -> str:
  """A row and what it holds."""
  kind, label = row[:2]
  bottom = top + ROW
  if kind == 'field':
    return node('android.widget.EditText', (0, top, WIDTH, bottom), text=state['typed'],
                clickable='true', focused=str(state['focus']).lower(),
                resource_id='android:id/edit')
  if kind == 'clock':
    return node('android.widget.TextView', (0, top, WIDTH, bottom), text=label,
                resource_id='com.android.launcher3:id/clock')
  inside = node('android.widget.TextView', (40, top, 700, bottom), text=label,
                resource_id='android:id/title')
  if kind in ('switch', 'choice'):
    checked = state['settings'].get(row[2]) == row[-1]
    widget = 'Switch' if kind == 'switch' else 'RadioButton'
    inside += node(f'android.widget.{widget}', (920, top, 1040, bottom), checkable='true',
                   checked=str(checked).lower(), resource_id='android:id/switch_widget')
  return node('android.widget.LinearLayout', (0, top, WIDTH, bottom), inside,
              clickable=str(kind != 'text').lower())


def hierarchy(state: dict) -> str:
  """The screen, as `uiautomator dump` writes it."""
  scrolls = len(SCREENS.get(state['stack'][-1], [])) > SHOWN
  inside = ''.join(row_xml(state, *row) for row in rows(state))
  listed = node('androidx.recyclerview.widget.RecyclerView', (0, TOP, WIDTH, HEIGHT), inside,
                scrollable=str(scrolls).lower(), resource_id='com.android.settings:id/list')
  return ("<?xml version='1.0' encoding='UTF-8' standalone='yes' ?><hierarchy rotation=\"0\">"
          + node('android.widget.FrameLayout', (0, 0, WIDTH, HEIGHT), listed) + '</hierarchy>')


def show(state: dict, screen: str) -> None:
  """Opens a screen on top."""
  state['stack'].append(screen)
  state['scroll'] = 0
  if screen == 'rename':
    state.update(typed=state['settings'].get('global/device_name', ''), focus=True)


def tap(state: dict, x: int, y: int) -> None:
  """What a finger does."""
  row = next((row for top, row in rows(state) if top <= y < top + ROW), ('text',))
  if row[0] == 'link':
    show(state, row[2])
  elif row[0] == 'switch':
    on = state['settings'].get(row[2]) == row[4]
    state['settings'][row[2]] = row[3] if on else row[4]
  elif row[0] == 'choice':
    state['settings'][row[2]] = row[3]
  elif row[0] == 'field':
    state['focus'] = True
  elif row[0] == 'button' and row[2] == 'warn':
    show(state, 'warn')
  elif row[0] == 'button':
    if row[2] == 'save':
      state['settings']['global/device_name'] = state['typed']
      state['stack'].pop()
    state['stack'].pop()


def send_text(state: dict, text: str) -> None:
  """Types, as the loop of Android's InputShellCommand.sendText does."""
  buffer, escaped, place = list(text), False, 0
  while place < len(buffer):
    if escaped:
      escaped = False
      if buffer[place] == 's':
        buffer[place] = ' '
        place -= 1
        del buffer[place]
    if buffer[place] == '%':
      escaped = True
    place += 1
  if not text.isascii():
    sys.exit('java.lang.NullPointerException: Attempt to get length of null array')
  if state['focus']:
    state['typed'] += ''.join(buffer)


def key(state: dict, name: str) -> None:
  """What a key does."""
  if name == 'KEYCODE_HOME':
    state.update(front='com.android.launcher3', stack=['home'], scroll=0, focus=False)
  elif name == 'KEYCODE_BACK' and len(state['stack']) > 1:
    state['stack'].pop()
    state['scroll'] = 0
    if state['stack'] == ['home']:
      state['front'] = 'com.android.launcher3'
  elif name == 'KEYCODE_DEL' and state['focus']:
    state['typed'] = state['typed'][:-1]


def start(state: dict, arguments: list[str]) -> None:
  """`am start -W -a ACTION` and `-n COMPONENT`."""
  how, what = arguments[1:]
  package = what.partition('/')[0] if how == '-n' else 'com.android.settings'
  screen = APPS.get(package) if how == '-n' else PAGES.get(what)
  if screen is None:
    print('Error: Activity not started, unable to resolve Intent')
    return
  state.update(front=package, stack=['home'])
  show(state, screen)
  print(f'Starting: Intent {{ {what} }}\nStatus: ok\nComplete')


def phone(program: str, arguments: list[str], state: dict) -> None:
  """The programs of the phone."""
  what, *rest = arguments
  if program == 'input':
    state['log'].append(arguments)
    if what == 'tap':
      tap(state, *map(int, rest))
    elif what == 'text':
      send_text(state, *rest)
    elif what == 'keyevent':
      key(state, *rest)
    elif what == 'swipe':
      _, y, _, to_y, _ = map(int, rest)
      last = max(0, len(SCREENS.get(state['stack'][-1], [])) - SHOWN)
      state['scroll'] = min(last, max(0, state['scroll'] + (y - to_y) // ROW))
  elif program == 'settings':
    if what == 'put':
      state['settings'][f'{rest[0]}/{rest[1]}'] = rest[2]
    else:
      print(state['settings'].get(f'{rest[0]}/{rest[1]}', 'null'))
  elif program == 'am' and what == 'start':
    start(state, rest)
  elif program == 'cmd':
    print(f'{len(APPS)} activities found:')
    for number, (package, name) in enumerate(APPS.items()):
      print(f'  Activity #{number}:\n    priority=0 match=0x108000\n    {package}/{name}')
  elif program == 'dumpsys':
    screen = next(name for name in reversed(state['stack']) if name[0] == '.' or name == 'home')
    name = f'{state["front"]}/{screen.replace("home", ".Launcher")}'
    record = f'ActivityRecord{{c6ab2f1 u0 {name} t7}}'
    print(f'  topResumedActivity={record}\n  ResumedActivity: {record}')
  elif program == 'wm' and what == 'size':
    print(f'Physical size: {WIDTH}x{HEIGHT}')
  elif program == 'uiautomator':
    dump(state, rest[0])


def dump(state: dict, path: str) -> None:
  """`uiautomator dump`, and what may go wrong with it."""
  xml = state.get('xml') or hierarchy(state)
  if state['fault'] == 'restless':
    print('ERROR: could not get idle state.', file=sys.stderr)
    return
  with open(path, 'w', encoding='utf-8') as file:
    file.write(xml[:len(xml) // 2] if state['fault'] == 'torn' else xml)
  print(f'UI hierchary dumped to: {path}')


def adb(arguments: list[str], state: dict, root: str) -> None:
  """The program that the adapter starts."""
  if state['fault'] == 'hang':
    time.sleep(600)
  if arguments == ['devices']:
    print('List of devices attached')
    for serial, condition in state['devices'].items():
      print(f'{serial}\t{condition}')
    return
  _, serial, shell, line = arguments
  if shell != 'shell' or state['devices'].get(serial) != 'device':
    sys.exit(f"error: device '{serial}' not found")
  line = line.replace('/data/local/tmp', root)
  os.execve('/bin/sh', ['sh', '-c', line], {'PATH': f'{root}/phone:/usr/bin:/bin'})


def main() -> None:
  """adb, or one of the phone's programs."""
  root = os.path.dirname(os.path.dirname(os.path.realpath(sys.argv[0])))
  with open(f'{root}/state.json', encoding='utf-8') as file:
    state = json.load(file)
  program = os.path.basename(sys.argv[0])
  if program == 'adb':
    adb(sys.argv[1:], state, root)
    return
  before = json.dumps(state)
  phone(program, sys.argv[1:], state)
  if json.dumps(state) != before:
    with open(f'{root}/state.json', 'w', encoding='utf-8') as file:
      json.dump(state, file)


if __name__ == '__main__':
  main()
