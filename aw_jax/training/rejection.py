"""Rejection sampling of reasoning traces (PAPER.md section 4).

The judge is the CPT model, which wrote none of the candidates. It reads a dialogue with each kind
of trace; the best is the one under which all that the world model says, traces and observations, is
likeliest: a trace must lend to the observations, its own and later ones, more than it costs itself.
The best candidate of a dialogue is kept where the observations alone gain by it, that is where they
are likelier than in the same dialogue without any trace, by a threshold. A dialogue that is hard
with and without traces is not rejected for that.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.partitioning import by_rows
from aw_jax.sampling.sampler import pad_prompts
from aw_jax.tokenizer import END_THINK, THINK, Tokenizer
from aw_jax.training.objectives import sequence_logprobs


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
  return by_rows(
      lambda params, tokens: sequence_logprobs(model, params, tokens)[0], params, tokens)


@dataclasses.dataclass(frozen=True)
class Scored:
  """A sequence of token ids, of which those of a positive weight are scored.

  Each is scored given all before it; the first token cannot be.
  """

  tokens: Sequence[int]
  weights: Sequence[float]

  @property
  def count(self) -> int:
    """How many tokens are scored."""
    return int(np.sum(np.asarray(self.weights[1:]) > 0))

  def total(self, logprobs: np.ndarray | None) -> float:
    """Sum over the scored tokens, in nats, of `token_logprobs`; minus infinity of None."""
    return -np.inf if logprobs is None else float(logprobs[np.asarray(self.weights[1:]) > 0].sum())


def span(tokens: Sequence[int], start: int, end: int) -> Scored:
  """Scores tokens[start:end]."""
  return Scored(tokens, [float(start <= i < end) for i in range(len(tokens))])


def thinking(tokens: Sequence[int], think: int, end_think: int) -> np.ndarray:
  """bool[len(tokens)]: the thinking in a dialogue, its tags (by their ids) included."""
  tokens = np.asarray(tokens)
  opened, closed = np.cumsum(tokens == think), np.cumsum(tokens == end_think)
  return (opened > closed) | (tokens == end_think)


def token_logprobs(
    config: ModelConfig, params: Any, sequences: Sequence[Sequence[int]], seq_len: int,
    batch_size: int = 8, bucket: int = 256, progress: str = '') -> list[np.ndarray | None]:
  """Log-probability of each token given all before it.

  Args:
    config: of the decoder, `params` its parameters.
    sequences: token ids.
    seq_len: a longer sequence is not read.
    batch_size: sequences at a time, of like length.
    bucket: lengths are rounded up to multiples of it, one compilation each.
    progress: label of a progress bar; none where empty.
  Returns:
    float64[length - 1] of tokens[1:] for each sequence, in nats; None where it is too long.
  """
  found: list[np.ndarray | None] = [None] * len(sequences)
  fitting = [i for i, tokens in enumerate(sequences) if len(tokens) <= seq_len]
  fitting.sort(key=lambda i: len(sequences[i]))
  for start in tqdm.trange(0, len(fitting), batch_size, desc=progress, disable=not progress):
    rows = fitting[start:start + batch_size]
    tokens, _ = pad_prompts([sequences[i] for i in rows], batch_size, bucket)
    logprobs = np.asarray(_logprobs(Decoder(config), params, tokens), np.float64)
    for row, index in enumerate(rows):
      found[index] = logprobs[row, :len(sequences[index]) - 1]
  return found


def scored_logprobs(
    config: ModelConfig, params: Any, sequences: Sequence[Scored], seq_len: int,
    progress: str = '', **sizes: int) -> np.ndarray:
  """float64[len(sequences)]: `Scored.total` of each; arguments as of `token_logprobs`."""
  logprobs = token_logprobs(
      config, params, [sequence.tokens for sequence in sequences], seq_len, progress=progress,
      **sizes)
  return np.array([sequence.total(of_each)
                   for sequence, of_each in zip(sequences, logprobs, strict=True)])


def judge(config: ModelConfig, params: Any, tokenizer: Tokenizer,
          samples: Sequence[Sequence[Scored]], seq_len: int, progress: str = ''
          ) -> tuple[np.ndarray, np.ndarray]:
  """How good the candidates of each sample are, for `choose`.

  Args:
    config: of the judge's decoder, `params` its parameters.
    tokenizer: its vocabulary.
    samples: the same dialogue with different thinking, as many candidates of each sample; scored is
      all that the world model says.
    seq_len: longest dialogue in tokens.
    progress: label of a progress bar; none where empty.
  Returns:
    Scores float64[samples, candidates]: log-likelihood of all that is scored, per token of the
    briefest candidate, the same divisor for all of a sample. Gains float64[samples, candidates]: by
    how much likelier a token of the observations is than in the dialogue without thinking. Both in
    nats.
  """
  tags = tokenizer.special(THINK), tokenizer.special(END_THINK)
  whole = [said for candidates in samples for said in candidates]
  plain = [_without_thinking(candidates[0], *tags) for candidates in samples]
  logprobs = token_logprobs(
      config, params, [said.tokens for said in [*whole, *plain]], seq_len, progress=progress)
  totals, observations = (
      np.array([said.total(found) for said, found in zip(part, logprobs, strict=False)])
      .reshape(len(samples), -1)
      for part in (whole, [_observations(said, *tags) for said in whole]))
  without = np.array([said.total(found)
                      for said, found in zip(plain, logprobs[len(whole):], strict=True)])
  briefest = np.array([min(said.count for said in candidates) for candidates in samples])
  counts = np.array([said.count for said in plain])
  return totals / briefest[:, None], (observations - without[:, None]) / counts[:, None]


def _observations(said: Scored, think: int, end_think: int) -> Scored:
  """The same tokens, the thinking not scored."""
  outside = ~thinking(said.tokens, think, end_think)
  return Scored(said.tokens, np.asarray(said.weights) * outside)


def _without_thinking(said: Scored, think: int, end_think: int) -> Scored:
  outside = ~thinking(said.tokens, think, end_think)
  return Scored(np.asarray(said.tokens)[outside], np.asarray(said.weights)[outside])


def choose(scores: np.ndarray, gains: np.ndarray, domains: Sequence[str], threshold: float
           ) -> tuple[list[int | None], dict[str, dict[str, Any]]]:
  """Best of each row of candidates, where the observations gain enough by it.

  Args:
    scores: float[samples, candidates], by which the best is chosen.
    gains: float[samples, candidates], by how much likelier a token of the observations is than
      without any trace, in nats; NaN where it could not be read.
    domains: of each sample.
    threshold: lowest gain that is kept.
  Returns:
    The chosen candidate of each sample or None; per domain `samples`, `kept`, `retention`, `chosen`
    (how often each candidate was kept) and `mean_gain` of the best candidates.
  """
  best = np.argmax(scores, axis=1)
  best_gains = gains[np.arange(len(best)), best]
  chosen = [int(b) if gain >= threshold else None
            for b, gain in zip(best, best_gains, strict=True)]
  report = {}
  for domain in dict.fromkeys(domains):
    rows = [i for i, d in enumerate(domains) if d == domain]
    kept = [chosen[i] for i in rows if chosen[i] is not None]
    report[domain] = {
        'samples': len(rows), 'kept': len(kept), 'retention': len(kept) / len(rows),
        'chosen': [kept.count(candidate) for candidate in range(scores.shape[1])],
        'mean_gain': float(np.nanmean(best_gains[rows]))}
  return chosen, report
