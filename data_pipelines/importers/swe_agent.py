"""Trajectories of SWE-agent: one JSON document an episode, `*.traj`.

An action is the command as it was sent, its observation what the command printed, and the agent's
thought stands in `Turn.thinking`. The commands include all of bash, so that no action space is
declared. What the agent's own program writes where it stops (`exit_cost`, ...) is no action. The
editor's state (open file, working directory) is a part of the machine's state alone, and is not
kept as the whole.
"""

import re
from collections.abc import Iterator
from typing import Any

from aw_jax.trajectories import Trajectory, Turn
from data_pipelines.importers import common
from data_pipelines.importers.common import Ledger, Settings, check, field

SUFFIXES = ('.traj',)
_STOPPED = re.compile(r'\s*exit_\w+\s*')
_NONE = type(None)


def read(path: str, settings: Settings, ledger: Ledger) -> Iterator[Trajectory]:
  """Yields the episode of a file (or the episodes of a list of such documents).

  Args:
    path: JSON.
    settings: see there; the domain is 'swe' where none is given.
    ledger: takes in what becomes no turn.
  Raises:
    TraceError: naming file, line and field.
  """
  for where, record in common.records(path, ledger):
    yield _episode(path, check(record, dict, where), where, settings, ledger)


def _episode(path: str, record: dict[str, Any], where: str, settings: Settings, ledger: Ledger
             ) -> Trajectory:
  info = field(record, 'info', dict, where, {})
  status = field(info, 'exit_status', (str, _NONE), f'{where}.info', None) or ''
  submission = field(info, 'submission', (str, _NONE), f'{where}.info', None)
  problem = _problem(record, where)
  system, request = _prompts(record, where, ledger)
  instruction = problem.get('text') or request
  environment = field(record, 'environment', (str, _NONE), where, None) or ''
  return common.make_trajectory(
      domain=settings.domain or 'swe', family=settings.family or 'swe_agent', key=instruction,
      instruction=instruction, turns=_turns(record, where, ledger),
      policy=settings.policy or 'agent', setup={'system_prompt': system} if system else {},
      submission=None if submission is None else ledger.observation(submission),
      error=status if 'error' in status else '',
      source={'format': 'swe_agent', 'place': common.place_of(path, where),
              'environment': environment, 'exit_status': status, 'instance': problem.get('id', '')})


def _turns(record: dict[str, Any], where: str, ledger: Ledger) -> list[Turn]:
  turns = []
  for index, step in enumerate(field(record, 'trajectory', list, where)):
    place = f'{where}.trajectory[{index}]'
    check(step, dict, place)
    action = field(step, 'action', str, place)
    observation = field(step, 'observation', (str, _NONE), place) or ''
    thought = field(step, 'thought', (str, _NONE), place, None) or ''
    if _STOPPED.fullmatch(action):
      ledger.apart["end that the agent's program wrote"] += 1
    else:
      turns.append(Turn(action.replace('\r\n', '\n'), ledger.observation(observation),
                        thinking=thought if thought.strip() else None))
  return turns


def _problem(record: dict[str, Any], where: str) -> dict[str, str]:
  """Text and id of the problem, from the configuration that newer files carry, maybe as text."""
  config = field(record, 'replay_config', (dict, str, _NONE), where, None) or {}
  if isinstance(config, str):
    config = check(common.parse(config, f'{where}.replay_config'), dict, f'{where}.replay_config')
  problem = field(config, 'problem_statement', (dict, _NONE), f'{where}.replay_config', None) or {}
  return {name: value for name in ('text', 'id') if isinstance(value := problem.get(name), str)}


def _prompts(record: dict[str, Any], where: str, ledger: Ledger) -> tuple[str, str]:
  """The system prompt, and the first request that is no demonstration."""
  found = {'system': '', 'user': ''}
  for index, message in enumerate(field(record, 'history', list, where, [])):
    place = f'{where}.history[{index}]'
    check(message, dict, place)
    role = field(message, 'role', str, place)
    if role in found and not found[role] and not message.get('is_demo'):
      found[role] = common.text_of(message.get('content'), f'{place}.content', ledger)
  return found['system'], found['user']
