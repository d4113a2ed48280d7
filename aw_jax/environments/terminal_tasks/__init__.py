"""Terminal task families; see the modules for what each asks."""

from aw_jax.environments.registry import Family
from aw_jax.environments.terminal_tasks import (
    arranging,
    editing,
    held_out,
    programs,
    screens,
    shell,
    tables,
)
from aw_jax.environments.terminal_tasks.actions import TerminalActions

ACTIONS = TerminalActions()
FAMILIES = (
    *(Family(make.__name__, make) for make in (
        editing.create, editing.append, editing.edit, editing.search, editing.count, editing.sort,
        editing.merge, editing.extract, editing.pipeline, editing.unique,
        arranging.rename, arranging.move, arranging.copy, arranging.permissions, arranging.archive,
        arranging.folders, arranging.find, arranging.tidy,
        tables.paste, tables.configure, shell.compare, shell.link, shell.rename_all, shell.script,
        shell.compress)),
    *(Family(make.__name__, make, requires=('awk',)) for make in (tables.select, tables.total)),
    Family('python', programs.python, requires=('python3',)),
    Family('git', programs.git, requires=('git',)),
    Family('sqlite', programs.sqlite, requires=('sqlite3',)),
    *(Family(make.__name__, make, held_out=True) for make in (
        held_out.merge_sort, held_out.rotate, held_out.top_rows, held_out.revise_copy,
        held_out.complete)),
    *(Family(make.__name__, make, requires=('tmux', *program)) for make, *program in (
        (screens.screen_prompt, 'python3'), (screens.screen_typing,), (screens.screen_form,),
        (screens.screen_python, 'python3'), (screens.screen_pager, 'less'),
        (screens.screen_editor, 'nano'))),
    Family('select_sort', held_out.select_sort, held_out=True, requires=('awk',)),
)
