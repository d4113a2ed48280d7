"""Fetches the source packages of domain swe from PyPI into the cache folder, once.

    python -m experiments.fetch_swe

The folder is swe in AW_JAX_CACHE, by default ~/.cache/aw_jax. Every file is checked against its
hash; run again, the command fetches what is not there.
"""

import sys

import tqdm
from absl import app

from aw_jax.environments import swe_packages
from aw_jax.environments.base import MissingProgramError
from aw_jax.environments.swe_tasks import catalogue


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  names = catalogue.packages()
  try:
    with tqdm.tqdm(total=len(names), unit='package', desc='fetch') as bar:
      for package in swe_packages.fetch(names):
        bar.set_postfix_str(package.name, refresh=False)
        bar.update(1)
    swe_packages.pytest_archive()
  except (MissingProgramError, OSError) as error:
    sys.exit(f'fetch_swe: {error}')
  print(f'{len(names)} source packages in {swe_packages.cache_folder()}')


if __name__ == '__main__':
  app.run(main)
