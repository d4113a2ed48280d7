"""The facts of every domain, one file each: a module of the domain's name that defines `FACTS`."""

import importlib

from aw_jax.prompts.facts import Facts
from aw_jax.trajectories import DOMAINS

FACTS: dict[str, Facts] = {
    domain: importlib.import_module(f'{__name__}.{domain}').FACTS for domain in DOMAINS}
