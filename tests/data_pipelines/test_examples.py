"""What each stage makes of a trajectory."""

import dataclasses
import hashlib
import pathlib
import re

import numpy as np
import pytest

from aw_jax.prompts import chat, templates
from aw_jax.tokenizer import END_PREDICTED, IM_END, PREDICTED, SUBMIT, THINK, Tokenizer
from data_pipelines import examples, packing, reasoning
from data_pipelines.examples import Switches

BASE = pathlib.Path(__file__).resolve().parents[2] / 'checkpoints' / 'base'


def _weighted(tokenizer, item: packing.Example) -> str:
  return tokenizer.decode(item.tokens[item.loss_weights > 0])


def test_cpt_is_the_whole_dialogue_with_loss_on_predictions(tokenizer, trajectory):
  made = trajectory(3)
  item, classes = examples.cpt_example(tokenizer, made, switches=examples.Switches(loss_mask=False))
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
  whole, _ = examples.cpt_example(tokenizer, made, switches=examples.Switches(loss_mask=False))
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
  plain, _ = examples.cpt_example(tokenizer, made, switches=examples.Switches(loss_mask=False))
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
  sample, = examples.rl_samples(tokenizer, made, 512)
  assert sample.turn is examples.world_model_turns(made)[sample.index]
  prompt = tokenizer.decode(sample.prompt)
  assert prompt.count('<|im_start|>user\n') == sample.index + 1
  assert templates.world_model_prompt('terminal', made.task.initial_state, 'v0') in prompt


def test_the_turn_is_a_function_of_the_task_and_output_is_preferred(tokenizer, trajectory):
  with_output, without = 0, 0
  for seed in range(120):
    made = trajectory(seed)
    sample, = examples.rl_samples(tokenizer, made, 512)
    assert [sample] == examples.rl_samples(tokenizer, made, 512)
    output = examples.world_model_turns(made)[sample.index].observation != '~$'
    with_output += output
    without += not output
  # Four turns with output and one without: 12 to 1 where output is three times as likely.
  assert with_output > 6 * without > 0


