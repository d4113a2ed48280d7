"""Families in full-screen mode: at a prompt, in programs that ask, in a pager and an editor."""

import dataclasses
import json
import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks import arranging, editing, programs
from aw_jax.environments.terminal_tasks.worlds import World
from aw_jax.trajectories import SUBMIT

SIZE = (64, 16)  # columns and rows: small enough for the context of a small model
SECONDS = 0.1  # that a plan waits after keystrokes; at a prompt it ends sooner
MAX_TURNS = 14
# Recipes of line mode that are played at a screen's prompt too.
_AT_PROMPT = (editing.create, editing.append, editing.edit, editing.extract, editing.count,
              arranging.rename, arranging.copy, arranging.folders, programs.python)


def keys(*texts: str) -> str:
  """The action that types these, one after the other."""
  return json.dumps([{'keystrokes': text, 'duration': SECONDS} for text in texts])


def _on_screen(recipe: Recipe, plan: list[str]) -> Recipe:
  """A recipe in full-screen mode, with a plan of keystrokes before the submission."""
  return dataclasses.replace(
      recipe, setup={**recipe.setup, 'screen': list(SIZE)}, plan=(*plan, recipe.plan[-1]),
      max_turns=MAX_TURNS)


def screen_prompt(seed: int, rng: random.Random) -> Recipe:
  """A task of line mode, its command lines typed one or two at a time."""
  recipe = rng.choice(_AT_PROMPT)(seed, rng)
  lines, plan = [f'{action}\n' for action in recipe.plan[:-1]], []
  while lines:
    count = rng.randint(1, 2)
    plan.append(keys(*lines[:count]))
    lines = lines[count:]
  return _on_screen(recipe, plan)


def screen_typing(seed: int, rng: random.Random) -> Recipe:
  """Lines typed into a program that reads until the end of its input, C-d."""
  del seed
  world = World(rng)
  world.fill()
  goal = world.name()
  lines = [world.line(1, 2) for _ in range(rng.randint(2, 4))]
  program, result = rng.choice([
      ('cat', lines), ('sort', sorted(lines)), ('tac', lines[::-1])])
  typed = ''.join(f'{line}\n' for line in lines)
  plan = [keys('ls\n')] if rng.random() < 0.5 else []
  if rng.random() < 0.5:
    plan.append(keys(f'{program} > {goal}\n', typed, 'C-d'))
  else:
    plan += [keys(f'{program} > {goal}\n'), keys(typed), keys('C-d')]
  plan += [keys(f'cat {goal}\n')] if rng.random() < 0.6 else []
  quoted = ', '.join(f"'{line}'" for line in lines)
  instruction = world.say(
      f'Start {program} with its output in {goal}, type the lines {quoted} and end its input.',
      f'Type {quoted} into {program} > {goal}, a line each, then C-d.')
  return _on_screen(world.checked(instruction, f'cat {goal}', result, [SUBMIT]), plan)


def screen_form(seed: int, rng: random.Random) -> Recipe:
  """A script that asks for what it writes into a table, and whether to."""
  del seed
  world = World(rng)
  path = world.table(3)
  script = world.name('sh')
  first, second = world.word(), world.word()
  world.add(script, [f"read -p '{first}: ' a", f"read -p '{second}: ' b",
                     "read -p 'write (y or n): ' c", f'[ $c = y ] && echo $a,$b >> {path}'])
  world.fill(3, 4)
  rows = [(world.word(), world.number()) for _ in range(rng.randint(1, 2))]
  plan = [keys(f'cat {script}\n')] if rng.random() < 0.5 else []
  for name, number in rows:
    answers = [f'{name}\n', f'{number}\n', 'y\n']
    plan += rng.choice([[keys(f'sh {script}\n', *answers)],
                        [keys(f'sh {script}\n'), keys(*answers)],
                        [keys(f'sh {script}\n'), keys(answers[0]), keys(*answers[1:])]])
  plan += [keys(f'cat {path}\n')] if rng.random() < 0.6 else []
  said = ', then '.join(f'{first} {name}, {second} {number}' for name, number in rows)
  instruction = world.say(f'Run sh {script} and give it {said}.',
                          f'Fill in the form of {script} (sh {script}): {said}.')
  lines = [*world.lines(path), *(f'{name},{number}' for name, number in rows)]
  return _on_screen(world.checked(instruction, f'cat {path}', lines, [SUBMIT]), plan)


