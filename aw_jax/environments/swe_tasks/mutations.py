"""Small mistakes that can be made in Python source: one operator, constant, name or line each.

A mutation is found in the syntax tree and made in the text, so that everything else stays as it was
written. Each changes one line.
"""

import ast
import dataclasses
import functools

_COMPARISONS = {
    ast.Lt: ('<', ('<=', '>')), ast.LtE: ('<=', ('<', '>=')), ast.Gt: ('>', ('>=', '<')),
    ast.GtE: ('>=', ('>', '<=')), ast.Eq: ('==', ('!=',)), ast.NotEq: ('!=', ('==',)),
    ast.Is: ('is', ('is not',)), ast.IsNot: ('is not', ('is',)), ast.In: ('in', ('not in',)),
    ast.NotIn: ('not in', ('in',))}
_ARITHMETIC = {
    ast.Add: ('+', ('-',)), ast.Sub: ('-', ('+',)), ast.Mult: ('*', ('+', '//')),
    ast.FloorDiv: ('//', ('*',)), ast.Div: ('/', ('*', '//')), ast.Mod: ('%', ('//',)),
    ast.BitOr: ('|', ('&',)), ast.BitAnd: ('&', ('|',))}
_BOOLEAN = {ast.And: ('and', ('or',)), ast.Or: ('or', ('and',))}
_NAMES = {
    'min': 'max', 'max': 'min', 'any': 'all', 'all': 'any', 'lstrip': 'rstrip', 'rstrip': 'lstrip',
    'strip': 'lstrip', 'startswith': 'endswith', 'endswith': 'startswith', 'keys': 'values',
    'values': 'keys', 'items': 'keys', 'append': 'extend', 'extend': 'append', 'upper': 'lower',
    'lower': 'upper', 'ljust': 'rjust', 'rjust': 'ljust', 'find': 'rfind', 'rfind': 'find',
    'index': 'count', 'split': 'rsplit', 'rsplit': 'split', 'partition': 'rpartition',
    'rpartition': 'partition', 'isdigit': 'isalpha', 'match': 'search', 'search': 'match',
    'floor': 'ceil', 'ceil': 'floor', 'pop': 'get', 'add': 'discard', 'discard': 'add',
    'sorted': 'list', 'reversed': 'list', 'tuple': 'list', 'int': 'float', 'update': 'get'}
FAMILIES = ('comparison', 'arithmetic', 'boolean', 'constant', 'default', 'arguments', 'call',
            'returned', 'condition', 'missing_line')


@dataclasses.dataclass(frozen=True)
class Mutation:
  """A mistake in one line.

  Attributes:
    family: one of FAMILIES.
    function: the function that it is in, `Class.method`; '' at the top of a module.
    line: its number, from 1.
    good: the line as it was, its newline included.
    bad: the line as it is now.
  """

  family: str
  function: str
  line: int
  good: str
  bad: str


@functools.lru_cache(maxsize=64)
def mutations(text: str) -> tuple[Mutation, ...]:
  """All mutations of a module's text, in the order of its lines; () where it is no Python."""
  try:
    tree = ast.parse(text)
  except (SyntaxError, ValueError, RecursionError):
    return ()
  finder = _Finder(text)
  finder.visit(tree)
  found = dict.fromkeys(finder.found)
  return tuple(sorted(found, key=lambda m: (m.line, FAMILIES.index(m.family), m.bad)))


@functools.lru_cache(maxsize=64)
def functions(text: str) -> dict[str, tuple[int, int]]:
  """Name -> (first line, last line) of every function of a module, `Class.method` of methods."""
  found: dict[str, tuple[int, int]] = {}

  def visit(node: ast.AST, prefix: str) -> None:
    for child in ast.iter_child_nodes(node):
      if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        name = prefix + child.name
        if not isinstance(child, ast.ClassDef):
          found.setdefault(name, (child.lineno, child.end_lineno))
        visit(child, name + '.')
      else:
        visit(child, prefix)

  visit(ast.parse(text), '')
  return found


