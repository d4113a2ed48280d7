"""Two processes of four devices train as one process of eight, and as one of a single device."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from aw_jax.tokenizer import Tokenizer
from aw_jax.training.checkpoints import load_params
from aw_jax.training.runner import read_metrics
from data_pipelines import packing, records

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
SEQ_LEN, RECORDS, STEPS = 32, 40, 8


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """A vocabulary and packed records; the first token of a record is its number and no other's."""
  folder = tmp_path_factory.mktemp('records') / 'data'
  folder.mkdir()
  tokenizer = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
  tokenizer.save(folder / tokenizer.file_name)
  rng = np.random.default_rng(0)
  examples = [
    packing.example([20 + i, *rng.integers(70, 90, SEQ_LEN - 1)], [1.0] * SEQ_LEN)
    for i in range(RECORDS)]
  rows = packing.rows_of(packing.pack(examples, SEQ_LEN))
  records.write_records(
    records.records_path(folder, 'cpt'), rows,
    {'tokenizer': tokenizer.fingerprint, 'seq_len': SEQ_LEN})
  return folder


def free_port() -> int:
  with socket.socket() as listener:
    listener.bind(('127.0.0.1', 0))
    return listener.getsockname()[1]


def start(workdir, processes, devices, *arguments):
  """The processes of one run, `devices` each."""
  environment = os.environ | {
    'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices), 'PYTHONPATH': str(ROOT)}
  command = [sys.executable, HERE / 'many_devices_run.py', workdir, *map(str, arguments)]
  together = [f'--coordinator=127.0.0.1:{free_port()}', f'--num_processes={processes}']
  flags = [[*together, f'--process_id={i}'] for i in range(processes)] if processes > 1 else [[]]
  return [
    subprocess.Popen([*command, *own], env=environment, stderr=subprocess.PIPE, text=True)
    for own in flags]


def ended(run) -> list[tuple[int, str]]:
  """(exit status, stderr) of each process."""
  try:
    errors = [process.communicate(timeout=300)[1] for process in run]
  finally:
    for process in run:
      process.kill()
  return [(process.returncode, error) for process, error in zip(run, errors, strict=True)]


def train(workdir, processes, devices, *arguments):
  """Runs to the end, and returns the stage's metrics."""
  for status, errors in ended(start(workdir, processes, devices, *arguments)):
    assert status == 0, errors
  return read_metrics(workdir / 'cpt')


def losses(metrics):
  return [line['loss'] for line in metrics]


@pytest.fixture(scope='module')
def runs(data, tmp_path_factory):
  """Work directories of the same run on two times four devices, one times eight, and one device."""
  folder, found = tmp_path_factory.mktemp('runs'), {}
  for name, (processes, devices, mesh) in {
      'two': (2, 4, '4x2x1'), 'eight': (1, 8, '2x2x2'), 'one': (1, 1, '1x1x1')}.items():
    workdir = folder / name
    shutil.copytree(data, workdir / 'data')
    assert len(train(workdir, processes, devices, STEPS, mesh)) == STEPS
    found[name] = workdir
  return found


@pytest.mark.parametrize('other', ['eight', 'one'])
def test_the_losses_are_those_of_one_process(runs, other):
  two, alone = (losses(read_metrics(runs[name] / 'cpt')) for name in ('two', other))
  np.testing.assert_allclose(two, alone, rtol=1e-5)
  assert two[-1] < two[0] - 0.1


def test_each_process_reads_its_own_share(runs):
  """Of every batch one half each, and together what one process alone reads."""
  opened = [json.loads((runs['two'] / f'opened_{i}.json').read_text()) for i in (0, 1)]
  alone = json.loads((runs['one'] / 'opened_0.json').read_text())
  assert [found['devices'] for found in opened] == [4, 4] and alone['devices'] == 1
  halves = [np.reshape(found['records'], (STEPS, -1)) for found in opened]
  batches = np.reshape(alone['records'], (STEPS, -1))
  assert halves[0].shape == halves[1].shape == (STEPS, 8)
  np.testing.assert_array_equal(np.concatenate(halves, axis=1), batches)


def test_both_save_one_checkpoint(runs):
  two, alone = (load_params(runs[name] / 'cpt')[0] for name in ('two', 'one'))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), two, alone)
  assert sorted(path.name for path in (runs['two'] / 'cpt' / 'steps').iterdir()) == ['4', '8']


def test_each_process_notes_the_checksums_of_its_own_arrays(runs):
  for process in (0, 1):
    files = json.loads((runs['two'] / f'opened_{process}.json').read_text())['files']
    assert {found for name in files for found in re.findall(r'ocdbt\.process_(\d)/d/', name)} == {
      str(process)}


