"""Indexes of libraries in the cache: made once, whole or not at all."""

import concurrent.futures
import os
import resource

import pytest

from aw_jax.environments import search_index, search_sources
from aw_jax.environments.base import BrokenEnvironmentError, MissingProgramError
from aw_jax.environments.servers import search as server

LINES = ''.join(
    f'{i:08d} 05 n 01 thing{i} 0 000 | the {i}th of all things\n' for i in range(2000))


@pytest.fixture
def nouns(tmp_path, monkeypatch):
  """A file in WordNet's place, with a cache directory that is still empty."""
  path = tmp_path / 'data.noun'
  path.write_text(LINES, encoding='utf-8')
  monkeypatch.setattr(search_sources, 'WORDNET', str(path))
  monkeypatch.setenv('AW_JAX_CACHE', str(tmp_path / 'cache'))
  search_sources.synsets.cache_clear()
  yield path
  search_sources.synsets.cache_clear()


def found(folder, query):
  """How many documents of an index match."""
  return server.Collection(server.tantivy.Index.open(folder)).search(query, 0, 1)[0]


def test_workers_that_start_together_make_an_index_once(nouns, monkeypatch):
  made, make_index = [], server.make_index
  monkeypatch.setattr(
      server, 'make_index', lambda *arguments: made.append(make_index(*arguments)))
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    folders = set(pool.map(lambda _: search_index.index_folder(['wordnet']), range(8)))
  assert len(folders) == len(made) == 1
  assert found(*folders, 'things') == 2000


def test_other_files_get_another_index(nouns):
  before = search_index.index_folder(['wordnet'])
  nouns.write_text(LINES.replace('thing7 ', 'seventh '), encoding='utf-8')
  search_sources.synsets.cache_clear()
  after = search_index.index_folder(['wordnet'])
  assert [found(folder, 'seventh') for folder in (before, after)] == [0, 1]


def test_what_a_kill_left_over_is_made_again(nouns):
  folder = search_index.index_folder(['wordnet'])
  os.rename(folder, f'{folder}.partial')
  os.unlink(f'{folder}.partial/meta.json')
  assert search_index.index_folder(['wordnet']) == folder and found(folder, 'things') == 2000
  assert not os.path.exists(f'{folder}.partial')


def test_a_full_disk_is_said_in_a_sentence_and_leaves_nothing(nouns, tmp_path):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
  try:
    with pytest.raises(BrokenEnvironmentError, match='wordnet cannot be written.*: make room, or'):
      search_index.index_folder(['wordnet'])
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert os.listdir(tmp_path / 'cache' / 'search') == ['wordnet.lock']
  assert found(search_index.index_folder(['wordnet']), 'things') == 2000


def test_a_cache_that_is_no_directory_is_said_in_a_sentence(nouns, tmp_path):
  (tmp_path / 'cache').write_text('')
  with pytest.raises(BrokenEnvironmentError, match='set AW_JAX_CACHE to another directory'):
    search_index.index_folder(['wordnet'])


def test_a_missing_library_is_said_with_its_install_line(nouns):
  nouns.unlink()
  with pytest.raises(MissingProgramError, match="'wordnet' is not installed: apt-get install -y"):
    search_index.index_folder(['wordnet'])
