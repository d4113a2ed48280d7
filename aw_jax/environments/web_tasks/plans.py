"""What an expert does on a page, found by letting it play there once; a function of the task."""

import functools
import itertools
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from aw_jax.environments import web_actions, web_host
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.web_tasks.page import Page

# An expert yields one action after the other; before it goes on, the page holds the next tree.
Expert = Callable[[Page], Iterator[str]]
_ATTEMPTS = 3  # at playing, which has no effects
_MAX_ACTIONS = 80


def play(expert: Expert, setup: dict[str, Any], goal: str = '') -> dict[str, Any]:
  """The page of a task, and an expert's way through it; remembered.

  Args:
    expert: who plays; of the module's own functions, since it is remembered by its name.
    setup: of the task.
    goal: what is asked for, where the site itself does not say.
  Returns:
    'goal', 'observation', 'state' of the page when it is opened, and 'plan', the actions.
  """
  return json.loads(_played(expert, json.dumps(setup, sort_keys=True), goal))


@functools.lru_cache(maxsize=4096)
def _played(expert: Expert, setup: str, goal: str) -> str:
  for attempt in range(_ATTEMPTS):
    try:
      return json.dumps(_play(expert, json.loads(setup), goal))
    except BrokenEnvironmentError:
      if attempt == _ATTEMPTS - 1:
        raise
  raise AssertionError


def _moves(expert: Expert, page: Page) -> Iterator[str]:
  """An expert's actions; where it meets what it does not know, it gives up."""
  try:
    yield from expert(page)
  except (LookupError, ValueError, AttributeError, TypeError, RuntimeError) as error:
    logging.warning('%s: %r', page.goal, error)


def _play(expert: Expert, setup: dict[str, Any], goal: str) -> dict[str, Any]:
  host, session = web_host.shared(), uuid.uuid4().hex
  found = host.request(op='start', session=session, page=setup)
  ask = functools.partial(host.request, since=host.starts, session=session)
  found['goal'] = goal or found['goal']
  page, plan = Page(found['goal'], found['observation']), []
  for action in itertools.islice(_moves(expert, page), _MAX_ACTIONS):
    plan.append(action)
    name, arguments = web_actions.parse(action)
    seen = ask(op='act', name=name, arguments=arguments)
    page.tree = seen['observation']
    if seen['ended']:
      break
  ask(op='end')
  return {'goal': found['goal'], 'observation': found['observation'], 'state': found['state'],
          'plan': plan}
