"""Every tool of the shop server, through the protocol: what it does, what it refuses."""

import asyncio
import json

import pytest

from aw_jax.environments import mcp_worlds

pytest.importorskip('mcp', reason="needs mcp: pip install 'mcp>=2.3,<3'")

from mcp.client.client import Client

from aw_jax.environments.servers import shop

SETUP = {
    'server': 'shop',
    'customers': [[1, 'Ada Stone', 'Lyon'], [3, 'Ben Reed', 'Oslo']],
    'products': [[11, 'lamp', 5, 3], [14, 'chair', 20, 0], [15, 'desk', 30, 2], [18, 'rug', 9, 7]],
    'orders': [[101, 1, 11, 2, 10, 'open'], [102, 3, 18, 1, 9, 'shipped'],
               [103, 1, 15, 1, 30, 'cancelled'], [104, 1, 18, 1, 9, 'open'],
               [105, 1, 18, 2, 18, 'refunded']]}
LAMP = {'id': 11, 'name': 'lamp', 'price': 5, 'stock': 3}
CHAIR = {'id': 14, 'name': 'chair', 'price': 20, 'stock': 0}
DESK = {'id': 15, 'name': 'desk', 'price': 30, 'stock': 2}
RUG = {'id': 18, 'name': 'rug', 'price': 9, 'stock': 7}
OPEN = {'id': 101, 'customer_id': 1, 'product_id': 11, 'quantity': 2, 'total': 10, 'status': 'open'}
ADA = {'id': 1, 'name': 'Ada Stone', 'city': 'Lyon'}


class Shop:
  """The server over a database of its own, called synchronously."""

  def __init__(self, path, setup):
    self.folder, self.path = str(path), path / 'shop.db'
    self.path.write_bytes(mcp_worlds.files(setup)['shop.db'])
    self._server = shop.create_server(str(self.path))

  def call(self, tool, **arguments):
    """(text, whether it is an error) of a call; the answer is one line."""
    async def call():
      async with Client(self._server) as client:
        return await client.call_tool(tool, arguments)
    result = asyncio.run(call())
    return result.content[0].text, result.is_error

  def get(self, tool, **arguments):
    text, is_error = self.call(tool, **arguments)
    assert not is_error, text
    assert '\n' not in text
    return json.loads(text)

  def refuses(self, tool, **arguments):
    """What the server says when it refuses; the database must stay as it was, to the byte."""
    before = self.path.read_bytes()
    text, is_error = self.call(tool, **arguments)
    assert is_error, text
    assert self.path.read_bytes() == before
    prefix = f'Error executing tool {tool}: '
    assert text.startswith(prefix)
    return text[len(prefix):]

  def state(self):
    return mcp_worlds.read_state('shop', self.folder)


@pytest.fixture
def server(tmp_path):
  return Shop(tmp_path, SETUP)


class TestCustomers:

  def test_find_by_full_name_in_any_case(self, server):
    assert server.get('find_customer', name='Ada Stone') == ADA
    assert server.get('find_customer', name='ada STONE') == ADA

  @pytest.mark.parametrize('name', ['Ada', '', "x' or '1'='1", 'Ada Stone '])
  def test_find_refuses_other_names(self, server, name):
    assert server.refuses('find_customer', name=name) == f"no customer named '{name}'"

  def test_get(self, server):
    assert server.get('get_customer', customer_id=1) == ADA
    assert server.refuses('get_customer', customer_id=2) == 'no customer 2'

  def test_update_address(self, server):
    assert server.get('update_address', customer_id=1, city=' Rome ') == ADA | {'city': 'Rome'}
    assert server.get('get_customer', customer_id=1)['city'] == 'Rome'
    assert '1 Ada Stone Rome' in server.state() and '3 Ben Reed Oslo' in server.state()

  def test_update_address_refuses(self, server):
    assert server.refuses('update_address', customer_id=9, city='Rome') == 'no customer 9'
    assert server.refuses('update_address', customer_id=1, city='  ') == 'city is empty'
    for city in ('R\nx', 'R' * 41):
      assert 'at most 40 printable' in server.refuses('update_address', customer_id=1, city=city)


class TestProducts:

  def test_get(self, server):
    assert server.get('get_product', product_id=11) == LAMP
    assert server.refuses('get_product', product_id=1) == 'no product 1'

  def test_pages(self, server):
    assert shop.PAGE_SIZE == mcp_worlds.PAGE_SIZE == 3
    first = {'products': [LAMP, CHAIR, DESK], 'page': '1 of 2', 'next_page': 2}
    assert server.get('list_products') == server.get('list_products', page=1) == first
    assert server.get('list_products', page=2) == {'products': [RUG], 'page': '2 of 2'}

  @pytest.mark.parametrize('page', [0, -1, 3, 10**30])
  def test_no_such_page(self, server, page):
    assert server.refuses('list_products', page=page) == f'no page {str(page)[:12]}, last is 2'

  def test_restock(self, server):
    assert server.get('restock', product_id=14, quantity=4) == CHAIR | {'stock': 4}
    assert server.get('get_product', product_id=14)['stock'] == 4
    assert server.get('get_product', product_id=11) == LAMP

  def test_restock_refuses(self, server):
    assert server.refuses('restock', product_id=1, quantity=1) == 'no product 1'
    for quantity in (0, -3):
      text = server.refuses('restock', product_id=11, quantity=quantity)
      assert text == 'quantity must be at least 1'
    assert server.refuses('restock', product_id=11, quantity=10**30) == 'quantity is too large'


