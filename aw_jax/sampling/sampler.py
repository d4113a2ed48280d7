"""Sampling for the host: prompts of any length and number in, texts out, few compiled shapes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tqdm

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from aw_jax.tokenizer import IM_END, Tokenizer


class PromptTooLongError(ValueError):
  """A prompt does not fit the sampler's longest shape."""


@dataclasses.dataclass(frozen=True)
class Sample:
  """One completion.

  Attributes:
    text: decoded, the stop token left out.
    tokens: ids, the stop token included.
    logprobs: natural log-probability of each.
    finished: whether the stop token came within the token limit.
  """

  text: str
  tokens: list[int]
  logprobs: list[float]
  finished: bool


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Samples completions of token prompts in fixed-size batches.

  Attributes:
    config: of the decoder.
    params: its parameters.
    tokenizer: its vocabulary.
    batch_size: prompts at a time; the last batch is filled up with empty rows.
    bucket: prompt lengths are rounded up to multiples of it, one compilation each.
    max_prompt: longest prompt in tokens.
  """

  config: ModelConfig
  params: Any
  tokenizer: Tokenizer
  batch_size: int = 64
  bucket: int = 256
  max_prompt: int = 2048

  def sample(self, prompts: Sequence[Sequence[int]], *, max_tokens: int, temperature: float = 0.0,
             group: int = 1, seed: int = 0, stop: str = IM_END, progress: str = ''
             ) -> list[list[Sample]]:
    """`group` completions of each prompt, in the prompts' order.

    Args:
      prompts: token ids.
      max_tokens: of a completion.
      temperature: 0 is greedy.
      group: completions of each prompt.
      seed: of the noise; the same seed, prompts and parameters give the same samples.
      stop: the special token that ends a completion.
      progress: label of a progress bar; none where empty.
    Raises:
      PromptTooLongError: naming the first prompt that does not fit.
    """
    for index, prompt in enumerate(prompts):
      if len(prompt) > self.max_prompt:
        raise PromptTooLongError(
            f'prompt {index} has {len(prompt)} tokens, the sampler takes {self.max_prompt}')
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    results: list[list[Sample]] = [[] for _ in prompts]
    starts = range(0, len(prompts), self.batch_size)
    for batch, start in enumerate(tqdm.tqdm(starts, desc=progress, disable=not progress)):
      rows = by_length[start:start + self.batch_size]
      samples = self._sample_batch(
          [prompts[i] for i in rows], max_tokens, temperature, group, stop,
          jax.random.fold_in(jax.random.key(seed), batch))
      for row, index in enumerate(rows):
        results[index] = samples[row * group:(row + 1) * group]
    return results

  def _sample_batch(self, prompts, max_tokens, temperature, group, stop, key) -> list[Sample]:
    tokens, lengths = pad_prompts(prompts, self.batch_size, self.bucket)
    turn = jax.device_get(generate(
        Decoder(self.config), self.params, tokens, lengths, key, group=group,
        stop=self.tokenizer.special(stop), max_tokens=max_tokens, temperature=temperature))
    samples = []
    for row in range(len(prompts) * group):
      count = int(turn.lengths[row])
      ids = turn.tokens[row, :count].tolist()
      finished = bool(turn.stopped[row])
      text = self.tokenizer.decode(ids[:-1] if finished else ids)
      samples.append(Sample(text, ids, turn.logprobs[row, :count].tolist(), finished))
    return samples


def pad_prompts(prompts: Sequence[Sequence[int]], rows: int, bucket: int
                ) -> tuple[np.ndarray, np.ndarray]:
  """int32[rows, P] padded on the right, P a multiple of `bucket`, and int32[rows] lengths."""
  width = max(len(prompt) for prompt in prompts)
  tokens = np.zeros((rows, -(-width // bucket) * bucket), np.int32)
  lengths = np.zeros(rows, np.int32)
  for row, prompt in enumerate(prompts):
    tokens[row, :len(prompt)] = prompt
    lengths[row] = len(prompt)
  return tokens, lengths
