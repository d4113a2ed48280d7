"""An n-gram world model: the strongest baseline that learns from text without a network.

It reads what a world model reads, as the same SentencePiece tokens: the initial state, the
dialogue, the action; and predicts the observation and its end. Three models are mixed:

  text      n-grams over the dialogue, so that the end of the action is the first context;
  action    n-grams of the observation given the command's frame (its words without arguments),
            backing off from the whole action and the whole observation so far;
  dialogue  n-grams of this very dialogue up to a longer order: it can copy from its context.

Each is interpolated with absolute discounting down to the uniform distribution (Chen and Goodman
1999). The mixture's weights depend on how much of the context each has met; they are fitted by
expectation maximisation on training trajectories that are left out of the counts.
"""

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from aw_jax.evaluation.examples import TurnExample, turn_examples
from aw_jax.evaluation.statistics import Interval, ratio
from aw_jax.tokenizer import END_PREDICTED, Tokenizer
from aw_jax.trajectories import Trajectory

_DISCOUNT = 0.6
_DIALOGUE_DISCOUNT = 0.3
_TUNING_SHARE = 10  # one trajectory in so many fits the mixture's weights
_MAX_TUNING_TURNS = 400
_ITERATIONS = 30
_PRIOR = 4.0  # tokens' worth of the overall weights in every bucket
_OPERATORS = frozenset(('|', '||', '&&', ';', '>', '>>', '<'))


def _of_each_domain(trajectories: Iterable[Trajectory], count: int) -> list[Trajectory]:
  """At most `count` of each domain, in random order."""
  rng = random.Random(0)
  by_domain = defaultdict(list)
  for trajectory in trajectories:
    by_domain[trajectory.task.domain].append(trajectory)
  chosen = [t for found in by_domain.values() for t in rng.sample(found, min(count, len(found)))]
  rng.shuffle(chosen)
  return chosen


class NGram:
  """The n-gram baseline; has the interface of `examples.Predictor`."""

  def __init__(
      self, tokenizer: Tokenizer, trajectories: Iterable[Trajectory], *, order: int = 5,
      dialogue_order: int = 12, max_trajectories: int = 6000, max_tokens: int = 256):
    """Counts training trajectories and fits the mixture.

    Args:
      tokenizer: the vocabulary of the world model it is compared with.
      trajectories: for training.
      order: of the text and action models.
      dialogue_order: of the dialogue model.
      max_trajectories: how many of each domain are counted, to bound memory; drawn at random.
      max_tokens: of a predicted observation, which is never longer than the longest counted one.
    """
    self._tokenizer = tokenizer
    self._order, self._dialogue_order = order, dialogue_order
    self._newline = tokenizer.encode('\n')[-1]
    self._end = tokenizer.special(END_PREDICTED)
    self._uniform = np.full(tokenizer.vocab_size, 1 / tokenizer.vocab_size)
    self._text, self._action = _Counts(), _Counts()
    chosen = _of_each_domain(trajectories, max_trajectories)
    tuning = chosen[::_TUNING_SHARE] if len(chosen) >= _TUNING_SHARE else []
    counted = [t for number, t in enumerate(chosen) if not tuning or number % _TUNING_SHARE]
    longest = max((self._count(example)
                   for example in turn_examples(counted, held_out_families=())), default=0)
    self._max_tokens = min(max_tokens, longest)
    self._weights = _Mixture()
    turns = turn_examples(tuning, held_out_families=())
    self._tune(random.Random(0).sample(turns, min(len(turns), _MAX_TUNING_TURNS)))

  def __call__(self, examples: Sequence[TurnExample]) -> list[str | None]:
    """Predicts by greedy decoding."""
    return [self._decode(example) for example in examples]

  def nll(self, examples: Sequence[TurnExample]) -> Interval:
    """Mean negative log-likelihood in nats per token of the observations and their ends.

    The tags that open an observation are not counted: nothing else can stand there. `n` is the
    number of turns; the interval draws whole trajectories.
    """
    sums = [float(-np.log(self._likelihoods(example)).sum()) for example in examples]
    counts = [len(self._target(example)) for example in examples]
    return ratio(sums, counts, [example.trajectory for example in examples])

  def distribution(self, example: TurnExample, prefix: Sequence[int]) -> np.ndarray:
    """Probabilities float64[vocabulary] of the next token of an observation that begins so."""
    dialogue = _Dialogue(self._context(example), self._dialogue_order)
    for token in prefix:
      dialogue.append(token)
    columns, bucket = self._components(_Action(example.action), dialogue, list(prefix))
    return self._weights.of(bucket) @ columns

  def _decode(self, example: TurnExample) -> str:
    action = _Action(example.action)
    dialogue = _Dialogue(self._context(example), self._dialogue_order)
    said: list[int] = []
    while len(said) < self._max_tokens:
      columns, bucket = self._components(action, dialogue, said)
      token = int(np.argmax(self._weights.of(bucket) @ columns))
      if token == self._end:
        break
      said.append(token)
      dialogue.append(token)
    return self._tokenizer.decode(said)

  def _likelihoods(self, example: TurnExample) -> np.ndarray:
    return np.array([self._weights.of(bucket) @ column
                     for column, bucket in self._steps(example)])

  def _steps(self, example: TurnExample) -> Iterator[tuple[np.ndarray, Hashable]]:
    """For every true token: its probability under each component, float64[3], and the bucket."""
    action = _Action(example.action)
    dialogue = _Dialogue(self._context(example), self._dialogue_order)
    said: list[int] = []
    for token in self._target(example):
      columns, bucket = self._components(action, dialogue, said)
      yield columns[:, token], bucket
      said.append(token)
      dialogue.append(token)

  def _context(self, example: TurnExample) -> list[int]:
    """Ids of what stands before the observation; a newline stands for the markup of a turn."""
    encode = self._tokenizer.encode
    ids = [*encode(example.initial_state or ''), self._newline]
    for action, observation in example.history:
      ids += [*encode(action), self._newline, *encode(observation), self._end, self._newline]
    return [*ids, *encode(example.action), self._newline]

  def _target(self, example: TurnExample) -> list[int]:
    return [*self._tokenizer.encode(example.observation), self._end]

  def _count(self, example: TurnExample) -> int:
    """Counts one observation; returns its length."""
    tokens, action = self._context(example)[-self._order:], _Action(example.action)
    said: list[int] = []
    for token in self._target(example):
      self._text.add(_suffixes(tokens, self._order), token)
      self._action.add(action.contexts(said, self._order), token)
      said.append(token)
      tokens = [*tokens[1 - self._order:], token]
    return len(said)

  def _components(
      self, action: '_Action', dialogue: '_Dialogue', said: list[int]
  ) -> tuple[np.ndarray, Hashable]:
    """Next-token probabilities float64[3, vocabulary] of the components, and the mixture's bucket.

    The bucket is a function of the context alone, so the mixture is a distribution.
    """
    suffixes = _suffixes(dialogue.tokens, self._order)
    text, met = self._text.distribution(suffixes, self._uniform)
    given, known = self._action.distribution(action.contexts(said, self._order), self._uniform)
    copied, copied_length = dialogue.distribution(self._uniform)
    return np.stack([text, given, copied]), (known, copied_length, met >= self._order)

  def _tune(self, examples: Sequence[TurnExample]) -> None:
    steps = [step for example in examples for step in self._steps(example)]
    if steps:
      self._weights = _Mixture([column for column, _ in steps], [bucket for _, bucket in steps])


