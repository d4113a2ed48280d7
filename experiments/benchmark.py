r"""Measures the speed of training, decoding, rewards and collection, side by side in one run.

Training and greedy decoding are compared with the same Qwen3 decoder in PyTorch + transformers:
same sizes, same weights, same batch, same number of new tokens. PyTorch has a process of its own,
and systems take turns, so that what else the machine does falls on all of them; after a warm-up
that compiles, each row gives the median and range over the repetitions. Leave the machine alone
meanwhile.

  python -m experiments.benchmark --out=benchmark.json
  python -m experiments.benchmark --rows=decode --decode_batch=16 --repetitions=3
"""

import dataclasses
import datetime
import json
import multiprocessing
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm
from absl import app, flags

from aw_jax import partitioning, trajectories
from aw_jax.environments.base import MissingProgramError
from aw_jax.environments.collect import collect
from aw_jax.evaluation import results
from aw_jax.models import huggingface
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.rewards.content import Reference
from aw_jax.rewards.reward import rewards
from aw_jax.sampling.decode import generate
from aw_jax.tokenizer import END_PREDICTED, PREDICTED
from aw_jax.training import objectives
from aw_jax.training.optimizer import make_optimizer
from aw_jax.training.state import init_state, make_train_step
from experiments import commands

ROWS = ('train', 'decode', 'rewards', 'collect')
_ROWS = flags.DEFINE_multi_enum('rows', list(ROWS), ROWS, 'What to measure; may be repeated.')
_OUT = flags.DEFINE_string('out', 'benchmark.json', 'File that the figures are written to.')
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 5, 'Measurements of each system, after its warm-up.', lower_bound=1)
_VOCAB = flags.DEFINE_integer('vocab_size', 2048, 'Ids of the vocabulary.')
_WIDTH = flags.DEFINE_integer('width', 256, 'Width of the residual stream.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Number of decoder blocks.')
_HEADS = flags.DEFINE_integer('heads', 8, 'Query heads.')
_KV_HEADS = flags.DEFINE_integer('kv_heads', 4, 'Key and value heads.')
_HEAD_DIM = flags.DEFINE_integer('head_dim', 32, 'Width of one head.')
_MLP_WIDTH = flags.DEFINE_integer('mlp_width', 768, 'Hidden width of the SwiGLU.')
_BATCH = flags.DEFINE_integer('batch', 8, 'Sequences of a training batch.')
_LENGTH = flags.DEFINE_integer('length', 512, 'Tokens of a training sequence.')
_STEPS = flags.DEFINE_integer('steps', 8, 'Training steps of one measurement.')
_DECODE_BATCH = flags.DEFINE_integer('decode_batch', 64, 'Sequences decoded together.')
_DECODE_CALLS = flags.DEFINE_integer('decode_calls', 3, 'Batches decoded in one measurement.')
_PROMPT = flags.DEFINE_integer('prompt', 64, 'Tokens of each prompt; prefill is in the time.')
_NEW_TOKENS = flags.DEFINE_integer('new_tokens', 128, 'Tokens decoded after each prompt.')
_REWARDS = flags.DEFINE_integer('rewards', 512, 'Predictions judged in one measurement.')
_GROUP = flags.DEFINE_integer('group', 8, 'Predictions judged against the same truth.')
_DOMAINS = flags.DEFINE_list('domains', ['terminal', 'mcp'], 'Domains that are collected from.')
_EPISODES = flags.DEFINE_integer('episodes', 400, 'Episodes collected in one measurement.')
_WORKERS = flags.DEFINE_integer('workers', os.cpu_count(), 'Processes that collect.')

_OPTIMIZER = ml_collections.FrozenConfigDict({
  'name': 'adamw', 'peak_lr': 1e-3, 'warmup_steps': 0, 'total_steps': 1_000_000,
  'schedule': 'constant', 'final_lr_ratio': 0.1, 'weight_decay': 0.1, 'clip_norm': 1.0})
# Seconds before each measurement: threads of the system before may still wait busily for work.
_PAUSE = 0.5
_NO_TORCH = "torch or transformers is missing, no comparison: pip install -e '.[parity]'"


