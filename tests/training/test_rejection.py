"""Scores of reasoning traces, and which of them are kept."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.tokenizer import END_THINK, THINK
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


def test_thinking_is_found_with_its_tags():
  think, end = 8, 9
  found = rejection.thinking([1, think, 2, 3, end, 4, 5, think, end, 6], think, end)
  assert found.tolist() == [False, True, True, True, True, False, False, True, True, False]


class Tags:
  """A vocabulary of which only the tags of thinking matter."""

  def special(self, token):
    return {THINK: 8, END_THINK: 9}[token]


def test_candidates_are_judged_by_what_the_observations_gain(params):
  """Two dialogues with two candidates each; the last one has no trace."""
  dialogues = [[[1, 2, 8, 3, 9, 4, 5], [1, 2, 8, 3, 3, 6, 9, 4, 5]],
               [[7, 7, 8, 2, 9, 1, 8, 5, 5, 9, 6], [7, 7, 1, 6]]]
  samples = [[Scored(tokens, [0.0, 0.0, *[1.0] * (len(tokens) - 2)]) for tokens in candidates]
             for candidates in dialogues]
  scores, gains = rejection.judge(CONFIG, params, Tags(), samples, 32)

  def total(tokens, scored):
    return rejection.scored_logprobs(
      CONFIG, params, [Scored(tokens, [float(t in scored) for t in range(len(tokens))])], 32)[0]

  for sample, (candidates, plain, observed) in enumerate(zip(
      dialogues, ([1, 2, 4, 5], [7, 7, 1, 6]),
      ([(5, 6), (7, 8)], [(5, 10), (2, 3)]), strict=True)):
    brief = min(map(len, candidates)) - 2
    for k, tokens in enumerate(candidates):
      assert scores[sample, k] == pytest.approx(
        total(tokens, range(2, len(tokens))) / brief, rel=1e-5)
      gain = total(tokens, observed[k]) - total(plain, (2, 3))
      assert gains[sample, k] == pytest.approx(gain / 2, rel=1e-4, abs=1e-6)
  assert gains[1, 1] == pytest.approx(0, abs=1e-6)  # nothing was thought


def test_the_best_is_chosen_where_the_observations_gain_by_it():
  scores = np.array([[-3.0, -0.5, -1.0], [-0.9, -0.8, -0.7], [-9.6, -12.0, -13.0],
                     [-np.inf, -np.inf, -np.inf]])
  gains = np.array([[9.0, 0.1, 9.0], [9.0, 9.0, -0.1], [0.0, 9.0, 9.0], [np.nan, np.nan, np.nan]])
  chosen, report = rejection.choose(scores, gains, ['terminal', 'mcp', 'mcp', 'mcp'], 0.0)
  assert chosen == [1, None, 0, None]  # what is unlikely anyway is kept all the same
  assert report == {
    'terminal': {'samples': 1, 'kept': 1, 'retention': 1.0, 'chosen': [0, 1, 0],
                 'mean_gain': pytest.approx(0.1)},
    'mcp': {'samples': 3, 'kept': 1, 'retention': pytest.approx(1 / 3), 'chosen': [1, 0, 0],
            'mean_gain': pytest.approx(-0.05)}}
