"""Search: a real engine (tantivy) over a fixed collection, as an MCP server in a sandbox.

    {"name": "search", "arguments": {"query": "highest point Poland", "page": 2}}
    {"name": "open", "arguments": {"address": "https://factbook.test/poland/geography"}}
    {"name": "find", "arguments": {"address": "https://…", "text": "border countries"}}

An observation is the text of the tool's response (servers/search.py). `Task.setup` names the
'libraries' that are searched (search_sources.py), or holds 'documents' of its own, a list of
[address, title, text]; only such a small collection can be seen as a whole, and is the state.
"""

import json
from typing import Any

from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.mcp import CallError, parse_call, render
from aw_jax.environments.mcp_client import Answer, Limits, Server
from aw_jax.environments.search_index import index_folder
from aw_jax.environments.servers.search import index_name
from aw_jax.trajectories import Task


class SearchEnvironment(Environment):
  """One search server, started on first use and kept for later episodes.

  Requests change nothing: a counterfactual is the same request, done once.
  """

  domain = 'search'

  def __init__(self, limits: Limits | None = None):
    self._server = Server('search', limits or Limits())
    self._placed: set[str] = set()  # indexes that lie beside the server's state
    self._state: str | None = None
    self._ready = False
    self._memory: dict[str, Step] = {}  # what the episode's actions got

  def reset(self, task: Task, seed: int = 0) -> str:
    """Makes the task's collection the one that is searched; there is no first observation.

    Raises:
      BrokenEnvironmentError: where the server does not start or an index cannot be written; the
        next reset tries again.
      MissingProgramError: where bwrap, a package or a library is missing.
    """
    del seed  # nothing is drawn
    self._ready, self._memory = False, {}
    if 'libraries' in task.setup:
      self._place(task.setup['libraries'])
    self._server.scratch.put({'collection.json': collection_file(task.setup)})
    self._server.start()
    self._state, self._ready = state(task.setup), True
    return ''

  def step(self, action: str) -> Step:
    """Does one tool call."""
    if not self._ready:
      raise BrokenEnvironmentError('the search engine was not reset')
    if action not in self._memory:
      try:
        answer = self._server.call(*parse_call(action))
      except CallError as error:
        answer = Answer(str(error), is_error=True)
      self._memory[action] = Step(render(answer))
    return self._memory[action]

  def snapshot(self) -> str | None:
    """The documents of a task that brings its own; None over a library."""
    return self._state

  def counterfactual(self, action: str) -> Step:
    """The same as `step`: a request changes nothing."""
    return self.step(action)

  def close(self) -> None:
    """Ends the server and removes its files."""
    self._ready = False
    self._server.close()

  def _place(self, libraries: list[str]) -> None:
    """Copies an index beside the server's state: to open one, the engine writes a lock there."""
    name = index_name(libraries)
    if name in self._placed:
      return
    folder = index_folder(libraries)
    try:
      self._server.scratch.place(name, folder)
    except OSError as error:
      raise BrokenEnvironmentError(
          f'the index of {name} cannot be copied ({error}): make room, or set TMPDIR to another '
          'directory') from error
    self._placed.add(name)


def collection_file(setup: dict[str, Any]) -> bytes:
  """The content of the file that tells the server what is searched."""
  kept = {key: setup[key] for key in ('libraries', 'documents') if key in setup}
  return json.dumps(kept, ensure_ascii=False).encode()


def state(setup: dict[str, Any]) -> str | None:
  """A collection as text where the task brings its own documents, else None."""
  if 'documents' not in setup:
    return None
  return '\n'.join(f'== {address}\n{title}\n{text}' for address, title, text in setup['documents'])
