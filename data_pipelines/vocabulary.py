"""The text that a vocabulary is trained on: everything a stage may show, train split only."""

from collections.abc import Collection, Iterable, Iterator

from aw_jax.prompts import templates
from aw_jax.tokenizer import Tokenizer
from aw_jax.trajectories import Trajectory
from data_pipelines import examples, knowledge, reasoning
from data_pipelines.examples import DEFAULT, Switches

MAX_CHARACTERS = 3_000_000  # more changes little and costs minutes


def texts_of(trajectory: Trajectory, index: int, switches: Switches) -> Iterator[str]:
  """Prompts, actions, observations and reasoning of one trajectory; `index` picks the template."""
  task = trajectory.task
  # One template a trajectory: all of them would weigh a state much more than its echo.
  names = [name for stage in templates.STAGE_TEMPLATES for name in switches.templates_of(stage)]
  yield switches.system_prompt(task, names[index % len(names)])
  yield templates.agent_prompt(task.domain, task.instruction)
  before = task.initial_state
  for turn in examples.world_model_turns(trajectory):
    yield turn.action
    if turn.observation:
      yield turn.observation
    after = before if turn is trajectory.verification else turn.state
    yield from reasoning.candidates(turn.action, turn.observation, before, after)[-1:]
    before = after


def training_texts(
    trajectories: Iterable[Trajectory], domains: Collection[str], switches: Switches
) -> Iterator[str]:
  """Texts of the train-split trajectories until MAX_CHARACTERS, after their domains' knowledge.

  Those of all domains should come in turn, or the first would have the vocabulary for itself.
  """
  for domain, texts in knowledge.TEXTS.items():
    if domain in domains:
      yield from texts
  characters = 0
  for index, trajectory in enumerate(t for t in trajectories if t.task.split == 'train'):
    for text in texts_of(trajectory, index, switches):
      characters += len(text)
      yield text
    if characters > MAX_CHARACTERS:
      return


def train(trajectories: Iterable[Trajectory], vocab_size: int, domains: Collection[str],
          switches: Switches = DEFAULT) -> Tokenizer:
  """A vocabulary of at most `vocab_size` ids for trajectories of `domains`."""
  texts = training_texts(trajectories, domains, switches)
  return Tokenizer.train((text for text in texts if text), vocab_size)
