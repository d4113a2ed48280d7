"""Families that arrange files and directories: names, places, permissions, archives."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.worlds import World


def rename(seed: int, rng: random.Random) -> Recipe:
  """One file or two under new names."""
  del seed
  world = World(rng)
  paths = [world.some() for _ in range(rng.randint(1, 2))]
  world.fill(3, 3)
  goals = [world.name(path.rpartition('.')[2]) for path in paths]
  plan = world.look() + [f'mv {old} {new}' for old, new in zip(paths, goals, strict=True)]
  plan += world.sometimes('ls') + world.sometimes(f'cat {goals[0]}')
  said = ' and '.join(f'{old} to {new}' for old, new in zip(paths, goals, strict=True))
  names = sorted({*world.files, *goals} - set(paths))
  instruction = world.say(f'Rename {said}.', f'Give new names: {said}.')
  return world.checked(instruction, f'ls; cat {goals[0]}', names + world.lines(paths[0]), plan)


def move(seed: int, rng: random.Random) -> Recipe:
  """Files into a directory that may have to be made, by name or by kind."""
  del seed
  world = World(rng)
  paths = [world.table(), world.text()]
  world.fill(3, 4)
  folder = world.folder()
  plan = world.look()
  if rng.random() < 0.4:
    inside = world.text(2, where=folder + '/').rpartition('/')[2]
    plan += world.sometimes(f'ls {folder}')
    verb = 'Move'
  else:
    inside = ''
    plan.append(f'mkdir {folder}')
    verb = world.say(f'Make the directory {folder} and move', f'Create {folder} and move')
  kind = rng.choice(['csv', 'txt', ''])
  moved = [p for p in world.files if '/' not in p and p.endswith(kind)] if kind else paths
  plan.append(f'mv *.{kind} {folder}' if kind else f'mv {paths[0]} {paths[1]} {folder}')
  plan += world.sometimes(f'ls {folder}') + world.sometimes('ls', chance=0.4)
  what = f'all {kind} files' if kind else ' and '.join(paths)
  listed = sorted([*moved, inside] if inside else moved)
  left = sorted({folder, *(path for path in world.files if '/' not in path)} - set(moved))
  instruction = f'{verb} {what} to {folder}.'
  return world.checked(instruction, f'ls; ls {folder}', left + listed, plan)


def copy(seed: int, rng: random.Random) -> Recipe:
  """A copy that then gets a line more, or loses one, while the original stays."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.table, world.numbers])()
  world.fill()
  goal = world.name(path.rpartition('.')[2])
  lines = world.lines(path)
  plan = world.look(path) + [f'cp {path} {goal}']
  if rng.random() < 0.6:
    extra = world.line(1, 2)
    after = [*lines, extra]
    plan.append(f'echo {extra} >> {goal}')
    also = f"add the line '{extra}' to the copy"
  else:
    after = lines[1:]
    plan.append(f'sed -i 1d {goal}')
    also = 'delete the first line of the copy'
  plan += world.sometimes(f'cat {goal}') + world.sometimes(f'diff {path} {goal}', chance=0.3)
  instruction = world.say(
      f'Copy {path} to {goal} and {also}.', f'Make a copy {goal} of {path}, then {also}.')
  return world.checked(instruction, f'cat {path} {goal}', lines + after, plan)


def permissions(seed: int, rng: random.Random) -> Recipe:
  """Modes of one file or two, by letters or by number."""
  del seed
  world = World(rng)
  paths = [world.some() for _ in range(rng.randint(1, 2))]
  world.fill()
  world.modes = {p: rng.choice(['600', '755', '640']) for p in world.files if rng.random() < 0.3}
  modes = {p: int(world.modes.get(p, '644'), 8) for p in world.files}
  plan, said = world.look(), []
  for path in paths:
    before = modes[path]
    while modes[path] == before:  # never ask for what is already so
      change, words, modes[path] = rng.choice([
          ('600', 'private (mode 600)', 0o600), ('644', 'mode 644', 0o644),
          ('755', 'mode 755', 0o755), ('444', 'read only (mode 444)', 0o444),
          ('+x', 'executable', before | 0o111), ('-x', 'not executable', before & ~0o111)])
    plan.append(f'chmod {change} {path}')
    said.append(f'{path} {words}')
  names = sorted(world.files)
  check = 'stat -c "%a %n" *'
  plan += world.sometimes(world.say('ls -l', check))
  instruction = world.say(f'Make {" and ".join(said)}.', f'Change permissions: {", ".join(said)}.')
  return world.checked(instruction, check, [f'{modes[name]:o} {name}' for name in names], plan)


