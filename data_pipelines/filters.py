"""Which trajectories, and which of their turns, are fit to learn from (PAPER.md section 2).

A defect that spoils an episode leaves it out whole: it broke, it calls a tool outside the action
space that its task declares, a capture of its screen is broken, fewer than two turns are left. A
turn that teaches nothing is skipped alone, and the turns around it stay: an empty action, a failure
that the agent at once tries again, a GUI turn in which nothing changed. None of these moved the
state, so what follows still follows. Everything left out is counted.
"""

import collections
import dataclasses
import itertools
import json
import re
import xml.etree.ElementTree
from collections.abc import Callable

from aw_jax.prompts.facts import declared_tools
from aw_jax.trajectories import Task, Trajectory, Turn

MIN_TURNS = 2
GUI_DOMAINS = ('web', 'os', 'android')
TOOL_DOMAINS = ('mcp', 'swe')  # whose tasks may declare their tools

BROKE = 'episode broke'
UNDECLARED_TOOL = 'undeclared tool'
BROKEN_CAPTURE = 'broken capture'
TOO_SHORT = f'fewer than {MIN_TURNS} turns'
DUPLICATE = 'duplicate'  # counted by sources.read_kept
EMPTY_ACTION = 'empty action'
RETRY = 'retry cycle'
UNCHANGED = 'nothing changed'

# What stands in a capture that the accessibility service could not make.
_CAPTURE_FAILED = re.compile(
    r'\A\s*(?:ERROR: (?:could not|null)|.*\bnull root node\b|\(?no accessibility tree\)?\s*\Z'
    r'|UiAutomationService.*not connected)', re.IGNORECASE)
_FAILURE = re.compile(
    r'^\W*(?:\w+: )?error\b|\b(?:error|exception):|traceback \(most recent|command not found'
    r'|no such (?:file|option)|permission denied|is a directory|not a directory|file exists'
    r'|cannot |can\'t |could not |couldn\'t |invalid |unknown |not found\b|failed\b|usage: ',
    re.IGNORECASE | re.MULTILINE)
_GAP = '\N{OBJECT REPLACEMENT CHARACTER}'


@dataclasses.dataclass
class Counts:
  """What was left out.

  Attributes:
    trajectories: left out whole, by reason.
    turns: skipped in trajectories that were kept, by reason.
  """

  trajectories: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  turns: collections.Counter = dataclasses.field(default_factory=collections.Counter)


# --- of turns -------------------------------------------------------------------------------------


def is_empty_action(action: str) -> bool:
  """Whether an action does nothing by its form: blank, a comment alone, empty JSON, no tool."""
  if all(line.lstrip()[:1] in ('', '#') for line in action.splitlines()):
    return True
  call = _call(action)
  if call is None:
    return False
  name = call.get('name')
  return not call or (isinstance(name, str) and not name.strip())


def is_failure(observation: str) -> bool:
  """Whether an observation reports that the action failed."""
  return _FAILURE.search(observation) is not None


def is_retried(turn: Turn, after: Turn | None, state: str | None) -> bool:
  """Whether a turn failed and the agent does the same again at once: the last try stands for all.

  Args:
    turn: the turn.
    after: the one that follows it.
    state: before the turn, None where it cannot be seen. A turn that moved it is no mere failure.
  """
  if after is None or _same(turn.action) != _same(after.action):
    return False
  moved = None not in (turn.state, state) and turn.state != state
  return is_failure(turn.observation) and not moved


def is_unchanged(turn: Turn, before: Turn | None, task: Task) -> bool:
  """Whether a GUI turn shows the screen that was there already, runtime metadata apart.

  Before the first turn that is the task's initial state, where it can be seen.
  """
  if before is None:
    return task.initial_state is not None and _same(turn.observation) == _same(task.initial_state)
  return _shown(turn) == _shown(before)


def _same(text: str) -> str:
  """A text as it is compared: space at the ends of lines and of the whole does not count."""
  return '\n'.join(line.rstrip() for line in text.strip().splitlines())


def _shown(turn: Turn) -> str:
  """The observation as it is compared, one placeholder for each span of runtime metadata."""
  pieces, position = [], 0
  for start, end in sorted(turn.runtime_metadata):
    pieces += [turn.observation[position:start], _GAP]
    position = max(position, end)
  return _same(''.join(pieces) + turn.observation[position:])


