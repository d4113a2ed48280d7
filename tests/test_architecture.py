"""What DESIGN.md promises of the whole repository: layers, imports, help, docstrings, files."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGES = ('aw_jax', 'configs', 'data_pipelines', 'experiments')
HEAVY = ('tensorflow', 'seqio', 'tensorflow_datasets')

# DESIGN.md section 1. A module imports from its own unit and from units of lower layers.
LAYERS = {
  'experiments': 8,
  'aw_jax.evaluation': 7,
  'aw_jax.agents': 6,
  'aw_jax.imagination': 5,
  'aw_jax.training': 4,
  'aw_jax.rewards': 3, 'aw_jax.serving': 3, 'data_pipelines': 3,
  'aw_jax.prompts': 2, 'aw_jax.environments': 2, 'aw_jax.sampling': 2,
  'aw_jax.tokenizer': 1, 'aw_jax.models': 1,
  'aw_jax.partitioning': 0,  # models say how they are split
  'aw_jax.trajectories': 0,  # the schema stands below everything, the vocabulary's markup included
  'aw_jax': 0,  # the package itself: its docstring
}
DATA_PIPELINES_MAY_USE = {
  'data_pipelines', 'aw_jax.trajectories', 'aw_jax.prompts', 'aw_jax.tokenizer'}

# Programs that run in a sandbox with their folder on the path; nothing imports them.
PROGRAMS = {
  'aw_jax.environments.sandbox_driver', 'aw_jax.environments.screen_driver',
  'aw_jax.environments.servers.launch'}

# Distributions whose import name is another, or that are used without being imported.
IMPORT_NAMES = {
  'apache-beam': 'apache_beam', 'textworld-express': 'textworld_express',
  'orbax-checkpoint': 'orbax', 'absl-py': 'absl', 'tensorflow-datasets': 'tensorflow_datasets'}
SYSTEM_PYTHON = {'gi'}  # Debian's: imported where the system's own Python runs our code
# In a folder of their own, by experiments.fetch_mcp (aw_jax/environments/benchmark_servers.py).
FETCHED = ('bfcl_eval', 'loguru', 'tau2')
RUN_AS_PROGRAMS = {'mcp-server-git': 'mcp_server_git', 'mcp-server-time': 'mcp_server_time'}
USED_BY_OTHERS = {'tensorboard': 'clu'}


@functools.cache
def modules() -> dict[str, pathlib.Path]:
  """Every module of the repository's packages by its dotted name."""
  found = {}
  for package in PACKAGES:
    for path in sorted((ROOT / package).rglob('*.py')):
      parts = path.relative_to(ROOT).with_suffix('').parts
      found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
  return found


@functools.cache
def tree(name: str) -> ast.Module:
  return ast.parse(modules()[name].read_text(encoding='utf-8'))


@functools.cache
def imports(name: str) -> tuple[tuple[str, int], ...]:
  """(imported module, line) of every import of a module, those inside functions too.

  `from package import submodule` counts as an import of the submodule.
  """
  found = []
  package = name if modules()[name].name == '__init__.py' else name.rpartition('.')[0]
  for node in ast.walk(tree(name)):
    if isinstance(node, ast.Import):
      for alias in node.names:
        sibling = f'{package}.{alias.name}'
        beside = name in PROGRAMS and sibling in modules()
        found.append((sibling if beside else alias.name, node.lineno))
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        above = package.split('.')[:len(package.split('.')) - node.level + 1]
        base = '.'.join([*above, *([node.module] if node.module else [])])
      for alias in node.names:
        submodule = f'{base}.{alias.name}'
        found.append((submodule if submodule in modules() else base, node.lineno))
  return tuple(found)


def own_imports(name: str) -> list[tuple[str, int]]:
  return [(target, line) for target, line in imports(name) if target.split('.')[0] in PACKAGES]


