"""What each training stage makes of one trajectory: token ids and loss weights; no TensorFlow."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from aw_jax.prompts import chat, templates
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.trajectories import SUBMIT, Task, Trajectory, Turn, what_could_be_seen
from data_pipelines import loss_mask as masks
from data_pipelines import packing, reasoning, sources

_OUTPUT_PREFERENCE = 3.0  # how much likelier a turn with output is drawn than one without
_TAGS_AFTER = 2  # the closing tag and the end of the message
CANDIDATES = 3  # reasoning traces of each turn, from brief to full
TURNS = ('one', 'all')


@dataclasses.dataclass(frozen=True)
class Switches:
  """What an ablation may switch in how examples are made.

  Attributes:
    loss_mask: whether cpt masks by information (PAPER.md section 3).
    prompts: the size of system prompts, one of `templates.SIZES`.
    sft_templates: of how many templates sft draws, from 1 to ten: v2, v3, ...
    sft_turns: 'all': whole dialogues. 'one': exactly one turn of each trajectory, with loss on that
      turn alone (PAPER.md section 2).
    rl_turns: 'one': one turn of each trajectory (PAPER.md section 2). 'all': a sample for each turn
      that fits.
    thinking: whether sft teaches reasoning before the prediction, and the history of rl shows it.
    trace_tokens: the most tokens of the reasoning of one turn; longer ones are not taught, and rl
      leaves this much room for it.
  Raises:
    ValueError: for a value that there is not.
  """

  loss_mask: bool = True
  prompts: str = 'short'
  sft_templates: int = 2
  sft_turns: str = 'all'
  rl_turns: str = 'one'
  thinking: bool = True
  trace_tokens: int = reasoning.MAX_TOKENS

  def __post_init__(self):
    templates.require_size(self.prompts)
    most = len(templates.STAGE_TEMPLATES['sft'])
    if not 1 <= self.sft_templates <= most:
      raise ValueError(f'sft_templates: from 1 to {most}, is {self.sft_templates}')
    if self.trace_tokens < 1:
      raise ValueError(f'trace_tokens: at least 1, is {self.trace_tokens}')
    for name in ('sft_turns', 'rl_turns'):
      if getattr(self, name) not in TURNS:
        raise ValueError(f'{name}: one of {", ".join(TURNS)}, is {getattr(self, name)!r}')

  def templates_of(self, stage: str) -> tuple[str, ...]:
    """The templates that a stage ('cpt', 'sft' or 'rl') draws from."""
    names = templates.STAGE_TEMPLATES[stage]
    return names[:self.sft_templates] if stage == 'sft' else names

  def system_prompt(self, task: Task, template: str) -> str:
    """A task's system prompt."""
    return templates.task_prompt(task, template, size=self.prompts)


DEFAULT = Switches()

# `sources.key_of` a trajectory -> the one trace of each turn, None where none was good enough.
WrittenTraces = Mapping[str, Sequence[str | None]]


@dataclasses.dataclass(frozen=True)
class Options:
  """How examples are made.

  Attributes:
    tokenizer: the vocabulary.
    seq_len: the most tokens an example may have.
    seed: of every choice of turn, template and masked token.
    switches: what an ablation may switch.
    traces: reasoning that a teacher wrote, in place of `reasoning.candidates`; where given, the
      stages sft and reasoning leave out trajectories that it lacks.
  """

  tokenizer: Tokenizer
  seq_len: int
  seed: int = 0
  switches: Switches = DEFAULT
  traces: WrittenTraces | None = None


@dataclasses.dataclass(frozen=True)
class RlSample:
  """One turn to predict.

  Attributes:
    index: of the turn.
    prompt: ids of all before its answer.
    turn: what really happened.
    known: what could be seen before it (`trajectories.what_could_be_seen`).
    hidden_state: whether the initial state could not.
  """

  index: int
  prompt: list[int]
  turn: Turn
  known: str
  hidden_state: bool


def world_model_turns(trajectory: Trajectory) -> tuple[Turn, ...]:
  """The turns a world model learns: those of the episode, then the hidden verification."""
  verification = trajectory.verification
  return trajectory.turns + (() if verification is None else (verification,))


