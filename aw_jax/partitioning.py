"""Device mesh, logical axis rules, work split by rows, and a check for large replicated arrays."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MESH_AXES = ('data', 'fsdp', 'tensor')
ROW_AXES = ('data', 'fsdp')
# Parameters are split over 'fsdp' along their embedding axis and over 'tensor' along the other one;
# batches over everything that does not split a matrix product.
AXIS_RULES = (
    ('batch', ROW_AXES), ('embed', 'fsdp'), ('heads', 'tensor'), ('mlp', 'tensor'),
    ('vocab', 'tensor'),
)
LARGE_ARRAY_BYTES = 1 << 20


class PartitioningError(ValueError):
  """The mesh does not fit the devices, or a large array is replicated."""


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1) -> Mesh:
  """A mesh over all devices; one size may be -1, what is left.

  Raises:
    PartitioningError: where the sizes do not multiply to the number of devices.
  """
  sizes, devices = [data, fsdp, tensor], jax.device_count()
  if sizes.count(-1) == 1:
    known = -int(np.prod(sizes))
    if known and devices % known == 0:
      sizes[sizes.index(-1)] = devices // known
  if min(sizes) < 1 or int(np.prod(sizes)) != devices:
    raise PartitioningError(
        f'mesh data={data}, fsdp={fsdp}, tensor={tensor} does not divide {devices} devices')
  # Linen's logical constraints need Auto axes; make_mesh's own default is Explicit.
  return jax.make_mesh(tuple(sizes), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device: for scalars."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
  """Rows over all data axes."""
  return NamedSharding(mesh, nn.logical_to_mesh_axes(('batch',), AXIS_RULES))


def by_rows(function: Callable[[Any, Any], Any], shared: Any, rows: Any) -> Any:
  """`function(shared, rows)`, each device on its own rows and at its own pace; traced by jit.

  Loops whose length depends on the data, as in decoding, end on each device with its own rows, and
  no step waits for another device. On a CPU, where JAX's devices are threads, two small models side
  by side decode over a third more than one model on two threads (experiments/results). Where the
  mesh splits matrix products over 'tensor', devices meet in every step: there the loops go on, on
  all devices alike, until the last row is done.

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
  if mesh.shape['tensor'] > 1:
    out = function(shared, jax.lax.with_sharding_constraint(dealt, split))
  else:
    out = jax.shard_map(
        function, mesh=mesh, in_specs=(PartitionSpec(), split), out_specs=split, check_vma=False)(
            shared, dealt)
  return jax.tree.map(collect, out)


def param_shardings(boxed: Any, mesh: Mesh) -> Any:
  """A NamedSharding for every leaf of boxed (abstract) parameters."""
  return nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, AXIS_RULES)


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


def assert_sharded(tree: Any, mesh: Mesh, large: int = LARGE_ARRAY_BYTES) -> None:
  """Refuses large arrays that every device holds whole, where the mesh could split them.

  Raises:
    PartitioningError: naming the first such array.
  """
  if mesh.shape['fsdp'] * mesh.shape['tensor'] == 1:
    return
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    if leaf.nbytes >= large and leaf.sharding.is_fully_replicated:
      raise PartitioningError(
          f'{jax.tree_util.keystr(path)}: {leaf.nbytes} bytes replicated on {mesh.size} devices; '
          'give it a logical axis that AXIS_RULES maps to the mesh')
