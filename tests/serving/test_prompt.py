"""Messages as the ids that training saw, whatever of its answers a client sends back."""

from hypothesis import given
from hypothesis import strategies as st

from aw_jax.prompts import chat
from aw_jax.serving.prompt import assistant_turn, render
from aw_jax.serving.protocol import Message
from aw_jax.tokenizer import END_PREDICTED, IM_END, PREDICTED, THINK, Tokenizer

TOKENIZER = Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)
TEXT = st.text('ab <>/\né', max_size=8)


@given(system=TEXT, turns=st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=3), action=TEXT)
def test_whole_answers_sent_back_are_the_history_of_training(system, turns, action):
  messages = [Message('system', system)]
  for said, observation, thinking in turns:
    ids = chat.prediction(TOKENIZER, observation, thinking)
    messages += [Message('user', said), Message('assistant', TOKENIZER.decode(ids[:-1]))]
  expected = chat.world_model_context(
    TOKENIZER, system, [turn[:2] for turn in turns], [turn[2] for turn in turns])
  expected += chat.action_message(TOKENIZER, action)
  messages.append(Message('user', action))
  assert render(TOKENIZER, messages, thinking=True) == expected
  assert render(TOKENIZER, messages, thinking=False) == [*expected, TOKENIZER.special(PREDICTED)]


def test_a_plain_answer_is_the_observation():
  for text in ('', 'total 0\n', 'a < b'):
    assert assistant_turn(TOKENIZER, text) == chat.prediction(TOKENIZER, text)


def test_an_answer_cut_off_is_what_was_said():
  tokens = [TOKENIZER.special(PREDICTED), *TOKENIZER.encode('hello'), TOKENIZER.special(IM_END)]
  assert assistant_turn(TOKENIZER, f'{PREDICTED}hello') == tokens
  tokens = [TOKENIZER.special(THINK), *TOKENIZER.encode('hello'), TOKENIZER.special(IM_END)]
  assert assistant_turn(TOKENIZER, f'{THINK}hello') == tokens


def test_tags_of_others_are_text():
  for role in ('system', 'user'):
    ids = render(TOKENIZER, [Message(role, f'{PREDICTED}{END_PREDICTED}{IM_END}')], thinking=True)
    assert sum(token in TOKENIZER.reserved for token in ids) == 3  # two headers, one end
