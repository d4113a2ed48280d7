"""What each stage minimises. Every loss is a (sum, count) pair, so that means are over the batch.

Shapes: B rows, L tokens, N prompts, G samples of each prompt, P prompt tokens, C completion tokens.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aw_jax.models.cache import init_cache, repeat_rows
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.models.experts import ROUTER, load_balance_loss, noted_load

Metrics = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, count)
# What says something only of the first update on a batch of samples, and is logged of that alone.
OF_FIRST_UPDATE = ('logprob_gap',)


def sequence_logprobs(model: Decoder, params: Any, tokens_BxL, positions_BxL=None,
                      segment_ids_BxL=None) -> tuple[jax.Array, jax.Array]:
  """Log-probability of each token given those before it in its segment, and whether it was argmax.

  Returns:
    float32[B, L-1] for tokens[:, 1:], bool[B, L-1].
  """
  if positions_BxL is None:
    positions_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1]), tokens_BxL.shape)
    segment_ids_BxL = jnp.ones_like(tokens_BxL)
  return _sequence_logprobs(model, params, tokens_BxL, positions_BxL, segment_ids_BxL)[0]


def _sequence_logprobs(model, params, tokens, positions, segment_ids):
  """The above, and what the layers noted of their experts' load."""
  hidden, noted = model.apply(
      {'params': params}, tokens, positions, segment_ids, method='hidden', mutable=[ROUTER])
  # Of every token, so that their number can be split like the row; the last has no target.
  found = model.apply(
      {'params': params}, hidden, jnp.roll(tokens, -1, axis=1), method='target_logprobs')
  return tuple(x[:, :-1] for x in found), noted


def _add_router_loss(config: ModelConfig, noted, total, count, metrics: Metrics
                     ) -> tuple[jax.Array, jax.Array, Metrics]:
  """Adds the load-balance loss, a mean over layers, and each expert's share of the tokens.

  An expert's load is 1 where it gets as much as the others; it is that of all layers together, and
  beside it stands the largest of any expert in any layer.
  """
  load = noted_load(noted)
  if load is None:
    return total, count, metrics
  counts, probabilities = load
  balance = jnp.mean(jax.vmap(load_balance_loss)(counts, probabilities))
  shares = config.experts * jnp.sum(counts, axis=0) / jnp.maximum(jnp.sum(counts), 1)
  one = jnp.ones(())
  largest = jnp.max(config.experts * counts / jnp.maximum(
      jnp.sum(counts, axis=-1, keepdims=True), 1))
  metrics = {**metrics, 'load_balance_loss': (balance, one), 'expert_load_largest': (largest, one),
             **{f'expert_load_{i}': (shares[i], one) for i in range(config.experts)}}
  return total + config.router_loss_weight * count * balance, count, metrics


def next_token(model: Decoder, params: Any, batch: dict[str, jax.Array]
               ) -> tuple[jax.Array, jax.Array, Metrics]:
  """Cross-entropy on packed rows (PAPER.md sections 3 and 4).

  Args:
    model: the decoder.
    params: its parameters.
    batch: `tokens, segment_ids, positions` int32[B, L], `loss_weights` float32[B, L]; the weight at
      i is that of predicting tokens[i].
  Returns:
    Sum of weighted negative log-likelihoods in nats, sum of weights, metrics.
  """
  (logprobs, correct), noted = _sequence_logprobs(
      model, params, batch['tokens'], batch['positions'], batch['segment_ids'])
  weights = batch['loss_weights'][:, 1:]
  count = jnp.sum(weights)
  metrics = {'token_accuracy': (jnp.sum(weights * correct), count)}
  return _add_router_loss(
      model.config, noted, -jnp.sum(weights * logprobs), count, metrics)


def completion_logprobs(model: Decoder, params: Any, prompts_NxP, prompt_lengths_N,
                        completions_NxGxC, completion_lengths_NxG) -> jax.Array:
  """Log-probabilities of sampled completions, each prompt read once for its whole group.

  The same computation as sampling: prefill, then the completion over the cached prompt. The cache
  is float32 whatever the sampler's is: what the gradient passes is not rounded.

  Returns:
    float32[N, G, C]; zero beyond a completion's length.
  """
  n, group, length = completions_NxGxC.shape
  # A scan would keep all layers' caches for each of its steps, for the backward pass.
  model = Decoder(dataclasses.replace(model.config, cache_dtype='float32', scan_decode=False))
  variables = {'params': params}
  slots = prompts_NxP.shape[1] + length
  cache = init_cache(model.config, n, slots)
  hidden, cache = model.apply(variables, cache, prompts_NxP, prompt_lengths_N,
                              prompts_NxP.shape[1], method='extend')
  last = jnp.take_along_axis(hidden, (prompt_lengths_N - 1)[:, None, None], axis=1)
  completions = completions_NxGxC.reshape(n * group, length)
  counts = completion_lengths_NxG.reshape(-1)
  hidden, _ = model.apply(variables, repeat_rows(cache, group), completions, counts, slots,
                          method='extend')
  hidden = jnp.concatenate([jnp.repeat(last, group, axis=0), hidden[:, :-1]], axis=1)
  logprobs, _ = model.apply(variables, hidden, completions, method='target_logprobs')
  mask = jnp.arange(length) < counts[:, None]
  return jnp.where(mask, logprobs, 0.0).reshape(n, group, length)


