"""Answers of a model on disk, by what it was asked."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence

from absl import logging

from aw_jax.trajectories import write_atomically


class AnswerCache:
  """One small file an answer, named by the hash of model and messages; the key is not in it."""

  def __init__(self, directory: str | os.PathLike):
    self._directory = os.fspath(directory)

  def path(self, model: str, messages: Sequence[Mapping[str, str]]) -> str:
    """Where the answer of `model` to `messages` lies."""
    asked = json.dumps([model, [dict(message) for message in messages]], sort_keys=True)
    name = hashlib.sha256(asked.encode()).hexdigest()
    return os.path.join(self._directory, name[:2], f'{name}.json')

  def read(self, model: str, messages: Sequence[Mapping[str, str]]) -> str | None:
    """The answer, None where there is none; a damaged file is named in a warning and ignored."""
    path = self.path(model, messages)
    try:
      with open(path, encoding='utf-8') as file:
        answer = json.load(file)['answer']
      if isinstance(answer, str):
        return answer
      reason = 'its answer is no text'
    except FileNotFoundError:
      return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      reason = f'{type(error).__name__}: {error}'
    logging.warning('%s: damaged and ignored, the model is asked again (%s)', path, reason)
    return None

  def write(self, model: str, messages: Sequence[Mapping[str, str]], answer: str) -> None:
    """Keeps an answer, atomically."""
    write_atomically(
        self.path(model, messages), json.dumps({'model': model, 'answer': answer}) + '\n')
