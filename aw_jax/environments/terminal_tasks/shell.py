"""Families that need more of the shell: versions compared, links, loops, scripts, gzip."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.worlds import World


def compare(seed: int, rng: random.Random) -> Recipe:
  """What a newer version of a file has and the older one has not."""
  del seed
  world = World(rng)
  path, other, new = older_and_newer(world)
  world.fill(3, 3)
  plan = world.look(path, other)
  if rng.random() < 0.35:
    number = next(i for i, line in enumerate(world.lines(other), 1) if line in new)
    plan.append(f'diff {path} {other}')
    instruction = world.say(
        f'Which is the first line of {other} that is not as in {path}? Submit its number.',
        f'Submit the number of the first line in which {other} differs from {path}.')
    return world.answered(instruction, number, plan)
  goal = world.name()
  plan += [*world.sometimes(f'diff {path} {other}', chance=0.4),
           f'grep -vxFf {path} {other} > {goal}', *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Write the lines of {other} that are not in {path} to {goal}.',
      f'{other} is a newer {path}: write its new lines to {goal}.')
  return world.checked(instruction, f'cat {goal}', new, plan)


def older_and_newer(world: World) -> tuple[str, str, list[str]]:
  """Adds a file and another that differs in a line or two; their paths and the new lines."""
  path = world.text(world.rng.randint(3, 4))
  lines = world.lines(path)
  new = [world.line(1, 2) for _ in range(world.rng.randint(1, 2))]
  place = world.rng.randrange(len(lines))
  lines[place] = new[0]
  return path, world.add(world.name(), lines + new[1:]), new


def link(seed: int, rng: random.Random) -> Recipe:
  """A symbolic link, beside its target or in a directory, and a line written through it."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.numbers, world.table])()
  lines = world.lines(path)
  goal, target = world.name(path.rpartition('.')[2]), path
  made = [f'ln -s {path} {goal}']
  if rng.random() < 0.5:
    folder = world.folder()
    world.text(2, where=f'{folder}/')
    goal, target = f'{folder}/{path}', f'../{path}'
    made = rng.choice([[f'ln -s {target} {folder}'], [f'cd {folder}', f'ln -s {target} .', 'cd']])
  world.fill(3, 3)
  plan = [*world.look(path), *made, *world.sometimes(f'readlink {goal}', chance=0.4)]
  said = f'a symbolic link {goal} that points to {target}'
  if rng.random() < 0.6:
    extra = world.line(1, 2)
    lines.append(extra)
    plan.append(f'echo {extra} >> {goal}')
    said += f", then add the line '{extra}' through it"
  plan += world.sometimes(f'cat {path}') + world.sometimes(f'ls -l {goal}', chance=0.3)
  instruction = world.say(f'Make {said}.', f'Create {said}.')
  return world.checked(instruction, f'readlink {goal}; cat {path}', [target, *lines], plan)


def rename_all(seed: int, rng: random.Random) -> Recipe:
  """All files of one kind under new names, or copied, in a loop."""
  del seed
  world = World(rng)
  kind, make = rng.choice([('txt', world.text), ('csv', world.table)])
  paths = [make() for _ in range(rng.randint(2, 3))]
  other = world.add(world.name('log'), [world.line()])
  verb, change, new_name, said = rng.choice([
      ('mv', '$f ${f%.' + kind + '}.md', lambda p: p.rpartition('.')[0] + '.md',
       (f'Rename all {kind} files so that they end in md.',
        f'Give every {kind} file the ending md instead.')),
      ('mv', '$f old_$f', lambda p: f'old_{p}',
       (f'Put old_ before the name of every {kind} file.',
        f'Rename all {kind} files: old_ before their names.')),
      ('cp', '$f $f.bak', lambda p: f'{p}.bak',
       (f'Copy every {kind} file to a file with .bak after its name.',
        f'Make a backup of all {kind} files, .bak after their names.'))])
  goals = [new_name(path) for path in paths]
  plan = world.look() + [f'for f in *.{kind}; do {verb} {change}; done']
  plan += world.sometimes('ls') + world.sometimes(f'cat {goals[0]}', chance=0.4)
  names = sorted([other, *goals] + (paths if verb == 'cp' else []))
  return world.checked(
      world.say(*said), f'ls; cat {goals[0]}', names + world.lines(paths[0]), plan)


def script(seed: int, rng: random.Random) -> Recipe:
  """An executable shell script for any file, tried on one and checked on another."""
  del seed
  world = World(rng)
  tried, checked = world.text(), world.text()
  world.fill()
  name = world.name('sh')
  what, body, result = rng.choice([
      ('number of lines', 'wc -l < $1', lambda lines: [str(len(lines))]),
      ('lines, sorted,', 'sort $1', sorted),
      ('lines, last first,', 'tac $1', lambda lines: lines[::-1]),
      ('first line', 'head -n 1 $1', lambda lines: lines[:1]),
      ('last line', 'tail -n 1 $1', lambda lines: lines[-1:])])
  plan = [*world.look(), f"echo '{body}' > {name}", *world.sometimes(f'cat {name}', chance=0.3),
          f'chmod +x {name}']
  run = f'./{name} {tried}'
  check, expected = f'./{name} {checked}', result(world.lines(checked))
  also = ''
  if rng.random() < 0.5:
    goal = world.name()
    plan += [f'{run} > {goal}', *world.sometimes(f'cat {goal}')]
    check += f'; cat {goal}'
    expected = expected + result(world.lines(tried))
    also = f' Run it on {tried} and write the result to {goal}.'
  else:
    plan += world.sometimes(run, chance=0.8)
  instruction = world.say(
      f'Write an executable shell script {name} that prints the {what} of the file it is given.',
      f'Make {name}, an executable shell script that prints the {what} of its argument, a file.')
  return world.checked(instruction + also, check, expected, plan)


def compress(seed: int, rng: random.Random) -> Recipe:
  """Files packed with gzip, kept or not; read without unpacking, or unpacked again."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.table, world.repeats])()
  lines = world.lines(path)
  world.fill(3, 3)
  plan, names = world.look(path), {*world.files}
  draw = rng.random()
  if draw < 0.35:
    plan += [f'gzip -k {path}', *world.sometimes(f'zcat {path}.gz', 'ls')]
    names.add(f'{path}.gz')
    instruction = world.say(f'Compress {path} with gzip and keep the original.',
                            f'Make {path}.gz from {path} with gzip; {path} stays.')
  elif draw < 0.7:
    extra = world.line(1, 2)
    lines.append(extra)
    plan += [f'echo {extra} >> {path}', f'gzip {path}', *world.sometimes('ls')]
    names = names - {path} | {f'{path}.gz'}
    instruction = world.say(f"Add the line '{extra}' to {path}, then compress it with gzip.",
                            f"Append '{extra}' to {path} and replace {path} by {path}.gz.")
  else:
    goal = world.name(path.rpartition('.')[2])
    plan += [f'mv {path} {goal}', f'gzip {goal}', *world.sometimes(f'zcat {goal}.gz')]
    names = names - {path} | {f'{goal}.gz'}
    instruction = world.say(f'Rename {path} to {goal} and compress that with gzip.',
                            f'Replace {path} by {goal}.gz, which unpacks to {goal}.')
    path = goal
  return world.checked(instruction, f'ls; zcat {path}.gz', sorted(names) + lines, plan)
