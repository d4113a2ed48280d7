"""Families that make, change and look through text files."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.worlds import World


def create(seed: int, rng: random.Random) -> Recipe:
  """A new file with given lines, in a directory now and then."""
  del seed
  world = World(rng)
  world.fill()
  path, lines = world.name(), [world.line(1, 2) for _ in range(rng.randint(2, 3))]
  plan = world.look()
  if rng.random() < 0.4:
    folder = world.folder()
    path = f'{folder}/{path}'
    plan.append(f'mkdir {folder}')
  written = [f'echo {lines[0]} > {path}'] + [f'echo {line} >> {path}' for line in lines[1:]]
  if rng.random() < 0.4:
    written = ['\n'.join([f'cat > {path} <<EOF', *lines, 'EOF'])]
  plan += [*written, *world.sometimes(f'cat {path}'), *world.sometimes(f'wc {path}', chance=0.3)]
  said = ', '.join(f"'{line}'" for line in lines)
  instruction = world.say(
      f'Create {path} with the lines {said}.', f'Write the lines {said} to a new file {path}.',
      f'Make a file {path} that holds {said}, one a line.')
  return world.checked(instruction, f'cat {path}', lines, plan)


def append(seed: int, rng: random.Random) -> Recipe:
  """One line more at the end of one file or of two."""
  del seed
  world = World(rng)
  paths = [world.text() for _ in range(rng.randint(1, 2))]
  world.fill()
  line = world.line(1, 2)
  plan = world.look(*paths) + [f'echo {line} >> {path}' for path in paths]
  plan += world.sometimes(f'cat {paths[-1]}') + world.sometimes(f'wc -l {paths[0]}', chance=0.4)
  both = ' and '.join(paths)
  instruction = world.say(
      f"Append the line '{line}' to {both}.", f"Add '{line}' at the end of {both}.",
      f"Put the line '{line}' after the last line of {both}.")
  lines = [text for path in paths for text in [*world.lines(path), line]]
  return world.checked(instruction, f'cat {" ".join(paths)}', lines, plan)


def edit(seed: int, rng: random.Random) -> Recipe:
  """A word replaced, then perhaps a line removed."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.repeats, world.table])()
  world.fill()
  old, new = world.any_word(path), world.word()
  lines = [line.replace(old, new, 1) for line in world.lines(path)]
  plan = world.look(path) + [f'sed -i s/{old}/{new}/ {path}']
  also = ''
  if rng.random() < 0.5:
    number = rng.randint(1, len(lines))
    del lines[number - 1]
    plan += [*world.sometimes(f'cat {path}', chance=0.4), f'sed -i {number}d {path}']
    also = f', then delete line {number}'
  plan += world.sometimes(f'cat {path}', f'grep {new} {path}')
  instruction = world.say(
      f'Replace {old} by {new} in {path}{also}.',
      f'Change the word {old} to {new} in {path}{also}.',
      f'In {path}, write {new} instead of {old}{also}.')
  return world.checked(instruction, f'cat {path}', lines, plan)


