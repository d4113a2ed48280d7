"""The sampler: any prompts in, completions out in their order, the same for a seed."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.sampling.sampler import PromptTooLongError, Sampler, pad_prompts
from aw_jax.tokenizer import IM_END, Tokenizer

MAX_TOKENS = 8


@pytest.fixture(scope='module')
def sampler():
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  config = ModelConfig(
    vocab_size=320, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, mlp_width=20,
    short_conv_width=2, tied_embeddings=False, dtype='float32')
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(config, key)), jax.random.key(0))
  params = jax.tree.map(
    lambda x: rng.normal(0.5 * (len(x.shape) == 1), 0.4, x.shape).astype(np.float32), shapes)
  params['unembedding'][tokenizer.special(IM_END)] *= 2.5  # so that turns end now and then
  return Sampler(config, params, tokenizer, batch_size=4, bucket=8, max_prompt=16)


def prompts(count=9):
  """Lengths out of order, over both buckets, and a last batch that is not full."""
  rng = np.random.default_rng(1)
  return [rng.integers(2, 280, length).tolist()
          for length in (9, 3, 16, 1, 8, 12, 5, 2, 7, 15, 4)[:count]]


@pytest.fixture(scope='module')
def greedy(sampler):
  return sampler.sample(prompts(), max_tokens=MAX_TOKENS)


def test_completions_stand_in_the_order_of_their_prompts(sampler, greedy):
  """Each is what the model says after that very prompt, by whole forward passes."""
  forward = jax.jit(Decoder(sampler.config).apply)
  stop = sampler.tokenizer.special(IM_END)
  for prompt, (sample,) in zip(prompts(), greedy, strict=True):
    tokens = np.zeros((1, 24), np.int32)
    context = [*prompt, *sample.tokens]
    tokens[0, :len(context)] = context
    logits = np.asarray(forward({'params': sampler.params}, tokens), np.float64)[0]
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    said = logprobs[len(prompt) - 1:len(context) - 1]
    assert said.argmax(axis=-1).tolist() == sample.tokens
    np.testing.assert_allclose(
      sample.logprobs, said[np.arange(len(said)), sample.tokens], rtol=0, atol=1e-4)
    assert sample.finished == (sample.tokens[-1] == stop)
    assert sample.finished or len(sample.tokens) == MAX_TOKENS
  assert {sample.finished for (sample,) in greedy} == {True, False}


def test_text_leaves_the_end_of_the_turn_out(sampler, greedy):
  for (sample,) in greedy:
    whole = sampler.tokenizer.decode(sample.tokens)
    assert whole == sample.text + IM_END * sample.finished


def test_a_batch_that_is_not_full_changes_nothing(sampler, greedy):
  alone = sampler.sample(prompts()[:1], max_tokens=MAX_TOKENS)
  assert alone[0][0].tokens == greedy[0][0].tokens


def test_groups_stay_with_their_prompts(sampler, greedy):
  groups = sampler.sample(prompts(), max_tokens=MAX_TOKENS, group=3)
  for group, (sample,) in zip(groups, greedy, strict=True):
    assert [other.tokens for other in group] == [sample.tokens] * 3


def test_a_seed_fixes_the_samples(sampler):
  one, same, other = (
    [[sample.tokens for sample in group] for group in sampler.sample(
      prompts(5), max_tokens=MAX_TOKENS, temperature=1.0, group=8, seed=seed)]
    for seed in (0, 0, 1))
  assert one == same != other
  assert all(len({tuple(tokens) for tokens in group}) > 1 for group in one)


def test_no_prompts_no_completions(sampler):
  assert sampler.sample([], max_tokens=MAX_TOKENS) == []


def test_a_prompt_that_is_too_long_is_named(sampler):
  with pytest.raises(PromptTooLongError, match='prompt 1 has 17 tokens, the sampler takes 16'):
    sampler.sample([[5], [7] * 17], max_tokens=MAX_TOKENS)


def test_padding():
  tokens, lengths = pad_prompts([[1, 2, 3], [4]], rows=3, bucket=4)
  assert tokens.tolist() == [[1, 2, 3, 0], [4, 0, 0, 0], [0] * 4]
  assert lengths.tolist() == [3, 1, 0]
  assert pad_prompts([[1] * 5], rows=1, bucket=4)[0].shape == (1, 8)