def completion_logprobs_in_rows(model: Decoder, params: Any, prompts_NxP, prompt_lengths_N,
                                completions_NxGxC, completion_lengths_NxG) -> jax.Array:
  """`completion_logprobs` with each prompt and completion as one whole row.

  Reads a prompt anew for each of its samples, but as training reads: rows can be split over the
  mesh, and the backward pass computes layers again instead of keeping a cache of every token.
  """
  n, group, length = completions_NxGxC.shape
  prompts = jnp.repeat(jnp.pad(prompts_NxP, ((0, 0), (0, length))), group, axis=0)
  starts, counts = jnp.repeat(prompt_lengths_N, group)[:, None], completion_lengths_NxG.reshape(-1)
  places = starts + jnp.arange(length)
  rows = jnp.arange(n * group)[:, None]
  tokens = prompts.at[rows, places].set(completions_NxGxC.reshape(-1, length))
  positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
  segment_ids = (positions < starts + counts[:, None]).astype(jnp.int32)
  logprobs, _ = sequence_logprobs(model, params, tokens, positions, segment_ids)
  logprobs = jnp.take_along_axis(logprobs, places - 1, axis=1)
  mask = jnp.arange(length) < counts[:, None]
  return jnp.where(mask, logprobs, 0.0).reshape(n, group, length)


def group_advantages(rewards_NxG: np.ndarray) -> np.ndarray:
  """Group-relative advantage: reward minus its group's mean, over the group's deviation.

  A group of equal rewards has zero advantage and teaches nothing. On the host, in float64: the mean
  of equal float32 rewards is not always the reward itself, and what is left would be normalised.

  Returns:
    float32[N, G].
  """
  rewards = np.asarray(rewards_NxG, np.float64)
  centred = rewards - rewards.mean(axis=-1, keepdims=True)
  return (centred / (rewards.std(axis=-1, keepdims=True) + 1e-6)).astype(np.float32)


# The most that a sample weighs more because the trainer finds it likelier than the sampler did.
_MOST_CORRECTION = 2.0


def informative(rewards_NxG: np.ndarray) -> np.ndarray:
  """bool[N]: groups whose rewards differ; the others teach nothing and are left out of the loss."""
  return np.asarray(rewards_NxG, np.float64).std(axis=-1) > 1e-6


