"""An MCP server in a bubblewrap sandbox, and the SDK's asynchronous client behind plain calls.

A server (mcp_servers.py) stays alive for many episodes; whoever owns it changes the files of its
state between calls.
"""

import asyncio
import concurrent.futures
import dataclasses
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from aw_jax.environments import mcp_servers
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.mcp_servers import WORLD, Limits


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a tool answered.

  Attributes:
    text: the text of its content.
    is_error: whether the server reports an error.
    read_only: whether the state is certainly as before.
  """

  text: str
  is_error: bool = False
  read_only: bool = False


class Scratch:
  """The directory that a server works in; its episode's state is the directory `world` in it."""

  def __init__(self, uid: int):
    self._uid = uid
    self._temporary = tempfile.TemporaryDirectory(prefix='aw_jax_mcp_', ignore_cleanup_errors=True)
    self.path = os.path.join(self._temporary.name, 'scratch')
    os.mkdir(self.path)
    self.world = os.path.join(self.path, WORLD)

  def put(self, files: dict[str, bytes]) -> None:
    """Makes `files` (path -> content) the whole state."""
    shutil.rmtree(self.world, ignore_errors=True)
    folders = {''}
    for path in files:
      while '/' in path:
        path = path.rpartition('/')[0]
        folders.add(path)
    made = [os.path.join(self.world, folder) for folder in sorted(folders)]
    for folder in made:
      os.mkdir(folder)
    for path, content in files.items():
      made.append(os.path.join(self.world, path))
      with open(made[-1], 'wb') as file:
        file.write(content)
    if self._uid:
      for path in made:
        os.chown(path, self._uid, self._uid)

  def place(self, name: str, folder: str) -> None:
    """Copies a directory of files, to stay beside the states; the server may write in it."""
    target = os.path.join(self.path, name)
    shutil.copytree(folder, target, dirs_exist_ok=True)
    if self._uid:
      for path in (target, *(os.path.join(target, file) for file in os.listdir(target))):
        os.chown(path, self._uid, self._uid)

  def move(self, source: str, target: str) -> None:
    """Renames a state kept beside the current one; the target is replaced."""
    target = os.path.join(self.path, target)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(os.path.join(self.path, source), target)

  def close(self) -> None:
    """Removes the directory."""
    self._temporary.cleanup()


class Server:
  """One sandboxed server and its scratch directory.

  Methods raise BrokenEnvironmentError where the server died or did not answer in time; it is then
  stopped, and `start` starts another.
  """

  def __init__(self, name: str, limits: Limits):
    self._name, self._limits = name, limits
    self._uid = 100_000 + os.getpid() if os.geteuid() == 0 else 0
    self.scratch = Scratch(self._uid)
    self._thread: threading.Thread | None = None
    self._read_only: dict[str, bool] = {}  # tool -> whether the server declares it so

  def start(self) -> None:
    """Starts the server unless it runs; its state must have been put.

    Raises:
      MissingProgramError: naming the line that installs what is missing.
      BrokenEnvironmentError: where it does not start.
    """
    if self._thread is not None:
      self._errors.truncate(0)  # a server's log is of use for one episode
      return
    command = mcp_servers.command(self._name, self.scratch.path, self._uid, self._limits)
    self._errors = tempfile.TemporaryFile('a+')  # noqa: SIM115  # lives as long as the server
    self._ready = concurrent.futures.Future()
    self._thread = threading.Thread(
        target=lambda: asyncio.run(self._serve(command)), name=f'mcp {self._name}', daemon=True)
    self._thread.start()
    try:
      self._ready.result(self._limits.start_seconds)
    except Exception as error:
      raise self._broken('did not start', error) from error

  def call(self, tool: str, arguments: dict[str, Any]) -> Answer:
    """Calls a tool; an error of the tool, or an unknown tool, is an answer too."""
    from mcp.shared.exceptions import MCPError
    read_only = self._read_only.get(tool, True)  # a tool that is not there changes nothing
    try:
      result = self._ask(lambda session: session.call_tool(tool, arguments))
    except MCPError as error:
      return Answer(error.error.message, True, read_only)
    text = '\n'.join(_text_of(part) for part in result.content)
    is_error = getattr(result, 'is_error', getattr(result, 'isError', False))
    return Answer(text, is_error, read_only)

  def read(self, address: str) -> str:
    """The text of a resource, which no tool shows."""
    from mcp.shared.exceptions import MCPError
    try:
      return self._ask(lambda session: session.read_resource(address)).contents[0].text
    except MCPError as error:
      raise self._broken('failed', error) from error

  def _ask(self, request: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """The answer to a request, a function of the session; raises the server's own MCPError."""
    if self._thread is None:
      raise BrokenEnvironmentError(f'the {self._name} server is not running; reset it first')
    from mcp.shared.exceptions import MCPError
    from mcp.types import CONNECTION_CLOSED
    asked = asyncio.run_coroutine_threadsafe(request(self._session), self._loop)
    try:
      return asked.result(self._limits.call_seconds)
    except TimeoutError as error:
      raise self._broken('did not answer in time', error) from error
    except MCPError as error:
      if error.error.code == CONNECTION_CLOSED:
        raise self._broken('ended', error) from error
      raise
    except Exception as error:  # an answer that is none, or a loop that has ended
      raise self._broken('failed', error) from error

  def stop(self) -> None:
    """Ends the server; the scratch directory stays."""
    if self._thread is None:
      return
    if self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None:
      self._loop.call_soon_threadsafe(self._stop.set)
    self._thread.join(timeout=15)
    self._thread = None
    self._errors.close()

  def close(self) -> None:
    """Ends the server and removes its directory."""
    self.stop()
    self.scratch.close()

  async def _serve(self, command: list[str]) -> None:
    """Connects, and stays connected until it is told to stop."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], cwd='/', encoding_error_handler='replace')
    try:
      async with asyncio.timeout(None) as timeout:
        timeout.reschedule(self._loop.time() + self._limits.start_seconds)
        async with stdio_client(parameters, self._errors) as streams:
          async with ClientSession(*streams) as session:
            await session.initialize()
            listed = await session.list_tools()
            timeout.reschedule(None)
            self._session = session
            self._read_only = {tool.name: _declares_read_only(tool) for tool in listed.tools}
            self._ready.set_result(None)
            await self._stop.wait()
    except BaseException as error:  # whatever it is, whoever waits in `start` must hear of it
      if not self._ready.done():
        self._ready.set_exception(BrokenEnvironmentError(repr(error)))

  def _broken(self, what: str, error: Exception) -> BrokenEnvironmentError:
    self._errors.seek(0)
    said = self._errors.read(10_000).strip().split('\n')[-1]
    self.stop()
    reason = said or str(error) or repr(error)
    return BrokenEnvironmentError(f'the {self._name} server {what} ({reason})')


def _text_of(part: Any) -> str:
  """A part of a response as text; of what is no text, what it is."""
  if part.type == 'text':
    return part.text
  if part.type == 'resource_link':
    return f'[link {part.uri} {part.name}]'
  if part.type == 'resource':
    return getattr(part.resource, 'text', None) or f'[resource {part.resource.uri}]'
  return f'[{part.type}]'


def _declares_read_only(tool: Any) -> bool:
  hints = tool.annotations
  return bool(hints and getattr(hints, 'read_only_hint', getattr(hints, 'readOnlyHint', False)))
