"""An MCP server of the stateful worlds of published benchmarks: tau2's and BFCL's.

    python -m aw_jax.environments.servers.benchmark NAME FOLDER     serves
    python -m aw_jax.environments.servers.benchmark NAME            writes the catalogue of tasks

NAME is 'retail', 'airline', 'telecom' (tau_worlds.py) or 'bfcl' (bfcl_worlds.py). The file
episode.json in FOLDER holds the number of the task and every call so far that may have changed
something; a world that is not at hand is made anew by doing these calls. Two resources, which no
tool reaches, show the state as text and whether it is the one that the benchmark's own calls lead
to.
"""

import collections
import json
import os
import sys
from typing import Any, Protocol

STATE, VERDICT = 'world://state', 'world://verdict'
SOLVED, OPEN = 'solved', 'not solved'
_KEPT = 2  # worlds at hand: an episode's, and the initial one that counterfactuals run in


class World(Protocol):
  """The state of one task of a benchmark."""

  def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """Does a tool call; returns the answer and whether that is an error."""

  def text(self) -> str:
    """The state as text."""

  def equals(self, other: 'World') -> bool:
    """Whether the benchmark takes two states for the same."""


class Benchmark(Protocol):
  """The tasks of a benchmark.

  Attributes:
    tools: name -> {'name', 'description', 'inputSchema', 'readOnly'}.
    tasks: the benchmark's names of them, in its order.
  """

  tools: dict[str, dict[str, Any]]
  tasks: list[str]

  def fresh(self, task: str) -> World:
    """The initial state of a task."""

  def gold(self, task: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls (name, arguments) that solve a task."""

  def describe(self, task: str) -> dict[str, Any]:
    """'instruction', 'split' (of the benchmark's own, or None) and 'tools', names of them."""


def make_benchmark(name: str) -> Benchmark:
  """The benchmark of a name."""
  if name == 'bfcl':
    from aw_jax.environments.servers import bfcl_worlds
    return bfcl_worlds.Bfcl()
  from aw_jax.environments.servers import tau_worlds
  return tau_worlds.Tau(name)


class Episodes:
  """The worlds of the episodes that a folder holds one after another."""

  def __init__(self, benchmark: Benchmark, folder: str):
    self._benchmark = benchmark
    self._path = os.path.join(folder, 'episode.json')
    self._worlds: collections.OrderedDict[str, World] = collections.OrderedDict()

  def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
    """Does a tool call in the present episode."""
    record = self._read()
    world = self._world(record)
    if name not in self._benchmark.describe(record['task'])['tools']:
      return f'Unknown tool: {name}', True
    if self._benchmark.tools[name]['readOnly']:
      return world.call(name, arguments)
    del self._worlds[_key(record)]  # it will be another one's, and must not be left half done
    answer = world.call(name, arguments)
    record['calls'].append([name, arguments])
    partial = f'{self._path}.new'
    with open(partial, 'w', encoding='utf-8') as file:
      file.write(_key(record))
    os.rename(partial, self._path)
    self._worlds[_key(record)] = world
    return answer

  def read(self, address: str) -> str:
    """The state, or the verdict on it."""
    record = self._read()
    world = self._world(record)
    if address == STATE:
      return world.text()
    solved = solve(self._benchmark, record['task'])
    return SOLVED if world.equals(solved) else OPEN

  def _read(self) -> dict[str, Any]:
    with open(self._path, encoding='utf-8') as file:
      return json.load(file)

  def _world(self, record: dict[str, Any]) -> World:
    key = _key(record)
    if key not in self._worlds:
      world = self._benchmark.fresh(record['task'])
      for name, arguments in record['calls']:
        world.call(name, arguments)
      self._worlds[key] = world
    self._worlds.move_to_end(key)
    while len(self._worlds) > _KEPT:
      self._worlds.popitem(last=False)
    return self._worlds[key]


def solve(benchmark: Benchmark, task: str) -> World:
  """The state that the benchmark's own calls lead to."""
  world = benchmark.fresh(task)
  for name, arguments in benchmark.gold(task):
    world.call(name, arguments)
  return world


def catalogue(benchmark: Benchmark) -> dict[str, Any]:
  """'tools', and 'tasks': of each what `describe` tells, its name, first state and gold calls.

  Tasks that leave the state as it is are only counted, as 'unchanged': who does nothing would have
  solved them.
  """
  found, unchanged = [], 0
  for task in benchmark.tasks:
    first = benchmark.fresh(task)
    if first.equals(solve(benchmark, task)):
      unchanged += 1
      continue
    found.append({'name': task, 'state': first.text(), 'gold': benchmark.gold(task)}
                 | benchmark.describe(task))
  return {'tools': benchmark.tools, 'tasks': found, 'unchanged': unchanged}


def _key(record: dict[str, Any]) -> str:
  return json.dumps(record)


async def _serve(benchmark: Benchmark, folder: str) -> None:
  from mcp import types
  from mcp.server.lowlevel import Server
  from mcp.server.stdio import stdio_server
  episodes = Episodes(benchmark, folder)

  async def list_tools(context, parameters):
    return types.ListToolsResult(tools=[
        types.Tool(name=tool['name'], description=tool['description'],
                   input_schema={'type': 'object'},
                   annotations=types.ToolAnnotations(read_only_hint=tool['readOnly']))
        for tool in benchmark.tools.values()])

  async def call_tool(context, parameters):
    text, is_error = episodes.call(parameters.name, parameters.arguments or {})
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)

  async def read_resource(context, parameters):
    text = episodes.read(str(parameters.uri))
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=parameters.uri, text=text)])

  server = Server('benchmark', on_list_tools=list_tools, on_call_tool=call_tool,
                  on_read_resource=read_resource)
  async with stdio_server() as streams:
    await server.run(*streams, server.create_initialization_options())


def main(name: str, folder: str | None = None) -> None:
  """Serves, or writes the catalogue where there is no folder."""
  output = os.fdopen(os.dup(1), 'w', encoding='utf-8')
  if folder is None:
    os.dup2(2, 1)  # what a benchmark prints is no part of the catalogue
    json.dump(catalogue(make_benchmark(name)), output, ensure_ascii=False)
    output.close()
    return
  import asyncio
  asyncio.run(_serve(make_benchmark(name), folder))


if __name__ == '__main__':
  main(*sys.argv[1:])
