"""One-step fidelity on held-out tasks: the world model after each stage, and the baselines."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from aw_jax.evaluation import results
from aw_jax.evaluation.baselines import CopyLastObservation, NearestAction
from aw_jax.evaluation.examples import Predictor, TurnExample, turn_examples
from aw_jax.evaluation.fidelity import FidelityReport, evaluate
from aw_jax.evaluation.ngram import NGram
from aw_jax.evaluation.statistics import Interval, ratio
from aw_jax.imagination.world_model import Query, WorldModel
from aw_jax.models.config import ModelConfig
from aw_jax.prompts import chat, templates
from aw_jax.sampling.sampler import Sampler
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import rejection
from aw_jax.training.checkpoints import load_params
from experiments import stages


def held_out_examples(config, workdir: str) -> list[TurnExample]:
  """Turns of test trajectories: at most `turns_per_domain`, the same ones for every predictor."""
  examples = turn_examples(
      stages.read_trajectories(config, workdir, 'test'), turns_per_trajectory=4, seed=config.seed)
  chosen = []
  for domain in config.domains:
    found = [example for example in examples if example.domain == domain]
    order = np.random.default_rng(config.seed).permutation(len(found))
    chosen += [found[i] for i in sorted(order[:config.evaluate.turns_per_domain])]
  return chosen


def system_prompt(example: TurnExample, stage: str) -> str:
  """The system prompt in the (first) template that the stage was trained on."""
  return templates.world_model_prompt(
      example.domain, example.initial_state, templates.STAGE_TEMPLATES[stage][0])


def predictor(config, params: Any, model: ModelConfig, tokenizer: Tokenizer, stage: str
              ) -> Predictor:
  """Greedy predictions of a stage's model; it thinks first, except after CPT."""
  c = config.evaluate
  sampler = Sampler(model, params, tokenizer, c.batch_size, 512, c.max_prompt)
  world_model = WorldModel(sampler, thinking=stage != 'cpt', max_tokens=c.max_tokens)

  def predict(examples: Sequence[TurnExample]) -> list[str | None]:
    queries = [Query(system_prompt(e, stage), e.history, e.action) for e in examples]
    # A prompt beyond the context cannot be answered: it counts as invalid, not as left out.
    fits = [len(world_model.prompt(query)) <= c.max_prompt for query in queries]
    answers = iter(world_model.predict_batch(
        [query for query, fit in zip(queries, fits, strict=True) if fit],
        progress=f'predict, {stage}'))
    return [next(answers)[0].text if fit else None for fit in fits]

  return predict


def nll(config, params: Any, model: ModelConfig, tokenizer: Tokenizer, stage: str,
        examples: Sequence[TurnExample]) -> dict[str, Interval]:
  """Negative log-likelihood per token of the true observations and their ends, by domain.

  Without thinking, in nats; the opening tag is given. Turns beyond the context are left out, as `n`
  shows.
  """
  sequences = []
  for example in examples:
    prompt = chat.world_model_context(tokenizer, system_prompt(example, stage), example.history)
    prompt += chat.action_message(tokenizer, example.action)
    target = chat.prediction(tokenizer, example.observation)
    sequences.append(rejection.Scored(
        [*prompt, *target], len(prompt) + 1, len(prompt) + len(target) - 1))
  sums = rejection.span_logprobs(
      model, params, sequences, config.evaluate.max_prompt, progress=f'likelihood, {stage}')
  figures = {}
  for domain in config.domains:
    rows = [i for i, example in enumerate(examples)
            if example.domain == domain and np.isfinite(sums[i])]
    figures[domain] = ratio(
        [-sums[i] for i in rows], [sequences[i].end - sequences[i].start for i in rows],
        [examples[i].trajectory for i in rows], seed=config.seed)
  return figures


def _entry(config, report: FidelityReport, nlls: dict[str, Interval]) -> dict[str, Any]:
  domains = {
      domain: results.world_model_entry(report, domain, *([nlls[domain]] if domain in nlls else []))
      for domain in config.domains}
  return {'domains': domains, 'figures': report.to_json()}


def measure_stage(config, workdir: str, stage: str) -> dict[str, Any]:
  """Fidelity of one stage's world model; made once, then read from the work directory."""

  def compute():
    params, model, tokenizer = load_params(os.path.join(workdir, stage))
    examples = held_out_examples(config, workdir)
    report = evaluate(predictor(config, params, model, tokenizer, stage), examples,
                      resamples=config.evaluate.bootstrap, seed=config.seed)
    return _entry(config, report, nll(config, params, model, tokenizer, stage, examples))

  return stages.once(os.path.join(workdir, 'evaluation', f'{stage}.json'), compute)


def measure_baselines(config, workdir: str) -> dict[str, Any]:
  """Fidelity of the baselines, fitted on the training episodes of the work directory."""

  def compute():
    train = stages.read_trajectories(config, workdir, 'train')
    examples = held_out_examples(config, workdir)
    ngram = NGram(stages.load_tokenizer(config, workdir), train)
    found = {}
    for name, baseline in zip(
        results.BASELINES, (CopyLastObservation(train), NearestAction(train), ngram), strict=True):
      report = evaluate(baseline, examples, resamples=config.evaluate.bootstrap, seed=config.seed)
      found_nll = {} if name != 'ngram' else {
          domain: ngram.nll([e for e in examples if e.domain == domain])
          for domain in config.domains}
      found[name] = _entry(config, report, found_nll)
    return found

  return stages.once(os.path.join(workdir, 'evaluation', 'baselines.json'), compute)
