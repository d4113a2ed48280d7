"""The search server's tools over small collections, and how pages are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver.exceptions import ToolError

from aw_jax.environments.servers import search
from aw_jax.environments.servers.search import PART_CHARACTERS, Engine, parts, passages

DOCUMENTS = [
    ['https://a.test/oslo', 'Oslo', 'Oslo is the capital of Norway.\nIt lies at a fjord.'],
    ['https://a.test/norway', 'Norway', 'Norway has many fjords and one capital city.'],
    ['https://a.test/peru', 'Peru', 'Peru has its capital at Lima. ' + 'Lima again. ' * 90],
    ['https://a.test/chopin', 'Frédéric Chopin', 'A composer of nocturnes.'],
    *([f'https://a.test/town-{i}', f'Town {i}', 'A town with a market.'] for i in range(40)),
]
LINES = st.lists(st.text(st.characters(exclude_characters='\n'), max_size=1200), max_size=8)


@pytest.fixture
def engine(tmp_path):
  path = tmp_path / 'world' / 'collection.json'
  path.parent.mkdir()
  path.write_text(json.dumps({'documents': DOCUMENTS}), encoding='utf-8')
  return Engine(str(path))


def ranked(answer):
  """Addresses of an answer's results in order."""
  return [line.strip() for line in answer.split('\n') if line.startswith('   https://')]


@given(LINES)
def test_parts_hold_all_of_a_text_and_no_part_is_long(lines):
  text = '\n'.join(lines)
  found = parts(text)
  assert found and all(len(part) <= PART_CHARACTERS for part in found)
  assert ''.join(''.join(found).split()) == ''.join(text.split())


def test_parts_are_cut_between_lines():
  lines = ['x' * 300, 'y' * 300, 'z' * 300]
  assert parts('\n'.join(lines)) == ['\n'.join(lines[:2]), lines[2]]
  assert parts('') == ['']


@given(LINES, st.text(min_size=1, max_size=5))
def test_passages_show_the_words_where_they_stand(lines, words):
  text = '\n'.join(lines)
  for number, passage in passages(text, words):
    assert words.lower() in passage.lower()
    assert passage.strip('…') in parts(text)[number - 1]


def test_results_are_title_address_passage(engine):
  assert engine.search('nocturnes') == (
      '1. Frédéric Chopin\n   https://a.test/chopin\n   A composer of nocturnes\n(page 1 of 1)')


@pytest.mark.parametrize('query, first', [
  ('frederic CHOPIN', 'chopin'), ('capital of norway', 'oslo'), ('fjords Norway', 'norway'),
  ('capital lima', 'peru'), ('title:oslo AND (', 'oslo'), ('"market" town 7', 'town-7')])
def test_the_best_comes_first(engine, query, first):
  assert ranked(engine.search(query))[0] == f'https://a.test/{first}'


def test_documents_with_all_words_come_before_others(engine):
  found = ranked(engine.search('capital fjord', count=8))
  assert set(found[:2]) == {'https://a.test/oslo', 'https://a.test/norway'}
  assert found[2:] == ['https://a.test/peru']


def test_pages_go_on_where_the_last_ended(engine):
  whole = [f'https://a.test/town-{i}' for i in range(40)]
  found = [address for page in range(1, 11) for address in ranked(engine.search('market', page))]
  assert found == whole[:30]  # equally good ones are in the collection's order
  assert engine.search('market', 2).startswith('4. Town 3\n')
  assert engine.search('market', 10).endswith('(page 10 of 10)')
  assert ranked(engine.search('market', 5, 8)) == whole[32:]
  assert engine.search('market', 5, 8).endswith('(page 5 of 5)')
  assert engine.search('giraffe') == 'no results'


def test_a_long_page_is_opened_in_parts(engine):
  first = engine.open('https://a.test/peru')
  assert first.startswith('Peru\nPeru has its capital at Lima.')
  assert first.endswith('\n(part 1 of 2)')
  assert engine.open('https://a.test/peru', 2).endswith('Lima again. \n(part 2 of 2)')
  assert engine.open('https://a.test/chopin') == (
      'Frédéric Chopin\nA composer of nocturnes.\n(part 1 of 1)')


def test_words_are_found_in_a_page(engine):
  assert engine.find('https://a.test/oslo', 'LIES at') == (
      'Oslo\npart 1: It lies at a fjord.\n(page 1 of 1)')
  found = engine.find('https://a.test/peru', 'capital').split('\n')
  assert found[1].startswith('part 1: Peru has its capital at Lima.') and found[1].endswith('…')
  assert engine.find('https://a.test/oslo', 'harbour') == 'Oslo\nno such text'


@pytest.mark.parametrize('use, message', [
  (lambda e: e.search(' ?'), 'query has no words'),
  (lambda e: e.search('x' * 201), 'query must be at most 200 characters'),
  (lambda e: e.search('market', count=9), 'count must be 1 to 8'),
  (lambda e: e.search('market', count=0), 'count must be 1 to 8'),
  (lambda e: e.search('market', 0), 'no page 0, last is 10'),
  (lambda e: e.search('nocturnes', 2), 'no page 2, last is 1'),
  (lambda e: e.search('market', 10**30), 'last is 10'),
  (lambda e: e.open('https://a.test/rome'), 'page not found'),
  (lambda e: e.find('https://a.test/rome', 'x'), 'page not found'),
  (lambda e: e.open('https://a.test/oslo', 2), 'no part 2, last is 1'),
  (lambda e: e.find('https://a.test/oslo', ' '), 'text is empty'),
  (lambda e: e.find('https://a.test/oslo', 'Oslo', 3), 'no page 3, last is 1'),
])
def test_what_cannot_be_done_is_said_in_a_sentence(engine, use, message):
  with pytest.raises(ToolError, match=message):
    use(engine)


def test_indexes_of_libraries_lie_beside_the_state(tmp_path):
  (tmp_path / 'world').mkdir()
  for libraries, documents in ((['one'], DOCUMENTS[:1]), (['one', 'two'], DOCUMENTS[:2])):
    folder = tmp_path / search.index_name(libraries)
    folder.mkdir()
    search.make_index(documents, str(folder))
  path = tmp_path / 'world' / 'collection.json'
  engine = Engine(str(path))
  for libraries, found in ((['one'], 1), (['one', 'two'], 2), (['one'], 1)):
    path.write_text(json.dumps({'libraries': libraries}), encoding='utf-8')
    assert len(ranked(engine.search('capital'))) == found
    assert engine.find('https://a.test/oslo', 'fjord').endswith('(page 1 of 1)')


def test_an_index_on_disk_answers_like_one_in_memory(tmp_path):
  search.make_index(DOCUMENTS, str(tmp_path))
  collections = [search.Collection(index) for index in (
      search.make_index(DOCUMENTS), search.tantivy.Index.open(str(tmp_path)))]
  for query in ('market', 'capital fjord', 'FREDERIC', 'town 7', 'lima peru'):
    first, second = (collection.search(query, 1, 8) for collection in collections)
    assert first == second and first[0]
  for address, title, text in DOCUMENTS:
    assert all(collection.page(address) == (title, text) for collection in collections)


def test_every_tool_is_declared_read_only(tmp_path):
  tools = search.create_server(str(tmp_path))._tool_manager.list_tools()
  assert {tool.name for tool in tools} == {'search', 'open', 'find'}
  assert all(tool.annotations.read_only_hint for tool in tools)
