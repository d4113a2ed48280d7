"""The reference judge: five dimensions from 1 to 5, by comparison with the truth.

The judge of PAPER.md section 5 is a language model with the true observation as its reference. This
one is a program, so it can be neither flattered nor talked to. Every dimension is made of two kinds
of terms: *recall*, how much of the true content the prediction holds in the true order, and
*excess*, a count of what does not belong. Text that meets nothing of the truth therefore cannot
raise any dimension, whatever it says; it can only add to the excess.

Content is compared as the longest common subsequence of word pairs: two neighbouring words or line
ends with the punctuation between them. A stray right word or sign meets none.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from aw_jax.rewards.content import (
  Kind,
  Reference,
  Symbol,
  canonical,
  fits,
  parse_json,
  split_prompt,
  tokenize,
)
from aw_jax.rewards.structure import STRUCTURED, json_structure, structure
from aw_jax.rewards.verifiers import exact_match

DIMENSIONS = ('format', 'factuality', 'consistency', 'realism', 'quality')
MIN_SCORE, MAX_SCORE = 1.0, 5.0
_NOT_EXACT = 0.95  # the most that a dimension gives a prediction that is not exact
_STYLE = 0.95  # right values of JSON in another key order or spacing
_LINE_END = '\n'
_ERROR_TEXT = (
    r'(?:Error\b|Traceback |fatal: |[\w./-]+: .*(?:No such|not found|[Cc]annot|failed|denied|'
    r'nvalid|missing|irectory|exists|rror|nexpected|unable|not a |option))[^\n]*')
_ERROR_LINE = re.compile('^' + _ERROR_TEXT, re.MULTILINE)
_ERROR = re.compile(_ERROR_TEXT)


class Scores(NamedTuple):
  """The five dimensions, each in [1, 5].

  Attributes:
    format: it has the domain's form: prompt line, JSON, kinds of lines and keys.
    factuality: the content is the true one, in the true order.
    consistency: it agrees with action and state: outcome, place, no word out of nowhere.
    realism: its amount and shapes of text are those of the real environment.
    quality: the whole: half the mean, half the weakest of the other four.
  """

  format: float
  factuality: float
  consistency: float
  realism: float
  quality: float

  @property
  def mean(self) -> float:
    """Mean of the five, in [1, 5]."""
    return sum(self) / len(self)


PERFECT = Scores(*[MAX_SCORE] * 5)


Pair = tuple[Symbol, str, Symbol]


class _Content(NamedTuple):
  """Symbols without prompt and spaces, their word pairs, the structure, the prompt."""

  symbols: list[Symbol]
  pairs: list[Pair]
  kind: str
  forms: Sequence[str]
  prompt: str | None


class _Truth(NamedTuple):
  """The reference's side of every comparison."""

  content: _Content
  vocabulary: frozenset[str]
  kinds: tuple[Kind, ...]
  shapes: dict[str, int]
  forms: frozenset[str]
  reason: str | None  # of an error, what stands after the last colon


def judge(predicted: str, reference: Reference) -> Scores:
  """Judges a predicted observation against the true one.

  Args:
    predicted: the text inside the observation tag.
    reference: what really happened.
  Returns:
    The five dimensions; all 5 exactly where the verifier's exact match holds to the character
    (runtime metadata apart); JSON of another key order or spacing loses a little format.
  """
  written = canonical(predicted, reference)
  if exact_match(written, reference):
    return PERFECT if written == predicted else _scores(_STYLE, 1.0, 1.0, 1.0)
  truth, guess = _truth(reference), _content(tokenize(written), written, reference)
  keyless = _lacks_every_key(guess, truth, reference)
  met = 0 if keyless else common_subsequence(guess.pairs, truth.content.pairs)
  length = len(truth.content.pairs)
  recall = (met + 1) / (length + 1)
  overlap = (2 * met + 1) / (len(guess.pairs) + length + 1)
  parts = (
      _format(predicted, guess, truth, met, recall, reference),
      _factuality(predicted, guess, truth, met, overlap, reference),
      _consistency(predicted, guess, truth, met, recall, reference),
      (0.3 + 0.7 * recall) / (1 + _excess_shapes(guess, truth) / max(3, length)))
  return _scores(*(min(part, _NOT_EXACT) for part in parts))


