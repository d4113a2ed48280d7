"""Tasks of the shop: orders, customers, stock."""

import json
import random
from typing import Any

from aw_jax.environments import mcp_worlds
from aw_jax.environments.mcp import call_text
from aw_jax.environments.mcp_worlds import PAGE_SIZE
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

FIRST_NAMES = tuple('Ada Ben Cleo Dan Eva Finn Gia Hugo Ida Jon Kim Leo Mia Ned Ola Pia Ray Sue '
                    'Tom Una Vic Zoe'.split())
LAST_NAMES = tuple('Bell Cole Dunn Ford Gray Hale Kent Lane Marsh Nash Park Quinn Reed Shaw Stone '
                   'Todd Vance Webb York'.split())
CITIES = tuple('Athens Berlin Bern Cairo Delhi Dublin Lima Lisbon London Lyon Madrid Milan Oslo '
               'Paris Porto Prague Quito Rome Seoul Tokyo Turin Vienna'.split())
PRODUCTS = tuple("""
apron basket bench blanket bottle bowl broom candle chair clock cup desk drum fan fork frame
hammer jug kettle knife ladder lamp lock mirror mug pan pen pillow plate pot rug saw scarf
shelf sofa spoon stool table tent towel tray vase
""".split())


class Shop:
  """A shop in the making. Ids of customers have one digit, of products two, of orders three.

  Attributes:
    customers: id -> [name, city].
    products: id -> [name, price, stock].
    orders: id -> [customer, product, quantity, total, status].
  """

  def __init__(self, rng: random.Random):
    self.rng = rng
    names = zip(rng.sample(FIRST_NAMES, 4), rng.sample(LAST_NAMES, 4), strict=True)
    cities = rng.sample(CITIES, 5)
    self.new_city = cities.pop()
    ids = sorted(rng.sample(range(1, 10), rng.randint(3, 4)))
    self.customers = {
        i: [' '.join(name), city] for i, name, city in zip(ids, names, cities, strict=False)}
    ids = sorted(rng.sample(range(10, 100), rng.randint(4, 5)))
    self.products = {
        i: [name, rng.randint(2, 30), rng.randint(1, 9)]
        for i, name in zip(ids, rng.sample(PRODUCTS, len(ids)), strict=True)}
    self.orders: dict[int, list] = {}
    self._next = rng.randint(100, 900)
    for _ in range(rng.randint(1, 3)):
      self.add_order(self.customer(), self.product(), rng.choice(('open', 'shipped', 'cancelled')))

  def customer(self) -> int:
    """Any customer."""
    return self.rng.choice(list(self.customers))

  def product(self) -> int:
    """Any product."""
    return self.rng.choice(list(self.products))

  def add_order(self, customer: int, product: int, status: str, quantity: int = 0) -> int:
    """Adds an order of `quantity` (1 to 4 where 0); returns its id."""
    order, self._next = self._next, self._next + 1
    quantity = quantity or self.rng.randint(1, 4)
    total = quantity * self.products[product][1]
    self.orders[order] = [customer, product, quantity, total, status]
    return order

  def without(self, customer: int, status: str) -> None:
    """Removes the customer's orders of a status, and all but one of the others."""
    mine = [i for i, order in self.orders.items() if order[0] == customer]
    kept = [i for i in mine if self.orders[i][4] != status][:1]
    self.orders = {i: o for i, o in self.orders.items() if i not in mine or i in kept}

  def named(self, customer: int) -> str:
    """A customer's name."""
    return self.customers[customer][0]

  def find(self, customer: int) -> list[str]:
    """Calls that find a customer by name."""
    return [call_text('find_customer', name=self.named(customer))]

  def find_product(self, product: int) -> list[str]:
    """Calls that page through the products as far as `product`."""
    page = list(self.products).index(product) // PAGE_SIZE + 1
    return [call_text('list_products')] + [
        call_text('list_products', page=i) for i in range(2, page + 1)]

  def find_orders(self, customer: int, last: int) -> list[str]:
    """Calls that page through a customer's orders as far as `last`."""
    mine = [i for i, order in self.orders.items() if order[0] == customer]
    page = mine.index(last) // PAGE_SIZE + 1
    return [call_text('list_orders', customer_id=customer)] + [
        call_text('list_orders', customer_id=customer, page=i) for i in range(2, page + 1)]

  def sometimes(self, *calls: str, chance: float = 0.5) -> list[str]:
    """The calls, or none of them."""
    return list(calls) if self.rng.random() < chance else []

  def order_check(self, order: int, values: list) -> tuple[str, dict[str, Any]]:
    """The call that shows an order, and the order as it shall be."""
    keys = ('customer_id', 'product_id', 'quantity', 'total', 'status')
    return (call_text('get_order', order_id=order),
            {'id': order} | dict(zip(keys, values, strict=True)))

  def product_check(self, product: int, stock: int) -> tuple[str, dict[str, Any]]:
    """The call that shows a product, and the product as it shall be."""
    name, price, _ = self.products[product]
    return (call_text('get_product', product_id=product),
            {'id': product, 'name': name, 'price': price, 'stock': stock})

  def setup(self) -> dict[str, Any]:
    """`Task.setup` of this shop."""
    tables = {'customers': self.customers, 'products': self.products, 'orders': self.orders}
    return {'server': 'shop'} | {
        name: [[i, *values] for i, values in rows.items()] for name, rows in tables.items()}

  def checked(self, phrasings: list[str], check: tuple[str, Any], plan: list[str]) -> Recipe:
    """A recipe verified by a call and its response."""
    verifier = Verifier('command', json.dumps(check[1]), check[0])
    return self._recipe(phrasings, verifier, [*plan, SUBMIT])

  def answered(self, phrasings: list[str], answer: int, plan: list[str]) -> Recipe:
    """A recipe verified by the answer that the agent submits."""
    return self._recipe(phrasings, Verifier('answer', str(answer)), [*plan, f'{SUBMIT}{answer}'])

  def _recipe(self, phrasings, verifier, plan) -> Recipe:
    setup = self.setup()
    return Recipe(instruction=self.rng.choice(phrasings), setup=setup,
                  initial_state=mcp_worlds.state(setup), verifier=verifier, plan=tuple(plan))


