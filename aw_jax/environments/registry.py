"""The domains, their task families, and how tasks are split.

A *family* generates tasks from a seed. Whole families are held out for test; of the others, the
last digit of the seed decides the split (0-7 train, 8 validation, 9 test) and its tens digit the
training stage (0-5 cpt, 6-7 sft, 8-9 rl), so splits and stages are disjoint by construction.

A domain is named here by strings and imported on first use: a missing optional package costs nobody
anything until that domain is asked for.
"""

import dataclasses
import functools
import importlib
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from aw_jax.environments.base import Environment, MissingProgramError
from aw_jax.trajectories import SPLITS, SUBMIT, Task, Verifier

POOLS = ('cpt', 'sft', 'rl')
_SPLIT_DIGITS = {'train': range(8), 'validation': range(8, 9), 'test': range(9, 10)}
_POOL_DIGITS = {'cpt': range(6), 'sft': range(6, 8), 'rl': range(8, 10)}
_CYCLE = 10_000_000  # task seeds lie below 100 times this
_STRIDE = 7_368_787  # coprime to _CYCLE, so that one series of seeds never repeats within a cycle


class RegistryError(ValueError):
  """An unknown domain, family, split or pool; the message lists the known ones."""


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a family makes of a seed.

  Attributes:
    instruction: what the agent is told.
    setup: what the environment needs to build the initial state; JSON values only.
    initial_state: that state as `Environment.snapshot` shows it, or None where it cannot be seen.
    verifier: how success is decided.
    plan: an expert's actions, the last of them `SUBMIT` with or without an answer.
    max_turns: turns after which an episode ends.
  """

  instruction: str
  setup: dict[str, Any]
  initial_state: str | None
  verifier: Verifier
  plan: tuple[str, ...]
  max_turns: int = 12


@dataclasses.dataclass(frozen=True)
class Family:
  """A generator of tasks.

  Attributes:
    name: unique in its domain.
    make: (seed, generator seeded for this task) -> Recipe; a pure function of the two.
    held_out: True where all of its tasks are for test.
    requires: programs, and paths of data files, without which its tasks cannot be run; the family
      is then left out.
    optional: True where a series of tasks has no places for the family when it is left out, so that
      those who never install what it requires get the series that they always got.
  """

  name: str
  make: Callable[[int, random.Random], Recipe]
  held_out: bool = False
  requires: tuple[str, ...] = ()
  optional: bool = False


@dataclasses.dataclass(frozen=True)
class _Domain:
  environment: str | Callable[[], Environment]
  families: str | tuple[Family, ...]
  install: str


_domains: dict[str, _Domain] = {}


def register_domain(
    domain: str, environment: str | Callable[[], Environment],
    families: str | tuple[Family, ...], install: str) -> None:
  """Adds a domain.

  Args:
    domain: its name, one of `trajectories.DOMAINS`.
    environment: what makes an `Environment`, or 'module:name' of it, imported on first use.
    families: its families, or 'module:name' of them.
    install: the line that installs what the domain needs, for the message where it is missing.
  """
  _domains[domain] = _Domain(environment, families, install)
  _families.cache_clear()
  _missing.cache_clear()


def domains() -> list[str]:
  """The registered domains."""
  return sorted(_domains)


def make_environment(domain: str) -> Environment:
  """A new environment of `domain`. Raises RegistryError, MissingProgramError."""
  return _resolve(_domain(domain).environment, domain)()


def actions(domain: str) -> Any:
  """What `experts.Actions` knows of a domain: `ACTIONS` of its families' module, or the default."""
  target = _domain(domain).families
  if isinstance(target, str):
    module = _import(target.partition(':')[0], domain)
    if hasattr(module, 'ACTIONS'):
      return module.ACTIONS
  return _import('aw_jax.environments.experts', domain).Actions()


def families(domain: str, split: str | None = None) -> list[str]:
  """The names of the families that have tasks in `split` (of all families where None)."""
  if split is not None and split not in SPLITS:
    raise RegistryError(f'unknown split {split!r}; known are {", ".join(SPLITS)}')
  missing = _missing(domain)
  return [name for name in _names(domain, split) if name not in missing]


