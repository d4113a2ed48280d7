"""Metrics as JSON lines: every step once, whatever was interrupted."""

import json

from aw_jax.training.metrics import JsonLinesWriter
from aw_jax.training.runner import read_metrics


def write(path, steps, first_step=0):
  writer = JsonLinesWriter(path, first_step)
  for step in steps:
    writer.write_scalars(step, {'loss': step / 4})
  writer.flush()
  writer.close()


def test_lines_hold_step_and_values(tmp_path):
  write(tmp_path / 'metrics.jsonl', [1, 2])
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == [
    {'step': 1, 'loss': 0.25}, {'step': 2, 'loss': 0.5}]
  assert read_metrics(tmp_path) == [json.loads(line) for line in lines]


def test_lines_are_there_as_soon_as_they_are_flushed(tmp_path):
  writer = JsonLinesWriter(tmp_path / 'metrics.jsonl')
  writer.write_scalars(1, {'loss': 1.0})
  writer.flush()
  assert read_metrics(tmp_path) == [{'step': 1, 'loss': 1.0}]
  writer.close()


def test_a_resumed_run_drops_what_it_will_repeat(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write(path, [2, 4, 6, 8])
  write(path, [6, 8, 10], first_step=5)
  assert [line['step'] for line in read_metrics(tmp_path)] == [2, 4, 6, 8, 10]


def test_a_torn_last_line_is_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  write(path, [2, 4])
  with open(path, 'a') as file:
    file.write('{"step": 6, "lo')
  assert [line['step'] for line in read_metrics(tmp_path)] == [2, 4]
  write(path, [6], first_step=4)
  assert [line['step'] for line in read_metrics(tmp_path)] == [2, 4, 6]


def test_a_folder_without_metrics_has_none(tmp_path):
  assert read_metrics(tmp_path) == []
