r"""Measures the speed of training, decoding, rewards and collection, side by side in one run.

Rows, chosen by --rows:

  train, decode  beside the same Qwen3 decoder in PyTorch and transformers, with the same weights
  loss_curve     whether bfloat16 learns as float32 does, ours and transformers' autocast
  delta_net      the delta rule in chunks against the same token by token
  length         a train step in rows of 1k to 16k tokens, full attention and DeltaNet apart
  devices        training and decoding on 1 to 8 CPU devices, each with the same work
  serving        the endpoint of experiments.serve for 1, 16 and 64 clients, and batch decoding
  rewards        predictions judged
  collect        steps of real environments

Systems take turns, so that what else the machine does falls on all of them; after a warm-up that
compiles, each row gives the median and range over the repetitions. Leave the machine alone
meanwhile. On an accelerator: experiments.benchmark_gpu.

  python -m experiments.benchmark --out=benchmark.json
  python -m experiments.benchmark --rows=decode --decode_batch=16 --repetitions=3
"""

import contextlib
import os

from absl import app, flags

from aw_jax.environments.base import MissingProgramError
from aw_jax.evaluation import results
from aw_jax.models.config import ModelConfig
from aw_jax.serving.app import MissingServerError
from experiments import commands
from experiments.benchmarks import (
  against_transformers,
  loss_curve,
  report,
  scaling,
  serving,
  worlds,
)
from experiments.benchmarks.processes import Process
from experiments.benchmarks.timing import Measured

ROWS = ('train', 'decode', 'loss_curve', 'delta_net', 'length', 'devices', 'serving', 'rewards',
        'collect')
_ROWS = flags.DEFINE_multi_enum('rows', list(ROWS), ROWS, 'What to measure; may be repeated.')
_OUT = flags.DEFINE_string('out', 'benchmark.json', 'File that the figures are written to.')
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 5, 'Measurements of each system, after its warm-up.', lower_bound=1)
_VOCAB = flags.DEFINE_integer('vocab_size', 2048, 'Ids of the vocabulary.')
_WIDTH = flags.DEFINE_integer('width', 256, 'Width of the residual stream.')
_LAYERS = flags.DEFINE_integer('layers', 4, 'Number of decoder blocks.')
_HEADS = flags.DEFINE_integer('heads', 8, 'Query heads, and heads of DeltaNet.')
_KV_HEADS = flags.DEFINE_integer('kv_heads', 4, 'Key and value heads.')
_HEAD_DIM = flags.DEFINE_integer('head_dim', 32, 'Width of one head.')
_MLP_WIDTH = flags.DEFINE_integer('mlp_width', 768, 'Hidden width of the SwiGLU.')
_BATCH = flags.DEFINE_integer('batch', 8, 'Sequences of a training batch.')
_LENGTH = flags.DEFINE_integer('length', 512, 'Tokens of a training sequence.')
_STEPS = flags.DEFINE_integer('steps', 8, 'Training steps, or delta rules, of one measurement.')
_DECODE_BATCH = flags.DEFINE_integer('decode_batch', 64, 'Sequences decoded together.')
_DECODE_CALLS = flags.DEFINE_integer('decode_calls', 3, 'Batches decoded in one measurement.')
_PROMPT = flags.DEFINE_integer('prompt', 64, 'Tokens of each prompt; prefill is in the time.')
_NEW_TOKENS = flags.DEFINE_integer('new_tokens', 128, 'Tokens decoded after each prompt.')
_CURVE_STEPS = flags.DEFINE_integer('curve_steps', 60, 'Training steps of each loss curve.')
_CURVE_WINDOW = flags.DEFINE_integer(
  'curve_window', 5, 'Steps that a smoothed loss is the mean of; at most --curve_steps.')
_DELTA_LENGTHS = flags.DEFINE_multi_integer(
  'delta_lengths', [512, 2048], 'Tokens of a row of the delta rule; may be repeated.')
_LENGTHS = flags.DEFINE_multi_integer(
  'lengths', [1024, 2048, 4096, 8192, 16384],
  'Tokens of a row in the row length, divisors of --batch_tokens; may be repeated.')
_BATCH_TOKENS = flags.DEFINE_integer('batch_tokens', 16384, 'Tokens of a batch in the row length.')
_DEVICES = flags.DEFINE_multi_integer(
  'devices', [1, 2, 4, 8], 'Numbers of CPU devices in the row devices; may be repeated.')
