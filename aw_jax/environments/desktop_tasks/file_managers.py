"""Families of two file managers: PCManFM, and Thunar in part held out for test."""

import random

from aw_jax.environments import desktop_host
from aw_jax.environments.desktop_tasks import recipes as r
from aw_jax.environments.registry import Family, Recipe

_PCMANFM = [['pcmanfm', desktop_host.HOME]]
_THUNAR = [['thunar', desktop_host.HOME]]


def _home(rng: random.Random) -> tuple[dict[str, str], list[str]]:
  """Files and folders of a home directory."""
  files = {name: r.text(rng) for name in r.names(rng, rng.randint(2, 3))}
  return files, sorted(rng.sample(r.FOLDERS, 2))


def _renamed(files: dict[str, str], old: str, new: str) -> dict[str, str]:
  return {new if name == old else name: text for name, text in files.items()}


def rename(seed: int, rng: random.Random) -> Recipe:
  """Rename a file."""
  del seed
  return _rename(rng, _PCMANFM)


def thunar_rename(seed: int, rng: random.Random) -> Recipe:
  """Rename a file in the other file manager."""
  del seed
  return _rename(rng, _THUNAR)


def _rename(rng: random.Random, program: list[list[str]]) -> Recipe:
  files, folders = _home(rng)
  old, stem = rng.choice(list(files)), rng.choice(r.WORDS)
  return r.recipe(
      f'Rename {old} to {stem}.txt.', program, files,
      [r.click(old), r.key('f2'), r.write(stem), r.key('enter')],  # the ending is not marked
      r.files_are(_renamed(files, old, f'{stem}.txt'), folders), folders)


def folder(seed: int, rng: random.Random) -> Recipe:
  """Create a folder, by itself or in another one."""
  del seed
  files, folders = _home(rng)
  name, inside = rng.choice(r.WORDS), rng.choice([None, *folders])
  enter = [] if inside is None else [r.double_click(inside)]
  path = name if inside is None else f'{inside}/{name}'
  where = 'here' if inside is None else f'in the folder {inside}'
  return r.recipe(
      f'Create a folder named {name} {where}.', _PCMANFM, files,
      [*enter, r.key('ctrl+shift+n'), r.write(name), r.key('enter')],
      r.files_are(files, [*folders, path]), folders)


def move(seed: int, rng: random.Random) -> Recipe:
  """Move a file into a folder."""
  del seed
  files, folders = _home(rng)
  name, target = rng.choice(list(files)), rng.choice(folders)
  return r.recipe(
      f'Move {name} into the folder {target}.', _PCMANFM, files,
      [r.click(name), r.key('ctrl+x'), r.double_click(target), r.key('ctrl+v')],
      r.files_are(_renamed(files, name, f'{target}/{name}'), folders), folders)


def copy(seed: int, rng: random.Random) -> Recipe:
  """Copy a file into a folder, by the menu."""
  del seed
  files, folders = _home(rng)
  name, target = rng.choice(list(files)), rng.choice(folders)
  return r.recipe(
      f'Copy {name} into the folder {target}.', _PCMANFM, files,
      [r.click(name), *r.menu('Edit', 'Copy'), r.double_click(target), *r.menu('Edit', 'Paste')],
      r.files_are({**files, f'{target}/{name}': files[name]}, folders), folders)


def trash(seed: int, rng: random.Random) -> Recipe:
  """Move a file to the trash."""
  del seed
  files, folders = _home(rng)
  name = rng.choice(list(files))
  return r.recipe(
      f'Move {name} to the trash.', _PCMANFM, files, [r.click(name), r.key('delete')],
      r.files_are(_renamed(files, name, f'Trash/{name}'), folders), folders)


def thunar_copy(seed: int, rng: random.Random) -> Recipe:
  """Copy a file into a folder, in the other file manager."""
  del seed
  files, folders = _home(rng)
  name, target = rng.choice(list(files)), rng.choice(folders)
  return r.recipe(
      f'Copy {name} into the folder {target}.', _THUNAR, files,
      [r.click(name), r.key('ctrl+c'), r.double_click(target), r.key('ctrl+v')],
      r.files_are({**files, f'{target}/{name}': files[name]}, folders), folders)


FAMILIES = (
    *(Family(f'files_{make.__name__}', make) for make in (rename, folder, move, copy, trash)),
    Family('thunar_rename', thunar_rename),
    Family('thunar_copy', thunar_copy, held_out=True))
