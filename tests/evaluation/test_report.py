"""The report: one page that needs nothing else, and is safe to open whatever a model wrote."""

import html.parser
import json
import re

import pytest

from aw_jax.evaluation import report
from aw_jax.evaluation.report import Extras, Transcript
from aw_jax.evaluation.results import ResultsError

EVIL = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'&'


class Page(html.parser.HTMLParser):
  """Collects tags and text, and checks that tags close in order."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.attributes, self.text, self._open = [], [], '', []
    self.feed(text)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in ('meta', 'img'):
      self._open.append(tag)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    self.text += data


@pytest.fixture
def extras(tmp_path):
  for stage, fields in (('cpt', {'loss': 2.0}), ('rl', {'loss': 0.1, 'reward': 12.5})):
    lines = [json.dumps({'step': step} | {k: v / step for k, v in fields.items()})
             for step in range(1, 60)]
    (tmp_path / stage).mkdir()
    (tmp_path / stage / 'metrics.jsonl').write_text('\n'.join(lines) + '\n{"step": 60, "lo')
  return Extras(
    title=f'Run {EVIL}',
    metrics={stage: str(tmp_path / stage) for stage in ('cpt', 'sft', 'rl')},
    transcripts=[
      Transcript('copy', [('cat a', 'same\nimagined line\n~$', 'same\nreal line\n~$'),
                          (EVIL, EVIL, None)], note=EVIL)])


def test_the_report_is_whole_and_safe(run_results, extras, tmp_path):
  run_results['config']['note'] = EVIL
  report.write_report(run_results, extras, tmp_path / 'out')
  text = (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')
  page = Page(text)
  assert 'script' not in page.tags and not any(name.startswith('on') for name, _ in page.attributes)
  assert page.text.count(EVIL) >= 4
  sources = [value for name, value in page.attributes if name in ('src', 'href')]
  assert len(sources) == page.tags.count('img') == 2 + 2 + 1 + 2 + 1
  assert all(source.startswith('data:image/png;base64,iVBOR') for source in sources)
  for needle in ('changed-state', 'n-gram', 'W2R', '13 min 20 s', 'abc123', 'A CPU', '"layers": 4'):
    assert needle in page.text, needle
  for title in ('terminal, turns with output', 'mcp, changed-state turns'):
    assert title in page.text
  assert (tmp_path / 'out' / 'figure.png').read_bytes().startswith(b'\x89PNG')


def test_lines_that_differ_are_marked(run_results, extras):
  text = report.render(run_results, extras)
  marked = re.findall(r'<span class=differs>(.*?)</span>', text)
  assert marked == ['imagined line', 'real line']


def test_without_extras(run_results, tmp_path):
  report.write_report(run_results, None, tmp_path)
  page = Page((tmp_path / 'report.html').read_text(encoding='utf-8'))
  assert page.tags.count('img') == 5 and 'Training' not in page.text


def test_what_was_not_measured_is_a_dash(run_results, tmp_path):
  nothing = {'mean': None, 'low': None, 'high': None, 'n': 0}
  for entries in run_results['world_model'].values():
    for entry in entries.values():
      entry['changed_state_exact_match'] = nothing
  run_results['agent'] = dict.fromkeys(run_results['agent'], nothing)
  report.write_report(run_results, None, tmp_path)
  assert 'nan' not in report.table(run_results).lower()
  assert 'an unknown share' in report.summary(run_results)


def test_results_that_break_the_schema_are_refused(run_results, tmp_path):
  del run_results['agent']
  with pytest.raises(ResultsError, match='agent: missing'):
    report.write_report(run_results, None, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_table_fits_a_terminal(run_results, capsys):
  report.print_table(run_results)
  lines = capsys.readouterr().out.splitlines()
  assert max(map(len, lines)) <= 100
  for name in ('terminal', 'mcp', 'nearest_action', 'exploitation_gap', 'total'):
    assert any(line.startswith(name) for line in lines), name
  row = next(line for line in lines if line.startswith('cpt'))
  assert row.split()[:4] == ['cpt', '90.0', '±5.0', '%']


def test_the_summary_names_the_best_baseline(run_results):
  summary = report.summary(run_results)
  assert '70\N{NO-BREAK SPACE}% in terminal (against 60\N{NO-BREAK SPACE}% ' in summary
  assert 'copy last' in summary
