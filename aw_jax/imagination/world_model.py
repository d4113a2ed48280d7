"""The world model on the host: `predict(history, action, n)` (DESIGN.md section 3)."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
import tqdm

from aw_jax.imagination.markup import Markup
from aw_jax.imagination.teacher_forcing import Answers, Limits, Played, answer_turns
from aw_jax.models.decoder import Decoder
from aw_jax.prompts import chat
from aw_jax.sampling.sampler import Sample, Sampler
from aw_jax.tokenizer import PREDICTED


@dataclasses.dataclass(frozen=True)
class Prediction:
  """A predicted observation.

  Attributes:
    text: the observation; None where the model's answer had no valid form.
    thinking: the reasoning before it, '' where there was none or it had no valid form.
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
    others played, as `follow` does.
    """
    waiting = [query for query in queries
               if self.thinking and len(query.thoughts) < len(query.history)]
    if not waiting:
      return list(queries)
    episodes = list(dict.fromkeys((query.system, query.history) for query in waiting))
    followed = dict(zip(
        episodes, self.follow(episodes, progress and f'{progress}: notes'), strict=True))
    return [
        dataclasses.replace(query, thoughts=tuple(
            prediction.thinking for prediction in followed[query.system, query.history]))
        if query in waiting else query for query in queries]

  def follow(self, episodes: Sequence[tuple[str, Sequence[tuple[str, str]]]], progress: str = ''
             ) -> list[list[Prediction]]:
    """Greedy predictions of every turn of episodes that others played.

    Each is made from the true observations before it and from the model's own thinking in those
    turns. A turn beyond the sampler's longest prompt, and all after it, have no text.

    Args:
      episodes: the system prompt and the (action, observation) pairs of each.
      progress: label of a progress bar; none where empty.
    """
    predictions: list[list[Prediction]] = [[] for _ in episodes]
    encoded = [self._encode(*episode) for episode in episodes]
    by_length = sorted(range(len(episodes)), key=lambda i: encoded[i].length)
    widths = _Widths.of(encoded, self.sampler.max_prompt)
    rows = self.sampler.batch_size
    for start in tqdm.trange(0, len(episodes), rows, desc=progress, disable=not progress):
      batch = by_length[start:start + rows]
      answers = jax.device_get(answer_turns(
          Decoder(self.sampler.config), self.sampler.params,
          widths.played([encoded[i] for i in batch], rows), Markup.of(self.sampler.tokenizer),
          Limits(self.sampler.max_prompt, self.max_tokens, self.max_thinking * self.thinking)))
      for row, i in enumerate(batch):
        predictions[i] = [self._read(answers, row, turn) for turn in range(len(episodes[i][1]))]
    return predictions

  def _encode(self, system: str, turns: Sequence[tuple[str, str]]) -> '_Encoded':
    tokenizer = self.sampler.tokenizer
    return _Encoded(
        chat.message(tokenizer, 'system', system),
        [tokenizer.encode(action) for action, _ in turns],
        [tokenizer.encode(observation) for _, observation in turns])

  def _read(self, answers: Answers, row: int, turn: int) -> Prediction:
    """One answer of `answer_turns`."""
    decode = self.sampler.tokenizer.decode
    thinking = decode(answers.thoughts[row, turn, :answers.thought_lengths[row, turn]])
    count = answers.text_lengths[row, turn] - answers.finished[row, turn]
    raw = (thinking if self.thinking else PREDICTED) + decode(answers.texts[row, turn, :count])
    complete = answers.finished[row, turn] and answers.thought[row, turn]
    parsed = chat.parse_prediction(raw) if complete else None
    return Prediction(
        parsed and parsed.observation,
        chat.parse_thinking(thinking) if answers.thought[row, turn] else '',
        float(answers.logprobs[row, turn]), raw)

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


@dataclasses.dataclass(frozen=True)
class _Encoded:
  """An episode as ids."""

  system: list[int]
  actions: list[list[int]]
  observations: list[list[int]]

  @property
  def length(self) -> int:
    return len(self.system) + sum(map(len, self.actions)) + sum(map(len, self.observations))


@dataclasses.dataclass(frozen=True)
class _Widths:
  """What episodes are padded to: rounded up, so that few shapes are compiled."""

  system: int
  turns: int
  action: int
  observation: int

  @classmethod
  def of(cls, episodes: Sequence[_Encoded], longest_system: int) -> '_Widths':
    def up(lengths, multiple):
      return -(-max(lengths, default=1) // multiple) * multiple

    return cls(
        min(up((len(e.system) for e in episodes), 128), longest_system),
        max((len(e.actions) for e in episodes), default=1),
        up((len(action) for e in episodes for action in e.actions), 16),
        up((len(observation) for e in episodes for observation in e.observations), 16))

  def played(self, episodes: Sequence[_Encoded], rows: int) -> Played:
    """`rows` episodes: those given, and empty ones; so is one whose system prompt is too long."""
    def zeros(*shape):
      return np.zeros((rows, *shape), np.int32)

    played = Played(
        zeros(self.system), zeros(), zeros(self.turns, self.action), zeros(self.turns),
        zeros(self.turns, self.observation), zeros(self.turns))
    for row, episode in enumerate(episodes):
      if len(episode.system) > self.system:
        continue
      played.system_lengths[row] = len(episode.system)
      played.system[row, :len(episode.system)] = episode.system
      for turn, (action, observation) in enumerate(
          zip(episode.actions, episode.observations, strict=True)):
        played.action_lengths[row, turn] = len(action)
        played.actions[row, turn, :len(action)] = action
        played.observation_lengths[row, turn] = len(observation)
        played.observations[row, turn, :len(observation)] = observation
    return played
