"""Tasks of published benchmarks: tau2's retail, airline and telecom, BFCL's multi-turn ones.

Each family has some dozens of tasks, and every seed is one of them. Those of train, validation and
test, and of the stages of training, are different ones; where a benchmark splits its tasks itself,
test has the benchmark's.
"""

import functools
import random
import re
from collections.abc import Callable

from aw_jax.environments import benchmark_servers, registry
from aw_jax.environments.benchmark_servers import Listed
from aw_jax.environments.experts import Commands
from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Family, Recipe
from aw_jax.environments.servers.benchmark import SOLVED, VERDICT
from aw_jax.trajectories import SUBMIT, Task, Verifier

_SPARE_TURNS = 6  # beyond the expert's
_BFCL = {'bfcl_files': 'cd', 'bfcl_trading': 'place_order', 'bfcl_travel': 'book_flight',
         'bfcl_vehicle': 'startEngine'}  # family -> a tool that its tasks have
_TEST_EVERY, _VALIDATION_EVERY = 5, 6  # task of those left is for test, for validation
_POOLS = ('cpt', 'sft', 'cpt', 'rl', 'cpt')  # whose turn it is when train tasks are dealt out
_LOOKING = re.compile(
    r'get|check|list|find|search|view|show|display|can_|run_speed|ls$|cat$|pwd$|wc$|tail$|grep$|'
    r'diff$|du$')
_TOKEN = re.compile(r'[#@\w][\w.@-]*')


def part(family: str, seed: int) -> list[Listed]:
  """The tasks of which a seed of a family is one: those of its split and stage."""
  split = registry.seed_split(seed)
  return _dealt(family)[registry.seed_pool(seed) if split == 'train' else split]


@functools.cache
def _dealt(family: str) -> dict[str, list[Listed]]:
  """The tasks of a family by split, those of train by stage."""
  if family in _BFCL:
    found = [task for task in benchmark_servers.catalogue('bfcl').tasks
             if _BFCL[family] in task.tools]
    test = found[_TEST_EVERY - 1::_TEST_EVERY]
  else:
    found = benchmark_servers.catalogue(family).tasks
    test = [task for task in found if task.split == 'test']
  others = [task for task in found if task not in test]
  validation = others[_VALIDATION_EVERY - 1::_VALIDATION_EVERY]
  train = [task for task in others if task not in validation]
  return {'test': test, 'validation': validation} | {
      pool: [task for i, task in enumerate(train) if _POOLS[i % len(_POOLS)] == pool]
      for pool in registry.POOLS}


def _server(family: str) -> str:
  return 'bfcl' if family in _BFCL else family


def _maker(family: str) -> Callable[[int, random.Random], Recipe]:
  def make(seed: int, rng: random.Random) -> Recipe:
    task = rng.choice(part(family, seed))
    tools = benchmark_servers.catalogue(_server(family)).tools
    setup = {'server': _server(family), 'task': task.name,
             'tools': [_declared(tools[name]) for name in task.tools]}
    plan = [call_text(name, **arguments) for name, arguments in task.gold]
    return Recipe(
        instruction=task.instruction, setup=setup, initial_state=task.state,
        verifier=Verifier('command', SOLVED, VERDICT), plan=(*plan, SUBMIT),
        max_turns=len(plan) + _SPARE_TURNS)
  return make


def _declared(tool: dict) -> dict:
  return {key: value for key, value in tool.items() if key != 'readOnly'}


def commands(task: Task, state: str | None, rng: random.Random) -> tuple[Commands, Commands]:
  """Calls that look and calls that do something: those of other tasks, about this one's things.

  A value of another task's call gives way to one that looks like it in the state.
  """
  tools = benchmark_servers.catalogue(task.setup['server']).tools
  mine = {tool['name'] for tool in task.setup['tools']}
  calls = [call for other in part(task.family, task.seed) if other.name != task.setup['task']
           for call in other.gold if call[0] in mine]
  looks = [call for call in calls if tools[call[0]]['readOnly'] or _LOOKING.match(call[0])]
  looks += [(name, {}) for name in sorted(mine)
            if tools[name]['readOnly'] and not tools[name]['inputSchema']['required']]
  acts = [call for call in calls if call not in looks]
  tokens = _TOKEN.findall(state or '')

  def draw(among: list) -> str:
    name, arguments = rng.choice(among or calls or looks)
    return call_text(name, **_adapted(arguments, tokens, rng))

  return ((1, lambda: draw(looks)),), ((1, lambda: draw(acts)),)


def _adapted(value, tokens: list[str], rng: random.Random):
  if isinstance(value, dict):
    return {key: _adapted(one, tokens, rng) for key, one in value.items()}
  if isinstance(value, list):
    return [_adapted(one, tokens, rng) for one in value]
  if not isinstance(value, str) or rng.random() < 0.1:
    return value
  like = [token for token in tokens if _shape(token) == _shape(value)]
  return rng.choice(like) if like else value


def _shape(text: str) -> str:
  """What kind of name a text is: '#W1234567' and '#W7654321' have the same."""
  return re.sub(r'[A-Z]+', 'A', re.sub(r'[a-z]+', 'a', re.sub(r'\d+', '9', text)))


FAMILIES = tuple(
    Family(name, _maker(name), requires=(benchmark_servers.catalogue_path(_server(name)),),
           optional=True)
    for name in ('retail', 'airline', 'telecom', *_BFCL))