def _scores(format_: float, factuality: float, consistency: float, realism: float) -> Scores:
  four = (format_, factuality, consistency, realism)
  quality = 0.5 * sum(four) / 4 + 0.5 * min(four)
  return Scores(*(MIN_SCORE + (MAX_SCORE - MIN_SCORE) * part for part in (*four, quality)))


@functools.lru_cache(maxsize=1024)  # a group of predictions shares its reference
def _truth(reference: Reference) -> _Truth:
  content = _content(reference.lenient_symbols, reference.observation, reference)
  error = _ERROR_LINE.search(reference.observation)
  return _Truth(
      content, frozenset(s for s in content.symbols if isinstance(s, str)),
      tuple({s for s in content.symbols if not isinstance(s, str)}),
      Counter(map(_shape, content.symbols)), frozenset(content.forms),
      None if error is None else error[0].rpartition(': ')[2])


def _content(symbols: Sequence[Symbol], text: str, reference: Reference) -> _Content:
  prompt = None
  if reference.json_value is not None:
    kept = [symbol for symbol in symbols if symbol != _LINE_END and not _is_space(symbol)]
    kind, forms = json_structure(text)
  else:
    # Where the truth shows no prompt one is a line like others, which no line behind it may hide.
    if reference.domain == 'terminal' and split_prompt(reference.observation)[1] is not None:
      _, prompt = split_prompt(text)
      if prompt is not None:
        symbols = symbols[:_body_length(symbols)]
    kept = [symbol for symbol in symbols if not _is_space(symbol)]
    kind, forms = structure(reference.domain, text)
  return _Content(kept, _word_pairs(kept), kind, forms, prompt)


def _word_pairs(symbols: Sequence[Symbol]) -> list[Pair]:
  """Pairs of neighbouring words, numbers or line ends, with the punctuation between them."""
  pairs, before, between = [], _LINE_END, ''
  for symbol in symbols:
    if isinstance(symbol, str) and symbol != _LINE_END and not symbol[0].isalnum():
      between += symbol
      continue
    if between or not before == symbol == _LINE_END:  # a blank line is no content
      pairs.append((before, between, symbol))
    before, between = symbol, ''
  # A terminal's lines each end with a line end; any other text has one where it stops.
  if between or before != _LINE_END:
    pairs.append((before, between, _LINE_END))
  return pairs


def _is_space(symbol: Symbol) -> bool:
  if isinstance(symbol, str):
    return symbol.isspace() and symbol != _LINE_END
  return symbol.name == 'spaces'


def _body_length(symbols: Sequence[Symbol]) -> int:
  """How many symbols stand before the last line."""
  length = len(symbols)
  while length and symbols[length - 1] != _LINE_END:
    length -= 1
  return length


def common_subsequence(guess: Sequence[Pair], truth: Sequence[Pair]) -> int:
  """Length of the longest common subsequence of word pairs, where a kind meets what fits it.

  Bit-parallel (Hyyrö 2004): one big-integer step per pair of `guess`.
  """
  positions: dict[Pair, int] = {}
  kinds: set[Kind] = set()
  for index, pair in enumerate(truth):
    positions[pair] = positions.get(pair, 0) | 1 << index
    kinds.update(symbol for symbol in pair if not isinstance(symbol, str))
  full = (1 << len(truth)) - 1
  row, found = full, {}
  for pair in guess:
    mask = positions.get(pair, 0) if not kinds else found.get(pair)
    if mask is None:
      mask = found[pair] = _lenient_mask(pair, positions, kinds)
    overlap = row & mask
    row = (row + overlap | row - overlap) & full
  return len(truth) - row.bit_count()


def _lenient_mask(pair: Pair, positions: dict[Pair, int], kinds: set[Kind]) -> int:
  first, between, second = pair
  lefts, rights = ([part, *(kind for kind in kinds if fits(kind, part))]
                   for part in (first, second))
  mask = 0
  for left in lefts:
    for right in rights:
      mask |= positions.get((left, between, right), 0)
  return mask


