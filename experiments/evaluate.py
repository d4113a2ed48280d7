r"""The benchmark: a world model and the baselines on single turns of held-out episodes.

    python -m experiments.evaluate --config=configs/bench.py --workdir=/tmp/bench \
        --config.model=/tmp/agentworld/rl

Draws turns as AgentWorldBench does, writes them as {workdir}/{domain}_test.jsonl, lets the model
and the baselines answer, judges, and leaves bench.json, bench.md and bench.png: five dimensions,
exact match, changed-state exact match, by domain, over all turns and over domains, by turn and by
length of the context, with bootstrap intervals. The same command and seed give the same digits.
`--config.files="('a/terminal_test.jsonl',)"` reads published files instead; the baselines that are
fitted answer those of domains that can be run here. Interrupted and started again with the same
flags, it goes on where it was.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm
from absl import flags, logging
from ml_collections import config_flags

from aw_jax.environments import collect as collecting
from aw_jax.environments import registry
from aw_jax.environments.base import MissingProgramError
from aw_jax.evaluation import bench, bench_report, results
from aw_jax.evaluation.baselines import CopyLastObservation, NearestAction
from aw_jax.evaluation.endpoint import endpoint_predictor
from aw_jax.evaluation.examples import Predictor, TurnExample, turn_examples
from aw_jax.evaluation.fidelity import evaluate
from aw_jax.evaluation.ngram import NGram
from aw_jax.imagination.world_model import Query, WorldModel
from aw_jax.prompts import bench_format, templates
from aw_jax.sampling.sampler import Sampler
from aw_jax.training.checkpoints import load_params
from aw_jax.trajectories import Trajectory, write_atomically
from experiments import commands, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/bench.py', 'Config file, see configs/bench.py for its values.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)
_SAVED_TOGETHER = 64  # predictions, of which at most so many are lost when the program is killed


def domains_at_hand(config: ml_collections.ConfigDict) -> list[str]:
  """Domains of which a task can be begun on this machine.

  They are those of `config.episodes`, and where the config names files, those of the files that the
  baselines can be fitted on.
  """
  found, wanted = [], set(config.episodes)
  if config.files:
    wanted = set(config.train_episodes) & set(map(bench_format.domain_of, config.files))
  for domain in sorted(wanted):
    try:
      with registry.make_environment(domain) as environment:
        environment.reset(registry.task_at(domain, 'test', 0))
    except MissingProgramError as error:
      logging.warning('domain %s is left out: %s', domain, error)
    else:
      found.append(domain)
  return found


def _choose_prompts(config: ml_collections.ConfigDict) -> None:
  """Fills in template and size where none is named. Raises PromptError for unknown ones."""
  if config.files:  # they have prompts of their own
    return
  template, size = ('v11', 'full') if config.endpoint.model else ('v0', 'short')
  config.template, config.prompts = config.template or template, config.prompts or size
  templates.require_template(config.template)
  templates.require_size(config.prompts)


def held_out_samples(config: ml_collections.ConfigDict, workdir: str) -> list[bench.Sample]:
  """The turns to answer: of the config's files, else drawn from collected episodes and written."""
  if config.files:
    return [sample for path in config.files for sample in bench.read(path)]
  examples = turn_examples(_episodes(config, workdir, 'test', config.episodes))
  drawn = bench.samples(
      bench.draw_turns(examples, config.seed, config.share), config.template, config.prompts)
  return [sample for path in bench.write(workdir, drawn) for sample in bench.read(path)]


def _episodes(config, workdir: str, split: str, counts) -> list[Trajectory]:
  """Collected episodes of every domain."""
  for domain in config.domains:
    if domain not in counts:
      raise stages.StageError(f'config.domains: no number of {split} episodes of {domain!r}')
    collecting.collect(
        domain, counts[domain], stages.trajectories_folder(workdir, domain, split), split=split,
        policies=dict(config.policies), seed=config.seed, workers=config.workers,
        mark_changed_state=split == 'test')
  return stages.read_trajectories(config, workdir, split)


def checkpoint_predictor(config: ml_collections.ConfigDict) -> Predictor:
  """A world model in this process; greedy. A prompt that is too long is answered by None."""
  directory = stages.BASE_CHECKPOINT if config.model == 'base' else config.model
  params, model, tokenizer = load_params(directory)
  world_model = WorldModel(
      Sampler(model, params, tokenizer, config.batch_size, max_prompt=config.max_prompt),
      config.thinking, config.max_tokens, config.max_thinking)

  def predict(examples: Sequence[TurnExample]) -> list[str | None]:
    queries = [Query(example.system, example.history, example.action) for example in examples]
    answers: list[str | None] = [None] * len(queries)

    def fitting(rows):  # first without the notes of past turns, which take room too
      return [i for i in rows if len(world_model.prompt(queries[i])) <= config.max_prompt]

    rows = fitting(range(len(queries)))
    for i, query in zip(rows, world_model.recall([queries[i] for i in rows]), strict=True):
      queries[i] = query
    rows = fitting(rows)
    found = world_model.predict_batch([queries[i] for i in rows], seed=config.seed)
    for i, prediction in zip(rows, found, strict=True):
      answers[i] = prediction[0].text
    return answers

  return predict