def order(seed: int, rng: random.Random) -> Recipe:
  """Order a product for a customer, both given by name."""
  shop = Shop(rng)
  customer, product = shop.customer(), shop.product()
  name, price, stock = shop.products[product]
  quantity = rng.randint(1, min(4, stock))
  new = max(shop.orders) + 1
  who = shop.named(customer)
  shown = shop.order_check(new, [customer, product, quantity, quantity * price, 'open'])
  plan = [
      *shop.find(customer), *shop.find_product(product),
      call_text('create_order', customer_id=customer, product_id=product, quantity=quantity),
      *shop.sometimes(shown[0]), *shop.sometimes(call_text('get_product', product_id=product))]
  return shop.checked([
      f'Order {quantity} {name} for {who}.', f'{who} wants to buy {quantity} {name}.',
      f'Create an order of {quantity} {name} for {who}.'], shown, plan)


def cancel(seed: int, rng: random.Random) -> Recipe:
  """Cancel the one open order of a customer."""
  shop, customer, number = _with_order(rng, 'open')
  who = shop.named(customer)
  return _moved(shop, customer, number, 'cancel_order', 'cancelled', [
      f'Cancel the open order of {who}.', f'{who} no longer wants the open order. Cancel it.',
      f'Find the open order of {who} and cancel it.'])


def refund(seed: int, rng: random.Random) -> Recipe:
  """Refund the one shipped order of a customer."""
  shop, customer, number = _with_order(rng, 'shipped')
  who = shop.named(customer)
  return _moved(shop, customer, number, 'refund_order', 'refunded', [
      f'Refund the shipped order of {who}.', f'{who} sent the shipped order back. Refund it.',
      f'Give {who} a refund for the shipped order.'])


def return_stock(seed: int, rng: random.Random) -> Recipe:
  """Cancel an order and tell what is in stock then."""
  shop, _, number = _with_order(rng, 'open')
  _, product, quantity, _, _ = shop.orders[number]
  name, _, stock = shop.products[product]
  plan = [
      call_text('get_order', order_id=number),
      *shop.sometimes(call_text('get_product', product_id=product)),
      call_text('cancel_order', order_id=number), call_text('get_product', product_id=product)]
  return shop.answered([
      f'Cancel order {number}. How many {name} are in stock then?',
      f'Cancel order {number} and tell the new stock of {name}.'], stock + quantity, plan)


def address(seed: int, rng: random.Random) -> Recipe:
  """A customer moves to another city."""
  shop = Shop(rng)
  customer, city = shop.customer(), shop.new_city
  who = shop.named(customer)
  check = call_text('get_customer', customer_id=customer)
  shown = {'id': customer, 'name': who, 'city': city}
  plan = [*shop.find(customer), call_text('update_address', customer_id=customer, city=city),
          *shop.sometimes(check)]
  return shop.checked([
      f'{who} moved to {city}.', f'Change the city of {who} to {city}.',
      f'Update the address of {who}: {city}.'], (check, shown), plan)


def restock(seed: int, rng: random.Random) -> Recipe:
  """Add to the stock of a product, or bring it to a number."""
  shop = Shop(rng)
  product = shop.product()
  name, _, stock = shop.products[product]
  more = rng.randint(2, 9)
  check = shop.product_check(product, stock + more)
  plan = [*shop.find_product(product), call_text('restock', product_id=product, quantity=more),
          *shop.sometimes(check[0])]
  return shop.checked([
      f'Add {more} {name} to the stock.', f'{more} {name} came in. Put them in stock.',
      f'Bring the stock of {name} to {stock + more}.'], check, plan)