_DEVICE_ROWS = flags.DEFINE_integer('device_rows', 2, 'Sequences that each device trains on.')
_DEVICE_DECODES = flags.DEFINE_integer('device_decodes', 16, 'Sequences that each device decodes.')
_CLIENTS = flags.DEFINE_multi_integer(
  'clients', [1, 16, 64], 'Numbers of clients in the row serving; may be repeated.')
_REWARDS = flags.DEFINE_integer('rewards', 512, 'Predictions judged in one measurement.')
_GROUP = flags.DEFINE_integer('group', 8, 'Predictions judged against the same truth.')
_DOMAINS = flags.DEFINE_list('domains', ['terminal', 'mcp'], 'Domains that are collected from.')
_EPISODES = flags.DEFINE_integer('episodes', 400, 'Episodes collected in one measurement.')
_WORKERS = flags.DEFINE_integer('workers', os.cpu_count(), 'Processes that collect.')


@flags.multi_flags_validator(
  ['lengths', 'batch_tokens'], 'every one of --lengths divides --batch_tokens')
def _divide(values):
  return all(values['batch_tokens'] % length == 0 for length in values['lengths'])


@flags.multi_flags_validator(
  ['curve_window', 'curve_steps'], '--curve_window is at most --curve_steps')
def _fits(values):
  return values['curve_window'] <= values['curve_steps']


def model_config() -> ModelConfig:
  """The decoder of the flags: a plain Qwen3."""
  return ModelConfig(
    vocab_size=_VOCAB.value, width=_WIDTH.value, layers=_LAYERS.value, heads=_HEADS.value,
    kv_heads=_KV_HEADS.value, head_dim=_HEAD_DIM.value, mlp_width=_MLP_WIDTH.value)


def measure(row: str, torch: Process | None) -> list[Measured]:
  """The figures of a row of speed, all but loss_curve."""
  config, repetitions = model_config(), _REPETITIONS.value
  training = {'length': _LENGTH.value, 'steps': _STEPS.value, 'repetitions': repetitions}
  decoding = {'prompt': _PROMPT.value, 'new_tokens': _NEW_TOKENS.value}
  match row:
    case 'train':
      return against_transformers.measure_train(config, torch, batch=_BATCH.value, **training)
    case 'decode':
      return against_transformers.measure_decode(
        config, torch, batch=_DECODE_BATCH.value, calls=_DECODE_CALLS.value,
        repetitions=repetitions, **decoding)
    case 'delta_net':
      return scaling.measure_delta_net(
        config, batch=_BATCH.value, lengths=_DELTA_LENGTHS.value, passes=_STEPS.value,
        repetitions=repetitions)
    case 'length':
      return scaling.measure_length(
        config, lengths=_LENGTHS.value, batch_tokens=_BATCH_TOKENS.value, repetitions=repetitions)
    case 'devices':
      return scaling.measure_devices(
        config, counts=_DEVICES.value, rows=_DEVICE_ROWS.value, decode_rows=_DEVICE_DECODES.value,
        **training, **decoding)
    case 'serving':
      return serving.measure_serving(
        config, clients=_CLIENTS.value, calls=_DECODE_CALLS.value, repetitions=repetitions,
        **decoding)
    case 'rewards':
      return worlds.measure_rewards(
        predictions=_REWARDS.value, group=_GROUP.value, repetitions=repetitions)
    case 'collect':
      return worlds.measure_collect(
        domains=_DOMAINS.value, episodes=_EPISODES.value, workers=_WORKERS.value,
        repetitions=repetitions)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  commands.use_two_cpu_devices()
  rows = [row for row in ROWS if row in _ROWS.value]
  measured, skipped, more = [], {}, {}
  with contextlib.ExitStack() as stack:
    torch = None
    if {'train', 'decode', 'loss_curve'} & set(rows):
      if report.has_transformers():
        torch = stack.enter_context(Process())
      else:
        skipped['transformers'] = report.NO_TRANSFORMERS
    for row in rows:
      if row == 'loss_curve':
        more[row] = loss_curve.measure(
          model_config(), torch, batch=_BATCH.value, length=_LENGTH.value,
          steps=_CURVE_STEPS.value, window=_CURVE_WINDOW.value)
      else:
        try:
          measured += measure(row, torch)
        except (MissingProgramError, MissingServerError) as error:
          skipped[row] = str(error)
      report.write(  # after each row: the next may not fit the machine
        _OUT.value, 'experiments.benchmark',
        {flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(argv[0])},
        results.hardware(), measured, skipped, **more)
  for curves in more.values():
    print(loss_curve.table(curves))
  report.show(_OUT.value, measured, skipped)


if __name__ == '__main__':
  commands.use_huge_pages()  # for PyTorch's process too
  app.run(main)
