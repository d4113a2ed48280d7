"""What each training stage makes of one trajectory: token ids and loss weights; no TensorFlow."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from aw_jax.prompts import chat, templates
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.trajectories import SUBMIT, Trajectory, Turn
from data_pipelines import loss_mask as masks
from data_pipelines import packing, reasoning, sources

_OUTPUT_PREFERENCE = 3.0  # how much likelier a turn with output is drawn than one without
_TAGS_AFTER = 2  # the closing tag and the end of the message
CANDIDATES = 3  # reasoning traces of each turn, from brief to full

# `sources.key_of` a trajectory -> the one trace of each turn, None where none was good enough.
WrittenTraces = Mapping[str, Sequence[str | None]]


@dataclasses.dataclass(frozen=True)
class Options:
  """How examples are made.

  Attributes:
    tokenizer: the vocabulary.
    seq_len: the most tokens an example may have.
    seed: of every choice of turn, template and masked token.
    loss_mask: whether cpt masks by information (PAPER.md section 3).
    traces: reasoning that a teacher wrote, in place of `reasoning.candidates`; where given, the
      stages sft and reasoning leave out trajectories that it lacks.
  """

  tokenizer: Tokenizer
  seq_len: int
  seed: int = 0
  loss_mask: bool = True
  traces: WrittenTraces | None = None


@dataclasses.dataclass(frozen=True)
class RlSample:
  """One turn to predict: its index, the prompt's ids, and what really happened."""

  index: int
  prompt: list[int]
  turn: Turn


def world_model_turns(trajectory: Trajectory) -> tuple[Turn, ...]:
  """The turns a world model learns: those of the episode, then the hidden verification."""
  verification = trajectory.verification
  return trajectory.turns + (() if verification is None else (verification,))


def cpt_example(
    tokenizer: Tokenizer, trajectory: Trajectory, seed: int = 0, loss_mask: bool = True
) -> tuple[packing.Example, list[str]]:
  """The whole dialogue, with loss on the predictions (PAPER.md section 3).

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    seed: of the mask's choice of tokens.
    loss_mask: whether to mask; without, every prediction token has weight 1.
  Returns:
    The example, which may be cut after any turn, and the mask class of every turn. The tags and the
    end of a message always have weight 1.
  """
  task = trajectory.task
  template, = templates.STAGE_TEMPLATES['cpt']
  system = templates.world_model_prompt(task.domain, task.initial_state, template)
  tokens = chat.world_model_context(tokenizer, system, ())
  weights = [0.0] * len(tokens)
  ends, classes = [], []
  for index, turn in enumerate(world_model_turns(trajectory)):
    action = chat.action_message(tokenizer, turn.action)
    answer = chat.prediction(tokenizer, turn.observation)
    turn_class = masks.classify(turn.action, turn.observation)
    kept = masks.keep(
        turn_class if loss_mask else 'other', len(answer) - 1 - _TAGS_AFTER, seed, task.id, index)
    tokens += action + answer
    weights += [0.0] * len(action) + [1.0, *kept] + [1.0] * _TAGS_AFTER
    ends.append(len(tokens))
    classes.append(turn_class)
  return packing.example(tokens, weights, ends), classes


def knowledge_example(tokenizer: Tokenizer, text: str) -> packing.Example:
  """A text by itself, with loss on all of it but its first token."""
  tokens = [*tokenizer.encode(text), tokenizer.special(IM_END)]
  return packing.example(tokens, [0.0] + [1.0] * (len(tokens) - 1))


def _traces(
    tokenizer: Tokenizer, trajectory: Trajectory, written: WrittenTraces | None
) -> list[tuple[str | None, ...]]:
  """The candidate reasoning traces of every turn, from brief to full; the one that is written."""
  found = written.get(sources.key_of(trajectory)) if written else None
  if found is not None:
    return [(trace,) for trace in found]
  fits = lambda text: len(tokenizer.encode(text)) <= reasoning.MAX_TOKENS
  return [reasoning.candidates(turn.action, turn.observation, *states(trajectory, index), fits)
          for index, turn in enumerate(world_model_turns(trajectory))]


def _prompt(
    tokenizer: Tokenizer, trajectory: Trajectory, index: int, template: str,
    written: WrittenTraces | None) -> list[int]:
  """Everything before the answer to turn `index`, brief reasoning of the past turns included."""
  task = trajectory.task
  turns = world_model_turns(trajectory)
  system = templates.world_model_prompt(task.domain, task.initial_state, template)
  history = [(turn.action, turn.observation) for turn in turns[:index]]
  thoughts = [traces[0] or '' for traces in _traces(tokenizer, trajectory, written)[:index]]
  context = chat.world_model_context(tokenizer, system, history, thoughts)
  return context + chat.action_message(tokenizer, turns[index].action)


def _draw_turn(trajectory: Trajectory, fitting: Sequence[int], stage: str, seed: int) -> int:
  """One of the turns `fitting`, a function of the task; those with output are preferred."""
  turns = world_model_turns(trajectory)
  weights = np.array(
      [_OUTPUT_PREFERENCE if reasoning.output_of(turns[i].observation).strip() else 1.0
       for i in fitting])
  rng = masks.generator('turn', stage, seed, trajectory.task.id, trajectory.policy)
  return int(rng.choice(np.asarray(fitting), p=weights / weights.sum()))


