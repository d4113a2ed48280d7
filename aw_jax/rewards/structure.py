"""The structure of an observation apart from its content, by domain.

One parser for each kind of text that environments answer with: JSON, a terminal's screen, an
accessibility tree, ranked search results, the output of a tool. Each gives the *forms* of a text,
one a line, node or key in order: what stands there, without what it says. The reference judge
compares the forms of a prediction with those of the truth (PAPER.md section 5, Format).
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from aw_jax.rewards.content import split_prompt

_DIGITS, _WORD, _RUN = re.compile(r'\d+'), re.compile(r'[^\W\d_]+'), re.compile(r'a(?: a)+')
_KEY = re.compile(r'"([^"\n]*)" *:')
_QUOTED = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\''
# What may follow a node's name. A backslash stands between quotes alone: nodes with their line ends
# written out (\n) are not one node.
_REST = r'(?:"(?:[^"\\]|\\.)*+"|[^"\\])*+'
# A node of a tree as text: indentation, bullet, number, role, name, then states and values.
_NODE = re.compile(
    rf'(?P<indent>[ \t]*)(?:[-*] )?(?:\[\w+\] ?)?(?P<role>/?[A-Za-z][\w./-]*+)'
    rf'(?:[ \t]+(?P<name>{_QUOTED}))?(?P<rest>[ \t]*(?:[\[({{:,]{_REST}|[\w-]+[:=]{_REST})?)')
_TAG = re.compile(
    r'<(?P<end>/)?(?P<tag>[A-Za-z][\w.-]*+)(?P<attributes>(?:\s[^<>]*?)?)(?P<empty>/)?>')
_DECLARATION = re.compile(r'\s*<\?xml[^>]*\?>')
_ATTRIBUTE = re.compile(r'([\w:-]+)="([^"]*)"')
_NAMES = ('text', 'content-desc', 'name', 'label')  # attributes that name a node
_RANK = re.compile(r'\s{0,3}(?:\[(\d{1,3})\]|#?(\d{1,3})[.):])\s+(\S.*)')
_URL = re.compile(r'(?:https?://|www\.)[^\s<>"\')\]]+')
_TOOL_LINES = (
    ('blank', re.compile(r'\s*')),
    ('error', re.compile(r'(?:Error|ERROR|Traceback|fatal:|E  ).*|[\w.]+(?:Error|Exception): .*')),
    ('frame', re.compile(r'\s+File ".*", line \d+.*')),
    ('hunk', re.compile(r'@@ .* @@.*')),
    ('file', re.compile(r'(?:diff --git|---|\+\+\+|index) \S.*')),
    ('numbered', re.compile(r'\s*\d+(?:\t|: |→|\| ).*|\s*\d+\t?')),
    ('match', re.compile(r'[\w./-]+:\d+:.*')),
    ('status', re.compile(r'(?:exit code|Exit code|\[exit|returncode).*|=+ .* =+')),
    ('path', re.compile(r'\.{0,2}/?[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.\w{1,5}')),
    ('added', re.compile(r'\+.*')),
    ('removed', re.compile(r'-.*')),
)


class Structure(NamedTuple):
  """What a parser finds.

  Attributes:
    kind: 'json', 'screen', 'tree', 'results' or 'output'; 'text' where the parser of the domain
      does not recognise the text as its own.
    forms: of each line, node or key in order.
  """

  kind: str
  forms: tuple[str, ...]


class Node(NamedTuple):
  """A node of an accessibility tree: how deep (spaces or tags), its role, and its name."""

  depth: int
  role: str
  name: str


class Result(NamedTuple):
  """A search result; url and snippet are '' where there is none."""

  rank: int
  title: str
  url: str
  snippet: str


def line_form(line: str) -> str:
  """The shape of a line: words, and runs of words, as `a`, numbers as `0`."""
  return _RUN.sub('a', _WORD.sub('a', _DIGITS.sub('0', line.rstrip())))


def json_structure(text: str) -> Structure:
  """The keys in order; of text that is cut off, those that are there."""
  return Structure('json', tuple(_KEY.findall(text)))


def screen_structure(text: str) -> Structure:
  """The shapes of a terminal's output lines; 'text' where no prompt ends it."""
  lines, prompt = split_prompt(text)
  return Structure('text' if prompt is None else 'screen', tuple(map(line_form, lines)))


