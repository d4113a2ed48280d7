"""The rule verifier: exact match modulo runtime metadata, JSON as values."""

import json

import pytest

from aw_jax.rewards.content import Reference
from aw_jax.rewards.rubric import judge
from aw_jax.rewards.verifiers import exact_match

VALUE = {'id': 3, 'tags': ['a', 'b'], 'price': 2.5, 'paid': True, 'note': 'naïve "x"', 'to': None}


@pytest.mark.parametrize('predicted, same', [
  ('a\n~$', True), ('a \n~$', False), ('a\n~$ ', False), ('a', False), ('', False),
  ('A\n~$', False)])
def test_text_is_compared_to_the_character(predicted, same):
  assert exact_match(predicted, Reference('terminal', 'cat a', 'a\n~$')) is same


@pytest.mark.parametrize('style', [
  {}, {'separators': (',', ':')}, {'indent': 2}, {'ensure_ascii': False}, {'indent': 1}])
@pytest.mark.parametrize('predicted_style', [{}, {'indent': 4}, {'ensure_ascii': False}])
def test_json_is_compared_as_values(style, predicted_style):
  reference = Reference('mcp', '{}', json.dumps(VALUE, **style))
  other_order = dict(reversed(VALUE.items()))
  assert exact_match(json.dumps(other_order, **predicted_style), reference)
  for key in VALUE:
    assert not exact_match(json.dumps(VALUE | {key: 'other'}, **predicted_style), reference)
    assert not exact_match(json.dumps({k: v for k, v in VALUE.items() if k != key}), reference)
  assert not exact_match(json.dumps(VALUE | {'more': 1}), reference)


@pytest.mark.parametrize('predicted, same', [
  ('{"a": 1.0, "b": true}', True), ('{"a": 1, "b": 1}', False), ('{"a": true, "b": true}', False),
  ('{"a": "1", "b": true}', False), ('{"a": 1, "a": 1, "b": true}', False),
  ('{"a": 1, "b": true} ', True), ('{"a": 1, "b": true} ok', False), ('{"a": NaN}', False),
  ('[{"a": 1, "b": true}]', False), ('{"a": 1, "b": true', False)])
def test_json_types_and_trailing_text(predicted, same):
  assert exact_match(predicted, Reference('mcp', '{}', '{"a": 1, "b": true}')) is same


def test_lists_keep_their_order():
  reference = Reference('mcp', '{}', '[1, 2, 3]')
  assert exact_match('[1,2,3]', reference)
  assert not exact_match('[1,3,2]', reference)


def test_json_on_a_terminal_is_text():
  assert not exact_match('{"a":1}\n~$', Reference('terminal', 'cat a', '{"a": 1}\n~$'))


@pytest.mark.parametrize('depth', [*range(850, 1000, 3), 100_000])
def test_deeply_nested_json(depth):
  deep = '[' * depth + ']' * depth
  for truth in ('[1]', '[ 1]'):
    assert not exact_match(deep, Reference('mcp', '{}', truth))
  reference = Reference('mcp', '{}', deep)
  assert exact_match(deep, reference)
  assert not exact_match('[1]', reference) and judge('[1]', reference).factuality < 5


def test_runtime_metadata_beside_deterministic_numbers():
  text = 'pid 4312 of 3 jobs\n~$'
  reference = Reference('terminal', 'ps', text, ((4, 8),))
  assert exact_match('pid 77 of 3 jobs\n~$', reference)
  assert not exact_match('pid 4312 of 4 jobs\n~$', reference)
  assert not exact_match('pid x of 3 jobs\n~$', reference)
  assert not exact_match('pid  of 3 jobs\n~$', reference)


def test_a_clock_read_from_the_state_is_deterministic():
  reference = Reference('mcp', '{}', '{"datetime": "2024-01-15T10:00:00+00:00"}')
  assert not exact_match('{"datetime": "2024-01-15T11:00:00+00:00"}', reference)
