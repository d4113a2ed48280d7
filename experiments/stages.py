"""The stages of an experiment, in a work directory, each resumable: what the commands call.

    {workdir}/trajectories/{domain}_{split}/   collected episodes
    {workdir}/data/                            vocabulary and packed records
    {workdir}/{cpt,sft,rl}/                    checkpoints and metrics of the world model
    {workdir}/agent/{seed}/{imitation,...}/    the same of an agent: its start, and by world
    {workdir}/evaluation/*.json                figures
"""

import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging
from jax.sharding import Mesh

from aw_jax import partitioning
from aw_jax.environments import collect as collecting
from aw_jax.models.config import ModelConfig
from aw_jax.rewards.chat_endpoint import Endpoint
from aw_jax.rewards.content import Reference
from aw_jax.rewards.judges import REFERENCE_JUDGE, Judge
from aw_jax.rewards.llm_judge import LlmJudge
from aw_jax.rewards.reward import rewards
from aw_jax.rewards.verifiers import has_rule
from aw_jax.tokenizer import Tokenizer
from aw_jax.training import data, objectives, rejection
from aw_jax.training.checkpoints import EXECUTION_FIELDS, has_model, load_params
from aw_jax.training.processes import on_first_process
from aw_jax.training.reinforcement import GroupSampler
from aw_jax.training.runner import (
    ExtraWriters,
    no_writers,
    packed_batches,
    require_even_shares,
    run_stage,
)
from aw_jax.trajectories import Trajectory, read_jsonl, write_atomically
from data_pipelines import packing, records
from data_pipelines.prepare import VOCABULARY_FILE

BASE_CHECKPOINT = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'checkpoints', 'base')
WORLD_MODEL_STAGES = ('cpt', 'sft', 'rl')


class StageError(RuntimeError):
  """A stage cannot run; the message says what to run first."""


def tensorboard_writers(directory: str) -> list[Any]:
  """Metrics to TensorBoard through clu, which imports TensorFlow: never inside aw_jax."""
  try:
    from clu import metric_writers
    return [metric_writers.SummaryWriter(directory)]
  except ModuleNotFoundError as error:
    logging.warning('no %s here: metrics go to %s/metrics.jsonl alone', error.name, directory)
    return []


def once(path: str, compute: Callable[[], Any]) -> Any:
  """The JSON file at `path`, computed and written atomically where it is not there yet."""
  if not os.path.exists(path):
    write_atomically(path, json.dumps(compute(), indent=1))
  with open(path, encoding='utf-8') as file:
    return json.load(file)


_MAY_DIFFER = re.compile('|'.join((
    'stage', 'world', r'evaluate\.also',  # what to do next
    r'rl\.parts', r'(collect\.)?workers', r'.*\.mesh\..*',
    r'.*\.(url|key_variable|concurrency|retries|timeout)',
    *(rf'model\.{name}' for name in EXECUTION_FIELDS))))