def cpt_example(
    tokenizer: Tokenizer, trajectory: Trajectory, seed: int = 0, switches: Switches = DEFAULT
) -> tuple[packing.Example, list[str]]:
  """The whole dialogue, with loss on the predictions (PAPER.md section 3).

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    seed: of the mask's choice of tokens.
    switches: without its loss mask every prediction token has weight 1.
  Returns:
    The example, which may be cut after any turn, and the mask class of every turn. The tags and the
    end of a message always have weight 1.
  """
  task = trajectory.task
  template, = switches.templates_of('cpt')
  system = switches.system_prompt(task, template)
  tokens = chat.world_model_context(tokenizer, system, ())
  weights = [0.0] * len(tokens)
  ends, classes = [], []
  for index, turn in enumerate(world_model_turns(trajectory)):
    action = chat.action_message(tokenizer, turn.action)
    answer = chat.prediction(tokenizer, turn.observation)
    turn_class = masks.classify(turn.action, turn.observation)
    kept = masks.keep(
        turn_class if switches.loss_mask else 'other', len(answer) - 1 - _TAGS_AFTER, seed,
        task.id, index)
    tokens += action + answer
    weights += [0.0] * len(action) + [1.0, *kept] + [1.0] * _TAGS_AFTER
    ends.append(len(tokens))
    classes.append(turn_class)
  return packing.example(tokens, weights, ends), classes


def knowledge_example(tokenizer: Tokenizer, text: str) -> packing.Example:
  """A text by itself, with loss on all of it but its first token."""
  tokens = [*tokenizer.encode(text), tokenizer.special(IM_END)]
  return packing.example(tokens, [0.0] + [1.0] * (len(tokens) - 1))


def written_trace_counts(
    tokenizer: Tokenizer, trajectory: Trajectory, written: WrittenTraces,
    switches: Switches = DEFAULT) -> dict[str, int]:
  """What becomes of a trajectory's written traces.

  Returns:
    Of its turns `kept`, `not_good_enough` (the judge chose none) and `too_long` (beyond
    `trace_tokens`); nothing where it has no traces.
  """
  found = written.get(sources.key_of(trajectory))
  if found is None:
    return {}
  traces = [trace for trace in found if trace is not None]
  kept = sum(_fits(tokenizer, switches, trace) for trace in traces)
  return {'kept': kept, 'not_good_enough': len(found) - len(traces),
          'too_long': len(traces) - kept}


def _fits(tokenizer: Tokenizer, switches: Switches, trace: str) -> bool:
  return len(tokenizer.encode(trace)) <= switches.trace_tokens


def _traces(
    tokenizer: Tokenizer, trajectory: Trajectory, switches: Switches, written: WrittenTraces | None
) -> list[tuple[str | None, ...]]:
  """The candidate reasoning traces of every turn, from brief to full; the one that is written."""
  found = written.get(sources.key_of(trajectory)) if written else None
  fits = functools.partial(_fits, tokenizer, switches)
  if found is not None:  # a longer one would be cut off when it is said
    return [(trace if trace is not None and fits(trace) else None,) for trace in found]
  return [reasoning.candidates(turn.action, turn.observation, *states(trajectory, index), fits)
          for index, turn in enumerate(world_model_turns(trajectory))]


def _thoughts(tokenizer: Tokenizer, trajectory: Trajectory, switches: Switches,
              written: WrittenTraces | None) -> list[str]:
  """The reasoning of every turn as a later turn's history shows it: brief, or none."""
  if not switches.thinking:
    return [''] * len(world_model_turns(trajectory))
  return [traces[0] or '' for traces in _traces(tokenizer, trajectory, switches, written)]


def _pairs(turns: Sequence[Turn]) -> list[tuple[str, str]]:
  return [(turn.action, turn.observation) for turn in turns]


def _prompt(tokenizer: Tokenizer, trajectory: Trajectory, index: int, template: str,
            switches: Switches, written: WrittenTraces | None) -> list[int]:
  """Everything before the answer to turn `index`, brief reasoning of the past turns included."""
  turns = world_model_turns(trajectory)
  system = switches.system_prompt(trajectory.task, template)
  history = _pairs(turns[:index])
  thoughts = _thoughts(tokenizer, trajectory, switches, written)[:index]
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
    tokenizer: Tokenizer, trajectory: Trajectory, template: str, candidate: int | None = 0,
    switches: Switches = DEFAULT, written: WrittenTraces | None = None) -> packing.Example:
  """The whole dialogue with a reasoning trace in every turn, and loss on traces and predictions.

  Unlike in PAPER.md section 2 every turn is trained on: a trace notes the state that later turns
  start from, and a small model needs all the turns there are to learn that.

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    template: of the system prompt.
    candidate: which trace of each turn, 0 (brief) to CANDIDATES - 1 (full); None for none at all.
    switches: the size of the system prompt.
    written: traces in place of the candidates; a turn that has none there has no loss.
  """
  turns = world_model_turns(trajectory)
  thoughts = ([''] * len(turns) if candidate is None
              else [traces[candidate]
                    for traces in _traces(tokenizer, trajectory, switches, written)])
  system = switches.system_prompt(trajectory.task, template)
  tokens = chat.world_model_context(tokenizer, system, ())
  weights, ends = [0.0] * len(tokens), []
  for turn, trace in zip(turns, thoughts, strict=True):
    action = chat.action_message(tokenizer, turn.action)
    answer = chat.prediction(tokenizer, turn.observation, trace or '')
    tokens += action + answer
    weights += [0.0] * len(action) + [float(trace is not None)] * len(answer)
    ends.append(len(tokens))
  return packing.example(tokens, weights, ends)