def _format(predicted, guess, truth, met, recall, reference) -> float:
  """Is of the reference's kind, and its lines or keys have shapes that the reference has."""
  if _lacks_every_key(guess, truth, reference) or _is_json_beside_text(predicted, reference):
    return 0.3 * recall  # another form altogether: how few lines or keys it has is no merit
  about_it = _share(met, truth)
  if reference.domain == 'terminal':
    well_formed = about_it if truth.content.prompt is None else guess.prompt is not None
  elif reference.json_value is not None:
    well_formed = about_it * (parse_json(predicted) is not None)
  else:
    is_error = reference.observation.startswith('Error')
    same_kind = guess.kind == truth.content.kind
    well_formed = about_it * same_kind * (predicted.startswith('Error') or not is_error)
  if reference.domain in STRUCTURED and reference.json_value is None:
    # A form more often than the truth has it is wrong too, twice as much: it breaks the order.
    alien = 2 * (Counter(guess.forms) - Counter(truth.content.forms)).total()
  else:
    alien = sum(form not in truth.forms for form in guess.forms)
  if guess.forms and guess.forms[-1] not in truth.forms and any(
      form.startswith(guess.forms[-1]) for form in truth.forms):
    alien -= 1  # cut off, not of another form
  return 0.4 * well_formed + 0.3 / (1 + alien / max(1, len(truth.content.forms))) + 0.3 * recall


def _lacks_every_key(guess: _Content, truth: _Truth, reference: Reference) -> bool:
  """Whether the truth is JSON with keys of which the prediction has none."""
  return (reference.json_value is not None and bool(truth.forms)
          and truth.forms.isdisjoint(guess.forms))


def _is_json_beside_text(predicted: str, reference: Reference) -> bool:
  """Whether a tool's answer that has no braces is predicted with some; whatever else is added."""
  return (reference.domain != 'terminal' and reference.json_value is None
          and '{' in predicted and '{' not in reference.observation)


def _share(met: int, truth: _Truth) -> float:
  """How surely a prediction is about the truth at all: 1 where it meets half of it."""
  return min(1.0, 2 * met / max(1, len(truth.content.pairs)))


def _factuality(predicted, guess, truth, met, overlap, reference) -> float:
  """The true content in the true order; of a terminal, the prompt's directory too."""
  if reference.domain == 'terminal':
    weight = 0.2 if truth.content.pairs else 0.5
    return weight * _prompt_agreement(guess, truth, met) + (1 - weight) * overlap
  if reference.json_value is not None and (met == 0 or parse_json(predicted) is None):
    return 0.8 * overlap
  return overlap


def _consistency(predicted, guess, truth, met, recall, reference) -> float:
  """The outcome and the place are right, and no word comes out of nowhere."""
  if truth.reason is not None:
    same_outcome = re.search(
        rf'(?:^|: ){re.escape(truth.reason)}$', predicted, re.MULTILINE) is not None
  elif not truth.content.pairs:
    same_outcome = not guess.pairs
  else:
    same_outcome = _share(met, truth) * (_ERROR.search(predicted) is None)
  place = _prompt_agreement(guess, truth, met) if reference.domain == 'terminal' else recall
  foreign = sum(count for symbol, count in Counter(guess.symbols).items()
                if _is_foreign(symbol, truth, reference))
  grounded = (0.3 + 0.7 * recall) / (1 + foreign / max(3, len(truth.content.pairs)))
  return 0.4 * same_outcome + 0.2 * place + 0.4 * grounded


def _prompt_agreement(guess: _Content, truth: _Truth, met: int) -> float:
  """1 for the true prompt, some for a prompt of another directory, 0 for none.

  Of a screen without a prompt nothing but its content can agree.
  """
  if truth.content.prompt is None:
    return _share(met, truth)
  if guess.prompt == truth.content.prompt:
    return 1.0
  return 0.0 if guess.prompt is None else 0.25


def _is_foreign(word: str, truth: _Truth, reference: Reference) -> bool:
  """Whether a word stands neither in the truth nor in what could be seen."""
  return (word[0].isalnum() and word not in truth.vocabulary and word not in reference.familiar
          and not any(fits(kind, word) for kind in truth.kinds))


def _shape(symbol: Symbol) -> str:
  if not isinstance(symbol, str):
    return {'word': 'a', 'month': 'a', 'weekday': 'a', 'integer': '0', 'hash': 'h'}.get(
        symbol.name, '0.0')
  if symbol.isalpha():
    return 'a'
  if symbol.isdecimal():
    return '0' if symbol.isascii() else symbol  # digits of another script are of no shape here
  return symbol if len(symbol) == 1 else '0.0' if symbol[0].isdecimal() else 'h'


def _excess_shapes(guess: _Content, truth: _Truth) -> int:
  """How many symbols of the prediction have no counterpart of their shape in the truth."""
  counts = Counter(map(_shape, guess.symbols))
  return sum(max(0, count - truth.shapes.get(shape, 0)) for shape, count in counts.items())
