"""The parsers of structure, and what the reference judge makes of it in each domain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aw_jax.rewards.content import Reference
from aw_jax.rewards.rubric import DIMENSIONS, PERFECT, judge
from aw_jax.rewards.structure import (
  Node,
  Result,
  json_structure,
  line_form,
  output_structure,
  results_structure,
  screen_structure,
  search_results,
  structure,
  tree_nodes,
  tree_structure,
)
from aw_jax.trajectories import DOMAINS

ARIA = """- document "Shop"
  - heading "Orders" [level=1]
  - list:
    - listitem: first order
    - listitem
  - button "Pay now" [disabled]
  - /url: https://shop.test/orders"""
NUMBERED = """[1] RootWebArea 'Shop' focused: True
\t[4] link 'Cart'
\t\t[5] StaticText 'Cart (2)'
\t[9] textbox 'Search' required: False"""
ANDROID = """<?xml version="1.0" encoding="UTF-8"?>
<hierarchy rotation="0">
  <node class="android.widget.FrameLayout" text="">
    <node class="android.widget.Button" text="OK" bounds="[0,0][10,10]" />
    <node class="android.widget.ImageView" content-desc="Photo"/>
  </node>
</hierarchy>"""
RESULTS = """Results for "jax":
1. JAX documentation
   https://docs.jax.test/en/latest
   Composable transformations of programs.
2. JAX on a pod
   URL: https://pods.test/jax?page=2
   How to run it.
   In two steps.
[3] Nothing more"""
CODE = """Here's the result of running `cat -n` on src/a.py:
     1\timport os
     2\t
     3\tdef f(x):"""
DIFF = """diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -1,2 +1,2 @@
 import os
-x = 1
+x = 2"""


def test_keys_of_json_and_of_json_that_is_cut_off():
  assert json_structure('{"a": [{"b": 1}], "c d": "x"}').forms == ('a', 'b', 'c d')
  assert json_structure('{"a": [{"b": 1}], "c').forms == ('a', 'b')


def test_a_screen():
  assert screen_structure('total 8\nab cd 12\n~/docs$') == ('screen', ('a 0', 'a 0'))
  assert screen_structure('total 8').kind == 'text'
  assert line_form('-rw-r--r-- 1 agent 26 notes.txt') == '-a-a--a-- 0 a 0 a.a'


def test_an_aria_snapshot():
  assert tree_nodes(ARIA) == [
    Node(0, 'document', 'Shop'), Node(2, 'heading', 'Orders'), Node(2, 'list', ''),
    Node(4, 'listitem', ''), Node(4, 'listitem', ''), Node(2, 'button', 'Pay now'),
    Node(2, '/url', '')]
  assert tree_structure(ARIA).forms[:3] == ('0 document named', '2 heading named', '2 list')


def test_a_numbered_tree():
  assert tree_nodes(NUMBERED) == [
    Node(0, 'RootWebArea', 'Shop'), Node(2, 'link', 'Cart'), Node(4, 'StaticText', 'Cart (2)'),
    Node(2, 'textbox', 'Search')]


def test_a_hierarchy_in_markup():
  assert tree_nodes(ANDROID) == [
    Node(0, 'hierarchy', ''), Node(1, 'FrameLayout', ''), Node(2, 'Button', 'OK'),
    Node(2, 'ImageView', 'Photo')]


@pytest.mark.parametrize('text', [
  '', '\n', 'Two words of prose.', ARIA + '\nand then, some prose!', ANDROID[:-1], ANDROID[:-14],
  ANDROID + 'text', 'text' + ANDROID, '<a></b>', '</a>', '<a', '12 is no role',
  NUMBERED.replace('\n', '\\n')])
def test_what_is_no_tree(text):
  assert tree_nodes(text) is None
  assert tree_structure(text).kind == 'text'


