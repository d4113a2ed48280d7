"""Task families of the os domain: GTK applications, verified by files and by what is shown."""

from aw_jax.environments.desktop_tasks import editor
from aw_jax.environments.desktop_tasks.actions import DesktopActions

ACTIONS = DesktopActions()
FAMILIES = (*editor.FAMILIES,)
