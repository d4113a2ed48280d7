"""A world model behind an OpenAI-compatible endpoint, as a predictor of the benchmark."""

import re
from collections.abc import Sequence

from aw_jax.evaluation.bench import observation_of
from aw_jax.evaluation.examples import Predictor, TurnExample
from aw_jax.prompts import chat
from aw_jax.rewards.chat_endpoint import ChatSession, Endpoint, run
from aw_jax.tokenizer import END_PREDICTED, END_THINK, PREDICTED, THINK


def messages(example: TurnExample) -> list[dict[str, str]]:
  """The turn as a chat: actions are the user's, observations the assistant's, in their tags."""
  found = [{'role': 'system', 'content': example.system}]
  for action, observation in example.history:
    found += [{'role': 'user', 'content': action},
              {'role': 'assistant', 'content': f'{PREDICTED}{observation}{END_PREDICTED}'}]
  return [*found, {'role': 'user', 'content': example.action}]


_TAGGED = re.compile(rf'\s*{PREDICTED}(.*){END_PREDICTED}\s*', re.DOTALL)


def observation_in(answer: str) -> str | None:
  """What an answer says is observed.

  Less strict than training is about what stands around it, since every family of models spaces its
  answers in its own way: thinking before `</think>` is passed over, opened or not. Then the text in
  the tags; where there are none, all of it but the words that lead an observation in the
  benchmark's files. None where tags are there and wrong.
  """
  parsed = chat.parse_prediction(answer)
  if parsed is not None:
    return parsed.observation
  thinking, _, said = answer.rpartition(END_THINK)
  tagged = _TAGGED.fullmatch(said)
  observation = tagged[1] if tagged else observation_of(said.lstrip('\n') if thinking else said)
  if any(tag in observation for tag in (THINK, END_THINK, PREDICTED, END_PREDICTED)):
    return None
  return observation


def endpoint_predictor(endpoint: Endpoint) -> Predictor:
  """Asks the endpoint for every turn, many at a time; None where it refuses one (too long for it).

  Raises EndpointError where it stays away.
  """
  async def ask(examples: Sequence[TurnExample]) -> list[str | None]:
    async with ChatSession(endpoint) as session:
      return await session.answers([messages(example) for example in examples])

  return lambda examples: [
      None if answer is None else observation_in(answer) for answer in run(ask(examples))]