def claim_workdir(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Notes the config in the work directory. Raises StageError where another one made it.

  What is done there is never done again, so every stage must be of one config. Only what says what
  to do next may differ (`stage`, the `world` that an agent trains in, what to measure `also`), and
  what it is done with: workers, meshes, where endpoints are, how a model is run and in which parts
  RL samples. A run can so go on elsewhere.
  """
  wanted = json.loads(config.to_json())

  def claim() -> None:
    found = _leaves(once(os.path.join(workdir, 'config.json'), lambda: wanted))
    leaves = _leaves(wanted)
    for key in sorted(set(found) | set(leaves)):
      if not _MAY_DIFFER.fullmatch(key) and found.get(key) != leaves.get(key):
        raise StageError(
            f'{workdir}: was made with config.{key} = {json.dumps(found.get(key))}, now it is '
            f'{json.dumps(leaves.get(key))}; use another --workdir')

  on_first_process(claim)


def _leaves(values: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dictionaries as one, with dotted keys."""
  leaves = {}
  for key, value in values.items():
    if isinstance(value, dict):
      leaves |= _leaves(value, f'{prefix}{key}.')
    else:
      leaves[prefix + key] = value
  return leaves


def batch_rows(config: ml_collections.ConfigDict) -> dict[str, int]:
  """Rows of a batch, as one optimiser step sees it, by the stage's place in the config."""
  agent = config.agent
  return {
      'cpt': sum(config.cpt.rows.values()), 'sft': sum(config.sft.rows.values()),
      'rl': (config.rl.train_groups or config.rl.prompts) // config.rl.updates_per_batch,
      'agent.imitation': sum(agent.imitation.rows.values()),
      'agent.rl': agent.rl.tasks * agent.rl.group // agent.rl.updates_per_batch}


def require_even_batches(config: ml_collections.ConfigDict) -> None:
  """Raises StageConfigError where a batch cannot be split on this host: before any work is done."""
  for name in batch_rows(config):
    require_even_batch(config, name)


def require_even_batch(config: ml_collections.ConfigDict, name: str) -> None:
  """`require_even_batches` of one stage, by its place in the config."""
  stage = config.agent[name.removeprefix('agent.')] if 'agent.' in name else config[name]
  require_even_shares(
      f'config.{name}', batch_rows(config)[name], partitioning.make_mesh(**stage.mesh))


def init_directory(config: ml_collections.ConfigDict) -> str | None:
  """The checkpoint that `config.init` names; None for 'scratch'. Raises StageError."""
  if config.init == 'scratch':
    return None
  directory = BASE_CHECKPOINT if config.init == 'base' else config.init
  if not has_model(directory):
    raise StageError(
        f'config.init={config.init}: no checkpoint in {directory}; use --config.init=scratch')
  return directory


# --- data -----------------------------------------------------------------------------------------


def trajectories_folder(workdir: str, domain: str, split: str) -> str:
  return os.path.join(workdir, 'trajectories', f'{domain}_{split}')


def collect(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Collects train and held-out episodes of every domain; whole shards are kept.

  Changed-state turns are marked where they are counted, in held-out episodes: it takes a replay
  each.
  """
  for domain in config.domains:
    if domain not in config.collect.train_episodes:
      raise StageError(f'config.domains: {domain!r} is not one of '
                       f'{", ".join(config.collect.train_episodes)}')
  if config.evaluate.split not in ('validation', 'test'):
    raise StageError(
        f"config.evaluate.split: 'validation' or 'test', is {config.evaluate.split!r}")
  summaries = {}
  for kind, split in (('train', 'train'), ('test', config.evaluate.split)):
    for domain in config.domains:
      summaries[f'{domain}_{split}'] = collecting.collect(
          domain, config.collect[f'{kind}_episodes'][domain],
          trajectories_folder(workdir, domain, split), split=split,
          policies=dict(config.collect[f'{kind}_policies']), seed=config.seed,
          workers=config.collect.workers,
          pool=config.collect.train_pool if kind == 'train' else None,
          mark_changed_state=kind == 'test')
  return summaries


def read_trajectories(config: ml_collections.ConfigDict, workdir: str, split: str
                      ) -> list[Trajectory]:
  """All whole episodes of a split, every domain, in the order they were numbered."""
  found = []
  for domain in config.domains:
    folder = trajectories_folder(workdir, domain, split)
    for name in sorted(os.listdir(folder)):
      if name.startswith('shard-') and name.endswith('.jsonl'):
        found += [t for t in read_jsonl(os.path.join(folder, name), domain) if not t.error]
  return found


def prepare(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Packed records of `config.data.stages`, by another process: TensorFlow stays out of this."""
  base = init_directory(config)
  vocabulary = os.path.join(workdir, 'data', VOCABULARY_FILE)
  if base:
    vocabulary = os.path.join(base, Tokenizer.load(base).file_name)
  folders = [trajectories_folder(workdir, domain, 'train') for domain in config.domains]
  command = [
      sys.executable, '-m', 'experiments.prepare_data', f'--trajectories={",".join(folders)}',
      f'--out={os.path.join(workdir, "data")}', f'--vocabulary={vocabulary}',
      f'--vocab_size={config.data.vocab_size}', f'--seq_len={config.data.seq_len}',
      f'--seed={config.seed}',
      *(f'--{key}={value}' for key, value in data_switches(config).items()),
      f'--stages={",".join(config.data.stages)}']
  if config.data.traces:
    command.append(f'--traces={config.data.traces}')
  if subprocess.run(command, check=False).returncode:
    raise StageError('preparing the data failed; the lines above say why')


def data_switches(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """How records are made, by the names of prepare_data's flags and of the sidecars' keys."""
  c = config.data
  return {
      'loss_mask': c.loss_mask, 'prompts': c.prompts, 'sft_templates': c.sft_templates,
      'sft_turns': c.turns.sft, 'rl_turns': c.turns.rl, 'thinking': c.thinking,
      'trace_tokens': c.trace_tokens, 'skip_retries': c.skip_retries}


def ensure_data(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Episodes and records, made where they are missing.

  Whole records need no episodes any more: the folder `data` alone can be carried to a machine with
  an accelerator, which then needs neither sandbox nor TensorFlow. Raises StageError where records
  that came without episodes were made for another config, or several processes find none.
  """
  paths = [records_path(workdir, records.record_name(stage)) for stage in config.data.stages]
  carried = not os.path.exists(os.path.join(workdir, 'trajectories')) or jax.process_count() > 1
  if carried and all(map(records.exists, paths)):
    for path in paths:
      _require_records_of(config, path)
    return
  _require_one_process(f'{os.path.join(workdir, "data")}: no records')
  collect(config, workdir)
  prepare(config, workdir)


def _require_one_process(missing: str) -> None:
  if jax.process_count() > 1:
    raise StageError(
        f'{missing}, and several processes make none; run the same command with --data_only in one '
        'process first')


# Keys of a sidecar that the config calls otherwise than config.data.{key}.
_CONFIG_KEYS = {
    'seed': 'config.seed', 'sft_turns': 'config.data.turns.sft', 'rl_turns': 'config.data.turns.rl'}


def _require_records_of(config: ml_collections.ConfigDict, path: str) -> None:
  sidecar = records.read_sidecar(path)
  wanted = {'seed': config.seed, 'seq_len': config.data.seq_len, **data_switches(config)}
  for key, value in wanted.items():
    found = sidecar.get(key)
    if found != value:
      named = _CONFIG_KEYS.get(key, f'config.data.{key}')
      raise StageError(
          f'{records.sidecar_path(path)}: made with {named} = {json.dumps(found)}, the config says '
          f'{json.dumps(value)}; carry the records of this config, or use its flags')
  if sidecar.get('stage') == 'rl' and sidecar.get('version') != records.RL_VERSION:
    raise StageError(
        f'{records.sidecar_path(path)}: made before records of RL said what could be known of a '
        'turn; prepare the data anew')


def load_tokenizer(config: ml_collections.ConfigDict, workdir: str) -> Tokenizer:
  """The vocabulary that this work directory's records are made with."""
  directory = init_directory(config) or os.path.join(workdir, 'data')
  return Tokenizer.load(directory)


def model_config(config: ml_collections.ConfigDict, tokenizer: Tokenizer) -> ModelConfig:
  """The decoder of `config.model`, its vocabulary rounded up for even shards."""
  return ModelConfig.from_dict(
      {**config.model, 'vocab_size': -(-tokenizer.vocab_size // 64) * 64})


_RUN_TIME = ('dtype', *EXECUTION_FIELDS)  # not part of what was learned


def load_start(config: ml_collections.ConfigDict, directory: str, mesh: Mesh | None = None
               ) -> tuple[Any, ModelConfig]:
  """Parameters to start from, as in `load_params`; their decoder as `config.model` wants it to run.

  Raises StageError where `config.model` describes another decoder, or the vocabulary has ids that
  the embedding lacks.
  """
  params, model, tokenizer = load_params(directory, mesh)
  if tokenizer.vocab_size > model.vocab_size:
    raise StageError(
        f'{directory}: the vocabulary has {tokenizer.vocab_size} ids with its tags, the embedding '
        f'{model.vocab_size} rows; a model with spare rows is needed to train on')
  for name, value in config.model.items():
    if name not in _RUN_TIME and getattr(model, name) != value:
      raise StageError(
          f'config.model.{name} is {value}, but {directory} has {getattr(model, name)}; set it so, '
          'or use --config.init=scratch')
  return params, dataclasses.replace(model, **{name: config.model[name] for name in _RUN_TIME})


def records_path(workdir: str, name: str) -> str:
  return records.records_path(os.path.join(workdir, 'data'), name)


# --- the world model ------------------------------------------------------------------------------


def train_stage(config: ml_collections.ConfigDict, workdir: str, stage: str,
                extra_writers: ExtraWriters = no_writers) -> Any:
  """Trains one stage of the world model: 'cpt', 'sft' or 'rl'. Returns its parameters."""
  require_known_stages(config)
  if stage not in config.stages:
    raise StageError(f'config.stages: {stage!r} is left out there')
  return {'cpt': cpt, 'sft': sft, 'rl': rl}[stage](config, workdir, extra_writers)


def is_trained(workdir: str, stage: str) -> bool:
  """Whether a stage of the world model has a checkpoint."""
  return has_model(os.path.join(workdir, stage))


def _start(config, workdir: str, stage: str, mesh: Mesh | None = None
           ) -> tuple[Any, ModelConfig, Tokenizer]:
  """What a stage starts from: the one before it in `config.stages`, of the first `config.init`.

  The parameters are None where those are to be fresh. Raises StageError where there are none yet.
  """
  before = config.stages[:config.stages.index(stage)]
  if before:
    _require_trained(workdir, before[-1])
    return load_params(os.path.join(workdir, before[-1]), mesh)
  tokenizer, base = load_tokenizer(config, workdir), init_directory(config)
  if base is None:
    return None, model_config(config, tokenizer), tokenizer
  return *load_start(config, base, mesh), tokenizer


def require_known_stages(config: ml_collections.ConfigDict) -> None:
  """Raises StageError unless `config.stages` are some of the three, in their order."""
  if not config.stages or tuple(config.stages) != tuple(
      stage for stage in WORLD_MODEL_STAGES if stage in config.stages):
    raise StageError(
        f'config.stages: some of {", ".join(WORLD_MODEL_STAGES)}, in this order, not '
        f'{", ".join(config.stages) or "none"}')


def _require_trained(workdir: str, stage: str) -> None:
  if not is_trained(workdir, stage):
    raise StageError(
        f'{os.path.join(workdir, stage)}: no checkpoint; train the stage {stage!r} first')


def require_world_model(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Raises StageError where the simulator of an agent is not trained yet."""
  _require_trained(workdir, config.agent.world_model)


def _packed_stage(config, workdir, stage, model, tokenizer, params, extra_writers):
  stage_config = config[stage]
  rows = {records_path(workdir, name): count for name, count in stage_config.rows.items()}
  mesh = partitioning.make_mesh(**stage_config.mesh)
  batches = packed_batches(rows, config.data.seq_len, config.seed, tokenizer, mesh)
  return run_stage(
      stage, stage_config, model, tokenizer, objectives.next_token, batches,
      os.path.join(workdir, stage), init_params=params, seed=config.seed,
      extra_writers=extra_writers)


def cpt(config, workdir: str, extra_writers: ExtraWriters = no_writers) -> Any:
  """Continual pre-training on observations (PAPER.md section 3)."""
  params, model, tokenizer = _start(
      config, workdir, 'cpt', partitioning.make_mesh(**config.cpt.mesh))
  return _packed_stage(config, workdir, 'cpt', model, tokenizer, params, extra_writers)


def select_traces(config, workdir: str, params: Any, model: ModelConfig, tokenizer: Tokenizer
                  ) -> dict[str, Any]:
  """Keeps the best kind of reasoning trace of each dialogue, and packs those dialogues.

  The judge is the model that SFT starts from, which wrote none of them. No more than
  `config.sft.samples` are judged, spread evenly. Without thinking (`config.data.thinking`) there is
  nothing to choose: all of these are kept.
  """
  candidates = list(records.read_records(records_path(workdir, 'sft_candidates')))
  step = -(-len(candidates) // config.sft.samples)
  candidates = candidates[::step]
  if config.data.thinking:
    samples = [[rejection.Scored(dialogue['tokens'], dialogue['loss_weights'])
                for dialogue in record['dialogues']] for record in candidates]
    scores, gains = rejection.judge(
        model, params, tokenizer, samples, config.data.seq_len, progress='judge reasoning traces')
    chosen, report = rejection.choose(
        scores, gains, [record['domain'] for record in candidates], config.sft.threshold)
  else:
    chosen, report = [0] * len(candidates), {}
  kept = [(record, record['dialogues'][choice])
          for record, choice in zip(candidates, chosen, strict=True) if choice is not None]
  if not kept:
    raise StageError('by no reasoning trace the observations gain sft.threshold; lower it')
  seq_len = config.data.seq_len
  packed = packing.pack(
      [packing.example(dialogue['tokens'], dialogue['loss_weights']) for _, dialogue in kept],
      seq_len)
  records.write_records(records_path(workdir, 'sft'), packing.rows_of(packed), {
      'stage': 'sft', 'tokenizer': tokenizer.fingerprint, 'seq_len': seq_len,
      'retention': report, 'ids': [record['id'] for record, _ in kept]})
  return report


def ensure_traces(config: ml_collections.ConfigDict, workdir: str) -> None:
  """The records of SFT, chosen where they are not yet. Raises StageError."""
  path = os.path.join(workdir, 'evaluation', 'sft_retention.json')
  if not os.path.exists(path):
    _require_one_process(f'{path}: no reasoning traces are chosen')

  def select() -> dict[str, Any]:
    params, model, tokenizer = _start(config, workdir, 'sft')
    if params is None:
      raise StageError('config.stages: fresh parameters cannot judge reasoning traces; let sft '
                       'follow cpt, or begin with a checkpoint (--config.init)')
    return select_traces(config, workdir, params, model, tokenizer)

  once(path, select)


def sft(config, workdir: str, extra_writers: ExtraWriters = no_writers) -> Any:
  """Supervised fine-tuning on reasoning and prediction (PAPER.md section 4)."""
  ensure_traces(config, workdir)
  params, model, tokenizer = _start(
      config, workdir, 'sft', partitioning.make_mesh(**config.sft.mesh))
  return _packed_stage(config, workdir, 'sft', model, tokenizer, params, extra_writers)


_MOST_PARTS = 4  # of a batch that a model judges: all but the first are sampled meanwhile
_TAGS = 5  # of thinking, of an observation, and the end of the message


def _kept(path: str, fits: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, int]]:
  """How many records of each domain there are, and how many fit."""
  counts = {}
  for record in records.read_records(path):
    count = counts.setdefault(record['domain'], {'records': 0, 'kept': 0})
    count['records'] += 1
    count['kept'] += fits(record)
  return counts


def endpoint(c: ml_collections.ConfigDict, temperature: float = 0.0) -> Endpoint:
  """The OpenAI-compatible endpoint that a part of a config describes."""
  return Endpoint(c.model, c.url or None, c.key_variable, c.concurrency, c.retries, c.timeout,
                  temperature, c.max_tokens)


def judge_of(c: ml_collections.ConfigDict, cache: str, progress: bool = False) -> Judge:
  """The judge that a part of a config describes; a model's judgements are kept in `cache`."""
  return LlmJudge(endpoint(c), cache, progress) if c.model else REFERENCE_JUDGE


def require_on_policy(name: str, temperature: float) -> None:
  """Raises StageError for another temperature than 1, which log-probs and ratios are of."""
  if temperature != 1.0:
    raise StageError(
        f'config.{name}.temperature: is {temperature}; importance ratios are of temperature 1, so '
        'what is trained on is sampled at 1')


def sampling_parts(c: ml_collections.ConfigDict, devices: int) -> int:
  """In how many parts RL samples and judges a batch; `parts` 0 leaves it to what judges.

  Those that it chooses are all alike, and leave no device that shares the rows without work.
  """
  if c.parts or not c.judge.model:
    return c.parts or 1
  return max((parts for parts in range(1, _MOST_PARTS + 1) if c.prompts % (parts * devices) == 0),
             default=1)


def teaches(
    config: ml_collections.ConfigDict, tokenizer: Tokenizer, record: dict[str, Any]) -> bool:
  """Whether the true answer of a record of RL, reasoning included, can be said, and has a reward.

  By the rule alone (`rubric_weight` 0) nothing has one in a domain without a rule verifier.
  """
  c = config.rl
  answer = len(tokenizer.encode(record['observation'])) + _TAGS + config.data.trace_tokens
  return (len(record['prompt']) <= c.max_prompt and answer <= c.max_tokens
          and (c.rubric_weight > 0 or has_rule(record['domain'])))


def rl_reference(record: dict[str, Any]) -> Reference:
  """What the judge compares with in RL: the same as in evaluation (`TurnExample.reference`)."""
  return Reference(
      record['domain'], record['action'], record['observation'],
      tuple(map(tuple, np.asarray(record['runtime_metadata']).tolist())), record['known'],
      record['hidden_state'])


def rl(config, workdir: str, extra_writers: ExtraWriters = no_writers) -> Any:
  """Reinforcement learning from the judge and the rule verifier (PAPER.md section 5)."""
  c = config.rl
  require_on_policy('rl', c.temperature)
  if not c.rubric_weight and not any(map(has_rule, config.domains)):
    raise StageError(
        f'config.rl.rubric_weight: 0 is the rule alone, and {", ".join(config.domains)} has none')
  mesh = partitioning.make_mesh(**c.mesh)
  params, model, tokenizer = _start(config, workdir, 'rl', mesh)

  fits = functools.partial(teaches, config, tokenizer)
  judge = judge_of(c.judge, os.path.join(workdir, 'rl_judgements'))
  path = records_path(workdir, 'rl')
  once(os.path.join(workdir, 'evaluation', 'rl_prompts.json'), lambda: _kept(path, fits))
  source = data.batches(
      path, c.prompts, config.seed, tokenizer=tokenizer.fingerprint, keep=fits)

  def reward(texts: Sequence[str], found: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    references = list(map(rl_reference, found[::c.group]))
    judged = rewards(
        texts, [r for r in references for _ in range(c.group)], c.rubric_weight, judge)
    return {'reward': judged.total, 'rubric': judged.rubric, 'rule': judged.rule,
            'invalid': judged.invalid}

  sampler = GroupSampler(
      model=model, tokenizer=tokenizer, records=source, reward=reward, group=c.group,
      max_tokens=c.max_tokens, max_prompt=c.max_prompt, temperature=c.temperature,
      updates_per_batch=c.updates_per_batch, seed=config.seed, train_groups=c.train_groups,
      correct_gap=c.correct_gap, whole_rows=c.whole_rows,
      parts=sampling_parts(c, math.prod(mesh.shape[axis] for axis in partitioning.ROW_AXES)),
      # Read once more: the others are trained in place.
      reference_params=_start(config, workdir, 'rl', mesh)[0] if c.kl_weight else None)

  def objective(decoder, parameters, batch):
    return objectives.group_policy(
        decoder, parameters, batch, clip=c.clip, ratio=c.ratio, kl_weight=c.kl_weight,
        whole_rows=c.whole_rows)

  return run_stage(
      'rl', c, model, tokenizer, objective, sampler, os.path.join(workdir, 'rl'),
      init_params=params, seed=config.seed, extra_writers=extra_writers)
