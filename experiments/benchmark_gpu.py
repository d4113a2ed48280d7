r"""Measures how much of one accelerator training and decoding use, beside PyTorch and transformers.

  train   a dense Qwen3 of about 1B parameters in bfloat16, on packed rows of 4,096 tokens on disk:
          tokens/s, and FLOPs of the model as a share of the fastest matrix product measured here
  decode  greedy, batched: tokens/s after the prompt, and bytes that must be read (parameters, keys
          and values) as a share of the fastest copy measured here

Each system has a process of its own, one after another, and all of the memory; where a batch does
not fit, half of it is tried. What --out already holds is not measured again. Needs no TensorFlow,
no seqio and no network; without --data it writes packed rows of its own.

  python -m experiments.benchmark_gpu --out=benchmark_gpu.json
  python -m experiments.benchmark_gpu --rows=train --data=/tmp/base/data/cpt.array_record
"""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tqdm
from absl import app, flags

from aw_jax.models.config import REMAT_POLICIES, ModelConfig
from experiments import commands
from experiments.benchmarks import jax_systems, packed_rows, report, roofline
from experiments.benchmarks.processes import Process, alone, largest_fitting
from experiments.benchmarks.timing import Measured

ROWS = ('train', 'decode')
_ROWS = flags.DEFINE_multi_enum('rows', list(ROWS), ROWS, 'What to measure; may be repeated.')
_OUT = flags.DEFINE_string('out', 'benchmark_gpu.json', 'File that the figures are written to.')
_DATA = flags.DEFINE_string(
  'data', None, 'A record file of packed rows to train on; by default a synthetic one.')
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 5, 'Measurements of each system, after its warm-up.', lower_bound=1)
_VOCAB = flags.DEFINE_integer('vocab_size', 32768, 'Ids of the vocabulary.')
_WIDTH = flags.DEFINE_integer('width', 2048, 'Width of the residual stream.')
_LAYERS = flags.DEFINE_integer('layers', 20, 'Number of decoder blocks.')
_HEADS = flags.DEFINE_integer('heads', 16, 'Query heads.')
_KV_HEADS = flags.DEFINE_integer('kv_heads', 8, 'Key and value heads.')
_HEAD_DIM = flags.DEFINE_integer('head_dim', 128, 'Width of one head.')
_MLP_WIDTH = flags.DEFINE_integer('mlp_width', 6144, 'Hidden width of the SwiGLU.')
_REMAT = flags.DEFINE_enum(
  'remat', 'dots', REMAT_POLICIES, 'What our backward pass computes again.')
_BATCH = flags.DEFINE_integer('batch', 4, 'Rows of a training batch, where they fit.')
_LENGTH = flags.DEFINE_integer('length', 4096, 'Tokens of a synthetic row.')
_STEPS = flags.DEFINE_integer('steps', 5, 'Training steps of one measurement.')
_DECODE_BATCH = flags.DEFINE_integer('decode_batch', 64, 'Rows decoded together, where they fit.')
_PROMPT = flags.DEFINE_integer('prompt', 512, 'Tokens of each prompt.')
_NEW_TOKENS = flags.DEFINE_integer(
  'new_tokens', 256, 'Tokens decoded after each prompt.', lower_bound=2)
_COMPILE = flags.DEFINE_bool(
  'compile', True, "Measure transformers compiled too: torch.compile, and generate's static cache.")
_MATMUL_SIZES = flags.DEFINE_multi_integer(
  'matmul_sizes', [4096, 8192, 16384], 'Sizes of the square matrices whose products are the peak.')
_COPY_MIB = flags.DEFINE_integer('copy_mib', 2048, 'MiB that are copied for the peak bandwidth.')


def model_config() -> ModelConfig:
  """The decoder of the flags: a plain Qwen3."""
  return ModelConfig(
    vocab_size=_VOCAB.value, width=_WIDTH.value, layers=_LAYERS.value, heads=_HEADS.value,
    kv_heads=_KV_HEADS.value, head_dim=_HEAD_DIM.value, mlp_width=_MLP_WIDTH.value,
    activation_dtype='bfloat16', cache_dtype='bfloat16', remat=_REMAT.value)


def trainers(path: str) -> dict[str, Callable[[int], list[packed_rows.Steps]]]:
  """Systems that train: name -> measures steps with so many rows."""
  options = {'steps': _STEPS.value, 'repetitions': _REPETITIONS.value}
  systems = {'aw_jax': lambda batch: alone(
    'jax_accelerator.train', model_config(), path, batch=batch, **options)}
  if report.has_transformers():
    for name, autocast in (('bf16 autocast', True), ('bf16 parameters', False)):
      for compiled in forms():
        systems[f'transformers {name}{", compiled" * compiled}'] = (
          lambda batch, autocast=autocast, compiled=compiled: alone(
            'torch_accelerator.train', model_config(), path, jax_systems.TORCH_OPTIMIZER,
            autocast=autocast, compiled=compiled, batch=batch, **options))
  return systems


