"""Token sequences that can be learned, of known entropy."""

import numpy as np


class MarkovSource:
  """A random bigram model, drawn once: after each token one of a few, likelier and less likely.

  Attributes:
    entropy: nats a token, which no model's loss goes below for long.
  """

  def __init__(self, vocab_size: int, states: int = 64, branches: int = 8):
    """Draws it; the same arguments give the same source.

    Args:
      vocab_size: ids 1 to at most `vocab_size - 1` are used; 0 is padding.
      states: how many tokens there are, at most; so few are learned in some dozens of steps.
      branches: how many can follow each; their probabilities go with 1, 1/2, 1/3, ...
    """
    states = min(states, vocab_size - 1)
    order = np.random.default_rng(0).random((states, states)).argsort(axis=1)
    self._following = order[:, :min(branches, states)]
    weights = 1 / np.arange(1, self._following.shape[1] + 1)
    self._probabilities = weights / weights.sum()
    self.entropy = float(-np.sum(self._probabilities * np.log(self._probabilities)))

  def sample(self, rows: int, length: int, seed: int) -> np.ndarray:
    """int32[rows, length]."""
    rng = np.random.default_rng(seed)
    state = rng.integers(len(self._following), size=rows)
    choices = rng.choice(len(self._probabilities), (length, rows), p=self._probabilities)
    tokens = np.empty((rows, length), np.int32)
    for place, choice in enumerate(choices):
      tokens[:, place] = state + 1
      state = self._following[state, choice]
    return tokens
