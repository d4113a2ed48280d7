"""What each stage makes of a trajectory."""

import dataclasses
import re

import numpy as np

from aw_jax.prompts import chat, templates
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
  item = examples.agent_dialogue(tokenizer, made)
  tokens, weights = item.tokens, item.loss_weights
  said = tokenizer.decode(tokens[weights > 0])
  actions = [turn.action for turn in made.turns]
  assert said == ''.join(action + IM_END for action in [*actions, f'{SUBMIT}42'])
  assert tokens[weights > 0][-len(tokenizer.encode('42')) - 2] == tokenizer.special(SUBMIT)
  assert made.task.instruction in tokenizer.decode(tokens)


def test_an_episode_without_submission_ends_with_its_last_action(tokenizer, trajectory):
  made = dataclasses.replace(trajectory(3), submission=None)
  item = examples.agent_dialogue(tokenizer, made)
  tokens, weights = item.tokens, item.loss_weights
  assert SUBMIT not in tokenizer.decode(tokens) and weights[-1] == 1
  assert len(item.ends) == len(made.turns) and item.ends[-1] == len(tokens)


def test_reasoning_is_learned_in_every_turn(tokenizer, trajectory):
  made = trajectory(3)
  item = examples.reasoning_dialogue(tokenizer, made, 'v1', examples.CANDIDATES - 1)
  said = _weighted(tokenizer, item).split(IM_END)[:-1]
  turns = examples.world_model_turns(made)
  states = [made.task.initial_state, *(turn.state for turn in made.turns)]
  states.append(states[-1])  # the verification changes nothing
  for text, turn, before, after in zip(
      said, turns, states[:-1], states[1:], strict=True):
    trace = reasoning.candidates(turn.action, turn.observation, before, after)[2]
    assert text == f'<think>{trace}</think>{PREDICTED}{turn.observation}{END_PREDICTED}'
  # Without its thoughts it is the dialogue of CPT.
  plain, _ = examples.cpt_example(tokenizer, made, loss_mask=False)
  assert re.sub('<think>.*?</think>', '', tokenizer.decode(item.tokens), flags=re.DOTALL) == (
      tokenizer.decode(plain.tokens))
  assert len(item.ends) == len(turns) and item.ends[-1] == len(item.tokens)


def test_sft_has_three_candidates_of_one_dialogue(tokenizer, trajectory):
  made = trajectory(63)
  whole = examples.sft_candidates(tokenizer, made, 4096)
  assert len(whole) == examples.CANDIDATES == 3
  assert len(whole[0].tokens) <= len(whole[1].tokens) <= len(whole[2].tokens)
  assert {len(item.ends) for item in whole} == {len(made.turns) + 1}
  texts = [tokenizer.decode(item.tokens) for item in whole]
  assert any(all(templates.world_model_prompt('terminal', made.task.initial_state, v) in text
                 for text in texts) for v in templates.STAGE_TEMPLATES['sft'])
  # All are cut to the turns that the longest has room for, and kept only where it has any.
  cut = examples.sft_candidates(tokenizer, made, whole[2].ends[1])
  assert [item.ends for item in cut] == [item.ends[:2] for item in whole]
  assert examples.sft_candidates(tokenizer, made, whole[2].ends[0] - 1) is None


def test_rl_shows_the_prompt_and_keeps_the_truth(tokenizer, trajectory):
  made = trajectory(83)
  sample = examples.rl_sample(tokenizer, made, 512)
  assert sample.turn is examples.world_model_turns(made)[sample.index]
  prompt = tokenizer.decode(sample.prompt)
  assert prompt.count('<|im_start|>user\n') == sample.index + 1
  assert templates.world_model_prompt('terminal', made.task.initial_state, 'v0') in prompt


def test_the_turn_is_a_function_of_the_task_and_output_is_preferred(tokenizer, trajectory):
  with_output, without = 0, 0
  for seed in range(120):
    made = trajectory(seed)
    sample = examples.rl_sample(tokenizer, made, 512)
    assert sample == examples.rl_sample(tokenizer, made, 512)
    output = examples.world_model_turns(made)[sample.index].observation != '~$'
    with_output += output
    without += not output
  # Four turns with output and one without: 12 to 1 where output is three times as likely.
  assert with_output > 6 * without > 0


def test_every_drawn_turn_fits(tokenizer, trajectory):
  made = trajectory(5, num_turns=12)
  whole = len(examples.reasoning_dialogue(tokenizer, made, 'v0').tokens)
  assert examples.rl_sample(tokenizer, made, 20) is None
  for seed in range(20):
    sample = examples.rl_sample(tokenizer, made, whole // 2, seed)
    answer = chat.prediction(tokenizer, sample.turn.observation)
    assert len(sample.prompt) + len(answer) + reasoning.MAX_TOKENS + 2 <= whole // 2


def test_the_history_of_a_drawn_turn_carries_brief_thoughts(tokenizer, trajectory):
  made = trajectory(83, num_turns=6)
  for seed in range(20):
    sample = examples.rl_sample(tokenizer, made, 4096, seed)
    dialogue = examples.reasoning_dialogue(tokenizer, made, 'v0')
    assert dialogue.tokens[:len(sample.prompt)].tolist() == sample.prompt
