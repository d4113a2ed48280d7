"""Tasks, splits and stages as functions of family and seed."""

import logging
import random

import pytest

from aw_jax.environments import registry
from aw_jax.environments.base import MissingProgramError
from aw_jax.environments.registry import Family, Recipe, RegistryError
from aw_jax.trajectories import Verifier


def _make(seed, rng):
  number = rng.randrange(1000)
  return Recipe(f'say {number}', {'seed': seed}, None, Verifier('answer', str(number)),
                ('look', f'<submit>{number}'))


def _no_plan(seed, rng):
  del seed, rng
  return Recipe('x', {}, None, Verifier('answer', ''), ('look',))


FAMILIES = (Family('one', _make), Family('two', _make), Family('kept', _make, held_out=True))


@pytest.fixture(autouse=True)
def _real_families_afterwards():
  """Other tests of this process find the real families again."""
  yield
  registry._families.cache_clear()
  registry._missing.cache_clear()


@pytest.fixture
def domain(monkeypatch):
  monkeypatch.setattr(registry, '_domains', dict(registry._domains))
  registry.register_domain('textgame', lambda: 'an environment', FAMILIES, 'pip install x')
  return 'textgame'


def test_a_task_is_a_function_of_family_and_seed(domain):
  task = registry.make_task(domain, 'one', 7)
  assert task == registry.make_task(domain, 'one', 7)
  assert task != registry.make_task(domain, 'two', 7)
  assert task.id == 'textgame/one/7' and task.setup == {'seed': 7}
  assert registry.expert_plan(task) == ['look', f'<submit>{task.verifier.expected}']


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_series_hold_their_split_alone_and_no_task_twice(domain, split):
  tasks = list(registry.tasks(domain, split, 3000, seed=5))
  assert {task.split for task in tasks} == {split}
  assert len({task.id for task in tasks}) == 3000
  kept = [task for task in tasks if task.family == 'kept']
  assert len(kept) == (1000 if split == 'test' else 0)
  for task in tasks:
    assert registry.split_of(domain, task.family, task.seed) == split
    if task.family != 'kept':
      assert (task.seed % 10 in range(8), task.seed % 10 == 8, task.seed % 10 == 9).index(True) == [
          'train', 'validation', 'test'].index(split)


def test_splits_and_pools_share_no_task(domain):
  series = {split: {t.id for t in registry.tasks(domain, split, 2000)}
            for split in ('train', 'validation', 'test')}
  assert not series['train'] & series['test'] | series['validation'] & (
      series['train'] | series['test'])
  pools = {}
  for pool in registry.POOLS:
    tasks = list(registry.tasks(domain, 'train', 2000, pool=pool))
    assert {registry.stage_pool(task) for task in tasks} == {pool}
    pools[pool] = {task.id for task in tasks}
  assert not pools['cpt'] & pools['sft'] | pools['rl'] & (pools['cpt'] | pools['sft'])


def test_pools_are_in_proportion(domain):
  pools = [registry.stage_pool(task) for task in registry.tasks(domain, 'train', 4000)]
  assert abs(pools.count('cpt') / 4000 - 0.6) < 0.03
  assert abs(pools.count('sft') / 4000 - 0.2) < 0.03


def test_series_of_different_seeds_differ(domain):
  one, other = ({t.id for t in registry.tasks(domain, 'train', 100, seed=s)} for s in (0, 1))
  assert len(one & other) < 3


def test_families_of_a_split(domain):
  assert registry.families(domain) == ['one', 'two', 'kept']
  assert registry.families(domain, 'train') == ['one', 'two']
  assert registry.families(domain, 'test') == ['one', 'two', 'kept']
  assert registry.held_out(domain) == ['kept']
  task = registry.task_at(domain, 'test', 4, among=('kept',))
  assert task.family == 'kept'


def test_a_family_without_its_program_is_left_out_with_one_line(monkeypatch, caplog):
  monkeypatch.setattr(registry, '_domains', dict(registry._domains))
  registry.register_domain(
      'swe', object, (*FAMILIES, Family('far', _make, requires=('no-such-program',))), 'x')
  with caplog.at_level(logging.WARNING):
    for _ in range(3):
      assert registry.families('swe') == ['one', 'two', 'kept']
  assert [r.message for r in caplog.records] == [
      'family far of swe is left out: no-such-program not found']


def test_a_missing_program_leaves_all_other_tasks_as_they_are(monkeypatch):
  monkeypatch.setattr(registry, '_domains', dict(registry._domains))
  series = []
  for requires in ((), ('no-such-program',)):
    far = Family('far', _make, requires=requires)
    registry.register_domain('swe', object, (FAMILIES[0], far, *FAMILIES[1:]), 'x')
    series.append(list(registry.tasks('swe', 'train', 300)))
  everywhere, here = series
  for one, other in zip(everywhere, here, strict=True):
    assert other == one or one.family == 'far' and other.family != 'far'
  assert len({task.id for task in here}) == 300


def test_a_missing_package_says_what_to_install(monkeypatch):
  monkeypatch.setattr(registry, '_domains', dict(registry._domains))
  registry.register_domain('web', 'no_such_package:A', 'no_such_package:B', 'pip install it')
  for use in (lambda: registry.families('web'), lambda: registry.make_environment('web'),
              lambda: registry.actions('web')):
    with pytest.raises(MissingProgramError, match=r"needs the package 'no_such_package': pip"):
      use()


@pytest.mark.parametrize('use, message', [
  (lambda: registry.families('nowhere'), "unknown domain 'nowhere'; known are .*terminal"),
  (lambda: registry.make_task('textgame', 'no', 1), "unknown family 'no' .* known are one, two"),
  (lambda: registry.families('textgame', 'dev'), "unknown split 'dev'; known are train"),
  (lambda: registry.task_at('textgame', 'test', 0, pool='rl'), "pool 'rl' with split 'test'"),
  (lambda: registry.task_at('textgame', 'train', 0, pool='x'), "pool 'x' with split 'train'"),
  (lambda: registry.task_at('textgame', 'train', 0, among=('kept',)), 'those that have are one'),
  (lambda: registry.stage_pool(registry.make_task('textgame', 'one', 9)), 'is a test task'),
])
def test_what_is_unknown_is_said_in_one_sentence(domain, use, message):
  with pytest.raises(RegistryError, match=message):
    use()


def test_a_plan_must_submit(domain):
  registry.register_domain(domain, object, (Family('bad', _no_plan),), 'x')
  with pytest.raises(RegistryError, match='does not end with <submit>'):
    registry.expert_plan(registry.make_task(domain, 'bad', 1))


def test_environment_is_made_on_use(domain):
  assert registry.make_environment(domain) == 'an environment'


def test_default_actions_borrow_from_other_tasks(domain):
  actions = registry.actions(domain)
  task, rng = registry.make_task(domain, 'one', 1), random.Random(0)
  assert actions.explore(task, None, rng) == 'look'
  assert actions.wander(task, None, rng) == 'look'
  assert actions.typo('cat a', rng) != 'cat a'
  assert isinstance(actions.mistake('cat a', task, None, rng), str)
