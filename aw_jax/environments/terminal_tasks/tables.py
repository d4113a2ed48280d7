"""Families over columns: tables put together, asked, summed; settings of a program."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.worlds import World


def paste(seed: int, rng: random.Random) -> Recipe:
  """Two files side by side as a table, whose rows may then be sorted."""
  del seed
  world = World(rng)
  rows = rng.randint(3, 4)
  paths = [world.add(world.name(), [world.word() for _ in range(rows)]), world.numbers(rows)]
  if rng.random() < 0.3:
    paths.reverse()
  world.fill()
  goal = world.name('csv')
  lines = [','.join(pair) for pair in zip(*map(world.lines, paths), strict=True)]
  both = ' '.join(paths)
  plan = world.look(*paths)
  if rng.random() < 0.4:
    lines.sort()
    plan += [*world.sometimes(f'paste -d, {both}', chance=0.4), f'paste -d, {both} | sort > {goal}']
    also = ', sorted'
  else:
    plan.append(f'paste -d, {both} > {goal}')
    also = ''
  plan += world.sometimes(f'cat {goal}')
  instruction = world.say(
      f'Put {paths[0]} and {paths[1]} side by side, with a comma between, into {goal}{also}.',
      f'Make the table {goal}{also}: first column {paths[0]}, second column {paths[1]}.')
  return world.checked(instruction, f'cat {goal}', lines, plan)


def select(seed: int, rng: random.Random) -> Recipe:
  """The rows of a table whose number lies above or below a limit, written down or counted."""
  del seed
  world = World(rng)
  path = world.table(rng.randint(4, 5))
  world.fill()
  side, sign, kept = choose_rows(world, path)
  command = f"awk -F, '$2 {sign}' {path}"
  plan = world.look(path)
  if rng.random() < 0.35:
    instruction = world.say(
        f'How many rows of {path} have a number {side}? Submit how many.',
        f'Submit the number of rows in {path} whose second column is {side}.')
    return world.answered(instruction, len(kept), [*plan, f'{command} | wc -l'])
  goal = world.name('csv')
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Write the rows of {path} with a number {side} to {goal}.',
      f'Copy the rows of {path} whose second column is {side} to {goal}.')
  return world.checked(instruction, f'cat {goal}', kept, plan)


def choose_rows(world: World, path: str) -> tuple[str, str, list[str]]:
  """A condition that some rows of a table meet: in words, for awk, and the rows that meet it."""
  rows = world.lines(path)
  numbers = sorted(int(row.split(',')[1]) for row in rows)
  above = world.rng.random() < 0.5
  limit = world.rng.choice(numbers[:-1] if above else numbers[1:])
  kept = [row for row in rows
          if (int(row.split(',')[1]) > limit if above else int(row.split(',')[1]) < limit)]
  return f'{"above" if above else "below"} {limit}', f'{">" if above else "<"} {limit}', kept


def total(seed: int, rng: random.Random) -> Recipe:
  """The sum of numbers: submitted, written to a file, or as one line more."""
  del seed
  world = World(rng)
  column, make = rng.choice([(1, world.numbers), (2, world.table)])
  path = make()
  world.fill()
  lines = world.lines(path)
  result = sum(int(line.split(',')[-1]) for line in lines)
  command = "awk -F, '{s += $" + str(column) + "} END {print s}' " + path
  plan = world.look(path)
  draw = rng.random()
  if draw < 0.4:
    instruction = world.say(f'Add up the numbers in {path} and submit the sum.',
                            f'Submit the sum of the numbers in {path}.')
    return world.answered(instruction, result, [*plan, command])
  if draw < 0.7:
    goal = world.name()
    plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
             *world.sometimes(f'cat {goal}')]
    instruction = world.say(f'Write the sum of the numbers in {path} to {goal}.',
                            f'Add up the numbers in {path} and write the sum to {goal}.')
    return world.checked(instruction, f'cat {goal}', [str(result)], plan)
  last = f'total,{result}'
  plan += [command, f'echo {last} >> {path}', *world.sometimes(f'cat {path}')]
  instruction = world.say(
      f"Add the line 'total,N' to {path}, where N is the sum of its numbers.",
      f'Append to {path} a last line: total, a comma, and the sum of the numbers.')
  return world.checked(instruction, f'cat {path}', [*lines, last], plan)


def configure(seed: int, rng: random.Random) -> Recipe:
  """Settings, a line key=value each: read, changed, added, removed."""
  del seed
  world = World(rng)
  keys = [world.word() for _ in range(rng.randint(3, 5))]
  settings = {key: world.number() for key in keys}
  path = world.add(world.name('conf'), [f'{key}={value}' for key, value in settings.items()])
  world.fill()
  plan = world.look(path)
  if rng.random() < 0.25:
    key = rng.choice(keys)
    instruction = world.say(f'What is {key} set to in {path}? Submit the value.',
                            f'Submit the value of {key} in {path}.')
    return world.answered(instruction, settings[key], [*plan, f'grep ^{key}= {path}'])
  said = []
  first, second = rng.sample(keys, 2)
  value = rng.choice([n for n in range(1, 100) if n != settings[first]])
  settings[first] = value
  plan.append(f'sed -i s/^{first}=.*/{first}={value}/ {path}')
  said.append(f'set {first} to {value}')
  draw = rng.random()
  if draw < 0.35:
    del settings[second]
    plan += [*world.sometimes(f'cat {path}', chance=0.3), f'sed -i /^{second}=/d {path}']
    said.append(f'remove {second}')
  elif draw < 0.7:
    key, value = world.word(), world.number()
    settings[key] = value
    plan += [*world.sometimes(f'grep {first} {path}', chance=0.3), f'echo {key}={value} >> {path}']
    said.append(f'add {key} with the value {value} at the end')
  plan += world.sometimes(f'cat {path}')
  instruction = world.say(f'In {path}, {" and ".join(said)}.',
                          f'Change the settings in {path}: {", ".join(said)}.')
  lines = [f'{key}={value}' for key, value in settings.items()]
  return world.checked(instruction, f'cat {path}', lines, plan)
