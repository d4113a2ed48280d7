"""One episode: a policy acts in an environment until it submits or the turns run out."""

from collections.abc import Sequence
from typing import Protocol

from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.trajectories import SUBMIT, Task, Trajectory, Turn


class Policy(Protocol):
  """Anything that acts: a scripted expert, a random agent, a language model."""

  name: str

  def act(self, task: Task, first_observation: str, turns: Sequence[Turn]) -> str:
    """The next action, or `SUBMIT` and an answer."""


def submission_of(action: str) -> str | None:
  """The answer where `action` submits ('' for a bare submit), else None."""
  return action[len(SUBMIT):].strip() if action.startswith(SUBMIT) else None


def is_success(task: Task, submission: str | None, verification: Turn | None) -> bool:
  """Whether an episode that ended so solved `task`."""
  if task.verifier.kind == 'answer':
    return task.verifier.passes(submission)
  return verification is not None and task.verifier.passes(verification.observation)


def run_episode(
    environment: Environment, task: Task, policy: Policy, *, mark_changed_state: bool = False
) -> Trajectory:
  """Runs one episode and its verification.

  Args:
    environment: a world of the task's domain.
    task: what to do.
    policy: who acts.
    mark_changed_state: mark the turns that depend on earlier actions (PAPER.md section 9). Every
      action is replayed on a fresh copy of the initial state, and those count whose observation
      differs; where observations are screens, those that change the screen.
  Returns:
    The trajectory. Where the environment breaks or the policy gives no action, the turns so far are
    kept, `error` says why and `success` is None.
  """
  turns: list[Turn] = []
  submission, verification = None, None
  try:
    first = environment.reset(task, task.seed)
    while len(turns) < task.max_turns:
      action = _writable(policy.act(task, first, turns))
      submission = submission_of(action)
      if submission is not None:
        break
      turns.append(_take_turn(environment, action, mark_changed_state))
    if task.verifier.kind == 'command':
      observation = environment.verify(task.verifier.command)
      verification = Turn(task.verifier.command, observation)
  except BrokenEnvironmentError as error:
    return Trajectory(task, policy.name, tuple(turns), submission, error=str(error) or repr(error))
  success = is_success(task, submission, verification)
  return Trajectory(task, policy.name, tuple(turns), submission, verification, success)


def _writable(action: str) -> str:
  """`action` as a record can hold it: never empty, and no halves of characters.

  Raises:
    BrokenEnvironmentError: where the policy gave no action.
  """
  if not action.strip():
    raise BrokenEnvironmentError('the policy gave an empty action')
  return action.encode('utf-8', 'replace').decode()


def _take_turn(environment: Environment, action: str, mark_changed_state: bool) -> Turn:
  screen = environment.screen() if mark_changed_state else None
  fresh = environment.counterfactual(action) if mark_changed_state and screen is None else None
  step = environment.step(action)
  changed = None
  if screen is not None:
    changed = _shown(environment.screen()) != _shown(screen)
  elif fresh is not None:
    changed = _shown(step) != _shown(fresh)
  return Turn(action, step.observation, environment.snapshot(), changed, _spans(step))


def _spans(step: Step) -> tuple[tuple[int, int], ...]:
  return tuple(step.info.get('runtime_metadata', ()))


def _shown(step: Step) -> str:
  return masked(step.observation, _spans(step))


def masked(text: str, spans: Sequence[tuple[int, int]]) -> str:
  """`text` with each (start, end) span of runtime metadata replaced by one placeholder."""
  pieces, position = [], 0
  for start, end in sorted(spans):
    pieces += [text[position:start], '\N{OBJECT REPLACEMENT CHARACTER}']
    position = max(position, end)
  return ''.join(pieces) + text[position:]


