"""Where agents play: real, imagined or mixed. Each world plays a group of episodes of each task.

Shapes: N tasks, G episodes of each, B = N * G rows, S tokens of an agent's context.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import jax
import numpy as np

from aw_jax.environments.base import BrokenEnvironmentError, Environment
from aw_jax.environments.episode import is_success, submission_of
from aw_jax.imagination.rollout import EpisodePrompts, Markup, Rollout, RolloutConfig, rollout
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder
from aw_jax.prompts import chat, templates
from aw_jax.sampling.sampler import Sampler
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.trajectories import SUBMIT, Task, Trajectory, Turn


@dataclasses.dataclass(frozen=True)
class Episodes:
  """Played episodes, for people and for the policy gradient.

  Attributes:
    trajectories: B of them, those of one task together.
    tokens: int32[B, S] each agent's context.
    speaker: bool[B, S] the tokens that the agent said.
    logprobs: float32[B, S] of those when they were sampled.
  """

  trajectories: list[Trajectory]
  tokens: np.ndarray
  speaker: np.ndarray
  logprobs: np.ndarray

  def successes(self) -> np.ndarray:
    """float32[B]; a broken episode is a failure."""
    return np.array([bool(t.success) for t in self.trajectories], np.float32)


class RolloutSizeError(ValueError):
  """A task does not fit the rollout's sizes; the message says which to raise."""


class World(Protocol):
  """Anything that plays episodes.

  In every world alike: an action whose first token is the submit token ends the episode; so does
  one that is blank, holds chat markup or does not end within `max_action` tokens, as a failure and
  without the hidden check.
  """

  def play(self, params: Any, tasks: Sequence[Task], group: int, seed: int,
           temperature: float = 1.0) -> Episodes:
    """`group` episodes of each task by an agent of these parameters."""


def agent_start(tokenizer: Tokenizer, task: Task) -> list[int]:
  """The agent's context before its first action; the first observation is empty everywhere."""
  return chat.agent_context(
      tokenizer, templates.agent_prompt(task.domain, task.instruction), '', ())


def concatenate(parts: Sequence[Episodes]) -> Episodes:
  """Episodes of several worlds or batches as one."""
  trajectories = [trajectory for part in parts for trajectory in part.trajectories]
  return Episodes(trajectories, *(
      np.concatenate([getattr(part, name) for part in parts])
      for name in ('tokens', 'speaker', 'logprobs')))


