"""Every row of both benchmarks through the real commands at tiny sizes; what they count with."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aw_jax.models.cache import init_cache
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.training import data
from data_pipelines.records import RecordsError
from experiments.benchmarks import loss_curve, packed_rows, processes, report, roofline, timing
from experiments.benchmarks.markov import MarkovSource
from experiments.benchmarks.timing import Measured

ROOT = pathlib.Path(__file__).resolve().parents[2]
TINY = ['--vocab_size=64', '--width=16', '--layers=1', '--heads=2', '--kv_heads=1', '--head_dim=8',
        '--mlp_width=32', '--batch=2', '--length=32', '--steps=1', '--repetitions=1',
        '--decode_batch=4', '--prompt=4']


# Nearly all of the time goes into compiling: as little as can be.
COMPILED_SOON = {
  'XLA_FLAGS': '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'}


def run(command, *arguments, **environment):
  return subprocess.run(
    [sys.executable, '-m', command, *arguments], cwd=ROOT,
    env=os.environ | COMPILED_SOON | environment, capture_output=True, text=True, timeout=600,
    check=False)


@pytest.fixture
def no_tensorflow(tmp_path):
  """A folder that goes first on the path, in which TensorFlow and seqio cannot be imported."""
  folder = tmp_path / 'without'
  folder.mkdir()
  for name in ('tensorflow', 'seqio', 'tensorflow_datasets'):
    (folder / f'{name}.py').write_text(f'raise ImportError("{name} was imported")\n')
  return os.pathsep.join([str(folder), str(ROOT)])


# --- the commands ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.requires('torch', 'transformers', 'bwrap')
def test_every_row_of_the_benchmark(tmp_path, no_tensorflow):
  out = tmp_path / 'benchmark.json'
  done = run(
    'experiments.benchmark', *TINY, f'--out={out}', '--new_tokens=4', '--decode_calls=1',
    '--curve_steps=4', '--curve_window=2', '--delta_lengths=16', '--lengths=32',
    '--batch_tokens=64', '--devices=2', '--device_rows=1', '--device_decodes=1', '--clients=2',
    '--rewards=8', '--group=4', '--domains=terminal', '--episodes=2', '--workers=1',
    PYTHONPATH=no_tensorflow)
  assert done.returncode == 0, done.stderr
  figures = json.loads(out.read_text())
  assert figures['skipped'] == {}
  found = {(row['row'], row['system']) for row in figures['rows']}
  assert found == {
    *(('train', name) for name in ('aw_jax float32', 'aw_jax bfloat16', 'transformers float32',
                                   'transformers bf16 autocast')),
    *(('decode', f'{side} {dtype}') for side in ('aw_jax', 'transformers')
      for dtype in ('float32', 'bfloat16')),
    *((f'delta {way}', f'{form}, 2 x 16') for way in ('forward', 'backward')
      for form in ('chunked', 'recurrent')),
    ('length', 'attention, 2 x 32'), ('length', 'delta_net, 2 x 32'),
    ('devices, train', 'data 2'), ('devices, train', 'fsdp 2'), ('devices, decode', 'data 2'),
    ('serving', 'server, 2 clients'), ('serving', 'library, batch of 2'),
    ('rewards', 'terminal'), ('rewards', 'mcp'), ('collect', 'terminal')}
  assert all(sample > 0 for row in figures['rows'] for sample in row['samples'])
  curves = figures['loss_curve']
  assert {len(curve) for curve in curves['curves'].values()} == {4}
  # Float32 of both sides is the same training; bfloat16 is another, and hardly so.
  gaps = curves['gap_to_float32']
  assert gaps['transformers float32']['largest'] < 1e-4
  assert 0 < gaps['aw_jax bfloat16']['largest'] < 0.01
  assert gaps['aw_jax float32, other batches']['largest'] > 1e-3
  assert figures['config']['curve_steps'] == 4
  assert '--curve_steps=4' in figures['command']
  for _, system in found:
    assert system in done.stdout


@pytest.mark.slow
@pytest.mark.requires('torch', 'transformers')
def test_every_row_of_the_accelerator(tmp_path, no_tensorflow):
  out = tmp_path / 'benchmark_gpu.json'
  done = run(
    'experiments.benchmark_gpu', *TINY, f'--out={out}', '--new_tokens=128', '--matmul_sizes=64',
    '--matmul_sizes=128', '--copy_mib=1', '--nocompile', PYTHONPATH=no_tensorflow)
  assert done.returncode == 0, done.stderr
  figures = json.loads(out.read_text())
  assert figures['skipped'] == {}
  assert figures['hardware']['devices'] == ['cpu']
  assert set(figures['peaks']['matmul_flops']) == {'64', '128'}
  found = {(row['row'], row['system'], row['unit']) for row in figures['rows']}
  assert found == {
    *(('train', f'{system}, 2 rows', unit) for system in (
      'aw_jax', 'transformers bf16 autocast', 'transformers bf16 parameters')
      for unit in ('tokens/s', '% of peak FLOPs')),
    *(('decode', f'{system}, 4 rows', unit) for system in ('aw_jax', 'transformers')
      for unit in ('tokens/s', '% of peak bandwidth'))}
  assert 'tokens/s' in done.stdout and 'GB/s' in done.stdout


def test_the_accelerator_is_left_to_the_processes_that_measure(no_tensorflow):
  program = ('import experiments.benchmark_gpu\n'
             'from jax._src import xla_bridge\n'
             'print(xla_bridge.backends_are_initialized())')
  done = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, env=os.environ | {'PYTHONPATH': no_tensorflow},
    capture_output=True, text=True, timeout=120, check=False)
  assert done.stdout == 'False\n', done.stderr


def test_what_does_not_fit_is_refused():
  done = run('experiments.benchmark', '--lengths=3', '--batch_tokens=64')
  assert done.returncode and 'every one of --lengths divides --batch_tokens' in done.stderr
  done = run('experiments.benchmark_gpu', '--data=none.array_record')
  assert done.returncode and 'none.array_record: missing' in done.stderr
  assert 'Traceback' not in done.stderr


# --- processes ------------------------------------------------------------------------------------


def test_memory_that_does_not_suffice():
  with pytest.raises(MemoryError):
    processes.alone('jax_accelerator.copy_peak', 2**30, 1)  # 2^50 bytes


def test_half_of_a_batch_that_does_not_fit():
  tried = []

  def measure(batch, room):
    tried.append(batch)
    if batch > room:
      raise MemoryError
    return batch * 10

  assert processes.largest_fitting(lambda batch: measure(batch, 3), 8) == (2, 20)
  assert tried == [8, 4, 2]
  with pytest.raises(MemoryError):
    processes.largest_fitting(lambda batch: measure(batch, 0), 2)


# --- what figures are shares of -------------------------------------------------------------------

CONFIG = ModelConfig(
  vocab_size=512, width=256, layers=1, heads=4, kv_heads=2, head_dim=64, mlp_width=768,
  dtype='float32', query_block=64)  # eight blocks at most: XLA counts loops once


def counted_by_xla(length, rows=2):
  """FLOPs of the logits of whole rows, elementwise ones too."""
  params = nn.unbox(jax.eval_shape(lambda key: init_params(CONFIG, key), jax.random.key(0)))
  tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
  lowered = jax.jit(lambda p, t: Decoder(CONFIG).apply({'params': p}, t)).lower(params, tokens)
  return lowered.cost_analysis()['flops']


def forward_flops(length, rows=2):
  return roofline.train_flops(CONFIG, np.tile(np.arange(length), (rows, 1))) / 3


def test_model_flops_are_those_that_xla_counts():
  assert counted_by_xla(256) == pytest.approx(forward_flops(256), rel=0.03)


def test_attention_flops_are_those_that_xla_counts():
  """What grows faster than the length; blocks of queries read a little more than they must."""
  counted = counted_by_xla(512) - 2 * counted_by_xla(256)
  assert counted == pytest.approx(forward_flops(512) - 2 * forward_flops(256), rel=0.1)


def test_flops_of_packed_rows_are_those_of_their_segments():
  packed = np.concatenate([np.arange(5), np.arange(11)])
  assert roofline.train_flops(CONFIG, packed) == (
    roofline.train_flops(CONFIG, np.arange(5)) + roofline.train_flops(CONFIG, np.arange(11)))


def test_bytes_of_a_decode_step_are_those_of_parameters_and_cache():
  config = dataclasses.replace(CONFIG, layers=3, cache_dtype='bfloat16')
  params = nn.unbox(jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0)))
  matrices = sum(
    2 * leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    if 'norm' not in jax.tree_util.keystr(path))
  cache = jax.eval_shape(lambda: init_cache(config, 5, 128))
  keys_and_values = sum(
    2 * leaf.size for layer in cache.layers for leaf in (*layer.mixer.k, *layer.mixer.v))
  assert roofline.decode_bytes(config, 5, [128]) == matrices + keys_and_values
  assert roofline.decode_bytes(config, 5, [128, 128]) == 2 * (matrices + keys_and_values)


def test_only_what_is_understood_is_counted():
  experts = dataclasses.replace(CONFIG, experts=4, experts_per_token=2, expert_width=8)
  with pytest.raises(ValueError, match='dense'):
    roofline.matmul_params(experts)


# --- data -----------------------------------------------------------------------------------------


@given(vocab_size=st.integers(2, 300), seed=st.integers(0, 9))
def test_a_source_has_the_ids_of_the_vocabulary_but_padding(vocab_size, seed):
  tokens = MarkovSource(vocab_size).sample(3, 40, seed)
  assert tokens.shape == (3, 40)
  assert 1 <= tokens.min() <= tokens.max() < vocab_size
  np.testing.assert_array_equal(tokens, MarkovSource(vocab_size).sample(3, 40, seed))


def test_the_entropy_of_a_source_is_that_of_its_samples():
  source = MarkovSource(17, branches=4)
  tokens = source.sample(200, 400, seed=0)
  counts = np.zeros((17, 17))
  np.add.at(counts, (tokens[:, :-1], tokens[:, 1:]), 1)
  assert set(np.count_nonzero(counts, axis=1)) == {0, 4}  # 0 is padding
  probabilities = counts[1:] / counts[1:].sum(axis=1, keepdims=True)
  logs = np.log(probabilities, where=probabilities > 0, out=np.zeros_like(probabilities))
  assert -np.sum(counts[1:] * logs) / counts.sum() == pytest.approx(source.entropy, abs=0.01)


def test_synthetic_rows_are_read_as_packed_ones(tmp_path):
  path = tmp_path / 'rows.array_record'
  packed_rows.write_synthetic(path, rows=6, length=16, vocab_size=40)
  assert packed_rows.row_length(path) == 16
  batch = data.batches(path, 4, seed=0, seq_len=16)(0)
  assert batch['tokens'].shape == (4, 16) and batch['tokens'].min() > 0
  np.testing.assert_array_equal(batch['positions'], np.tile(np.arange(16), (4, 1)))
  np.testing.assert_array_equal(batch['segment_ids'], np.ones((4, 16)))
  np.testing.assert_array_equal(batch['loss_weights'], np.tile(np.arange(16) > 0, (4, 1)))


def test_rows_of_another_vocabulary_are_refused(tmp_path):
  path = tmp_path / 'rows.array_record'
  packed_rows.write_synthetic(path, rows=6, length=16, vocab_size=40)
  with pytest.raises(packed_rows.VocabularyError, match='--vocab_size'):
    packed_rows.time_steps(
      lambda rows: 0.0, lambda rows: 0, path, 5, batch=2, steps=1, repetitions=1)
  with pytest.raises(RecordsError, match='missing'):
    packed_rows.row_length(tmp_path / 'none.array_record')


def test_measurements_go_on_through_the_rows(tmp_path):
  path, seen = tmp_path / 'rows.array_record', []
  packed_rows.write_synthetic(path, rows=6, length=16, vocab_size=40)
  found = packed_rows.time_steps(
    lambda rows: seen.append(rows['tokens']) or 0.0, lambda rows: 7, path, 40, batch=2, steps=2,
    repetitions=2)
  assert len(seen) == 6  # a measurement that does not count, and two
  assert [(s.tokens, s.flops) for s in found] == [(64, 14)] * 2
  assert len({tokens.tobytes() for tokens in seen[:3]}) == 3


# --- figures --------------------------------------------------------------------------------------


def test_the_gap_of_two_curves():
  np.testing.assert_allclose(loss_curve.smoothed([1, 2, 3, 6], 2), [1.5, 2.5, 4.5])
  found = loss_curve.gap([1, 2, 3, 6], [1, 2, 5, 4], 2)
  assert found == pytest.approx({'largest': 1.0, 'mean': 1 / 3, 'last': 0.0})


def test_ratios_are_of_rates_of_the_same_row():
  measured = [
    Measured('train', 'aw_jax', 'tokens/s', (30.0, 20.0, 10.0)),
    Measured('train', 'aw_jax', '% of peak FLOPs', (50.0,)),
    Measured('train', 'transformers', 'tokens/s', (10.0,)),
    Measured('decode', 'transformers', 'tokens/s', (1.0,)),
    Measured('rewards', 'terminal', 'rewards/s', (3.0,))]
  assert report.ratios(measured) == {'train: aw_jax / transformers': 2.0}
  lines = report.table(measured).splitlines()
  assert lines[1].split() == ['train', 'aw_jax', '20.0', '10.0', '30.0', 'tokens/s']
  assert len({line.index('.') for line in lines[1:6]}) == 1
  assert lines[-1].split() == ['2.00', 'x', 'train:', 'aw_jax', '/', 'transformers']


def test_the_first_measurement_does_not_count():
  calls = []
  measured = timing.take_turns(
    'row', 'calls/s', {name: lambda name=name: calls.append(name) or 1 for name in 'ab'}, 2)
  assert calls == ['a', 'b'] * 3
  assert [len(m.samples) for m in measured] == [2, 2]


def test_decoding_that_is_lost_in_the_noise_is_refused():
  def decode(prompts, new_tokens):
    time.sleep(0.05 if new_tokens == 1 else 0)

  with pytest.raises(timing.TooShortError, match='--new_tokens'):
    timing.decode_seconds(decode, np.zeros((1, 1), np.int32), 9, 1)


def test_a_record_goes_on_only_where_it_is_of_the_same_run(tmp_path):
  path = tmp_path / 'record.json'
  config, hardware = {'layers': 2}, {'devices': ['cpu']}
  assert report.read(path, config, ['cpu']) == ([], {})
  measured = [Measured('train', 'aw_jax', 'tokens/s', (1.0, 2.0))]
  report.write(path, 'command', config, hardware, measured, {}, peaks=3)
  found, record = report.read(path, config, ['cpu'])
  assert found == measured and record['peaks'] == 3
  for name, other in (('--layers 2', ({'layers': 3}, ['cpu'])), ('devices', (config, ['gpu']))):
    with pytest.raises(report.ReportError, match=f'record.json: was measured with {name}'):
      report.read(path, *other)
  path.write_text(json.dumps(record | {'versions': {'jax': '0.0'}}))
  with pytest.raises(report.ReportError, match='was measured with versions'):
    report.read(path, config, ['cpu'])
  path.write_text('{}')
  with pytest.raises(report.ReportError, match='not a record of this command'):
    report.read(path, config, ['cpu'])
