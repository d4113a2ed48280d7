"""The turn-level information-theoretic loss mask (PAPER.md section 3).

An observation that mostly repeats its action teaches a world model little: its tokens are trained
on only in part. A masked token stays in the context.
"""

import hashlib
import re

import numpy as np

# Share of the observation's tokens that keeps its loss, in the order in which classes are tried:
# the class that says most about redundancy comes first, because the paper gives no precedence.
KEPT = {
    'echo': 0.05,
    'boilerplate': 0.10,
    'transform': 0.50,
    'expansion': 1.0,
    'retrieval': 1.0,
    'action': 1.0,
    'other': 1.0,
}
CLASSES = tuple(KEPT)
SHORT = 80  # characters up to which an observation is short, for the class 'action'


def _words(text: str) -> set[str]:
  return set(re.findall(r'\w+', text.lower()))


def classify(action: str, observation: str) -> str:
  """The class of a turn, one of CLASSES.

  With A and O the sets of lowercased words: OL = |A∩O|/|A|, Nov = |O∖A|/|O|, R = the ratio of
  characters. An observation without any word (most often the empty one) has nothing to measure and
  is 'other'; an action without any word has OL = 0.

  Args:
    action: what the agent did.
    observation: what the environment answered.
  """
  a, o = _words(action), _words(observation)
  if not o:
    return 'other'
  overlap = len(a & o) / len(a) if a else 0.0
  novelty = len(o - a) / len(o)
  ratio = len(observation) / max(len(action), 1)
  signatures = (
      ('echo', overlap >= 0.7 and novelty < 0.3),
      ('boilerplate', overlap >= 0.5 and novelty < 0.5),
      ('transform', novelty < 0.5 and ratio < 1),
      ('expansion', overlap >= 0.5 and novelty >= 0.5 and ratio > 1.5),
      ('retrieval', novelty >= 0.6 and ratio > 1),
      ('action', novelty >= 0.5 and (ratio <= 1 or len(observation) <= SHORT)),
  )
  return next((name for name, matches in signatures if matches), 'other')


def generator(*key: object) -> np.random.Generator:
  """A random generator that is a function of `key` alone, the same on every machine."""
  digest = hashlib.sha256('/'.join(map(str, key)).encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], 'little'))


def keep(turn_class: str, length: int, *key: object) -> np.ndarray:
  """Loss weights of an observation's tokens, float32[length] of 0 and 1.

  Args:
    turn_class: one of CLASSES.
    length: the number of tokens.
    *key: seeds the choice: seed, task id, turn index.
  """
  share = KEPT[turn_class]
  if share >= 1:
    return np.ones(length, np.float32)
  return (generator('loss_mask', *key).random(length) < share).astype(np.float32)
