"""Tool calls a person might try, over the ids and files at hand: for exploring and for noise."""

import random
import re

from aw_jax.environments import benchmark_servers
from aw_jax.environments.call_mistakes import CallActions
from aw_jax.environments.experts import Commands, draw
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_tasks import benchmarks, npm_actions
from aw_jax.environments.mcp_tasks.clock import ZONES
from aw_jax.environments.mcp_tasks.git import BRANCHES, FILES, VERBS, call
from aw_jax.environments.mcp_tasks.shop import CITIES, FIRST_NAMES, LAST_NAMES
from aw_jax.trajectories import Task

_FILE_HEADER = re.compile(r'== (\w+\.txt)\b.*')
_TABLES = ('customers', 'products', 'orders')


class _View:
  """What is at hand in a state.

  Half of the time a row is drawn from those that differ from the initial state, where there are
  any: what earlier calls did is what there is to see. Now and then it is not there at all.
  """

  def __init__(self, state: str | None, initial: str | None, rng: random.Random):
    self.rng, self.state = rng, state or ''
    self._rows = _rows(self.state)
    before = _rows(initial or '')
    self._fresh = {table: [row for row in rows if row not in before[table]]
                   for table, rows in self._rows.items()}

  def _row(self, table: str) -> list[str]:
    fresh = self._fresh[table]
    if fresh and self.rng.random() < 0.5:
      return self.rng.choice(fresh)
    return self.rng.choice(self._rows[table] or [['1']])

  def id(self, table: str) -> int:
    """An id of a table; once in twelve of none."""
    if self.rng.random() < 0.08:
      return self.rng.randint(1, 999)
    return int(self._row(table)[0])

  def customer_name(self) -> str:
    """A customer's name; once in twelve nobody's."""
    if self.rng.random() < 0.08:
      return f'{self.rng.choice(FIRST_NAMES)} {self.rng.choice(LAST_NAMES)}'
    return ' '.join(self._row('customers')[1:3])

  def file(self) -> str:
    """A file of the repository, seldom another."""
    names = sorted({match[1] for match in _FILE_HEADER.finditer(self.state)})
    return self.rng.choice(names) if names and self.rng.random() < 0.93 else self.rng.choice(FILES)

  def branch(self) -> str:
    """A branch of the repository, seldom another."""
    names = re.findall(r'^log (\S+):', self.state, re.MULTILINE)
    return (self.rng.choice(names) if names and self.rng.random() < 0.93
            else self.rng.choice(BRANCHES))

  def zone(self) -> str:
    """A time zone."""
    return self.rng.choice(sorted(ZONES.values()))[0]

  def time(self) -> str:
    """A time of day."""
    return f'{self.rng.randrange(24):02d}:{self.rng.randrange(0, 60, 5):02d}'


def _rows(state: str) -> dict[str, list[list[str]]]:
  """Rows of each table of a shop's state; empty for other servers."""
  rows: dict[str, list[list[str]]] = {table: [] for table in _TABLES}
  table = ''
  for line in state.split('\n'):
    head = line.partition(':')[0]
    if head in rows:
      table = head
    elif table:
      rows[table].append(line.split())
  return rows


def _shop(view: _View) -> tuple[Commands, Commands]:
  """Calls that read and calls that write."""
  number = view.rng.randint
  reading = (
      (2, lambda: call_text('find_customer', name=view.customer_name())),
      (2, lambda: call_text('get_customer', customer_id=view.id('customers'))),
      (2, lambda: call_text('list_products')),
      (1, lambda: call_text('list_products', page=number(1, 3))),
      (4, lambda: call_text('get_product', product_id=view.id('products'))),
      (3, lambda: call_text('list_orders', customer_id=view.id('customers'))),
      (1, lambda: call_text('list_orders', customer_id=view.id('customers'), page=number(1, 2))),
      (4, lambda: call_text('get_order', order_id=view.id('orders'))))
  writing = (
      (3, lambda: call_text(
          'create_order', customer_id=view.id('customers'), product_id=view.id('products'),
          quantity=number(1, 4))),
      (3, lambda: call_text('cancel_order', order_id=view.id('orders'))),
      (2, lambda: call_text('ship_order', order_id=view.id('orders'))),
      (2, lambda: call_text('refund_order', order_id=view.id('orders'))),
      (2, lambda: call_text(
          'restock', product_id=view.id('products'), quantity=number(0, 9))),
      (2, lambda: call_text(
          'update_address', customer_id=view.id('customers'), city=view.rng.choice(CITIES))))
  return reading, writing


def _git(view: _View) -> tuple[Commands, Commands]:
  """Calls that read and calls that write."""
  choose = view.rng.choice
  reading = (
      (5, lambda: call('status')),
      (2, lambda: call('branch', branch_type='local')),
      (2, lambda: call('diff_unstaged')),
      (2, lambda: call('diff_staged')),
      (4, lambda: call('show', revision=f'{choose(["HEAD", view.branch()])}:{view.file()}')),
      (1, lambda: call('diff', target=view.branch())),
      (1, lambda: call('log', max_count=1)))
  writing = (
      (4, lambda: call('add', files=[view.file()])),
      (1, lambda: call('add', files=['.'])),
      (2, lambda: call('reset')),
      (3, lambda: call(
          'commit', message=f'{choose(VERBS)} {view.file().removesuffix(".txt")}')),
      (2, lambda: call('create_branch', branch_name=choose(BRANCHES))),
      (3, lambda: call('checkout', branch_name=view.branch())))
  return reading, writing


def _time(view: _View) -> tuple[Commands, Commands]:
  """Calls that read; there are none that write."""
  reading = (
      (1, lambda: call_text('get_current_time', timezone=view.zone())),
      (2, lambda: call_text('convert_time', source_timezone=view.zone(), time=view.time(),
                            target_timezone=view.zone())))
  return reading, reading


def _commands(task: Task, state: str | None, rng: random.Random) -> tuple[Commands, Commands]:
  makers = {'shop': _shop, 'git': _git, 'time': _time}
  server = task.setup['server']
  if server in makers:
    return makers[server](_View(state, task.initial_state, rng))
  if server in benchmark_servers.SERVERS:
    return benchmarks.commands(task, state, rng)
  return npm_actions.commands(server, state, rng)


class McpActions(CallActions):
  """Exploring and mistakes with the tools of a task's server."""

  def explore(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that changes nothing, over what is at hand."""
    return draw(_commands(task, state, rng)[0], rng)

  def wander(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call of any kind over what is at hand, changing it about every second time."""
    return draw(rng.choice(_commands(task, state, rng)), rng)

  def change(self, task: Task, state: str | None, rng: random.Random) -> str:
    """A call that writes, where the server has any."""
    return draw(_commands(task, state, rng)[1], rng)

  def anything(self, task: Task, rng: random.Random) -> str:
    """Any call, each tool equally likely."""
    reading, writing = _commands(task, task.initial_state, rng)
    return rng.choice(reading + writing)[1]()