def _call(action: str) -> dict | None:
  """The JSON object that an action is, None where it is none."""
  try:
    call = json.loads(action)
  except (ValueError, RecursionError):
    return None
  return call if isinstance(call, dict) else None


# --- of trajectories ------------------------------------------------------------------------------


def has_broken(trajectory: Trajectory) -> bool:
  """Whether the episode ended because its environment broke."""
  return bool(trajectory.error)


def tool_of(action: str, domain: str) -> str | None:
  """The tool that an action names: of JSON its `name`, of a command line in SWE its first word.

  None where it names none: a call that is not well-formed is a mistake, not another tool.
  """
  call = _call(action)
  if call is not None:
    return call['name'] if isinstance(call.get('name'), str) else None
  words = action.split(maxsplit=1)
  return words[0] if domain == 'swe' and words and not action.lstrip().startswith('{') else None


def uses_undeclared_tool(trajectory: Trajectory) -> bool:
  """Whether an MCP or SWE episode calls a tool that its task's `setup['tools']` does not declare.

  Where nothing is declared nothing is outside: what our own servers answer to an unknown tool is a
  true observation, and worth learning.
  """
  task = trajectory.task
  tools = declared_tools(task.setup) if task.domain in TOOL_DOMAINS else None
  if tools is None:
    return False
  names = {tool.name for tool in tools}
  used = (tool_of(turn.action, task.domain) for turn in trajectory.turns
          if not is_empty_action(turn.action))
  return any(name is not None and name not in names for name in used)


def is_broken_capture(observation: str) -> bool:
  """Whether a GUI observation is no screen: blank, the message of a failed dump, or torn XML."""
  text = observation.strip()
  if not re.search(r'\w', text) or _CAPTURE_FAILED.match(text):
    return True
  if not text.startswith(('<?xml', '<hierarchy')):
    return False
  try:
    return len(xml.etree.ElementTree.fromstring(text)) == 0
  except xml.etree.ElementTree.ParseError:
    return True


def has_broken_capture(trajectory: Trajectory) -> bool:
  """Whether a GUI episode has a broken capture: what follows it follows from an unseen screen."""
  return trajectory.task.domain in GUI_DOMAINS and any(
      is_broken_capture(turn.observation) for turn in trajectory.turns)


def is_too_short(trajectory: Trajectory) -> bool:
  """Whether fewer than MIN_TURNS turns are there."""
  return len(trajectory.turns) < MIN_TURNS


_SPOILED: dict[str, Callable[[Trajectory], bool]] = {
    BROKE: has_broken, UNDECLARED_TOOL: uses_undeclared_tool, BROKEN_CAPTURE: has_broken_capture}


# --- all of them ----------------------------------------------------------------------------------


def without_idle_turns(
    trajectory: Trajectory, skip_retries: bool = False
) -> tuple[Trajectory, collections.Counter]:
  """The trajectory without the turns that teach nothing, and how many went, by reason.

  Args:
    trajectory: an episode.
    skip_retries: whether failures that were tried again go too. What goes is the pair of action
      and observation; the state that the kept turns carry stays as it was.
  """
  task, kept = trajectory.task, []
  turns = [turn for turn in trajectory.turns if not is_empty_action(turn.action)]
  skipped = collections.Counter({EMPTY_ACTION: len(trajectory.turns) - len(turns)})
  for turn, after in itertools.zip_longest(turns, turns[1:]):
    before = kept[-1] if kept else None
    if skip_retries and is_retried(turn, after, before.state if before else task.initial_state):
      skipped[RETRY] += 1
    elif task.domain in GUI_DOMAINS and is_unchanged(turn, before, task):
      skipped[UNCHANGED] += 1
    else:
      kept.append(turn)
  return dataclasses.replace(trajectory, turns=tuple(kept)), +skipped


def clean(
    trajectory: Trajectory, counts: Counts, skip_retries: bool = False) -> Trajectory | None:
  """What is fit to learn from, None where that is nothing; `counts` takes in what is left out.

  Turns are counted where the rest of their trajectory is kept.
  """
  reason = next((name for name, spoiled in _SPOILED.items() if spoiled(trajectory)), '')
  if reason:
    counts.trajectories[reason] += 1
    return None
  cleaned, skipped = without_idle_turns(trajectory, skip_retries)
  if is_too_short(cleaned):
    counts.trajectories[TOO_SHORT] += 1
    return None
  counts.turns += skipped
  return cleaned
