"""What a system prompt can say of a domain, and the tools that a task declares.

One file of `aw_jax/prompts/domains` holds the `Facts` of one domain; `templates` lays them out.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Tool:
  """A tool that an agent may call.

  Attributes:
    name: what a call names.
    description: what it does, one sentence.
    arguments: (name, type) of each; a '?' after the name marks one that may be left out.
  """

  name: str
  description: str
  arguments: tuple[tuple[str, str], ...] = ()

  @property
  def signature(self) -> str:
    """`get_order(order_id: integer)`."""
    return f'{self.name}({", ".join(f"{name}: {kind}" for name, kind in self.arguments)})'


@dataclasses.dataclass(frozen=True)
class Facts:
  """All that prompts say of a domain. Each line of a tuple is a sentence or two of its own.

  Attributes:
    world: what is simulated, as it stands in a sentence: 'a Linux terminal'.
    state_name: heading of the initial state.
    purpose: the world model's task, a short paragraph.
    actions: the action space; the first line is enough for a small prompt.
    observations: how an observation looks.
    state: how the text of the initial state is to be read.
    rules: how actions change the state, and what stays.
    errors: what goes wrong, and how the environment says so.
    runtime: what nobody can predict, and how it should look all the same.
    demonstration: (action, observation) pairs in turn, from the state `demonstration_state`.
    demonstration_state: the state before the first of them.
    toolsets: the tools of each server (`Task.setup['server']`); '' where there is but one set.
  """

  world: str
  state_name: str
  purpose: str
  actions: tuple[str, ...]
  observations: tuple[str, ...]
  state: tuple[str, ...]
  rules: tuple[str, ...]
  errors: tuple[str, ...]
  runtime: tuple[str, ...]
  demonstration: tuple[tuple[str, str], ...]
  demonstration_state: str
  toolsets: Mapping[str, tuple[Tool, ...]] = dataclasses.field(default_factory=dict)


def declared_tools(setup: Mapping[str, Any]) -> tuple[Tool, ...] | None:
  """The action space that a task itself declares in `setup['tools']`, None where it does not.

  A declaration is a list of tools as OpenAI's API or MCP describe them: `name`, `description`, and
  a JSON schema of the arguments in `parameters` or `inputSchema`; the wrapping
  `{"type": "function", "function": {…}}` may be there or not. What is no such list declares
  nothing.
  """
  declared = setup.get('tools')
  if not isinstance(declared, list):
    return None
  return tuple(_read_tool(tool) for tool in declared if isinstance(tool, dict))


def _read_tool(value: dict[str, Any]) -> Tool:
  if isinstance(value.get('function'), dict):
    value = value['function']
  schema = value.get('parameters') or value.get('inputSchema') or {}
  required = schema.get('required', ())
  arguments = tuple(
      (name if name in required else f'{name}?', _kind(argument))
      for name, argument in schema.get('properties', {}).items())
  return Tool(str(value.get('name', '')), str(value.get('description', '')), arguments)


def _kind(argument: Any) -> str:
  """The type of an argument: that of its JSON schema, or the values there are."""
  if not isinstance(argument, dict):
    return 'any'
  if 'enum' in argument:
    return ' | '.join(json.dumps(value) for value in argument['enum'])
  kind = argument.get('type', 'any')
  return ' | '.join(kind) if isinstance(kind, list) else str(kind)
