"""The reference judge: five dimensions from 1 to 5, by comparison with the truth.

The judge of PAPER.md section 5 is a language model with the true observation as its reference. This
one is a program, so it can be neither flattered nor talked to. Every dimension is made of two kinds
of terms: *recall*, how much of the true content the prediction holds in the true order, and
*excess*, a count of what does not belong. Text that meets nothing of the truth therefore cannot
raise any dimension, whatever it says; it can only add to the excess.

Content is compared as the longest common subsequence of bigrams (two neighbouring tokens, line ends
included), which a stray right word does not meet.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from aw_jax.prompts import chat
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
from aw_jax.rewards.verifiers import exact_match

DIMENSIONS = ('format', 'factuality', 'consistency', 'realism', 'quality')
MIN_SCORE, MAX_SCORE = 1.0, 5.0
_NOT_EXACT = 0.95  # the most that a dimension gives a prediction that is not exact
_STYLE = 0.95  # right values of JSON in another key order or spacing
_LINE_END = '\n'
_JSON_MARKUP = frozenset(' {}[]",:\n')
_KEY = re.compile(r'"([^"\n]*)" *:')
_DIGITS, _WORD, _RUN = re.compile(r'\d+'), re.compile(r'[^\W\d_]+'), re.compile(r'a(?: a)+')
_ERROR = re.compile(
    r'^(?:Error\b|Traceback |fatal: |[\w./-]+: .*(?:No such|not found|[Cc]annot|failed|denied|'
    r'nvalid|missing|irectory|exists|rror|nexpected|unable|not a |option))[^\n]*', re.MULTILINE)


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


class _Content(NamedTuple):
  """Symbols without prompt and spaces, their bigrams, the shapes of lines or keys, the prompt."""

  symbols: list[Symbol]
  bigrams: list[tuple[Symbol, Symbol]]
  forms: list[str]
  prompt: str | None


class _Truth(NamedTuple):
  """The reference's side of every comparison."""

  content: _Content
  vocabulary: frozenset[str]
  kinds: tuple[Kind, ...]
  shapes: dict[str, int]
  forms: frozenset[str]
  reason: str | None  # of an error, what stands after the last colon


