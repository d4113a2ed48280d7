"""Task families of search; see the modules for what each asks."""

from aw_jax.environments.registry import Family
from aw_jax.environments.search_sources import FOLDOC, JARGON, WORDNET, require
from aw_jax.environments.search_tasks import dictionary, invented, library
from aw_jax.environments.search_tasks.actions import SearchActions

require('factbook')
require('wikipedia')

ACTIONS = SearchActions()
FAMILIES = (
    *(Family(make.__name__, make) for make in (
        library.neighbour, library.code, library.common, library.populous, library.life,
        library.peak, library.nationality, library.births, invented.birthplace_size,
        invented.birthplace_product, invented.founding)),
    Family('kind', dictionary.kind, requires=(WORDNET,)),
    Family('reference', dictionary.reference, requires=(FOLDOC, JARGON)),
    Family('longest_life', library.longest_life, held_out=True),
    Family('neighbour_population', library.neighbour_population, held_out=True),
    Family('older_director', invented.older_director, held_out=True),
)
