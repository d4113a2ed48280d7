"""Search as an environment: the real engine in its sandbox, its tasks, what agents do in it."""

import json
import os
import signal

import pytest

from aw_jax import trajectories
from aw_jax.environments import collect, registry, search_sources
from aw_jax.environments.base import BrokenEnvironmentError
from aw_jax.environments.episode import run_episode
from aw_jax.environments.experts import make_policy
from aw_jax.environments.mcp import call_text
from aw_jax.environments.search_tasks import library
from aw_jax.environments.servers import search as server
from aw_jax.prompts.domains.search import FACTS
from aw_jax.rewards import rubric
from aw_jax.rewards.content import Reference
from aw_jax.rewards.structure import search_results, structure
from aw_jax.trajectories import SUBMIT
from data_pipelines.loss_mask import classify
from tests.environments.processes import server_process

_DATA = {search_sources.WORDNET: 'wordnet-base', search_sources.FOLDOC: 'dict-foldoc',
         search_sources.JARGON: 'dict-jargon'}
pytestmark = [
    pytest.mark.requires('bwrap'),
    *(pytest.mark.skipif(not os.path.exists(path), reason=f'needs {name}: apt-get install {name}')
      for path, name in _DATA.items())]

COMPUTED = ('births', 'life', 'founding')  # families whose answers stand in no page
INVENTED = ('birthplace_size', 'birthplace_product', 'founding', 'older_director')
FAMILIES = (
    'neighbour', 'code', 'common', 'populous', 'life', 'peak', 'nationality', 'births', *INVENTED,
    'kind', 'reference', 'longest_life', 'neighbour_population')
POLAND = 'https://factbook.test/poland/geography'


@pytest.fixture(scope='module')
def world():
  """One environment for all tests of this file, as a worker has it for all its episodes."""
  with registry.make_environment('search') as environment:
    yield environment


def played(world, task, policy='expert', seed=0):
  return run_episode(world, task, make_policy(policy, task, seed), mark_changed_state=True)


class TestTasks:

  @pytest.mark.parametrize('family', FAMILIES)
  def test_expert_solves_them_by_what_it_sees(self, world, family):
    for seed in (0, 8, 19):
      task = registry.make_task('search', family, seed)
      trajectory, seen = played(world, task), ''
      assert trajectory.success, trajectory
      assert 3 <= len(trajectory.turns) <= task.max_turns
      for turn in trajectory.turns:
        address = json.loads(turn.action)['arguments'].get('address', '')
        assert address in seen  # nothing is opened that was not shown before
        assert 'Error' not in turn.observation and 'no such text' not in turn.observation
        seen += f'{turn.observation}\n'
      assert family in COMPUTED or task.verifier.expected in seen.replace(',', '') + seen

  @pytest.mark.parametrize('family', FAMILIES)
  def test_nothing_found_is_no_success(self, family):
    task = registry.make_task('search', family, 4)
    assert not task.verifier.passes('') and not task.verifier.passes(None)
    assert task.verifier.expected not in task.instruction or ' or ' in task.instruction

  @pytest.mark.parametrize('family', FAMILIES)
  def test_only_small_collections_are_seen(self, world, family):
    task = registry.make_task('search', family, 5)
    assert world.reset(task) == ''
    assert world.snapshot() == task.initial_state
    assert (task.initial_state is not None) == (family in INVENTED)
    assert len((task.initial_state or '').split()) <= 110
    assert task == registry.make_task('search', family, 5)
    assert task.setup == json.loads(json.dumps(task.setup))

  def test_families(self):
    assert set(registry.families('search')) == set(FAMILIES)
    assert set(registry.held_out('search')) == {
        'longest_life', 'neighbour_population', 'older_director'}

  def test_splits_are_disjoint_in_tasks_and_in_subjects(self):
    found = {split: {task.id for task in registry.tasks('search', split, 300)}
             for split in trajectories.SPLITS}
    assert not found['train'] & found['test'] and not found['validation'] & found['test']
    for name in search_sources.countries():
      digits = [digit for digit in range(10) if library.part_of(digit, name)]
      assert digits in ([8], [9], list(range(8)))
    train, test = (
        {registry.make_task('search', 'code', seed).verifier.expected for seed in seeds}
        for seeds in (range(0, 300, 10), range(9, 300, 10)))
    assert len(test) > 8 and not train & test

  def test_answers_are_the_databases(self):
    poland = search_sources.countries()['Poland']
    assert library._longest_neighbour(poland).capital == 'Prague'
    assert ('Czechia', 'Germany') not in library._partners()['Poland']  # Slovakia has both too


