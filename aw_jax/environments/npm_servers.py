"""The reference servers that are written in TypeScript: filesystem, memory, everything.

`fetch` installs exactly the versions of servers/npm/package-lock.json, each checked against its
hash, into the cache folder; node runs them.
"""

import os
import shutil
import subprocess

from aw_jax.environments import caches
from aw_jax.environments.base import MissingProgramError

SERVERS = ('filesystem', 'memory', 'everything')
INSTALL = 'python -m experiments.fetch_mcp'
_LOCK_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'servers', 'npm')
_LOCK = 'package-lock.json'
_FETCH_SECONDS = 600
_MODULES, _NODE = '/opt/npm', '/opt/node'  # where a sandbox has them
_OPTIONS = ('--max-old-space-size=256',)  # MiB: the bound of its memory
# Node reserves ten gigabytes of addresses, and hardly uses them, where it runs WebAssembly.
ADDRESS_BYTES = 32 << 30


def folder() -> str:
  """Where the servers are kept."""
  return os.path.join(caches.folder('mcp'), 'npm')


def script(name: str) -> str:
  """The main file of a server, on the host."""
  return os.path.join(folder(), _within(name))


def missing(name: str) -> str:
  """What has to be installed for a server, as a sentence; '' where nothing is missing."""
  if shutil.which('node') is None:
    return 'node not found: apt-get install -y nodejs npm'
  if not os.path.isfile(script(name)):
    return f'the {name} server is not there: {INSTALL}'
  return ''


def fetch() -> None:
  """Installs the servers into the cache folder, unless these versions are there.

  Raises:
    MissingProgramError: where node or npm is missing, or npm fails.
  """
  target, partial = folder(), f'{folder()}.partial'
  if _same(os.path.join(target, _LOCK), os.path.join(_LOCK_FOLDER, _LOCK)):
    return
  for program in ('node', 'npm'):
    if shutil.which(program) is None:
      raise MissingProgramError(f'{program} not found: apt-get install -y nodejs npm')
  shutil.rmtree(partial, ignore_errors=True)
  shutil.copytree(_LOCK_FOLDER, partial)
  command = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund']
  try:
    run = subprocess.run(command, cwd=partial, capture_output=True, text=True, check=False,
                         stdin=subprocess.DEVNULL, timeout=_FETCH_SECONDS)
  except subprocess.TimeoutExpired as error:
    raise MissingProgramError(f'npm was not done after {_FETCH_SECONDS} seconds') from error
  if run.returncode:
    said = run.stderr.strip().split('\n')[0]
    raise MissingProgramError(f'npm could not install the tool servers ({said})')
  shutil.rmtree(target, ignore_errors=True)
  os.rename(partial, target)


def binds() -> dict[str, str]:
  """path inside -> path on the host of what a server needs."""
  return {_MODULES: folder(), _NODE: os.path.realpath(shutil.which('node'))}


def variables(name: str, world: str) -> dict[str, str]:
  """The environment of a server whose state lies in `world`."""
  return {'MEMORY_FILE_PATH': f'{world}/memory.jsonl'} if name == 'memory' else {}


def command(name: str, world: str) -> list[str]:
  """The command line of a server, inside."""
  arguments = [world] if name == 'filesystem' else []
  return [_NODE, *_OPTIONS, f'{_MODULES}/{_within(name)}', *arguments]


def _within(name: str) -> str:
  return f'node_modules/@modelcontextprotocol/server-{name}/dist/index.js'


def _same(first: str, second: str) -> bool:
  try:
    with open(first, 'rb') as one, open(second, 'rb') as other:
      return one.read() == other.read()
  except FileNotFoundError:
    return False
