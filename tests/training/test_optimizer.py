"""The learning rate's shape, and which parameters Muon moves."""

import jax
import ml_collections
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import init_params
from aw_jax.training import optimizer


def config(**fields):
  return ml_collections.ConfigDict({
    'name': 'muon', 'peak_lr': 0.02, 'warmup_steps': 10, 'total_steps': 100, 'schedule': 'cosine',
    'final_lr_ratio': 0.1, 'weight_decay': 0.0, 'clip_norm': 1e9, 'adam_lr_ratio': 0.15, **fields})


@given(st.sampled_from(optimizer.SCHEDULES), st.integers(0, 60), st.integers(1, 200),
       st.floats(1e-5, 1.0), st.floats(0.0, 1.0))
def test_warms_up_then_falls_to_a_share_of_the_peak(name, warmup, total, peak, share):
  rate = optimizer.schedule(config(
    schedule=name, warmup_steps=warmup, total_steps=total, peak_lr=peak, final_lr_ratio=share))
  rates = np.array([float(rate(step)) for step in sorted({*range(0, total, 7), warmup, total})])
  steps = sorted({*range(0, total, 7), warmup, total})
  used = min(warmup, total - 1)
  assert rates.max() <= peak * (1 + 1e-5) and rates.min() >= 0
  for step, value in zip(steps, rates, strict=True):
    if step < used:
      assert value == pytest.approx(peak * step / used, rel=1e-4, abs=1e-12)
  after = rates[[step >= used for step in steps]]
  assert (np.diff(after) <= peak * 1e-6).all()
  last = peak if name == 'constant' else share * peak
  assert after[-1] == pytest.approx(last, rel=1e-4, abs=peak * 1e-6) or total == used


def test_cosine_is_half_way_in_the_middle():
  rate = optimizer.schedule(config())
  assert float(rate(10)) == pytest.approx(0.02)
  assert float(rate(55)) == pytest.approx(0.02 * 0.55)  # half way between 1 and a tenth


def test_unknown_names_are_one_sentence():
  refused = optimizer.OptimizerConfigError
  with pytest.raises(refused, match="optimizer.schedule: 'step' is not one of cosine, constant"):
    optimizer.schedule(config(schedule='step'))
  with pytest.raises(refused, match="optimizer.name: 'adamw' or 'muon', is 'sgd'"):
    optimizer.make_optimizer(config(name='sgd'))


MODEL = ModelConfig(
  vocab_size=24, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, mlp_width=24,
  short_conv_width=3, tied_embeddings=False, dtype='float32')


def first_updates(chosen):
  """Each parameter's first update by a gradient of no structure, by path."""
  shapes = jax.eval_shape(lambda key: init_params(MODEL, key), jax.random.key(0))
  rng = np.random.default_rng(0)
  boxed = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
  params = jax.tree.map(lambda x: x.value if hasattr(x, 'value') else x, boxed,
                        is_leaf=lambda x: hasattr(x, 'value'))
  gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
  transformation = optimizer.make_optimizer(chosen)

  @jax.jit
  def update(gradients, params):
    return transformation.update(gradients, transformation.init(params), params)[0]

  updates = update(gradients, params)
  return ({jax.tree_util.keystr(path): np.asarray(x)
           for path, x in jax.tree_util.tree_leaves_with_path(updates)},
          {jax.tree_util.keystr(path): x
           for path, x in jax.tree_util.tree_leaves_with_path(gradients)})


def test_muon_moves_hidden_matrices_and_adam_the_rest():
  """Adam's first update is the gradient's sign, of one size; Muon's has like singular values."""
  updates, gradients = first_updates(
    config(warmup_steps=0, schedule='constant', peak_lr=1.0))
  by_muon = set()
  for name, update in updates.items():
    gradient = gradients[name]
    size = np.abs(update).mean()
    if np.allclose(update, -size * np.sign(gradient), rtol=1e-2):
      assert 0.14 < size < 0.25  # adam_lr_ratio, and Nesterov's factor of the first step
      continue
    by_muon.add(name)
    singular = np.linalg.svd(update, compute_uv=False)  # of the matrix of each layer
    spread = np.linalg.svd(gradient, compute_uv=False)
    assert (singular.max(axis=-1) / singular.min(axis=-1) < 2.5).all()
    assert (spread.max(axis=-1) / spread.min(axis=-1) > 2.5).all()
    assert np.sum(update * gradient) < 0
  expected = {f"['layers']['layer_0']['attention']['{name}']" for name in 'qkvo'}
  expected |= {f"['layers']['layer_0']['mlp']['{name}']" for name in ('gate', 'up', 'down')}
  assert by_muon == expected


def test_adamw_moves_everything_alike_and_decays_no_vectors():
  updates, gradients = first_updates(
    config(name='adamw', warmup_steps=0, schedule='constant', peak_lr=1.0))
  for name, update in updates.items():
    np.testing.assert_allclose(update, -np.sign(gradients[name]), rtol=1e-2)
  decayed, _ = first_updates(
    config(name='adamw', warmup_steps=0, schedule='constant', peak_lr=1.0, weight_decay=0.1))
  changed = {name for name in updates if not np.allclose(decayed[name], updates[name])}
  assert changed == {
    name for name, update in updates.items() if update.ndim - ('layers' in name) > 1}


def test_gradients_are_clipped_by_their_global_norm():
  chosen = optimizer.make_optimizer(config(name='adamw', clip_norm=0.5))
  gradients = {'a': np.full(3, 10.0, np.float32), 'b': np.full((2, 2), -10.0, np.float32)}
  _, state = chosen.update(gradients, chosen.init(gradients), gradients)
  moments = jax.tree.leaves(optax.tree.get(state, 'mu'))
  norm = np.sqrt(sum(np.sum(np.square(m / 0.1)) for m in moments))  # mu = (1 - b1) g
  assert norm == pytest.approx(0.5, rel=1e-4)