def decoders() -> dict[str, Callable[[int], list[float]]]:
  """Systems that decode: name -> measures seconds with so many rows."""
  def inputs(batch):
    prompts = np.random.default_rng(1).integers(
      1, _VOCAB.value, (batch, _PROMPT.value), dtype=np.int32)
    return model_config(), prompts, _NEW_TOKENS.value, _REPETITIONS.value

  systems = {'aw_jax': lambda batch: alone('jax_accelerator.decode', *inputs(batch))}
  if report.has_transformers():
    for compiled in forms():
      systems[f'transformers{", compiled" * compiled}'] = (
        lambda batch, compiled=compiled: alone(
          'torch_accelerator.decode', *inputs(batch), compiled=compiled))
  return systems


def forms() -> tuple[bool, ...]:
  """Whether transformers is compiled: not, and then so if the flag says it."""
  return (False, True) if _COMPILE.value else (False,)


def training_figures(
    system: str, batch: int, found: list[packed_rows.Steps], peak: float) -> list[Measured]:
  """Tokens/s, and model FLOPs utilisation in percent of `peak` FLOP/s."""
  return [
    Measured('train', f'{system}, {batch} rows', unit, samples) for unit, samples in (
      ('tokens/s', tuple(s.tokens / s.seconds for s in found)),
      ('% of peak FLOPs', tuple(100 * s.flops / s.seconds / peak for s in found)))]


def decoding_figures(
    system: str, batch: int, found: list[float], peak: float) -> list[Measured]:
  """Tokens/s, and the bytes that must be read in percent of `peak` bytes/s."""
  lengths = range(_PROMPT.value + 1, _PROMPT.value + _NEW_TOKENS.value)
  must = roofline.decode_bytes(model_config(), batch, lengths)
  return [
    Measured('decode', f'{system}, {batch} rows', unit, samples) for unit, samples in (
      ('tokens/s', tuple(batch * len(lengths) / seconds for seconds in found)),
      ('% of peak bandwidth', tuple(100 * must / seconds / peak for seconds in found)))]


def measure_peaks(process: Process) -> dict[str, Any]:
  """By size of the matrices in FLOP/s, and in bytes/s."""
  return {
    'matmul_flops': process.call(
      'jax_accelerator.matmul_peak', _MATMUL_SIZES.value, _REPETITIONS.value),
    'copy_bytes': process.call(
      'jax_accelerator.copy_peak', _COPY_MIB.value, _REPETITIONS.value)}


def measure(path: str, config: dict[str, Any]) -> None:
  """Measures all systems on the records at `path`, and writes what there is after each of them."""
  with Process(cpu_devices=1) as process:
    hardware = process.call('jax_accelerator.describe')
    measured, earlier = report.read(
      _OUT.value, {name: config[name] for name in config if name not in ('out', 'rows', 'compile')},
      hardware['devices'])
    peaks = earlier.get('peaks') or measure_peaks(process)
  runs = earlier.get('earlier', [])
  if earlier:
    runs.append({name: earlier[name] for name in ('date', 'command', 'commit')})
  work = []
  if 'train' in _ROWS.value:
    work += [('train', *system, _BATCH.value, training_figures, max(peaks['matmul_flops'].values()))
             for system in trainers(path).items()]
  if 'decode' in _ROWS.value:
    work += [('decode', *system, _DECODE_BATCH.value, decoding_figures, peaks['copy_bytes'])
             for system in decoders().items()]
  skipped = {} if report.has_transformers() else {'transformers': report.NO_TRANSFORMERS}
  for row, system, run, batch, figures, peak in tqdm.tqdm(work, desc='systems', unit='system'):
    if (row, system) in {(m.row, m.system.rpartition(', ')[0]) for m in measured}:
      continue
    try:
      measured += figures(system, *largest_fitting(run, batch), peak)
    except Exception as error:  # whatever it is, it must not cost the figures of the others
      skipped[f'{row}: {system}'] = f'{type(error).__name__}: {error}'
    report.write(
      _OUT.value, 'experiments.benchmark_gpu', config, hardware, measured, skipped, peaks=peaks,
      earlier=runs)
  print(f'{", ".join(hardware["devices"])}: {max(peaks["matmul_flops"].values()) / 1e12:.1f} '
        f'TFLOP/s in products, {peaks["copy_bytes"] / 1e9:.1f} GB/s in copies')
  report.show(_OUT.value, measured, skipped)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  os.environ.setdefault('CUDA_VISIBLE_DEVICES', '0')
  os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.92')
  config = {flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(argv[0])}
  with commands.clear_errors('benchmark_gpu'), tempfile.TemporaryDirectory() as folder:
    path = _DATA.value
    if path is None:
      path = os.path.join(folder, 'synthetic.array_record')
      packed_rows.write_synthetic(path, 16 * _BATCH.value, _LENGTH.value, _VOCAB.value)
    packed_rows.row_length(path)  # a file that is missing ends it here
    measure(path, config)


if __name__ == '__main__':
  app.run(main)
