"""The packages of domain swe: source distributions from PyPI, fetched once into a cache folder.

A source distribution holds a package's tests beside its code. Those listed here need nothing but
the standard library and pytest, and no network. To download one, pip runs its build script once;
after that they are read in memory, and what is in them runs in the sandbox alone. pytest is taken
from this installation and packed into an archive that the sandbox's own python imports.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator

from aw_jax.environments import caches, sandbox
from aw_jax.environments.base import MissingProgramError
from aw_jax.trajectories import write_atomically

FETCH = 'python -m experiments.fetch_swe'
_PYTEST = "pip install -e '.[swe]'"
_MODULES = ('pytest', '_pytest', 'py', 'pluggy', 'iniconfig', 'packaging', 'pygments')
# Packs modules, compiled by the python that runs this; of pygments what pytest imports.
_PACK = r"""
import io, os, py_compile, sys, tempfile, zipfile
data = io.BytesIO()
with tempfile.TemporaryDirectory() as temporary, zipfile.ZipFile(data, 'w') as archive:
  for place in sys.argv[1:]:
    top = os.path.dirname(place)
    paths = [place] if place.endswith('.py') else sorted(
        os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names
        if name.endswith('.py'))
    for path in paths:
      name = os.path.relpath(path, top)
      parts = name.split(os.sep)
      if parts[0] == 'pygments' and parts[1] in ('lexers', 'styles') and parts[2] not in (
          '__init__.py', '_mapping.py', 'python.py', 'diff.py', 'default.py'):
        continue
      compiled = os.path.join(temporary, 'x.pyc')
      py_compile.compile(path, compiled, dfile=name, doraise=True)
      with open(compiled, 'rb') as file:
        archive.writestr(zipfile.ZipInfo(name + 'c'), file.read(), zipfile.ZIP_DEFLATED)
