"""Messages of the API as the token ids that training saw.

The system message is the world model's system prompt, user messages are actions, assistant messages
observations. A client sends back what it got, and an assistant message is read as what it is:

  * a whole answer, `<think>…</think><predicted_observation>…</predicted_observation>`: thinking and
    observation, with the tags as the special tokens they were;
  * text without any of those tags, as a client keeps it that took the observation out, or that has
    it from elsewhere: the observation of a turn without thinking;
  * anything else, such as an answer that was cut off: text and tags in the order they stand.

Tags in system and user messages are text, as they are wherever an agent or a world wrote them.
"""

import re
from collections.abc import Iterable

from aw_jax.prompts import chat
from aw_jax.serving.protocol import Message
from aw_jax.tokenizer import END_PREDICTED, END_THINK, IM_END, PREDICTED, THINK, Tokenizer

_TAGS = (THINK, END_THINK, PREDICTED, END_PREDICTED)
_TAG = re.compile('(' + '|'.join(_TAGS) + ')')


def assistant_turn(tokenizer: Tokenizer, text: str) -> list[int]:
  """Ids of an assistant message after its header, its end included."""
  prediction = chat.parse_prediction(text)
  if prediction is not None:
    return chat.prediction(tokenizer, prediction.observation, prediction.thinking)
  parts = _TAG.split(text)
  if len(parts) == 1:
    return chat.prediction(tokenizer, text)
  ids = []
  for part in parts:
    ids += [tokenizer.special(part)] if part in _TAGS else tokenizer.encode(part)
  return [*ids, tokenizer.special(IM_END)]


def render(tokenizer: Tokenizer, messages: Iterable[Message], thinking: bool) -> list[int]:
  """Ids that the answer is sampled after.

  Args:
    tokenizer: the vocabulary.
    messages: of the request.
    thinking: whether the model may think before it answers; else the observation's tag is given.
  """
  ids = []
  for message in messages:
    if message.role == 'assistant':
      ids += tokenizer.role_header('assistant') + assistant_turn(tokenizer, message.text)
    else:
      ids += chat.message(tokenizer, message.role, message.text)
  ids += tokenizer.role_header('assistant')
  return ids if thinking else [*ids, tokenizer.special(PREDICTED)]
