"""One-step fidelity on held-out tasks: the world model after each stage, and the baselines."""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tqdm

from aw_jax.evaluation import results
from aw_jax.evaluation.baselines import CopyLastObservation, NearestAction
from aw_jax.evaluation.examples import TurnExample, turn_examples
from aw_jax.evaluation.fidelity import METRICS, FidelityReport, evaluate
from aw_jax.evaluation.ngram import NGram
from aw_jax.evaluation.statistics import Interval, paired_difference, ratio
from aw_jax.imagination.world_model import Query, WorldModel
from aw_jax.models.config import ModelConfig
from aw_jax.prompts import chat, templates
from aw_jax.sampling.sampler import Sampler
from aw_jax.tokenizer import END_PREDICTED, PREDICTED, Tokenizer
from aw_jax.training import rejection
from aw_jax.training.checkpoints import load_params
from experiments import stages


def held_out_examples(config, workdir: str) -> list[TurnExample]:
  """All turns of held-out episodes, the same for every predictor, in the order they were played.

  Of each domain as many whole episodes as have `turns_per_domain` turns, in a random order.
  """
  examples = turn_examples(stages.read_trajectories(config, workdir, config.evaluate.split))
  chosen = []
  for domain in config.domains:
    lengths = {e.trajectory: e.total_turns for e in examples if e.domain == domain}
    order = np.random.default_rng(config.seed).permutation(list(lengths))
    before = np.cumsum([0, *(lengths[number] for number in order)])[:-1]
    kept = set(order[before < config.evaluate.turns_per_domain])
    chosen += [example for example in examples if example.trajectory in kept]
  return chosen


def system_prompt(config, example: TurnExample, template: str) -> str:
  """The system prompt in a template, and in the size that the stages are trained on."""
  return templates.task_prompt(example.task, template, size=config.data.prompts)


@dataclasses.dataclass(frozen=True)
class Answers:
  """A model's answers to turns, and what is needed to score the true ones.

  Attributes:
    texts: the observations; None where an answer had no valid form.
    contexts: the ids before each observation: the chat so far with the model's own thinking, and
      its thinking in this turn.
  """

  texts: list[str | None]
  contexts: list[list[int]]


@dataclasses.dataclass(frozen=True)
class Measure:
  """Which stage's model is measured, and how it answers.

  Attributes:
    stage: of the world model.
    thinking: whether it may think first.
    sampled: whether a turn is answered at temperature 1 instead of greedily; what it noted of the
      turns before is greedy.
    template: of the system prompt.
  """

  stage: str
  thinking: bool
  sampled: bool
  template: str

  @classmethod
  def of(cls, config, name: str) -> 'Measure':
    """What a name stands for. Raises StageError for one that stands for nothing.

    Args:
      config: the whole config.
      name: the stage; behind it, where wanted, a template, as in 'sft_v0': the system prompt is of
        that one instead of the (first) one that the stage was trained on, so that stages can be
        compared by the same prompts; behind that, where wanted, 'sampled'. Or 'cpt_thinking': CPT,
        which was not taught to think, allowed to all the same. The base checkpoint has seen
        thinking, so that this is what SFT is to be compared with. SFT and RL think unless
        `config.data.thinking` is off.
    """
    known = _NAME.fullmatch(name)
    if not known:
      raise stages.StageError(
          f"config.evaluate.also: {name!r} is neither 'cpt_thinking' nor a stage with a template, "
          "'sampled' or both behind it, such as 'sft_sampled', 'sft_v0' and 'sft_v0_sampled'")
    stage = known['stage'] or 'cpt'
    thinking = name == _THINKING or (stage != 'cpt' and config.data.thinking)
    template = known['template'] or templates.STAGE_TEMPLATES[stage][0]
    return cls(stage, thinking, bool(known['sampled']), template)


_THINKING = 'cpt_thinking'
_NAME = re.compile(
    rf'(?P<stage>{"|".join(stages.WORLD_MODEL_STAGES)})'
    rf'(_(?P<template>{"|".join(templates.TEMPLATES)}))?(?P<sampled>_sampled)?|{_THINKING}')


def require_known(config) -> None:
  """Raises StageError where `config.evaluate.also` names what cannot be measured."""
  for name in config.evaluate.also:
    Measure.of(config, name)


def answer(config, params: Any, model: ModelConfig, tokenizer: Tokenizer, measure: Measure,
           examples: Sequence[TurnExample]) -> Answers:
  """Lets a stage's model answer turns."""
  c, stage = config.evaluate, measure.stage
  sampler = Sampler(model, params, tokenizer, c.batch_size, max_prompt=c.max_prompt)
  world_model = WorldModel(sampler, thinking=measure.thinking, max_tokens=c.max_tokens,
                           max_thinking=c.max_thinking)
  longest = {example.trajectory: example for example in examples}  # whose turns are in order
  episodes = [(system_prompt(config, e, measure.template), (*e.history, (e.action, e.observation)))
              for e in longest.values()]
  followed = dict(zip(longest, world_model.follow(episodes, f'{stage}: predict'), strict=True))
  queries, predictions = [], []
  for example in examples:
    *past, prediction = followed[example.trajectory][:example.turn_index]
    queries.append(Query(system_prompt(config, example, measure.template), example.history,
                         example.action, tuple(p.thinking for p in past)))
    predictions.append(prediction)
  prompts = [world_model.prompt(query) for query in queries]
  if measure.sampled:
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) <= c.max_prompt]
    sampled = world_model.predict_batch(
        [queries[i] for i in fitting], temperature=1.0, seed=config.seed,
        progress=f'{stage}: sample')
    for i, (prediction,) in zip(fitting, sampled, strict=True):
      predictions[i] = prediction
  opened = [tokenizer.special(PREDICTED)] * world_model.thinking  # else the prompt ends with it
  return Answers(
      [prediction.text for prediction in predictions],
      [[*prompt, *chat.thought(tokenizer, prediction.thinking), *opened]
       for prompt, prediction in zip(prompts, predictions, strict=True)])


