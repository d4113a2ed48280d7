"""The traces beside the tests, and the whole public files where they are found.

The whole files are looked for in the folder that AW_JAX_TRACES names, in `shared/data` in the
checkout and beside it: `tau_bench_gpt4o_airline.json` and `sweagent_marshmallow-1867.traj`. Tests
of facts run on the excerpts always, and on the whole files too where those are.
"""

import json
import os
import pathlib

import pytest

from aw_jax.prompts import templates
from aw_jax.trajectories import from_json, to_json
from data_pipelines.importers import run
from data_pipelines.importers.common import Ledger, Settings, TraceError

EXCERPTS = pathlib.Path(__file__).parent / 'traces'
_ROOT = pathlib.Path(__file__).resolve().parents[3]
_FOLDERS = (os.environ.get('AW_JAX_TRACES', ''), _ROOT / 'shared/data',
            _ROOT.parent / 'shared/data')


def _everywhere(excerpt: str, whole: str) -> list[pathlib.Path]:
  found = (pathlib.Path(folder) / whole for folder in _FOLDERS if folder)
  return [EXCERPTS / excerpt, *[path for path in found if path.is_file()][:1]]


AIRLINE = _everywhere('tau_bench_airline.json', 'tau_bench_gpt4o_airline.json')
MARSHMALLOW = _everywhere('sweagent_marshmallow-1867.traj', 'sweagent_marshmallow-1867.traj')


def pytest_generate_tests(metafunc):
  """`airline` and `marshmallow` are the excerpt, and the whole file where it is found."""
  for name, paths in (('airline', AIRLINE), ('marshmallow', MARSHMALLOW)):
    if name in metafunc.fixturenames:
      metafunc.parametrize(name, paths, ids=['excerpt', 'whole'][:len(paths)])


@pytest.fixture(scope='session')
def traces() -> pathlib.Path:
  """The folder of excerpts."""
  return EXCERPTS


def _read(name: str, path, **settings):
  ledger = Ledger()
  found = list(run.FORMATS[name].read(str(path), Settings(**settings), ledger))
  return found, ledger


@pytest.fixture(scope='session')
def read():
  """read(format, path, **settings) -> (trajectories, ledger)."""
  return _read


def _refused_or_kept(name: str, path: pathlib.Path, content: bytes) -> bool:
  path.write_bytes(content)
  try:
    found, ledger = _read(name, path)
  except TraceError as error:
    assert str(error).startswith(f'{path}:'), error
    assert len(str(error).splitlines()) == 1
    return False
  assert min([0, *ledger.apart.values()]) >= 0
  kept = [one for one in (run.clean(trajectory, run.Cleaning())[0] for trajectory in found) if one]
  for trajectory in kept:
    line = json.dumps(to_json(trajectory), ensure_ascii=False).encode()  # as write_jsonl does
    assert from_json(json.loads(line)) == trajectory
    templates.task_prompt(trajectory.task, 'v11', size='full')
  return True


@pytest.fixture(scope='session')
def refused_or_kept():
  """(format, path, content): whether the content was read; else one sentence names the file.

  What survives the cleaning is the same when it is written and read, and is shown in a prompt.
  """
  return _refused_or_kept
