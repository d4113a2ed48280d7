"""Rejection sampling of reasoning traces (PAPER.md section 4).

The judge is the CPT model, which wrote none of the candidates. It reads a dialogue with each kind
of trace; the best is the one under which all that the world model says, traces and observations, is
likeliest: a trace must lend to the observations, its own and later ones, more than it costs itself.
The best candidate of a sample is kept where that is above a threshold.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.sampler import pad_prompts
from aw_jax.training.objectives import sequence_logprobs


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
  return sequence_logprobs(model, params, tokens)[0]


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


def span(tokens: Sequence[int], start: int, end: int) -> Scored:
  """Scores tokens[start:end]."""
  return Scored(tokens, [float(start <= i < end) for i in range(len(tokens))])


def scored_logprobs(
    config: ModelConfig, params: Any, sequences: Sequence[Scored], seq_len: int,
    batch_size: int = 8, bucket: int = 256, progress: str = '') -> np.ndarray:
  """Summed log-probability of each sequence's scored tokens.

  Args:
    config: of the decoder, `params` its parameters.
    sequences: what to score.
    seq_len: a longer sequence gets minus infinity.
    batch_size: sequences at a time, of like length.
    bucket: lengths are rounded up to multiples of it, one compilation each.
    progress: label of a progress bar; none where empty.
  Returns:
    float64[len(sequences)], in nats.
  """
  scores = np.full(len(sequences), -np.inf)
  fitting = [i for i, sequence in enumerate(sequences) if len(sequence.tokens) <= seq_len]
  fitting.sort(key=lambda i: len(sequences[i].tokens))
  for start in tqdm.trange(0, len(fitting), batch_size, desc=progress, disable=not progress):
    rows = fitting[start:start + batch_size]
    tokens, _ = pad_prompts([sequences[i].tokens for i in rows], batch_size, bucket)
    logprobs = np.asarray(_logprobs(Decoder(config), params, tokens), np.float64)
    for row, index in enumerate(rows):
      weighted = np.asarray(sequences[index].weights[1:]) > 0
      scores[index] = logprobs[row, :len(weighted)][weighted].sum()
  return scores


def choose(scores: np.ndarray, domains: Sequence[str], threshold: float
           ) -> tuple[list[int | None], dict[str, dict[str, float]]]:
  """Best of each row of candidates, where above the threshold.

  Args:
    scores: float[samples, candidates].
    domains: of each sample.
    threshold: lowest mean log-probability per token that is kept, in nats.
  Returns:
    The chosen candidate of each sample or None, and per domain `kept`, `samples`, `retention`.
  """
  best = np.argmax(scores, axis=1)
  chosen = [int(b) if row[b] >= threshold else None for row, b in zip(scores, best, strict=True)]
  samples, kept = collections.Counter(domains), collections.Counter(
      domain for domain, choice in zip(domains, chosen, strict=True) if choice is not None)
  report = {domain: {'samples': count, 'kept': kept[domain], 'retention': kept[domain] / count}
            for domain, count in samples.items()}
  return chosen, report
