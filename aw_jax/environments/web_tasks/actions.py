"""Actions a visitor might try on a page, over what it shows: for exploring and for noise."""

import random
import re

from aw_jax.environments import web_actions
from aw_jax.environments.experts import Actions
from aw_jax.environments.web_actions import text as action
from aw_jax.environments.web_tasks.page import Node, parse
from aw_jax.trajectories import SUBMIT, Task

_FIELDS = ('textbox', 'searchbox', 'spinbutton')
_KEYS = ('Enter', 'Tab', 'Escape', 'ArrowDown', 'ArrowUp', 'ArrowRight', 'Backspace', 'Control+a')
_NUMBER = re.compile(r"'(\d+)'")


class WebActions(Actions):
  """Exploring and mistakes over the nodes of the present tree."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """An action that seldom changes anything: a look at a node, a moment's wait."""
    nodes = _numbered(state)
    ways = [action('noop'), action('scroll', 0, rng.choice((-300, 300)))]
    if nodes:
      ways += [action('hover', rng.choice(nodes).number)] * 2
      ways += [action('focus', rng.choice(nodes).number)]
    return rng.choice(ways)

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """Something with a node; now and then a key, or a way through the history."""
    if rng.random() < 0.85:
      return self.change(task, state, rng)
    return rng.choice((
        self.explore(task, state, rng), action('keyboard_press', rng.choice(_KEYS)),
        action('keyboard_type', _word(task, rng)), action('go_back')))

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """What a node is there for: a field is filled, of a list an option chosen, else a click."""
    nodes = _numbered(state)
    if not nodes or rng.random() < 0.04:
      return action('click', str(rng.randint(1, 40)))  # it may not be there
    return _use(rng.choice(nodes), task, state, rng)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any action, on any number that the page may have."""
    name = rng.choice(sorted(web_actions.SIGNATURES))
    count = len(_numbered(task.initial_state)) + 2
    draw = {
        'bid': lambda: str(rng.randint(1, count)), 'from_bid': lambda: str(rng.randint(1, count)),
        'to_bid': lambda: str(rng.randint(1, count)), 'key': lambda: rng.choice(_KEYS),
        'key_comb': lambda: rng.choice(_KEYS), 'delta_x': lambda: 0,
        'delta_y': lambda: rng.choice((-300, 300)), 'url': lambda: 'http://miniwob.test/',
        'value': lambda: _word(task, rng), 'text': lambda: _word(task, rng),
        'options': lambda: _word(task, rng)}
    return action(name, *(draw[key]() for key in web_actions.SIGNATURES[name] if key in draw))

  def mistake(self, action: str, task: Task, state: str | None, rng: random.Random) -> str:
    """`action` on another node, or with another text."""
    if action.startswith(SUBMIT):
      return self.wander(task, state, rng)
    here = _NUMBER.search(action)
    others = [node.number for node in _numbered(state) if not here or node.number != here[1]]
    quoted = re.search(r", '([^']+)'\)$", action)
    if quoted and (rng.random() < 0.5 or not others):
      return action[:quoted.start(1)] + _word(task, rng) + action[quoted.end(1):]
    if here and others:
      return action[:here.start(1)] + rng.choice(others) + action[here.end(1):]
    return self.wander(task, state, rng)


def _numbered(state: str | None) -> list[Node]:
  return [node for node in parse(state or '') if node.number]


def _word(task: Task, rng: random.Random) -> str:
  """A word or number of the task's first line."""
  words = re.findall(r'\w+', task.instruction.partition('\n')[0])
  return rng.choice(words or ['word'])


def _use(node: Node, task: Task, state: str | None, rng: random.Random) -> str:
  """What a node is there for."""
  if node.role in _FIELDS and rng.random() < 0.8:
    return action('fill', node.number, _word(task, rng))
  options = [other.name for other in parse(state or '')[node.place + 1:]
             if other.role == 'option' and not other.number]
  if node.role in ('combobox', 'listbox') and options:
    return action('select_option', node.number, rng.choice(options))
  if node.role == 'slider':
    return action('press', node.number, rng.choice(('ArrowRight', 'ArrowLeft', 'PageUp')))
  if rng.random() < 0.04:
    return action('dblclick', node.number)
  return action('click', node.number)
