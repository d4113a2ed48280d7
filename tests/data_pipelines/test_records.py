"""Record files come back as they were written, whole or not at all."""

import os

import numpy as np
import pytest

from data_pipelines import records

_RECORDS = [
    {'tokens': np.arange(n, dtype=np.int32), 'lists': [np.arange(2), np.arange(n)], 'none': None,
     'text': f'é{n}', 'flag': n > 1, 'spans': np.zeros((0, 2), np.int32)} for n in range(5)]


def _content(path: str) -> bytes:
  with open(path, 'rb') as file:
    return file.read()


def _assert_equal(found, expected):
  assert found.keys() == expected.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(found[key], value) if key in ('tokens', 'spans') else None
  assert (found['text'], found['flag'], found['none']) == (
      expected['text'], expected['flag'], expected['none'])
  for one, other in zip(found['lists'], expected['lists'], strict=True):
    np.testing.assert_array_equal(one, other)


def test_records_come_back_in_order(tmp_path):
  path = records.records_path(tmp_path, 'rl')
  records.write_records(path, iter(_RECORDS), {'stage': 'rl'})
  for found, expected in zip(records.read_records(path), _RECORDS, strict=True):
    _assert_equal(found, expected)
  assert records.read_sidecar(path) == {'records': 5, 'stage': 'rl'}
  assert sorted(os.listdir(tmp_path)) == ['rl.array_record', 'rl.json']


def test_a_writer_that_breaks_leaves_the_old_file_without_a_voucher(tmp_path):
  path = records.records_path(tmp_path, 'rl')
  records.write_records(path, _RECORDS, {})
  whole = _content(path)

  def broken():
    yield _RECORDS[0]
    raise RuntimeError('broken source')

  with pytest.raises(RuntimeError, match='broken source'):
    records.write_records(path, broken(), {})
  assert _content(path) == whole
  with pytest.raises(records.RecordsError, match='rl.json: missing'):
    list(records.read_records(path))
  records.write_records(path, _RECORDS, {})
  assert _content(path) == whole
  assert sorted(os.listdir(tmp_path)) == ['rl.array_record', 'rl.json']


def test_a_missing_file_says_how_to_make_it(tmp_path):
  path = records.records_path(tmp_path, 'cpt')
  with pytest.raises(records.RecordsError) as caught:
    records.read_sidecar(path)
  assert str(caught.value) == (
      f'{path}: missing; make it with python -m experiments.prepare_data '
      f'--trajectories=FOLDER,... --out={tmp_path}')


def test_a_damaged_sidecar_is_named(tmp_path):
  path = records.records_path(tmp_path, 'cpt')
  records.write_records(path, _RECORDS, {})
  with open(records.sidecar_path(path), 'w') as file:
    file.write('{"records": ')
  with pytest.raises(records.RecordsError, match=r'cpt\.json: not JSON .* prepare again'):
    records.read_sidecar(path)