def test_search_results():
  assert search_results(RESULTS) == [
    Result(1, 'JAX documentation', 'https://docs.jax.test/en/latest',
           'Composable transformations of programs.'),
    Result(2, 'JAX on a pod', 'https://pods.test/jax?page=2', 'How to run it. In two steps.'),
    Result(3, 'Nothing more', '', '')]
  assert results_structure(RESULTS) == ('results', (
    'text', 'result 1', 'url', 'text', 'result 2', 'url', 'text', 'text', 'result 3'))
  assert results_structure('A page of text.').kind == 'text'


def test_a_tools_output():
  assert output_structure(CODE).forms[1:] == ('numbered',) * 3
  assert output_structure(DIFF).forms == (
    'file', 'file', 'file', 'hunk', line_form(' import os'), 'removed', 'added')
  assert output_structure('src/a.py:12: x = 1\nsrc/b.py').forms == ('match', 'path')
  assert output_structure('Traceback (most recent call last):\n  File "a.py", line 3, in f\n'
                          'ValueError: no').forms == ('error', 'frame', 'error')


TRUTHS = {
  'web': ARIA, 'os': NUMBERED, 'android': ANDROID, 'search': RESULTS, 'swe': DIFF,
  'textgame': 'You are in a kitchen.\nThere is a key here.'}


@pytest.mark.parametrize('domain', TRUTHS)
def test_the_truth_gets_full_marks(domain):
  assert judge(TRUTHS[domain], Reference(domain, 'act', TRUTHS[domain])) == PERFECT


@pytest.mark.parametrize('domain', TRUTHS)
def test_scores_fall_line_by_line(domain):
  reference = Reference(domain, 'act', TRUTHS[domain], known='')
  lines = TRUTHS[domain].split('\n')
  for spoil in (lambda i: lines[:len(lines) - i], lambda i: [*lines, *['zorvik! quelth?'] * i],
                lambda i: ['zorvik! quelth?'] * i + lines[i:]):
    series = [judge('\n'.join(spoil(i)), reference) for i in range(len(lines) + 1)]
    for milder, worse in zip(series, series[1:], strict=False):
      for name in DIMENSIONS:
        assert getattr(worse, name) <= getattr(milder, name) + 1e-9, (name, milder, worse)
    assert series[1].mean < 5


def changed(domain, *pair):
  text = TRUTHS[domain]
  assert pair[0] in text
  return text.replace(*pair)


@pytest.mark.parametrize('domain, words, form', [
  ('web', changed('web', 'Pay now', 'Go away'), changed('web', '- button', '- tooltip')),
  ('web', changed('web', 'first', 'other'), changed('web', '    - listitem', '- listitem')),
  ('os', changed('os', "'Cart'", "'Help'"), changed('os', '[4] link', 'the link, a')),
  ('android', changed('android', '"OK"', '"NO"'), changed('android', '</node>', '')),
  ('search', changed('search', 'Composable', 'Strange'), changed('search', '2. JAX', 'JAX')),
  ('swe', changed('swe', '+x', '+y'), changed('swe', '+x', 'Now x'))])
def test_a_broken_structure_costs_more_format_than_a_wrong_word(domain, words, form):
  reference = Reference(domain, 'act', TRUTHS[domain])
  assert judge(form, reference).format < judge(words, reference).format < 5


@settings(max_examples=10_000)
@given(st.one_of(st.text(max_size=300), st.text('<>/ab "=-[]1.\n\t:', max_size=120)),
       st.sampled_from(DOMAINS))
def test_parsers_survive_anything(text, domain):
  kind, forms = structure(domain, text)
  assert kind and len(forms) <= text.count('\n') + 1 + text.count('<')


@pytest.mark.parametrize('piece', ['<a', 'a', ' ', '"', '1', '[', '/', '- a ', 'a:', '<a b="'])
def test_long_text_takes_no_longer_than_its_length(piece):
  for domain in DOMAINS:
    structure(domain, piece * 100_000)
