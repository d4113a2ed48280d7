"""The tokenizer loses no text, cannot be tricked into chat markup, and refuses other files."""

import functools
import io
import random

import hypothesis
import hypothesis.strategies as st
import pytest
import sentencepiece

from aw_jax.prompts import chat
from aw_jax.tokenizer import (
  IM_END,
  PAD_ID,
  PREDICTED,
  ROLES,
  SPECIAL_TOKENS,
  Tokenizer,
  TokenizerError,
)

WORDS = ('notes', 'report', 'alpha', 'todo', 'config', 'data', 'summary', 'inventory', 'wörld')


def corpus(count: int = 300) -> list[str]:
  draw = random.Random(0)
  return [
    f'cat {draw.choice(WORDS)}.txt\n{draw.choice(WORDS)} {draw.choice(WORDS)} {i * 37}\n'
    f'mv {draw.choice(WORDS)}.csv {draw.choice(WORDS)}/\n' for i in range(count)]


TEXTS = corpus()
# SentencePiece writes a space as U+2581, so that one character comes back as a space; a tie marks a
# space that was not there, so that a tie, a space and a letter come back as the letter.
LOWER_BLOCK, TIE = '\N{LOWER ONE EIGHTH BLOCK}', '\N{CHARACTER TIE}'
MARKUP = [
  *SPECIAL_TOKENS, '<|im_start|>', '<|im_end|>', '<pad>', '<unk>', '<s>', '<0x41>', '<0x00>']
ANY_TEXT = st.lists(
  st.sampled_from([*MARKUP, ' ', '  ', '\n', '\t', '\r\n', '\0', '\ufeff', 'notes.txt', 'x', '_7'])
  | st.text(max_size=20), max_size=8).map(''.join)


@functools.cache
def tokenizer() -> Tokenizer:
  return Tokenizer.train(TEXTS, vocab_size=450)


@hypothesis.given(ANY_TEXT)
def test_any_text_survives(text):
  text = text.replace(LOWER_BLOCK, '').replace(TIE, '')
  assert tokenizer().decode(tokenizer().encode(text)) == text


def test_the_two_characters_that_do_not_survive():
  assert tokenizer().decode(tokenizer().encode(f'a{LOWER_BLOCK}b')) == 'a b'
  assert tokenizer().decode(tokenizer().encode(f'{TIE}a {TIE} 7 {TIE} b')) == f'{TIE}a {TIE} 7 b'


@pytest.mark.parametrize('text', ['{} 1', '1 {}', '"{}"', '/{}', '7\n{}\n', '{}', '-{},8', '_{}_'])
def test_a_word_is_spelled_alike_everywhere(text):
  """Copying is one lookup then, whatever stands before the word."""
  for word in WORDS:
    alone = tokenizer().encode(word)
    ids = tokenizer().encode(text.format(word))
    assert any(ids[i:i + len(alone)] == alone for i in range(len(ids)))


@hypothesis.given(ANY_TEXT)
def test_text_never_becomes_markup_or_padding(text):
  forbidden = {PAD_ID, *(tokenizer().special(token) for token in SPECIAL_TOKENS)}
  assert forbidden.isdisjoint(tokenizer().encode(text))


@hypothesis.given(st.lists(
  st.tuples(st.sampled_from(SPECIAL_TOKENS), st.text(max_size=10)), max_size=5))
def test_markup_is_written_out_between_texts(parts):
  ids, text = [], ''
  for token, after in parts:
    after = after.replace(LOWER_BLOCK, '').replace(TIE, '')
    ids += [tokenizer().special(token), *tokenizer().encode(after)]
    text += token + after
  assert tokenizer().decode(ids) == text
  assert tokenizer().decode([PAD_ID, *ids, PAD_ID, PAD_ID]) == text


def test_special_tokens_are_distinct_ids():
  ids = [tokenizer().special(token) for token in SPECIAL_TOKENS]
  assert len(set(ids)) == len(SPECIAL_TOKENS) and PAD_ID not in ids
  assert max(ids) < tokenizer().vocab_size


def test_a_role_header_is_one_id():
  for role in ROLES:
    assert tokenizer().decode(tokenizer().role_header(role)) == f'<|im_start|>{role}\n'
    assert len(tokenizer().role_header(role)) == 1


def test_frequent_text_takes_few_tokens():
  """A vocabulary that fell back to bytes would be lossless too, and useless."""
  assert len(tokenizer().encode(TEXTS[7])) < len(TEXTS[7]) / 2


def test_digits_are_single_tokens():
  assert len(tokenizer().encode('2024')) == 4


def test_training_twice_gives_the_same_bytes():
  again = Tokenizer.train(TEXTS, vocab_size=450)
  assert again.model_bytes == tokenizer().model_bytes
  assert again.fingerprint == tokenizer().fingerprint


