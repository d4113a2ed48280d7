"""Fetches the local sites of domain web from npm into the cache folder, once.

    python -m experiments.fetch_web

The folder is web in AW_JAX_CACHE, by default ~/.cache/aw_jax. Every archive is checked against its
hash; run again, the command fetches what is not there.
"""

import sys

import tqdm
from absl import app

from aw_jax.environments import caches, web_sites
from aw_jax.environments.base import MissingProgramError


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    for name, site in tqdm.tqdm(web_sites.SITES.items(), unit='site', desc='fetch'):
      web_sites.fetch(site)
      print(f'{name} {site.version} in {site.folder}')
  except (MissingProgramError, OSError) as error:
    sys.exit(f'fetch_web: {error}')
  print(f'{len(web_sites.SITES)} sites in {caches.folder("web")}')


if __name__ == '__main__':
  app.run(main)
