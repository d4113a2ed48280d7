"""Fails where pytest skipped a test that should have run on this machine.

Usage: unexpected_skips.py JUNIT_XML
"""

import re
import sys
import xml.etree.ElementTree as ElementTree

# What no CI machine has. Everything else is to be installed by the README's line, or by .ci/run.
_ALLOWED = re.compile(r'needs (a|an|\d+) (GPUs?|TPUs?|Android device)')


def unexpected_skips(junit: str) -> tuple[list[str], int]:
  """The skipped tests without a good reason, each with its reason, and how many tests there were.

  Args:
    junit: path of the XML that `pytest --junitxml` wrote.
  """
  cases = list(ElementTree.parse(junit).iter('testcase'))
  found = []
  for case in cases:
    for skip in case.iter('skipped'):
      reason = skip.get('message') or ''
      if skip.get('type') != 'pytest.xfail' and not _ALLOWED.search(reason):
        found.append(f'{case.get("classname")}.{case.get("name")}: {reason}')
  return found, len(cases)


def main(junit: str) -> int:
  found, count = unexpected_skips(junit)
  for line in found:
    print(f'skipped, but should have run here: {line}')
  if not count:
    print('no test ran')
  return 1 if found or not count else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1]))
