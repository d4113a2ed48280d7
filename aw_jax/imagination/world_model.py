"""The world model on the host: `predict(history, action, n)` (DESIGN.md section 3)."""

import dataclasses
from collections.abc import Sequence

from aw_jax.prompts import chat
from aw_jax.sampling.sampler import Sample, Sampler
from aw_jax.tokenizer import PREDICTED


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A predicted observation.

  Attributes:
    text: the observation; None where the model's answer had no valid form.
    thinking: the reasoning before it, '' where there was none.
    logprob: of the whole answer, in nats.
    raw: the answer as it was generated, tags included.
  """

  text: str | None
  thinking: str
  logprob: float
  raw: str


@dataclasses.dataclass(frozen=True)
class Query:
  """What is to be predicted.

  Attributes:
    system: the system prompt.
    history: past (action, observation) pairs.
    action: the action to answer.
    thoughts: the model's own thinking in the past turns, '' where there was none; those that are
      missing are made up for by `WorldModel.recall`.
  """

  system: str
  history: tuple[tuple[str, str], ...]
  action: str
  thoughts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class WorldModel:
  """A decoder that predicts observations.

  Attributes:
    sampler: the decoder and its vocabulary.
    thinking: whether it may reason before it answers. Without, the opening tag is given to it.
    max_tokens: of an answer, thinking included.
    max_thinking: of thinking alone, its tags included.
  """

  sampler: Sampler
  thinking: bool = False
  max_tokens: int = 96
  max_thinking: int = 72

  def predict(self, system: str, history: Sequence[tuple[str, str]], action: str, n: int = 1,
              temperature: float = 0.0, seed: int = 0, thoughts: Sequence[str] = ()
              ) -> list[Prediction]:
    """`n` predictions of what `action` gets after `history`; `thoughts` as in `Query`."""
    query = Query(system, tuple(history), action, tuple(thoughts))
    return self.predict_batch([query], n, temperature, seed)[0]

  def predict_batch(self, queries: Sequence[Query], n: int = 1, temperature: float = 0.0,
                    seed: int = 0, progress: str = '') -> list[list[Prediction]]:
    """`predict` of many queries at once, in their order."""
    prompts = [self.prompt(query) for query in self.recall(queries, progress)]
    groups = self.sampler.sample(
        prompts, max_tokens=self.max_tokens, temperature=temperature, group=n, seed=seed,
        progress=progress)
    return [[self._parse(sample) for sample in group] for group in groups]

  def recall(self, queries: Sequence[Query], progress: str = '') -> list[Query]:
    """The queries with the thoughts that the model would have had in their past turns.

    A model that thinks reads the state from its own notes, so it takes them of a history that
    others played: turn after turn, greedily, each seeing the true observations before it.
    """
    if not self.thinking:
      return list(queries)
    recalled = list(queries)
    for turn in range(max((len(query.history) for query in queries), default=0)):
      waiting = [i for i, query in enumerate(recalled)
                 if len(query.thoughts) == turn < len(query.history)]
      past = {i: dataclasses.replace(
          recalled[i], history=recalled[i].history[:turn], action=recalled[i].history[turn][0])
              for i in waiting}
      thoughts = self._think(
          list(dict.fromkeys(past.values())), progress and f'{progress}: notes of turn {turn + 1}')
      for i in waiting:
        recalled[i] = dataclasses.replace(
            recalled[i], thoughts=(*recalled[i].thoughts, thoughts[past[i]]))
    return recalled

  def _think(self, queries: Sequence[Query], progress: str) -> dict[Query, str]:
    """The thinking that the answer to each query begins with; '' of one beyond the context."""
    prompts = {query: self.prompt(query) for query in queries}
    fitting = [query for query in queries if len(prompts[query]) <= self.sampler.max_prompt]
    samples = self.sampler.sample(
        [prompts[query] for query in fitting], max_tokens=self.max_thinking, stop=PREDICTED,
        progress=progress)
    return dict.fromkeys(queries, '') | {
        query: chat.parse_thinking(sample.text)
        for query, (sample,) in zip(fitting, samples, strict=True)}

  def prompt(self, query: Query) -> list[int]:
    """The ids that the answer is sampled after."""
    tokenizer = self.sampler.tokenizer
    ids = chat.world_model_context(tokenizer, query.system, query.history, query.thoughts)
    ids += chat.action_message(tokenizer, query.action)
    return ids if self.thinking else [*ids, tokenizer.special(PREDICTED)]

  def _parse(self, sample: Sample) -> Prediction:
    raw = sample.text if self.thinking else PREDICTED + sample.text
    parsed = chat.parse_prediction(raw) if sample.finished else None
    if parsed is None:
      return Prediction(None, '', sum(sample.logprobs), raw)
    return Prediction(parsed.observation, parsed.thinking, sum(sample.logprobs), raw)
