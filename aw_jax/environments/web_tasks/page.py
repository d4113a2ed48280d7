"""A page as an expert or a random agent reads it: the goal, and the nodes of its tree."""

import dataclasses
import json
import re

from aw_jax.environments.web_actions import text as action

_LINE = re.compile(
    r'(?P<indent> *)(?:\[(?P<number>\d+)\] )?(?P<role>[\w-]+)(?: (?P<name>"(?:[^"\\]|\\.)*"))?'
    r'(?: value=(?P<value>"(?:[^"\\]|\\.)*"))?(?:, (?P<states>.*))?')


@dataclasses.dataclass(frozen=True)
class Node:
  """A line of a tree; number is '' where it has none."""

  place: int
  depth: int
  number: str
  role: str
  name: str
  value: str
  states: tuple[str, ...]


class Page:
  """What is seen of a page; `tree` is replaced as the episode goes on."""

  def __init__(self, goal: str, tree: str):
    self.goal, self.tree = goal, tree

  @property
  def tree(self) -> str:
    """The last observation."""
    return self._tree

  @tree.setter
  def tree(self, tree: str) -> None:
    self._tree, self.nodes = tree, parse(tree)

  def asked(self, pattern: str) -> tuple[str, ...]:
    """What the groups of a pattern find in the goal."""
    return re.search(pattern, self.goal).groups()

  def all(self, role: str, name: str | None = None) -> list[Node]:
    """The nodes of a role (several: 'a|b') that have a number, and of a name if one is given."""
    return [node for node in self.nodes if node.number and node.role in role.split('|')
            and (name is None or node.name == name)]

  def one(self, role: str, name: str | None = None) -> Node:
    """The first of them."""
    return self.all(role, name)[0]

  def inside(self, node: Node) -> list[Node]:
    """What a node holds."""
    held = []
    for other in self.nodes[node.place + 1:]:
      if other.depth <= node.depth:
        break
      held.append(other)
    return held

  def holder(self, node: Node) -> Node:
    """A node, or what holds it where it has no number."""
    while not node.number:
      node = next(other for other in reversed(self.nodes[:node.place])
                  if other.depth < node.depth)
    return node

  def texts(self, within: Node | None = None) -> list[str]:
    """The text lines, of a node or of all."""
    nodes = self.nodes if within is None else self.inside(within)
    return [node.name for node in nodes if node.role == 'text']

  def click(self, role: str, name: str | None = None) -> str:
    """The action that clicks the first node of a role and a name."""
    return action('click', self.one(role, name).number)

  def fill(self, place: int, value: str) -> str:
    """The action that fills field number `place`."""
    return action('fill', self.all('textbox|searchbox|spinbutton|combobox')[place].number, value)


def parse(tree: str) -> list[Node]:
  """The nodes of a tree in order; lines that are none are left out."""
  nodes = []
  for line in tree.split('\n'):
    match = _LINE.fullmatch(line)
    if match:
      nodes.append(Node(
          len(nodes), len(match['indent']) // 2, match['number'] or '', match['role'],
          json.loads(match['name'] or '""'), json.loads(match['value'] or '""'),
          tuple((match['states'] or '').split(', '))))
  return nodes
