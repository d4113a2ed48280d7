"""The imagined environment: a real one's interface, and the jitted rollout's meaning."""

import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from aw_jax.agents.worlds import ImaginedWorld, agent_start
from aw_jax.environments.base import BrokenEnvironmentError, Environment, Step
from aw_jax.environments.episode import run_episode
from aw_jax.environments.terminal import TerminalEnvironment
from aw_jax.imagination.environment import ImaginedEnvironment
from aw_jax.imagination.rollout import RolloutConfig
from aw_jax.imagination.world_model import Prediction, WorldModel
from aw_jax.models.config import ModelConfig
from aw_jax.models.decoder import Decoder, init_params
from aw_jax.prompts import chat, templates
from aw_jax.sampling.sampler import Sampler
from aw_jax.tokenizer import Tokenizer
from aw_jax.training.objectives import sequence_logprobs
from aw_jax.trajectories import SUBMIT, Task, Verifier, from_json, to_json

WORDS = ('red', 'blue', 'green', 'grey')
SEQ_LEN = 96


def make_task(seed, verifier=None, domain='terminal'):
  """Say a word, then submit it; the hidden check says another."""
  word, check = WORDS[seed % 4], WORDS[(seed + 1) % 4]
  return Task(
    id=f'{domain}/say/{seed}', domain=domain, family='say', split='train', seed=seed,
    instruction=f'Say {word}.', initial_state='', setup={},
    verifier=verifier or (Verifier('command', check, f'say {check}') if seed % 2
                          else Verifier('answer', word)), max_turns=1 + seed % 3)


class ScriptedWorldModel:
  """Answers from a list; None is an answer without a valid form."""

  def __init__(self, *answers):
    self.answers, self.asked = list(answers), []

  def predict(self, system, history, action, n=1, temperature=0.0, seed=0, thoughts=()):
    assert n == 1 and list(thoughts) == ['hm'] * len(history)
    self.asked.append((system, list(history), action, temperature, seed))
    return [Prediction(self.answers.pop(0), 'hm', -1.0, 'raw text')]


class Says:
  """A policy that says a list of actions."""

  name = 'scripted'

  def __init__(self, *actions):
    self._actions = actions

  def act(self, task, first_observation, turns):
    return self._actions[len(turns)]


# --- the interface --------------------------------------------------------------------------------


def test_it_has_the_interface_of_a_real_environment():
  assert issubclass(ImaginedEnvironment, Environment)
  for name in ('reset', 'step', 'verify', 'close', 'snapshot', 'counterfactual'):
    imagined, real = (inspect.signature(getattr(cls, name)).parameters.values()
                      for cls in (ImaginedEnvironment, TerminalEnvironment))
    assert [(p.name, p.default) for p in imagined] == [(p.name, p.default) for p in real]


def test_an_episode_asks_for_one_turn_after_another():
  world_model = ScriptedWorldModel('one', 'two', 'checked')
  task = make_task(1, Verifier('command', 'checked', 'check'))
  with ImaginedEnvironment(world_model, 'terminal', instruction='Be slow.') as environment:
    assert environment.reset(task, 5) == ''
    assert environment.step('first') == Step('one', info={'thinking': 'hm'})
    assert environment.step('second').observation == 'two'
    assert environment.verify('check') == 'checked'
    assert environment.snapshot() is None and environment.counterfactual('first') is None
  system = templates.world_model_prompt('terminal', '', 'v0', 'Be slow.')
  assert [asked[:3] for asked in world_model.asked] == [
    (system, [], 'first'), (system, [('first', 'one')], 'second'),
    (system, [('first', 'one'), ('second', 'two')], 'check')]
  seeds = [asked[4] for asked in world_model.asked]
  assert len(set(seeds)) == 3  # noise of its own for every turn
  environment.close()  # twice is fine


def test_a_reset_forgets():
  world_model = ScriptedWorldModel('one', 'two', 'one')
  environment = ImaginedEnvironment(world_model, 'terminal')
  environment.reset(make_task(1), 5)
  environment.step('a'), environment.step('b')
  environment.reset(make_task(1), 5)
  environment.step('a')
  assert world_model.asked[2] == world_model.asked[0]


def test_a_task_of_another_domain_is_refused():
  environment = ImaginedEnvironment(ScriptedWorldModel(), 'terminal')
  with pytest.raises(ValueError, match='mcp/say/1 is of domain mcp, this environment of terminal'):
    environment.reset(make_task(1, domain='mcp'))


def test_an_invalid_answer_breaks_the_episode_and_keeps_its_turns():
  environment = ImaginedEnvironment(ScriptedWorldModel('fine', None), 'terminal')
  environment.reset(make_task(2))
  environment.step('a')
  with pytest.raises(BrokenEnvironmentError, match="without a valid form: 'raw text'"):
    environment.step('b')
  environment = ImaginedEnvironment(ScriptedWorldModel('fine', None), 'terminal')
  trajectory = run_episode(environment, make_task(2), Says('a', 'b', 'c'))
  assert [turn.observation for turn in trajectory.turns] == ['fine']
  assert trajectory.success is None and 'raw text' in trajectory.error
  assert from_json(to_json(trajectory) | {'turns': [
    to_json(trajectory)['turns'][0] | {'runtime_metadata': []}], 'verification': None}
  ) == trajectory


