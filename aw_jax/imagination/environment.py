"""The imagined environment: a world model behind the interface of a real one."""

from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.imagination.world_model import WorldModel
from aw_jax.prompts.templates import task_prompt
from aw_jax.trajectories import Task


class ImaginedEnvironment(Environment):
  """Answers actions with the world model's predictions; agents and evaluations cannot tell.

  An answer without a valid form breaks the episode, as a crashed server does in the real world.
  """

  def __init__(self, world_model: WorldModel, domain: str, template: str = 'v0',
               temperature: float = 0.0, instruction: str = '', prompts: str = 'short'):
    """
    Args:
      world_model: what predicts.
      domain: of the tasks it will be given.
      template: of the system prompt.
      temperature: 0 makes it deterministic.
      instruction: simulation instruction for the system prompt (PAPER.md section 7).
      prompts: size of the system prompt, one of `templates.SIZES`.
    """
    self.domain = domain
    self._world_model = world_model
    self._template = template
    self._temperature = temperature
    self._instruction = instruction
    self._prompts = prompts
    self._system = ''
    self._history: list[tuple[str, str]] = []
    self._thoughts: list[str] = []
    self._seed = 0

  def reset(self, task: Task, seed: int = 0) -> str:
    if task.domain != self.domain:
      raise ValueError(f'{task.id} is of domain {task.domain}, this environment of {self.domain}')
    self._system = task_prompt(task, self._template, self._instruction, self._prompts)
    self._history, self._thoughts = [], []
    self._seed = seed
    return ''

  def step(self, action: str) -> Step:
    prediction = self._world_model.predict(
        self._system, self._history, action, temperature=self._temperature,
        seed=hash((self._seed, len(self._history))) % (1 << 31), thoughts=self._thoughts)[0]
    if prediction.text is None:
      raise BrokenEnvironmentError(f'the world model answered without a valid form: '
                                   f'{prediction.raw[:80]!r}')
    self._history.append((action, prediction.text))
    self._thoughts.append(prediction.thinking)
    return Step(prediction.text, info={'thinking': prediction.thinking})

  def close(self) -> None:
    self._history, self._thoughts = [], []