class _Counts:
  """What followed each context in training. A context met once is kept as its one token."""

  def __init__(self):
    self._followers: dict[int, int | Counter[int]] = {}
    self._arrays: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # of the contexts asked for

  def add(self, contexts: Iterable[Hashable], token: int) -> None:
    """Counts `token` after each of `contexts`."""
    self._arrays.clear()
    for context in contexts:
      key = hash(context)  # 64 bits tell millions of contexts apart and keep the table small
      found = self._followers.get(key)
      if found is None:
        self._followers[key] = token
        continue
      if isinstance(found, int):
        found = self._followers[key] = Counter({found: 1})
      found[token] += 1

  def distribution(
      self, contexts: Iterable[Hashable], base: np.ndarray) -> tuple[np.ndarray, int]:
    """Interpolates from the coarsest context to the finest that was met; returns how many were."""
    probabilities, met = base.copy(), 0
    for context in contexts:
      key = hash(context)
      found = self._followers.get(key)
      if found is None:
        break
      if isinstance(found, int):
        _add_single(probabilities, found, _DISCOUNT)
      else:
        if key not in self._arrays:
          self._arrays[key] = _arrays(found)
        _interpolate(probabilities, *self._arrays[key], _DISCOUNT)
      met += 1
    return probabilities, met


def _arrays(counts: Counter[int]) -> tuple[np.ndarray, np.ndarray]:
  """Tokens int[K] and their counts float64[K]."""
  return np.array(list(counts)), np.array(list(counts.values()), np.float64)


def _interpolate(
    probabilities: np.ndarray, tokens: np.ndarray, counts: np.ndarray, discount: float) -> None:
  """Discounts the counts and gives the freed mass to the coarser distribution, in place."""
  total = counts.sum()
  probabilities *= discount * len(tokens) / total
  probabilities[tokens] += (counts - discount) / total