def _names(domain: str, split: str | None) -> list[str]:
  """`families`, those included whose programs are missing here, unless they are optional."""
  missing = _missing(domain)
  return [f.name for f in _families(domain).values()
          if (split in (None, 'test') or not f.held_out)
          and not (f.optional and f.name in missing)]


def held_out(domain: str) -> list[str]:
  """The names of the families that are wholly for test."""
  return [f.name for f in _families(domain).values() if f.held_out]


def split_of(domain: str, family: str, seed: int) -> str:
  """The split of a task: 'test' for a held-out family, else by the last digit of its seed."""
  return 'test' if _family(domain, family).held_out else seed_split(seed)


def seed_split(seed: int) -> str:
  """The split that a seed stands for in a family that is not held out."""
  return next(split for split, digits in _SPLIT_DIGITS.items() if seed % 10 in digits)


def seed_pool(seed: int) -> str:
  """The training stage that a seed of split train stands for."""
  return next(pool for pool, digits in _POOL_DIGITS.items() if seed // 10 % 10 in digits)


def stage_pool(task: Task) -> str:
  """The training stage ('cpt', 'sft' or 'rl') that a train task belongs to.

  Raises:
    RegistryError: where the task is not for training.
  """
  if task.split != 'train':
    raise RegistryError(f'{task.id} is a {task.split} task; only train tasks have a stage')
  return seed_pool(task.seed)


def make_task(domain: str, family: str, seed: int) -> Task:
  """The task of a family and a seed, always the same. Raises RegistryError."""
  recipe = _make(domain, family, seed)
  return Task(
      id=f'{domain}/{family}/{seed}', domain=domain, family=family,
      split=split_of(domain, family, seed), seed=seed, instruction=recipe.instruction,
      initial_state=recipe.initial_state, setup=recipe.setup, verifier=recipe.verifier,
      max_turns=recipe.max_turns)


def expert_plan(task: Task) -> list[str]:
  """An expert's actions for `task`, the last of them a submission; a function of the task."""
  plan = list(_make(task.domain, task.family, task.seed).plan)
  if not plan or not plan[-1].startswith(SUBMIT):
    raise RegistryError(f'the plan of {task.id} does not end with {SUBMIT}')
  return plan


def task_at(
    domain: str, split: str, index: int, seed: int = 0, pool: str | None = None,
    among: tuple[str, ...] | None = None) -> Task:
  """Task number `index` of an endless series: round-robin over families, no task seed twice.

  Where a family's programs are missing, a task of another family stands in its places: all other
  tasks are the same on every machine. Of an optional family there are no places then; the others'
  tasks come closer together, and are the same ones.

  Args:
    domain: which domain.
    split: 'train', 'validation' or 'test'.
    index: the place in the series, from 0.
    seed: selects the series.
    pool: a stage ('cpt', 'sft', 'rl') to keep to; only with split 'train'.
    among: family names to keep to (all of the split where None).
  """
  if pool is not None and (pool not in POOLS or split != 'train'):
    raise RegistryError(
        f'pool {pool!r} with split {split!r}: a pool is one of {", ".join(POOLS)}, of split train')
  present = families(domain, split)
  for name in among or ():
    if name not in present:
      raise RegistryError(
          f'family {name!r} has no {split} tasks in domain {domain!r}; those that have are '
          f'{", ".join(present)}')
  names = list(among or _names(domain, split))
  number, place = divmod(index, len(names))
  name = names[place]
  if name not in present:
    name, number = present[place % len(present)], _CYCLE // 2 + index  # seeds no other place has
  family = _family(domain, name)
  return make_task(domain, name, _task_seed(family, split, number, seed, pool))


def tasks(
    domain: str, split: str, count: int, seed: int = 0, pool: str | None = None) -> Iterator[Task]:
  """The first `count` tasks of a series (see `task_at`)."""
  return (task_at(domain, split, index, seed, pool) for index in range(count))


def _task_seed(family: Family, split: str, index: int, seed: int, pool: str | None) -> int:
  start = random.Random(f'{family.name}/{seed}').randrange(_CYCLE)
  number = (start + index * _STRIDE) % _CYCLE
  units = range(10) if family.held_out else _SPLIT_DIGITS[split]
  tens = _POOL_DIGITS[pool] if pool else range(10)
  number, unit = divmod(number, len(units))
  number, ten = divmod(number, len(tens))
  return number * 100 + tens[ten] * 10 + units[unit]


def _make(domain: str, family: str, seed: int) -> Recipe:
  return _family(domain, family).make(seed, random.Random(f'{domain}/{family}/{seed}'))


def _domain(domain: str) -> _Domain:
  if domain not in _domains:
    raise RegistryError(f'unknown domain {domain!r}; known are {", ".join(domains())}')
  return _domains[domain]


def _family(domain: str, family: str) -> Family:
  known = _families(domain)
  if family not in known:
    raise RegistryError(
        f'unknown family {family!r} of domain {domain!r}; known are {", ".join(known)}')
  return known[family]


@functools.cache
def _families(domain: str) -> dict[str, Family]:
  return {family.name: family for family in _resolve(_domain(domain).families, domain)}


@functools.cache
def _missing(domain: str) -> frozenset[str]:
  """Families that cannot be run here."""
  found = set()
  for family in _families(domain).values():
    missing = [name for name in family.requires
               if shutil.which(name) is None and not os.path.isfile(name)]
    if missing:
      level = logging.INFO if family.optional else logging.WARNING
      logging.log(level, 'family %s of %s is left out: %s not found',
                  family.name, domain, ', '.join(missing))
      found.add(family.name)
  return frozenset(found)


def _resolve(target: Any, domain: str) -> Any:
  """What 'module:name' names; anything but a string is itself."""
  if not isinstance(target, str):
    return target
  module, name = target.split(':')
  return getattr(_import(module, domain), name)


def _import(module: str, domain: str) -> Any:
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise MissingProgramError(
        f'domain {domain!r} needs the package {error.name!r}: '
        f'{_domain(domain).install}') from error


register_domain(
    'terminal', 'aw_jax.environments.terminal:TerminalEnvironment',
    'aw_jax.environments.terminal_tasks:FAMILIES', 'apt-get install -y bubblewrap')
register_domain(
    'mcp', 'aw_jax.environments.mcp:McpEnvironment',
    'aw_jax.environments.mcp_tasks:FAMILIES', "pip install 'mcp>=2.3,<3'")
register_domain(
    'search', 'aw_jax.environments.search:SearchEnvironment',
    'aw_jax.environments.search_tasks:FAMILIES', "pip install -e '.[search]'")
register_domain(
    'swe', 'aw_jax.environments.swe:SweEnvironment', 'aw_jax.environments.swe_tasks:FAMILIES',
    "pip install -e '.[swe]' && python -m experiments.fetch_swe")
register_domain(
    'textgame', 'aw_jax.environments.textgame:TextGameEnvironment',
    'aw_jax.environments.textgame_tasks:FAMILIES', "pip install -e '.[games]'")
register_domain(
    'android', 'aw_jax.environments.android:AndroidEnvironment',
    'aw_jax.environments.android_tasks:FAMILIES', 'apt-get install -y adb')
register_domain(
    'web', 'aw_jax.environments.web:WebEnvironment', 'aw_jax.environments.web_tasks:FAMILIES',
    "apt-get install -y chromium && pip install -e '.[web]' && "
    'pip install --no-deps miniwob==1.1.0')
register_domain(
    'os', 'aw_jax.environments.desktop:DesktopEnvironment',
    'aw_jax.environments.desktop_tasks:FAMILIES',
    'apt-get install -y bubblewrap xvfb xdotool openbox dbus at-spi2-core libatk-adaptor '
    'libgail-common python3-gi mousepad galculator pcmanfm thunar')