def test_fingerprint_tells_vocabularies_apart():
  assert Tokenizer.train(TEXTS[50:], vocab_size=400).fingerprint != tokenizer().fingerprint


def test_save_and_load(tmp_path):
  tokenizer().save(tmp_path / 'a.model')
  loaded = Tokenizer.load(tmp_path / 'a.model')
  assert loaded.model_bytes == tokenizer().model_bytes
  assert loaded.encode(TEXTS[0]) == tokenizer().encode(TEXTS[0])


def plain_sentencepiece(**options) -> bytes:
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=400, hard_vocab_limit=False,
    byte_fallback=True, minloglevel=2, **options)
  return model.getvalue()


def refusal(path, content: bytes | None) -> str:
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(TokenizerError) as caught:
    Tokenizer.load(path)
  assert str(caught.value).startswith(f'{path}: ') and '\n' not in repr(str(caught.value))
  return str(caught.value)


def test_bad_files_are_refused_by_name(tmp_path):
  path = tmp_path / 'vocabulary.model'
  assert 'No such file' in refusal(path, None)
  refusal(path, b'')
  assert 'not a SentencePiece model' in refusal(path, b'garbage')
  assert 'id 0 must be padding' in refusal(path, plain_sentencepiece())
  assert 'not a control symbol' in refusal(path, plain_sentencepiece(
    pad_id=PAD_ID, unk_id=1, bos_id=-1, eos_id=-1))


def test_a_torn_file_is_refused_or_lacks_nothing(tmp_path):
  """A prefix of a model may parse; it must then be refused for the markup it lost."""
  whole = tokenizer().model_bytes
  for share in (0.1, 0.5, 0.9):
    refusal(tmp_path / 'torn.model', whole[:int(len(whole) * share)])


# --- Hugging Face ---------------------------------------------------------------------------------


def hugging_face(tmp_path):
  import tokenizers

  model = tokenizers.Tokenizer(tokenizers.models.BPE())
  model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  model.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=400, show_progress=False, special_tokens=['<|im_start|>', '<|im_end|>'],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
  model.train_from_iterator(['user\nassistant\nsystem\n', 'cat notes.txt'] * 20, trainer)
  model.add_tokens(['<think>', '</think>'])  # in Qwen3 these are tokens, but no special ones
  model.save(str(tmp_path / 'tokenizer.json'))
  return Tokenizer.load(tmp_path / 'tokenizer.json')


@pytest.mark.requires('tokenizers')
def test_chat_of_a_hugging_face_vocabulary_is_chatml_to_the_letter(tmp_path):
  vocabulary = hugging_face(tmp_path)
  ids = chat.world_model_context(vocabulary, 'a shell', [('ls', 'a.txt')], ['quiet'])
  ids += chat.action_message(vocabulary, 'cat a.txt')
  text = vocabulary._model.decode(ids, skip_special_tokens=False)
  assert text == (
    '<|im_start|>system\na shell<|im_end|>\n<|im_start|>user\nls<|im_end|>\n<|im_start|>assistant\n'
    '<think>quiet</think><predicted_observation>a.txt</predicted_observation><|im_end|>\n'
    '<|im_start|>user\ncat a.txt<|im_end|>\n<|im_start|>assistant\n')


@pytest.mark.requires('tokenizers')
def test_text_that_spells_a_tag_is_text(tmp_path):
  vocabulary = hugging_face(tmp_path)
  for text in ('<|im_end|>', '<think>x</think>', '<predicted_observation>', '<submit>', 'naïve ☃'):
    ids = vocabulary.encode(text)
    assert not set(ids) & set(vocabulary.reserved)
    assert vocabulary.decode(ids) == text


@pytest.mark.requires('tokenizers')
def test_a_hugging_face_vocabulary_survives_a_round_trip(tmp_path):
  vocabulary = hugging_face(tmp_path)
  vocabulary.save(tmp_path / 'again' / 'tokenizer.json')
  again = Tokenizer.load(tmp_path / 'again')
  assert again.fingerprint == vocabulary.fingerprint
  assert again.special(PREDICTED) == vocabulary.special(PREDICTED) < again.vocab_size
  said = [vocabulary.special(PREDICTED), *vocabulary.encode('a'), vocabulary.special(IM_END)]
  assert again.decode(said) == f'{PREDICTED}a{IM_END}'


@pytest.mark.requires('tokenizers')
def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
  (tmp_path / 'tokenizer.json').write_text('{}')
  with pytest.raises(TokenizerError, match=r'tokenizer\.json: not a tokenizer\.json'):
    Tokenizer.load(tmp_path)
