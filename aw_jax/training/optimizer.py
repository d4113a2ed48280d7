"""Optimiser and learning-rate schedule."""

import jax
import optax
from optax import contrib

SCHEDULES = ('cosine', 'constant', 'linear')


class OptimizerConfigError(ValueError):
  """No such optimiser or schedule; the message lists those there are."""


def schedule(config) -> optax.Schedule:
  """Linear warm-up to `peak_lr`, then 'cosine' or 'linear' to a share of it, or 'constant'.

  Args:
    config: `peak_lr`, `warmup_steps`, `total_steps`, `schedule`, `final_lr_ratio` (the last rate as
      a share of the peak).
  Raises:
    OptimizerConfigError: for an unknown schedule.
  """
  if config.schedule not in SCHEDULES:
    raise OptimizerConfigError(
        f'optimizer.schedule: {config.schedule!r} is not one of {", ".join(SCHEDULES)}')
  warmup = min(config.warmup_steps, max(config.total_steps - 1, 0))
  rest = max(config.total_steps - warmup, 1)
  decay = {
      'cosine': optax.cosine_decay_schedule(config.peak_lr, rest, alpha=config.final_lr_ratio),
      'linear': optax.linear_schedule(
          config.peak_lr, config.final_lr_ratio * config.peak_lr, rest),
      'constant': optax.constant_schedule(config.peak_lr),
  }[config.schedule]
  return optax.join_schedules(
      [optax.linear_schedule(0.0, config.peak_lr, max(warmup, 1)), decay], [warmup])


def _axes(path, leaf) -> int:
  """How many axes a parameter has within its layer; layers are stacked in front."""
  return leaf.ndim - ('layers' in jax.tree_util.keystr(path))


_NO_HIDDEN_MATRICES = ('embedding', '_conv', 'router', 'shared_gate')


def _muon_dimensions(params):
  """Muon is for the matrices between hidden layers, a stack of them at a time."""
  def dimensions(path, leaf):
    name = jax.tree_util.keystr(path)
    if _axes(path, leaf) < 2 or any(other in name for other in _NO_HIDDEN_MATRICES):
      return None
    return contrib.MuonDimensionNumbers(leaf.ndim - 2, leaf.ndim - 1)

  return jax.tree_util.tree_map_with_path(dimensions, params)


def _decayed(params):
  return jax.tree_util.tree_map_with_path(lambda path, leaf: _axes(path, leaf) > 1, params)


def make_optimizer(config) -> optax.GradientTransformation:
  """'adamw', or 'muon' for matrices with Adam for the rest, after clipping by global norm.

  Args:
    config: `name`, `weight_decay`, `clip_norm`, `adam_lr_ratio` (Adam's learning rate as a share of
      Muon's), and the fields of `schedule`.
  Raises:
    OptimizerConfigError: for an unknown optimiser or schedule.
  """
  rate = schedule(config)
  if config.name == 'adamw':
    update = optax.adamw(rate, b2=0.95, weight_decay=config.weight_decay,
                         mask=_decayed)
  elif config.name == 'muon':
    update = contrib.muon(
        rate, weight_decay=config.weight_decay, adam_b2=0.95,
        adam_learning_rate=lambda step: config.adam_lr_ratio * rate(step),
        muon_weight_dimension_numbers=_muon_dimensions)
  else:
    raise OptimizerConfigError(f"optimizer.name: 'adamw' or 'muon', is {config.name!r}")
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)
