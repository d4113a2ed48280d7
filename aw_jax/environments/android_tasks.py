"""Task families of an Android device: its settings and its apps, verified in the device's shell.

They need a device. Pages, labels and keys are meant for Android's own Settings app in English and
were tried on no phone; where a Settings app names them otherwise the expert fails, not the check.
"""

import dataclasses
import random
import re

from aw_jax.environments.android import DIRECTIONS, KEYS
from aw_jax.environments.experts import Actions
from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Family, Recipe
from aw_jax.trajectories import SUBMIT, Task, Verifier

APPS = ('calendar', 'camera', 'clock', 'contacts', 'messaging', 'settings')
_SOUND = 'android.settings.SOUND_SETTINGS'
_TIMEOUTS = {'30 seconds': '30000', '1 minute': '60000', '2 minutes': '120000',
             '5 minutes': '300000', '10 minutes': '600000'}
_WORDS = ('Amber', 'Birch', 'Cedar', 'Delta', 'Ember', 'Fjord', 'Grove', 'Harbor', 'Iris')


@dataclasses.dataclass(frozen=True)
class Switch:
  """A switch of the Settings app: its label, page and key, values for off and on, swipes to it."""

  label: str
  page: str
  key: str
  values: tuple[str, str] = ('0', '1')
  swipes: int = 0

  @property
  def plan(self) -> list[str]:
    """The actions that turn it, from its page."""
    return [call_text('swipe', direction='up')] * self.swipes + [call_text('tap', label=self.label)]


SWITCHES = (
    Switch('Use 24-hour format', 'android.settings.DATE_SETTINGS', 'system/time_12_24',
           ('12', '24')),
    Switch('Auto-rotate screen', 'android.settings.DISPLAY_SETTINGS',
           'system/accelerometer_rotation', swipes=1),
    Switch('Show passwords', 'android.settings.PRIVACY_SETTINGS', 'system/show_password'),
    Switch('Dial pad tones', _SOUND, 'system/dtmf_tone', swipes=2),
    Switch('Screen locking sound', _SOUND, 'system/lockscreen_sounds_enabled', swipes=2),
    Switch('Touch sounds', _SOUND, 'system/sound_effects_enabled', swipes=2))


class AndroidActions(Actions):
  """Explores by what the screen shows."""

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Taps something clickable, or swipes, goes back, or borrows a step of a plan."""
    numbers = re.findall(r'^ *\[(\d+)\] .* clickable', state or '', re.MULTILINE)
    if numbers and rng.random() < 0.6:
      return call_text('tap', element=int(rng.choice(numbers)))
    return rng.choice((
        call_text('swipe', direction=rng.choice(list(DIRECTIONS))), call_text('back'),
        super().wander(task, state, rng)))

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any tool."""
    return rng.choice((
        call_text('tap', element=rng.randint(1, 30)), call_text('back'), call_text('home'),
        call_text('swipe', direction=rng.choice(list(DIRECTIONS))),
        call_text('key', key=rng.choice(list(KEYS))), call_text('type', text=rng.choice(_WORDS)),
        call_text('open_app', name=rng.choice(APPS))))


def toggle(seed: int, rng: random.Random) -> Recipe:
  """Turn one switch."""
  del seed
  switch, on = rng.choice(SWITCHES), rng.randrange(2)
  return _settings_recipe(
      f'Turn "{switch.label}" {("off", "on")[on]} in the settings that are open.', switch.page,
      {switch.key: switch.values[1 - on]}, {switch.key: switch.values[on]}, switch.plan)


def timeout(seed: int, rng: random.Random) -> Recipe:
  """Choose one of a list."""
  del seed
  before, after = rng.sample(list(_TIMEOUTS), 2)
  key = 'system/screen_off_timeout'
  return _settings_recipe(
      f'Set the screen timeout to {after} in the settings that are open.',
      'android.settings.DISPLAY_SETTINGS', {key: _TIMEOUTS[before]}, {key: _TIMEOUTS[after]},
      [call_text('tap', label='Screen timeout'), call_text('tap', label=after)])


def rename(seed: int, rng: random.Random) -> Recipe:
  """Write a text in place of another."""
  del seed
  before, first, second = rng.sample(_WORDS, 3)
  name, key = f"{first}'s {second} {rng.randint(2, 99)}", 'global/device_name'
  return _settings_recipe(
      f'Change the device name to: {name}', 'android.settings.DEVICE_INFO_SETTINGS',
      {key: before}, {key: name},
      [call_text('tap', label='Device name'), call_text('key', key='end'),
       *[call_text('key', key='delete')] * len(before), call_text('type', text=name),
       call_text('tap', label='OK'), call_text('tap', label='OK')])


def open_app(seed: int, rng: random.Random) -> Recipe:
  """Have an app in front."""
  del seed
  app = rng.choice(APPS)
  check = f"dumpsys activity activities | grep -q 'ResumedActivity.*{app}[0-9]*/' && echo open"
  return Recipe(f'Open the {app} app.', {}, None, Verifier('command', 'open', check),
                (call_text('open_app', name=app), SUBMIT))


def sounds(seed: int, rng: random.Random) -> Recipe:
  """Turn two switches of one page."""
  del seed
  one, other = rng.sample([switch for switch in SWITCHES if switch.page == _SOUND], 2)
  return _settings_recipe(
      f'Turn "{one.label}" on and "{other.label}" off in the settings that are open.', _SOUND,
      {one.key: '0', other.key: '1'}, {one.key: '1', other.key: '0'},
      [*one.plan, other.plan[-1]])


def _settings_recipe(
    instruction: str, page: str, before: dict[str, str], after: dict[str, str],
    plan: list[str]) -> Recipe:
  """A task of the Settings app: from some values of keys to others."""
  check = '; '.join(f'settings get {key.replace("/", " ")}' for key in after)
  return Recipe(
      instruction, {'settings': before, 'page': page}, None,
      Verifier('command', '\n'.join(after.values()), check), (*plan, SUBMIT), max_turns=24)


ACTIONS = AndroidActions()
FAMILIES = (
    *(Family(make.__name__, make) for make in (toggle, timeout, rename, open_app)),
    Family('sounds', sounds, held_out=True))
