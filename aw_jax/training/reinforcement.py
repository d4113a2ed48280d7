"""The world model's RL stage (PAPER.md section 5): sample, judge, compare within the group."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from aw_jax.sampling.sampler import pad_prompts
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.training.objectives import group_advantages
from aw_jax.training.state import TrainState

RewardFunction = Callable[[Sequence[str], Sequence[dict[str, Any]]], np.ndarray]


class BatchError(ValueError):
  """A batch cannot be dealt out evenly; the message names the sizes."""


@dataclasses.dataclass(kw_only=True)
class OnPolicyBatches(abc.ABC):
  """Batches sampled from the parameters being trained, each dealt out to a few optimiser steps.

  Sampling many rows costs little more than sampling few. The batch of a step is a function of the
  step and of the parameters at the first step of its `updates_per_batch`, so a run resumed at a
  multiple of that continues bitwise.

  Attributes:
    updates_per_batch: optimiser steps on one batch, each on its share of the rows.
  """

  updates_per_batch: int
  _newest: tuple[int, Any] | None = dataclasses.field(default=None, init=False, repr=False)

  def __call__(self, step: int, state: TrainState) -> tuple[dict[str, Any], dict[str, float]]:
    """This step's share of its batch, and the rewards of all of it as metrics."""
    index, share = divmod(step, self.updates_per_batch)
    if self._newest is None or self._newest[0] != index:
      self._newest = (index, self.sample(index, state.params))
    batch, metrics = self._newest[1]
    rows = len(next(iter(batch.values())))
    if rows % self.updates_per_batch:
      raise BatchError(
          f'updates_per_batch = {self.updates_per_batch} does not divide a batch of {rows} rows')
    return {name: rows[share::self.updates_per_batch] for name, rows in batch.items()}, metrics

  @abc.abstractmethod
  def sample(self, index: int, params: Any) -> tuple[dict[str, Any], dict[str, float]]:
    """Batch number `index`, rows in front, and its metrics, sampled from `params`."""


@dataclasses.dataclass(kw_only=True)
class GroupSampler(OnPolicyBatches):
  """Batches of `objectives.group_policy`, for GSPO and GRPO.

  Attributes:
    model: config of the decoder.
    tokenizer: its vocabulary.
    records: `(step) -> list of records`, each with `prompt` ids and what `reward` needs.
    reward: `(texts, records) -> float[rows]`; the records are repeated for each group.
    group: samples of each prompt.
    max_tokens: of a completion; one that does not end in time is judged as it is.
    max_prompt: prompts are padded to it; fixes the compiled shape.
    temperature: of sampling.
    seed: of the sampling noise.
  """

  model: ModelConfig
  tokenizer: Tokenizer
  records: Callable[[int], list[dict[str, Any]]]
  reward: RewardFunction
  group: int
  max_tokens: int
  max_prompt: int
  temperature: float
  updates_per_batch: int
  seed: int

  def sample(self, index, params):
    records = self.records(index)
    prompts, lengths = pad_prompts(
        [record['prompt'] for record in records], len(records), self.max_prompt)
    turn = jax.device_get(generate(
        Decoder(self.model), params, prompts, lengths,
        jax.random.fold_in(jax.random.key(self.seed), index), group=self.group,
        stop=self.tokenizer.special(IM_END), max_tokens=self.max_tokens,
        temperature=self.temperature))
    repeated = [record for record in records for _ in range(self.group)]
    texts = [self.tokenizer.decode(turn.tokens[row, :turn.lengths[row]])
             for row in range(len(repeated))]
    rewards = np.asarray(self.reward(texts, repeated), np.float32).reshape(-1, self.group)
    shape = (len(records), self.group)
    batch = {
        'prompts': prompts, 'prompt_lengths': lengths,
        'completions': turn.tokens.reshape(*shape, -1),
        'completion_lengths': turn.lengths.reshape(shape),
        'sampled_logprobs': turn.logprobs.reshape(*shape, -1),
        'advantages': group_advantages(rewards),
    }
    metrics = {
        'reward': float(rewards.mean()),
        'reward_deviation': float(rewards.std(axis=1).mean()),
        'zero_variance_groups': float((rewards.std(axis=1) < 1e-6).mean()),
        'completion_tokens': float(turn.lengths.mean()),
        'unfinished': float(1 - turn.stopped.mean()),
    }
    return batch, metrics
