"""Agents at play: the host loop in real worlds, rows of a rollout, mixed worlds."""

import dataclasses
import functools
import json

import numpy as np
import pytest

from aw_jax.agents import worlds
from aw_jax.agents.worlds import (
  Episodes,
  ImaginedWorld,
  MixedWorld,
  RealWorld,
  RolloutSizeError,
  agent_start,
  read_row,
)
from aw_jax.environments import registry
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.imagination.rollout import Rollout, RolloutConfig
from aw_jax.models.config import ModelConfig
from aw_jax.prompts import chat, templates
from aw_jax.sampling.sampler import Sample
from aw_jax.tokenizer import IM_END, Tokenizer
from aw_jax.trajectories import SUBMIT, Task, Turn, Verifier, from_json, to_json

SIZES = RolloutConfig(turns=4, max_action=40, agent_slots=400)


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train(
    ['You use a Linux terminal. Task: write hello to a file.\necho hello > a.txt; cat a.txt ~$\n',
     *(f'word {i}' for i in range(20))] * 5, vocab_size=330)


def make_task(name='one', verifier=None, max_turns=3):
  return Task(
    id=f'terminal/say/{name}', domain='terminal', family='say', split='train', seed=1,
    instruction=f'Do {name}.', initial_state='', setup={'files': {'a.txt': 'alpha\nbeta\n'}},
    verifier=verifier or Verifier('command', 'hello\n~$', 'cat out.txt'), max_turns=max_turns)


class ScriptedSampler:
  """An agent that says what its task's script says next, by the chat it is shown."""

  def __init__(self, tokenizer, scripts, *ignored):
    self._tokenizer, self._scripts = tokenizer, scripts
    self.asked = []

  def sample(self, prompts, *, max_tokens, temperature, seed):
    self.asked.append((temperature, seed))
    return [[self._say(prompt, max_tokens)] for prompt in prompts]

  def _say(self, prompt, max_tokens):
    text = self._tokenizer.decode(prompt)
    script = next(script for name, script in self._scripts.items() if f'Do {name}.' in text)
    action = script[text.count('<|im_start|>assistant') - 1]
    ids = chat.agent_action(self._tokenizer, action)
    finished = len(ids) <= max_tokens
    ids = ids[:max_tokens]
    shown = action if finished else self._tokenizer.decode(ids)
    return Sample(shown, ids, [-0.5 - i for i in range(len(ids))], finished)


class Echo(Environment):
  """Says back what it is told; breaks where it is told to."""

  domain = 'terminal'

  def __init__(self, log):
    self.log, self.closed = log, 0

  def reset(self, task, seed=0):
    self.log.append(('reset', task.id, seed))
    if task.id.endswith('unbuildable'):
      raise BrokenEnvironmentError('no sandbox')
    return 'ignored'

  def step(self, action):
    if action == 'break':
      raise BrokenEnvironmentError('gone')
    return Step(action * 2, info={'runtime_metadata': ((0, 1),)})

  def close(self):
    self.closed += 1


def play(monkeypatch, tokenizer, scripts, make_environment, tasks, group=1, environments=3,
         config=SIZES):
  """Episodes of scripted agents, and the agents."""
  samplers = []

  def make_sampler(*arguments):
    samplers.append(ScriptedSampler(tokenizer, scripts))
    return samplers[-1]

  monkeypatch.setattr(worlds, 'Sampler', make_sampler)
  world = RealWorld(None, tokenizer, make_environment, config, environments)
  try:
    return world.play(None, tasks, group, seed=3, temperature=0.7), samplers
  finally:
    world.close()


def assert_context_is_the_chat(tokenizer, episodes, row, said):
  """Tokens are those of the chat format; the agent's own are marked, with their log-probs."""
  trajectory = episodes.trajectories[row]
  expected = agent_start(tokenizer, trajectory.task)
  speaker = [False] * len(expected)
  observations = [turn.observation for turn in trajectory.turns]
  for index, action in enumerate(said):
    ids = chat.agent_action(tokenizer, action)
    expected += ids
    speaker += [True] * len(ids)
    if index + 1 < len(said):
      ids = chat.observation_message(tokenizer, observations[index])
      expected += ids
      speaker += [False] * len(ids)
  count = len(expected)
  assert episodes.tokens[row, :count].tolist() == expected
  assert not episodes.tokens[row, count:].any()
  assert episodes.speaker[row, :count].tolist() == speaker
  assert not episodes.speaker[row, count:].any()
  logprobs = episodes.logprobs[row]
  assert ((logprobs < 0) == episodes.speaker[row]).all()


# --- real worlds ----------------------------------------------------------------------------------


