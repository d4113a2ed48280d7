"""Chat rendering, straight to token ids: actions are the user's, observations the assistant's.

Every observation, past or predicted, stands in `<predicted_observation>` tags, so that what a model
wrote may stay in its cache as the history of the next turn. Thinking stands before the tag, and
stays there: a model that notes what an action changed reads the state from its own notes.

    <|im_start|>system
    {system prompt}<|im_end|>
    <|im_start|>user
    {action}<|im_end|>
    <|im_start|>assistant
    <think>{thinking}</think><predicted_observation>{observation}</predicted_observation><|im_end|>

An agent sees the same chat from the other side: observations are the user's, actions its own.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

from aw_jax.tokenizer import END_PREDICTED, END_THINK, IM_END, PREDICTED, THINK, Tokenizer
from aw_jax.trajectories import SUBMIT


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a world model said, taken apart: the observation and the thinking ('' where none)."""

  observation: str
  thinking: str = ''


_PREDICTION = re.compile(
    rf'(?:{THINK}(?P<thinking>.*?){END_THINK}\n?)?'
    rf'{PREDICTED}(?P<observation>.*?){END_PREDICTED}(?:{re.escape(IM_END)})?', re.DOTALL)
_THINKING = re.compile(rf'{THINK}(?P<thinking>.*?){END_THINK}', re.DOTALL)
_TAGS = (THINK, END_THINK, PREDICTED, END_PREDICTED)


def parse_prediction(text: str) -> Prediction | None:
  """Takes a generated turn apart, strictly.

  Args:
    text: optional `<think>…</think>`, then `<predicted_observation>…</predicted_observation>`.
  Returns:
    The prediction, or None where a tag is missing, repeated, out of order, or where any other text
    stands outside the tags.
  """
  match = _PREDICTION.fullmatch(text)
  if match is None:
    return None
  thinking, observation = match['thinking'] or '', match['observation']
  if any(tag in part for tag in _TAGS for part in (thinking, observation)):
    return None
  return Prediction(observation, thinking)


def parse_thinking(text: str) -> str:
  """The thinking that a turn begins with, '' where it begins with anything else."""
  match = _THINKING.match(text)
  return match['thinking'] if match and not any(tag in match['thinking'] for tag in _TAGS) else ''


def message(tokenizer: Tokenizer, role: str, text: str) -> list[int]:
  """One whole plain-text message: header, text, end."""
  return [*tokenizer.role_header(role), *tokenizer.encode(text), tokenizer.special(IM_END)]


def action_message(tokenizer: Tokenizer, action: str) -> list[int]:
  """An action as the world model reads it, with the header of its answer."""
  return message(tokenizer, 'user', action) + tokenizer.role_header('assistant')


def thought(tokenizer: Tokenizer, thinking: str) -> list[int]:
  """Thinking in its tags; nothing where there is none."""
  if not thinking:
    return []
  return [tokenizer.special(THINK), *tokenizer.encode(thinking), tokenizer.special(END_THINK)]


def prediction(tokenizer: Tokenizer, observation: str, thinking: str = '') -> list[int]:
  """What the world model should say after `action_message`."""
  return [*thought(tokenizer, thinking), tokenizer.special(PREDICTED),
          *tokenizer.encode(observation), tokenizer.special(END_PREDICTED),
          tokenizer.special(IM_END)]


def world_model_context(
    tokenizer: Tokenizer, system: str, history: Iterable[tuple[str, str]],
    thoughts: Sequence[str] = ()
) -> list[int]:
  """Everything before the next action: the system message and past (action, observation) pairs.

  Args:
    tokenizer: the vocabulary.
    system: the system prompt.
    history: past turns.
    thoughts: the thinking of each, '' where there was none; by default of none.
  """
  ids = message(tokenizer, 'system', system)
  for (action, observation), thinking in itertools.zip_longest(history, thoughts, fillvalue=''):
    ids += action_message(tokenizer, action) + prediction(tokenizer, observation, thinking)
  return ids


def observation_message(tokenizer: Tokenizer, observation: str) -> list[int]:
  """An observation as the agent reads it, with the header of its next action."""
  return message(tokenizer, 'user', observation) + tokenizer.role_header('assistant')


def agent_action(tokenizer: Tokenizer, action: str) -> list[int]:
  """What the agent should say after `observation_message`; a leading `<submit>` is one token."""
  if action.startswith(SUBMIT):
    text = tokenizer.encode(action[len(SUBMIT):])
    return [tokenizer.special(SUBMIT), *text, tokenizer.special(IM_END)]
  return [*tokenizer.encode(action), tokenizer.special(IM_END)]


def agent_context(
    tokenizer: Tokenizer, system: str, first_observation: str,
    history: Iterable[tuple[str, str]]
) -> list[int]:
  """Everything before the agent's next action, ending with the header of it."""
  ids = message(tokenizer, 'system', system) + observation_message(tokenizer, first_observation)
  for action, observation in history:
    ids += agent_action(tokenizer, action) + observation_message(tokenizer, observation)
  return ids