def unit(module: str) -> str:
  """The row of the layer table that a module stands in."""
  parts = module.split('.')
  return '.'.join(parts[:2]) if parts[0] == 'aw_jax' else parts[0]


def place(name: str, line: int) -> str:
  return f'{modules()[name].relative_to(ROOT)}:{line}'


def test_there_is_something_to_check():
  assert {'aw_jax.trajectories', 'aw_jax.environments.base'} <= set(modules())
  assert 'aw_jax.trajectories' in [target for target, _ in imports('aw_jax.environments.base')]


def test_every_module_stands_in_a_layer():
  unknown = {unit(name) for name in modules()} - set(LAYERS) - {'configs'}
  assert not unknown, 'give it a row in DESIGN.md section 1 and in LAYERS'


def test_imports_follow_the_layers():
  wrong = []
  for name in modules():
    for target, line in own_imports(name):
      here, there = unit(name), unit(target)
      if here == there:
        continue
      if here == 'configs' or there == 'configs':
        fine = here == 'experiments'  # configs are plain values: they need nothing of ours
      else:
        fine = LAYERS[there] < LAYERS[here]
      if not fine:
        wrong.append(f'{place(name, line)}: {here} imports {there}')
  assert not wrong, '\n'.join(wrong)


def test_data_pipelines_use_only_what_they_may():
  wrong = [
    f'{place(name, line)}: imports {target}' for name in modules() if unit(name) == 'data_pipelines'
    for target, line in own_imports(name) if unit(target) not in DATA_PIPELINES_MAY_USE]
  assert not wrong, '\n'.join(wrong)


def test_no_import_cycles():
  finished, path = set(), []

  def visit(name):
    if name in path:
      pytest.fail('import cycle: ' + ' -> '.join([*path[path.index(name):], name]))
    if name in finished:
      return
    path.append(name)
    for target, _ in own_imports(name):
      if target in modules() and target != name:
        visit(target)
    finished.add(path.pop())

  for name in modules():
    visit(name)


def test_aw_jax_imports_no_tensorflow():
  wrong = [
    f'{place(name, line)}: imports {target}' for name in modules() if name.startswith('aw_jax')
    for target, line in imports(name) if target.split('.')[0] in HEAVY]
  assert not wrong, '\n'.join(wrong)


def test_importing_all_of_aw_jax_loads_no_tensorflow():
  names = [name for name in modules() if name.split('.')[0] == 'aw_jax' and name not in PROGRAMS]
  extras = sorted(set(declared('_EXTRAS')) - set(declared('_DEFAULT')))
  program = (
    'import importlib, sys\n'
    f'for name in {names!r}:\n'
    '  try: importlib.import_module(name)\n'
    '  except ModuleNotFoundError as error:\n'
    f'    if error.name.split(".")[0] not in {extras!r}: raise\n'
    f'print([name for name in {HEAVY!r} if name in sys.modules])')
  run = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, timeout=120,
    check=False)
  assert run.returncode == 0, run.stderr
  assert run.stdout.splitlines()[-1] == '[]'


def test_nothing_imports_the_programs():
  wrong = [f'{place(name, line)}: imports {target}' for name in modules()
           for target, line in own_imports(name) if target in PROGRAMS]
  assert not wrong, '\n'.join(wrong)


def public_definitions(name: str) -> list[ast.AST]:
  kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
  return [node for node in tree(name).body
          if isinstance(node, kinds) and not node.name.startswith('_')]


def test_docstrings():
  wrong = [f'{place(name, 1)}: the module has no docstring'
           for name in modules() if ast.get_docstring(tree(name)) is None]
  wrong += [
    f'{place(name, node.lineno)}: {node.name} has no docstring'
    for name in modules() if name.startswith('aw_jax')
    for node in public_definitions(name) if ast.get_docstring(node) is None]
  assert not wrong, '\n'.join(wrong)


