"""A browser in a bubblewrap sandbox, one for each process, shared by all of its environments.

What is inside the sandbox: no network but its own loopback, the sites' files, the Python
environment and /usr read only, a small /tmp, no other process, an unprivileged user, limits on
memory, processes and file size. A browser that dies or hangs is ended, those who were on its pages
are told, and the next request starts another.
"""

import atexit
import dataclasses
import importlib.util
import json
import os
import shutil
import sys

from aw_jax.environments import bubblewrap, web_sites, workers
from aw_jax.environments.base import MissingProgramError

_HERE = os.path.dirname(os.path.abspath(__file__))
_MODULE = 'aw_jax.environments.web_browser'
# miniwob is pages; what it asks for is Selenium and gymnasium to drive them, which are not used.
_DEBIAN = '/usr/lib/chromium/chromium'  # what Debian's script of that name starts, given /etc
INSTALL = "pip install -e '.[web]' && pip install --no-deps miniwob==1.1.0"


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a browser may use.

  Attributes:
    start_seconds: wall-clock time to open a page, the browser's own start included.
    call_seconds: wall-clock time of one action.
    data_bytes: private writable memory of one process; address space cannot be limited, since
      Chromium reserves far more of it than it uses.
    processes: processes and threads at a time.
    disk_bytes: size of /tmp, where its profile and shared memory lie.
  """

  start_seconds: float = 120.0
  call_seconds: float = 30.0
  data_bytes: int = 2 << 30
  processes: int = 400
  disk_bytes: int = 512 << 20


class Host(workers.Worker):
  """A browser in its sandbox."""

  def __init__(self, limits: Limits = Limits()):
    super().__init__('browser', 'its pages', ('start',), limits)

  def command(self) -> list[str]:
    """The command line of the browser. Raises MissingProgramError."""
    return _command(self._limits)


_host = Host()
atexit.register(_host.close)


def shared() -> Host:
  """This process's browser."""
  return _host


def missing() -> str:
  """What has to be installed, as a sentence; '' where nothing is missing."""
  for program, package in (('bwrap', 'bubblewrap'), ('chromium', 'chromium')):
    if shutil.which(program) is None:
      return f'{program} not found: apt-get install -y {package}'
  for package in ('playwright', 'miniwob'):
    if importlib.util.find_spec(package) is None:
      return f'the package {package!r} is not installed: {INSTALL}'
  return ''


def _command(limits: Limits) -> list[str]:
  problem = missing()
  if problem:
    raise MissingProgramError(problem)
  uid = 200_000 + os.getpid() if os.geteuid() == 0 else 0
  packages = os.path.dirname(os.path.dirname(importlib.util.find_spec('playwright').origin))
  pages = os.path.join(os.path.dirname(importlib.util.find_spec('miniwob').origin), 'html')
  folders = {'miniwob': pages, **{name: site.folder for name, site in web_sites.SITES.items()
                                  if os.path.exists(site.path)}}
  binds = {folder: folder for folder in bubblewrap.python_folders([packages])}
  binds |= {f'/opt/web/aw_jax/environments/{name}': os.path.join(_HERE, name)
            for name in ('answering.py', 'web_browser')}
  binds |= {'/etc/fonts': '/etc/fonts'}
  binds |= {f'/opt/sites/{name}': folder for name, folder in folders.items()}
  variables = {
      'HOME': '/tmp', 'PATH': '/usr/bin:/bin', 'TZ': 'UTC', 'LC_ALL': 'C.UTF-8',
      'PYTHONHASHSEED': '0', 'PYTHONDONTWRITEBYTECODE': '1',
      'PYTHONPATH': f'/opt/web:{packages}', 'PLAYWRIGHT_SKIP_VALIDATE_HOST_REQUIREMENTS': '1'}
  command = bubblewrap.arguments(uid, limits.disk_bytes, binds, variables)
  settings = {
      'program': _DEBIAN if os.path.exists(_DEBIAN) else os.path.realpath(shutil.which('chromium')),
      'roots': {f'{name}.test': f'/opt/sites/{name}' for name in folders}}
  program = bubblewrap.confined(
      uid, {'DATA': limits.data_bytes, 'NPROC': limits.processes, 'FSIZE': limits.disk_bytes,
            'NOFILE': 4096},
      [sys.executable, '-P', '-B', '-m', f'{_MODULE}.serve', json.dumps(settings)])
  return [*command, '--remount-ro', '/', '--chdir', '/tmp', *program]
