"""Makes the catalogue of mistakes for domain swe: mutates packages and runs their tests.

    python -m experiments.survey_swe --out=/tmp/catalogue

Fetches the packages that it lacks (aw_jax/environments/swe_packages.py lists them all). One file a
package; run again with the same flags, it keeps the files that are whole and goes on.
The catalogue that tasks are made of is the file catalogue.jsonl of aw_jax/environments/swe_tasks;
`--install` puts the new one in its place, which makes other tasks of the same seeds.
"""

import os
import sys

import tqdm
from absl import app, flags

from aw_jax.environments import swe_packages
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.swe_tasks import catalogue
from aw_jax.trajectories import write_atomically

_OUT = flags.DEFINE_string('out', None, 'Directory for the files of packages.', required=True)
_WANTED = flags.DEFINE_integer(
    'wanted', 5, 'Mistakes of each family in each package.', lower_bound=1)
_INSTALL = flags.DEFINE_bool('install', False, 'Replace the catalogue that tasks are made of.')


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  names = [*swe_packages.MUTATED, *swe_packages.HELD_OUT,
           *(later for _, later in swe_packages.PAIRS)]
  texts = []
  try:
    for _ in swe_packages.fetch(swe_packages.PACKAGES):
      pass
    for name in tqdm.tqdm(names, unit='package', desc='survey'):
      path = os.path.join(_OUT.value, f'{name}.{_WANTED.value}.jsonl')
      if not os.path.exists(path):
        write_atomically(path, catalogue.text_of(catalogue.survey(name, _WANTED.value)))
      with open(path, encoding='utf-8') as file:
        texts.append(file.read())
    if _INSTALL.value:
      write_atomically(catalogue.PATH, ''.join(texts))
  except (BrokenEnvironmentError, MissingProgramError, OSError) as error:
    sys.exit(f'survey_swe: {error}')
  print(f'{sum(text.count(chr(10)) for text in texts)} mistakes that tests catch')


if __name__ == '__main__':
  app.run(main)