def nll(config, params: Any, model: ModelConfig, tokenizer: Tokenizer, answers: Answers,
        stage: str, examples: Sequence[TurnExample]) -> dict[str, Interval]:
  """Negative log-likelihood per token of the true observations and their ends, by domain.

  In nats, given the model's own thinking where it thinks. Turns beyond the context are left out, as
  `n` shows.
  """
  sequences = []
  for example, context in zip(examples, answers.contexts, strict=True):
    target = [*tokenizer.encode(example.observation), tokenizer.special(END_PREDICTED)]
    sequences.append(rejection.span(
        [*context, *target], len(context), len(context) + len(target)))
  sums = rejection.scored_logprobs(
      model, params, sequences, config.evaluate.max_prompt, progress=f'{stage}: likelihood')
  figures = {}
  for domain in config.domains:
    rows = [i for i, example in enumerate(examples)
            if example.domain == domain and np.isfinite(sums[i])]
    figures[domain] = ratio(
        [-sums[i] for i in rows], [sequences[i].count for i in rows],
        [examples[i].trajectory for i in rows], seed=config.seed)
  return figures


def _entry(config, report: FidelityReport, nlls: dict[str, Interval]) -> dict[str, Any]:
  domains = {
      domain: results.world_model_entry(report, domain, *([nlls[domain]] if domain in nlls else []))
      for domain in config.domains}
  return {'domains': domains, 'figures': report.to_json(),
          'exact_matches': report.values[:, METRICS.index('exact_match')].tolist()}


def measure_stage(config, workdir: str, name: str) -> dict[str, Any]:
  """Fidelity of one stage's world model; made once, then read from the work directory.

  Args:
    config: the whole config.
    workdir: where the stage was trained.
    name: see `Measure.of`.
  """
  measure = Measure.of(config, name)
  if measure == Measure.of(config, measure.stage):
    name = measure.stage  # by another name

  def compute():
    params, model, tokenizer = load_params(os.path.join(workdir, measure.stage))
    examples = held_out_examples(config, workdir)
    answers = answer(config, params, model, tokenizer, measure, examples)
    report = evaluate(lambda _: answers.texts, examples,
                      resamples=config.evaluate.bootstrap, seed=config.seed)
    nlls = nll(config, params, model, tokenizer, answers, measure.stage, examples)
    return _entry(config, report, nlls)

  return stages.once(os.path.join(workdir, 'evaluation', f'{name}.json'), compute)


def measure_baselines(config, workdir: str) -> dict[str, Any]:
  """Fidelity of the baselines, fitted on the training episodes of the work directory."""

  def compute():
    train = stages.read_trajectories(config, workdir, 'train')
    examples = held_out_examples(config, workdir)
    ngram = NGram(stages.load_tokenizer(config, workdir), train)
    found = {}
    for name, baseline in zip(
        results.BASELINES, (CopyLastObservation(train), NearestAction(train), ngram), strict=True):
      report = evaluate(
          baseline, examples, batch_size=16, resamples=config.evaluate.bootstrap, seed=config.seed,
          progress=functools.partial(tqdm.tqdm, desc=f'{name}: predict'))
      found_nll = {} if name != 'ngram' else {
          domain: ngram.nll([e for e in examples if e.domain == domain])
          for domain in config.domains}
      found[name] = _entry(config, report, found_nll)
    return found

  return stages.once(os.path.join(workdir, 'evaluation', 'baselines.json'), compute)


def by_subset(config, predictors: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """domain -> predictor -> subset of the turns -> metric -> {mean, low, high, n}.

  Subsets are those of `fidelity.SUBSETS` and turn_1, turn_2, ...; dimensions from 0 to 100.
  """
  return {
      domain: {
          name: {subset: {metric: metrics[metric] for metric in METRICS}
                 for subset, metrics in entry['figures'][domain].items()}
          for name, entry in predictors.items()}
      for domain in config.domains}


def compare(config, workdir: str) -> dict[str, dict[str, dict[str, Any]]]:
  """By how much each stage is ahead of each baseline in exact match, on the same turns.

  Returns:
    domain -> '{stage} - {baseline}' -> `exact_match` and `changed_state_exact_match`, paired
    differences as {mean, low, high, n}.
  """
  stage_scores = {stage: measure_stage(config, workdir, stage)['exact_matches']
                  for stage in stages.WORLD_MODEL_STAGES}
  baseline_scores = {name: entry['exact_matches']
                     for name, entry in measure_baselines(config, workdir).items()}
  examples = held_out_examples(config, workdir)

  def difference(first, second, rows) -> dict[str, Any]:
    return paired_difference(
        [first[i] for i in rows], [second[i] for i in rows], [examples[i].trajectory for i in rows],
        seed=config.seed).to_json()

  found: dict[str, dict[str, dict[str, Any]]] = {}
  for domain in config.domains:
    rows = [i for i, example in enumerate(examples) if example.domain == domain]
    changed = [i for i in rows if examples[i].changed_state]
    found[domain] = {
        f'{stage} - {name}': {
            'exact_match': difference(ours, theirs, rows),
            'changed_state_exact_match': difference(ours, theirs, changed)}
        for stage, ours in stage_scores.items() for name, theirs in baseline_scores.items()}
  return found