def _add_single(probabilities: np.ndarray, token: int, discount: float) -> None:
  """`_interpolate` with one token that was met once."""
  probabilities *= discount
  probabilities[token] += 1 - discount


def _suffixes(tokens: Sequence[int], order: int) -> list[tuple[int, ...]]:
  """The contexts of an n-gram model, from the empty one to the last `order - 1` tokens."""
  return [tuple(tokens[len(tokens) - length:]) for length in range(order)
          if length <= len(tokens)]


class _Action:
  """An action as a context: its frame and its whole text."""

  def __init__(self, action: str):
    self._frame = _frame(action)
    self._text = action

  def contexts(self, said: Sequence[int], order: int) -> list[Hashable]:
    """From the frame alone to the whole action with the whole observation so far."""
    start = [-1, *said]  # the beginning of an observation is a context as well
    return [
        (), self._frame,
        *((self._frame, tuple(start[-length:])) for length in range(1, order)
          if length <= len(start)),
        (self._text, tuple(said))]


def _frame(action: str) -> str:
  """A command without its arguments: `sort -r a | head -n 2` is `sort -r | head -n`.

  Of a tool call, the tool's name and the names of its arguments.
  """
  if action.startswith('{'):
    try:
      call = json.loads(action)
      return ' '.join([str(call['name']), *sorted(call.get('arguments', {}))])
    except (ValueError, KeyError, TypeError, RecursionError):
      return 'not a call'
  words = re.findall(r'\|\||&&|>>|[|;<>]|[^\s|;<>&]+', action)
  return ' '.join(
      word for before, word in zip(['|', *words], words, strict=False)
      if word in _OPERATORS or word.startswith('-') or before in ('|', '||', '&&', ';'))


class _Dialogue:
  """The tokens of one dialogue so far, as the training text of a small n-gram model."""

  def __init__(self, tokens: Sequence[int], order: int):
    self.tokens: list[int] = []
    self._longest = order - 1
    self._counts: Counter[int] = Counter()
    self._after: dict[int, list[int]] = {}  # token -> the places right after it
    for token in tokens:
      self.append(token)

  def append(self, token: int) -> None:
    """Adds the next token."""
    self.tokens.append(token)
    self._counts[token] += 1
    self._after.setdefault(token, []).append(len(self.tokens))

  def distribution(self, base: np.ndarray) -> tuple[np.ndarray, int]:
    """Next-token probabilities, and the length of the longest context that occurred before."""
    probabilities = base.copy()
    _interpolate(probabilities, *_arrays(self._counts), _DIALOGUE_DISCOUNT)
    end = len(self.tokens)
    places = self._after[self.tokens[-1]][:-1]  # the last one is the end itself
    length = 0
    while places and length < self._longest:
      length += 1
      followers = [self.tokens[place] for place in places]
      if len(followers) == 1:
        _add_single(probabilities, followers[0], _DIALOGUE_DISCOUNT)
      else:
        _interpolate(probabilities, *_arrays(Counter(followers)), _DIALOGUE_DISCOUNT)
      before = self.tokens[end - length - 1] if end > length else None
      places = [place for place in places
                if place > length and self.tokens[place - length - 1] == before]
    return probabilities, length


class _Mixture:
  """Weights of the components by bucket, fitted by expectation maximisation."""

  def __init__(self, columns: Sequence[np.ndarray] = (), buckets: Sequence[Hashable] = ()):
    """Fits; without data the components weigh the same.

    Args:
      columns: for every token, its probability under each component, float64[3].
      buckets: the bucket of every token.
    """
    self._overall = np.full(3, 1 / 3)
    self._by_bucket: dict[Hashable, np.ndarray] = {}
    if not len(columns):
      return
    likelihoods = np.stack(columns)
    names = {name: index for index, name in enumerate(dict.fromkeys(buckets))}
    index = np.array([names[bucket] for bucket in buckets])
    self._overall = _fit(likelihoods, np.zeros(len(index), int), np.full((1, 3), 1 / 3), 0.0)[0]
    start = np.tile(self._overall, (len(names), 1))
    self._by_bucket = dict(zip(names, _fit(likelihoods, index, start, _PRIOR), strict=True))

  def of(self, bucket: Hashable) -> np.ndarray:
    """Weights float64[3] that sum to one."""
    return self._by_bucket.get(bucket, self._overall)


def _fit(likelihoods: np.ndarray, index: np.ndarray, start: np.ndarray, prior: float) -> np.ndarray:
  """Mixture weights float64[buckets, 3] after some steps of expectation maximisation."""
  weights = start
  for _ in range(_ITERATIONS):
    share = weights[index] * likelihoods
    totals = prior * start
    np.add.at(totals, index, share / share.sum(axis=1, keepdims=True))
    weights = totals / totals.sum(axis=1, keepdims=True)
  return weights