def sft_candidates(
    tokenizer: Tokenizer, trajectory: Trajectory, seq_len: int, seed: int = 0,
    switches: Switches = DEFAULT, written: WrittenTraces | None = None
) -> list[packing.Example] | None:
  """The dialogue with each of the candidate traces (PAPER.md section 4), the same turns of each.

  Args:
    tokenizer: the vocabulary.
    trajectory: an episode.
    seq_len: each has at most this many tokens; turns are cut from the end.
    seed: of the choice of template and turn.
    switches: whether all turns are learned, or one with those before it as its prompt.
    written: see `reasoning_dialogue`.
  Returns:
    CANDIDATES dialogues, one where there is no thinking or its traces are written; None where not
    one turn fits.
  """
  names = switches.templates_of('sft')
  template = names[masks.generator('template', seed, trajectory.task.id).integers(len(names))]
  if switches.sft_turns == 'one':
    return _one_turn(tokenizer, trajectory, template, seq_len, seed, switches, written)
  count = 1 if written and sources.key_of(trajectory) in written else CANDIDATES
  made = [reasoning_dialogue(tokenizer, trajectory, template, candidate, switches, written)
          for candidate in (range(count) if switches.thinking else [None])]
  turns = min(sum(end <= seq_len for end in item.ends) for item in made)
  return [packing.shorten(item, item.ends[turns - 1]) for item in made] if turns else None


def _one_turn(tokenizer: Tokenizer, trajectory: Trajectory, template: str, seq_len: int, seed: int,
              switches: Switches, written: WrittenTraces | None) -> list[packing.Example] | None:
  """One turn with each of its candidate traces, and loss on it alone; the rest is its prompt."""
  turns = world_model_turns(trajectory)
  traces = (_traces(tokenizer, trajectory, switches, written) if switches.thinking
            else [('',)] * len(turns))
  longest = [
      max(len(chat.prediction(tokenizer, turn.observation, trace or '')) for trace in of_turn)
      for turn, of_turn in zip(turns, traces, strict=True)]
  fitting = [index for index, prompt in enumerate(
      _prompt_lengths(tokenizer, trajectory, template, switches, written))
             if prompt + longest[index] <= seq_len and None not in traces[index]]
  if not fitting:
    return None
  index = _draw_turn(trajectory, fitting, 'sft', seed)
  prompt = _prompt(tokenizer, trajectory, index, template, switches, written)
  answers = [chat.prediction(tokenizer, turns[index].observation, trace)
             for trace in traces[index]]
  return [packing.example(
      prompt + answer, [0.0] * len(prompt) + [1.0] * len(answer), (len(prompt) + len(answer),))
          for answer in answers]


def rl_samples(
    tokenizer: Tokenizer, trajectory: Trajectory, seq_len: int, seed: int = 0,
    switches: Switches = DEFAULT, written: WrittenTraces | None = None) -> list[RlSample]:
  """One turn of the trajectory to predict, or all of them (PAPER.md section 5).

  `seq_len` leaves room for thinking, prompt and the true answer; nothing where no turn fits. The
  past turns have the traces that are `written`, and brief ones where none are.
  """
  template, = switches.templates_of('rl')
  turns = world_model_turns(trajectory)
  room = seq_len - switches.trace_tokens - 2
  lengths = _prompt_lengths(tokenizer, trajectory, template, switches, written)
  fitting = [index for index, (length, turn) in enumerate(zip(lengths, turns, strict=True))
             if length + len(chat.prediction(tokenizer, turn.observation)) <= room]
  if fitting and switches.rl_turns == 'one':
    fitting = [_draw_turn(trajectory, fitting, 'rl', seed)]
  state = trajectory.task.initial_state
  return [
      RlSample(index, _prompt(tokenizer, trajectory, index, template, switches, written),
               turns[index], what_could_be_seen(state, _pairs(turns[:index])), state is None)
      for index in fitting]


def _prompt_lengths(tokenizer: Tokenizer, trajectory: Trajectory, template: str,
                    switches: Switches, written: WrittenTraces | None) -> list[int]:
  """The length of the prompt of every turn."""
  system = switches.system_prompt(trajectory.task, template)
  length = len(chat.world_model_context(tokenizer, system, ()))
  lengths = []
  for turn, thinking in zip(
      world_model_turns(trajectory), _thoughts(tokenizer, trajectory, switches, written),
      strict=True):
    length += len(chat.action_message(tokenizer, turn.action))
    lengths.append(length)
    length += len(chat.prediction(tokenizer, turn.observation, thinking))
  return lengths


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
