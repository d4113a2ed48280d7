"""TextWorld-Express and ScienceWorld: games in a Java machine, with the paths they publish.

What can be seen of the state is what the player could see without spending a move: the room and the
inventory; in TextWorld-Express, which understands nothing else, the commands that are possible too.
"""

import json

_NO_LIMIT = 1_000_000_000  # of moves: whoever asks for them counts


class _JavaGames:
  """What the two have in common: sessions over simulators of one Java machine."""

  def __init__(self):
    self._sessions = {}  # name -> simulator
    self._idle = []  # simulators that belong to no session

  def _simulator(self, session):
    if session not in self._sessions:
      self._sessions[session] = self._idle.pop() if self._idle else self._make_simulator()
    return self._sessions[session]

  def end(self, session):
    """Forgets a session."""
    if session in self._sessions:
      self._idle.append(self._sessions.pop(session))
    return {}


class Express(_JavaGames):
  """Games of TextWorld-Express. A game is {'kind', 'settings', 'fold', 'seed'}."""

  def __init__(self):
    from textworld_express import TextWorldExpressEnv
    super().__init__()
    self._environment = TextWorldExpressEnv(envStepLimit=_NO_LIMIT)
    self._idle.append(self._environment.server)

  def _make_simulator(self):
    return self._environment._gateway.jvm.textworldexpress.runtime.PythonInterface()

  def describe(self, game):
    """What a task says of a game: instruction, opening text, state and the way to win it."""
    simulator = self._simulator('describe')
    opening = self._load(simulator, game, gold=True)
    return {'instruction': simulator.getTaskDescription().strip(),
            'opening': opening['observation'].strip(), 'state': _seen(opening),
            'plan': list(simulator.getGoldActionSequence())}

  def start(self, session, game):
    """A game from its beginning."""
    return self._answer(self._load(self._simulator(session), game, gold=False))

  def act(self, session, command):
    """One command."""
    return self._answer(json.loads(self._simulator(session).stepJSON(command)))

  def _load(self, simulator, game, gold):
    problem = simulator.load(game['kind'], game['settings'])
    if problem:
      raise ValueError(problem)
    return json.loads(simulator.generateNewGameJSON(game['seed'], game['fold'], gold))

  def _answer(self, found):
    return {'observation': found['observation'].strip(), 'state': _seen(found),
            'score': found['score'], 'won': found['tasksuccess'], 'lost': found['taskfailure']}


def _seen(found):
  texts = (found['look'], found['inventory'],
           'possible: ' + ', '.join(sorted(set(found['validActions']))))
  return '\n'.join(text.strip() for text in texts if text.strip())


class ScienceWorld(_JavaGames):
  """Tasks of ScienceWorld. A game is {'kind', 'fold', 'draw'}.

  The task's variations of the fold are drawn from by `draw`, a number in [0, 1). All run with the
  published simplifications, under which doors and containers stand open.
  """

  def __init__(self):
    from scienceworld import ScienceWorldEnv
    super().__init__()
    self._environment = ScienceWorldEnv('', envStepLimit=_NO_LIMIT)
    self._variations = {}  # (task, fold) -> numbers
    # Two things that all simulators share: the generator, seeded by `load`, and the paths between
    # rooms that the solver has drawn and remembers for the next task.
    jvm = self._environment._gateway.jvm
    self._random = _scala_object(jvm.scala.util, 'Random')
    self._paths = _scala_object(jvm.scienceworld.goldagent, 'PathFinder')
    self._idle.append(self._environment.server)

  def _make_simulator(self):
    return self._environment._gateway.jvm.scienceworld.runtime.pythonapi.PythonInterface()

  def describe(self, game):
    """What a task says of a game: instruction, opening text, state and the way to win it."""
    simulator = self._simulator('describe')
    self._load(simulator, game, gold=True)
    plan = []
    published = list(simulator.getGoldActionSequence())
    simulator = self._simulator('played')
    self._load(simulator, game, gold=False)
    state = _look(simulator)
    for command in published:  # it may go on after the task is solved
      plan.append(command)
      self._step(simulator, command)
      if simulator.getScore() >= 1:
        break
    return {'instruction': simulator.getTaskDescription().strip(), 'opening': state, 'state': state,
            'plan': plan}

  def start(self, session, game):
    """A game from its beginning."""
    simulator = self._simulator(session)
    self._load(simulator, game, gold=False)
    # Until the first command the simulator tells the score of the game before.
    return self._answer(simulator, _look(simulator), 0.0)

  def act(self, session, command):
    """One command."""
    simulator = self._simulator(session)
    observation = self._step(simulator, command)
    return self._answer(simulator, observation, simulator.getScore())

  def _load(self, simulator, game, gold):
    key = game['kind'], game['fold']
    if key not in self._variations:
      simulator.load(game['kind'], 0, 'easy', False)  # it tells those of the task that is loaded
      self._variations[key] = sorted({
          'train': simulator.getVariationsTrain, 'dev': simulator.getVariationsDev,
          'test': simulator.getVariationsTest}[game['fold']]())
    variations = self._variations[key]
    variation = variations[int(game['draw'] * len(variations))]
    if gold:
      self._paths.precomputedExhaustivePaths().clear()
    simulator.load(game['kind'], variation, 'easy', gold)

  def _step(self, simulator, command):
    self._random.setSeed(simulator.getNumMoves())
    return simulator.step(command)

  def _answer(self, simulator, observation, score):
    return {'observation': observation.strip(), 'state': _look(simulator), 'score': max(score, 0.0),
            'won': score >= 1, 'lost': score < 0}


def _scala_object(package, name):
  return getattr(getattr(package, f'{name}$'), 'MODULE$')


def _look(simulator):
  text = f'{simulator.freeActionLook().strip()}\n{simulator.freeActionInventory().strip()}'
  return '\n'.join(line.rstrip() for line in text.split('\n'))
