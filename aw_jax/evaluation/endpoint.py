"""A world model behind an OpenAI-compatible endpoint, as a predictor of the benchmark."""

import asyncio
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


def observation_in(answer: str) -> str | None:
  """What an answer says is observed.

  Text in the tags; where there are none, all of it but thinking before it and the words that lead
  an observation in the benchmark's files. None where tags are there and wrong.
  """
  parsed = chat.parse_prediction(answer)
  if parsed is not None:
    return parsed.observation
  thinking, closed, rest = answer.partition(END_THINK)
  said = rest if closed and thinking.lstrip().startswith(THINK) else answer
  if any(tag in said for tag in (THINK, END_THINK, PREDICTED, END_PREDICTED)):
    return None
  return observation_of(said.lstrip('\n') if closed else said)


def endpoint_predictor(endpoint: Endpoint) -> Predictor:
  """Asks the endpoint for every turn, many at a time. Raises EndpointError where it stays away."""
  async def ask(examples: Sequence[TurnExample]) -> list[str]:
    async with ChatSession(endpoint) as session:
      return await asyncio.gather(*(session.complete(messages(example)) for example in examples))

  return lambda examples: [observation_in(answer) for answer in run(ask(examples))]