def policy_loss(logprobs: jax.Array, batch: dict[str, jax.Array], mask: jax.Array, *, clip: float,
                ratio: str = 'sequence', kl_weight: float = 0.0
                ) -> tuple[jax.Array, jax.Array, Metrics]:
  """Clipped policy gradient.

  'sequence' is GSPO (PAPER.md section 5): one length-normalised importance ratio a sequence,
  s = exp(mean_t(log p - log p_old)). 'token' is GRPO: one ratio a token, token mean. p_old are the
  sampler's probabilities, so that the ratio corrects for what sampler and trainer differ in; where
  the batch has the trainer's own from before the first update, those, and each ratio is weighted by
  the truncated min(p_old / p_sampled, 2) instead: a clipped ratio should tell of the update alone.

  Args:
    logprobs: float32[..., C] under the parameters being trained.
    batch: `sampled_logprobs` float32[..., C], under those that sampled; `advantages` float32[...]
      of each sequence; `weights` float32[...], 0 for sequences that are left out; where wanted
      `trainer_logprobs` float32[..., C], and `reference_logprobs` of the model that the policy
      should stay near.
    mask: bool[..., C], the sampled tokens.
    clip: the ratio is kept within [1 - clip, 1 + clip] where that lowers the objective.
    ratio: 'sequence' or 'token'.
    kl_weight: of the divergence from the reference, KL(p | p_reference), by the estimator
      r - log r - 1 with r = p_reference / p: never negative, zero where the two agree.
  Returns:
    Loss sum, count (sequences that have a token, or tokens), metrics. `logprob_gap` is the mean
    over tokens of |log p - log p_sampled|. In the first update on a batch, before any parameter
    changed, it is what trainer and sampler differ in; later it would hold the change as well.
  """
  sampled, advantages = batch['sampled_logprobs'], batch['advantages']
  old = batch.get('trainer_logprobs', sampled)
  lengths, tokens = jnp.sum(mask, axis=-1), jnp.sum(mask)

  def each(of_tokens):  # of what has a ratio: the mean of a sequence, or every token's
    of_tokens = jnp.where(mask, of_tokens, 0.0)
    if ratio == 'token':
      return of_tokens
    return jnp.sum(of_tokens, axis=-1) / jnp.maximum(lengths, 1)

  if ratio == 'sequence':
    weights = batch['weights'] * (lengths > 0)
  else:
    weights, advantages = batch['weights'][..., None] * mask, advantages[..., None]
  importance_ratio = jnp.exp(each(logprobs - old))
  clipped = jnp.clip(importance_ratio, 1 - clip, 1 + clip)
  objective = jnp.minimum(importance_ratio * advantages, clipped * advantages)
  count = jnp.sum(weights)
  metrics = {
      'importance_ratio': (jnp.sum(weights * importance_ratio), count),
      'clip_fraction': (jnp.sum(weights * (importance_ratio * advantages > objective)), count),
      'logprob_gap': (jnp.sum(jnp.abs(jnp.where(mask, logprobs - sampled, 0.0))), tokens),
      'entropy_estimate': (-jnp.sum(jnp.where(mask, logprobs, 0.0)), tokens),
  }
  if 'trainer_logprobs' in batch:
    correction = jnp.minimum(jnp.exp(each(old - sampled)), _MOST_CORRECTION)
    objective *= correction
    metrics['sampler_correction'] = jnp.sum(weights * correction), count
  if 'reference_logprobs' in batch:
    log_r = jnp.where(mask, batch['reference_logprobs'] - logprobs, 0.0)
    divergence = each(jnp.exp(log_r) - log_r - 1)
    objective -= kl_weight * divergence
    metrics['kl'] = jnp.sum(weights * divergence), count
  return -jnp.sum(weights * objective), count, metrics


def group_logprobs(model: Decoder, params: Any, batch: dict[str, jax.Array],
                   whole_rows: bool = False) -> jax.Array:
  """float32[N, G, C] of a batch's completions; arguments as of `group_policy`."""
  read = completion_logprobs_in_rows if whole_rows else completion_logprobs
  return read(model, params, *(batch[name] for name in (
      'prompts', 'prompt_lengths', 'completions', 'completion_lengths')))


def group_policy(model: Decoder, params: Any, batch: dict[str, jax.Array], *, clip: float,
                 ratio: str, kl_weight: float = 0.0, whole_rows: bool = False
                 ) -> tuple[jax.Array, jax.Array, Metrics]:
  """`policy_loss` of sampled completions of shared prompts: the world model's RL stage.

  Mixtures of experts get no load-balance loss here, nor from `episode_policy`: what moves the
  router is the policy gradient alone, for a few hundred steps.

  Args:
    batch: `prompts` int32[N, P], `prompt_lengths` int32[N], `completions` int32[N, G, C],
      `completion_lengths` int32[N, G], and what `policy_loss` takes, of [N, G] sequences.
    whole_rows: whether each sample is a row with its prompt, for prompts too long for one device;
      else a prompt is read once for its group.
  """
  logprobs = group_logprobs(model, params, batch, whole_rows)
  mask = jnp.arange(logprobs.shape[-1]) < batch['completion_lengths'][..., None]
  return policy_loss(logprobs, batch, mask, clip=clip, ratio=ratio, kl_weight=kl_weight)


def episode_policy(model: Decoder, params: Any, batch: dict[str, jax.Array], *, clip: float,
                   ratio: str) -> tuple[jax.Array, jax.Array, Metrics]:
  """`policy_loss` of whole episodes, on the agent's own tokens: agent training.

  Args:
    batch: `tokens` int32[B, L], `speaker` bool[B, L] (the agent's tokens), `sampled_logprobs`
      float32[B, L], `advantages` and `weights` float32[B].
  """
  logprobs, _ = sequence_logprobs(model, params, batch['tokens'])
  said = {**batch, 'sampled_logprobs': batch['sampled_logprobs'][:, 1:]}
  return policy_loss(logprobs, said, batch['speaker'][:, 1:], clip=clip, ratio=ratio)
