"""Mouse and keyboard on what a screen shows: for exploring and for noise."""

import json
import random
import re

from aw_jax.environments import desktop
from aw_jax.environments.desktop_tasks import recipes
from aw_jax.environments.experts import Actions
from aw_jax.environments.mcp import call_text
from aw_jax.trajectories import SUBMIT, Task

_LINE = re.compile(r'^ *\[(\d+)\] ([\w-]+)(?: "((?:[^"\\]|\\.)*)")?(.*)$', re.MULTILINE)
_ENDING = ('quit', 'close', 'close window', 'close tab')  # with them the programs would be gone
_COMMON_KEYS = ('escape', 'enter', 'tab', 'ctrl+a', 'ctrl+z', 'ctrl+s', 'end', 'home', 'backspace',
                'down', 'up', 'ctrl+end')


def _shown(state: str | None) -> list[tuple[int, str, str]]:
  """(number, role, name) of what can be clicked in a state."""
  return [(int(number), role, name or '')
          for number, role, name, rest in _LINE.findall(state or '')
          if 'disabled' not in rest and (name or '').lower() not in _ENDING]


class DesktopActions(Actions):
  """Explores by what the screen shows."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Opens a menu, or closes what is open."""
    menus = [number for number, role, _ in _shown(state) if role == 'menu']
    if not menus or rng.random() < 0.3:
      return call_text('key', keys='escape')
    return call_text('click', element=rng.choice(menus))

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Acts on something that is shown, or uses the keyboard."""
    draw, shown = rng.random(), _shown(state)
    if draw < 0.6 and shown:
      tool = rng.choices(('click', 'double_click', 'right_click'), (8, 1, 1))[0]
      number, _, name = rng.choice(shown)
      others = [other for _, _, other in shown]
      if name and others.count(name) == 1 and rng.random() < 0.4:
        return call_text(tool, label=json.loads(f'"{name}"'))
      return call_text(tool, element=number)
    if draw < 0.8:
      return call_text('type', text=recipes.line(rng, 1, 3))
    if draw < 0.84 and shown:
      return call_text('scroll', element=rng.choice(shown)[0],
                       direction=rng.choice(desktop.DIRECTIONS))
    return call_text('key', keys=rng.choice(_COMMON_KEYS))

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Types, or acts on something."""
    if rng.random() < 0.4:
      return call_text('type', text=recipes.line(rng, 1, 3))
    return self.wander(task, state, rng)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any tool."""
    element = rng.randint(1, 30)
    return rng.choice((
        call_text(rng.choice(('click', 'double_click', 'right_click')), element=element),
        call_text('drag', element=element, to=rng.randint(1, 30)),
        call_text('scroll', element=element, direction=rng.choice(desktop.DIRECTIONS)),
        call_text('type', text=recipes.line(rng, 1, 3)),
        call_text('key', keys=rng.choice(_COMMON_KEYS))))

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` on something else, or with other words."""
    if action.startswith(SUBMIT):
      return self.wander(task, state, rng)
    call = json.loads(action)
    arguments, shown = call['arguments'], _shown(state)
    if 'text' in arguments:
      return call_text('type', text=recipes.line(rng, 1, 3))
    if 'keys' in arguments or not shown:
      return call_text('key', keys=rng.choice(_COMMON_KEYS))
    return call_text(call['name'], element=rng.choice(shown)[0])
