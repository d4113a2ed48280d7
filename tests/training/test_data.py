"""Batches are a function of (seed, step), on any number of hosts, after any restart."""

import subprocess
import sys

import numpy as np
import pytest

from aw_jax.training import data
from data_pipelines import packing, records

_SEQ_LEN = 16
_NUM_RECORDS = 10


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
  path = records.records_path(tmp_path_factory.mktemp('records'), 'cpt')
  examples = [packing.example([n + 1] * _SEQ_LEN, [1.0] * _SEQ_LEN) for n in range(_NUM_RECORDS)]
  rows = packing.rows_of(packing.pack(examples, _SEQ_LEN))
  rows = [{**row, 'ids': [f'task {i}']} for i, row in enumerate(rows)]
  records.write_records(path, rows, {'tokenizer': 'abc', 'seq_len': _SEQ_LEN})
  return path


@pytest.fixture(scope='module')
def ragged(tmp_path_factory):
  path = records.records_path(tmp_path_factory.mktemp('records'), 'rl')
  made = [{'prompt': np.arange(n + 1), 'observation': 'x' * n} for n in range(_NUM_RECORDS)]
  records.write_records(path, made, {'tokenizer': 'abc', 'seq_len': _SEQ_LEN})
  return path


def _assert_same(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])


def test_a_batch_stacks_the_packed_fields(packed):
  batches = data.batches(packed, 4, seed=0, tokenizer='abc', seq_len=_SEQ_LEN)
  batch = batches(0)
  assert set(batch) == set(packing.FIELDS) and len(batches) == 2
  for name in packing.FIELDS:
    assert batch[name].shape == (4, _SEQ_LEN)
    assert batch[name].dtype == (np.float32 if name == 'loss_weights' else np.int32)


def test_any_step_is_the_same_after_a_restart(packed):
  first = data.batches(packed, 4, seed=3)
  unbroken = [first(step) for step in range(12)]
  for step in (11, 0, 7):
    _assert_same(data.batches(packed, 4, seed=3)(step), unbroken[step])


def test_every_epoch_sees_every_record_in_an_order_of_its_own(packed):
  batches = data.batches(packed, 5, seed=1)
  epochs = [np.concatenate([batches(2 * epoch + half)['tokens'][:, 0] for half in (0, 1)])
            for epoch in range(3)]
  for epoch in epochs:
    assert sorted(epoch) == list(range(1, _NUM_RECORDS + 1))
  assert len({tuple(epoch) for epoch in epochs}) == 3
  other = data.batches(packed, 5, seed=2)
  assert (np.concatenate([other(0)['tokens'], other(1)['tokens']])[:, 0] != epochs[0]).any()


@pytest.mark.parametrize('hosts', [2, 3, 6])
def test_hosts_share_the_same_global_batch(hosts, packed):
  alone = data.batches(packed, 6, seed=5)
  shares = [data.batches(packed, 6, 5, host, hosts) for host in range(hosts)]
  for step in (0, 1, 9):
    found = [share(step) for share in shares]
    _assert_same(
        {name: np.concatenate([part[name] for part in found]) for name in packing.FIELDS},
        alone(step))


def test_ragged_records_come_as_a_list(ragged):
  batch = data.batches(ragged, 3, seed=0)(2)
  assert isinstance(batch, list) and len(batch) == 3
  assert all(len(record['prompt']) == len(record['observation']) + 1 for record in batch)


@pytest.mark.parametrize('arguments, message', [
    ({'tokenizer': 'xyz'}, 'made with vocabulary abc, but the model has xyz; prepare the records'),
    ({'seq_len': 32}, 'rows of 16 tokens, but the config says 32; prepare the records again'),
    ({'process_count': 3}, 'a batch of 4 cannot be shared by 3 hosts; choose a multiple'),
])
def test_what_does_not_fit_is_said(arguments, message, packed):
  with pytest.raises(data.RecordsError, match=message):
    data.batches(packed, 4, seed=0, **arguments)


def test_missing_and_empty_files_are_said(tmp_path):
  path = records.records_path(tmp_path, 'cpt')
  with pytest.raises(data.RecordsError, match='make it with python -m experiments.prepare_data'):
    data.batches(path, 4, seed=0)
  records.write_records(path, [], {'tokenizer': 'abc', 'seq_len': _SEQ_LEN})
  with pytest.raises(data.RecordsError, match='no records; prepare it from more trajectories'):
    data.batches(path, 4, seed=0)


def test_reading_needs_no_tensorflow(packed):
  code = f"""
import sys
from aw_jax.training import data
data.batches({packed!r}, 4, seed=0)(0)
heavy = {{'tensorflow', 'seqio', 'tensorflow_datasets'}} & set(sys.modules)
assert not heavy, heavy
"""
  subprocess.run([sys.executable, '-c', code], check=True, timeout=120)
