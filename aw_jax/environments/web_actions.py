"""BrowserGym's actions as text: one call of Python with constants for arguments, never evaluated.

    click('12')
    fill('3', 'Ada Lovelace')
    select_option('7', ['red', 'blue'])
"""

import ast
from typing import Any

MAX_ACTION_CHARACTERS = 2000
MAX_WAIT_MS = 10_000
_BUTTONS = ('left', 'middle', 'right')
_MODIFIERS = ('Alt', 'Control', 'ControlOrMeta', 'Meta', 'Shift')
REQUIRED = object()  # an argument that has to be given
_POINTER = {'bid': REQUIRED, 'button': 'left', 'modifiers': []}
# Of each action: argument -> what it is where it is left out.
SIGNATURES: dict[str, dict[str, Any]] = {
    'click': _POINTER, 'dblclick': _POINTER,
    'hover': {'bid': REQUIRED}, 'focus': {'bid': REQUIRED}, 'clear': {'bid': REQUIRED},
    'check': {'bid': REQUIRED}, 'uncheck': {'bid': REQUIRED},
    'fill': {'bid': REQUIRED, 'value': REQUIRED},
    'press': {'bid': REQUIRED, 'key_comb': REQUIRED},
    'select_option': {'bid': REQUIRED, 'options': REQUIRED},
    'drag_and_drop': {'from_bid': REQUIRED, 'to_bid': REQUIRED},
    'keyboard_press': {'key': REQUIRED}, 'keyboard_type': {'text': REQUIRED},
    'scroll': {'delta_x': REQUIRED, 'delta_y': REQUIRED}, 'noop': {'wait_ms': 1000},
    'goto': {'url': REQUIRED}, 'go_back': {}, 'go_forward': {}}


class ActionError(ValueError):
  """The text is no action; the message is what the browser then answers."""


def text(name: str, *arguments: Any) -> str:
  """An action as it is written: `text('fill', '3', 'Ada')` is "fill('3', 'Ada')"."""
  return f'{name}({", ".join(map(repr, arguments))})'


def parse(action: str) -> tuple[str, dict[str, Any]]:
  """The name of an action, and all of its arguments by name; elements' numbers are integers.

  Raises:
    ActionError: for anything else than one call of a known action with constants that fit.
  """
  if len(action) > MAX_ACTION_CHARACTERS:
    raise ActionError(f'an action has at most {MAX_ACTION_CHARACTERS} characters')
  try:
    call = ast.parse(action.strip(), mode='eval').body
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    raise ActionError("an action is one call such as click('12')") from None
  if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
    raise ActionError("an action is one call such as click('12')")
  name = call.func.id
  if name not in SIGNATURES:
    raise ActionError(f'there is no action {name}; there are {", ".join(SIGNATURES)}')
  arguments = _bind(name, call)
  return name, {key: _checked(key, value) for key, value in arguments.items()}


def _bind(name: str, call: ast.Call) -> dict[str, Any]:
  """The arguments of a call by name, in the order of the signature."""
  signature = SIGNATURES[name]
  try:
    given = [ast.literal_eval(argument) for argument in call.args]
    named = {argument.arg: ast.literal_eval(argument.value) for argument in call.keywords}
  except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
    raise ActionError(f'the arguments of {name} are constants') from None
  placed = dict(zip(signature, given, strict=False))
  if len(given) > len(signature) or set(named) - set(signature) or set(named) & set(placed):
    raise ActionError(f'{name} takes ({", ".join(signature)})')
  bound = {**signature, **placed, **named}
  for key, value in bound.items():
    if value is REQUIRED:
      raise ActionError(f'{name} needs {key}')
  return bound


def _checked(key: str, value: Any) -> Any:
  """An argument of the type that its name says."""
  if key in ('bid', 'from_bid', 'to_bid'):
    number = str(value)
    if not (isinstance(value, str | int) and number.isascii() and number.isdigit()
            and len(number) < 8):
      raise ActionError(f'{key} is the number of an element as a string')
    return int(number)
  if key in ('delta_x', 'delta_y', 'wait_ms'):
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e5:
      raise ActionError(f'{key} is a number')
    return min(max(value, 0), MAX_WAIT_MS) if key == 'wait_ms' else value
  if key in ('options', 'modifiers'):
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
      raise ActionError(f'{key} is a list of strings')
    if key == 'modifiers' and not set(values) <= set(_MODIFIERS):
      raise ActionError(f'modifiers are of {", ".join(_MODIFIERS)}')
    return values
  if not isinstance(value, str):
    raise ActionError(f'{key} is a string')
  if key == 'button' and value not in _BUTTONS:
    raise ActionError(f'button is one of {", ".join(_BUTTONS)}')
  return value
