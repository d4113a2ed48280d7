"""An MCP server of a search engine over a fixed collection of documents: search, open, find.

Run as a script with the path of the episode's `collection.json`, which holds either 'documents', a
list of [address, title, text], or 'libraries', names of those whose index lies beside its directory
(`make_index`, `index_name`). Nothing is kept between calls but indexes, each a function of its
collection. Every call reads only; the same call gives the same answer.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Sequence

import tantivy
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

PART_CHARACTERS = 800  # of a page's text that `open` shows at a time
RESULTS = 3  # of a search, where the call names no other number
MOST_RESULTS = 8  # that one call may ask for
MOST_PAGES = 10
PASSAGES = 3  # of a page that `find` shows at a time
_SNIPPET_CHARACTERS = 120
_AROUND = 60  # characters that a passage shows on either side
_LONGEST_QUERY = 200
_TITLE_WEIGHT = 3.0
_ALL_WORDS = 1000.0  # what a document with all words is worth more than any without
_ANALYZER = 'english'
_HEAP = 256 << 20  # bytes: enough for one segment, so that ties are in the order of documents


def parts(text: str) -> list[str]:
  """The text of a page in parts of at most PART_CHARACTERS, cut between lines, else at spaces."""
  found, held = [], ''
  for line in text.split('\n'):
    while True:
      joined = f'{held}\n{line}' if held else line
      if len(joined) <= PART_CHARACTERS:
        held = joined
        break
      if held:
        found.append(held)
        held = ''
        continue
      cut = line.rfind(' ', 1, PART_CHARACTERS)
      cut = cut if cut > 0 else PART_CHARACTERS
      found.append(line[:cut])
      line = line[cut:].lstrip()
  return [*found, held] if held or not found else found


def passages(text: str, words: str) -> list[tuple[int, str]]:
  """Where `words` stand in a page: (part from 1, the passage), at most one a line of a part."""
  found = []
  for number, part in enumerate(parts(text), 1):
    for line in part.split('\n'):
      place = line.lower().find(words.lower())
      if place >= 0:
        found.append((number, _passage(line, place, place + len(words))))
  return found


def _passage(line: str, start: int, end: int) -> str:
  """A line, or of a long one what stands around start:end, cut at spaces."""
  first, last = max(0, start - _AROUND), min(len(line), end + 2 * _AROUND)
  if first:
    space = line.find(' ', first, start)
    first = space + 1 if space >= 0 else first
  if last < len(line):
    space = line.rfind(' ', end, last)
    last = space if space >= 0 else last
  return '…' * (first > 0) + line[first:last] + '…' * (last < len(line))


def index_name(libraries: Sequence[str]) -> str:
  """The name of the directory with the index over libraries."""
  return '+'.join(libraries)


def make_index(documents: Iterable[Sequence[str]], folder: str | None = None) -> tantivy.Index:
  """An index of documents, each (address, title, text): in an empty directory, or in memory."""
  schema = (
      tantivy.SchemaBuilder()
      .add_text_field('address', stored=True, tokenizer_name='raw', index_option='basic')
      .add_text_field('title', stored=True, tokenizer_name=_ANALYZER)
      .add_text_field('text', stored=True, tokenizer_name=_ANALYZER).build())
  index = tantivy.Index(schema, path=folder)
  index.register_tokenizer(_ANALYZER, _analyzer())
  writer = index.writer(_HEAP, 1)
  for address, title, text in documents:
    writer.add_document(tantivy.Document(address=address, title=title, text=text))
  writer.commit()
  writer.wait_merging_threads()
  index.reload()
  return index


class Collection:
  """Documents behind their index; of two that match alike, the one added first is the better."""

  def __init__(self, index: tantivy.Index):
    index.register_tokenizer(_ANALYZER, _analyzer())  # not kept with an index on disk
    self._index, self._searcher = index, index.searcher()

  def page(self, address: str) -> tuple[str, str]:
    """The title and the text of a document."""
    query = tantivy.Query.term_query(self._index.schema, 'address', address, 'basic')
    hits = self._searcher.search(query, 1).hits
    if not hits:
      raise ToolError('page not found')
    _, title, text = self._document(hits[0][1])
    return title, text

  def search(self, query: str, first: int, count: int) -> tuple[int, list[list[str]]]:
    """How many documents match, and [title, address, snippet] of `count` from the `first`."""
    words = ' '.join(re.findall(r'\w+', query.lower()))  # no operators: these are words
    fields, weights = ['title', 'text'], {'title': _TITLE_WEIGHT}
    parsed = self._index.parse_query(words, fields, weights)
    complete = self._index.parse_query(words, fields, conjunction_by_default=True)
    ranked = tantivy.Query.boolean_query([
        (tantivy.Occur.Must, parsed),
        (tantivy.Occur.Should, tantivy.Query.const_score_query(complete, _ALL_WORDS))])
    result = self._searcher.search(ranked, count, offset=first)
    generator = tantivy.SnippetGenerator.create(
        self._searcher, parsed, self._index.schema, 'text')
    generator.set_max_num_chars(_SNIPPET_CHARACTERS)
    found = []
    for _, place in result.hits:
      address, title, text = self._document(place)
      fragment = generator.snippet_from_doc(tantivy.Document(text=text)).fragment()
      found.append([title, address, ' '.join((fragment or text[:_SNIPPET_CHARACTERS]).split())])
    return result.count, found

  def _document(self, place: tantivy.DocAddress) -> tuple[str, str, str]:
    stored = self._searcher.doc(place)
    return stored['address'][0], stored['title'][0], stored['text'][0]


def _analyzer() -> tantivy.TextAnalyzer:
  """Words in lower case, without accents, by their English stems."""
  filters = (tantivy.Filter.lowercase(), tantivy.Filter.ascii_fold(),
             tantivy.Filter.stemmer('english'))
  builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
  for one in filters:
    builder = builder.filter(one)
  return builder.build()


class Engine:
  """The tools. Their docstrings are what a client is told of them."""

  def __init__(self, path: str):
    self._path = path
    self._libraries: dict[str, Collection] = {}
    self._last: tuple[str, Collection] | None = None  # of the documents that an episode brought

  def search(self, query: str, page: int = 1, count: int = RESULTS) -> str:
    """Find documents by words, the best first, a page at a time."""
    if not re.search(r'\w', query):
      raise ToolError('query has no words')
    if len(query) > _LONGEST_QUERY:
      raise ToolError(f'query must be at most {_LONGEST_QUERY} characters')
    if not 1 <= count <= MOST_RESULTS:
      raise ToolError(f'count must be 1 to {MOST_RESULTS}')
    collection = self._collection()
    page = min(max(page, 0), MOST_PAGES + 1)
    matches, found = collection.search(query, max(page - 1, 0) * count, count)
    if not matches:
      return 'no results'
    pages = min(-(-matches // count), MOST_PAGES)
    _check('page', page, pages)
    lines = []
    for rank, (title, address, snippet) in enumerate(found, (page - 1) * count + 1):
      lines += [f'{rank}. {title}', f'   {address}', f'   {snippet}']
    return '\n'.join([*lines, f'(page {page} of {pages})'])

  def open(self, address: str, part: int = 1) -> str:
    """Read a document, a part at a time."""
    title, text = self._collection().page(address)
    pieces = parts(text)
    _check('part', part, len(pieces))
    return f'{title}\n{pieces[part - 1]}\n(part {part} of {len(pieces)})'

  def find(self, address: str, text: str, page: int = 1) -> str:
    """Find words in a document: the passages where they stand, a page at a time."""
    title, whole = self._collection().page(address)
    if not text.strip():
      raise ToolError('text is empty')
    found = passages(whole, text.strip())
    if not found:
      return f'{title}\nno such text'
    pages = -(-len(found) // PASSAGES)
    _check('page', page, pages)
    lines = [f'part {part}: {line}' for part, line in found[(page - 1) * PASSAGES:page * PASSAGES]]
    return '\n'.join([title, *lines, f'(page {page} of {pages})'])

  def _collection(self) -> Collection:
    with open(self._path, encoding='utf-8') as file:
      content = file.read()
    if self._last is not None and self._last[0] == content:
      return self._last[1]
    if content in self._libraries:
      return self._libraries[content]
    setup = json.loads(content)
    if 'documents' in setup:
      self._last = content, Collection(make_index(setup['documents']))
      return self._last[1]
    beside = os.path.dirname(os.path.dirname(self._path))
    index = tantivy.Index.open(os.path.join(beside, index_name(setup['libraries'])))
    self._libraries[content] = Collection(index)
    return self._libraries[content]


def _check(name: str, number: int, last: int) -> None:
  if not 1 <= number <= last:
    raise ToolError(f'no {name} {str(number)[:12]}, last is {last}')


def create_server(path: str) -> MCPServer:
  """The server over the collection at `path`."""
  engine, server = Engine(path), MCPServer('search')
  for tool in (engine.search, engine.open, engine.find):
    server.tool(annotations=ToolAnnotations(read_only_hint=True), structured_output=False)(tool)
  return server


if __name__ == '__main__':
  create_server(sys.argv[1]).run('stdio')