def states(trajectory: Trajectory, index: int) -> tuple[str | None, str | None]:
  """The state before and after a turn; the hidden verification changes nothing."""
  turns = trajectory.turns
  before = turns[index - 1].state if index else trajectory.task.initial_state
  return before, turns[index].state if index < len(turns) else before


def reasoning_dialogue(
    tokenizer: Tokenizer, trajectory: Trajectory, template: str, candidate: int = 0,
    written: WrittenTraces | None = None) -> packing.Example:
  """The whole dialogue with a reasoning trace in every turn, and loss on traces and predictions.

  Unlike in PAPER.md section 2 every turn is trained on: a trace notes the state that later turns
  start from, and a small model needs all the turns there are to learn that.

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    template: of the system prompt.
    candidate: which trace of each turn, 0 (brief) to CANDIDATES - 1 (full).
    written: traces in place of the candidates; a turn that has none there has no loss.
  """
  task = trajectory.task
  system = templates.world_model_prompt(task.domain, task.initial_state, template)
  tokens = chat.world_model_context(tokenizer, system, ())
  weights, ends = [0.0] * len(tokens), []
  for turn, traces in zip(
      world_model_turns(trajectory), _traces(tokenizer, trajectory, written), strict=True):
    action = chat.action_message(tokenizer, turn.action)
    trace = traces[candidate]
    answer = chat.prediction(tokenizer, turn.observation, trace or '')
    tokens += action + answer
    weights += [0.0] * len(action) + [float(trace is not None)] * len(answer)
    ends.append(len(tokens))
  return packing.example(tokens, weights, ends)


def sft_candidates(
    tokenizer: Tokenizer, trajectory: Trajectory, seq_len: int, seed: int = 0,
    written: WrittenTraces | None = None) -> list[packing.Example] | None:
  """The dialogue with each of the candidate traces (PAPER.md section 4), the same turns of each.

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    seq_len: each has at most this many tokens; turns are cut from the end.
    seed: of the choice of template.
    written: see `reasoning_dialogue`.
  Returns:
    CANDIDATES dialogues, one where its traces are written; None where not one turn fits.
  """
  names = templates.STAGE_TEMPLATES['sft']
  template = names[masks.generator('template', seed, trajectory.task.id).integers(len(names))]
  count = 1 if written and sources.key_of(trajectory) in written else CANDIDATES
  made = [reasoning_dialogue(tokenizer, trajectory, template, i, written) for i in range(count)]
  turns = min(sum(end <= seq_len for end in item.ends) for item in made)
  return [packing.shorten(item, item.ends[turns - 1]) for item in made] if turns else None


def rl_sample(
    tokenizer: Tokenizer, trajectory: Trajectory, seq_len: int, seed: int = 0,
    written: WrittenTraces | None = None) -> RlSample | None:
  """One turn of the trajectory to predict (PAPER.md section 5), or None where no turn fits.

  `seq_len` leaves room for thinking, prompt and the true answer. The past turns have the traces
  that are `written`, and brief ones where none are.
  """
  template, = templates.STAGE_TEMPLATES['rl']
  room = reasoning.MAX_TOKENS + 2
  fitting = _fitting_turns(tokenizer, trajectory, template, seq_len - room, written)
  if not fitting:
    return None
  index = _draw_turn(trajectory, fitting, 'rl', seed)
  prompt = _prompt(tokenizer, trajectory, index, template, written)
  return RlSample(index, prompt, world_model_turns(trajectory)[index])


def _fitting_turns(
    tokenizer: Tokenizer, trajectory: Trajectory, template: str, room: int,
    written: WrittenTraces | None) -> list[int]:
  """The turns whose prompt and plain prediction have at most `room` tokens."""
  turns = world_model_turns(trajectory)
  # Turns only append: the length of the last prompt and the messages in it give all of them.
  length = len(_prompt(tokenizer, trajectory, 0, template, written))
  length -= len(chat.action_message(tokenizer, turns[0].action))
  fitting = []
  traces = _traces(tokenizer, trajectory, written)
  for index, (turn, (brief, *_)) in enumerate(zip(turns, traces, strict=True)):
    length += len(chat.action_message(tokenizer, turn.action))
    if length + len(chat.prediction(tokenizer, turn.observation)) > room:
      break
    length += len(chat.prediction(tokenizer, turn.observation, brief or ''))
    fitting.append(index)
  return fitting


def agent_dialogue(
    tokenizer: Tokenizer, trajectory: Trajectory, first_observation: str = ''
) -> packing.Example:
  """An episode from the agent's side, with loss on its actions; may be cut after any action."""
  task = trajectory.task
  system = templates.agent_prompt(task.domain, task.instruction)
  tokens = chat.agent_context(tokenizer, system, first_observation, ())
  weights, ends = [0.0] * len(tokens), []
  actions = [turn.action for turn in trajectory.turns]
  if trajectory.submission is not None:
    actions.append(SUBMIT + trajectory.submission)
  for index, action in enumerate(actions):
    spoken = chat.agent_action(tokenizer, action)
    tokens += spoken
    weights += [1.0] * len(spoken)
    ends.append(len(tokens))
    if index + 1 < len(actions):
      heard = chat.observation_message(tokenizer, trajectory.turns[index].observation)
      tokens += heard
      weights += [0.0] * len(heard)
  return packing.example(tokens, weights, ends)
