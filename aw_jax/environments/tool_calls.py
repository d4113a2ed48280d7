"""What tool calls may look like: the argument lists of each tool."""

from collections.abc import Mapping, Sequence
from typing import Any

from aw_jax.environments.mcp import CallError

Forms = Mapping[str, Sequence[Mapping[str, type]]]  # tool -> the argument lists it may have


def check_form(tools: Forms, name: str, arguments: Mapping[str, Any]) -> None:
  """Raises CallError for an unknown tool, and for arguments of other names or types than it has."""
  if name not in tools:
    raise CallError(f'there is no tool {name[:60]!r}; there are {", ".join(tools)}')
  form = next((form for form in tools[name] if set(form) == set(arguments)), None)
  if form is None:
    forms = ' or '.join(' and '.join(form) or 'no arguments' for form in tools[name])
    raise CallError(f'{name} takes {forms}')
  for argument, kind in form.items():
    if type(arguments[argument]) is not kind:
      raise CallError(f'{argument} must be {"an integer" if kind is int else "a string"}')


def check_text(text: str, limit: int) -> None:
  """Raises CallError for what cannot be typed: all but printable ASCII, or more than `limit`."""
  if not (text.isascii() and text.isprintable() and 0 < len(text) <= limit):
    raise CallError(f'text must be 1 to {limit} printable ASCII characters')