class _Finder(ast.NodeVisitor):
  """Walks a module and notes what could be wrong in it."""

  def __init__(self, text: str):
    self._lines = text.split('\n')
    self._function: list[str] = []
    self.found: list[Mutation] = []

  def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
    """Defaults of arguments, then the body."""
    self._function.append(node.name)
    for default in [*node.args.defaults, *node.args.kw_defaults]:
      if isinstance(default, ast.Constant):
        self._constant(default, 'default')
    self._statements(node.body)
    self._function.pop()

  visit_AsyncFunctionDef = visit_FunctionDef

  def visit_ClassDef(self, node: ast.ClassDef) -> None:
    """The body, within the class's name."""
    self._function.append(node.name)
    self._statements(node.body)
    self._function.pop()

  def _statements(self, body: list[ast.stmt]) -> None:
    for statement in body:
      self.visit(statement)

  def visit_Compare(self, node: ast.Compare) -> None:
    """One comparison for another."""
    if len(node.ops) == 1:
      self._operator('comparison', _COMPARISONS, node.ops[0], node.left, node.comparators[0])
    self.generic_visit(node)

  def visit_BinOp(self, node: ast.BinOp) -> None:
    """One operator for another."""
    self._operator('arithmetic', _ARITHMETIC, node.op, node.left, node.right)
    self.generic_visit(node)

  def visit_BoolOp(self, node: ast.BoolOp) -> None:
    """`and` for `or`."""
    if len(node.values) == 2:
      self._operator('boolean', _BOOLEAN, node.op, *node.values)
    self.generic_visit(node)

  def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
    """A `not` left out."""
    if isinstance(node.op, ast.Not) and node.lineno == node.operand.lineno:
      self._replace('boolean', node.lineno, node.col_offset, node.operand.col_offset, '')
    self.generic_visit(node)

  def visit_If(self, node: ast.If) -> None:
    """A condition turned round."""
    self._negate(node.test)
    self.generic_visit(node)

  visit_While = visit_If

  def visit_IfExp(self, node: ast.IfExp) -> None:
    """A condition turned round."""
    self._negate(node.test)
    self.generic_visit(node)

  def visit_Constant(self, node: ast.Constant) -> None:
    """Another number or truth value."""
    self._constant(node, 'constant')

  def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
    """Nothing: columns within an f-string differ between versions of Python."""

  def visit_Return(self, node: ast.Return) -> None:
    """What is returned left out."""
    value = node.value
    if value is not None and not isinstance(value, ast.Constant) and _on_one_line(node):
      self._replace('returned', node.lineno, value.col_offset, value.end_col_offset, 'None')
    self.generic_visit(node)

  def visit_Call(self, node: ast.Call) -> None:
    """Another function, or two arguments exchanged."""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, 'attr', '')
    line, end = node.func.end_lineno, node.func.end_col_offset
    if name in _NAMES:
      self._replace('call', line, end - len(name), end, _NAMES[name])
    for first, second in zip(node.args, node.args[1:], strict=False):
      if (_on_one_line(first) and _on_one_line(second) and first.lineno == second.lineno
          and not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred)):
        line = self._bytes(first.lineno)
        swapped = (line[second.col_offset:second.end_col_offset]
                   + line[first.end_col_offset:second.col_offset]
                   + line[first.col_offset:first.end_col_offset])
        self._replace('arguments', first.lineno, first.col_offset, second.end_col_offset,
                      swapped.decode())
    self.generic_visit(node)

  def visit_Expr(self, node: ast.Expr) -> None:
    """A call left out; docstrings are passed by."""
    if not isinstance(node.value, ast.Constant):
      self._leave_out(node)
      self.generic_visit(node)

  def visit_Assign(self, node: ast.Assign) -> None:
    """An assignment to something that is there already left out."""
    if not all(isinstance(target, ast.Name) for target in node.targets):
      self._leave_out(node)
    self.generic_visit(node)

  def visit_AugAssign(self, node: ast.AugAssign) -> None:
    """A change of a variable left out."""
    self._leave_out(node)
    self.generic_visit(node)

  def _operator(self, family: str, table, operator: ast.AST, left: ast.AST, right: ast.AST) -> None:
    if type(operator) not in table or left.end_lineno != right.lineno:
      return
    symbol, others = table[type(operator)]
    between = self._bytes(right.lineno)[left.end_col_offset:right.col_offset]
    place = between.find(symbol.encode())
    if place >= 0:
      start = left.end_col_offset + place
      for other in others:
        self._replace(family, right.lineno, start, start + len(symbol), other)

  def _negate(self, test: ast.AST) -> None:
    if not _on_one_line(test) or isinstance(test, (ast.Compare, ast.UnaryOp, ast.NamedExpr)):
      return
    text = self._bytes(test.lineno)[test.col_offset:test.end_col_offset].decode()
    negated = f'not ({text})' if isinstance(test, ast.BoolOp) else f'not {text}'
    self._replace('condition', test.lineno, test.col_offset, test.end_col_offset, negated)

  def _constant(self, node: ast.Constant, family: str) -> None:
    value = node.value
    if isinstance(value, bool):
      others = [not value]
    elif isinstance(value, int):
      others = [value + 1, value - 1] if value > 0 else [value + 1]
    elif value is None and family == 'default':
      others = [False]
    elif isinstance(value, str) and family == 'default' and '\n' not in value:
      others = [value + value[-1] if value else ' ']
    else:
      return
    if _on_one_line(node):
      for other in others:
        self._replace(family, node.lineno, node.col_offset, node.end_col_offset, repr(other))

  def _leave_out(self, node: ast.stmt) -> None:
    if _on_one_line(node) and ';' not in self._lines[node.lineno - 1]:
      self._replace('missing_line', node.lineno, node.col_offset, node.end_col_offset, 'pass')

  def _bytes(self, line: int) -> bytes:
    return self._lines[line - 1].encode()

  def _replace(self, family: str, line: int, start: int, end: int, text: str) -> None:
    good = self._bytes(line)
    bad = good[:start] + text.encode() + good[end:]
    if bad != good:
      self.found.append(Mutation(
          family, '.'.join(self._function), line, good.decode() + '\n', bad.decode() + '\n'))


def _on_one_line(node: ast.AST) -> bool:
  return node.lineno == node.end_lineno
