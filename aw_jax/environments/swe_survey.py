"""Which mistakes do a package's tests catch? Run inside the sandbox: swe_survey.py FILE.

Standard library and pytest only. The file is JSON: 'groups' of trials, and 'wanted', after how many
that were caught the rest of a group is not tried. A trial is a list of edits (path, line, good and
bad lines; swe.py). For each that was caught a line of JSON is printed: group, number, failing test.

One mistake in a function is made in memory: the tests are collected and run once, noting which
functions each of them reaches; then each trial is a fork of that process in which the function has
other code, and those tests alone are run. Trials of several places ('in_memory' is false) are made
in the files, and a fork collects and runs everything.
"""

import ast
import collections
import gc
import json
import os
import resource
import signal
import sys
import threading
import types

WALL_SECONDS = 150  # of one trial; on a busy machine CPU time is the tighter limit
CPU_SECONDS = 3
SETTINGS = ['-q', '--tb=no', '--assert=plain', '--disable-warnings', '--basetemp=/tmp/tests']


def in_fork(work):
  """What `work`, given a descriptor, writes there in a process of its own."""
  reader, writer = os.pipe()
  pid = os.fork()
  if not pid:
    os.close(reader)
    used = int(time_used()) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (used, used))
    signal.alarm(WALL_SECONDS)
    work(writer)
    os._exit(0)
  os.close(writer)
  with open(reader, 'rb') as pipe:
    text = pipe.read().decode('utf-8', 'replace')
  os.waitpid(pid, 0)
  return text


def time_used():
  """CPU seconds of this process."""
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


class InMemory:
  """A plugin that, instead of running the tests, tries mistakes on them."""

  def __init__(self, groups, wanted, report):
    self._groups, self._wanted, self._report = groups, wanted, report
    self._nodes = {}  # path -> the module's tree

  def pytest_runtestloop(self, session):
    """Takes the place of pytest's own loop."""
    self._items = session.items
    # pytest's own way to run a test with its fixtures, without reporting it
    self._run_test = session.config.pluginmanager.getplugin('runner').runtestprotocol
    self._reached = self._reach()
    self._functions = collections.defaultdict(list)
    for thing in gc.get_objects():
      if isinstance(thing, types.FunctionType):
        code = thing.__code__
        self._functions[code.co_filename, code.co_firstlineno, code.co_name].append(thing)
    for group, trials in enumerate(self._groups):
      caught = 0
      for number, (edit,) in enumerate(trials):
        failed = self._try(edit)
        if failed:
          self._report(group, number, failed)
          caught += 1
        if caught == self._wanted:
          break
    return True

  def _reach(self):
    """(file, first line) of a function -> the tests that call it and pass."""
    reached = collections.defaultdict(list)
    for item in self._items:
      codes = {}

      def note(frame, event, argument, codes=codes):
        codes[id(frame.f_code)] = frame.f_code

      threading.settrace(note)
      sys.settrace(note)
      reports = self._run_test(item, log=False, nextitem=None)
      sys.settrace(None)
      threading.settrace(None)
      if all(report.passed for report in reports):
        for code in codes.values():
          reached[code.co_filename, code.co_firstlineno].append(item)
    return reached

  def _try(self, edit):
    path = os.path.abspath(edit['path'])
    if path not in self._nodes:
      with open(path, encoding='utf-8') as file:
        self._nodes[path] = ast.parse(file.read())
    body = self._nodes[path].body
    top = next(node for node in body if _first(node) <= edit['line'] <= node.end_lineno)
    inner = [node for node in ast.walk(top)
             if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
             and _first(node) <= edit['line'] <= node.end_lineno]
    if not inner:
      return ''
    tests = self._reached[path, _first(max(inner, key=_first))]
    return in_fork(lambda pipe: self._run(path, top, edit, tests, pipe)) if tests else ''

  def _run(self, path, top, edit, tests, pipe):
    self._replace(path, top, edit)
    for item in tests:
      if any(report.failed for report in self._run_test(item, log=False, nextitem=None)):
        os.write(pipe, item.nodeid.encode())
        return

  def _replace(self, path, top, edit):
    """Gives every function in the statement `top` the code that it has with the mistake."""
    with open(path, encoding='utf-8') as file:
      lines = file.read().splitlines(keepends=True)
    lines[edit['line'] - 1] = edit['bad']
    first = _first(top)
    text = '\n' * (first - 1) + ''.join(lines[first - 1:top.end_lineno])
    tree = ast.parse(text)
    for code in _codes(compile(text, path, 'exec')):
      for function in self._functions[path, code.co_firstlineno, code.co_name]:
        if len(function.__code__.co_freevars) == len(code.co_freevars):
          function.__code__ = code
    for node in ast.walk(tree):
      if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for function in self._functions[path, _first(node), node.name]:
          function.__defaults__ = _constants(node.args.defaults, function.__defaults__)


def _first(node):
  """The first line of a statement, decorators included."""
  return min([node.lineno, *(d.lineno for d in getattr(node, 'decorator_list', ()))])


def _codes(code):
  """All code objects within one."""
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      yield constant
      yield from _codes(constant)


def _constants(nodes, values):
  """Default values, constants as they stand in the text now."""
  if not values or len(values) != len(nodes):
    return values
  return tuple(node.value if isinstance(node, ast.Constant) else value
               for node, value in zip(nodes, values, strict=True))


class FirstFailure:
  """A plugin that says on a pipe which test failed first, and ends the process."""

  def __init__(self, pipe):
    self._pipe = pipe

  def pytest_runtest_logreport(self, report):
    """A test's result."""
    self._end(report)

  def pytest_collectreport(self, report):
    """A file's, where it was loaded."""
    self._end(report)

  def _end(self, report):
    if report.failed:
      os.write(self._pipe, report.nodeid.encode())
      os._exit(0)


def in_files(trials, report):
  """Tries each with the files changed, and changes them back."""
  import pytest
  for number, edits in enumerate(trials):
    before = {}
    for edit in sorted(edits, key=lambda edit: -edit['line']):
      with open(edit['path'], encoding='utf-8', newline='') as file:
        text = file.read()
      before.setdefault(edit['path'], text)
      lines, start = text.splitlines(keepends=True), edit['line'] - 1
      lines[start:start + len(edit['good'].splitlines())] = [edit['bad']]
      _write(edit['path'], ''.join(lines))
    failed = in_fork(lambda pipe: pytest.main(['-x', *SETTINGS], plugins=[FirstFailure(pipe)]))
    if failed:
      report(0, number, failed)
    for path, text in before.items():
      _write(path, text)


def _write(path, text):
  with open(path, 'w', encoding='utf-8', newline='') as file:
    file.write(text)


def main():
  """Tries what the argument asks for."""
  with open(sys.argv[1], encoding='utf-8') as file:
    asked = json.load(file)
  import pytest
  output = os.dup(1)
  nothing = os.open(os.devnull, os.O_RDWR)
  for descriptor in (0, 1, 2):
    os.dup2(nothing, descriptor)

  def report(*found):
    os.write(output, (json.dumps(found) + '\n').encode())

  if asked['in_memory']:
    pytest.main(SETTINGS, plugins=[InMemory(asked['groups'], asked['wanted'], report)])
  else:
    in_files(asked['groups'][0], report)


if __name__ == '__main__':
  main()
