"""Device mesh, logical axis rules, work split by rows, and a check for large replicated arrays."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ('data', 'fsdp', 'context', 'expert', 'tensor')
# Rows of a batch are split over the first two axes, the tokens of a row over the next two: what is
# not the work of experts is context parallelism on the expert axis too.
ROW_AXES, SEQUENCE_AXES = ('data', 'fsdp'), ('context', 'expert')
# Parameters are split along their embedding axis over everything that splits tokens but 'data', and
# over 'tensor' along the other one. Of two rules for an axis the first that is free holds.
AXIS_RULES = (
    ('batch', ROW_AXES), ('sequence', SEQUENCE_AXES), ('experts', 'expert'), ('heads', 'tensor'),
    ('mlp', 'tensor'), ('vocab', 'tensor'), ('embed', ('fsdp', *SEQUENCE_AXES)),
    ('embed', ('fsdp', 'context')),
)
# Decoding would gather what is split along the embedding axis at every token.
DECODE_RULES = tuple((axis, to) for axis, to in AXIS_RULES if axis != 'embed')
LARGE_ARRAY_BYTES = 1 << 20, 1 << 26


class PartitioningError(ValueError):
  """The mesh does not fit the devices or the model, or a large array is replicated."""


def make_mesh(data: int = -1, fsdp: int = 1, context: int = 1, expert: int = 1, tensor: int = 1,
              devices: Sequence[jax.Device] | None = None) -> Mesh:
  """A mesh over all devices; one size may be -1, what is left.

  Args:
    data: copies of the parameters, each with its own rows.
    fsdp: shares of the parameters, each with its own rows (ZeRO-3).
    context: shares of the parameters, each with its own part of every row.
    expert: shares of the experts, each with its own part of every row.
    tensor: parts of the heads and hidden units.
    devices: all there are by default.
  Raises:
    PartitioningError: where the sizes do not multiply to the number of devices.
  """
  sizes = dict(zip(MESH_AXES, (data, fsdp, context, expert, tensor), strict=True))
  asked = ', '.join(f'{axis}={size}' for axis, size in sizes.items())
  count = jax.device_count() if devices is None else len(devices)
  free = [axis for axis, size in sizes.items() if size == -1]
  known = -math.prod(sizes.values())
  if len(free) == 1 and known > 0 and count % known == 0:
    sizes[free[0]] = count // known
  if min(sizes.values()) < 1 or math.prod(sizes.values()) != count:
    raise PartitioningError(f'mesh {asked} does not divide {count} devices')
  placed = mesh_utils.create_device_mesh(
      tuple(sizes.values()), devices, allow_split_physical_axes=True)
  # Auto, so that the compiler splits what no constraint speaks of.
  return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def auto_mesh() -> AbstractMesh | None:
  """The mesh that is set, where the compiler splits the work of several devices.

  None where there is no mesh, a single device, or where work is split by hand already (`by_rows`).
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1 or any(kind != AxisType.Auto for kind in mesh.axis_types):
    return None
  return mesh


def sequence_shares() -> int:
  """Into how many parts each packed row is split."""
  mesh = auto_mesh()
  return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in SEQUENCE_AXES)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
  """x, which the compiler is told to split along these logical axes."""
  if auto_mesh() is None:
    return x
  return jax.lax.with_sharding_constraint(x, spec(*axes))


def spec(*axes: str | None) -> PartitionSpec:
  """What the rules make of logical axes, for `shard_map`."""
  return nn.logical_to_mesh_axes(axes, AXIS_RULES)


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device: for scalars."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over all data axes."""
  return NamedSharding(mesh, spec('batch'))


