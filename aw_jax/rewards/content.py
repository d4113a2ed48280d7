"""The content of an observation as tokens, and which of them nobody can predict.

PAPER.md section 5 names three content types. *Deterministic* tokens must be met exactly. *Runtime
metadata* (times, process ids, hashes) counts as met by any text of its format and range: such a
token is replaced by its `Kind`. *Pre-existing* content that neither the state nor the history could
have told is treated likewise, but only by the judge, never by the rule verifier.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

_TOKEN = re.compile(
    r'\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?'  # ISO 8601
    r'|(?<!\w)(?=[a-f]*\d)[0-9a-f]{7,40}(?!\w)'  # a hash
    r'|\d+(?:[.:]\d+)*'  # an integer, a decimal, a clock time, an address
    r'|[^\W\d_]+|\n| +|.', re.DOTALL)
_ISO = re.compile(
    r'\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])'
    r'(?:[T ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?')
_HASH = re.compile(r'(?=[a-f]*\d)[0-9a-f]{7,40}')
_CLOCK = re.compile(r'(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?')
_MONTHS = frozenset('Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec January February March April '
                    'June July August September October November December'.split())
_WEEKDAYS = frozenset('Mon Tue Wed Thu Fri Sat Sun Monday Tuesday Wednesday Thursday Friday '
                      'Saturday Sunday'.split())
_NAMED = {'month': _MONTHS, 'weekday': _WEEKDAYS, 'half of the day': frozenset(('AM', 'PM'))}
_PID = re.compile(r'\b(?:pid|PID|process)[ =:#]*(\d+)')
_JSON_STYLES = (
    {}, {'ensure_ascii': False}, {'separators': (',', ':')},
    {'separators': (',', ':'), 'ensure_ascii': False}, {'indent': 2},
    {'indent': 2, 'ensure_ascii': False})
_PROMPT = re.compile(r'[~/][^\n$\\]*\$')
CONTENT_TYPES = ('deterministic', 'pre-existing', 'runtime metadata')
MAX_DIGITS_APART = 2  # how far a runtime number may be off: a factor of about a hundred


class Kind(NamedTuple):
  """Stands for a token that nobody can predict: any token that `fits` it is right."""

  name: str
  detail: str = ''


Symbol = str | Kind


def tokenize(text: str) -> list[str]:
  """Words, numbers, times, hashes, runs of spaces and single characters; they join to `text`."""
  return _TOKEN.findall(text)


@functools.lru_cache(maxsize=1 << 14)
def kind_of(token: str) -> Kind | None:
  """The kind of a runtime token; None for punctuation, which stays as it is."""
  if token.isdecimal():
    return Kind('integer', str(len(token)))
  if _ISO.fullmatch(token):
    return Kind('iso', _digits_as_zero(token))
  if _HASH.fullmatch(token):
    return Kind('hash', str(len(token)))
  if token[0].isdecimal():
    return Kind('clock' if _CLOCK.fullmatch(token) else 'number', re.sub(r'\d+', '', token))
  for name, words in _NAMED.items():
    if token in words:
      return Kind(name)
  if token[0].isalpha():
    return Kind('word', str(len(token)))
  return Kind('spaces') if token.isspace() and '\n' not in token else None


@functools.lru_cache(maxsize=1 << 16)
def fits(kind: Kind, token: str) -> bool:
  """Whether `token` has the format and the range that `kind` asks for."""
  name, detail = kind
  if name not in ('word', 'spaces') and not token.isascii():
    return False  # digits of other scripts are digits to Python, and to no program that prints
  if name == 'integer':
    return token.isdecimal() and abs(len(token) - int(detail)) <= MAX_DIGITS_APART
  if name == 'hash':
    return len(token) == int(detail) and _HASH.fullmatch(token) is not None
  if name == 'word':
    return token.isalpha() and len(token) <= 2 * int(detail) + 6
  if name == 'iso':
    return _ISO.fullmatch(token) is not None and _digits_as_zero(token) == detail
  if name == 'clock':
    return _CLOCK.fullmatch(token) is not None and token.count(':') == len(detail)
  if name == 'number':
    return token[0].isdecimal() and re.sub(r'\d+', '', token) == detail
  if name == 'spaces':
    return token.isspace() and '\n' not in token
  return token in _NAMED[name]


def _digits_as_zero(token: str) -> str:
  return re.sub(r'\.\d+', '.0', re.sub(r'\d', '0', token))


@dataclasses.dataclass(frozen=True)
class Reference:
  """What really happened, and what a predictor could know of it. What is derived is kept.

  Attributes:
    domain: the environment's domain.
    action: the action that was predicted for.
    observation: what the environment answered.
    runtime_metadata: (start, end) spans of the observation that nobody can predict. None where the
      environment did not say: then times, process ids and hashes are recognised by their form.
    known: what a predictor could see: the initial state and the history, as text; None where not
      given, then no word is held against a prediction for being unheard of.
    hidden_state: True where the initial state cannot be seen. Only then do words of the observation
      that stand nowhere in `known` or the action count as pre-existing content.
  """

  domain: str
  action: str
  observation: str
  runtime_metadata: tuple[tuple[int, int], ...] | None = ()
  known: str | None = None
  hidden_state: bool = False

  @functools.cached_property
  def symbols(self) -> list[Symbol]:
    """Tokens of the observation, runtime metadata as kinds."""
    return _mark(tokenize(self.observation), _spans(self))

  @functools.cached_property
  def has_runtime_metadata(self) -> bool:
    """Whether any token of the observation is one that nobody can predict."""
    return any(not isinstance(symbol, str) for symbol in self.symbols)

  @functools.cached_property
  def lenient_symbols(self) -> list[Symbol]:
    """`symbols` with pre-existing content that nobody could know as kinds too."""
    if not self.hidden_state:
      return self.symbols
    familiar = self.familiar
    return [kind_of(symbol) or symbol
            if isinstance(symbol, str) and symbol[0].isalnum() and symbol not in familiar
            else symbol for symbol in self.symbols]

  @functools.cached_property
  def content_types(self) -> list[tuple[int, int, str]]:
    """(start, end, one of CONTENT_TYPES) spans, in order; together they are the observation."""
    found, position = [], 0
    for token, strict, lenient in zip(
        tokenize(self.observation), self.symbols, self.lenient_symbols, strict=True):
      name = CONTENT_TYPES[
          2 if not isinstance(strict, str) else 1 if not isinstance(lenient, str) else 0]
      start, position = position, position + len(token)
      if found and found[-1][2] == name:
        start = found.pop()[0]
      found.append((start, position, name))
    return found

  @functools.cached_property
  def familiar(self) -> frozenset[str]:
    """Tokens that a predictor could see: of the action, the initial state and the history."""
    return frozenset(tokenize(f'{self.action}\n{self.known or ""}'))

  @functools.cached_property
  def json_value(self) -> Any:
    """The observation as JSON where it is an object or a list of a tool's answer, else None."""
    return None if self.domain == 'terminal' else parse_json(self.observation)

  @functools.cached_property
  def json_style(self) -> dict[str, Any] | None:
    """How the observation writes its JSON, as arguments of `json.dumps`; None where not known."""
    if self.json_value is None:
      return None
    return next((style for style in _JSON_STYLES
                 if write_json(self.json_value, style) == self.observation), None)


