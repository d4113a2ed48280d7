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
_GROUPS = re.compile(r'replica_groups=\[(\d+),(\d+)\]')
_LISTED_GROUP = re.compile(r'replica_groups=\{\{([\d,]+)\}')


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
    for shape, operation, rest in computations[name]:
      kind = operation.removesuffix('-start')
      if kind in COLLECTIVES:
        found[kind][0] += times
        found[kind][1] += times * _sent(kind, shape, rest, operation != kind)
      trips = _TRIPS.search(rest) if operation == 'while' else None
      for called in _CALLED.findall(rest):
        for inner in called.replace('%', '').split(','):
          if inner.strip() in computations:
            visit(inner.strip(), times * (int(trips[1]) if trips else 1))

  visit(entry, 1)
  return {kind: Traffic(*found[kind]) for kind in COLLECTIVES if kind in found}


def _computations(hlo: str) -> tuple[dict[str, list[tuple[str, str, str]]], str]:
  """(shape, operation, rest of the line) of every instruction, by computation; the entry's name."""
  computations, current, entry = {}, None, ''
  for line in hlo.splitlines():
    if line.endswith('{') and not line.startswith((' ', '\t')):
      name = line.removeprefix('ENTRY ').strip().lstrip('%').split(' ')[0].split('(')[0]
      entry = name if line.startswith('ENTRY') else entry
      current = computations.setdefault(name, [])
    elif current is not None and (match := _INSTRUCTION.match(line)):
      current.append(match.groups()[1:])
  return computations, entry


def _sent(kind: str, shape: str, rest: str, asynchronous: bool) -> int:
  """Bytes that a device sends in one run of a collective."""
  sizes = [_BYTES.get(dtype, 4) * math.prod(map(int, filter(None, dims.split(','))))
           for dtype, dims in re.findall(r'(\w+)\[([\d,]*)\]', shape)]
  size = max(sizes) if asynchronous else sum(sizes)  # a start's shape holds operands and results
  if kind in ('collective-permute', 'collective-broadcast'):
    return size
  grid, listed = _GROUPS.search(rest), _LISTED_GROUP.search(rest)
  devices = int(grid[2]) if grid else len(listed[1].split(',')) if listed else 2
  if kind == 'reduce-scatter' and not asynchronous:
    size *= devices  # its result is one share
  return round((2 if kind == 'all-reduce' else 1) * (devices - 1) / devices * size)
