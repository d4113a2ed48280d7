"""Answers of a model on disk, by what it was asked."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from aw_jax.trajectories import write_atomically


class AnswerCache:
  """One small file an answer, named by the hash of who was asked what; the API key is not in it."""

  def __init__(self, directory: str | os.PathLike, asked_of: Mapping[str, Any]):
    """
    Args:
      directory: of the files.
      asked_of: what an answer depends on beside the messages: model, endpoint, sampling.
    """
    self._directory, self._asked_of = os.fspath(directory), dict(asked_of)

  def path(self, messages: Sequence[Mapping[str, str]]) -> str:
    """Where the answer to `messages` lies."""
    asked = json.dumps([self._asked_of, [dict(message) for message in messages]], sort_keys=True)
    name = hashlib.sha256(asked.encode()).hexdigest()
    return os.path.join(self._directory, name[:2], f'{name}.json')

  def read(self, messages: Sequence[Mapping[str, str]]) -> str | None:
    """The answer, None where there is none; a damaged file is named in a warning and ignored."""
    path = self.path(messages)
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

  def write(self, messages: Sequence[Mapping[str, str]], answer: str) -> None:
    """Keeps an answer, atomically."""
    write_atomically(
        self.path(messages), json.dumps({**self._asked_of, 'answer': answer}) + '\n')