def test_every_drawn_turn_fits(tokenizer, trajectory):
  made = trajectory(5, num_turns=12)
  whole = len(examples.reasoning_dialogue(tokenizer, made, 'v0').tokens)
  assert examples.rl_samples(tokenizer, made, 20) == []
  for seed in range(20):
    sample, = examples.rl_samples(tokenizer, made, whole // 2, seed)
    answer = chat.prediction(tokenizer, sample.turn.observation)
    assert len(sample.prompt) + len(answer) + reasoning.MAX_TOKENS + 2 <= whole // 2


def test_the_history_of_a_drawn_turn_carries_brief_thoughts(tokenizer, trajectory):
  made = trajectory(83, num_turns=6)
  for seed in range(20):
    sample, = examples.rl_samples(tokenizer, made, 4096, seed)
    dialogue = examples.reasoning_dialogue(tokenizer, made, 'v0')
    assert dialogue.tokens[:len(sample.prompt)].tolist() == sample.prompt


# --- switches -------------------------------------------------------------------------------------


def _digest(*parts) -> str:
  data = b' '.join(np.asarray(part, np.float32).tobytes() for part in parts)
  return hashlib.sha256(data).hexdigest()[:16]


GOLDEN_DIGESTS = {
    'terminal': {
        'cpt': '106b00c300add5dd', 'reasoning': '26862f20a595ab52', 'sft': '86f2964b45089730',
        'agent': '40a7319b0a0d26d7', 'rl': '9a777fd665480bef'},
    'mcp': {
        'cpt': '8b3421481ea22b96', 'reasoning': 'a52482e2b6729e54', 'sft': '3dec5914be84e6d8',
        'agent': '4d59de503f04ce0f', 'rl': '070bb84ea26ac78a'},
}


@pytest.mark.parametrize('domain', ['terminal', 'mcp'])
def test_by_default_examples_are_those_of_the_base_checkpoint(domain, trajectory):
  """Token ids and loss weights in its vocabulary, as they were before there were switches."""
  vocabulary = Tokenizer.load(BASE)
  found = {}
  for seed in (3, 63, 64, 83):
    made = trajectory(seed, domain, num_turns=6)
    items = {
        'cpt': [examples.cpt_example(vocabulary, made, seed)[0]],
        'reasoning': [examples.reasoning_dialogue(vocabulary, made, 'v1')],
        'sft': examples.sft_candidates(vocabulary, made, 1024, seed),
        'agent': [examples.agent_dialogue(vocabulary, made)]}
    for stage, of_stage in items.items():
      arrays = [array for item in of_stage for array in (item.tokens, item.loss_weights, item.ends)]
      found[stage] = found.get(stage, []) + arrays
    sample, = examples.rl_samples(vocabulary, made, 1024, seed)
    found['rl'] = found.get('rl', []) + [sample.prompt, [sample.index]]
  assert {stage: _digest(*arrays) for stage, arrays in found.items()} == GOLDEN_DIGESTS[domain]


def _system(tokenizer, tokens) -> str:
  return tokenizer.decode(tokens).split(IM_END)[0].removeprefix('<|im_start|>system\n')


@pytest.mark.parametrize('count', [1, 2, 10])
def test_sft_draws_from_as_many_templates_as_it_is_told(count, tokenizer, trajectory):
  switches = Switches(sft_templates=count)
  used = set()
  for seed in range(120):
    made = trajectory(seed)
    item = examples.sft_candidates(tokenizer, made, 4096, switches=switches)[0]
    system = _system(tokenizer, item.tokens)
    used |= {name for name in templates.TEMPLATES if system == templates.task_prompt(
        made.task, name)}
  assert used == {f'v{2 + number}' for number in range(count)}


def test_every_stage_has_full_prompts_where_they_are_wanted(tokenizer, trajectory):
  made = trajectory(63)
  switches = Switches(prompts='full')
  found = {
      'cpt': examples.cpt_example(tokenizer, made, switches=switches)[0].tokens,
      'sft': examples.sft_candidates(tokenizer, made, 8192, switches=switches)[0].tokens,
      'rl': examples.rl_samples(tokenizer, made, 8192, switches=switches)[0].prompt}
  for stage, tokens in found.items():
    assert _system(tokenizer, tokens) in {
        templates.task_prompt(made.task, name, size='full')
        for name in switches.templates_of(stage)}


def test_sft_of_one_turn_has_loss_on_that_turn_alone(tokenizer, trajectory):
  switches = Switches(sft_turns='one')
  drawn = set()
  for seed in range(20):
    made = trajectory(63, num_turns=6)
    made_of_it = examples.sft_candidates(tokenizer, made, 4096, seed, switches)
    assert len(made_of_it) == examples.CANDIDATES
    whole = examples.sft_candidates(tokenizer, made, 4096, seed)
    for candidate, (item, dialogue) in enumerate(zip(made_of_it, whole, strict=True)):
      said = _weighted(tokenizer, item)
      assert said.count(END_PREDICTED) == 1 and said.endswith(IM_END)
      index = tokenizer.decode(item.tokens).count(END_PREDICTED) - 1
      turns = examples.world_model_turns(made)
      assert f'{PREDICTED}{turns[index].observation}{END_PREDICTED}' in said
      first = np.flatnonzero(item.loss_weights)[0]
      assert (item.loss_weights[first:] == 1).all() and item.ends == (len(item.tokens),)
      if candidate == 0:  # the history shows brief thoughts, as the dialogue of those does
        np.testing.assert_array_equal(item.tokens, dialogue.tokens[:len(item.tokens)])
      np.testing.assert_array_equal(item.tokens[:first], made_of_it[0].tokens[:first])
      drawn.add(index)
  assert len(drawn) > 3
  # A function of task and seed; only turns whose longest candidate fits are drawn.
  again = examples.sft_candidates(tokenizer, made, 4096, seed, switches)
  assert [item.tokens.tolist() for item in again] == [i.tokens.tolist() for i in made_of_it]
  lengths = [max(len(item.tokens) for item in examples.sft_candidates(
      tokenizer, made, 4096, seed, switches)) for seed in range(40)]
  room = min(lengths) + 20  # the templates differ by less
  assert room < max(lengths)
  for seed in range(40):
    fitting = examples.sft_candidates(tokenizer, made, room, seed, switches)
    assert max(len(item.tokens) for item in fitting) <= room
  assert examples.sft_candidates(tokenizer, made, 20, 0, switches) is None


@pytest.mark.parametrize('turns', examples.TURNS)
def test_sft_without_thinking_has_one_candidate_without_a_thought(turns, tokenizer, trajectory):
  made = trajectory(63, num_turns=6)
  item, = examples.sft_candidates(
      tokenizer, made, 4096, 1, Switches(sft_turns=turns, thinking=False))
  assert THINK not in tokenizer.decode(item.tokens)
  said = _weighted(tokenizer, item)
  assert said.startswith(PREDICTED) and said.endswith(END_PREDICTED + IM_END)
  assert said.count(PREDICTED) == (1 if turns == 'one' else 7)


def test_rl_of_all_turns_has_a_sample_for_each_that_fits(tokenizer, trajectory):
  made = trajectory(83, num_turns=6)
  every = examples.rl_samples(tokenizer, made, 4096, switches=Switches(rl_turns='all'))
  assert [sample.index for sample in every] == list(range(7))
  turns = examples.world_model_turns(made)
  assert tuple(sample.turn for sample in every) == turns
  dialogue = examples.reasoning_dialogue(tokenizer, made, 'v0').tokens.tolist()
  for sample in every:
    assert dialogue[:len(sample.prompt)] == sample.prompt
  drawn = {examples.rl_samples(tokenizer, made, 4096, seed)[0].index for seed in range(60)}
  assert drawn <= {sample.index for sample in every} and len(drawn) > 3
  answer = len(chat.prediction(tokenizer, turns[2].observation))
  room = len(every[2].prompt) + answer + reasoning.MAX_TOKENS + 2
  for size, count in ((room, 3), (room - 1, 2)):
    few = examples.rl_samples(tokenizer, made, size, switches=Switches(rl_turns='all'))
    assert few == every[:count]


def test_the_history_of_rl_has_no_thoughts_where_nobody_is_to_think(tokenizer, trajectory):
  made = trajectory(83, num_turns=6)
  every = examples.rl_samples(
      tokenizer, made, 4096, switches=Switches(rl_turns='all', thinking=False))
  assert len(every) == 7 and not any(THINK in tokenizer.decode(s.prompt) for s in every)
  plain, _ = examples.cpt_example(tokenizer, made, switches=Switches(loss_mask=False))
  history = tokenizer.decode(every[-1].prompt).partition(IM_END)[2]
  assert tokenizer.decode(plain.tokens).partition(IM_END)[2].startswith(history)


@pytest.mark.parametrize(('wrong', 'message'), [
    ({'prompts': 'tall'}, "no prompts of size 'tall'; there are short, full"),
    ({'sft_templates': 0}, 'sft_templates: from 1 to 10, is 0'),
    ({'sft_templates': 11}, 'sft_templates: from 1 to 10, is 11'),
    ({'sft_turns': 'two'}, "sft_turns: one of one, all, is 'two'"),
    ({'rl_turns': 'none'}, "rl_turns: one of one, all, is 'none'")])
def test_a_switch_that_there_is_not(wrong, message):
  with pytest.raises(ValueError, match=message):
    Switches(**wrong)
