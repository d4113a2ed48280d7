"""What programs cost: FLOPs against counting by hand and XLA, collectives against real programs."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from aw_jax import partitioning
from experiments import program_costs


def zeros(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_flops_of_products_in_loops_branches_and_gradients():
  def layer(x, w):
    return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: x @ w @ w), None

  def loss(x, weights):
    return jnp.sum(jax.lax.scan(layer, x, weights)[0])

  one = 2 * 3 * 5 * 5
  assert program_costs.matmul_flops(loss, zeros(3, 5), zeros(7, 5, 5)) == 7 * 2 * one
  plain = program_costs.matmul_flops(
    jax.grad(lambda x, w: jnp.sum(x @ w), argnums=(0, 1)), zeros(3, 5), zeros(5, 5))
  assert plain == 3 * one  # forward, and a product for each gradient


def test_flops_of_recomputation_count():
  def loss(w, x):
    return jnp.sum(jnp.sin(jnp.sin(x @ w) @ w))

  once = program_costs.matmul_flops(jax.grad(loss), zeros(4, 4), zeros(4, 4))
  again = program_costs.matmul_flops(jax.grad(jax.checkpoint(loss)), zeros(4, 4), zeros(4, 4))
  assert again > once


@pytest.mark.parametrize('experts', [1, 3])
def test_flops_of_grouped_products(experts):
  flops = program_costs.matmul_flops(
    jax.lax.ragged_dot, zeros(10, 4), zeros(experts, 4, 6),
    jax.ShapeDtypeStruct((experts,), jnp.int32))
  assert flops == 2 * 10 * 4 * 6


def test_flops_are_those_of_xla():
  def function(x, w, b):
    return jnp.einsum('bte,ef->btf', x, w) @ b

  arguments = zeros(2, 8, 16), zeros(16, 32), zeros(32, 4)
  expected = jax.jit(function).lower(*arguments).compile().cost_analysis()['flops']
  assert program_costs.matmul_flops(function, *arguments) == expected


def compiled_text(function, mesh, specs, *arguments):
  shardings = [NamedSharding(mesh, spec) for spec in specs]
  return jax.jit(function, in_shardings=shardings).lower(*arguments).compile().as_text()


def test_collectives_of_a_program_of_two_devices():
  """Two CPU devices: an all-reduce in a loop of 5, sent by ring, and no other."""
  mesh = partitioning.make_mesh()
  assert mesh.size == 2

  def function(x, w):
    def step(carry, _):
      summed = jax.shard_map(
        lambda a: jax.lax.psum(a, 'data'), mesh=mesh, in_specs=PartitionSpec('data'),
        out_specs=PartitionSpec())(carry * w)
      return carry + jnp.sum(jnp.sin(summed)), None
    return jax.lax.scan(step, x, None, length=5)[0]

  text = compiled_text(
    function, mesh, (PartitionSpec('data'), PartitionSpec('data')), zeros(8, 128), zeros(8, 128))
  found = program_costs.collectives(text)
  assert found['all-reduce'] == program_costs.Traffic(5, 5 * 4 * 128 * 4)


def test_a_gather_sends_what_the_others_lack():
  mesh = partitioning.make_mesh()
  gather = functools.partial(jax.lax.with_sharding_constraint,
                             shardings=NamedSharding(mesh, PartitionSpec()))
  text = compiled_text(lambda x: gather(x) * 2, mesh, (PartitionSpec('data'),), zeros(8, 16))
  assert program_costs.collectives(text) == {
    'all-gather': program_costs.Traffic(1, 8 * 16 * 4 // 2)}


HLO = """HloModule jit_f, num_partitions=8

%body (p: (s32[], bf16[128])) -> (s32[], bf16[128]) {
  %rs = bf16[16]{0} reduce-scatter(%x), replica_groups=[1,8]<=[8], to_apply=%add
  %ag = (bf16[16]{0}, bf16[128]{0}) all-gather-start(%rs), replica_groups=[1,8]<=[8]
  %agd = bf16[128]{0} all-gather-done(%ag)
}

%until (q: (s32[], bf16[128])) -> pred[] {
  %five = s32[]{:T(128)} constant(5)
  %count = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%count, %five), direction=LT
}

%other (r: (s32[], bf16[128])) -> (s32[], bf16[128]) {
  %ar = f32[8]{0} all-reduce(%r), replica_groups=mesh['x'=4,'y'=2] {'x'}, to_apply=%add
}

ENTRY %main (a: bf16[128]) -> bf16[128] {
  %w = (s32[], bf16[128]) while(%t), body=%body, backend_config={"known_trip_count":{"n":"3"}}
  %w2 = (s32[], bf16[128]) while(%w), condition=%until, body=%other
  %cp = f32[10]{0} collective-permute(%a), source_target_pairs={{0,1},{1,0}}
}
"""


def test_asynchronous_and_scattered_collectives_in_a_loop():
  found = program_costs.collectives(HLO)
  assert found == {
    'all-gather': program_costs.Traffic(3, 3 * 256 * 7 // 8),
    'reduce-scatter': program_costs.Traffic(3, 3 * 256 * 7 // 8),
    'all-reduce': program_costs.Traffic(5, 5 * 2 * 32 * 3 // 4),
    'collective-permute': program_costs.Traffic(1, 40)}