@dataclasses.dataclass(frozen=True)
class Measured:
  """One system's figures in one row, in `unit`."""

  row: str
  system: str
  unit: str
  samples: tuple[float, ...]

  def to_dict(self) -> dict[str, Any]:
    """With median and range."""
    return dataclasses.asdict(self) | {
      'median': statistics.median(self.samples), 'low': min(self.samples),
      'high': max(self.samples)}


def take_turns(
    row: str, unit: str, systems: dict[str, Callable[[], float]], repetitions: int
) -> list[Measured]:
  """Measures systems in turns.

  Args:
    row: what is measured.
    unit: of the figures.
    systems: name -> does one measurement's work to the end and returns how many units it was.
    repetitions: measurements of each system, after one that does not count.
  """
  samples = {name: [] for name in systems}
  rounds = [(i, name) for i in range(repetitions + 1) for name in systems]
  for i, name in tqdm.tqdm(rounds, desc=row, unit='measurement'):
    time.sleep(_PAUSE)
    start = time.perf_counter()
    amount = systems[name]()
    if i:
      samples[name].append(amount / (time.perf_counter() - start))
  return [Measured(row, name, unit, tuple(values)) for name, values in samples.items()]


def model_config(dtype: str) -> ModelConfig:
  """The decoder of the flags: a plain Qwen3."""
  return ModelConfig(
    vocab_size=_VOCAB.value, width=_WIDTH.value, layers=_LAYERS.value, heads=_HEADS.value,
    kv_heads=_KV_HEADS.value, head_dim=_HEAD_DIM.value, mlp_width=_MLP_WIDTH.value, dtype=dtype,
    cache_dtype='float32' if jax.default_backend() == 'cpu' else dtype)


def random_params() -> Any:
  """The parameters that all systems begin with."""
  return jax.device_get(nn.unbox(init_params(model_config('float32'), jax.random.key(0))))


class TorchSide:
  """The process in which the PyTorch systems run."""

  def __init__(self):
    self._process = ProcessPoolExecutor(1, multiprocessing.get_context('spawn'))

  def system(self, name: str, kind: str, length: int, **options: Any
             ) -> Callable[[np.ndarray], Any]:
    """The same decoder with the same parameters; see `benchmark_torch.set_up`."""
    config = model_config('float32')
    model = {'config': huggingface.config_to_huggingface(config), 'length': length,
             'state_dict': huggingface.to_state_dict(random_params(), config)}
    self._call('set_up', name, kind, model, **options)
    return lambda tokens: self._call('use', name, tokens)

  def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
    return self._process.submit(_in_torch_process, function, arguments, options).result()


def _in_torch_process(function: str, arguments: tuple, options: dict[str, Any]) -> Any:
  from experiments import benchmark_torch  # there alone
  return getattr(benchmark_torch, function)(*arguments, **options)


def torch_versions() -> dict[str, str]:
  """Versions of PyTorch and transformers; empty where one is missing."""
  try:
    return {name: metadata.version(name) for name in ('torch', 'transformers')}
  except metadata.PackageNotFoundError:
    return {}


def our_train_step(dtype: str) -> Callable[[np.ndarray], float]:
  """int32[B, L] tokens -> loss, by the train step that every stage uses."""
  config, mesh = model_config(dtype), partitioning.make_mesh()
  optimizer = make_optimizer(_OPTIMIZER)
  state, shardings = init_state(config, optimizer, mesh, seed=0)
  state = state.replace(params=jax.device_put(random_params(), shardings.params))
  train_step = make_train_step(config, objectives.next_token, optimizer, mesh, shardings)
  length = _LENGTH.value
  rest = {
    'positions': np.tile(np.arange(length, dtype=np.int32), (_BATCH.value, 1)),
    'segment_ids': np.ones((_BATCH.value, length), np.int32),
    'loss_weights': np.ones((_BATCH.value, length), np.float32)}

  def step(tokens: np.ndarray) -> float:
    nonlocal state
    state, metrics = train_step(state, {'tokens': tokens, **rest})
    return float(metrics['loss'])

  return step