class TestEnvironment:

  def test_episodes_replay_alike_in_another_process(self, world):
    tasks = [registry.make_task('search', family, 23) for family in ('populous', 'founding')]
    episodes = [played(world, task, policy, 5) for task in tasks
                for policy in ('explorer', 'noisy_expert')]
    with registry.make_environment('search') as other:
      for episode in reversed(episodes):
        other.reset(episode.task)
        for turn in reversed(episode.turns):  # nor does the order matter
          assert other.step(turn.action).observation == turn.observation

  @pytest.mark.parametrize('action, observation', [
    ('find Poland', 'Error: invalid JSON'),
    ('{"name": "browse", "arguments": {}}', 'Error: Unknown tool: browse'),
    (call_text('open', address='https://factbook.test/atlantis'),
     'Error executing tool open: page not found'),
    (call_text('search', query='qqqqqq'), 'no results'),
    (call_text('search', query=''), 'Error executing tool search: query has no words'),
  ])
  def test_errors_are_answers(self, world, action, observation):
    world.reset(registry.make_task('search', 'code', 1))
    assert world.step(action).observation == observation

  def test_a_part_beyond_the_last_is_refused(self, world):
    world.reset(registry.make_task('search', 'code', 1))
    last = len(server.parts(search_sources.pages('factbook')[POLAND][1]))
    observation = world.step(call_text('open', address=POLAND, part=99)).observation
    assert last > 1
    assert observation == f'Error executing tool open: no part 99, last is {last}'

  def test_a_missing_argument_is_named(self, world):
    world.reset(registry.make_task('search', 'code', 1))
    observation = world.step(call_text('open')).observation
    assert observation.startswith('Error') and 'address' in observation

  def test_a_killed_server_ends_the_episode_and_the_next_goes_on(self):
    task, query = registry.make_task('search', 'founding', 1), call_text('search', query='firm')
    with registry.make_environment('search') as environment:
      environment.reset(task)
      before = environment.step(query).observation
      os.kill(server_process(environment), signal.SIGKILL)
      with pytest.raises(BrokenEnvironmentError, match='the search server'):
        environment.step(call_text('search', query='town'))
      environment.reset(task)
      assert environment.step(query).observation == before

  def test_before_a_reset_there_is_nothing_to_search(self):
    with registry.make_environment('search') as environment:
      with pytest.raises(BrokenEnvironmentError, match='was not reset'):
        environment.step(call_text('search', query='x'))


class TestPolicies:

  @pytest.mark.parametrize('policy', ['noisy_expert', 'explorer', 'tracker', 'random'])
  def test_they_never_break_it(self, world, policy):
    for family in FAMILIES[::3]:
      trajectory = played(world, registry.make_task('search', family, 31), policy, 1)
      assert not trajectory.error and trajectory.success is not None
      assert trajectories.from_json(json.loads(json.dumps(trajectories.to_json(trajectory))))
      assert not any(turn.changed_state for turn in trajectory.turns)  # requests change nothing

  def test_noisy_experts_solve_some_and_random_agents_nearly_nothing(self, world):
    tasks = list(registry.tasks('search', 'test', 2 * len(FAMILIES), seed=11))
    assert {task.family for task in tasks} == set(FAMILIES)
    rates = {policy: sum(played(world, task, policy, 3).success for task in tasks) / len(tasks)
             for policy in ('noisy_expert', 'random')}
    assert 0.5 < rates['noisy_expert'] < 0.95 and rates['random'] < 0.1

  def test_explorers_see_results_pages_and_passages(self, world):
    observations = [
        turn.observation for family in ('populous', 'kind', 'founding')
        for turn in played(world, registry.make_task('search', family, 7), 'explorer', 2).turns]
    for end in ('(page 1 of', '(part 1 of'):
      assert any(end in observation for observation in observations)
    assert sum(observation.startswith('Error') for observation in observations) < 12

  def test_workers_collect_what_one_environment_does(self, world, tmp_path):
    summary = collect.collect(
        'search', 8, tmp_path, seed=4, workers=2, episodes_per_shard=4, progress=False)
    assert summary['errors'] == 0 and summary['changed_state_steps'] == 0
    found = [trajectory for path in sorted(tmp_path.glob('shard-*'))
             for trajectory in trajectories.read_jsonl(path, 'search')]
    collection = collect.Collection(
        'search', 8, 'train', collect.DEFAULT_POLICIES, 4, 4, None, True)
    assert found == [
        collect.run_numbered_episode(world, collection, index) for index in range(8)]


class TestData:

  def test_the_prompt_tells_of_the_tools_there_are(self, tmp_path):
    tools = server.create_server(str(tmp_path))._tool_manager.list_tools()
    found = {tool.name: set(tool.parameters['properties']) for tool in tools}
    assert found == {tool.name: {name.strip('?') for name, _ in tool.arguments}
                     for tool in FACTS.toolsets['']}

  def test_most_observations_keep_their_loss(self, world):
    turns = [turn for family in FAMILIES[::2]
             for turn in played(world, registry.make_task('search', family, 1)).turns]
    classes = [classify(turn.action, turn.observation) for turn in turns]
    kept = sum(name in ('retrieval', 'expansion', 'action', 'other') for name in classes)
    assert kept / len(classes) > 0.9

  def test_judges_know_results_from_pages(self, world):
    world.reset(registry.make_task('search', 'code', 1))
    action = call_text('search', query='Poland Geography')
    results = world.step(action).observation
    assert structure('search', results).kind == 'results'
    assert [result.url for result in search_results(results)].index(POLAND) < 3
    page = world.step(call_text('open', address=POLAND)).observation
    assert structure('search', page).kind == 'text'
    reference = Reference('search', action, results)
    right, wrong = (rubric.judge(text, reference) for text in (results, page))
    assert right == rubric.PERFECT and wrong != rubric.PERFECT

  def test_submissions_are_the_plans_ends(self):
    for family in FAMILIES:
      task = registry.make_task('search', family, 2)
      assert registry.expert_plan(task)[-1] == SUBMIT + task.verifier.expected
