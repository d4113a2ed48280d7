"""Every architecture is that of transformers: tiny random models, the same logits and tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models import huggingface
from aw_jax.models.cache import init_cache
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from tests.models.families import FAMILIES, models

pytestmark = pytest.mark.requires('torch', 'transformers')

LENGTH = 2100  # positions beyond 2,048, where a wrong rotary base, chunk border or dtype shows
TOLERANCE = 1e-4
EVERY = pytest.mark.parametrize('name', FAMILIES)


def tokens(rows: int, length: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 160, (rows, length), dtype=np.int32)


def torch_logits(torch_model, prompt) -> np.ndarray:
  import torch

  with torch.no_grad():
    return torch_model(torch.from_numpy(prompt).long()).logits.numpy()


@functools.cache
def long_prompts(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Two prompts, and transformers' logits."""
  prompt = tokens(2, LENGTH)
  return prompt, torch_logits(models(name)[0], prompt)


@EVERY
def test_logits_of_long_prompts(name):
  _, config, params = models(name)
  prompt, expected = long_prompts(name)
  assert expected.std() > 0.3  # far above the tolerance
  actual = jax.jit(Decoder(config).apply)({'params': params}, prompt)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@EVERY
def test_logits_with_a_cache(name):
  """Prefill in two uneven pieces; the second row is shorter than the first."""
  _, config, params = models(name)
  model, (prompt, expected) = Decoder(config), long_prompts(name)
  counts = np.array([LENGTH, LENGTH - 7], np.int32)
  extend = jax.jit(functools.partial(model.apply, method='extend'))
  cache, hidden = init_cache(config, 2, LENGTH + 4), []
  for start, end in ((0, 1300), (1300, LENGTH)):
    here = jnp.clip(counts - start, 0, end - start)
    states, cache = extend({'params': params}, cache, prompt[:, start:end], here)
    hidden.append(states)
  actual = model.apply({'params': params}, jnp.concatenate(hidden, axis=1), method='logits')
  for row, count in enumerate(counts):
    np.testing.assert_allclose(
      actual[row, :count], expected[row, :count], rtol=0, atol=TOLERANCE)


@EVERY
def test_packed_segments_are_separate_prompts(name):
  torch_model, config, params = models(name)
  prompt = tokens(1, 300)
  cut = 113
  positions = np.concatenate([np.arange(cut), np.arange(300 - cut)])[None]
  segments = np.where(np.arange(300) < cut, 1, 2)[None]
  actual = jax.jit(Decoder(config).apply)({'params': params}, prompt, positions, segments)
  alone = [torch_logits(torch_model, part) for part in (prompt[:, :cut], prompt[:, cut:])]
  expected = np.concatenate(alone, axis=1)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@EVERY
def test_greedy_decode(name):
  import torch

  torch_model, config, params = models(name)
  prompt, new = tokens(3, 40), 128
  with torch.no_grad():
    expected = torch_model.generate(
      torch.from_numpy(prompt).long(), max_new_tokens=new, do_sample=False,
      attention_mask=torch.ones(prompt.shape, dtype=torch.long))[:, prompt.shape[1]:].numpy()
  turn = generate(
    Decoder(config), params, jnp.asarray(prompt), jnp.full(3, prompt.shape[1]), jax.random.key(0),
    stop=-1, max_tokens=new, temperature=0.0)
  assert len(np.unique(expected)) > 5  # not one token for ever
  np.testing.assert_array_equal(turn.tokens, expected)


@EVERY
def test_round_trip_is_bitwise(name):
  torch_model, config, params = models(name)
  theirs = torch_model.state_dict()
  back = dict(huggingface.iterate_state_dict(params, config, separate_experts=False))
  assert set(back) == set(theirs)
  for tensor_name, tensor in theirs.items():
    np.testing.assert_array_equal(back[tensor_name], tensor.numpy(), strict=True)


@EVERY
def test_our_config_builds_their_model(name):
  import transformers

  torch_model, config, _ = models(name)
  config_name, model_name, _ = FAMILIES[name]
  rebuilt = getattr(transformers, config_name)(**huggingface.config_to_huggingface(config))
  assert huggingface.config_from_huggingface(rebuilt.to_dict(), dtype='float32') == config
  shapes = {name: tensor.shape for name, tensor in torch_model.state_dict().items()}
  other = getattr(transformers, model_name)(rebuilt).state_dict()
  assert {name: tensor.shape for name, tensor in other.items()} == shapes