def search(seed: int, rng: random.Random) -> Recipe:
  """The file that holds a word, or the lines that do, in a new file."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.table])()
  world.fill(3, 3)
  word = world.any_word(path)
  if rng.random() < 0.5:
    plan = world.look() + [world.say(f'grep -l {word} *', f'grep {word} *')]
    plan += world.sometimes(f'cat {path}')
    instruction = world.say(
        f'Which file contains the word {word}? Submit its name.',
        f'Find the file with the word {word} and submit its name.')
    return world.answered(instruction, path, plan)
  goal = world.name()
  found = [line for line in world.lines(path) if word in line]
  plan = world.look(path) + [f'grep {word} {path} > {goal}', *world.sometimes(f'cat {goal}')]
  if rng.random() < 0.4:
    extra = world.line(1, 2)
    found.append(extra)
    plan += [f'echo {extra} >> {goal}', *world.sometimes(f'cat {goal}')]
    instruction = world.say(
        f"Write the lines of {path} with {word} to {goal}, then add the line '{extra}'.",
        f"Put the lines of {path} that contain {word}, and then '{extra}', into {goal}.")
  else:
    instruction = world.say(
        f'Write the lines of {path} with {word} to {goal}.',
        f'Put the lines of {path} that contain {word} into {goal}.')
  return world.checked(instruction, f'cat {goal}', found, plan)


def count(seed: int, rng: random.Random) -> Recipe:
  """Lines, words or matching lines of files, submitted or written down."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.text, world.repeats])()
  world.fill()
  lines = world.lines(path)
  word = world.any_word(path)
  what, command, number = rng.choice([
      (f'lines of {path}', f'wc -l < {path}', len(lines)),
      (f'words of {path}', f'wc -w < {path}', len(world.files[path].split())),
      (f'lines of {path} with {word}', f'grep -c {word} {path}', sum(word in t for t in lines)),
      (f'different lines of {path}', f'sort -u {path} | wc -l', len(set(lines)))])
  plan = world.look(path)
  if rng.random() < 0.5:
    instruction = world.say(
        f'Count the {what} and submit the number.', f'Submit the number of {what}.')
    return world.answered(instruction, number, [*plan, command])
  goal = world.name()
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Count the {what} and write the number to {goal}.',
      f'Write the number of {what} to {goal}.')
  return world.checked(instruction, f'cat {goal}', [str(number)], plan)


def sort(seed: int, rng: random.Random) -> Recipe:
  """Lines sorted into a new file or in place."""
  del seed
  world = World(rng)
  numeric = rng.random() < 0.4
  path = world.numbers() if numeric else rng.choice([world.text, world.table, world.repeats])()
  world.fill()
  reverse, unique = rng.random() < 0.4, not numeric and rng.random() < 0.3
  lines = world.lines(path)
  lines = sorted(set(lines) if unique else lines, key=int if numeric else None, reverse=reverse)
  if lines == world.lines(path):  # never ask for what is already so
    reverse = not reverse
    lines.reverse()
  flags = 'n' * numeric + 'r' * reverse + 'u' * unique
  command = f'sort -{flags} {path}' if flags else f'sort {path}'
  how = ' by number' * numeric + ', last first' * reverse + ', without repeats' * unique
  goal = world.name()
  plan = world.look(path)
  if rng.random() < 0.4:
    plan += [f'{command} > {goal}', *world.sometimes(f'cat {goal}', chance=0.4),
             f'mv {goal} {path}', *world.sometimes(f'cat {path}', 'ls')]
    instruction = world.say(f'Sort {path} in place{how}.', f'Sort the lines of {path}{how}.')
    return world.checked(instruction, f'cat {path}', lines, plan)
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Sort the lines of {path} into {goal}{how}.', f'Write {path}, sorted, to {goal}{how}.')
  return world.checked(instruction, f'cat {goal}', lines, plan)


def merge(seed: int, rng: random.Random) -> Recipe:
  """Two files, one after the other, as a third; the sources go or stay."""
  del seed
  world = World(rng)
  paths = [world.text(rng.randint(2, 4)), rng.choice([world.text, world.numbers])()]
  world.fill()
  goal = world.name()
  lines = [line for path in paths for line in world.lines(path)]
  plan = world.look(*paths) + [f'cat {paths[0]} {paths[1]} > {goal}']
  plan += world.sometimes(f'cat {goal}', f'wc -l {goal}')
  also, check = '', f'cat {goal}'
  if rng.random() < 0.4:
    plan += [f'rm {paths[0]} {paths[1]}', *world.sometimes('ls')]
    also, check = ', then remove both', f'ls; cat {goal}'
    lines = sorted({*world.files, goal} - set(paths)) + lines
  instruction = world.say(
      f'Join {paths[0]} and {paths[1]} into {goal}{also}.',
      f'Write {paths[0]} and after it {paths[1]} to {goal}{also}.')
  return world.checked(instruction, check, lines, plan)