def ship_all(seed: int, rng: random.Random) -> Recipe:
  """Ship both open orders of a customer."""
  shop, customer, number = _with_order(rng, 'open')
  numbers = [number, shop.add_order(customer, shop.product(), 'open')]
  who = shop.named(customer)
  check, shown = _listed(shop, customer, dict.fromkeys(numbers, 'shipped'))
  plan = [*shop.find(customer), *shop.find_orders(customer, numbers[-1]),
          *(call_text('ship_order', order_id=i) for i in numbers), *shop.sometimes(check)]
  return shop.checked([
      f'Ship all open orders of {who}.', f'Ship everything {who} has on order.',
      f'{who} has two open orders. Ship both.'], (check, shown), plan)


def restock_order(seed: int, rng: random.Random) -> Recipe:
  """Restock what is sold out, then order it."""
  shop = Shop(rng)
  customer, product = shop.customer(), shop.product()
  shop.products[product][2] = 0
  name, more, who = shop.products[product][0], rng.randint(4, 9), shop.named(customer)
  quantity = rng.randint(1, 3)
  check = shop.product_check(product, more - quantity)
  create = call_text('create_order', customer_id=customer, product_id=product, quantity=quantity)
  plan = [*shop.find(customer), *shop.find_product(product), *shop.sometimes(create, chance=0.3),
          call_text('restock', product_id=product, quantity=more), create,
          *shop.sometimes(check[0])]
  return shop.checked([
      f'{name} is sold out. Add {more} to the stock, then order {quantity} for {who}.',
      f'Restock {more} {name} and order {quantity} of them for {who}.'], check, plan)


def total(seed: int, rng: random.Random) -> Recipe:
  """Tell what an order costs."""
  shop, customer, number = _with_order(rng, rng.choice(('open', 'shipped')))
  _, product, _, price, status = shop.orders[number]
  who, name = shop.named(customer), shop.products[product][0]
  plan = [*shop.find(customer), *shop.find_orders(customer, number),
          *shop.sometimes(call_text('get_product', product_id=product)),
          call_text('get_order', order_id=number)]
  return shop.answered([
      f'What is the total of the {status} order of {who}?',
      f'How much does the {status} order of {name} cost {who}?'], price, plan)


def replace_order(seed: int, rng: random.Random) -> Recipe:
  """Cancel an open order and order something else instead."""
  shop, customer, number = _with_order(rng, 'open')
  product = rng.choice([i for i in shop.products if i != shop.orders[number][1]])
  name, price, stock = shop.products[product]
  quantity, new, who = rng.randint(1, min(3, stock)), max(shop.orders) + 1, shop.named(customer)
  plan = [*shop.find(customer), *shop.find_orders(customer, number), *shop.find_product(product),
          call_text('cancel_order', order_id=number),
          call_text('create_order', customer_id=customer, product_id=product, quantity=quantity)]
  setup_orders = {i: list(values) for i, values in shop.orders.items()}
  shop.orders[new] = [customer, product, quantity, quantity * price, 'open']
  check = _listed(shop, customer, {number: 'cancelled'})
  shop.orders = setup_orders
  return shop.checked([
      f'Cancel the open order of {who} and order {quantity} {name} instead.',
      f'{who} wants {quantity} {name} in place of the open order. Cancel that one.'], check,
      plan + shop.sometimes(check[0]))


def _with_order(rng: random.Random, status: str) -> tuple[Shop, int, int]:
  """A shop, a customer, and the customer's only order of a status."""
  shop = Shop(rng)
  customer = shop.customer()
  shop.without(customer, status)
  return shop, customer, shop.add_order(customer, shop.product(), status)


def _moved(shop, customer, number, tool, status, phrasings) -> Recipe:
  """A recipe in which one order of a customer changes its status."""
  check = shop.order_check(number, [*shop.orders[number][:4], status])
  plan = [*shop.find(customer), *shop.find_orders(customer, number),
          call_text(tool, order_id=number), *shop.sometimes(check[0])]
  return shop.checked(phrasings, check, plan)


def _listed(shop: Shop, customer: int, changed: dict[int, str]) -> tuple[str, dict[str, Any]]:
  """The call that lists a customer's orders, all on one page, and what it shall show."""
  rows = [{'id': i, 'product_id': values[1], 'quantity': values[2],
           'status': changed.get(i, values[4])}
          for i, values in shop.orders.items() if values[0] == customer]
  return (call_text('list_orders', customer_id=customer), {'orders': rows, 'page': '1 of 1'})
