"""A world model behind an OpenAI-compatible endpoint, as a predictor of the benchmark."""

from collections.abc import Sequence

from aw_jax.evaluation.bench import observation_of
from aw_jax.evaluation.examples import Predictor, TurnExample
from aw_jax.rewards.chat_endpoint import ChatSession, Endpoint, run
from aw_jax.tokenizer import END_PREDICTED, END_THINK, PREDICTED, THINK


def messages(example: TurnExample) -> list[dict[str, str]]:
  """The turn as a chat: actions are the user's, observations the assistant's, in their tags."""
  found = [{'role': 'system', 'content': example.system}]
  for action, observation in example.history:
    found += [{'role': 'user', 'content': action},
              {'role': 'assistant', 'content': f'{PREDICTED}{observation}{END_PREDICTED}'}]
  return [*found, {'role': 'user', 'content': example.action}]


_LINE_ENDS = '\r\n'


def observation_in(answer: str, truth: str) -> str | None:
  """What an answer says is observed.

  Less strict than training is, since every family of models writes its answers in its own way, and
  about as AgentWorldBench's own scorer reads them. Thinking before `</think>` is passed over,
  opened or not. Then the last text in tags counts, whatever stands around it, and where none is
  closed all that follows the last opening tag; where there are no tags, all of it. The words that
  lead an observation in the benchmark's files are left out.

  Args:
    answer: the model's.
    truth: the true observation. Line ends or spaces around the answer where the truth has none are
      taken for layout, and left out.
  Returns:
    The observation; None where thinking does not end, or a tag is closed that was not opened.
  """
  thinking, _, said = answer.rpartition(END_THINK)
  if THINK in said:
    return None
  before, closed, _ = said.rpartition(END_PREDICTED)
  _, opened, observation = (before if closed else said).rpartition(PREDICTED)
  if closed and not opened:
    return None
  if opened:
    observation = observation.partition(END_PREDICTED)[0]
  elif thinking:
    observation = observation.lstrip('\n')
  return _without_layout(observation_of(observation), truth)


def _without_layout(text: str, truth: str) -> str:
  return text.lstrip(_layout_beside(truth[:1])).rstrip(_layout_beside(truth[-1:]))


def _layout_beside(edge: str) -> str | None:
  """What `str.strip` takes off where the truth has the character `edge`: None is all space."""
  if not edge.isspace():
    return None
  return '' if edge in _LINE_ENDS else _LINE_ENDS


def endpoint_predictor(endpoint: Endpoint) -> Predictor:
  """Asks the endpoint for every turn, many at a time; None where it refuses one (too long for it).

  Raises EndpointError where it stays away.
  """
  async def ask(examples: Sequence[TurnExample]) -> list[str | None]:
    async with ChatSession(endpoint) as session:
      return await session.answers([messages(example) for example in examples])

  return lambda examples: [
      None if answer is None else observation_in(answer, example.observation)
      for answer, example in zip(run(ask(examples)), examples, strict=True)]
