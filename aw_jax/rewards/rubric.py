"""The reference judge: five dimensions from 1 to 5, by comparison with the truth.

The judge of PAPER.md section 5 is a language model with the true observation as its reference. This
one is a program, so it can be neither flattered nor talked to. Every dimension is made of two kinds
of terms: *recall*, how much of the true content the prediction holds in the true order, and
*excess*, a count of what does not belong. Text that meets nothing of the truth therefore cannot
raise any dimension, whatever it says; it can only add to the excess.

Content is compared as the longest common subsequence of word pairs: two neighbouring words or line
ends with the punctuation between them. A stray right word or sign meets none.

Pre-existing content, which a predictor could not know, should be plausible and no more. A program
cannot tell plausible text from any other, and text that is paid for by its amount is soon written
by the yard, so such content is worth little: `_KNOWABLE` of the credit goes to the rest, and other
words in its place are not excess.
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
_KNOWABLE = 0.75  # of the credit, where some of the truth is pre-existing content
_BY_CHANCE = 0.1  # of the true pairs any text of the domain may meet
_LINE_END = '\n'
_SHAPES = {'word': 'a', 'month': 'a', 'weekday': 'a', 'half of the day': 'a', 'integer': '0',
           'hash': 'h'}  # of kinds
_ERROR_TEXT = (
    # Bounded, for a time that is linear in the length of a text.
    r'(?:Error\b|Traceback |fatal: |(?<![\w./-])[\w./-]{1,200}: .{0,300}?'
    r'(?:No such|not found|[Cc]annot|failed|denied|nvalid|missing|irectory|exists|rror|nexpected|'
    r'unable|not a |option))[^\n]*')
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


class _Agreement(NamedTuple):
  """How far the word pairs of a prediction are those of the truth, each in [0, 1].

  Attributes:
    recall: the share of the true pairs that are met.
    overlap: what is met of all that either has (Jaccard's coefficient): of n answers that are
      equally likely, listing all must not be worth more than giving one.
    about: how surely the prediction is about the truth at all: 0 where it meets no more of it than
      by chance, 1 where it meets half and says nothing else.
  """

  recall: float
  overlap: float
  about: float


class _Truth(NamedTuple):
  """The reference's side of every comparison.

  Attributes:
    content: of the observation, runtime metadata as kinds.
    knowable: its pairs without pre-existing content.
    pairs_per_word: about 1 where it is one long line, 2 where each word is a line. So many pairs a
      word are held against a prediction, that none be shorter by having no line ends.
    vocabulary: its words and signs.
    kinds: of runtime metadata and pre-existing content.
    shapes: shape -> how many of its symbols have it.
    forms: of its lines, nodes or keys.
    reason: of an error, what stands after the last colon.
    quotes_error: whether anything in it reads like an error, a program's source for instance.
  """

  content: _Content
  knowable: list[Pair]
  pairs_per_word: float
  vocabulary: frozenset[str]
  kinds: tuple[Kind, ...]
  shapes: dict[str, int]
  forms: frozenset[str]
  reason: str | None
  quotes_error: bool


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
  agreement = _agreement(guess, truth, reference)
  parts = (
      _format(predicted, guess, truth, agreement, reference),
      _factuality(predicted, guess, truth, agreement, reference),
      _consistency(predicted, guess, truth, agreement, reference),
      (0.3 + 0.7 * agreement.recall)
      / (1 + _excess_shapes(guess, truth) / max(3, len(truth.content.pairs))))
  return _scores(*(min(part, _NOT_EXACT) for part in parts))


def _scores(format_: float, factuality: float, consistency: float, realism: float) -> Scores:
  four = (format_, factuality, consistency, realism)
  quality = 0.5 * sum(four) / 4 + 0.5 * min(four)
  return Scores(*(MIN_SCORE + (MAX_SCORE - MIN_SCORE) * part for part in (*four, quality)))


@functools.lru_cache(maxsize=1024)  # a group of predictions shares its reference
def _truth(reference: Reference) -> _Truth:
  content = _content(reference.symbols, reference.observation, reference)
  lenient = content if reference.lenient_symbols == reference.symbols else _content(
      reference.lenient_symbols, reference.observation, reference)
  error = _ERROR_LINE.search(reference.observation)
  return _Truth(
      content, [pair for pair, other in zip(content.pairs, lenient.pairs, strict=True)
                if pair == other],
      len(content.pairs) / amount if (amount := _amount(content)) else 2.0,
      frozenset(s for s in content.symbols if isinstance(s, str)),
      tuple({s for s in lenient.symbols if not isinstance(s, str)}),
      _shapes(content.symbols), frozenset(content.forms),
      None if error is None else error[0].rpartition(': ')[2],
      _ERROR.search(reference.observation) is not None)


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
    if '\\n' not in reference.observation:
      text = text.replace('\\n', _LINE_END)  # written out it ends a line of some shape too
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


def _plain_spaces(text: str) -> str:
  return re.sub(r'[^\S\n]', ' ', text)


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


def _format(predicted, guess, truth, agreement, reference) -> float:
  """Is of the reference's kind, and its lines or keys have shapes that the reference has."""
  if _lacks_every_key(guess, truth, reference) or _is_json_beside_text(predicted, reference):
    # Another form altogether: how few lines or keys it has is no merit.
    return 0.3 * agreement.recall
  about_it = agreement.about
  if reference.domain == 'terminal':
    well_formed = about_it if truth.content.prompt is None else guess.prompt is not None
  elif reference.json_value is not None:
    well_formed = about_it * (parse_json(predicted) is not None)
  else:
    is_error = reference.observation.startswith('Error')
    same_kind = truth.content.kind in (guess.kind, 'text')
    well_formed = about_it * same_kind * (predicted.startswith('Error') or not is_error)
  if reference.domain in STRUCTURED and reference.json_value is None:
    forms = guess.forms
    if (guess.kind, truth.content.kind) == ('results', 'text'):
      forms = ['text' if form.startswith('result ') else form for form in forms]  # no ranks
    # A form more often than the truth has it is wrong too, twice as much: it breaks the order.
    alien = 2 * (Counter(forms) - Counter(truth.content.forms)).total()
  else:
    alien = sum(form not in truth.forms for form in guess.forms)
  if guess.forms and guess.forms[-1] not in truth.forms and any(
      form.startswith(guess.forms[-1]) for form in truth.forms):
    alien -= 1  # cut off, not of another form
  # That a prediction has no alien line is no merit where it is not about the truth.
  familiar = about_it / (1 + alien / max(1, len(truth.content.forms)))
  return 0.4 * well_formed + 0.3 * familiar + 0.3 * agreement.recall


def _agreement(guess: _Content, truth: _Truth, reference: Reference) -> _Agreement:
  pairs, knowable = truth.content.pairs, truth.knowable
  said = _amount(guess) * truth.pairs_per_word
  if _lacks_every_key(guess, truth, reference):
    return _agreement_of(0, said, len(pairs))
  whole = _agreement_of(common_subsequence(guess.pairs, pairs), said, len(pairs))
  if not knowable or len(knowable) == len(pairs):
    return whole
  met = common_subsequence(guess.pairs, knowable)
  part = _agreement_of(met, said - (len(pairs) - len(knowable)), len(knowable))
  return _Agreement(*(_KNOWABLE * of_part + (1 - _KNOWABLE) * of_whole
                      for of_part, of_whole in zip(part, whole, strict=True)))


def _agreement_of(met: int, said: float, true: int) -> _Agreement:
  """Of the pairs that are met, those that are said and those that are true."""
  share, said = met / true if true else float(said == 0), max(met, said)
  precision = met / said if said else 1.0
  about = min(precision, max(0.0, (share - _BY_CHANCE) / (0.5 - _BY_CHANCE)))
  return _Agreement((met + 1) / (true + 1), (met + 1) / (said + true - met + 1), about)


def _amount(content: _Content) -> int:
  """How many words there are; a run of signs, or a line of them, counts as one."""
  words = sum(not isinstance(symbol, str) or symbol[0].isalnum() for symbol in content.symbols)
  return words + sum(len(between) > 2 or first == last == _LINE_END
                     for first, between, last in content.pairs)


def _lacks_every_key(guess: _Content, truth: _Truth, reference: Reference) -> bool:
  """Whether the truth is JSON with keys of which the prediction has none."""
  return (reference.json_value is not None and bool(truth.forms)
          and truth.forms.isdisjoint(guess.forms))


def _is_json_beside_text(predicted: str, reference: Reference) -> bool:
  """Whether the answer of a tool is predicted as JSON, or with braces, and is not so."""
  return reference.domain != 'terminal' and reference.json_value is None and (
      parse_json(predicted) is not None
      or ('{' in predicted and '{' not in reference.observation))


def _factuality(predicted, guess, truth, agreement, reference) -> float:
  """The true content in the true order; of a terminal, the prompt's directory too."""
  if reference.domain == 'terminal':
    weight = 0.2 if truth.content.pairs else 0.5
    return (weight * _prompt_agreement(guess, truth, agreement.about)
            + (1 - weight) * agreement.overlap)
  if reference.json_value is not None and (
      agreement.about == 0 or parse_json(predicted) is None):
    return 0.8 * agreement.overlap
  return agreement.overlap


def _consistency(predicted, guess, truth, agreement, reference) -> float:
  """The outcome and the place are right, and no word comes out of nowhere."""
  if truth.reason is not None:
    same_outcome = agreement.about * (re.search(
        rf'(?:^ ?|: ){re.escape(truth.reason)}$', predicted, re.MULTILINE) is not None)
  elif not truth.content.pairs:
    same_outcome = not guess.pairs
  else:
    is_error = _ERROR.search(_plain_spaces(predicted)) is not None
    same_outcome = agreement.about * (not is_error or truth.quotes_error)
  place = (_prompt_agreement(guess, truth, agreement.about) if reference.domain == 'terminal'
           else agreement.recall)
  foreign = sum(count for symbol, count in Counter(guess.symbols).items()
                if _is_foreign(symbol, truth, reference))
  grounded = (0.3 + 0.7 * agreement.recall) / (1 + foreign / max(3, len(truth.content.pairs)))
  return 0.4 * same_outcome + 0.2 * place + 0.4 * grounded


def _prompt_agreement(guess: _Content, truth: _Truth, about: float) -> float:
  """1 for the true prompt, some for a prompt of another directory, 0 for none.

  Of a screen without a prompt nothing but its content can agree.
  """
  if truth.content.prompt is None:
    return about
  if guess.prompt == truth.content.prompt:
    return 1.0
  return 0.0 if guess.prompt is None else 0.25


def _is_foreign(word: str, truth: _Truth, reference: Reference) -> bool:
  """Whether a word stands neither in the truth nor in what could be seen."""
  return (reference.known is not None and word[0].isalnum()
          and word not in truth.vocabulary and word not in reference.familiar
          and not any(fits(kind, word) for kind in truth.kinds))


def _shape(symbol: Symbol) -> str:
  if not isinstance(symbol, str):
    return _SHAPES.get(symbol.name, '0.0')
  if symbol.isalpha():
    return 'a'
  if symbol.isdecimal():
    return '0' if symbol.isascii() else symbol  # digits of another script are of no shape here
  return symbol if len(symbol) == 1 else '0.0' if symbol[0].isdecimal() else 'h'


def _shapes(symbols: Sequence[Symbol]) -> Counter[str]:
  """Shape -> how many of the symbols have it."""
  found = Counter()
  for symbol, count in Counter(symbols).items():
    found[_shape(symbol)] += count
  return found


def _excess_shapes(guess: _Content, truth: _Truth) -> int:
  """How many symbols of the prediction have no counterpart of their shape in the truth."""
  return sum(max(0, count - truth.shapes.get(shape, 0))
             for shape, count in _shapes(guess.symbols).items())
