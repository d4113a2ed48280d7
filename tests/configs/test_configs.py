"""Every config loads, is a value of its own, and is what it was: golden dumps."""

import dataclasses
import importlib
import json
import os
import pathlib

import ml_collections
import pytest

from data_pipelines.examples import Switches
from experiments import stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden' / 'configs'
NAMES = sorted(path.stem for path in (ROOT / 'configs').glob('*.py') if path.stem != '__init__')
TRAINED = [name for name in NAMES if name != 'bench']  # the others measure


def load(name):
  return importlib.import_module(f'configs.{name}').get_config()


def mutables(value):
  """Every mutable value in a config, itself included."""
  if isinstance(value, ml_collections.ConfigDict):
    yield value
    value = value.values()
  elif isinstance(value, dict | list | set):
    yield value
    value = value.values() if isinstance(value, dict) else value
  elif not isinstance(value, tuple):
    return
  for item in value:
    yield from mutables(item)


def test_there_are_configs():
  assert {'base', 'cpt', 'sft', 'rl', 'agent', 'quickstart', 'smoke', 'study_cpu'} <= set(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_dump_is_the_golden_one(name):
  """UPDATE_GOLDEN=1 rewrites it: a changed default shows in review, in every config it reaches."""
  text = json.dumps(json.loads(load(name).to_json()), indent=1, sort_keys=True) + '\n'
  path = GOLDEN / f'{name}.json'
  if os.environ.get('UPDATE_GOLDEN'):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  assert path.exists(), f'no golden dump; UPDATE_GOLDEN=1 pytest {pathlib.Path(__file__).name}'
  assert text == path.read_text()


def test_there_are_no_golden_dumps_of_configs_that_are_gone():
  assert sorted(path.stem for path in GOLDEN.glob('*.json')) == NAMES


def test_no_two_configs_share_a_mutable():
  """Nor do two of one file: what one run changes must not reach another."""
  loaded = [load(name) for name in NAMES] + [load(name) for name in NAMES]
  owner = {}
  for index, config in enumerate(loaded):
    for value in mutables(config):
      other = owner.setdefault(id(value), index)
      assert other == index, f'{NAMES[index % len(NAMES)]} and {NAMES[other % len(NAMES)]}: {value}'


def test_no_config_holds_a_mutable_twice():
  for name in NAMES:
    found = [id(value) for value in mutables(load(name))]
    assert len(found) == len(set(found)), name


def keys(config, prefix=''):
  """Dotted keys; below `rows` stand names of record files, which a config chooses."""
  found = set()
  for key, value in config.items():
    found.add(prefix + key)
    if isinstance(value, ml_collections.ConfigDict) and key != 'rows':
      found |= keys(value, f'{prefix}{key}.')
  return found


@pytest.mark.parametrize('name', TRAINED)
def test_derives_from_the_base(name):
  """Every key of the base is there, and none but `stage` is added: no run lacks a value."""
  assert keys(load('base')) ^ keys(load(name)) <= {'stage'}


@pytest.mark.parametrize('name', TRAINED)
def test_an_interrupted_run_of_it_goes_on_bitwise(name):
  """Policy stages go on at a checkpoint only where a batch of samples begins."""
  config = load(name)
  for stage in (config.rl, config.agent.rl):
    assert stage.checkpoint_every % stage.updates_per_batch == 0


@pytest.mark.parametrize('name', [name for name in TRAINED if not name.startswith('pod_')])
def test_its_batches_can_be_split_over_two_devices(name):
  assert all(rows % 2 == 0 for rows in stages.batch_rows(load(name)).values())


@pytest.mark.parametrize('name', TRAINED)
def test_its_data_switches_are_those_there_are(name):
  """prepare_data would refuse them only after the episodes have been collected."""
  switched = stages.data_switches(load(name))
  switched.pop('skip_retries')
  assert set(switched) == {field.name for field in dataclasses.fields(Switches)}
  small = not name.startswith('pod_')
  loss_mask = name != 'pretrain'
  if small:  # what checkpoints/base and the recorded results were made with
    assert Switches(**switched) == Switches(loss_mask=loss_mask)
  else:
    assert Switches(**switched) == Switches(
        prompts='full', sft_templates=10, sft_turns='one', rl_turns='one',
        trace_tokens=load(name).rl.max_tokens // 2)


@pytest.mark.parametrize(('key', 'value'), [
    ('data.sft_templates', 1), ('data.sft_templates', 10), ('data.thinking', False),
    ('data.turns.sft', 'one'), ('data.turns.rl', 'all'), ('data.prompts', 'full'),
    ('data.loss_mask', False), ('data.skip_retries', True), ('data.trace_tokens', 256)])
def test_an_ablation_is_one_value(key, value):
  """It reaches the data as exactly one other switch."""
  config = load('base')
  before = stages.data_switches(config)
  config.update_from_flattened_dict({key: value})
  after = stages.data_switches(config)
  assert [after[name] for name in before if after[name] != before[name]] == [value]
