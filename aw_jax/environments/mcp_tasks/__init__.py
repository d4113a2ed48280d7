"""Task families of the tool servers; see the modules for what each asks.

Those of servers that `experiments.fetch_mcp` installs are optional: without them the series of
tasks is that of the default install.
"""

from collections.abc import Callable

from aw_jax.environments import npm_servers
from aw_jax.environments.mcp_tasks import (
  benchmarks,
  clock,
  everything,
  filesystem,
  git,
  memory,
  shop,
)
from aw_jax.environments.mcp_tasks.actions import McpActions
from aw_jax.environments.registry import Family


def _npm(server: str, make: Callable, *, held_out: bool = False) -> Family:
  return Family(make.__name__, make, held_out, ('node', npm_servers.script(server)), optional=True)


ACTIONS = McpActions()
FAMILIES = (
    *(Family(make.__name__, make) for make in (
        shop.order, shop.cancel, shop.refund, shop.return_stock, shop.address, shop.restock,
        shop.ship_all, shop.restock_order, shop.total)),
    *(Family(make.__name__, make, requires=('git',)) for make in (
        git.commit, git.branch, git.unstage, git.read_branch)),
    Family('convert', clock.convert),
    Family('now', clock.now),
    Family('replace_order', shop.replace_order, held_out=True),
    Family('branch_commit', git.branch_commit, held_out=True, requires=('git',)),
    *(_npm('filesystem', make) for make in (
        filesystem.fs_collect, filesystem.fs_correct, filesystem.fs_archive, filesystem.fs_count,
        filesystem.fs_line)),
    _npm('filesystem', filesystem.fs_exchange, held_out=True),
    *(_npm('memory', make) for make in (
        memory.memory_note, memory.memory_newcomer, memory.memory_move, memory.memory_forget,
        memory.memory_likes)),
    _npm('memory', memory.memory_team, held_out=True),
    _npm('everything', everything.everything_sum),
    _npm('everything', everything.everything_weather),
    _npm('everything', everything.everything_humidity, held_out=True),
    *benchmarks.FAMILIES,
)
