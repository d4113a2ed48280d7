"""The accessibility tree as lines of text.

    document "Login User Task", url="http://miniwob.test/miniwob/login-user.html"
      text "Username"
      [1] textbox value="ada", focused
      [2] button "Login"

A line is a node: its number where it can be acted on, its role, its name, its value, its states.
"""

import json

MAX_NAME_CHARACTERS = 300
MAX_VALUE_CHARACTERS = 1500
MAX_NODES = 250


def render(nodes):
  """The text of [(depth, number or 0, role, name, value, states), ...]."""
  lines = [_line(*node) for node in nodes[:MAX_NODES]]
  if len(nodes) > MAX_NODES:
    lines.append(f'  more "{len(nodes) - MAX_NODES} nodes"')
  return '\n'.join(lines)


def _line(depth, number, role, name, value, states):
  line = '  ' * depth + (f'[{number}] ' if number else '') + role
  if name:
    line += f' {_quoted(name, MAX_NAME_CHARACTERS)}'
  if value:
    line += f' value={_quoted(value, MAX_VALUE_CHARACTERS)}'
  return ', '.join((line, *states))


def _quoted(text, most):
  cut = text if len(text) <= most else text[:most - 1] + '…'
  return json.dumps(cut, ensure_ascii=False)
