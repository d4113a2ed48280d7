"""Made-up results that follow the schema; for the tests of results and report."""

import pytest

from aw_jax.evaluation.results import AGENT_MEASURES, BASELINES, STAGES, WORLD_MODEL_METRICS

NOTHING = {'mean': None, 'low': None, 'high': None, 'n': 0}


def interval(mean, half=0.05, n=100):
  return {'mean': mean, 'low': mean - half, 'high': mean + half, 'n': n}


def entry(mean):
  figures = {metric: interval(mean if metric.endswith('match') else 100 * mean)
             for metric in WORLD_MODEL_METRICS}
  return figures | {'nll': interval(1 - mean)}


@pytest.fixture
def run_results():
  """A whole results.json, new for every test."""
  names = (*STAGES, *BASELINES)
  found = {
    'seconds': {'total': 800.0, 'collect': 50, 'cpt': 300.5},
    'world_model': {
      domain: {name: entry(0.9 - 0.1 * rank) for rank, name in enumerate(names)}
      for domain in ('terminal', 'mcp')},
    'agent': {measure: interval(0.5) for measure in AGENT_MEASURES},
    'config': {'model': {'layers': 4}, 'init': 'scratch'}, 'seed': 3, 'commit': 'abc123',
    'hardware': {'cpu': 'A CPU', 'cores': 2, 'memory_gib': 7.7, 'devices': ['cpu']}}
  found['subsets'] = {
    domain: {name: {subset: {metric: value for metric, value in figures.items() if metric != 'nll'}
                    for subset in ('all', 'with_output', 'changed_state', 'turn_1', 'turn_2')}
             for name, figures in entries.items()}
    for domain, entries in found['world_model'].items()}
  found['subsets']['mcp']['cpt']['turn_2']['exact_match'] = dict(NOTHING)
  found['world_model']['mcp']['copy_last']['nll'] = dict(NOTHING)
  return found