def _spans(reference: Reference) -> list[tuple[int, int]]:
  if reference.runtime_metadata is not None:
    return sorted(reference.runtime_metadata)
  text, position, spans = reference.observation, 0, []
  for token in tokenize(text):
    if _ISO.fullmatch(token) or (_HASH.fullmatch(token) and not token.isdecimal()):
      spans.append((position, position + len(token)))
    position += len(token)
  return sorted(spans + [match.span(1) for match in _PID.finditer(text)])


def _mark(tokens: list[str], spans: Sequence[tuple[int, int]]) -> list[Symbol]:
  """`tokens` with those that overlap a span as kinds.

  Spaces beside them count as well: a column is as wide as its widest number.
  """
  if not spans or not tokens:
    return tokens
  runtime, position = [], 0
  for token in tokens:
    end = position + len(token)
    runtime.append(any(position < stop and start < end for start, stop in spans))
    position = end
  beside = [before or after
            for before, after in zip([False, *runtime], [*runtime[1:], False], strict=False)]
  return [
      kind_of(token) or token if inside or (near and token.isspace()) else token
      for token, inside, near in zip(tokens, runtime, beside, strict=True)]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object of JSON; a repeated key could hide text from a comparison of values."""
  value = dict(pairs)
  if len(value) != len(pairs):
    raise ValueError('a repeated key')
  return value


def _refuse(constant: str) -> None:
  raise ValueError(constant)


def parse_json(text: str) -> Any:
  """An object or a list from strict JSON; None for anything else."""
  if text[:1] not in ('{', '['):
    return None
  try:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
  except (ValueError, RecursionError):
    return None


def write_json(value: Any, style: dict[str, Any]) -> str | None:
  """JSON text; None where it is nested deeper than can be written."""
  try:
    return json.dumps(value, **style)
  except RecursionError:
    return None


def as_written(value: Any, like: Any) -> Any:
  """`value` written as `like` is: equal numbers alike, and the same keys in the same order."""
  if isinstance(value, dict) and isinstance(like, dict):
    keys = like if value.keys() == like.keys() else value
    return {key: as_written(value[key], like.get(key)) for key in keys}
  if isinstance(value, list) and isinstance(like, list):
    paired = [as_written(item, other) for item, other in zip(value, like, strict=False)]
    return paired + value[len(paired):]
  numbers = (int, float)
  if type(value) in numbers and type(like) in numbers and value == like:
    return like
  return value


def canonical(predicted: str, reference: Reference) -> str:
  """A predicted JSON answer in the key order and spacing of the reference; other text unchanged."""
  if reference.json_style is None or predicted == reference.observation:
    return predicted
  value = parse_json(predicted)
  if value is None:
    return predicted
  return write_json(as_written(value, reference.json_value), reference.json_style) or predicted


def split_prompt(observation: str) -> tuple[list[str], str | None]:
  """A terminal's output lines and its prompt line (None where the last line is no prompt)."""
  lines = observation.split('\n')
  if _PROMPT.fullmatch(lines[-1]):
    return lines[:-1], lines[-1]
  return lines, None
