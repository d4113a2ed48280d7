"""Scores of reasoning traces, and which of them are kept."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.training import rejection
from aw_jax.training.rejection import Scored

CONFIG = ModelConfig(
  vocab_size=19, width=12, layers=1, heads=2, kv_heads=1, head_dim=6, mlp_width=16,
  short_conv_width=2, dtype='float32')


@pytest.fixture(scope='module')
def params():
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: nn.unbox(init_params(CONFIG, key)), jax.random.key(0))
  return jax.tree.map(lambda x: rng.normal(0.3, 0.4, x.shape).astype(np.float32), shapes)


def test_tokens_are_scored_as_each_sequence_alone(params):
  """Sequences of all lengths, two buckets, a last batch that is not full, one that is too long."""
  rng = np.random.default_rng(1)
  sequences = []
  for length in (5, 16, 3, 30, 12, 2, 33, 9, 17):
    sequences.append(Scored(rng.integers(0, 19, length).tolist(), rng.integers(0, 2, length)))
  found = rejection.scored_logprobs(CONFIG, params, sequences, 32, batch_size=4, bucket=16)
  forward = jax.jit(Decoder(CONFIG).apply)
  for sequence, score in zip(sequences, found, strict=True):
    if len(sequence.tokens) > 32:
      assert score == -np.inf
      continue
    tokens = np.zeros((1, 32), np.int32)
    tokens[0, :len(sequence.tokens)] = sequence.tokens
    logits = np.asarray(forward({'params': params}, tokens), np.float64)[0]
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    scored = [t for t in range(1, len(sequence.tokens)) if sequence.weights[t]]
    assert sequence.count == len(scored)
    expected = sum(logprobs[t - 1, sequence.tokens[t]] for t in scored)
    assert score == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_span():
  assert rejection.span([7, 8, 9, 7], 1, 3).weights == [0, 1, 1, 0]


def test_the_best_is_chosen_where_it_is_good_enough():
  scores = np.array([[-3.0, -0.5, -1.0], [-0.9, -0.8, -0.7], [-0.6, -2.0, -3.0],
                     [-np.inf, -np.inf, -np.inf]])
  chosen, report = rejection.choose(scores, ['terminal', 'mcp', 'mcp', 'mcp'], threshold=-0.6)
  assert chosen == [1, None, 0, None]
  assert report == {'terminal': {'samples': 1, 'kept': 1, 'retention': 1.0},
                    'mcp': {'samples': 3, 'kept': 1, 'retention': pytest.approx(1 / 3)}}
