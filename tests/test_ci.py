"""What .ci/run relies on: an unexpected skip fails, and the README has its test line."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="test_passes"/>
<testcase classname="tests.b" name="test_known"><skipped type="pytest.xfail" message=""/></testcase>
{}
</testsuite></testsuites>"""
SKIPPED = ('<testcase classname="tests.c" name="test_it">'
           '<skipped type="pytest.skip" message="{}"/></testcase>')


def check(path: pathlib.Path, report: str) -> subprocess.CompletedProcess:
  path.write_text(report)
  return subprocess.run(
    [sys.executable, ROOT / '.ci' / 'unexpected_skips.py', path], capture_output=True, text=True,
    timeout=60, check=False)


@pytest.mark.parametrize('reason', ['needs a GPU', 'needs 8 TPUs', 'needs an Android device'])
def test_what_no_machine_of_ours_has_may_be_skipped(tmp_path, reason):
  run = check(tmp_path / 'junit.xml', REPORT.format(SKIPPED.format(reason)))
  assert (run.returncode, run.stdout) == (0, ''), run.stderr


@pytest.mark.parametrize('reason', ['needs bwrap: apt-get install -y bubblewrap', '', 'slow'])
def test_any_other_skip_fails_and_is_named(tmp_path, reason):
  run = check(tmp_path / 'junit.xml', REPORT.format(SKIPPED.format(reason)))
  assert run.returncode == 1 and f'tests.c.test_it: {reason}' in run.stdout, run.stderr


def test_a_run_without_tests_fails(tmp_path):
  assert check(tmp_path / 'junit.xml', '<testsuites/>').returncode == 1


def test_the_readme_has_the_test_line():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  block = re.search(r'<!-- test line -->\n(.*?)<!-- end -->', text, re.DOTALL)
  assert block, 'put the test line between <!-- test line --> and <!-- end -->'
  lines = [line.strip() for line in block[1].splitlines()
           if line.strip() and not line.strip().startswith('```')]
  assert lines == ["apt-get install -y bubblewrap && pip install -e '.[test]' && pytest"]
