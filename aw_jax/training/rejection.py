"""Rejection sampling of reasoning traces (PAPER.md section 4).

The judge is the CPT model, which wrote none of the candidates: a trace is as good as the
log-likelihood that it lends to the true observation. The best candidate of a sample is kept where
that is above a threshold.
"""

import collections
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.training.objectives import sequence_logprobs


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model: Decoder, params: Any, tokens: jax.Array) -> jax.Array:
  return sequence_logprobs(model, params, tokens)[0]


def observation_scores(
    config: ModelConfig, params: Any, sequences: Sequence[tuple[Sequence[int], int]],
    seq_len: int, batch_size: int = 32, progress: str = '') -> np.ndarray:
  """Mean log-probability per token of each sequence's ending.

  Args:
    config: of the decoder, `params` its parameters.
    sequences: (token ids, number of last tokens that are scored).
    seq_len: longer sequences score minus infinity.
    batch_size: sequences at a time.
    progress: label of a progress bar; none where empty.
  Returns:
    float64[len(sequences)], in nats.
  """
  scores = np.full(len(sequences), -np.inf)
  fitting = [i for i, (tokens, _) in enumerate(sequences) if len(tokens) <= seq_len]
  for start in tqdm.trange(0, len(fitting), batch_size, desc=progress, disable=not progress):
    rows = fitting[start:start + batch_size]
    tokens = np.zeros((batch_size, seq_len), np.int32)
    for row, index in enumerate(rows):
      tokens[row, :len(sequences[index][0])] = sequences[index][0]
    logprobs = np.asarray(_logprobs(Decoder(config), params, tokens), np.float64)
    for row, index in enumerate(rows):
      ids, scored = sequences[index]
      scores[index] = logprobs[row, len(ids) - 1 - scored:len(ids) - 1].mean()
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
