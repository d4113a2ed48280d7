"""The schema of results.json: what is right passes, what is wrong is named."""

import json
import pathlib
import re
import socket
import subprocess

import pytest

from aw_jax.evaluation import results
from aw_jax.evaluation.examples import turn_examples
from aw_jax.evaluation.fidelity import evaluate
from aw_jax.evaluation.results import ResultsError
from aw_jax.evaluation.statistics import Interval
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier

MISSING = object()


def test_whole_results_pass(run_results, tmp_path):
  results.write(tmp_path / 'results.json', run_results)
  assert results.read(tmp_path / 'results.json') == run_results


@pytest.mark.parametrize('path, value, message', [
  ('seed', MISSING, 'results.seed: missing'),
  ('seed', True, 'seed: expected int, found bool'),
  ('commit', '', 'commit: empty'),
  ('config', [], 'config: expected dict, found list'),
  ('seconds', {'cpt': 1.0}, 'seconds.total: missing'),
  ('seconds.cpt', 'long', 'seconds.cpt: expected int or float, found str'),
  ('seconds.cpt', float('nan'), 'seconds.cpt: nan is not finite'),
  ('world_model', {}, 'world_model: empty'),
  ('world_model.maze', {}, 'world_model.maze: no such domain'),
  ('world_model.mcp.sft', MISSING, 'world_model.mcp.sft: missing'),
  ('world_model.mcp.ngram', MISSING, 'world_model.mcp.ngram: missing'),
  ('world_model.mcp.rl.realism', MISSING, 'world_model.mcp.rl.realism: missing'),
  ('world_model.mcp.rl.nll', 0.5, 'world_model.mcp.rl.nll: expected dict, found float'),
  ('world_model.mcp.rl.nll.n', 1.5, 'world_model.mcp.rl.nll.n: expected int, found float'),
  ('world_model.mcp.rl.nll.n', -1, 'world_model.mcp.rl.nll.n: negative'),
  ('world_model.mcp.rl.nll.low', 9, 'nll: mean .* lies outside of its interval'),
  ('world_model.mcp.rl.nll.mean', None, 'world_model.mcp.rl.nll.mean: null with n = 100'),
  ('agent.w2r', MISSING, 'agent.w2r: missing'),
  ('agent.w2r.high', MISSING, 'agent.w2r.high: missing'),
  ('agent.w2r.mean', 'half', 'agent.w2r.mean: expected int or float, found str'),
  ('hardware.cpu', MISSING, 'hardware.cpu: missing'),
  ('hardware.devices', 'cpu', 'hardware.devices: expected list, found str')])
def test_what_is_wrong_is_named(run_results, path, value, message):
  *parents, key = path.split('.')
  table = run_results
  for parent in parents:
    table = table[parent]
  if value is MISSING:
    del table[key]
  else:
    table[key] = value
  with pytest.raises(ResultsError, match=message) as error:
    results.validate(run_results)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('value', [None, [], 'text'])
def test_no_table_at_all(value):
  with pytest.raises(ResultsError, match='results: expected dict'):
    results.validate(value)


def test_an_undefined_consistency_ratio_is_no_error(run_results):
  run_results['agent']['consistency_ratio'] = {'mean': None, 'low': None, 'high': None, 'n': 9}
  results.validate(run_results)


def test_reading_names_the_file(tmp_path):
  path = tmp_path / 'results.json'
  with pytest.raises(ResultsError, match='results.json: No such file'):
    results.read(path)
  path.write_text('{"seed": 1,\n')
  with pytest.raises(ResultsError, match='results.json:2: not JSON'):
    results.read(path)
  path.write_text('{"seed": 1}')
  with pytest.raises(ResultsError, match='results.json: results.seconds: missing'):
    results.read(path)


def test_a_world_model_entry_comes_from_a_report(run_results):
  task = Task('mcp/a/1', 'mcp', 'a', 'test', 1, 'Do.', '', {}, Verifier('answer', ''), 3)
  examples = turn_examples(
    [Trajectory(task, 'expert', (Turn('{}', '[1]', changed_state=False),))], held_out_families=())
  report = evaluate(lambda batch: ['[1]'], examples, resamples=10)
  entry = results.world_model_entry(report, 'mcp', Interval(0.5, 0.4, 0.6, 1))
  assert tuple(entry) == results.WORLD_MODEL_METRICS
  assert entry['exact_match']['mean'] == 1 and entry['quality']['mean'] == 100
  assert entry['changed_state_exact_match'] == {'mean': None, 'low': None, 'high': None, 'n': 0}
  assert entry['nll'] == {'mean': 0.5, 'low': 0.4, 'high': 0.6, 'n': 1}
  run_results['world_model']['mcp']['rl'] = entry
  results.validate(run_results)


def test_hardware_names_no_host():
  found = results.hardware()
  assert found['cores'] >= 1 and found['memory_gib'] > 0 and found['devices'] and found['cpu']
  assert socket.gethostname() not in json.dumps(found)


@pytest.mark.requires('git')
def test_commit_is_that_of_the_checkout():
  root = pathlib.Path(__file__).resolve().parents[2]
  run = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=root, capture_output=True, text=True,
                       check=False)
  if run.returncode == 0:
    assert re.fullmatch(rf'{run.stdout.strip()}(-dirty)?', results.commit())


def test_commit_without_git(monkeypatch):
  def no_git(*arguments, **options):
    raise FileNotFoundError('git')
  monkeypatch.setattr(subprocess, 'run', no_git)
  assert re.fullmatch(r'version \d.*|unknown', results.commit())