def archive(seed: int, rng: random.Random) -> Recipe:
  """Files packed into a tar archive, listed, or unpacked elsewhere."""
  del seed
  world = World(rng)
  paths = [world.some() for _ in range(2)]
  world.fill(3, 3)
  goal = world.name('tar')
  both = ' '.join(paths)
  plan = world.look() + [f'tar cf {goal} {both}', *world.sometimes(f'tar tf {goal}')]
  said = f'{paths[0]} and {paths[1]} into {goal}'
  if rng.random() < 0.5:
    folder = world.folder()
    plan += [f'mkdir {folder}', f'tar xf {goal} -C {folder}', *world.sometimes(f'ls {folder}')]
    instruction = world.say(
        f'Pack {said} and unpack it in a new directory {folder}.',
        f'Archive {said}, then extract that in a new directory {folder}.')
    return world.checked(
        instruction, f'ls {folder}; cat {folder}/{paths[0]}',
        sorted(paths) + world.lines(paths[0]), plan)
  removed = rng.random() < 0.5
  if removed:
    plan += [f'rm {both}', *world.sometimes('ls')]
  instruction = world.say(
      f'Pack {said}{" and remove both" * removed}.',
      f'Make a tar archive of {said}{", then delete them" * removed}.')
  names = sorted({*world.files, goal} - (set(paths) if removed else set()))
  return world.checked(instruction, f'tar tf {goal}; ls', paths + names, plan)


def folders(seed: int, rng: random.Random) -> Recipe:
  """Nested directories with a file in them, made from where one stands."""
  del seed
  world = World(rng)
  world.fill()
  outer, inner, name = world.folder(), world.folder(), world.name()
  line = world.line(1, 2)
  plan = world.look()
  if rng.random() < 0.5:
    plan += [f'mkdir -p {outer}/{inner}', f'cd {outer}/{inner}', f'echo {line} > {name}']
    plan += world.sometimes(f'cat {name}', 'ls')
  else:
    plan += [f'mkdir {outer}', f'mkdir {outer}/{inner}', f'echo {line} > {outer}/{inner}/{name}']
    plan += world.sometimes(f'ls {outer}', f'cat {outer}/{inner}/{name}')
  instruction = world.say(
      f"Make the directory {outer}/{inner} with a file {name} that says '{line}'.",
      f"Create {outer}/{inner} and in it the file {name} with the line '{line}'.")
  return world.checked(
      instruction, f'ls {outer} {outer}/{inner}; cat {outer}/{inner}/{name}',
      [f'{outer}:', inner, '', f'{outer}/{inner}:', name, line], plan)


def find(seed: int, rng: random.Random) -> Recipe:
  """A file looked for below directories: where it is, or what it says, or copied home."""
  del seed
  world = World(rng)
  places = [world.folder(), world.folder()]
  paths = [world.text(rng.randint(2, 3), where=f'{place}/') for place in places]
  world.fill(3, 3)
  path = rng.choice(paths)
  place, _, name = path.rpartition('/')
  plan = world.sometimes('ls', chance=0.8) + [world.say(f'find . -name {name}', 'ls *')]
  if rng.random() < 0.5:
    plan += world.sometimes(f'ls {place}')
    instruction = world.say(f'Which directory holds {name}? Submit its name.',
                            f'Find {name} and submit the name of its directory.')
    return world.answered(instruction, place, plan)
  plan += [f'cp {path} .', *world.sometimes(f'cat {name}', 'ls')]
  instruction = world.say(f'Find {name} in the directories and copy it here.',
                          f'Copy {name} from its directory to the home directory.')
  return world.checked(instruction, f'cat {name}', world.lines(path), plan)


def tidy(seed: int, rng: random.Random) -> Recipe:
  """Files of one kind removed, or a directory with what is in it."""
  del seed
  world = World(rng)
  place = world.folder()
  world.text(2, where=f'{place}/')
  world.add(f'{place}/{world.name("tmp")}', [world.line()])
  world.add(world.name('tmp'), [world.line()])
  world.text()
  plan = world.look()
  if rng.random() < 0.5:
    plan += [*world.sometimes('find . -name "*.tmp" | sort', chance=0.4),
             'find . -name "*.tmp" -delete', *world.sometimes('ls *')]
    left = [p for p in world.files if not p.endswith('.tmp')]
    instruction = world.say('Delete all tmp files, in directories too.',
                            'Remove every tmp file wherever it is.')
  else:
    plan += [*world.sometimes(f'ls {place}'), f'rm -r {place}', 'rm *.tmp', *world.sometimes('ls')]
    left = [p for p in world.files if '/' not in p and not p.endswith('.tmp')]
    instruction = world.say(f'Delete the directory {place} and the tmp files here.',
                            f'Remove {place} with all in it, and the tmp files beside it.')
  return world.checked(instruction, 'find . -type f | sort', sorted(f'./{p}' for p in left), plan)