def test_run_episode_verifies_in_imagination():
  task = make_task(1, Verifier('command', 'yes', 'check'))
  for check, success in (('yes', True), ('no', False)):
    environment = ImaginedEnvironment(ScriptedWorldModel('one', check), 'terminal')
    trajectory = run_episode(environment, task, Says('look', SUBMIT))
    assert trajectory.success is success and trajectory.submission == ''
    assert trajectory.verification.observation == check


# --- the jitted rollout does the same -------------------------------------------------------------


@pytest.fixture(scope='module')
def tokenizer():
  texts = [templates.agent_prompt('terminal', f'Say {word}.') for word in WORDS]
  texts += [templates.world_model_prompt('terminal', ''), *(f'say {word}' for word in WORDS)]
  return Tokenizer.train(texts * 8, vocab_size=400)


@pytest.fixture(scope='module')
def config(tokenizer):
  return ModelConfig(
    vocab_size=-(-tokenizer.vocab_size // 64) * 64, width=32, layers=1, heads=2, kv_heads=1,
    head_dim=16, mlp_width=48, short_conv_width=4, dtype='float32', query_block=SEQ_LEN)


def agent_dialogue(tokenizer, rng):
  """Says its word until the world has said it back, a random number of times; then submits it."""
  seed, turns = int(rng.integers(4)), int(rng.integers(3))
  word = WORDS[seed]
  history = [(f'say {word}', word)] * turns
  context = agent_start(tokenizer, make_task(seed))
  for action, observation in history:
    context += chat.agent_action(tokenizer, action)
    context += chat.observation_message(tokenizer, observation)
  return context + chat.agent_action(tokenizer, SUBMIT + word if turns == 2 else f'say {word}')


def world_dialogue(tokenizer, rng):
  """Says what it is told to say."""
  history = [(f'say {word}', word) for word in rng.choice(WORDS, 3)]
  return chat.world_model_context(
    tokenizer, templates.world_model_prompt('terminal', ''), history)


OPTIMIZER = optax.adam(5e-3)


@functools.partial(jax.jit, static_argnums=0)
def train(config, params, batches):
  def step(carry, tokens):
    params, state = carry

    def loss(params):
      logprobs, _ = sequence_logprobs(Decoder(config), params, tokens)
      return -jnp.sum(logprobs * (tokens[:, 1:] > 0)) / jnp.sum(tokens[:, 1:] > 0)

    updates, state = OPTIMIZER.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, OPTIMIZER.init(params)), batches)[0][0]


def trained(config, tokenizer, dialogue, seed):
  rng = np.random.default_rng(seed)
  batches = np.zeros((200, 8, SEQ_LEN), np.int32)
  for index in np.ndindex(200, 8):
    ids = dialogue(tokenizer, rng)
    batches[index][:len(ids)] = ids
  params = jax.jit(lambda key: nn.unbox(init_params(config, key)))(jax.random.key(seed))
  return train(config, params, batches)


class GreedyAgent:
  """The agent's decoder as a policy: text in, text out."""

  name = 'agent'

  def __init__(self, sampler):
    self._sampler = sampler

  def act(self, task, first_observation, turns):
    tokenizer = self._sampler.tokenizer
    context = chat.agent_context(
      tokenizer, templates.agent_prompt(task.domain, task.instruction), first_observation,
      [(turn.action, turn.observation) for turn in turns])
    (sample,), = self._sampler.sample([context], max_tokens=12)
    assert sample.finished
    return sample.text


def test_host_loop_and_jitted_rollout_agree(config, tokenizer):
  """Text by text, through run_episode: what both learned is tokenised as it was in training."""
  agent = trained(config, tokenizer, agent_dialogue, 0)
  world = trained(config, tokenizer, world_dialogue, 1)
  tasks = [make_task(seed) for seed in range(6)]
  sizes = RolloutConfig(turns=3, max_action=12, max_answer=12, max_observation=8, agent_slots=120,
                        world_slots=208)
  played = ImaginedWorld(config, tokenizer, config, world, sizes, tasks_at_a_time=6).play(
    agent, tasks, group=1, seed=0, temperature=0.0)

  def sampler(params):
    return Sampler(config, params, tokenizer, batch_size=1, bucket=SEQ_LEN, max_prompt=SEQ_LEN)

  environment = ImaginedEnvironment(WorldModel(sampler(world), max_tokens=12), 'terminal')
  policy = GreedyAgent(sampler(agent))
  for task, trajectory in zip(tasks, played.trajectories, strict=True):
    assert trajectory == run_episode(environment, task, policy)
  outcomes = {trajectory.success for trajectory in played.trajectories}
  assert outcomes == {True, False}  # the check's words are said back; few turns leave no submission
  assert any(trajectory.submission for trajectory in played.trajectories)
