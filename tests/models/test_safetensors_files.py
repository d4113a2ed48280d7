"""Folders of safetensors read as memory maps and written, against the safetensors package."""

import json

import ml_dtypes
import numpy as np
import pytest

from aw_jax.models import safetensors_files
from aw_jax.models.safetensors_files import SafetensorsError, SafetensorsFolder

pytestmark = pytest.mark.requires('safetensors')

TENSORS = {
  'a': np.arange(12, dtype=np.float32).reshape(3, 4),
  'b': np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(2, 3),
  'c': np.linspace(0, 1, 5, dtype=np.float16), 'scalar': np.array(3.5, np.float32)}


def written(folder, tensors):
  import safetensors.numpy

  safetensors.numpy.save_file(tensors, folder / 'model.safetensors')
  return folder / 'model.safetensors'


def test_files_are_read_as_they_were_written(tmp_path):
  written(tmp_path, TENSORS)
  folder = SafetensorsFolder(tmp_path)
  assert set(folder) == set(TENSORS) and len(folder) == 4
  for name, expected in TENSORS.items():
    np.testing.assert_array_equal(folder[name], expected, strict=True)
    assert isinstance(folder[name].base if folder[name].ndim else folder[name], np.memmap)


def test_files_are_of_bounded_size_and_have_an_index(tmp_path):
  safetensors_files.write(TENSORS.items(), tmp_path, max_bytes=60)
  names = sorted(path.name for path in tmp_path.glob('*.safetensors'))
  assert names == ['model-00001.safetensors', 'model-00002.safetensors']
  import safetensors.numpy

  index = json.loads((tmp_path / 'model.safetensors.index.json').read_text())
  assert index['metadata']['total_size'] == sum(x.nbytes for x in TENSORS.values())
  for name, expected in TENSORS.items():
    found = safetensors.numpy.load_file(tmp_path / index['weight_map'][name])[name]
    np.testing.assert_array_equal(found, expected, strict=True)
  for name, expected in TENSORS.items():
    np.testing.assert_array_equal(SafetensorsFolder(tmp_path)[name], expected, strict=True)


def test_a_file_that_the_index_names_and_is_not_there(tmp_path):
  safetensors_files.write(TENSORS.items(), tmp_path, max_bytes=60)
  (tmp_path / 'model-00002.safetensors').unlink()
  with pytest.raises(SafetensorsError, match=r'model-00002\.safetensors: missing, but the index'):
    SafetensorsFolder(tmp_path)


@pytest.mark.parametrize('size', [4, 40, -3])
def test_a_torn_file_is_named(tmp_path, size):
  path = written(tmp_path, TENSORS)
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(SafetensorsError, match=r'model\.safetensors: torn'):
    SafetensorsFolder(tmp_path)


@pytest.mark.parametrize('content', [
  b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n', b'\xff' * 40, b'',
  (2).to_bytes(8, 'little') + b'[]'])
def test_what_is_no_safetensors_file(tmp_path, content):
  (tmp_path / 'model.safetensors').write_bytes(content)
  with pytest.raises(SafetensorsError, match=r'model\.safetensors: torn or no safetensors file'):
    SafetensorsFolder(tmp_path)


@pytest.mark.parametrize('change', [
  {'shape': [3, 5]}, {'shape': [-3, -4]}, {'shape': 'wide'}, {'data_offsets': [0]}, {'dtype': None},
  {'data_offsets': ['0', '48']}, {'data_offsets': [-48, 0]}])
def test_a_tensor_that_does_not_fit_its_bytes_is_named(tmp_path, change):
  path = written(tmp_path, {'a': TENSORS['a']})
  size = int.from_bytes(path.read_bytes()[:8], 'little')
  header = json.loads(path.read_bytes()[8:8 + size])
  header['a'] |= change
  raw = json.dumps(header).encode()
  path.write_bytes(len(raw).to_bytes(8, 'little') + raw + path.read_bytes()[8 + size:])
  with pytest.raises(SafetensorsError, match=r'model\.safetensors: .*\ba\b'):
    SafetensorsFolder(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(SafetensorsError, match='missing: no such folder'):
    SafetensorsFolder(tmp_path / 'missing')


def test_tensors_that_a_reader_would_take_for_ours(tmp_path):
  safetensors_files.require_none_of_others(tmp_path / 'missing')
  (tmp_path / 'model-00001.safetensors').touch()  # of an export that was stopped
  safetensors_files.require_none_of_others(tmp_path)
  written(tmp_path, TENSORS)
  with pytest.raises(SafetensorsError, match=r'/model\.safetensors: is there already'):
    safetensors_files.require_none_of_others(tmp_path)


def test_a_folder_without_any(tmp_path):
  with pytest.raises(SafetensorsError, match=r'no \*\.safetensors file'):
    SafetensorsFolder(tmp_path)


def test_integers_are_no_parameters(tmp_path):
  written(tmp_path, {'ids': np.arange(3)})
  with pytest.raises(SafetensorsError, match='ids is I64; parameters are F64, F32'):
    SafetensorsFolder(tmp_path)
