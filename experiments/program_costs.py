"""What a compiled program costs: FLOPs of its matrix products, bytes between devices, time bounds.

FLOPs are counted in the traced program (its jaxpr), in which loops still have their lengths and
kernels can be told apart; what devices exchange is read from the compiled program (HLO text),
where the compiler has put it.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


@dataclasses.dataclass(frozen=True)
class Chip:
  """A TPU chip as its maker states it (cloud.google.com/tpu/docs).

  Attributes:
    flops: of dense bfloat16 matrix products, a second.
    memory: bytes of HBM.
    memory_bandwidth: bytes a second of it.
    link_bandwidth: bytes a second to all neighbours together, one direction.
  """

  flops: float
  memory: float
  memory_bandwidth: float
  link_bandwidth: float


CHIPS = {
    'v5p': Chip(459e12, 95 * 2**30, 2765e9, 300e9),
    'v5e': Chip(197e12, 16 * 2**30, 819e9, 100e9),
    'v6e': Chip(918e12, 32 * 2**30, 1640e9, 224e9),
}


# --- FLOPs ----------------------------------------------------------------------------------------


def matmul_flops(function: Callable[..., Any], *arguments: Any) -> int:
  """FLOPs of the matrix products of `function(*arguments)`, recomputation of gradients included.

  Trace it without a mesh and without kernels. A loop whose length depends on data counts once.
  """
  return _flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def _flops(jaxpr: core.Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      left = equation.invars[0].aval.shape
      total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(
          left[axis] for axis in contracted)
    elif name in ('ragged_dot', 'ragged_dot_general'):
      total += _ragged_flops(equation)
    elif name == 'cond':
      total += max(_flops(branch.jaxpr) for branch in params['branches'])
    else:
      times = params.get('length', 1) if name == 'scan' else 1
      total += times * sum(map(_flops, _inner(params)))
  return total


def _ragged_flops(equation) -> int:
  """Of a grouped product: every row meets one matrix, whichever."""
  rows, right = (variable.aval.shape for variable in equation.invars[:2])
  if len(right) == 3:  # rows times a matrix of their group
    return 2 * rows[0] * right[1] * right[2]
  return 2 * rows[0] * rows[1] * right[1]  # the gradient of such matrices


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  for value in params.values():
    for part in value if isinstance(value, (tuple, list)) else (value,):
      if isinstance(part, core.ClosedJaxpr):
        yield part.jaxpr
      elif isinstance(part, core.Jaxpr):
        yield part


# --- what devices exchange ------------------------------------------------------------------------

COLLECTIVES = (
    'all-gather', 'all-reduce', 'reduce-scatter', 'all-to-all', 'ragged-all-to-all',
    'collective-permute', 'collective-broadcast')
_BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 'f32': 4, 's32': 4,
          'u32': 4, 'f64': 8, 's64': 8, 'u64': 8}
_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.-]+) = (\(?.*?\)?) ([\w-]+)\((.*)$')
_CALLED = re.compile(r'(?:calls|body|to_apply|branch_computations)=\{?%?([\w.,% -]+)\}?')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r'condition=%?([\w.-]+)')
# Groups of devices are written as [groups,size]<=[...], listed, or as axes of a mesh.
_GROUPS = re.compile(r'replica_groups=\[(\d+),(\d+)\]')
_LISTED_GROUP = re.compile(r'replica_groups=\{\{([\d,]+)\}')
_MESH_GROUP = re.compile(r'replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}')


@dataclasses.dataclass(frozen=True)
class Traffic:
  """What one device sends by one kind of collective in a run of the program."""

  count: int
  bytes: int


def collectives(hlo: str) -> dict[str, Traffic]:
  """Collectives of a compiled program by kind, those in loops as often as the loops run.

  Bytes are what a ring sends: of an array of s bytes among n devices (n - 1) / n s for a gather,
  scatter or all-to-all, twice that for an all-reduce. A loop of unknown length counts once.
  """
  computations, entry = _computations(hlo)
  found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])

  def visit(name: str, times: int) -> None:
    for _, shape, operation, rest in computations[name]:
      kind = operation.removesuffix('-start')
      if kind in COLLECTIVES:
        found[kind][0] += times
        found[kind][1] += times * _sent(kind, shape, rest, operation != kind)
      trips = _trips(rest, computations) if operation == 'while' else 1
      for called in _CALLED.findall(rest):
        for inner in called.replace('%', '').split(','):
          if inner.strip() in computations:
            visit(inner.strip(), times * trips)

  visit(entry, 1)
  return {kind: Traffic(*found[kind]) for kind in COLLECTIVES if kind in found}


def _trips(loop: str, computations: dict[str, list[tuple[str, str, str, str]]]) -> int:
  """How often a loop runs: as noted, or what its condition compares the counter with; else 1."""
  if noted := _TRIPS.search(loop):
    return int(noted[1])
  condition = _CONDITION.search(loop)
  instructions = computations.get(condition[1], []) if condition else []
  constants = {name: rest for name, _, operation, rest in instructions if operation == 'constant'}
  compared = [rest for _, _, operation, rest in instructions
              if operation == 'compare' and 'direction=LT' in rest]
  for name, value in constants.items():
    if len(compared) == 1 and re.search(rf'%?{re.escape(name)}\)', compared[0]):
      return int(re.match(r'\d+', value)[0])
  return 1


def _computations(hlo: str) -> tuple[dict[str, list[tuple[str, str, str, str]]], str]:
  """(name, shape, operation, rest of the line) of instructions by computation; the entry's name."""
  computations, current, entry = {}, None, ''
  for line in hlo.splitlines():
    if line.endswith('{') and not line.startswith((' ', '\t')):
      name = line.removeprefix('ENTRY ').strip().lstrip('%').split(' ')[0].split('(')[0]
      entry = name if line.startswith('ENTRY') else entry
      current = computations.setdefault(name, [])
    elif current is not None and (match := _INSTRUCTION.match(line)):
      current.append(match.groups())
  return computations, entry


def _group_size(rest: str) -> int:
  """How many devices take part in a collective together."""
  if grid := _GROUPS.search(rest):
    return int(grid[2])
  if listed := _LISTED_GROUP.search(rest):
    return len(listed[1].split(','))
  if mesh := _MESH_GROUP.search(rest):
    sizes = dict(re.findall(r"'([^']*)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", mesh[2]))
  return 2


def _sent(kind: str, shape: str, rest: str, asynchronous: bool) -> int:
  """Bytes that a device sends in one run of a collective."""
  sizes = [_BYTES.get(dtype, 4) * math.prod(map(int, filter(None, dims.split(','))))
           for dtype, dims in re.findall(r'(\w+)\[([\d,]*)\]', shape)]
  size = max(sizes) if asynchronous else sum(sizes)  # a start's shape holds operands and results
  if kind in ('collective-permute', 'collective-broadcast'):
    return size
  devices = _group_size(rest)
  if kind == 'reduce-scatter' and not asynchronous:
    size *= devices  # its result is one share
  return round((2 if kind == 'all-reduce' else 1) * (devices - 1) / devices * size)