def measure_train(torch_side: TorchSide | None) -> list[Measured]:
  """Training tokens/s. Raises RuntimeError where the systems' first losses disagree."""
  tokens = np.random.default_rng(0).integers(
    1, _VOCAB.value, (_BATCH.value, _LENGTH.value), dtype=np.int32)
  steps = {f'aw_jax {dtype}': our_train_step(dtype) for dtype in ('float32', 'bfloat16')}
  if torch_side:
    for name, autocast in (('float32', False), ('bf16 autocast', True)):
      steps[f'transformers {name}'] = torch_side.system(
        f'train {name}', 'train_step', _LENGTH.value, learning_rate=_OPTIMIZER.peak_lr,
        weight_decay=_OPTIMIZER.weight_decay, clip_norm=_OPTIMIZER.clip_norm, autocast=autocast)
  first = {name: step(tokens) for name, step in steps.items()}
  if max(first.values()) - min(first.values()) > 0.02:
    raise RuntimeError(f'the systems do not train the same model; their first losses: {first}')

  def run(step):
    for _ in range(_STEPS.value):
      step(tokens)
    return _STEPS.value * tokens.size

  systems = {name: (lambda step=step: run(step)) for name, step in steps.items()}
  return take_turns('train', 'tokens/s', systems, _REPETITIONS.value)


def our_generate(dtype: str) -> Callable[[np.ndarray], np.ndarray]:
  """Greedy decoding by the sampler of every stage."""
  model = Decoder(model_config(dtype))
  params = jax.device_put(
    random_params(), partitioning.replicated(partitioning.make_mesh()))

  def decode(prompts: np.ndarray) -> np.ndarray:
    turn = generate(
      model, params, prompts, jnp.full(len(prompts), prompts.shape[1]), jax.random.key(0),
      stop=-1, max_tokens=_NEW_TOKENS.value, temperature=0.0)  # no id is -1: nothing stops it
    return np.asarray(turn.tokens)

  return decode


def measure_decode(torch_side: TorchSide | None) -> list[Measured]:
  """Decoded tokens/s, prefill included. Raises RuntimeError where a system decoded too few."""
  prompts = np.random.default_rng(1).integers(
    1, _VOCAB.value, (_DECODE_BATCH.value, _PROMPT.value), dtype=np.int32)
  decoders = {f'aw_jax {dtype}': our_generate(dtype) for dtype in ('float32', 'bfloat16')}
  if torch_side:
    for name, bfloat16 in (('float32', False), ('bfloat16', True)):
      decoders[f'transformers {name}'] = torch_side.system(
        f'decode {name}', 'generate', _PROMPT.value + _NEW_TOKENS.value,
        new_tokens=_NEW_TOKENS.value, bfloat16=bfloat16)

  def run(name):
    for _ in range(_DECODE_CALLS.value):
      tokens = decoders[name](prompts)
      if tokens.shape != (_DECODE_BATCH.value, _NEW_TOKENS.value):
        raise RuntimeError(f'{name} decoded {tokens.shape}')
    return _DECODE_CALLS.value * tokens.size

  systems = {name: (lambda name=name: run(name)) for name in decoders}
  return take_turns('decode', 'tokens/s', systems, _REPETITIONS.value)


def observation(domain: str, draw: random.Random) -> str:
  """A made-up observation of a dozen lines: a file listing, or a tool's JSON."""
  words = ['notes', 'report', 'alpha', 'todo', 'config', 'data', 'summary', 'inventory']
  if domain == 'mcp':
    items = [{'id': draw.randrange(1000), 'name': draw.choice(words), 'stock': draw.randrange(99)}
             for _ in range(4)]
    return json.dumps({'items': items, 'next_page': None}, indent=2)
  return ''.join(
    f'-rw-r--r-- 1 user user {draw.randrange(9999):4d} {draw.choice(words)}_{i}.txt\n'
    for i in range(12))


