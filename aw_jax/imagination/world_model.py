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
  """What is to be predicted: system prompt, past (action, observation) pairs, the action."""

  system: str
  history: tuple[tuple[str, str], ...]
  action: str


@dataclasses.dataclass(frozen=True)
class WorldModel:
  """A decoder that predicts observations.

  Attributes:
    sampler: the decoder and its vocabulary.
    thinking: whether it reasons before it answers. Without, the opening tag is given to it.
    max_tokens: of an answer, thinking included.
  """

  sampler: Sampler
  thinking: bool = False
  max_tokens: int = 96

  def predict(self, system: str, history: Sequence[tuple[str, str]], action: str, n: int = 1,
              temperature: float = 0.0, seed: int = 0) -> list[Prediction]:
    """`n` predictions of what `action` gets after `history`."""
    query = Query(system, tuple(history), action)
    return self.predict_batch([query], n, temperature, seed)[0]

  def predict_batch(self, queries: Sequence[Query], n: int = 1, temperature: float = 0.0,
                    seed: int = 0, progress: str = '') -> list[list[Prediction]]:
    """`predict` of many queries at once, in their order."""
    prompts = [self.prompt(query) for query in queries]
    groups = self.sampler.sample(
        prompts, max_tokens=self.max_tokens, temperature=temperature, group=n, seed=seed,
        progress=progress)
    return [[self._parse(sample) for sample in group] for group in groups]

  def prompt(self, query: Query) -> list[int]:
    """The ids that the answer is sampled after."""
    tokenizer = self.sampler.tokenizer
    ids = chat.world_model_context(tokenizer, query.system, query.history)
    ids += chat.action_message(tokenizer, query.action)
    return ids if self.thinking else [*ids, tokenizer.special(PREDICTED)]

  def _parse(self, sample: Sample) -> Prediction:
    raw = sample.text if self.thinking else PREDICTED + sample.text
    parsed = chat.parse_prediction(raw) if sample.finished else None
    if parsed is None:
      return Prediction(None, '', sum(sample.logprobs), raw)
    return Prediction(parsed.observation, parsed.thinking, sum(sample.logprobs), raw)