def tree_nodes(text: str) -> list[Node] | None:
  """The nodes of an accessibility tree in order, written as markup or as indented lines.

  Returns:
    The nodes; None where any line is not a node, markup does not close, or there is no node.
  """
  parts, whole = _tree_parts(text)
  return [part for part in parts if isinstance(part, Node)] if whole and parts else None


def _tree_parts(text: str) -> tuple[list[Node | str], bool]:
  """The nodes, and the shapes of what stands between them; whether it is a tree and no more."""
  markup = text.lstrip().startswith('<')
  return _markup_parts(_DECLARATION.sub('', text)) if markup else _line_parts(text)


def _line_parts(text: str) -> tuple[list[Node | str], bool]:
  parts, whole = [], True
  for line in text.split('\n'):
    if not line.strip():
      continue
    match = _NODE.fullmatch(line)
    if match is None:
      parts.append(line_form(line))
      whole = False
    else:
      depth = len(match['indent'].expandtabs(2))
      parts.append(Node(depth, match['role'], (match['name'] or '')[1:-1]))
  return parts, whole


def _markup_parts(text: str) -> tuple[list[Node | str], bool]:
  parts, opened, whole, end = [], [], True, 0
  for match in _TAG.finditer(text):
    between = text[end:match.start()].strip()
    end = match.end()
    if between and not opened:
      parts.append(line_form(between))
      whole = False
    if match['end']:
      whole = whole and bool(opened) and opened[-1] == match['tag']
      del opened[-1:]
      continue
    attributes = dict(_ATTRIBUTE.findall(match['attributes']))
    role = attributes.get('class', match['tag']).rpartition('.')[2]
    name = next((attributes[key] for key in _NAMES if attributes.get(key)), '')
    parts.append(Node(len(opened), role, name))
    if not match['empty']:
      opened.append(match['tag'])
  rest = [line_form(line) for line in text[end:].split('\n') if line.strip()]
  return parts + rest, whole and not opened and not rest


def tree_structure(text: str) -> Structure:
  """Depth, role and whether it has a name, of each node; shapes of lines that are none."""
  parts, whole = _tree_parts(text)
  return Structure('tree' if whole and parts else 'text', tuple(
      part if isinstance(part, str) else f'{part.depth} {part.role}{" named" * bool(part.name)}'
      for part in parts))


def search_results(text: str) -> list[Result]:
  """The ranked results of a text; what stands before the first is left out."""
  found: list[tuple[int, str, list[str]]] = []
  for line in text.split('\n'):
    match = _RANK.fullmatch(line)
    if match:
      found.append((int(match[1] or match[2]), match[3], []))
    elif found and line.strip():
      found[-1][2].append(line.strip())
  results = []
  for rank, title, lines in found:
    url = next((match[0] for line in (title, *lines) if (match := _URL.search(line))), '')
    snippet = ' '.join(line for line in lines if not (url and url in line))
    results.append(Result(rank, title, url, snippet))
  return results


def results_structure(text: str) -> Structure:
  """Of each line whether it ranks a result, gives its address, or is text; 'text' without ranks."""
  forms = []
  for line in text.split('\n'):
    rank = _RANK.fullmatch(line)
    if rank:
      forms.append(f'result {rank[1] or rank[2]}')
    elif line.strip():
      forms.append('url' if _URL.search(line) else 'text')
  return Structure('results' if search_results(text) else 'text', tuple(forms))


def output_structure(text: str) -> Structure:
  """What each line of a tool's output is: numbered source, part of a diff, a match, an error..."""
  return Structure('output', tuple(_tool_line(line) for line in text.split('\n')))


def _tool_line(line: str) -> str:
  for name, pattern in _TOOL_LINES:
    if pattern.fullmatch(line):
      return name
  return line_form(line)


_PARSERS: dict[str, Callable[[str], Structure]] = {
    'terminal': screen_structure, 'web': tree_structure, 'os': tree_structure,
    'android': tree_structure, 'search': results_structure, 'swe': output_structure}

# Domains whose answers have more structure than lines of some shape.
STRUCTURED = frozenset(_PARSERS) - {'terminal'}


def structure(domain: str, text: str) -> Structure:
  """The structure of an observation that is no JSON; lines and their shapes in other domains."""
  if domain in _PARSERS:
    return _PARSERS[domain](text)
  return Structure('text', tuple(map(line_form, text.split('\n'))))
