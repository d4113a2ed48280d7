"""Turns made from trajectories, and how a predictor is measured on them."""

import dataclasses
import json

import pytest

from aw_jax.evaluation.examples import has_output, turn_examples
from aw_jax.evaluation.fidelity import evaluate
from aw_jax.rewards.rubric import DIMENSIONS
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier


def trajectory(number, family='copy', domain='terminal', turns=4, state='== a.txt\nalpha'):
  task = Task(
    f'{domain}/{family}/{number}', domain, family, 'test', number, 'Do it.', state, {},
    Verifier('command', '~$', 'true'), 8)
  end, silence = ('\n~$', '~$') if domain == 'terminal' else ('', 'ok')
  made = tuple(
    Turn(f'cat {index}.txt', f'line {number} {index}{end}' if index % 2 else silence,
         changed_state=index == 3) for index in range(turns))
  return Trajectory(task, 'expert', made, '', Turn('true', '~$'), True)


TRAJECTORIES = [trajectory(0), trajectory(1, 'move'), trajectory(2, turns=2),
                trajectory(3, 'order', 'mcp')]
EXAMPLES = turn_examples(TRAJECTORIES, held_out_families={'move'})


def truth(examples):
  return [example.observation for example in examples]


def test_examples_hold_history_and_truth_without_the_verification():
  assert [e.trajectory for e in EXAMPLES] == [0] * 4 + [1] * 4 + [2] * 2 + [3] * 4
  example = EXAMPLES[3]
  assert example.turn_index == 4 and example.total_turns == 4 and example.changed_state
  assert example.history == tuple(
    (turn.action, turn.observation) for turn in TRAJECTORIES[0].turns[:3])
  assert example.reference.observation == example.observation == 'line 0 3\n~$'
  assert 'line 0 1' in example.reference.known and 'alpha' in example.reference.known
  assert not any(e.action == 'true' for e in EXAMPLES)
  assert [e.held_out_family for e in EXAMPLES] == [False] * 4 + [True] * 4 + [False] * 6


def test_held_out_families_come_from_the_registry():
  from aw_jax.environments import registry
  name = registry.held_out('terminal')[0]
  example, *_ = turn_examples([trajectory(0, name)])
  assert example.held_out_family


@pytest.mark.parametrize('domain, observation, expected', [
  ('terminal', '~$', False), ('terminal', '~/a b$', False), ('terminal', 'x\n~$', True),
  ('terminal', '\n~$', True), ('terminal', 'x', True), ('mcp', '', False), ('mcp', '{}', True)])
def test_has_output(domain, observation, expected):
  assert has_output(domain, observation) is expected


def test_a_perfect_predictor():
  report = evaluate(truth, EXAMPLES, batch_size=3, resamples=50)
  for subset in ('all', 'with_output', 'changed_state', 'seen_families', 'held_out_families'):
    assert report.get('exact_match', subset=subset).mean == 1
    assert report.get('exact_match', subset=subset).low < 1  # few trajectories: not sure of it
    for dimension in DIMENSIONS:
      assert report.get(dimension, subset=subset).mean == 100
      assert report.get(f'{dimension}_raw', subset=subset).mean == 5
    for metric, most in (('rubric', 100), ('rubric_judged', 100), ('judged', 1)):
      assert report.get(metric, subset=subset).mean == most
  assert report.get('exact_match').n == 14
  assert report.get('exact_match', 'terminal').n == 10
  assert report.get('exact_match', 'terminal', 'changed_state').n == 2
  assert report.get('exact_match', 'terminal', 'with_output').n == 5
  assert report.get('exact_match', subset='held_out_families').n == 4
  assert [report.get('exact_match', subset=f'turn_{turn}').n
          for turn in range(1, 6)] == [4, 4, 3, 3, 0]
  assert report.get('exact_match', 'swe').n == 0
  json.dumps(report.to_json(), allow_nan=False)


def test_trajectories_of_other_domains_and_files_are_others():
  """However they are numbered: the intervals are those of two trajectories, not of one."""
  def low(examples):
    return evaluate(truth, examples, resamples=50).get('exact_match').low

  single, others = EXAMPLES[:4], EXAMPLES[10:]
  same = [dataclasses.replace(example, trajectory=0) for example in others]
  assert low([*single, *same]) == low([*single, *others]) > low(single)
  copies = [dataclasses.replace(example, file='b/terminal_test.jsonl') for example in single]
  assert low([*single, *copies]) == low([*single, *others])


def test_invalid_predictions_get_the_least():
  for invalid in (None, ''):
    report = evaluate(lambda batch, text=invalid: [text] * len(batch), EXAMPLES, resamples=20)
    assert report.predictions == [None] * 14
    assert report.get('valid').mean == report.get('exact_match').mean == 0
    assert all(report.get(dimension).mean == 0 for dimension in (*DIMENSIONS, 'rubric'))
    assert report.get('judged').n == report.get('rubric_judged').n == 0


def test_subsets_tell_copying_from_knowing():
  report = evaluate(lambda batch: ['~$'] * len(batch), EXAMPLES, resamples=20)
  assert report.get('exact_match', 'terminal').mean == 0.5
  assert report.get('exact_match', 'terminal', 'with_output').mean == 0
  assert report.get('exact_match', 'terminal', 'changed_state').mean == 0
  assert 0 < report.get('quality', 'terminal').mean < 100


def test_runtime_metadata_counts_as_equal():
  task = TRAJECTORIES[0].task
  turns = (Turn('ps', 'bash 4312\n~$', runtime_metadata=((5, 9),)),)
  examples = turn_examples([Trajectory(task, 'expert', turns)], held_out_families=())
  assert evaluate(lambda _: ['bash 99\n~$'], examples).get('exact_match').mean == 1


def test_a_predictor_that_loses_turns_is_caught():
  with pytest.raises(ValueError, match='gave 1 answers to 14 turns'):
    evaluate(lambda batch: ['~$'], EXAMPLES)


def test_no_examples():
  report = evaluate(truth, [])
  assert report.get('exact_match').n == 0
