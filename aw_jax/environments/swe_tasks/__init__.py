"""Task families of domain swe; see mending.py."""

import functools

from aw_jax.environments.registry import Family
from aw_jax.environments.swe_tasks import mending, mutations
from aw_jax.environments.swe_tasks.actions import SweActions

ACTIONS = SweActions()
FAMILIES = (
    *(Family(name, functools.partial(mending.mend, name)) for name in mutations.FAMILIES),
    *(Family(make.__name__, make, held_out=True) for make in (
        mending.two_mistakes, mending.new_package, mending.real_fix)),
)
