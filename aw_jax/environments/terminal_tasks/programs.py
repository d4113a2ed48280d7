"""Families that use other programs: Python, git, SQLite."""

import random

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal_tasks.worlds import COLUMNS, World


def python(seed: int, rng: random.Random) -> Recipe:
  """A one-line script that reads a file of numbers or words, run."""
  del seed
  world = World(rng)
  numeric = rng.random() < 0.6
  path = world.numbers() if numeric else world.text()
  world.fill()
  script, lines = world.name('py'), world.lines(path)
  if numeric:
    what, call = rng.choice([('sum', 'sum'), ('largest', 'max'), ('smallest', 'min')])
    result = {'sum': sum, 'max': max, 'min': min}[call](int(line) for line in lines)
    code, said = f'print({call}(map(int, open("{path}"))))', f'{what} of the numbers in {path}'
  else:
    what, call = rng.choice([('lines', 'list(open("{}"))'), ('words', 'open("{}").read().split()')])
    result = len(lines) if what == 'lines' else len(world.files[path].split())
    code, said = f'print(len({call.format(path)}))', f'number of {what} in {path}'
  plan = world.look(path) + [f"echo '{code}' > {script}"]
  plan += world.sometimes(f'cat {script}', chance=0.3)
  plan += world.sometimes(f'python3 {script}', chance=0.7)
  instruction = world.say(f'Write a Python script {script} that prints the {said}.',
                          f'Make {script}, a Python program that prints the {said}.')
  return world.checked(instruction, f'python3 {script}', [str(result)], plan)


def git(seed: int, rng: random.Random) -> Recipe:
  """A repository with one commit or two."""
  del seed
  world = World(rng)
  paths = [world.text(), world.some()]
  world.fill()
  words = [world.line(1, 2) for _ in paths]
  plan = world.look() + ['git init -q']
  plan += [f'git add {paths[0]}', *world.sometimes('git status -s', chance=0.5),
           f"git commit -qm '{words[0]}'"]
  said = f"commit {paths[0]} with the message '{words[0]}'"
  logged = words[:1]
  committed = paths[:1]
  if rng.random() < 0.6:
    second = rng.random() < 0.5
    if second:
      plan.append(f'git add {paths[1]}')
      committed = paths
      said += f", then {paths[1]} with '{words[1]}'"
    else:
      line = world.line(1, 2)
      plan += [f'echo {line} >> {paths[0]}', *world.sometimes('git status -s', chance=0.5),
               f'git add {paths[0]}']
      said += f", then add the line '{line}' to it and commit with '{words[1]}'"
    plan.append(f"git commit -qm '{words[1]}'")
    logged = words[::-1]
  plan += world.sometimes('git log --format=%s')
  instruction = world.say(
      f'Start a git repository and {said}.', f'Make a git repository here; {said}.')
  return world.checked(instruction, 'git log --format=%s; git ls-files',
                       logged + sorted(committed), plan)


def sqlite(seed: int, rng: random.Random) -> Recipe:
  """A database built from a script of statements, asked or changed."""
  del seed
  world = World(rng)
  database, table, column = world.name('db'), world.stem(), rng.choice(COLUMNS)
  if table == 'index':  # a word of SQL
    table = world.stem()
  rows = [(world.word(), value) for value in rng.sample(range(1, 100), rng.randint(3, 4))]
  script = world.add(world.name('sql'), [f'create table {table}(name, {column});'] + [
      f"insert into {table} values('{name}', {value});" for name, value in rows])
  world.fill()
  plan = world.look(script) + [f'sqlite3 {database} < {script}']
  load = world.say(f'Load {script} into {database}', f'Build {database} from {script}')
  if rng.random() < 0.5:
    name, value = rng.choice(rows)
    what, query, answer = rng.choice([
        (f'the sum of {column}', f'sum({column}) from {table}', sum(v for _, v in rows)),
        (f'the largest {column}', f'max({column}) from {table}', max(v for _, v in rows)),
        (f'the {column} of {name}', f"{column} from {table} where name='{name}'", value)])
    return world.answered(f'{load} and submit {what}.', answer,
                          [*plan, f'sqlite3 {database} "select {query}"'])
  name, value = rng.choice(rows)
  number = world.number()
  said, change, after = rng.choice([
      (f'set the {column} of {name} to {number}',
       f"update {table} set {column}={number} where name='{name}'",
       [(n, number if n == name else v) for n, v in rows]),
      (f'delete {name}', f"delete from {table} where name='{name}'",
       [row for row in rows if row[0] != name])])
  check = f'sqlite3 {database} "select * from {table}"'
  plan += [f'sqlite3 {database} "{change}"', *world.sometimes(check)]
  return world.checked(f'{load} and {said}.', check, [f'{n}|{v}' for n, v in after], plan)
