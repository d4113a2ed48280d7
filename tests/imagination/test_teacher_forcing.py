"""Answers to played episodes against a host-side loop without any cache, token for token."""

import numpy as np
import pytest

from aw_jax.imagination.teacher_forcing import Limits, Played, answer_turns
from tests.imagination.tiny_chat import MARKUP, TEXT, VOCABULARY, is_text, say, trained_models

EPISODES, TURNS, ACTION, OBSERVATION = 12, 4, 3, 6


def played_episodes(rng):
  """(system, turns) of episodes that no model played, of 1 to 4 turns."""
  def text(low, high):
    return [int(t) for t in rng.integers(TEXT, VOCABULARY, rng.integers(low, high))]

  return [(text(5, 12) + [MARKUP.end],
           [(text(2, 3), text(0, OBSERVATION + 1)) for _ in range(rng.integers(1, TURNS + 1))])
          for _ in range(EPISODES)]


def padded(episodes):
  played = Played(*(np.zeros(shape, np.int32) for shape in (
      (EPISODES, 16), EPISODES, (EPISODES, TURNS, ACTION), (EPISODES, TURNS),
      (EPISODES, TURNS, OBSERVATION), (EPISODES, TURNS))))
  for row, (system, turns) in enumerate(episodes):
    played.system[row, :len(system)], played.system_lengths[row] = system, len(system)
    for k, (action, observation) in enumerate(turns):
      played.actions[row, k, :len(action)], played.action_lengths[row, k] = action, len(action)
      played.observations[row, k, :len(observation)] = observation
      played.observation_lengths[row, k] = len(observation)
  return played


def host_answers(world, system, turns, limits):
  """(thinking, whether it had a form, text, log-probability) of every turn that was asked."""
  context, found = list(system), []
  for action, observation in turns:
    asked = [*context, *MARKUP.user, *action, MARKUP.end, *MARKUP.assistant]
    thought, logprobs, valid = [], [], True
    if limits.max_thinking:
      if len(asked) > limits.context:
        break
      thought, logprobs = say(*world, asked, limits.max_thinking, MARKUP.predicted)
      body = thought[:-1]
      valid = thought[-1] == MARKUP.predicted and (not body or (
          len(body) > 2 and body[0] == MARKUP.think and body[-1] == MARKUP.end_think
          and is_text(body[1:-1])))
      asked += thought if valid else [MARKUP.predicted]
    else:
      asked += [MARKUP.predicted]
      if len(asked) > limits.context:
        break
    text, more = say(*world, asked, limits.max_tokens)
    found.append((thought, valid, text, sum(logprobs) + sum(more)))
    context = [*asked, *observation, MARKUP.end_predicted, MARKUP.end]
    if len(context) > limits.context:
      break
  return found


@pytest.mark.parametrize(('thinking', 'context'), [(False, 80), (True, 80), (True, 40)])
def test_answers_equal_the_host_loop(thinking, context):
  world = trained_models()['world', thinking]
  limits = Limits(context=context, max_tokens=14, max_thinking=6 * thinking)
  episodes = played_episodes(np.random.default_rng(0))
  answers = answer_turns(*world, padded(episodes), MARKUP, limits)
  turns = cut = thoughts = 0
  for row, (system, played) in enumerate(episodes):
    expected = host_answers(world, system, played, limits)
    assert answers.answered[row].tolist() == [k < len(expected) for k in range(TURNS)]
    for k, (thought, valid, text, logprob) in enumerate(expected):
      said = answers.thoughts[row, k, :int(answers.thought_lengths[row, k])].tolist()
      assert said == thought
      assert bool(answers.thought[row, k]) == valid
      assert answers.texts[row, k, :int(answers.text_lengths[row, k])].tolist() == text
      assert bool(answers.finished[row, k]) == (
          text[-1] == MARKUP.end and len(thought) + len(text) <= limits.max_tokens)
      np.testing.assert_allclose(answers.logprobs[row, k], logprob, atol=1e-3)
    turns += len(expected)
    cut += len(expected) < len(played)
    thoughts += sum(len(thought) > 1 for thought, *_ in expected)
  assert turns > 15 and (cut > 2) == (context == 40) and (thoughts > 10) == thinking


def test_thinking_without_form_leaves_no_trace():
  """Too few tokens for any thought: the answer is that of a model that never began one."""
  world = trained_models()['world', True]
  limits = Limits(context=80, max_tokens=14, max_thinking=2)
  episodes = played_episodes(np.random.default_rng(1))
  answers = answer_turns(*world, padded(episodes), MARKUP, limits)
  astray = 0
  for row, (system, played) in enumerate(episodes):
    for k, (_, valid, text, _) in enumerate(host_answers(world, system, played, limits)):
      assert answers.texts[row, k, :int(answers.text_lengths[row, k])].tolist() == text
      assert bool(answers.thought[row, k]) == valid
      astray += not valid
  assert astray > 10
