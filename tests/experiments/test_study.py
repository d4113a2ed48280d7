"""Arms times seeds: what an arm changes, what arms share, what is skipped, and the benchmark."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest

from configs import smoke
from configs.studies import recipe
from experiments import arms, measures, stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDY = """
import ml_collections
from configs import smoke

def get_config():
  config = ml_collections.ConfigDict()
  config.experiment = smoke.get_config()
  config.experiment.domains = ('mcp',)
  config.experiment.data.stages = config.experiment.stages = ('cpt',)
  config.experiment.evaluate.also = ('cpt_sampled', 'rl_sampled')  # of those, the one trained
  config.seeds, config.first = (0,), 'full'
  config.arms = {
    'full': {},
    'same': {'changes': {'rl': {'rubric_weight': 1.0}}, 'after': ('full', 'cpt')}}
  return config
"""


def run(*arguments, status=0, timeout=600):
  done = subprocess.run(
    [sys.executable, '-m', *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
    timeout=timeout, check=False)
  assert done.returncode == status, done.stderr[-2000:]
  return done


def test_an_arm_changes_what_it_says_and_nothing_else():
  config = recipe.get_config()
  assert arms.arm_config(config, 'full', 2).to_dict() == {
    **config.experiment.to_dict(), 'seed': 2}
  changed = arms.arm_config(config, 'no_loss_mask', 0)
  assert not changed.data.loss_mask and config.experiment.data.loss_mask
  changed.data.loss_mask = True
  assert changed.to_dict() == config.experiment.to_dict()


def test_every_arm_of_the_recipe_is_a_config():
  config = recipe.get_config()
  arms.require_arms(config, arms.all_arms(config))
  assert arms.all_arms(config)[0] == 'full'
  for arm in config.arms:
    changed = arms.arm_config(config, arm, 0)
    stages.require_known_stages(changed)
    assert arm == 'full' or changed.to_dict() != config.experiment.to_dict()


def test_arms_that_cannot_be_are_refused():
  config = recipe.get_config()
  with pytest.raises(stages.StageError, match="no arm 'moon'; there are all_turns_of_rl, full, "):
    arms.require_arms(config, ['moon'])
  with pytest.raises(stages.StageError, match="'no_rl' begins where 'full' ends"):
    arms.require_arms(config, ['no_rl'])
  with config.unlocked():
    config.arms.no_rl.changes.data = {'loss_mask': False}
  with pytest.raises(stages.StageError, match='can change stages and rl alone, not data'):
    arms.require_arms(config, ['full', 'no_rl'])
  with config.unlocked():
    config.arms.full = {'changes': {'cpt': {'stepz': 3}}}
  with pytest.raises(stages.StageError, match="arms.full: there is no 'stepz'"):
    arms.arm_config(config, 'full', 0)


@pytest.mark.parametrize('chosen', [(), ('rl', 'cpt'), ('cpt', 'cpt'), ('moon',)])
def test_stages_that_cannot_follow_each_other_are_refused(chosen):
  config = smoke.get_config()
  config.stages = chosen
  with pytest.raises(stages.StageError, match='config.stages: some of cpt, sft, rl, in this order'):
    stages.require_known_stages(config)


@pytest.mark.parametrize('name, found', [
  ('cpt', ('cpt', False, False, 'v1')), ('rl', ('rl', True, False, 'v0')),
  ('sft_sampled', ('sft', True, True, 'v2')), ('cpt_sampled', ('cpt', False, True, 'v1')),
  ('sft_v0', ('sft', True, False, 'v0')), ('rl_v11', ('rl', True, False, 'v11')),
  ('sft_v0_sampled', ('sft', True, True, 'v0')), ('cpt_thinking', ('cpt', True, False, 'v1'))])
def test_what_is_measured(name, found):
  config = smoke.get_config()
  assert dataclasses.astuple(measures.Measure.of(config, name)) == found
  config.data.thinking = False
  assert measures.Measure.of(config, name).thinking == (name == 'cpt_thinking')


@pytest.mark.parametrize('name', [
  'moon', 'moon_sampled', 'sft_thinking', 'rl_', 'sft_sampled_x', 'rl_v12', 'rl_sampled_v0', '',
  'cpt_thinking_sampled'])
def test_what_cannot_be_measured_is_refused(name):
  config = smoke.get_config()
  config.evaluate.also = (name,)
  with pytest.raises(stages.StageError, match="neither 'cpt_thinking' nor a stage with a template"):
    measures.require_known(config)


@pytest.mark.slow
@pytest.mark.requires('bwrap')
def test_a_study_shares_skips_and_reports(tmp_path):
  (tmp_path / 'tiny.py').write_text(STUDY)
  command = ('experiments.study', f'--config={tmp_path / "tiny.py"}',
             f'--workdir={tmp_path / "work"}')
  run(*command)
  work = tmp_path / 'work'
  found = json.loads((work / 'study.json').read_text())
  values = {(row['arm'], row['stage'], row['metric']): row for row in found['table']}
  assert set(values) == {
    (arm, stage, metric) for arm in ('full', 'same') for stage in ('cpt', 'cpt_sampled', 'last')
    for metric in ('exact_match', 'changed_state_exact_match', 'rubric')}
  assert values['same', 'cpt', 'rubric']['difference']['mean'] == 0
  greedy, sampled = (json.loads((work / 'full' / '0' / 'evaluation' / f'{name}.json').read_text())
                     for name in ('cpt', 'cpt_sampled'))
  assert len(greedy['exact_matches']) == len(sampled['exact_matches'])
  # It does not think, so the true answers are as likely.
  assert greedy['domains']['mcp']['nll'] == sampled['domains']['mcp']['nll']
  # Collected and trained once, under configs of their own.
  for name in ('trajectories', 'cpt', 'data'):
    assert len({(work / arm / '0' / name).resolve() for arm in found['arms']}) == 1
  weights = {arm: json.loads((work / arm / '0' / 'config.json').read_text())['rl']['rubric_weight']
             for arm in found['arms']}
  assert weights == {'full': 0.9, 'same': 1.0}
  assert (work / 'study.png').read_bytes()[:4] == b'\x89PNG'
  assert '| mcp | rubric | same | cpt |' in (work / 'study.md').read_text()

  def made():
    return {path: path.stat().st_mtime_ns for path in work.rglob('*.json')
            if path.name not in ('study.json', 'summary.json')}

  before = made()
  run(*command)
  assert made() == before
  refused = run(*command, '--config.experiment.cpt.steps=5', status=1)
  assert 'was made with config.cpt.steps = 4, now it is 5' in refused.stderr


@pytest.mark.slow
@pytest.mark.requires('bwrap')
def test_every_arm_of_the_recipe_runs(tmp_path):
  run('experiments.study', '--config=configs/studies/smoke.py', f'--workdir={tmp_path}',
      timeout=2400)
  found = json.loads((tmp_path / 'study.json').read_text())
  config = recipe.get_config()
  assert set(found['arms']) == set(config.arms)
  stages_of = {arm: {row['stage'] for row in found['table'] if row['arm'] == arm}
               for arm in config.arms}
  for arm, change in config.arms.items():
    trained = change.to_dict().get('changes', {}).get('stages', ('cpt', 'sft', 'rl'))
    assert stages_of[arm] == {*trained, 'last'}


@pytest.mark.slow
@pytest.mark.requires('bwrap')
def test_the_benchmark_is_reproducible_to_the_digit(tmp_path):
  small = ('--config.episodes.mcp=4', '--config.train_episodes.mcp=6', '--config.domains=("mcp",)',
           '--config.max_tokens=24', '--config.max_thinking=8', '--config.bootstrap=100')
  one, two = tmp_path / 'one', tmp_path / 'two'
  run('experiments.evaluate', f'--workdir={one}', *small)
  found = json.loads((one / 'bench.json').read_text())
  assert set(found['figures']) == {'model', 'copy_last', 'nearest_action', 'ngram'}
  count = len((one / 'mcp_test.jsonl').read_text().splitlines())
  assert found['samples'] == count > 5
  assert found['figures']['model']['macro']['all']['exact_match']['n'] == count
  # From new episodes on: the same turns to the byte, the same figures to the digit.
  run('experiments.evaluate', f'--workdir={two}', *small)
  assert (two / 'mcp_test.jsonl').read_bytes() == (one / 'mcp_test.jsonl').read_bytes()
  assert json.loads((two / 'bench.json').read_text())['figures'] == found['figures']