class TestOrders:

  def test_get(self, server):
    assert server.get('get_order', order_id=101) == OPEN
    assert server.refuses('get_order', order_id=100) == 'no order 100'
    assert server.refuses('get_order', order_id=10**40).startswith('no order 1000')

  def test_list_in_pages(self, server):
    first = server.get('list_orders', customer_id=1)
    assert [order['id'] for order in first['orders']] == [101, 103, 104]
    assert first['orders'][0] == {'id': 101, 'product_id': 11, 'quantity': 2, 'status': 'open'}
    assert (first['page'], first['next_page']) == ('1 of 2', 2)
    second = server.get('list_orders', customer_id=1, page=2)
    assert [order['id'] for order in second['orders']] == [105]
    assert second['page'] == '2 of 2' and 'next_page' not in second

  def test_list_refuses(self, server):
    assert server.refuses('list_orders', customer_id=2) == 'no customer 2'
    assert server.refuses('list_orders', customer_id=3, page=2) == 'no page 2, last is 1'

  def test_list_of_a_customer_without_orders(self, tmp_path):
    server = Shop(tmp_path, SETUP | {'orders': []})
    assert server.get('list_orders', customer_id=1) == {'orders': [], 'page': '1 of 1'}
    assert server.get('create_order', customer_id=1, product_id=11, quantity=1)['id'] == 101

  def test_create_takes_from_stock(self, server):
    made = server.get('create_order', customer_id=3, product_id=11, quantity=3)
    assert made == {'id': 106, 'customer_id': 3, 'product_id': 11, 'quantity': 3, 'total': 15,
                    'status': 'open'}
    assert server.get('get_order', order_id=106) == made
    assert server.get('get_product', product_id=11)['stock'] == 0
    assert server.state().endswith('\n106 3 11 3 15 open')

  def test_create_refuses(self, server):
    create = {'customer_id': 1, 'product_id': 11, 'quantity': 1}
    for change, text in (
        ({'customer_id': 2}, 'no customer 2'), ({'product_id': 2}, 'no product 2'),
        ({'quantity': 0}, 'quantity must be at least 1'),
        ({'quantity': 4}, 'only 3 of product 11 in stock'),
        ({'product_id': 14}, 'only 0 of product 14 in stock')):
      assert server.refuses('create_order', **create | change) == text

  def test_cancel_returns_to_stock(self, server):
    assert server.get('cancel_order', order_id=101) == OPEN | {'status': 'cancelled'}
    assert server.get('get_product', product_id=11)['stock'] == 5
    assert server.refuses('cancel_order', order_id=101) == 'order 101 is already cancelled'
    assert server.get('get_product', product_id=11)['stock'] == 5

  def test_ship_then_refund(self, server):
    assert server.get('ship_order', order_id=101) == OPEN | {'status': 'shipped'}
    assert server.get('refund_order', order_id=101) == OPEN | {'status': 'refunded'}
    assert server.get('get_product', product_id=11) == LAMP

  @pytest.mark.parametrize('tool, order, text', [
      ('cancel_order', 102, 'order 102 is shipped, not open'),
      ('cancel_order', 103, 'order 103 is already cancelled'),
      ('cancel_order', 7, 'no order 7'),
      ('ship_order', 102, 'order 102 is already shipped'),
      ('ship_order', 103, 'order 103 is cancelled, not open'),
      ('ship_order', 7, 'no order 7'),
      ('refund_order', 101, 'order 101 is open, not shipped'),
      ('refund_order', 105, 'order 105 is already refunded'),
      ('refund_order', 7, 'no order 7')])
  def test_wrong_status(self, server, tool, order, text):
    assert server.refuses(tool, order_id=order) == text


def test_wrong_arguments_are_refused(server):
  assert 'Field required' in server.refuses('get_order')
  assert 'valid integer' in server.refuses('get_order', order_id='first')
  assert 'valid integer' in server.refuses('restock', product_id=11, quantity=1.5)


def test_tools_declare_what_only_reads(server):
  async def listed():
    async with Client(shop.create_server(str(server.path))) as client:
      return (await client.list_tools()).tools
  tools = asyncio.run(listed())
  assert len(tools) == 12 and all(tool.description for tool in tools)
  reads = {tool.name for tool in tools if tool.annotations.read_only_hint}
  assert reads == {'find_customer', 'get_customer', 'list_products', 'get_product', 'list_orders',
                   'get_order'}


def test_the_same_calls_give_the_same_database(tmp_path):
  calls = [('create_order', {'customer_id': 1, 'product_id': 18, 'quantity': 2}),
           ('cancel_order', {'order_id': 104}), ('ship_order', {'order_id': 106}),
           ('get_product', {'product_id': 18}), ('cancel_order', {'order_id': 104})]
  seen = []
  for name in 'ab':
    (tmp_path / name).mkdir()
    server = Shop(tmp_path / name, SETUP)
    seen.append(([server.call(tool, **arguments) for tool, arguments in calls], server.state()))
  assert seen[0] == seen[1]