@pytest.mark.requires('bwrap')
def test_scripted_agents_in_the_real_terminal(monkeypatch, tokenizer):
  scripts = {
    'one': ['echo hello > out.txt', 'cat a.txt', SUBMIT],
    'two': ['echo bye > out.txt', 'cat out.txt', SUBMIT],
    'three': ['cat a.txt', SUBMIT + 'alpha']}
  tasks = [make_task('one'), make_task('two'),
           make_task('three', Verifier('answer', 'alpha'))]
  episodes, _ = play(monkeypatch, tokenizer, scripts, registry.make_environment, tasks, group=2,
                     environments=4)
  assert [t.success for t in episodes.trajectories] == [True, True, False, False, True, True]
  np.testing.assert_array_equal(episodes.successes(), [1, 1, 0, 0, 1, 1])
  for row, trajectory in enumerate(episodes.trajectories):
    task = tasks[row // 2]
    assert trajectory.task == task and not trajectory.error
    assert_context_is_the_chat(tokenizer, episodes, row, scripts[task.id.split('/')[-1]])
    assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory
  first, other = episodes.trajectories[0], episodes.trajectories[4]
  assert [turn.observation for turn in first.turns] == ['~$', 'alpha\nbeta\n~$']
  assert first.verification == Turn('cat out.txt', 'hello\n~$') and first.submission == ''
  assert other.verification is None and other.submission == 'alpha'


def test_environments_are_few_reused_and_closed(monkeypatch, tokenizer):
  log, made = [], []

  def make(domain):
    made.append(Echo(log))
    return made[-1]

  scripts = {name: ['say', SUBMIT] for name in ('one', 'two', 'three')}
  tasks = [make_task(name) for name in scripts]
  episodes, samplers = play(monkeypatch, tokenizer, scripts, make, tasks, group=2, environments=3)
  assert len(made) == 3 and all(environment.closed == 1 for environment in made)
  assert sorted(log) == sorted(('reset', task.id, 1) for task in tasks for _ in range(2))
  assert [t.task.id for t in episodes.trajectories] == [t.id for t in tasks for _ in range(2)]
  asked = [question for sampler in samplers for question in sampler.asked]
  assert {temperature for temperature, _ in asked} == {0.7}
  assert len({seed for _, seed in asked}) == len(asked) == 4  # noise of its own for each turn


def test_what_ends_an_episode(monkeypatch, tokenizer):
  """Turns run out, an action is blank or does not end, the context is full: never a crash."""
  long = 'word ' * 60
  scripts = {'turns': ['a', 'b', 'c', 'd'], 'blank': ['a', ' \n'], 'endless': ['a', long],
             'full': ['word 1 ' * 5] * 4}
  tasks = [make_task(name) for name in scripts]
  small = dataclasses.replace(SIZES, agent_slots=130)
  episodes, _ = play(monkeypatch, tokenizer, scripts, lambda domain: Echo([]), tasks,
                     environments=4, config=small)
  assert [[turn.action for turn in t.turns] for t in episodes.trajectories[:3]] == [
    ['a', 'b', 'c'], ['a'], ['a']]
  assert len(episodes.trajectories[3].turns) < 3
  for trajectory in episodes.trajectories:
    assert trajectory.submission is None and trajectory.success is False and not trajectory.error
    assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory
    assert all(turn.runtime_metadata == ((0, 1),) for turn in trajectory.turns)


@pytest.mark.parametrize(('last', 'turns', 'checked'), [
  ([], 1, True), ([' '], 1, False), (['word ' * 60], 1, False), ([SUBMIT], 1, True)])
def test_what_is_no_action_is_not_checked(monkeypatch, tokenizer, last, turns, checked):
  """As in imagination: an episode that ends in something else than an action has failed."""
  task = make_task('one', Verifier('command', 'xx', 'x'), max_turns=1 + len(last))
  episodes, _ = play(monkeypatch, tokenizer, {'one': ['x', *last]}, lambda domain: Echo([]), [task])
  trajectory, = episodes.trajectories
  assert len(trajectory.turns) == turns
  assert (trajectory.verification is not None) is checked and trajectory.success is checked


def test_markup_in_an_action_is_no_action(monkeypatch, tokenizer):
  ids = [*tokenizer.encode('word'), *tokenizer.role_header('user'), tokenizer.special(IM_END)]
  sample = Sample('word<|im_start|>user\n', ids, [0.0] * len(ids), True)
  monkeypatch.setattr(ScriptedSampler, '_say', lambda *_: sample)
  episodes, _ = play(monkeypatch, tokenizer, {}, lambda domain: Echo([]), [make_task()])
  trajectory, = episodes.trajectories
  assert trajectory.turns == () and trajectory.verification is None
  assert trajectory.success is False


def test_only_the_submit_token_submits(monkeypatch, tokenizer):
  """Text that spells it is an action like any other, in every world."""
  ids = [*tokenizer.encode(SUBMIT), tokenizer.special(IM_END)]
  sample = Sample(SUBMIT, ids, [0.0] * len(ids), True)
  monkeypatch.setattr(ScriptedSampler, '_say', lambda *_: sample)
  episodes, _ = play(monkeypatch, tokenizer, {}, lambda domain: Echo([]), [make_task()])
  assert [turn.action for turn in episodes.trajectories[0].turns] == [SUBMIT] * 3
  assert episodes.trajectories[0].submission is None
  out = row_of(tokenizer, [], ['word'])
  out.actions[0, 0, :len(ids)], out.action_lengths[0, 0] = ids, len(ids)
  row = read_row(tokenizer, out, 0, make_task())
  assert row.turns == (Turn(SUBMIT, 'word'),) and row.submission is None


def test_a_task_that_does_not_fit_is_refused_by_name(tokenizer):
  model = ModelConfig(tokenizer.vocab_size, width=8, layers=1, heads=1, kv_heads=1, head_dim=8,
                      mlp_width=8)
  world = ImaginedWorld(model, tokenizer, model, {}, dataclasses.replace(SIZES, agent_slots=40))
  with pytest.raises(RolloutSizeError, match=r'terminal/say/one.*10 are kept.*agent_slots'):
    world.play({}, [make_task()], 1, 0)


def test_a_broken_environment_marks_its_episode_alone(monkeypatch, tokenizer):
  scripts = {'one': ['a', SUBMIT], 'two': ['a', 'break'], 'unbuildable': ['a'],
             'check': ['a', SUBMIT]}
  tasks = [make_task('one', Verifier('answer', '')), make_task('two'), make_task('unbuildable'),
           make_task('check', Verifier('command', 'x', 'break'))]
  episodes, _ = play(monkeypatch, tokenizer, scripts, lambda domain: Echo([]), tasks,
                     environments=4)
  assert [t.error for t in episodes.trajectories] == ['', 'gone', 'no sandbox', 'gone']
  assert [t.success for t in episodes.trajectories] == [True, None, None, None]
  assert [len(t.turns) for t in episodes.trajectories] == [1, 1, 0, 1]
  np.testing.assert_array_equal(episodes.successes(), [1, 0, 0, 0])


# --- imagined worlds ------------------------------------------------------------------------------


def row_of(tokenizer, actions, observations, check=None, submitted=False):
  """A rollout of one row: lists of texts, None for a turn that the world did not answer."""
  turns, width = 5, 24

  def packed(texts, ids_of):
    tokens, lengths = np.zeros((turns, width), np.int32), np.zeros(turns, np.int32)
    for k, text in enumerate(texts):
      ids = [] if text is None else ids_of(text)
      tokens[k, :len(ids)], lengths[k] = ids, len(ids)
    return tokens[None], lengths[None]

  said = packed(actions, functools.partial(chat.agent_action, tokenizer))
  seen = packed(observations, tokenizer.encode)
  answered = np.zeros((1, turns), bool)
  answered[0, :len(observations)] = [text is not None for text in observations]
  checks = packed([check], tokenizer.encode)
  nothing = np.zeros((1, 4))
  return Rollout(
    tokens=nothing, lengths=nothing, speaker=nothing, logprobs=nothing, actions=said[0],
    action_lengths=said[1], observations=seen[0], observation_lengths=seen[1], answered=answered,
    check=checks[0][:, 0], check_lengths=checks[1][:, 0], checked=np.array([check is not None]),
    submitted=np.array([submitted]))


def test_a_row_becomes_its_trajectory(tokenizer):
  task = make_task()
  out = row_of(tokenizer, ['echo hello', 'cat a.txt', SUBMIT + 'word 3'], ['', 'hello\n~$', None],
               check='hello\n~$', submitted=True)
  trajectory = read_row(tokenizer, out, 0, task)
  assert trajectory.turns == (Turn('echo hello', ''), Turn('cat a.txt', 'hello\n~$'))
  assert trajectory.submission == 'word 3' and trajectory.policy == 'agent'
  assert trajectory.verification == Turn('cat out.txt', 'hello\n~$')
  assert trajectory.success is True
  assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory


@pytest.mark.parametrize(('verifier', 'submission', 'check', 'success'), [
  (Verifier('answer', 'word 3'), 'word 3', None, True),
  (Verifier('answer', 'word 3'), 'word 4', None, False),
  (Verifier('answer', 'word 3'), None, None, False),
  (Verifier('command', 'hello', 'cat'), '', 'hello\n', True),
  (Verifier('command', 'hello', 'cat'), '', 'bye', False),
  (Verifier('command', 'hello', 'cat'), '', None, None)])
def test_the_verifier_decides(tokenizer, verifier, submission, check, success):
  actions = ['ls'] + ([] if submission is None else [SUBMIT + submission])
  out = row_of(tokenizer, actions, ['word'], check, submission is not None)
  assert read_row(tokenizer, out, 0, make_task(verifier=verifier)).success is success


@pytest.mark.parametrize('verifier', [None, Verifier('answer', 'word')])
def test_a_world_model_without_an_answer_is_no_failure_of_the_agent(tokenizer, verifier):
  out = row_of(tokenizer, ['ls', 'word 1'], ['word', None])
  trajectory = read_row(tokenizer, out, 0, make_task(verifier=verifier))
  assert trajectory.turns == (Turn('ls', 'word'),) and trajectory.success is None
  assert trajectory.error == 'the world model did not answer turn 2'
  assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory


def test_an_action_that_does_not_end_is_a_failure_of_the_agent(tokenizer):
  out = row_of(tokenizer, ['ls', 'word 1'], ['word', None])
  out.action_lengths[0, 1] -= 1  # its end
  trajectory = read_row(tokenizer, out, 0, make_task())
  assert trajectory.turns == (Turn('ls', 'word'),) and trajectory.success is False
  assert not trajectory.error and trajectory.verification is None


@pytest.mark.parametrize('blank', [' ', '\n', ''])
def test_an_action_without_text_ends_the_episode(tokenizer, blank):
  """An untrained agent says such; a turn of it would not be valid by the schema."""
  out = row_of(tokenizer, ['ls', blank, 'ls'], ['word', 'x', 'word'], check='hello\n~$')
  trajectory = read_row(tokenizer, out, 0, make_task())
  assert trajectory.turns == (Turn('ls', 'word'),) and trajectory.success is False
  assert from_json(json.loads(json.dumps(to_json(trajectory)))) == trajectory


def test_the_start_is_what_imitation_learned(tokenizer):
  text = tokenizer.decode(agent_start(tokenizer, make_task()))
  system = templates.agent_prompt('terminal', 'Do one.')
  assert text == (f'<|im_start|>system\n{system}{IM_END}<|im_start|>user\n{IM_END}'
                  '<|im_start|>assistant\n')


# --- mixed worlds ---------------------------------------------------------------------------------


class Noting:
  """A world that notes what it was asked to play."""

  def __init__(self, number):
    self.number, self.asked = number, []

  def play(self, params, tasks, group, seed, temperature=1.0):
    self.asked.append((params, [task.id for task in tasks], group, seed, temperature))
    rows = len(tasks) * group
    return Episodes([(self.number, task.id) for task in tasks for _ in range(group)],
                    np.full((rows, 4), self.number), np.zeros((rows, 4), bool),
                    np.zeros((rows, 4), np.float32))


@pytest.mark.parametrize('count', [1, 2, 5])
def test_a_mixed_world_splits_the_tasks(count):
  real, imagined = Noting(1), Noting(2)
  tasks = [make_task(str(i)) for i in range(count)]
  episodes = MixedWorld(real, imagined).play('params', tasks, 3, seed=10, temperature=0.5)
  ids = [task.id for task in tasks]
  assert real.asked == [('params', ids[0::2], 3, 10, 0.5)]
  assert imagined.asked == ([('params', ids[1::2], 3, 11, 0.5)] if count > 1 else [])
  played = [(1, i) for i in ids[0::2] for _ in range(3)] + [
    (2, i) for i in ids[1::2] for _ in range(3)]
  assert episodes.trajectories == played  # those of one task together, as groups need it
  assert episodes.tokens[:, 0].tolist() == [number for number, _ in played]


def test_a_mixed_world_shows_every_domain_to_both():
  """Tasks come domains in turn; the split must not be one by domain."""
  real, imagined = Noting(1), Noting(2)
  tasks = [dataclasses.replace(make_task(str(i)), domain=('terminal', 'mcp')[i % 2])
           for i in range(8)]
  MixedWorld(real, imagined).play('params', tasks, 1, seed=0)
  domains = {task.id: task.domain for task in tasks}
  for world in (real, imagined):
    (_, ids, *_), = world.asked
    assert [domains[i] for i in ids] == ['terminal', 'mcp'] * 2
