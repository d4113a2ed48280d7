"""Web: sites in Chromium, in a sandbox, seen as accessibility trees; BrowserGym's actions.

`Task.setup` names the site, the page, the seed of its chance, and what the browser has stored for
it. An observation is the tree of the page (web_browser/tree.py), or a line that begins with Error
where an action cannot be done. The state is the tree with what is hidden from sight: closed
sections and menus, passwords, where links lead. A page that has taken its last action answers
every other with ENDED; whether it was solved is told to the hidden check alone.
"""

import contextlib
import uuid
from typing import Any

from aw_jax.environments import web_actions, web_host
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.trajectories import Task

ENDED = 'The page takes no more actions.'

_open: set[str] = set()  # names of this process's environments that are not closed


class WebEnvironment(Environment):
  """A page in the browser that this process shares (web_host.py), in a context of its own.

  Same task and actions, same observations, with the same versions of Chromium, playwright and the
  pages: chance is drawn from the task's seed, and a clock that stands still moves by a second with
  every action.
  """

  domain = 'web'

  def __init__(self, host: web_host.Host | None = None):
    self._own = host is not None
    self._host = host or web_host.shared()
    self._name = uuid.uuid4().hex
    _open.add(self._name)
    self._restart()

  def _restart(self) -> None:
    self._setup: dict[str, Any] | None = None
    self._tree: str | None = None  # as it was shown last
    self._state: str | None = None
    self._ended = False

  def reset(self, task: Task, seed: int = 0) -> str:
    """Opens the page; there is no first observation, since the instruction holds its tree.

    Raises:
      BrokenEnvironmentError: where the page does not open; the next reset starts anew.
      MissingProgramError: where bwrap, chromium or a package is missing.
    """
    del seed  # the setup says it all
    self._end_session()
    self._restart()
    answer = self._host.request(op='start', session=self._name, page=task.setup)
    self._tree, self._state = answer['observation'], answer['state']
    self._setup, self._starts = task.setup, self._host.starts
    return ''

  def step(self, action: str) -> Step:
    """Does one action."""
    if self._ended:
      return Step(ENDED, done=True)
    try:
      name, arguments = web_actions.parse(action)
    except web_actions.ActionError as error:
      return Step(f'Error: {error}')
    answer = self._ask(op='act', session=self._name, name=name, arguments=arguments)
    self._state = answer['state']
    if not answer['observation'].startswith('Error: '):
      self._tree = answer['observation']
    self._ended = answer['ended']
    return Step(answer['observation'], done=answer['ended'])

  def snapshot(self) -> str | None:
    """The tree, with what is hidden."""
    return self._state

  def screen(self) -> Step | None:
    """The tree without what is hidden."""
    return None if self._tree is None else Step(self._tree)

  def verify(self, command: str) -> str:
    """What a hidden check of the site says (web_browser/worlds.py)."""
    return self._ask(op='verify', session=self._name, command=command)['answer']

  def close(self) -> None:
    """Closes the pages; the last environment of a process to close ends its browser too."""
    self._end_session()
    self._restart()
    _open.discard(self._name)
    if self._own or not _open:
      self._host.close()

  def _ask(self, **request: Any) -> dict[str, Any]:
    if self._setup is None:
      raise BrokenEnvironmentError('the page was not opened')
    return self._host.request(since=self._starts, **request)

  def _end_session(self) -> None:
    if self._setup is not None:
      with contextlib.suppress(BrokenEnvironmentError):
        self._ask(op='end', session=self._name)
