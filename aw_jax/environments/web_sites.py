"""The local sites of domain web: packages from npm, fetched once into a cache folder.

Of TodoMVC two of its applications are kept, whose todos are in the browser's storage; of TiddlyWiki
the empty wiki, one file, which the package's own program builds in a sandbox. MiniWoB++ is an
installed Python package.
"""

import base64
import dataclasses
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile

from aw_jax.environments import bubblewrap, caches
from aw_jax.environments.base import MissingProgramError
from aw_jax.trajectories import write_atomically

FETCH = 'python -m experiments.fetch_web'
_BUILD = ('cd /package && node tiddlywiki.js editions/empty --output /tmp/wiki --build empty >&2 '
          '&& cat /tmp/wiki/empty.html')
_SECONDS = 300  # for npm, and for the wiki


@dataclasses.dataclass(frozen=True)
class Site:
  """A package of npm.

  Attributes:
    package: its name.
    version: exactly this one.
    sha512: of its archive, in base 64 as npm writes it.
    keep: the folders and files of it that are served; () where its page is built.
    page: a file that is there once it was fetched, relative to its folder.
  """

  package: str
  version: str
  sha512: str
  keep: tuple[str, ...]
  page: str

  @property
  def folder(self) -> str:
    """Where its files are."""
    return os.path.join(caches.folder('web'), f'{self.package}-{self.version}')

  @property
  def path(self) -> str:
    """The whole path of `page`."""
    return os.path.join(self.folder, self.page)


SITES = {
    'todomvc': Site(
        'todomvc', '0.1.1',
        'gd6+DoObD0yzXEpbvHvkSoOd9/krxd/wvUTbzvKe7uTjAM2v9wG6zy4Icl6aUcMpDof53Cz2l5O/9mdN3Jk+ag==',
        ('examples/vanillajs', 'examples/vue', 'license.md'), 'examples/vanillajs/index.html'),
    'tiddlywiki': Site(
        'tiddlywiki', '5.4.1',
        '5Pnk7j8cUMoQHD0CarOWd4ixITURsN4DJxLfg8AGYSMiQoOHH6bp8JDCAgSdvZHRCQmvXtbm5FRxBFBT6WG24A==',
        (), 'index.html')}


def fetch(site: Site) -> None:
  """Fetches a site that is not there.

  Raises:
    MissingProgramError: where npm, node or bwrap is missing, or the registry gives no such file.
  """
  if os.path.exists(site.path):
    return
  for program, package in (('npm', 'npm'), ('node', 'nodejs'), ('bwrap', 'bubblewrap')):
    if shutil.which(program) is None:
      raise MissingProgramError(f'{program} not found: apt-get install -y {package}')
  os.makedirs(caches.folder('web'), exist_ok=True)
  with tempfile.TemporaryDirectory(dir=caches.folder('web')) as temporary:
    package = _unpacked(site, _archive(site, temporary), temporary)
    made = os.path.join(temporary, 'site')
    os.makedirs(made)
    if site.keep:
      for name in site.keep:
        source, target = os.path.join(package, name), os.path.join(made, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        (shutil.copytree if os.path.isdir(source) else shutil.copyfile)(source, target)
    else:
      write_atomically(os.path.join(made, site.page), _build(package))
    shutil.rmtree(site.folder, ignore_errors=True)
    os.rename(made, site.folder)


def _archive(site: Site, folder: str) -> str:
  """Downloads a package's archive and checks it; its path."""
  run = subprocess.run(
      ['npm', 'pack', f'{site.package}@{site.version}', '--ignore-scripts', '--silent',
       '--pack-destination', folder],
      capture_output=True, text=True, timeout=_SECONDS, check=False)
  path = os.path.join(folder, f'{site.package}-{site.version}.tgz')
  if run.returncode or not os.path.exists(path):
    said = (run.stderr.strip().split('\n') or [''])[-1]
    raise MissingProgramError(f'npm gives no {site.package}@{site.version}: {said}')
  with open(path, 'rb') as file:
    found = base64.b64encode(hashlib.sha512(file.read()).digest()).decode()
  if found != site.sha512:
    raise MissingProgramError(f'{site.package}@{site.version} is not the file that was tried')
  return path


def _unpacked(site: Site, archive: str, folder: str) -> str:
  """Unpacks what is needed of an archive; the folder of the package."""
  wanted = tuple(f'package/{name}' for name in site.keep) or ('package',)
  with tarfile.open(archive) as file:
    members = [member for member in file.getmembers()
               if member.isfile() and any(member.name == name or member.name.startswith(name + '/')
                                          for name in wanted)]
    file.extractall(folder, members, filter='data')
  return os.path.join(folder, 'package')


def _build(package: str) -> str:
  """The wiki that a package's own program makes, run without network."""
  command = bubblewrap.arguments(
      0, 64 << 20, {'/package': package}, {'PATH': '/usr/bin:/bin', 'HOME': '/tmp'})
  run = subprocess.run(
      [*command, '--', 'sh', '-c', _BUILD], capture_output=True, timeout=_SECONDS, check=False,
      env={})
  if run.returncode:
    said = run.stderr.decode('utf-8', 'replace').strip().split('\n')[-1]
    raise MissingProgramError(f'the wiki could not be built: {said}')
  return run.stdout.decode()