def judged_batch(domain: str, draw: random.Random) -> tuple[list[str], list[Reference]]:
  """Generated turns with their truths: in each group one is exact, the others have wrong words."""
  texts, references = [], []
  for _ in range(_REWARDS.value // _GROUP.value):
    truth = observation(domain, draw)
    reference = Reference(domain, 'ls -l', truth, known=truth[:40])
    for sample in range(_GROUP.value):
      words = re.split(r'(\W+)', truth)
      for _ in range(sample):
        words[draw.randrange(len(words))] = draw.choice(['draft', '17', 'old'])
      texts.append(f'{PREDICTED}{"".join(words)}{END_PREDICTED}')
      references.append(reference)
  return texts, references


def measure_rewards() -> list[Measured]:
  """Predictions a second that one core judges: rubric and rule verifier."""
  draw, domains = random.Random(0), ('terminal', 'mcp')
  # New truths for each measurement: what a reference derives once is work too.
  batches = {domain: [judged_batch(domain, draw) for _ in range(_REPETITIONS.value + 1)]
             for domain in domains}
  systems = {domain: (lambda domain=domain: len(rewards(*batches[domain].pop())))
             for domain in domains}
  return take_turns('rewards', 'rewards/s', systems, _REPETITIONS.value)


def measure_collect() -> list[Measured]:
  """Steps/s of the collector with counterfactual replay, start of its workers included."""

  def run(domain):
    with tempfile.TemporaryDirectory() as folder:
      return collect(
        domain, _EPISODES.value, folder, workers=_WORKERS.value, progress=False)['steps']

  systems = {domain: (lambda domain=domain: run(domain)) for domain in _DOMAINS.value}
  return take_turns('collect', 'steps/s', systems, _REPETITIONS.value)


def ratios(measured: list[Measured]) -> dict[str, float]:
  """Our medians over those of transformers, for every pair of systems of a row."""
  medians = {(m.row, m.system): statistics.median(m.samples) for m in measured}
  return {
    f'{row}: {ours} / {theirs}': medians[row, ours] / medians[row, theirs]
    for row, ours in medians if ours.startswith('aw_jax')
    for other, theirs in medians if other == row and theirs.startswith('transformers')}


def table(measured: list[Measured]) -> str:
  """The figures as aligned text."""
  lines = [f'{"row":8s} {"system":28s} {"median":>10s} {"low":>10s} {"high":>10s}  unit']
  for m in measured:
    figures = m.to_dict()
    lines.append(f'{m.row:8s} {m.system:28s} {figures["median"]:10.1f} {figures["low"]:10.1f} '
                 f'{figures["high"]:10.1f}  {m.unit}')
  lines += [f'{value:6.2f} x  {name}' for name, value in ratios(measured).items()]
  return '\n'.join(lines)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  commands.use_two_cpu_devices()
  rows = [row for row in ROWS if row in _ROWS.value]
  measured, skipped, versions = [], {}, {
    name: metadata.version(name) for name in ('jax', 'flax', 'optax', 'numpy')}
  compares = {'train', 'decode'} & set(rows)
  torch_side = TorchSide() if compares and torch_versions() else None
  if torch_side:
    versions |= torch_versions()
  elif compares:
    skipped['transformers'] = _NO_TORCH
  run = {'train': lambda: measure_train(torch_side),
         'decode': lambda: measure_decode(torch_side),
         'rewards': measure_rewards, 'collect': measure_collect}
  for row in rows:
    try:
      measured += run[row]()
    except MissingProgramError as error:
      skipped[row] = str(error)
  figures = {
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'commit': results.commit(), 'hardware': results.hardware(), 'versions': versions,
    'config': {f.name: f.value for f in flags.FLAGS.get_flags_for_module(argv[0])},
    'rows': [m.to_dict() for m in measured], 'ratios': ratios(measured), 'skipped': skipped}
  trajectories.write_atomically(_OUT.value, json.dumps(figures, indent=2) + '\n')
  print(table(measured))
  for what, reason in skipped.items():
    print(f'skipped {what}: {reason}')
  print(f'written to {_OUT.value}')


if __name__ == '__main__':
  commands.use_huge_pages()  # for PyTorch's process too
  app.run(main)
