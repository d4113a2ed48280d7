"""Fetches the tool servers of domain mcp that are no Python packages of the default install, once.

    python -m experiments.fetch_mcp

They go to the folder mcp in AW_JAX_CACHE, by default ~/.cache/aw_jax: the npm servers filesystem,
memory and everything, in the versions of aw_jax/environments/servers/npm; and the benchmarks tau2
and BFCL with a catalogue of their tasks. Run again, the command fetches what is not there.
"""

import sys

from absl import app

from aw_jax.environments import benchmark_servers, npm_servers
from aw_jax.environments.base import MissingProgramError


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    npm_servers.fetch()
    benchmark_servers.fetch()
  except (MissingProgramError, OSError) as error:
    sys.exit(f'fetch_mcp: {error}')
  print(f'{", ".join(npm_servers.SERVERS)} in {npm_servers.folder()}')
  for name in benchmark_servers.SERVERS:
    found = benchmark_servers.catalogue(name)
    print(f'{name}: {len(found.tasks)} tasks in {benchmark_servers.catalogue_path(name)}; '
          f'{found.unchanged} left out, in which there is nothing to change')


if __name__ == '__main__':
  app.run(main)