def extract(seed: int, rng: random.Random) -> Recipe:
  """First lines, last lines or one line of a file, as a new file."""
  del seed
  world = World(rng)
  path = world.text(rng.randint(4, 6))
  world.fill()
  lines, goal, number = world.lines(path), world.name(), rng.randint(2, 3)
  what, command, found = rng.choice([
      (f'first {number} lines', f'head -n {number} {path}', lines[:number]),
      (f'last {number} lines', f'tail -n {number} {path}', lines[-number:]),
      ('first line', f'head -n 1 {path}', lines[:1]),
      (f'line {number}', f'sed -n {number}p {path}', lines[number - 1:number])])
  plan = world.look(path)
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  also = ''
  if rng.random() < 0.4:
    extra = world.line(1, 2)
    found = [*found, extra]
    also = f", then add the line '{extra}'"
    plan += [f'echo {extra} >> {goal}', *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Write the {what} of {path} to {goal}{also}.',
      f'Copy the {what} of {path} into {goal}{also}.')
  return world.checked(instruction, f'cat {goal}', found, plan)


def pipeline(seed: int, rng: random.Random) -> Recipe:
  """A column of a table, sorted or cut to its head, or a table's largest value."""
  del seed
  world = World(rng)
  path = world.table(rng.randint(4, 5))
  world.fill()
  rows = [line.split(',') for line in world.lines(path)]
  names, values = [row[0] for row in rows], sorted(int(row[1]) for row in rows)
  plan, number, goal = world.look(path), rng.randint(2, 3), world.name()
  if rng.random() < 0.35:
    end, value = rng.choice([('tail', values[-1]), ('head', values[0])])
    size = 'largest' if end == 'tail' else 'smallest'
    instruction = world.say(
        f'Submit the {size} number in {path}.', f'Which number in {path} is the {size}? Submit it.')
    steps = world.sometimes(f'cut -d, -f2 {path}', chance=0.4)
    return world.answered(
        instruction, value, [*plan, *steps, f'cut -d, -f2 {path} | sort -n | {end} -n 1'])
  what, command, lines = rng.choice([
      ('names', f'cut -d, -f1 {path} | sort', sorted(names)),
      ('numbers', f'cut -d, -f2 {path} | sort -n', [str(v) for v in values]),
      (f'first {number} names', f'cut -d, -f1 {path} | sort | head -n {number}',
       sorted(names)[:number]),
      (f'last {number} numbers', f'cut -d, -f2 {path} | sort -n | tail -n {number}',
       [str(v) for v in values[-number:]])])
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  instruction = world.say(
      f'Sort {path} and write the {what} to {goal}.',
      f'Write the sorted {what} of {path} to {goal}.')
  return world.checked(instruction, f'cat {goal}', lines, plan)


def unique(seed: int, rng: random.Random) -> Recipe:
  """Repeated lines counted or dropped."""
  del seed
  world = World(rng)
  path, goal = world.repeats(), world.name()
  world.fill()
  lines = world.lines(path)
  plan = world.look(path)
  if rng.random() < 0.4:
    word = rng.choice(lines)
    instruction = world.say(f'How often does {word} stand in {path}? Submit the number.',
                            f'Submit how many lines of {path} are {word}.')
    command = world.say(f'sort {path} | uniq -c', f'grep -c {word} {path}')
    return world.answered(instruction, lines.count(word), [*plan, command])
  what, flag, kept = rng.choice([
      ('every line of {} once', '', set(lines)),
      ('the repeated lines of {}', ' -d', {t for t in lines if lines.count(t) > 1})])
  command = f'sort {path} | uniq{flag}'
  plan += [*world.sometimes(command, chance=0.3), f'{command} > {goal}',
           *world.sometimes(f'cat {goal}')]
  said = what.format(path)
  instruction = world.say(f'Write {said} to {goal}, sorted.', f'Put {said} into {goal}, sorted.')
  return world.checked(instruction, f'cat {goal}', sorted(kept), plan)
