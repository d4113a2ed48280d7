"""What each stage makes of a trajectory."""

import dataclasses

import numpy as np
import pytest

from aw_jax.prompts import templates
from aw_jax.tokenizer import END_PREDICTED, IM_END, PREDICTED, SUBMIT
from data_pipelines import examples, packing, reasoning


def _weighted(tokenizer, item: packing.Example) -> str:
  return tokenizer.decode(item.tokens[item.loss_weights > 0])


def test_cpt_is_the_whole_dialogue_with_loss_on_predictions(tokenizer, trajectory):
  made = trajectory(3)
  item, classes = examples.cpt_example(tokenizer, made, loss_mask=False)
  turns = [*made.turns, made.verification]
  assert _weighted(tokenizer, item) == ''.join(
      f'{PREDICTED}{turn.observation}{END_PREDICTED}{IM_END}' for turn in turns)
  text = tokenizer.decode(item.tokens)
  assert templates.world_model_prompt('terminal', made.task.initial_state, 'v1') in text
  assert all(turn.action in text for turn in turns)
  assert len(classes) == len(item.ends) == len(turns) and item.ends[-1] == len(item.tokens)
  for end in item.ends:
    assert item.tokens[end - 1] == tokenizer.special(IM_END)


def test_the_mask_keeps_tags_and_lowers_nothing_else(tokenizer, trajectory):
  made = trajectory(3)
  echo = dataclasses.replace(made.turns[0], action='say one two three', observation='say one two')
  made = dataclasses.replace(made, turns=(echo, *made.turns[1:]))
  masked, classes = examples.cpt_example(tokenizer, made)
  whole, _ = examples.cpt_example(tokenizer, made, loss_mask=False)
  assert classes[0] == 'echo'
  np.testing.assert_array_equal(masked.tokens, whole.tokens)
  assert (masked.loss_weights <= whole.loss_weights).all()
  assert masked.loss_weights.sum() < whole.loss_weights.sum()
  for tag in (PREDICTED, END_PREDICTED):
    assert (masked.loss_weights[masked.tokens == tokenizer.special(tag)] == 1).all()
  assert masked.loss_weights[masked.ends[0] - 1] == 1  # the end of the message


def test_an_agent_learns_its_actions_alone(tokenizer, trajectory):
  made = dataclasses.replace(trajectory(3), submission='42')
  tokens, weights = examples.agent_example(tokenizer, made)
  said = tokenizer.decode(tokens[weights > 0])
  actions = [turn.action for turn in made.turns]
  assert said == ''.join(action + IM_END for action in [*actions, f'{SUBMIT}42'])
  assert tokens[weights > 0][-len(tokenizer.encode('42')) - 2] == tokenizer.special(SUBMIT)
  assert made.task.instruction in tokenizer.decode(tokens)


def test_an_episode_without_submission_ends_with_its_last_action(tokenizer, trajectory):
  made = dataclasses.replace(trajectory(3), submission=None)
  tokens, weights = examples.agent_example(tokenizer, made)
  assert SUBMIT not in tokenizer.decode(tokens) and weights[-1] == 1
  item = examples.agent_dialogue(tokenizer, made)
  assert len(item.ends) == len(made.turns) and item.ends[-1] == len(tokens)


def test_sft_has_three_candidates_for_one_turn(tokenizer, trajectory):
  made = trajectory(63)
  sample = examples.sft_sample(tokenizer, made, 512)
  turn = examples.world_model_turns(made)[sample.turn]
  assert len(sample.thinking) == len(sample.targets) == 3
  for thinking, target in zip(sample.thinking, sample.targets, strict=True):
    assert len(thinking) <= reasoning.MAX_TOKENS
    assert tokenizer.decode(target) == (
        f'<think>{tokenizer.decode(thinking)}</think>'
        f'{PREDICTED}{turn.observation}{END_PREDICTED}{IM_END}')
  prompt = tokenizer.decode(sample.prompt)
  assert prompt.endswith(f'{turn.action}{IM_END}<|im_start|>assistant\n')
  assert any(templates.world_model_prompt('terminal', made.task.initial_state, v) in prompt
             for v in templates.STAGE_TEMPLATES['sft'])


def test_rl_shows_the_prompt_and_keeps_the_truth(tokenizer, trajectory):
  made = trajectory(83)
  sample = examples.rl_sample(tokenizer, made, 512)
  assert sample.turn is examples.world_model_turns(made)[sample.index]
  prompt = tokenizer.decode(sample.prompt)
  assert prompt.count('<|im_start|>user\n') == sample.index + 1
  assert templates.world_model_prompt('terminal', made.task.initial_state, 'v0') in prompt


@pytest.mark.parametrize('make', [examples.sft_sample, examples.rl_sample])
def test_the_turn_is_a_function_of_the_task_and_output_is_preferred(make, tokenizer, trajectory):
  with_output, without = 0, 0
  for seed in range(120):
    made = trajectory(seed)
    sample = make(tokenizer, made, 512)
    again = make(tokenizer, made, 512)
    index = sample.turn if make is examples.sft_sample else sample.index
    assert index == (again.turn if make is examples.sft_sample else again.index)
    output = examples.world_model_turns(made)[index].observation != '~$'
    with_output += output
    without += not output
  # Four turns with output and one without: 12 to 1 where output is three times as likely.
  assert with_output > 6 * without > 0


@pytest.mark.parametrize('make', [examples.sft_sample, examples.rl_sample])
def test_every_drawn_turn_fits(make, tokenizer, trajectory):
  made = trajectory(5, num_turns=12)
  whole = len(examples.cpt_example(tokenizer, made)[0].tokens)
  assert make(tokenizer, made, 20) is None
  for seed in range(20):
    sample = make(tokenizer, made, whole // 2, seed)
    longest = (max(map(len, sample.targets)) if make is examples.sft_sample
               else len(tokenizer.encode(sample.turn.observation)))
    assert len(sample.prompt) + longest <= whole // 2
