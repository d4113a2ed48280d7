"""The world model's RL stage (PAPER.md section 5): sample, judge, compare within the group."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.sampling.decode import generate
from aw_jax.sampling.sampler import pad_prompts
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.training.objectives import group_advantages, group_logprobs, informative
from aw_jax.training.state import TrainState

RewardFunction = Callable[[Sequence[str], Sequence[dict[str, Any]]], dict[str, np.ndarray]]


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


_logprobs = jax.jit(group_logprobs, static_argnames=('model', 'whole_rows'))


@dataclasses.dataclass(kw_only=True)
class GroupSampler(OnPolicyBatches):
  """Batches of `objectives.group_policy`, for GSPO and GRPO.

  Attributes:
    model: config of the decoder.
    tokenizer: its vocabulary.
    records: `(step) -> list of records`, each with `prompt` ids and what `reward` needs.
    reward: `(texts, records) -> name -> float[rows]`; the records are repeated for each group.
      'reward' is learned from; the means of all become metrics, over the samples where they are
      not NaN.
    group: samples of each prompt.
    max_tokens: of a completion; one that does not end in time is judged as it is.
    max_prompt: prompts are padded to it; fixes the compiled shape.
    temperature: of sampling.
    seed: of the sampling noise.
    train_groups: how many groups of a batch are trained on, those whose rewards differ first; 0
      for all. Where most groups agree, many are sampled for the few that teach, and the trainer
      need not read the others. Their number is fixed, so that nothing is compiled anew.
    parts: of the prompts, sampled one after the other: the rewards of one are computed while the
      device samples the next, which pays where a judge is slow. Divides their number. The batch is
      the same whatever they are, up to rounding.
    correct_gap: whether the trainer reads the samples before the first update, so that what it and
      the sampler differ in is corrected for apart from the update (`objectives.policy_loss`).
    reference_params: of the model that the policy should stay near; None where there is none.
    whole_rows: how those two read, see `objectives.group_policy`.
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
  train_groups: int = 0
  parts: int = 1
  correct_gap: bool = False
  reference_params: Any = None
  whole_rows: bool = False

  def sample(self, index, params):
    records = self.records(index)
    if len(records) % self.parts:
      raise BatchError(f'sampling in {self.parts} parts does not divide {len(records)} prompts')
    size = len(records) // self.parts
    starts = range(0, len(records), size)
    key = jax.random.fold_in(jax.random.key(self.seed), index)
    # Dispatched before the first is judged: the device goes on while the host reads and judges.
    turns = [self._generate(params, records[start:start + size], key, start) for start in starts]
    judged = [self._judge(records[start:start + size], *turn)
              for start, turn in zip(starts, turns, strict=True)]
    batch, noted = (
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for parts in zip(*judged, strict=True))
    batch, metrics = batch | compared(noted['reward']), _metrics(noted)
    if self.train_groups:
      batch, metrics['informative_groups_left_out'] = _first_informative(batch, self.train_groups)
    readers = {'trainer_logprobs': params if self.correct_gap else None,
               'reference_logprobs': self.reference_params}
    read = functools.partial(_logprobs, Decoder(self.model), whole_rows=self.whole_rows)
    return batch | {name: np.asarray(read(reader, batch)) for name, reader in readers.items()
                    if reader is not None}, metrics

  def _generate(self, params, records, key, first):
    prompts, lengths = pad_prompts(
        [record['prompt'] for record in records], len(records), self.max_prompt)
    return prompts, lengths, generate(
        Decoder(self.model), params, prompts, lengths, key, first, group=self.group,
        stop=self.tokenizer.special(IM_END), max_tokens=self.max_tokens,
        temperature=self.temperature)

  def _judge(self, records, prompts, lengths, turn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A part of the batch, and what metrics are made of; rows in front, then samples of each."""
    turn = jax.device_get(turn)
    repeated = [record for record in records for _ in range(self.group)]
    texts = [self.tokenizer.decode(turn.tokens[row, :turn.lengths[row]])
             for row in range(len(repeated))]
    shape = (len(records), self.group)
    batch = {
        'prompts': prompts, 'prompt_lengths': lengths,
        'completions': turn.tokens.reshape(*shape, -1),
        'completion_lengths': turn.lengths.reshape(shape),
        'sampled_logprobs': turn.logprobs.reshape(*shape, -1)}
    noted = {'completion_tokens': turn.lengths, 'unfinished': ~turn.stopped,
             **self.reward(texts, repeated)}
    return batch, {name: np.asarray(values, np.float32).reshape(shape)
                   for name, values in noted.items()}


def _metrics(noted: dict[str, np.ndarray]) -> dict[str, float]:
  """The means of float32[N, G] values, and how the rewards of groups differ.

  NaN is left out, and so is the mean of nothing else.
  """
  rewards = noted['reward']
  known = {name: values[~np.isnan(values)] for name, values in noted.items()}
  return {**{name: float(values.mean()) for name, values in known.items() if values.size},
          'reward_deviation': float(rewards.std(axis=1).mean()),
          'zero_variance_groups': float(1 - informative(rewards).mean())}


def _first_informative(batch: dict[str, Any], count: int) -> tuple[dict[str, Any], float]:
  """`count` groups, those of equal rewards last; the share of informative ones left out."""
  groups = len(batch['weights'])
  if count > groups:
    raise BatchError(f'train_groups = {count} of a batch of {groups} prompts')
  informative_groups = batch['weights'].any(axis=-1)
  kept = np.argsort(~informative_groups, kind='stable')[:count]
  left_out = informative_groups.sum() - informative_groups[kept].sum()
  return ({name: rows[kept] for name, rows in batch.items()},
          float(left_out / max(informative_groups.sum(), 1)))


def compared(rewards_NxG: np.ndarray) -> dict[str, np.ndarray]:
  """Rewards of groups as `policy_loss` takes them: `advantages` and `weights`, float32[N, G]."""
  weights = np.repeat(informative(rewards_NxG)[:, None], rewards_NxG.shape[1], axis=1)
  return {'advantages': group_advantages(rewards_NxG), 'weights': weights.astype(np.float32)}
