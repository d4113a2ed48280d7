"""The decoder is Qwen3's: a random tiny Qwen3ForCausalLM of transformers gives the same logits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models import huggingface
from aw_jax.models.decoder import Decoder, init_cache
from aw_jax.sampling.decode import generate

pytestmark = pytest.mark.requires('torch', 'transformers')

LENGTH = 2100  # positions beyond 2,048, where a wrong rotary base or dtype shows
TOLERANCE = 1e-4


@functools.cache
def models(tied: bool):
  """(Qwen3ForCausalLM in float32, our config, our parameters), random and the same."""
  import torch
  import transformers

  torch.manual_seed(0)
  torch.set_num_threads(1)
  theirs = transformers.Qwen3Config(
    vocab_size=160, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
    num_attention_heads=6, num_key_value_heads=2, head_dim=16, tie_word_embeddings=tied,
    max_position_embeddings=4096, rms_norm_eps=1e-6, initializer_range=0.1,
    rope_parameters={'rope_type': 'default', 'rope_theta': 1e6}, attn_implementation='eager',
    bos_token_id=None, eos_token_id=None, pad_token_id=None)
  torch_model = transformers.Qwen3ForCausalLM(theirs).eval().to(torch.float32)
  with torch.no_grad():  # norms of ones would hide a norm that is left out or misplaced
    for name, parameter in torch_model.named_parameters():
      if 'norm' in name:
        parameter.uniform_(0.5, 1.5)
  config = huggingface.config_from_qwen3(theirs.to_dict(), dtype='float32')
  params = huggingface.from_qwen3_state_dict(torch_model.state_dict(), config)
  return torch_model, config, params


def tokens(rows: int, length: int) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 160, (rows, length), dtype=np.int32)


def torch_logits(torch_model, prompt) -> np.ndarray:
  import torch

  with torch.no_grad():
    return torch_model(torch.from_numpy(prompt).long()).logits.numpy()


@pytest.mark.parametrize('tied', [True, False])
def test_logits_of_long_prompts(tied):
  torch_model, config, params = models(tied)
  prompt = tokens(2, LENGTH)
  expected = torch_logits(torch_model, prompt)
  assert expected.std() > 0.5  # far above the tolerance
  actual = jax.jit(Decoder(config).apply)({'params': params}, prompt)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


def test_logits_with_a_cache():
  """Prefill in two uneven pieces; the second row is shorter than the first."""
  torch_model, config, params = models(True)
  model, prompt = Decoder(config), tokens(2, LENGTH)
  counts = np.array([LENGTH, LENGTH - 7], np.int32)
  expected = torch_logits(torch_model, prompt)
  cache, hidden = init_cache(config, 2, LENGTH + 4), []
  for start, end in ((0, 1300), (1300, LENGTH)):
    here = jnp.clip(counts - start, 0, end - start)
    states, cache = model.apply(
      {'params': params}, cache, prompt[:, start:end], here, method='extend')
    hidden.append(states)
  actual = model.apply({'params': params}, jnp.concatenate(hidden, axis=1), method='logits')
  for row, count in enumerate(counts):
    np.testing.assert_allclose(
      actual[row, :count], expected[row, :count], rtol=0, atol=TOLERANCE)


def test_packed_segments_are_separate_prompts():
  torch_model, config, params = models(True)
  prompt = tokens(1, 300)
  cut = 113
  positions = np.concatenate([np.arange(cut), np.arange(300 - cut)])[None]
  segments = np.where(np.arange(300) < cut, 1, 2)[None]
  actual = Decoder(config).apply({'params': params}, prompt, positions, segments)
  alone = [torch_logits(torch_model, part) for part in (prompt[:, :cut], prompt[:, cut:])]
  expected = np.concatenate(alone, axis=1)
  np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize('tied', [True, False])
def test_greedy_decode(tied):
  import torch

  torch_model, config, params = models(tied)
  prompt, new = tokens(3, 40), 128
  with torch.no_grad():
    expected = torch_model.generate(
      torch.from_numpy(prompt).long(), max_new_tokens=new, do_sample=False,
      attention_mask=torch.ones(prompt.shape, dtype=torch.long))[:, prompt.shape[1]:].numpy()
  turn = generate(
    Decoder(config), params, jnp.asarray(prompt), jnp.full(3, prompt.shape[1]), jax.random.key(0),
    stop=-1, max_tokens=new, temperature=0.0)
  assert len(np.unique(expected)) > 10  # not one token for ever
  np.testing.assert_array_equal(turn.tokens, expected)


@pytest.mark.parametrize('tied', [True, False])
def test_round_trip_is_bitwise(tied):
  torch_model, config, params = models(tied)
  theirs = torch_model.state_dict()
  back = huggingface.to_qwen3_state_dict(params, config)
  assert set(back) == set(theirs)
  for name, tensor in theirs.items():
    np.testing.assert_array_equal(back[name], tensor.numpy(), strict=True)


def test_our_config_builds_their_model():
  import transformers

  torch_model, config, _ = models(True)
  rebuilt = transformers.Qwen3Config(**huggingface.config_to_qwen3(config))
  assert huggingface.config_from_qwen3(rebuilt.to_dict(), dtype='float32') == config
  shapes = {name: tensor.shape for name, tensor in torch_model.state_dict().items()}
  other = transformers.Qwen3ForCausalLM(rebuilt).state_dict()
  assert {name: tensor.shape for name, tensor in other.items()} == shapes