sys.stdout.buffer.write(data.getvalue())
"""


@dataclasses.dataclass(frozen=True)
class Package:
  """A source distribution.

  Attributes:
    project: its name on PyPI.
    version: exactly this one.
    sha256: of the file.
    source: the files and folders that hold its code.
    tests: the files and folders that hold its tests, what they read included.
  """

  project: str
  version: str
  sha256: str
  source: tuple[str, ...]
  tests: tuple[str, ...]

  @property
  def name(self) -> str:
    """`tinydb-4.9.0`, which names the package in tasks."""
    return f'{self.project}-{self.version}'

  @property
  def file_name(self) -> str:
    """The name of its file."""
    return f'{self.name}.tar.gz'

  def is_test(self, path: str) -> bool:
    """Whether a path belongs to the tests."""
    return _within(path, self.tests)

  def is_source(self, path: str) -> bool:
    """Whether a path belongs to the code."""
    return _within(path, self.source) and not self.is_test(path)


PACKAGES = {package.name: package for package in (
    Package('inflection', '0.5.1',
            '1a29730d366e996aaacffb2f1f1cb9593dc38e2ddd30c91250c6dde09ea9b417',
            ('inflection',), ('test_inflection.py',)),
    Package('isodate', '0.7.2',
            '4cd1aa0f43ca76f4a6c6c0292a85f40b35ec2e43e315b59f06e6d32171a953e6',
            ('src/isodate',), ('tests',)),
    Package('parse', '1.22.4',
            '706d458feed5a81b02768d3156e8070baf6cee7d150a3a3c0cd43101a875c3b5',
            ('parse',), ('tests',)),
    Package('schema', '0.7.8',
            'e86cc08edd6fe6e2522648f4e47e3a31920a76e82cce8937535422e310862ab5',
            ('schema',), ('test_schema.py', 'LICENSE-MIT')),
    Package('tabulate', '0.10.0',
            'e2cfde8f79420f6deeffdeda9aaec3b6bc5abce947655d17ac662b126e48a60d',
            ('tabulate',), ('test',)),
    Package('tinydb', '4.9.0',
            '6928b1fa785186bda7952a0ba05aaeedc883ede565ca9c7d608de44e5e75de70',
            ('tinydb',), ('tests',)),
    Package('toolz', '1.2.0',
            '9667a038e9d6ecba37995e26cb2f59ec6420b6ad8dd9677de59db9b956b08490',
            ('toolz', 'tlz'), ('toolz/tests', 'toolz/sandbox/tests', 'toolz.egg-info')),
    # Pairs of releases: what the later one mended is put back.
    Package('cachetools', '5.4.0',
            'b8adc2e7c07f105ced7bc56dbb6dfbe7c4a00acce20e2227b3f355be89bc6827',
            ('src/cachetools',), ('tests',)),
    Package('cachetools', '5.5.0',
            '2cc24fb4cbe39633fb7badd9db9ca6295d766d9c2995f245725a46715d050f2a',
            ('src/cachetools',), ('tests',)),
    Package('sqlparse', '0.5.1',
            'bb6b4df465655ef332548e24f08e205afc81b9ab86cb1c45657a7ff173a3a00e',
            ('sqlparse',), ('tests',)),
    Package('sqlparse', '0.5.2',
            '9e37b35e16d1cc652a2545f0997c1deb23ea28fa1f3eefe609eee3063c3b105f',
            ('sqlparse',), ('tests',)),
)}
MUTATED = ('isodate-0.7.2', 'parse-1.22.4', 'schema-0.7.8', 'tabulate-0.10.0', 'tinydb-4.9.0')
HELD_OUT = ('inflection-0.5.1', 'toolz-1.2.0')  # whole packages for test alone
# For test alone too, and of projects that are not mutated: a release of train holds the answers.
PAIRS = (('cachetools-5.4.0', 'cachetools-5.5.0'), ('sqlparse-0.5.1', 'sqlparse-0.5.2'))


def cache_folder() -> str:
  """Where fetched files lie."""
  return caches.folder('swe')


def missing(names: Iterable[str]) -> str:
  """What is needed and not here, and the line that gets it; '' where nothing is missing."""
  for module in _MODULES:
    if importlib.util.find_spec(module) is None:
      return f'the package {module!r}: {_PYTEST}'
  absent = [name for name in names if not _is_there(PACKAGES[name])]
  if absent:
    return (f'source packages of domain swe ({", ".join(absent)}) that are not in '
            f'{cache_folder()}: {FETCH}')
  return ''


def fetch(names: Iterable[str]) -> Iterator[Package]:
  """Downloads what is missing with pip, which checks every hash; yields each package when there.

  Raises:
    MissingProgramError: where pip cannot get one.
  """
  folder = cache_folder()
  os.makedirs(folder, exist_ok=True)
  for package in map(PACKAGES.get, names):
    if not _is_there(package):
      _download(package, folder)
    yield package


@functools.lru_cache(maxsize=32)
def files(name: str) -> dict[str, str]:
  """path -> text of a package's code and tests; bytes that are no UTF-8 are surrogates.

  Raises:
    MissingProgramError: where it was not fetched; the message says how.
  """
  package = PACKAGES[name]
  if not _is_there(package):
    raise MissingProgramError(
        f'domain swe needs the source package {name} in {cache_folder()}: {FETCH}')
  with open(_path(package), 'rb') as file:
    data = file.read()
  if hashlib.sha256(data).hexdigest() != package.sha256:
    raise MissingProgramError(f'{_path(package)} is damaged: remove it, then {FETCH}')
  found = {}
  with tarfile.open(fileobj=io.BytesIO(data)) as archive:
    for member in archive:
      path = member.name.partition('/')[2]
      if member.isfile() and (package.is_source(path) or package.is_test(path)):
        found[path] = archive.extractfile(member).read().decode('utf-8', 'surrogateescape')
  return dict(sorted(found.items()))


def pytest_archive() -> bytes:
  """pytest as a zip file for the sandbox's python; made once for each version of the two.

  Raises:
    MissingProgramError: where pytest is not installed.
  """
  places = []
  for module in _MODULES:
    spec = importlib.util.find_spec(module)
    if spec is None:
      raise MissingProgramError(f'domain swe needs the package {module!r}: {_PYTEST}')
    package = os.path.basename(spec.origin) == '__init__.py'
    places.append(os.path.dirname(spec.origin) if package else spec.origin)
  python = sandbox.python_inside()[0]
  tag = subprocess.run(
      [python, '-I', '-c', 'import sys; print(sys.implementation.cache_tag)'],
      capture_output=True, text=True, check=True).stdout.strip()
  versions = '-'.join(importlib.metadata.version(name) for name in ('pytest', 'pygments'))
  path = os.path.join(cache_folder(), f'pytest-{versions}.{tag}.zip')
  if not os.path.exists(path):
    packed = subprocess.run([python, '-I', '-c', _PACK, *places], capture_output=True, check=False)
    if packed.returncode:
      raise MissingProgramError(
          f'pytest cannot be packed for {python}: {packed.stderr.decode().strip()[-200:]}')
    write_atomically(path, packed.stdout)
  with open(path, 'rb') as file:
    return file.read()


def _path(package: Package) -> str:
  return os.path.join(cache_folder(), package.file_name)


def _is_there(package: Package) -> bool:
  return os.path.exists(_path(package))


def _download(package: Package, folder: str) -> None:
  """pip's download of one source distribution; it appears in the folder whole or not at all."""
  with tempfile.TemporaryDirectory(dir=folder) as temporary:
    wanted = os.path.join(temporary, 'wanted.txt')
    with open(wanted, 'w', encoding='utf-8') as file:
      file.write(f'{package.project}=={package.version} --hash=sha256:{package.sha256}\n')
    run = subprocess.run(
        [sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check',
         '--no-deps', '--no-binary', package.project, '--dest', temporary, '-r', wanted],
        capture_output=True, text=True, check=False)
    got = os.path.join(temporary, package.file_name)
    if run.returncode or not os.path.exists(got):
      reason = (run.stderr.strip() or 'pip left no file').split('\n')[-1]
      raise MissingProgramError(f'cannot fetch {package.name}: {reason}')
    os.replace(got, os.path.join(folder, package.file_name))


def _within(path: str, places: Iterable[str]) -> bool:
  return any(path == place or path.startswith(place + '/') for place in places)
