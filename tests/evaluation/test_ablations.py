"""The table of a study: means over seeds, paired differences."""

import numpy as np
import pytest
from scipy import stats

from aw_jax.evaluation import ablations
from aw_jax.rewards.rubric import DIMENSIONS

VALUES = {  # (arm, stage) -> exact match by seed
  ('full', 'cpt'): (0.5, 0.6, 0.7), ('full', 'sft'): (0.6, 0.8, 0.7),
  ('bare', 'cpt'): (0.4, 0.6, 0.5), ('bare', 'rl'): (0.1, 0.2, 0.3)}


def runs():
  found = {}
  for (arm, stage), values in VALUES.items():
    for seed, value in enumerate(values):
      metrics = {name: {'mean': mean} for name, mean in (
        ('exact_match', value), ('changed_state_exact_match', value / 2),
        *((name, 100 * value + i) for i, name in enumerate(DIMENSIONS)))}
      found.setdefault((arm, seed), {})[stage] = {'domains': {'terminal': metrics}}
  return found


def row(table, **wanted):
  one, = (row for row in table if all(row[key] == value for key, value in wanted.items()))
  return one


def student(values):
  low, high = stats.t.interval(
    0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
  return {'mean': pytest.approx(np.mean(values)), 'low': pytest.approx(low),
          'high': pytest.approx(high), 'n': len(values)}


def test_means_and_paired_differences_over_seeds():
  table = ablations.summarise(runs(), 'full')
  assert len(table) == (4 + 2) * 3  # with the last stage of each arm once more
  own = row(table, arm='bare', stage='cpt', metric='exact_match')
  assert own['value'] == student([40, 60, 50])
  assert own['difference'] == student([-10, 0, -20]) and own['gain'] is None
  later = row(table, arm='full', stage='sft', metric='changed_state_exact_match')
  assert later['gain'] == student([5, 10, 0]) and later['difference'] is None
  ends = row(table, arm='bare', stage='last', metric='exact_match')
  assert ends['value'] == student([10, 20, 30]) and ends['gain'] is None
  assert ends['difference'] == student([10 - 60, 20 - 80, 30 - 70])
  # The first arm has no such stage: nothing to compare with.
  last = row(table, arm='bare', stage='rl', metric='rubric')
  assert last['difference'] is None and last['value'] == student([12, 22, 32])


def test_all_domains_together_are_their_mean_in_each_seed():
  found = runs()
  for (_, seed), stages in found.items():
    for entry in stages.values():
      metrics = entry['domains']['terminal']
      entry['domains']['mcp'] = {
        name: {'mean': value['mean'] / (seed + 1)} for name, value in metrics.items()}
  table = ablations.summarise(found, 'full')
  assert len(table) == (4 + 2) * 3 * 3
  together = row(table, arm='full', stage='sft', domain='all', metric='exact_match')
  assert together['value'] == student([60, (80 + 40) / 2, (70 + 70 / 3) / 2])
  assert together['gain'] == student([10, (20 + 10) / 2, 0])


def test_a_gain_is_over_what_is_measured_alike():
  found = runs()
  for (arm, _), stages in found.items():
    if arm == 'full':
      stages.update({'cpt_sampled': stages['sft'], 'sft_sampled': stages['cpt']})
  table = ablations.summarise(found, 'full')
  gain = row(table, arm='full', stage='sft_sampled', metric='exact_match')['gain']
  assert gain == student([-10, -20, 0])
  assert row(table, arm='full', stage='cpt_sampled', metric='exact_match')['gain'] is None


def test_a_table_and_a_figure_for_people():
  table = ablations.summarise(runs(), 'full')
  text = ablations.as_markdown(table)
  assert '| terminal | exact match | full | sft | 70.0 (45.2 to 94.8) |  | +10.0' in text
  assert ablations.figure(table)[:8] == b'\x89PNG\r\n\x1a\n'
  single = {key: value for key, value in runs().items() if key[1] == 0}
  assert '| 50.0 |' in ablations.as_markdown(ablations.summarise(single, 'full'))
  assert ablations.figure(ablations.summarise(single, 'full'))[:4] == b'\x89PNG'


def test_what_was_not_measured_is_left_blank():
  found = runs()
  for stages in found.values():
    for entry in stages.values():
      entry['domains']['terminal']['changed_state_exact_match']['mean'] = None
  table = ablations.summarise(found, 'full')
  assert row(table, arm='full', stage='cpt', metric='changed_state_exact_match')[
    'value']['mean'] is None
  assert '| terminal | changed-state exact match | full | cpt |  |  |  |' in (
    ablations.as_markdown(table))
  assert ablations.figure(table)[:4] == b'\x89PNG'