class ImaginedWorld:
  """The jitted rollout in a world model."""

  def __init__(self, agent_config: ModelConfig, tokenizer: Tokenizer, world_config: ModelConfig,
               world_params: Any, config: RolloutConfig, tasks_at_a_time: int = 8,
               template: str = 'v0', prompts: str = 'short'):
    """
    Args:
      agent_config: of the agent's decoder.
      tokenizer: both models' vocabulary.
      world_config: of the world model's decoder, and `world_params` its parameters.
      config: sizes; its group and agent temperature are those of each `play`.
      tasks_at_a_time: tasks of one device program; fixes its shape.
      template: of the world model's system prompt.
      prompts: the size of it, one of `templates.SIZES`.
    """
    self._agent, self._world = Decoder(agent_config), Decoder(world_config)
    self._world_params = world_params
    self._tokenizer = tokenizer
    self._config = config
    self._tasks_at_a_time = tasks_at_a_time
    self._template, self._prompt_size = template, prompts

  def play(self, params, tasks, group, seed, temperature=1.0) -> Episodes:
    config = dataclasses.replace(self._config, group=group, agent_temperature=temperature)
    parts = []
    for index, start in enumerate(range(0, len(tasks), self._tasks_at_a_time)):
      batch = tasks[start:start + self._tasks_at_a_time]
      key = jax.random.fold_in(jax.random.key(seed), index)
      out = jax.device_get(rollout(
          self._agent, params, self._world, self._world_params, self._prompts(batch), key,
          Markup.of(self._tokenizer), config))
      rows = len(batch) * group
      trajectories = [read_row(self._tokenizer, out, row, batch[row // group])
                      for row in range(rows)]
      parts.append(Episodes(
          trajectories, out.tokens[:rows], out.speaker[:rows], out.logprobs[:rows]))
    return concatenate(parts)

  def _prompts(self, tasks: Sequence[Task]) -> EpisodePrompts:
    """Padded to fixed widths: no compiled shape depends on a task. Raises RolloutSizeError."""
    tokenizer, rows = self._tokenizer, self._tasks_at_a_time

    def padded(prompts, width, size):
      tokens, lengths = np.zeros((rows, width), np.int32), np.zeros(rows, np.int32)
      for row, (task, prompt) in enumerate(zip(tasks, prompts, strict=True)):
        if len(prompt) > width:
          raise RolloutSizeError(
              f'task {task.id}: needs {len(prompt)} tokens where {width} are kept; raise '
              f'agent.rollout.{size}')
        tokens[row, :len(prompt)] = prompt
        lengths[row] = len(prompt)
      return tokens, lengths

    agents = [agent_start(tokenizer, task) for task in tasks]
    worlds = [chat.message(tokenizer, 'system', templates.task_prompt(
        task, self._template, size=self._prompt_size)) for task in tasks]
    checks = [chat.message(tokenizer, 'user', task.verifier.command)
              if task.verifier.kind == 'command' else [] for task in tasks]
    turns = np.zeros(rows, np.int32)
    turns[:len(tasks)] = [min(task.max_turns, self._config.turns) for task in tasks]
    c = self._config
    return EpisodePrompts(
        *padded(agents, c.agent_slots // 4, 'agent_slots'),
        *padded(worlds, c.world_slots // 2, 'world_slots'),
        *padded(checks, c.world_slots // 16, 'world_slots'), turns)


def is_action(tokenizer: Tokenizer, tokens: Sequence[int], text: str) -> bool:
  """Whether what an agent said is an action: it ends, holds no other markup and is not blank.

  Args:
    tokenizer: the agent's vocabulary.
    tokens: as they were sampled, the end of the message included where it came.
    text: of them, without that end.
  """
  end = tokenizer.special(IM_END)
  reserved = set(tokenizer.reserved)
  return bool(tokens[-1] == end and text.strip() and reserved.isdisjoint(tokens[:-1]))


def read_row(tokenizer: Tokenizer, out: Rollout, row: int, task: Task) -> Trajectory:
  """One row of a rollout as a trajectory, its success decided by the task's verifier.

  Where the world model had no valid answer, to an action or to the hidden check, `error` says so
  and `success` is None: as in a real world that broke, the agent did not fail, nor did it succeed.
  """
  turns, submission, error, acted = [], None, '', True
  for k in range(out.actions.shape[1]):
    length = int(out.action_lengths[row, k])
    if not length:
      break
    tokens = out.actions[row, k, :length].tolist()
    action = tokenizer.decode(tokens).removesuffix(IM_END)
    if tokens[0] == tokenizer.special(SUBMIT):
      submission = submission_of(action)
      continue
    acted = is_action(tokenizer, tokens, action)
    if not acted:  # tokens without text are answered, but as in a real world nothing was done
      break
    if out.answered[row, k]:
      count = int(out.observation_lengths[row, k])
      turns.append(Turn(action, tokenizer.decode(out.observations[row, k, :count])))
    else:
      error = f'the world model did not answer turn {k + 1}'
  verification = None
  if acted and not error and task.verifier.kind == 'command':
    if out.checked[row]:
      text = tokenizer.decode(out.check[row, :int(out.check_lengths[row])])
      verification = Turn(task.verifier.command, text)
    else:
      error = 'the world model did not answer the hidden check'
  success = None if error else acted and is_success(task, submission, verification)
  return Trajectory(task, 'agent', tuple(turns), submission, verification, success, error)


@dataclasses.dataclass
class _Row:
  """An episode in a real environment, as far as it has come."""

  environment: Environment
  task: Task
  tokens: list[int]
  speaker: list[bool] = dataclasses.field(default_factory=list)
  logprobs: list[float] = dataclasses.field(default_factory=list)
  turns: list[Turn] = dataclasses.field(default_factory=list)
  submission: str | None = None
  error: str = ''
  active: bool = True
  acted: bool = True  # False after an action that was none: blank, with markup, or without end

  def say(self, tokens, speaker, logprobs) -> None:
    self.tokens += tokens
    self.speaker += [speaker] * len(tokens)
    self.logprobs += logprobs


class RealWorld:
  """The host loop over real environments: all rows act in one batch, then each world answers."""

  def __init__(self, agent_config: ModelConfig, tokenizer: Tokenizer,
               make_environment: Callable[[str], Environment], config: RolloutConfig,
               environments: int = 16):
    """
    Args:
      agent_config: of the agent's decoder.
      tokenizer: its vocabulary.
      make_environment: an environment of a domain, kept and reused until `close`.
      config: `turns`, `max_action` and `agent_slots` bind as in imagination.
      environments: episodes at a time, an environment each.
    """
    self._agent_config = agent_config
    self._tokenizer = tokenizer
    self._make_environment = make_environment
    self._config = config
    self._count = environments
    self._idle: dict[str, list[Environment]] = {}
    self._threads = ThreadPoolExecutor(environments)

  def close(self) -> None:
    """Closes every environment."""
    self._threads.shutdown()
    for environments in self._idle.values():
      for environment in environments:
        environment.close()
    self._idle = {}

  def play(self, params, tasks, group, seed, temperature=1.0) -> Episodes:
    episodes = [task for task in tasks for _ in range(group)]
    sampler = Sampler(self._agent_config, params, self._tokenizer, self._count, 256,
                      self._config.agent_slots)
    parts = [
        self._play_batch(sampler, episodes[start:start + self._count], seed + start, temperature)
        for start in range(0, len(episodes), self._count)]
    return concatenate(parts)

  def _play_batch(self, sampler, tasks, seed, temperature) -> Episodes:
    rows = list(self._threads.map(self._begin, [self._take(task.domain) for task in tasks], tasks))
    for turn in range(max(map(self._turns, tasks))):
      active = [row for row in rows if row.active]
      if not active:
        break
      samples = sampler.sample(
          [row.tokens for row in active], max_tokens=self._config.max_action,
          temperature=temperature, seed=hash((seed, turn)) % (1 << 31))
      list(self._threads.map(self._act, active, [sample[0] for sample in samples]))
    trajectories = list(self._threads.map(self._end, rows))
    for row in rows:
      self._idle.setdefault(row.environment.domain, []).append(row.environment)
    return self._pack(rows, trajectories)

  def _turns(self, task: Task) -> int:
    return min(task.max_turns, self._config.turns)

  def _take(self, domain: str) -> Environment:
    idle = self._idle.get(domain)
    return idle.pop() if idle else self._make_environment(domain)

  def _begin(self, environment: Environment, task: Task) -> _Row:
    row = _Row(environment, task, [])
    start = agent_start(self._tokenizer, task)
    row.say(start, False, [0.0] * len(start))
    try:
      environment.reset(task, task.seed)
    except BrokenEnvironmentError as error:
      row.error, row.active = str(error), False
    return row

  def _act(self, row: _Row, sample) -> None:
    row.say(sample.tokens, True, sample.logprobs)
    if sample.tokens[0] == self._tokenizer.special(SUBMIT):
      row.submission, row.active = submission_of(sample.text), False
      return
    if not is_action(self._tokenizer, sample.tokens, sample.text):
      row.acted = row.active = False
      return
    try:
      step = row.environment.step(sample.text)
    except BrokenEnvironmentError as error:
      row.error, row.active = str(error), False
      return
    row.turns.append(Turn(sample.text, step.observation,
                          runtime_metadata=tuple(step.info.get('runtime_metadata', ()))))
    message = chat.observation_message(self._tokenizer, step.observation)
    limit = self._config.agent_slots - self._config.max_action
    row.active = (len(row.turns) < self._turns(row.task)
                  and len(row.tokens) + len(message) <= limit)
    if row.active:
      row.say(message, False, [0.0] * len(message))

  def _end(self, row: _Row) -> Trajectory:
    verification = None
    command = row.task.verifier.command
    if row.task.verifier.kind == 'command' and row.acted and not row.error:
      try:
        verification = Turn(command, row.environment.verify(command))
      except BrokenEnvironmentError as error:
        row.error = str(error)
    success = None if row.error else is_success(row.task, row.submission, verification)
    return Trajectory(row.task, 'agent', tuple(row.turns), row.submission, verification, success,
                      row.error)

  def _pack(self, rows, trajectories) -> Episodes:
    shape = (len(rows), self._config.agent_slots)
    packed = Episodes(trajectories, np.zeros(shape, np.int32), np.zeros(shape, bool),
                      np.zeros(shape, np.float32))
    for i, row in enumerate(rows):
      count = len(row.tokens)
      packed.tokens[i, :count] = row.tokens
      packed.speaker[i, :count] = row.speaker
      packed.logprobs[i, :count] = row.logprobs
    return packed


class MixedWorld:
  """Every other task of each domain in the real world, the others in imagination."""

  def __init__(self, real: World, imagined: World):
    self._worlds = (real, imagined)

  def play(self, params, tasks, group, seed, temperature=1.0) -> Episodes:
    seen, parts = collections.Counter(), ([], [])
    for task in tasks:
      parts[seen[task.domain] % 2].append(task)
      seen[task.domain] += 1
    return concatenate([
        world.play(params, part, group, seed + offset, temperature)
        for offset, (world, part) in enumerate(zip(self._worlds, parts, strict=True)) if part])
