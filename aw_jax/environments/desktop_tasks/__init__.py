"""Task families of the os domain: GTK applications, verified by files and by what is shown."""

from aw_jax.environments.desktop_tasks import calculator, editor, file_managers, several
from aw_jax.environments.desktop_tasks.actions import DesktopActions

ACTIONS = DesktopActions()
FAMILIES = (
    *editor.FAMILIES, *calculator.FAMILIES, *file_managers.FAMILIES, *several.FAMILIES)