def model_predictor(config: ml_collections.ConfigDict) -> Predictor:
  """The world model of the config, here or behind its endpoint."""
  if config.endpoint.model:
    return endpoint_predictor(stages.endpoint(config.endpoint, config.endpoint.temperature))
  return checkpoint_predictor(config)


def _claim_model(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Raises StageError where the checkpoint is another than that whose answers are kept.

  What stands behind an endpoint cannot be told.
  """
  if config.endpoint.model:
    return
  folder = pathlib.Path(stages.BASE_CHECKPOINT if config.model == 'base' else config.model)
  digest = hashlib.sha256()
  params, _, _ = load_params(folder)
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf).tobytes())
  found = stages.once(os.path.join(workdir, 'model.json'), digest.hexdigest)
  if found != digest.hexdigest():
    raise stages.StageError(
        f'{folder}: has changed since answers of it were kept in {workdir}; use another --workdir')


def baseline_predictors(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Predictor]:
  """The baselines, fitted on training episodes that are collected for them."""
  train = _episodes(config, workdir, 'train', config.train_episodes)
  if not config.domains:  # files of domains that cannot be run here
    return {'copy_last': CopyLastObservation(train)}
  _, _, tokenizer = load_params(stages.BASE_CHECKPOINT)
  fitted = CopyLastObservation(train), NearestAction(train), NGram(tokenizer, train)
  return dict(zip(results.BASELINES, fitted, strict=True))


def predictions(name: str, make: Callable[[], Predictor], samples: Sequence[bench.Sample],
                workdir: str) -> list[str | None]:
  """A predictor's answers, kept in {workdir}/predictions/{name}/; it is made where some lack.

  Raises StageError where answers to other turns are kept there.
  """
  found, predictor = [], None
  starts = range(0, len(samples), _SAVED_TOGETHER)
  for start in tqdm.tqdm(starts, desc=f'{name}: predict'):
    part = samples[start:start + _SAVED_TOGETHER]

    def compute(part=part) -> list[dict[str, Any]]:
      nonlocal predictor
      predictor = predictor or make()
      answers = predictor([sample.example for sample in part])
      return [{'domain': sample.example.domain, 'id': sample.id, 'text': answer}
              for sample, answer in zip(part, answers, strict=True)]

    lines = stages.once(os.path.join(workdir, 'predictions', name, f'{start:06}.json'), compute)
    if [(line['domain'], line['id']) for line in lines] != [
        (sample.example.domain, sample.id) for sample in part]:
      folder = os.path.join(workdir, 'predictions', name)
      raise stages.StageError(f'{folder}: holds answers to other turns; use another --workdir')
    found += [line['text'] for line in lines]
  return found


def main():
  config, workdir = _CONFIG.value, _WORKDIR.value
  _choose_prompts(config)
  stages.claim_workdir(config, workdir)
  _claim_model(config, workdir)
  if not config.domains:
    config.domains = tuple(stages.once(
        os.path.join(workdir, 'domains.json'), lambda: domains_at_hand(config)))
  samples = held_out_samples(config, workdir)
  known = [sample for sample in samples if sample.example.domain in config.domains]
  answered = {'model': samples, 'copy_last': samples}  # predictor -> the turns that it answers
  if known:
    answered |= dict.fromkeys(results.BASELINES[1:], known)
  fitted: dict[str, Predictor] = {}

  def make(name: str) -> Predictor:
    if name == 'model':
      return model_predictor(config)
    fitted.update(fitted or baseline_predictors(config, workdir))
    return fitted[name]

  judge = stages.judge_of(config.judge, os.path.join(workdir, 'judgements'), progress=True)
  figures = {}
  for name, part in answered.items():
    answers = predictions(name, functools.partial(make, name), part, workdir)
    figures[name] = evaluate(
        lambda _, answers=answers: answers, [sample.example for sample in part],
        resamples=config.bootstrap, seed=config.seed, judge=judge).to_json()
    if len(part) < len(samples):  # means over other turns than the model's are none to compare with
      del figures[name]['all'], figures[name]['macro']
  found = {'figures': figures, 'config': json.loads(config.to_json()),
           'samples': len(samples), 'commit': results.commit(), 'hardware': results.hardware()}
  table = bench_report.as_markdown(figures)
  if len(known) < len(samples):
    unknown = sorted({sample.example.domain for sample in samples} - set(config.domains))
    table += (f'\n{" and ".join(results.BASELINES[1:])} are left out of {", ".join(unknown)}: no '
              'train episodes to fit them on can be collected here.\n')
  write_atomically(os.path.join(workdir, 'bench.json'), json.dumps(found, indent=1))
  write_atomically(os.path.join(workdir, 'bench.md'), table)
  write_atomically(os.path.join(workdir, 'bench.png'), bench_report.figure(figures))
  print(table)


if __name__ == '__main__':
  commands.run(main, 'evaluate')