def test_what_one_process_finds_damaged_is_damaged_for_both(runs, tmp_path):
  """Each reads a share of the files, and both go on from the step before, with a warning."""
  shutil.copytree(runs['two'], tmp_path / 'two')
  newest = tmp_path / 'two' / 'cpt' / 'steps' / str(STEPS) / 'default'
  notes = sorted(newest.rglob('checksums.json'))
  assert [str(path.parent.relative_to(newest)) for path in notes] == [
    '.', 'ocdbt.process_0', 'ocdbt.process_1']
  noted = [
    str((path.parent / name).relative_to(newest)) for path in notes
    for name in json.loads(path.read_text())]
  assert sorted(set(noted)) == sorted(noted)
  for name in sorted(noted)[-1], sorted(noted)[-2]:  # of two processes, one each
    folder = tmp_path / name.replace('/', '_')
    shutil.copytree(tmp_path / 'two', folder)
    harmed = folder / 'cpt' / 'steps' / str(STEPS) / 'default' / name
    harmed.write_bytes(harmed.read_bytes()[:-1])
    run = ended(start(folder, 2, 4, STEPS + 1, '4x2x1'))
    assert [status for status, _ in run] == [0, 0]
    assert f'step {STEPS} is not whole ({name} is damaged); going on from step 4' in run[0][1]
    assert [line['step'] for line in read_metrics(folder / 'cpt')] == list(range(1, STEPS + 2))


@pytest.fixture(scope='module')
def continued(runs, tmp_path_factory):
  """The losses of the run on one device, four steps longer."""
  workdir = tmp_path_factory.mktemp('continued') / 'one'
  shutil.copytree(runs['one'], workdir)
  return losses(train(workdir, 1, 1, STEPS + 4, '1x1x1'))


@pytest.mark.parametrize(('saved', 'processes', 'devices', 'mesh'), [
  ('two', 1, 2, '1x2x1'), ('one', 2, 4, '2x1x4')])
def test_a_run_goes_on_elsewhere(runs, continued, tmp_path, saved, processes, devices, mesh):
  """From another number of processes, devices and another mesh, with the losses of one device."""
  shutil.copytree(runs[saved], tmp_path / saved)
  found = train(tmp_path / saved, processes, devices, STEPS + 4, mesh)
  assert found[:STEPS] == read_metrics(runs[saved] / 'cpt')
  np.testing.assert_allclose(losses(found), continued, rtol=1e-5)


def test_given_parameters_and_rows_that_both_hold(runs, continued, data, tmp_path):
  """On a mesh whose only axis spans both processes, each reads whole batches."""
  shutil.copytree(data, tmp_path / 'data')
  found = losses(train(tmp_path, 2, 2, 2, '1x1x4', runs['eight'] / 'cpt'))
  opened = [json.loads((tmp_path / f'opened_{i}.json').read_text())['records'] for i in (0, 1)]
  assert opened[0] == opened[1] and len(opened[0]) == 2 * 16
  assert found[0] < continued[0] - 0.1


def test_sigterm_to_one_ends_both_at_the_same_step(runs, data, tmp_path):
  shutil.copytree(data, tmp_path / 'data')
  run = start(tmp_path, 2, 4, 5000, '8x1x1')
  deadline = time.monotonic() + 120
  while not read_metrics(tmp_path / 'cpt') and time.monotonic() < deadline:
    time.sleep(0.05)
  run[1].send_signal(signal.SIGTERM)
  (first, errors), (second, _) = ended(run)
  assert first == second == 1
  assert 'Traceback' not in errors
  assert 'many_devices_run: cpt: ended by SIGTERM, step ' in errors
  step = max(int(path.name) for path in (tmp_path / 'cpt' / 'steps').iterdir())
  assert f'step {step} of 5000 is saved; the same command goes on from there' in errors
  assert read_metrics(tmp_path / 'cpt')[-1]['step'] == step
  found = train(tmp_path, 1, 1, step + 1, '1x1x1')
  assert found[-1]['step'] == step + 1


def test_an_error_of_the_first_process_is_that_of_all(data, tmp_path):
  shutil.copytree(data, tmp_path / 'data')
  (tmp_path / 'cpt').mkdir()
  (tmp_path / 'cpt' / 'model.json').write_text('{')
  for status, errors in ended(start(tmp_path, 2, 1, STEPS, '2x1x1')):
    assert status == 1 and 'Traceback' not in errors
    assert f'many_devices_run: {tmp_path / "cpt" / "model.json"}: no model config' in errors


def test_several_processes_make_no_data(tmp_path):
  """Of the command itself."""
  flags = [f'--coordinator=127.0.0.1:{free_port()}', '--num_processes=2', f'--workdir={tmp_path}']
  run = [
    subprocess.Popen(
      [sys.executable, '-m', 'experiments.train', f'--process_id={i}', *flags], cwd=ROOT,
      stderr=subprocess.PIPE, text=True)
    for i in (0, 1)]
  for status, errors in ended(run):
    assert status == 1 and 'Traceback' not in errors
    assert f'train: {tmp_path / "data"}: no records, and several processes make none; run the ' \
           'same command with --data_only in one process first' in errors


MESSAGE = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from aw_jax.training.processes import on_every_process, on_first_process
assert on_every_process(lambda: 'x' * jax.process_index() or None) == [None, 'x']
text = on_first_process(lambda: 'a long path/' * 600 + '\\udcff')
assert on_first_process(lambda: None) is None and on_first_process(lambda: '') == ''
print(len(text), text[-6:])
"""


def test_a_long_message_reaches_the_others_whole():
  address = f'127.0.0.1:{free_port()}'
  started = [subprocess.Popen(
    [sys.executable, '-c', MESSAGE, address, str(i)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
    stderr=subprocess.PIPE, env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'})
    for i in range(2)]
  outputs = [process.communicate(timeout=120) for process in started]
  assert [process.returncode for process in started] == [0, 0], outputs
  # What is no UTF-8 is spelt out.
  assert outputs[1][0].splitlines()[-1] == f'{12 * 600 + 6} \\udcff'