def judge_turn(generated_text: str, reference: Reference) -> Scores | None:
  """Judges a generated turn by its observation tag alone; None where it is invalid."""
  prediction = chat.parse_prediction(generated_text)
  return None if prediction is None else judge(prediction.observation, reference)


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
  met = common_subsequence(guess.bigrams, truth.content.bigrams)
  length = len(truth.content.bigrams)
  recall = (met + 1) / (length + 1)
  overlap = (2 * met + 1) / (len(guess.bigrams) + length + 1)
  parts = (
      _format(predicted, guess, truth, met, recall, reference),
      _factuality(predicted, guess, truth, overlap, reference),
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
  error = _ERROR.search(reference.observation)
  return _Truth(
      content, frozenset(s for s in content.symbols if isinstance(s, str)),
      tuple({s for s in content.symbols if not isinstance(s, str)}),
      Counter(map(_shape, content.symbols)), frozenset(content.forms),
      None if error is None else error[0].rpartition(': ')[2])


def _content(symbols: Sequence[Symbol], text: str, reference: Reference) -> _Content:
  prompt, lines = None, text.split('\n')
  if reference.json_value is not None:
    kept = [symbol for symbol in symbols if symbol not in _JSON_MARKUP]
    forms = _KEY.findall(text)
  else:
    if reference.domain == 'terminal':
      lines, prompt = split_prompt(text)
      if prompt is not None:
        symbols = symbols[:_body_length(symbols)]
    kept = [symbol for symbol in symbols if not _is_space(symbol)]
    forms = [_line_form(line) for line in lines]
  # A terminal's lines each end with a line end; any other text has one where it stops.
  ended = kept if kept and kept[-1] == _LINE_END or not kept else [*kept, _LINE_END]
  bigrams = list(zip([_LINE_END, *ended], ended, strict=False))
  return _Content(kept, bigrams, forms, prompt)


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


def common_subsequence(
    guess: Sequence[tuple[Symbol, Symbol]], truth: Sequence[tuple[Symbol, Symbol]]) -> int:
  """Length of the longest common subsequence of two sequences of bigrams; kinds match what fits.

  Bit-parallel (Hyyrö 2004): one big-integer step per bigram of `guess`.
  """
  positions: dict[tuple[Symbol, Symbol], int] = {}
  kinds: set[Kind] = set()
  for index, bigram in enumerate(truth):
    positions[bigram] = positions.get(bigram, 0) | 1 << index
    kinds.update(symbol for symbol in bigram if not isinstance(symbol, str))
  if not positions:
    return 0
  full = (1 << len(truth)) - 1
  row, found = full, {}
  for bigram in guess:
    mask = positions.get(bigram, 0) if not kinds else found.get(bigram)
    if mask is None:
      mask = found[bigram] = _lenient_mask(bigram, positions, kinds)
    overlap = row & mask
    row = (row + overlap | row - overlap) & full
  return len(truth) - row.bit_count()


def _lenient_mask(bigram, positions, kinds) -> int:
  first, second = ([part, *(kind for kind in kinds if fits(kind, part))] for part in bigram)
  mask = 0
  for left in first:
    for right in second:
      mask |= positions.get((left, right), 0)
  return mask


def _format(predicted, guess, truth, met, recall, reference) -> float:
  """Is of the reference's kind, and its lines or keys have shapes that the reference has."""
  if reference.domain == 'terminal':
    well_formed = guess.prompt is not None or truth.content.prompt is None
  elif reference.json_value is not None:
    well_formed = met > 0 and parse_json(predicted) is not None
  else:
    is_error = reference.observation.startswith('Error')
    well_formed = met > 0 and (predicted.startswith('Error') or not is_error)
  alien = sum(form not in truth.forms for form in guess.forms)
  return 0.4 * well_formed + 0.3 / (1 + alien / max(1, len(truth.content.forms))) + 0.3 * recall


def _factuality(predicted, guess, truth, overlap, reference) -> float:
  """The true content in the true order; of a terminal, the prompt's directory too."""
  if reference.domain == 'terminal':
    weight = 0.2 if truth.content.bigrams else 0.5
    return weight * _prompt_agreement(guess, truth) + (1 - weight) * overlap
  if reference.json_value is not None and parse_json(predicted) is None:
    return 0.8 * overlap
  return overlap


def _consistency(predicted, guess, truth, met, recall, reference) -> float:
  """The outcome and the place are right, and no word comes out of nowhere."""
  if truth.reason is not None:
    same_outcome = re.search(
        rf'(?:^|: ){re.escape(truth.reason)}$', predicted, re.MULTILINE) is not None
  elif not truth.content.bigrams:
    same_outcome = not guess.bigrams
  else:
    same_outcome = met > 0 and _ERROR.search(predicted) is None
  place = _prompt_agreement(guess, truth) if reference.domain == 'terminal' else recall
  foreign = sum(_is_foreign(symbol, truth, reference) for symbol in guess.symbols)
  grounded = (0.3 + 0.7 * recall) / (1 + foreign / max(3, len(truth.content.bigrams)))
  return 0.4 * same_outcome + 0.2 * place + 0.4 * grounded


def _prompt_agreement(guess: _Content, truth: _Truth) -> float:
  """1 for the true prompt, some for a prompt of another directory, 0 for none."""
  if guess.prompt == truth.content.prompt:
    return 1.0
  return 0.0 if guess.prompt is None else 0.25


def _is_foreign(word: str, truth: _Truth, reference: Reference) -> bool:
  """Whether a word stands neither in the truth nor in what could be seen."""
  return (word[0].isalnum() and word not in truth.vocabulary and word not in reference.familiar
          and not any(fits(kind, word) for kind in truth.kinds))


def _line_form(line: str) -> str:
  """The shape of a line: words, and runs of words, as `a`, numbers as `0`."""
  return _RUN.sub('a', _WORD.sub('a', _DIGITS.sub('0', line)))


def _shape(symbol: Symbol) -> str:
  if not isinstance(symbol, str):
    return {'word': 'a', 'month': 'a', 'weekday': 'a', 'integer': '0', 'hash': 'h'}.get(
        symbol.name, '0.0')
  if symbol.isalpha():
    return 'a'
  if symbol.isdecimal():
    return '0'
  return symbol if len(symbol) == 1 else '0.0' if symbol[0].isdecimal() else 'h'


def _excess_shapes(guess: _Content, truth: _Truth) -> int:
  """How many symbols of the prediction have no counterpart of their shape in the truth."""
  counts = Counter(map(_shape, guess.symbols))
  return sum(max(0, count - truth.shapes.get(shape, 0)) for shape, count in counts.items())
