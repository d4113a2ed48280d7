"""The text that a vocabulary is trained on: everything a stage may show, train split only."""

from collections.abc import Iterable, Iterator

from aw_jax.prompts import templates
from aw_jax.tokenizer import Tokenizer
from aw_jax.trajectories import Trajectory
from data_pipelines import examples, knowledge, reasoning

MAX_CHARACTERS = 3_000_000  # more changes little and costs minutes
_TEMPLATES = tuple(name for names in templates.STAGE_TEMPLATES.values() for name in names)


def texts_of(trajectory: Trajectory, index: int) -> Iterator[str]:
  """Prompts, actions, observations and reasoning of one trajectory; `index` picks the template."""
  task = trajectory.task
  # One template a trajectory: all of them would weigh a state four times as much as its echo.
  template = _TEMPLATES[index % len(_TEMPLATES)]
  yield templates.world_model_prompt(task.domain, task.initial_state, template)
  yield templates.agent_prompt(task.domain, task.instruction)
  before = task.initial_state
  for turn in examples.world_model_turns(trajectory):
    yield turn.action
    if turn.observation:
      yield turn.observation
    after = before if turn is trajectory.verification else turn.state
    yield from reasoning.candidates(turn.action, turn.observation, before, after)[-1:]
    before = after


def training_texts(trajectories: Iterable[Trajectory]) -> Iterator[str]:
  """Texts of the train-split trajectories until MAX_CHARACTERS, after the knowledge texts.

  Those of all domains should come in turn, or the first would have the vocabulary for itself.
  """
  for texts in knowledge.TEXTS.values():
    yield from texts
  characters = 0
  for index, trajectory in enumerate(t for t in trajectories if t.task.split == 'train'):
    for text in texts_of(trajectory, index):
      characters += len(text)
      yield text
    if characters > MAX_CHARACTERS:
      return


def train(trajectories: Iterable[Trajectory], vocab_size: int) -> Tokenizer:
  """A vocabulary of at most `vocab_size` ids."""
  return Tokenizer.train((text for text in training_texts(trajectories) if text), vocab_size)
