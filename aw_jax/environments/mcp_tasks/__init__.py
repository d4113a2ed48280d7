"""Task families of the tool servers; see the modules for what each asks."""

from aw_jax.environments.mcp_tasks import clock, git, shop
from aw_jax.environments.mcp_tasks.actions import McpActions
from aw_jax.environments.registry import Family

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
)