def by_rows(function: Callable[[Any, Any], Any], shared: Any, rows: Any) -> Any:
  """`function(shared, rows)`, each device on its own rows and at its own pace; traced by jit.

  Loops whose length depends on the data, as in decoding, end on each device with its own rows, and
  no step waits for another device. On a CPU, where JAX's devices are threads, two small models side
  by side decode over a third more than one model on two threads (experiments/results). Where the
  mesh splits the model itself, over 'tensor' or 'expert', devices meet in every step: there the
  loops go on, on all devices alike, until the last row is done.

  Args:
    function: of arrays with the same number of rows in front; so are those that it returns, with
      that number or a multiple of it. It must not solve or factor batches of matrices on a CPU:
      jaxlib's LAPACK calls wait for the thread pool they run in, and two devices that do so at once
      never end.
    shared: arrays that every row needs, such as parameters; what is split over 'fsdp' alone is
      gathered once, whole.
    rows: arrays. They are split over `ROW_AXES` of the mesh that is set, else over all devices;
      dealt out one by one, since those that stand together are often alike in length. Rows of
      zeros fill up the last ones.
  """
  mesh = jax.sharding.get_abstract_mesh()
  mesh = make_mesh() if mesh.empty else mesh
  count, shares = len(jax.tree.leaves(rows)[0]), mesh.shape['data'] * mesh.shape['fsdp']
  each = -(-count // shares)

  def deal(x):
    padded = jnp.pad(x, [(0, each * shares - count)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(each, shares, *x.shape[1:]).swapaxes(0, 1).reshape(padded.shape)

  def collect(x):
    times = len(x) // (each * shares)
    in_order = x.reshape(shares, each, times, *x.shape[1:]).swapaxes(0, 1)
    return in_order.reshape(x.shape)[:count * times]

  split, dealt = PartitionSpec(ROW_AXES), jax.tree.map(deal, rows)
  if shares < mesh.size:
    out = function(shared, jax.lax.with_sharding_constraint(dealt, split))
  else:
    out = jax.shard_map(
        function, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False)(
            shared, dealt)
  return jax.tree.map(collect, out)


def param_shardings(boxed: Any, mesh: Mesh) -> Any:
  """A NamedSharding for every leaf of boxed (abstract) parameters.

  Raises:
    PartitioningError: where the mesh does not divide one of them, naming it.
  """
  shardings = nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, AXIS_RULES)
  jax.tree_util.tree_map_with_path(_require_divides, shardings, nn.unbox(boxed))
  return shardings


def gather_for_decoding(params: Any, boxed: Any) -> Any:
  """Parameters in a jitted program, split over 'expert' and 'tensor' alone from here on.

  Args:
    params: arrays.
    boxed: the same, abstract, with their logical axes.
  """
  if auto_mesh() is None:
    return params
  specs = nn.logical_to_mesh(nn.get_partition_spec(boxed), DECODE_RULES)
  return jax.tree.map(jax.lax.with_sharding_constraint, params, specs)


def _require_divides(path: tuple[Any, ...], sharding: NamedSharding, leaf: jax.Array) -> None:
  for size, axes in zip(leaf.shape, sharding.spec, strict=False):
    axes = (axes,) if isinstance(axes, str) else axes or ()
    parts = math.prod(sharding.mesh.shape[axis] for axis in axes)
    if size % parts:
      asked = ' x '.join(f'{axis}={sharding.mesh.shape[axis]}' for axis in axes)
      raise PartitioningError(
          f'mesh {asked} does not divide the model: {jax.tree_util.keystr(path)} is '
          f'{" x ".join(map(str, leaf.shape))}, and {parts} does not divide {size}')


def state_shardings(abstract: Any, params: Any, mesh: Mesh) -> Any:
  """Shardings of an optimiser state: a moment follows the parameter whose path it ends in.

  Args:
    abstract: the optimiser state's shapes.
    params: the parameters' NamedShardings.
    mesh: the mesh.
  """
  by_path = {jax.tree_util.keystr(path): leaf
             for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
  longest_first = sorted(by_path, key=len, reverse=True)

  def sharding_of(path, leaf):
    key = jax.tree_util.keystr(path)
    match = next((p for p in longest_first if key.endswith(p)), None)
    return by_path[match] if match and leaf.ndim else replicated(mesh)

  return jax.tree_util.tree_map_with_path(sharding_of, abstract)


def assert_sharded(tree: Any, mesh: Mesh) -> None:
  """Refuses large arrays of which there are more copies than the mesh's data axis asks for.

  Large is what has a thousandth of all, between the two LARGE_ARRAY_BYTES: of a small model nothing
  is, of a large one more than its norms.

  Raises:
    PartitioningError: naming the first such array, and the axes that do not split it.
  """
  if mesh.size == mesh.shape['data']:
    return
  sizes = [(path, leaf.size * leaf.dtype.itemsize, leaf.sharding)
           for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
  least, most = LARGE_ARRAY_BYTES
  large = min(max(least, sum(size for _, size, _ in sizes) // 1000), most)
  for path, size, sharding in sizes:
    split_by = {axis for axes in sharding.spec for axis in _as_tuple(axes)}
    idle = [axis for axis in MESH_AXES[1:] if mesh.shape[axis] > 1 and axis not in split_by]
    if size >= large and idle:
      raise PartitioningError(
          f'{jax.tree_util.keystr(path)}: {size} bytes replicated on '
          f'{math.prod(mesh.shape[axis] for axis in idle)} devices of mesh '
          f'{" and ".join(idle)}; give it a logical axis that AXIS_RULES maps there')


def _as_tuple(axes: None | str | tuple[str, ...]) -> tuple[str, ...]:
  return (axes,) if isinstance(axes, str) else axes or ()
