"""Text games: TextWorld, TextWorld-Express, ScienceWorld, each in a sandbox; a command an action.

`Task.setup` names the engine and the game. An observation is what the game prints. The state is all
of a TextWorld game's facts as text; of the other two it is what the player can see: the room, the
inventory, and the commands that are possible where a game understands no others. A game that is won
or lost has ended, and answers every command with ENDED. The hidden check `VERDICT` tells how a game
stands by the engine's own reward.
"""

import contextlib
import uuid
from typing import Any

from aw_jax.environments import game_host
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.trajectories import Task

MAX_ACTION_CHARACTERS = 200  # the games' own parsers take no more
MAX_OBSERVATION_CHARACTERS = 4000
ENDED = 'The game has ended.'
VERDICT = 'verdict'
WON, LOST, OPEN = 'won', 'lost', 'not won yet'

_open: set[str] = set()  # names of this process's environments that are not closed


class TextGameEnvironment(Environment):
  """A game of any engine, on the hosts that this process shares (game_host.py).

  Same task and actions, same observations, on any machine with the same versions of the engines:
  the tasks' games hold no chance, or their seed fixes it, and what Java would order by chance is
  put in order (game_host.py).
  """

  domain = 'textgame'

  def __init__(self, hosts: dict[str, game_host.Host] | None = None):
    self._own = hosts
    self._name = uuid.uuid4().hex
    self._aside = f'{self._name} aside'  # the session of counterfactuals
    _open.add(self._name)
    self._host: game_host.Host | None = None
    self._game: dict[str, Any] = {}
    self._restart()

  def _restart(self) -> None:
    self._state: str | None = None
    self._verdict = OPEN
    self._memory: dict[str, Step] = {}  # what actions get in the initial state

  def reset(self, task: Task, seed: int = 0) -> str:
    """Starts the game; there is no first observation, since the instruction holds its opening.

    Raises:
      BrokenEnvironmentError: where the game does not start; the next reset starts anew.
      MissingProgramError: where bwrap, a package or java is missing.
    """
    del seed  # the setup says it all
    self._end_sessions()
    self._restart()
    engine = task.setup['engine']
    self._host = self._own[engine] if self._own is not None else game_host.shared(engine)
    self._game = task.setup['game']
    self._state = self._host.request(op='start', session=self._name, game=self._game)['state']
    self._starts = self._host.starts
    return ''

  def step(self, action: str) -> Step:
    """Does one command."""
    if self._verdict != OPEN:
      return Step(ENDED, done=True)
    answer = self._ask(op='act', session=self._name, command=_line(action))
    self._state = answer['state']
    self._verdict = _verdict(answer)
    return _step(answer)

  def snapshot(self) -> str | None:
    """The facts of a TextWorld game, what can be seen of others."""
    return self._state

  def counterfactual(self, action: str) -> Step:
    """What `action` gets as the first of a game; remembered for the episode."""
    if action not in self._memory:
      self._ask(op='start', session=self._aside, game=self._game)
      self._memory[action] = _step(self._ask(op='act', session=self._aside, command=_line(action)))
    return self._memory[action]

  def verify(self, command: str) -> str:
    """Whether the game is 'won', 'lost' or 'not won yet', by the engine's own reward."""
    if command != VERDICT:
      return self.step(command).observation
    return self._verdict

  def close(self) -> None:
    """Ends the games; the last environment of a process to close ends its engines too."""
    self._end_sessions()
    self._host = None
    _open.discard(self._name)
    if self._own is not None:
      for host in self._own.values():
        host.close()
    elif not _open:
      game_host.close_all()

  def _ask(self, **request: Any) -> dict[str, Any]:
    if self._host is None:
      raise BrokenEnvironmentError('the game was not reset')
    return self._host.request(since=self._starts, **request)

  def _end_sessions(self) -> None:
    if self._host is not None:
      with contextlib.suppress(BrokenEnvironmentError):
        for session in (self._name, self._aside):
          self._ask(op='end', session=session)


def _line(action: str) -> str:
  """An action as the one line of printable text that a game reads."""
  text = ''.join(letter if letter.isprintable() else ' ' for letter in action)
  return ' '.join(text.split())[:MAX_ACTION_CHARACTERS]


def _step(answer: dict[str, Any]) -> Step:
  text = answer['observation']
  if len(text) > MAX_OBSERVATION_CHARACTERS:
    text = text[:MAX_OBSERVATION_CHARACTERS] + '\n[output cut]'
  return Step(text, done=answer['won'] or answer['lost'], info={'score': answer['score']})


def _verdict(answer: dict[str, Any]) -> str:
  return WON if answer['won'] else LOST if answer['lost'] else OPEN
