"""Two predictors that know nothing of the world: copy the last answer, look up the nearest action.

Both are fitted on training trajectories and have the interface of `examples.Predictor`. The third
baseline, an n-gram model, is in ngram.py.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from aw_jax.evaluation.examples import TurnExample
from aw_jax.rewards.content import tokenize
from aw_jax.trajectories import Trajectory

_CANDIDATES = 64  # nearest actions among which the state decides
_AS_NEAR = 1e-6  # difference in similarity below which two actions are equally near


class CopyLastObservation:
  """Answers with the last observation; at first with the domain's commonest first observation."""

  def __init__(self, trajectories: Iterable[Trajectory]):
    """Counts the first observations of training trajectories."""
    first: dict[str, Counter[str]] = {}
    for trajectory in trajectories:
      if trajectory.turns:
        counts = first.setdefault(trajectory.task.domain, Counter())
        counts[trajectory.turns[0].observation] += 1
    self._first = {domain: counts.most_common(1)[0][0] for domain, counts in first.items()}

  def __call__(self, examples: Sequence[TurnExample]) -> list[str | None]:
    """Predicts; None for a first turn of a domain without training trajectories."""
    return [example.history[-1][1] if example.history else self._first.get(example.domain)
            for example in examples]


class NearestAction:
  """Answers as the training turn with the most similar action was answered.

  Similarity of actions is the cosine of their token counts weighted by inverse document frequency;
  among equally near ones the most similar state (Jaccard index of the tokens of initial state and
  history) decides, then the earlier turn.
  """

  def __init__(self, trajectories: Iterable[Trajectory]):
    """Indexes every turn of the training trajectories by the tokens of its action."""
    self._observations: dict[str, list[str]] = {}
    self._states: dict[str, list[np.ndarray]] = {}
    self._ids: dict[str, int] = {}
    bags: dict[str, list[Counter[str]]] = {}
    for trajectory in trajectories:
      domain = trajectory.task.domain
      seen = set(self._state_ids(trajectory.task.initial_state or '', grow=True))
      for turn in trajectory.turns:
        bags.setdefault(domain, []).append(_bag(turn.action))
        self._observations.setdefault(domain, []).append(turn.observation)
        self._states.setdefault(domain, []).append(np.array(sorted(seen), np.int32))
        seen.update(self._state_ids(f'{turn.action}\n{turn.observation}', grow=True))
    self._index = {domain: _Index(found) for domain, found in bags.items()}

  def __call__(self, examples: Sequence[TurnExample]) -> list[str | None]:
    """Predicts; None in a domain without training trajectories."""
    return [self._predict(example) for example in examples]

  def _predict(self, example: TurnExample) -> str | None:
    if example.domain not in self._index:
      return None
    nearest = self._index[example.domain].nearest(_bag(example.action))
    past = [text for turn in example.history for text in turn]
    state = np.unique(self._state_ids('\n'.join([example.initial_state or '', *past])))
    states = self._states[example.domain]
    best = max(nearest, key=lambda row: (_jaccard(state, states[row]), -row))
    return self._observations[example.domain][best]

  def _state_ids(self, text: str, grow: bool = False) -> list[int]:
    words = _bag(text)
    if grow:
      return [self._ids.setdefault(word, len(self._ids)) for word in words]
    return [self._ids.get(word, -1) for word in words]


class _Index:
  """Turns by the tokens of their actions: an inverted index with TF-IDF weights."""

  def __init__(self, bags: list[Counter[str]]):
    frequency = Counter(word for bag in bags for word in bag)
    self._idf = {word: float(np.log((len(bags) + 1) / (count + 1)) + 1)
                 for word, count in frequency.items()}
    rows: dict[str, list[int]] = {}
    weights: dict[str, list[float]] = {}
    for row, bag in enumerate(bags):
      norm = np.sqrt(sum((count * self._idf[word]) ** 2 for word, count in bag.items())) or 1.0
      for word, count in bag.items():
        rows.setdefault(word, []).append(row)
        weights.setdefault(word, []).append(count * self._idf[word] / norm)
    self._postings = {
        word: (np.array(rows[word]), np.array(weights[word])) for word in rows}
    self._size = len(bags)

  def nearest(self, bag: Counter[str]) -> np.ndarray:
    """Rows of the equally nearest actions; of more than _CANDIDATES, the latest."""
    similarity = np.zeros(self._size)
    for word, count in bag.items():
      if word in self._postings:
        rows, weights = self._postings[word]
        similarity[rows] += count * self._idf[word] * weights
    nearest = np.flatnonzero(similarity >= similarity.max() * (1 - _AS_NEAR))
    return nearest[::-1][:_CANDIDATES]


def _bag(text: str) -> Counter[str]:
  return Counter(token for token in tokenize(text) if not token.isspace())


def _jaccard(first: np.ndarray, second: np.ndarray) -> float:
  """Jaccard index of two sorted arrays of distinct ids."""
  shared = len(np.intersect1d(first, second, assume_unique=True))
  return shared / max(1, len(first) + len(second) - shared)
