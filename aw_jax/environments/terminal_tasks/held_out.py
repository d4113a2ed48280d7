"""Families for test alone: compositions of what the other families do in single steps."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.shell import older_and_newer
from aw_jax.environments.terminal_tasks.tables import choose_rows
from aw_jax.environments.terminal_tasks.worlds import World


def merge_sort(seed: int, rng: random.Random) -> Recipe:
  """Two files joined, then sorted."""
  del seed
  world = World(rng)
  numeric = rng.random() < 0.4
  paths = [world.numbers(3) if numeric else world.text(3) for _ in range(2)]
  world.fill()
  both, goal = world.name(), world.name()
  lines = sorted((line for path in paths for line in world.lines(path)),
                 key=int if numeric else None)
  flag = ' -n' if numeric else ''
  how = ' by number' * numeric
  plan = world.look(*paths) + [f'cat {paths[0]} {paths[1]} > {both}', f'sort{flag} {both} > {goal}',
                               *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Join {paths[0]} and {paths[1]} into {both} and sort that into {goal}{how}.',
      f'Write {paths[0]} and {paths[1]} to {both}, and sorted{how} to {goal}.')
  return world.checked(instruction, f'cat {goal}', lines, plan)


def rotate(seed: int, rng: random.Random) -> Recipe:
  """The contents of two files or three exchanged by renaming."""
  del seed
  world = World(rng)
  paths = [world.text(rng.randint(2, 3)) for _ in range(rng.randint(2, 3))]
  world.fill()
  spare = world.name()
  plan = world.look(*paths) + [f'mv {paths[-1]} {spare}']
  plan += [f'mv {paths[i]} {paths[i + 1]}' for i in reversed(range(len(paths) - 1))]
  plan += [f'mv {spare} {paths[0]}', *world.sometimes('ls', f'cat {paths[0]}')]
  lines = [line for path in (paths[-1], *paths[:-1]) for line in world.lines(path)]
  chain = ', '.join(f'{paths[i]} becomes {paths[(i + 1) % len(paths)]}' for i in range(len(paths)))
  instruction = world.say(f'Rename in a circle: {chain}.', f'Exchange the names: {chain}.')
  return world.checked(instruction, f'cat {" ".join(paths)}', lines, plan)


def top_rows(seed: int, rng: random.Random) -> Recipe:
  """The rows of a table with the largest or smallest numbers: their names."""
  del seed
  world = World(rng)
  path = world.table(5)
  world.fill()
  goal, number, largest = world.name(), rng.randint(2, 3), rng.random() < 0.5
  rows = sorted((line.split(',') for line in world.lines(path)), key=lambda row: int(row[1]),
                reverse=largest)
  order = '-nr' if largest else '-n'
  plan = world.look(path) + [
      f'sort -t, -k2 {order} {path} | head -n {number} | cut -d, -f1 > {goal}',
      *world.sometimes(f'cat {goal}')]
  size = 'largest' if largest else 'smallest'
  instruction = world.say(
      f'Write the names with the {number} {size} numbers in {path} to {goal}, the {size} first.',
      f'Put the {number} names of {path} with the {size} numbers into {goal}, the {size} first.')
  return world.checked(instruction, f'cat {goal}', [row[0] for row in rows[:number]], plan)


def revise_copy(seed: int, rng: random.Random) -> Recipe:
  """A copy in a new directory, with a word replaced; then its words or lines counted."""
  del seed
  world = World(rng)
  path = world.text()
  world.fill()
  folder, old, new = world.folder(), world.any_word(path), world.word()
  copied = f'{folder}/{path}'
  lines = [line.replace(old, new, 1) for line in world.lines(path)]
  plan = world.look(path) + [f'mkdir {folder}', f'cp {path} {folder}',
                             f'sed -i s/{old}/{new}/ {copied}', *world.sometimes(f'cat {copied}')]
  instruction = world.say(
      f'Make the directory {folder}, copy {path} to it and replace {old} by {new} in the copy.',
      f'Copy {path} to a new directory {folder} and change {old} to {new} there.')
  return world.checked(instruction, f'cat {path} {copied}', world.lines(path) + lines, plan)


def select_sort(seed: int, rng: random.Random) -> Recipe:
  """The rows of a table within a limit, sorted by number, in place of the table."""
  del seed
  world = World(rng)
  path = world.table(5)
  world.fill()
  side, condition, kept = choose_rows(world, path)
  kept.sort(key=lambda row: int(row.split(',')[1]))
  goal = world.name('csv')
  plan = world.look(path) + [f"awk -F, '$2 {condition}' {path} > {goal}",
                             *world.sometimes(f'cat {goal}', chance=0.4),
                             f'sort -t, -k2 -n {goal} > {path}', f'rm {goal}',
                             *world.sometimes(f'cat {path}', 'ls')]
  instruction = world.say(
      f'Keep only the rows of {path} with a number {side}, sorted by number.',
      f'Sort {path} by number and drop the rows that are not {side}.')
  return world.checked(instruction, f'ls; cat {path}', sorted(world.files) + kept, plan)


def complete(seed: int, rng: random.Random) -> Recipe:
  """A file given the lines that only another one has, at its end; the other goes or stays."""
  del seed
  world = World(rng)
  path, other, new = older_and_newer(world)
  world.fill(3, 3)
  lines = world.lines(path) + new
  plan = world.look(path, other) + [*world.sometimes(f'diff {path} {other}', chance=0.3)]
  goal, names, also = world.name(), set(world.files), ''
  plan += [f'grep -vxFf {path} {other} > {goal}', f'cat {goal} >> {path}', f'rm {goal}']
  if rng.random() < 0.5:
    plan.append(f'rm {other}')
    names.remove(other)
    also = f' and remove {other}'
  plan += world.sometimes(f'cat {path}', 'ls')
  instruction = world.say(
      f'Add to the end of {path} the lines that only {other} has{also}.',
      f'Append the lines of {other} that {path} lacks to {path}{also}.')
  return world.checked(instruction, f'ls; cat {path}', sorted(names) + lines, plan)
