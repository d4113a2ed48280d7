"""An MCP server of a small shop: customers, products and orders in a SQLite database.

Run as a script with the path of the database. It keeps nothing in memory between calls. Every tool
answers with one line of JSON, or with an error in words and the database as it was.
"""

import contextlib
import json
import sqlite3
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

PAGE_SIZE = 3  # rows of a list
_CUSTOMER = 'id, name, city'
_PRODUCT = 'id, name, price, stock'
_ORDER = 'id, customer_id, product_id, quantity, total, status'
_LISTED = 'id, product_id, quantity, status'  # of an order in a list
_LARGEST = 10**9  # of any number in a call
_LONGEST = 40  # characters of a city


class Shop:
  """The tools. Their docstrings are what a client is told of them."""

  def __init__(self, path: str):
    self._path = path

  def find_customer(self, name: str) -> str:
    """Find a customer by full name."""
    with self._database() as database:
      row = database.execute(
          f'select {_CUSTOMER} from customers where name = ? collate nocase', (name,)).fetchone()
      if row is None:
        raise ToolError(f"no customer named '{name[:40]}'")
      return json.dumps(dict(row))

  def get_customer(self, customer_id: int) -> str:
    """Get a customer."""
    with self._database() as database:
      return json.dumps(_row(database, 'customer', customer_id))

  def update_address(self, customer_id: int, city: str) -> str:
    """Change the city of a customer."""
    with self._database() as database:
      _row(database, 'customer', customer_id)
      if not city.strip():
        raise ToolError('city is empty')
      if len(city) > _LONGEST or not city.isprintable():
        raise ToolError(f'city must be at most {_LONGEST} printable characters')
      database.execute('update customers set city = ? where id = ?', (city.strip(), customer_id))
      return json.dumps(_row(database, 'customer', customer_id))

  def list_products(self, page: int = 1) -> str:
    """List the products, a page at a time."""
    with self._database() as database:
      return _page(database, 'products', f'select {_PRODUCT} from products order by id', (), page)

  def get_product(self, product_id: int) -> str:
    """Get a product, its price and stock."""
    with self._database() as database:
      return json.dumps(_row(database, 'product', product_id))

  def restock(self, product_id: int, quantity: int) -> str:
    """Add to the stock of a product."""
    with self._database() as database:
      _row(database, 'product', product_id)
      _check_quantity(quantity)
      _add_stock(database, product_id, quantity)
      return json.dumps(_row(database, 'product', product_id))

  def list_orders(self, customer_id: int, page: int = 1) -> str:
    """List the orders of a customer, a page at a time."""
    with self._database() as database:
      _row(database, 'customer', customer_id)
      query = f'select {_LISTED} from orders where customer_id = ? order by id'
      return _page(database, 'orders', query, (customer_id,), page)

  def get_order(self, order_id: int) -> str:
    """Get an order."""
    with self._database() as database:
      return json.dumps(_row(database, 'order', order_id))

  def create_order(self, customer_id: int, product_id: int, quantity: int) -> str:
    """Order a product for a customer; takes it from stock."""
    with self._database() as database:
      _row(database, 'customer', customer_id)
      product = _row(database, 'product', product_id)
      _check_quantity(quantity)
      if product['stock'] < quantity:
        raise ToolError(f'only {product["stock"]} of product {product_id} in stock')
      _add_stock(database, product_id, -quantity)
      order_id = database.execute('select coalesce(max(id), 100) from orders').fetchone()[0] + 1
      database.execute(
          'insert into orders values (?, ?, ?, ?, ?, ?)',
          (order_id, customer_id, product_id, quantity, quantity * product['price'], 'open'))
      return json.dumps(_row(database, 'order', order_id))

  def ship_order(self, order_id: int) -> str:
    """Ship an open order."""
    return self._move(order_id, 'open', 'shipped')

  def cancel_order(self, order_id: int) -> str:
    """Cancel an open order; its products return to stock."""
    return self._move(order_id, 'open', 'cancelled')

  def refund_order(self, order_id: int) -> str:
    """Refund a shipped order."""
    return self._move(order_id, 'shipped', 'refunded')

  def _move(self, order_id: int, before: str, after: str) -> str:
    with self._database() as database:
      order = _row(database, 'order', order_id)
      if order['status'] == after:
        raise ToolError(f'order {order_id} is already {after}')
      if order['status'] != before:
        raise ToolError(f'order {order_id} is {order["status"]}, not {before}')
      database.execute('update orders set status = ? where id = ?', (after, order_id))
      if after == 'cancelled':
        _add_stock(database, order['product_id'], order['quantity'])
      return json.dumps(_row(database, 'order', order_id))

  @contextlib.contextmanager
  def _database(self):
    """The database for one call, which is one transaction: an error leaves nothing changed."""
    connection = sqlite3.connect(self._path)
    try:
      connection.row_factory = sqlite3.Row
      connection.execute('pragma synchronous = off')
      connection.execute('pragma journal_mode = memory')
      with connection:
        yield connection
    finally:
      connection.close()


def _row(database, kind, number):
  columns = {'customer': _CUSTOMER, 'product': _PRODUCT, 'order': _ORDER}[kind]
  row = None
  if abs(number) <= _LARGEST:
    row = database.execute(f'select {columns} from {kind}s where id = ?', (number,)).fetchone()
  if row is None:
    raise ToolError(f'no {kind} {str(number)[:12]}')
  return dict(row)


def _check_quantity(quantity):
  if not 1 <= quantity <= _LARGEST:
    raise ToolError('quantity must be at least 1' if quantity < 1 else 'quantity is too large')


def _add_stock(database, product_id, quantity):
  database.execute('update products set stock = stock + ? where id = ?', (quantity, product_id))


def _page(database, name, query, values, page):
  """One page of a query's rows, with the number of the next page where there is one."""
  rows = [dict(row) for row in database.execute(query, values)]
  pages = max(1, -(-len(rows) // PAGE_SIZE))
  if not 1 <= page <= pages:
    raise ToolError(f'no page {str(page)[:12]}, last is {pages}')
  answer = {name: rows[(page - 1) * PAGE_SIZE:page * PAGE_SIZE], 'page': f'{page} of {pages}'}
  if page < pages:
    answer['next_page'] = page + 1
  return json.dumps(answer)


def create_server(path: str) -> MCPServer:
  """The server over the database at `path`."""
  shop = Shop(path)
  server = MCPServer('shop')
  reads = (shop.find_customer, shop.get_customer, shop.list_products, shop.get_product,
           shop.list_orders, shop.get_order)
  writes = (shop.update_address, shop.restock, shop.create_order, shop.ship_order,
            shop.cancel_order, shop.refund_order)
  for tool in reads + writes:
    annotations = ToolAnnotations(read_only_hint=tool in reads)
    server.tool(annotations=annotations, structured_output=False)(tool)
  return server


if __name__ == '__main__':
  create_server(sys.argv[1]).run('stdio')
