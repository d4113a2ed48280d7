"""Experts of MiniWoB++'s mailboxes."""

import re
from collections.abc import Iterator

from aw_jax.environments.web_actions import text as action
from aw_jax.environments.web_tasks.page import Node, Page


def email(page: Page) -> Iterator[str]:
  """Deletes, marks, answers or forwards the mail of a sender."""
  (sender,) = page.asked(r'email by (\S+) and')
  row = next(node for node in page.all('generic') if sender in page.texts(node))
  sign = 'trash' if 'trash' in page.goal else 'star' if 'star' in page.goal else ''
  if sign:
    yield action('click', _sign(page.inside(row), sign))
    return
  yield action('click', row.number)
  answer = re.search(r'with the text "(.*)"', page.goal)
  yield action('click', _labelled(page, 'Reply' if answer else 'Forward'))
  receiver = re.search(r'forward that email to (\S+)\.', page.goal)
  yield action('fill', page.one('textbox').number, answer[1] if answer else receiver[1])
  yield action('click', _sign(page.nodes, 'send', 'id'))


def _sign(nodes: list[Node], name: str, by: str = 'class') -> str:
  """The number of what has a class, or an id, that begins so."""
  return next(node.number for node in nodes
              if node.number and any(f'{by}="{name}' in state for state in node.states))


def _labelled(page: Page, label: str) -> str:
  """The number of what holds a text."""
  return next(node.number for node in page.all('generic')
              if label in (node.name, *page.texts(node)))