def screen_python(seed: int, rng: random.Random) -> Recipe:
  """Expressions typed at Python's prompt."""
  del seed
  world = World(rng)
  path = world.numbers()
  world.fill()
  numbers = [int(line) for line in world.lines(path)]
  call, said, result = rng.choice([
      ('sum(n)', 'sum', sum(numbers)), ('max(n)', 'largest', max(numbers)),
      ('min(n)', 'smallest', min(numbers)), ('max(n) - min(n)', 'largest less the smallest',
                                             max(numbers) - min(numbers))])
  read = f'n = [int(t) for t in open("{path}")]\n'
  plan = [keys(f'cat {path}\n')] if rng.random() < 0.4 else []
  plan += rng.choice([[keys('python3 -q\n', read)], [keys('python3 -q\n'), keys(read)]])
  if rng.random() < 0.5:
    plan.append(keys(f'{call}\n'))
    plan += [keys('C-d')] if rng.random() < 0.5 else []
    instruction = world.say(
        f'At the prompt of python3 -q, work out the {said} of the numbers in {path} and submit it.')
    return _on_screen(world.answered(instruction, result, [SUBMIT]), plan)
  goal = world.name()
  plan += [keys(f'print({call}, file=open("{goal}", "w"))\n'), keys('C-d', f'cat {goal}\n')]
  instruction = world.say(
      f'Let python3 -q work out the {said} of the numbers in {path} and write it to {goal}.')
  return _on_screen(world.checked(instruction, f'cat {goal}', [str(result)], [SUBMIT]), plan)


def screen_pager(seed: int, rng: random.Random) -> Recipe:
  """A long file in less: the line after a word, or the last one."""
  del seed
  world = World(rng)
  path = world.add(world.name(), [world.line(1, 2) for _ in range(rng.randint(24, 32))])
  world.fill(1, 2)
  lines = world.lines(path)
  opened = keys(f'less {path}\n')
  if rng.random() < 0.3:
    plan = [opened, *rng.choice([[keys('G')], [keys(' '), keys(' '), keys('G')]])]
    instruction = world.say(f'Look at {path} in less and submit its last line.',
                            f'What is the last line of {path}? Use less and submit it.')
    answer = lines[-1]
  else:
    place = rng.choice([  # below the first screen
        i for i in range(SIZE[1], len(lines) - 1)
        if sum(lines[i].split()[0] in line for line in lines) == 1])
    word = lines[place].split()[0]
    plan = [opened, keys(f'/{word}\n')]
    instruction = world.say(
        f'Search {path} in less for {word} and submit the line that comes after it.',
        f'Which line of {path} follows the one with {word}? Use less and submit it.')
    answer = lines[place + 1]
  plan += [keys('q')] if rng.random() < 0.6 else []
  return _on_screen(world.answered(instruction, answer, [SUBMIT]), plan)


def screen_editor(seed: int, rng: random.Random) -> Recipe:
  """A file changed in nano: lines put in, cut, moved; saved."""
  del seed
  world = World(rng)
  path = rng.choice([world.text, world.numbers, world.table])()
  world.fill()
  lines = world.lines(path)
  place, line = rng.randrange(len(lines)), world.line(1, 2)
  down = ['Down'] * place
  typed, said, result = rng.choice([
      ([*down, f'{line}\n'], f"put the line '{line}' before line {place + 1}",
       [*lines[:place], line, *lines[place:]]),
      ([*down, 'C-k'], f'cut line {place + 1}', lines[:place] + lines[place + 1:]),
      (['C-k', 'Down', 'C-u'], 'move the first line behind the second',
       [lines[1], lines[0], *lines[2:]])])
  saved = [keys('C-o', '\n'), keys('C-x')] if rng.random() < 0.5 else [keys('C-x', 'y', '\n')]
  plan = [keys(f'nano {path}\n'), keys(*typed), *saved]
  plan += [keys(f'cat {path}\n')] if rng.random() < 0.5 else []
  instruction = world.say(f'Open {path} in nano, {said} and save.',
                          f'In nano, {said} of {path}; save it.')
  return _on_screen(world.checked(instruction, f'cat {path}', result, [SUBMIT]), plan)