def commands() -> list[str]:
  """The modules of experiments/ that are absl mains."""
  main = "__name__ == '__main__'"
  return [name for name, path in modules().items()
          if unit(name) == 'experiments' and main in path.read_text(encoding='utf-8')]


def defined_flags(name: str) -> dict[str, ast.Call]:
  """The flags a module defines: name -> the call that does."""
  calls = (node for node in ast.walk(tree(name)) if isinstance(node, ast.Call))
  return {
    call.args[0].value: call for call in calls
    if isinstance(call.func, ast.Attribute) and call.func.attr.startswith('DEFINE_') and call.args
    and isinstance(call.args[0], ast.Constant)}


@pytest.mark.parametrize('name', commands())
def test_help_explains_every_flag(name):
  run = subprocess.run(
    [sys.executable, '-m', name, '--help'], cwd=ROOT, capture_output=True, text=True, timeout=120,
    check=False)
  assert 'Traceback' not in run.stderr, run.stderr
  assert run.returncode in (0, 1), run.stderr  # absl ends --help with 1
  assert ast.get_docstring(tree(name)).splitlines()[0] in run.stdout
  for flag in defined_flags(name):
    # absl begins a long list of an enum's values on a line of its own.
    entry = re.search(
      rf'^ +(?:-\w,)?--(?:\[no\])?{flag}:(?: |\n +(?=<))(.*)$', run.stdout, re.MULTILINE)
    assert entry, f'--{flag} is not in the help'
    assert len(entry[1].strip()) >= 10, f'--{flag} is not explained'


@functools.cache
def tracked_files() -> list[pathlib.Path]:
  run = subprocess.run(
    ['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True)
  return [path for name in run.stdout.split('\0') if name and (path := ROOT / name).is_file()]


@pytest.mark.requires('git')
def test_no_file_is_large():
  limit = 16 * 2**20
  assert not [str(path) for path in tracked_files() if path.stat().st_size > limit]


@pytest.mark.requires('git')
def test_no_paths_of_one_machine():
  machine = re.compile('|'.join([
    r'(?<![\w.~-])/(?:work|root|Users)/\w', re.escape(str(ROOT)) + r'\b',
    re.escape(sys.prefix) + r'/lib\b']))
  wrong = []
  for path in tracked_files():
    text = path.read_bytes().decode('utf-8', errors='replace')
    wrong += [f'{path.relative_to(ROOT)}: {match[0]}' for match in machine.finditer(text)]
  assert not wrong, '\n'.join(wrong)


def declared(kind: str) -> dict[str, str]:
  """Import name -> distribution, of what setup.py's `_DEFAULT` or `_EXTRAS` lists."""
  values = {}
  for node in ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8')).body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
      values[node.targets[0].id] = ast.literal_eval(node.value)
  listed = values[kind] if kind == '_DEFAULT' else sum(values[kind].values(), ())
  names = [re.match(r'[\w-]+', requirement)[0] for requirement in listed]
  return {IMPORT_NAMES.get(name, RUN_AS_PROGRAMS.get(name, name)): name for name in names}


def test_every_import_is_declared():
  known = {*sys.stdlib_module_names, *PACKAGES, *SYSTEM_PYTHON, *FETCHED, *declared('_DEFAULT'),
           *declared('_EXTRAS')}
  wrong = [
    f'{place(name, line)}: {target} is in no list of setup.py' for name in modules()
    for target, line in imports(name) if target.split('.')[0] not in known]
  assert not wrong, '\n'.join(wrong)


def test_every_dependency_is_used():
  used = {target.split('.')[0] for name in modules() for target, _ in imports(name)}
  text = ''.join(path.read_text(encoding='utf-8') for path in modules().values())
  used |= {name for name in RUN_AS_PROGRAMS.values() if name in text}
  used |= {name for name, user in USED_BY_OTHERS.items() if user in used}
  unused = [name for imported, name in declared('_DEFAULT').items() if imported not in used]
  assert not unused, 'nothing imports it: take it out of setup.py'
