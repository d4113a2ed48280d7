"""One small tokenizer interface; SentencePiece with byte fallback and Hugging Face's behind it.

Chat markup is never text: `encode` cannot produce a special token, whatever an agent or an
environment writes, so nobody can forge a turn or close a tag. Only `special` and `role_header` give
those ids.

In a vocabulary of our own each ChatML header ("<|im_start|>user" and its newline) is one id, which
saves a small model a third of its context. Pieces are merged by byte-pair encoding: frequent words
are single ids, where a unigram model of the same size cuts many of them up. A word has the same
pieces wherever it stands. SentencePiece spells a space as part of the word behind it, so that
`chair` in `24 chair` and in `"chair"` would be different ids, and a model that has to copy would
learn each pair of spellings by heart. Here every word is led by a space; one that the text does not
have is marked with a tie before it and taken out again by `decode`.
"""

import abc
import functools
import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence

import sentencepiece

from aw_jax.trajectories import SUBMIT, write_atomically

PAD_ID = 0
IM_END = '<|im_end|>\n'
THINK, END_THINK = '<think>', '</think>'
PREDICTED, END_PREDICTED = '<predicted_observation>', '</predicted_observation>'
ROLES = ('system', 'user', 'assistant')
SPECIAL_TOKENS = (
    *(f'<|im_start|>{role}\n' for role in ROLES), IM_END, THINK, END_THINK, PREDICTED,
    END_PREDICTED, SUBMIT,
)
_TIE = '\N{CHARACTER TIE}'
_BARE_WORD = re.compile(r'(?<![^\W_])(?<! )(?=[^\W\d_])')  # before a word that no space leads
_TIED = re.compile(_TIE + r' (?=[^\W\d_])')
_UNSETTLED = re.compile(rf'(?:\N{{REPLACEMENT CHARACTER}}|{_TIE} ?)+\Z')


class TokenizerError(ValueError):
  """A vocabulary file cannot be used; the message says which and why."""


class Tokenizer(abc.ABC):
  """A vocabulary with the chat markup, which no text has.

  Attributes:
    file_name: of the vocabulary in a folder.
  """

  file_name: str

  @staticmethod
  def load(path: str | os.PathLike) -> 'Tokenizer':
    """Reads a vocabulary file, or that of a folder. Raises TokenizerError naming it."""
    kinds = {kind.file_name: kind for kind in (SentencePieceTokenizer, HuggingFaceTokenizer)}
    if os.path.isdir(path):
      found = [name for name in kinds if os.path.exists(os.path.join(path, name))]
      if not found:
        raise TokenizerError(f'{path}: has none of {", ".join(kinds)}; train a vocabulary first')
      path = os.path.join(path, found[0])
    kind = HuggingFaceTokenizer if str(path).endswith('.json') else SentencePieceTokenizer
    try:
      with open(path, 'rb') as file:
        return kind(file.read(), str(path))
    except OSError as error:
      raise TokenizerError(f'{path}: {error.strerror}; train a vocabulary first') from error

  @staticmethod
  def train(texts: Iterable[str], vocab_size: int, max_piece_length: int = 16) -> 'Tokenizer':
    """Trains a SentencePiece vocabulary of at most `vocab_size` ids, bytes as the fallback."""
    return SentencePieceTokenizer.train(texts, vocab_size, max_piece_length)

  @property
  @abc.abstractmethod
  def model_bytes(self) -> bytes:
    """What `save` writes."""

  @property
  @abc.abstractmethod
  def vocab_size(self) -> int:
    """Number of ids."""

  @functools.cached_property
  def fingerprint(self) -> str:
    """Names the vocabulary; data and checkpoints carry it so that they cannot be mixed up."""
    return hashlib.sha256(self.model_bytes).hexdigest()[:16]

  @abc.abstractmethod
  def encode(self, text: str) -> list[int]:
    """Token ids of a whole plain text, as it stands between special tokens; never one of those."""

  def decode(self, ids: Sequence[int]) -> str:
    """The text of `ids`, special tokens written out and padding left out.

    An id beyond the vocabulary (a model's table may be larger, for even shards) is shown as the
    replacement character.
    """
    pieces, plain = [], []
    for index in map(int, ids):
      if index in self._special_text or index >= self.vocab_size:
        shown = self._special_text.get(index, '\N{REPLACEMENT CHARACTER}')
        pieces += [self._plain(plain), shown]
        plain = []
      else:
        plain.append(index)
    return ''.join(pieces) + self._plain(plain)

  def settled(self, ids: Sequence[int]) -> str:
    """The text that `decode` begins with whatever ids follow these.

    Without what could be half a character, and what the next id could take out again.
    """
    return _UNSETTLED.sub('', self.decode(ids))

  @property
  def reserved(self) -> tuple[int, ...]:
    """The ids that no text has."""
    return tuple(self._special_text)

  @property
  @abc.abstractmethod
  def _special_text(self) -> dict[int, str]:
    """What special ids are written as."""

  @abc.abstractmethod
  def _plain(self, ids: list[int]) -> str:
    """The text of ids without special tokens."""

  @abc.abstractmethod
  def special(self, token: str) -> int:
    """The id of one of SPECIAL_TOKENS."""

  @abc.abstractmethod
  def role_header(self, role: str) -> list[int]:
    """What opens a turn of `role`: 'system', 'user' or 'assistant'."""

  def save(self, path: str | os.PathLike) -> None:
    """Writes the vocabulary file atomically."""
    write_atomically(path, self.model_bytes)


class SentencePieceTokenizer(Tokenizer):
  """A SentencePiece vocabulary with the chat markup as control symbols. Id 0 is padding."""

  file_name = 'vocabulary.model'

  def __init__(self, model_bytes: bytes, source: str = 'vocabulary'):
    """Raises TokenizerError where the model is unreadable or lacks the chat markup."""
    self._model_bytes = model_bytes
    try:
      self._model = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
    except RuntimeError as error:
      raise TokenizerError(f'{source}: not a SentencePiece model ({error})') from error
    if self._model.pad_id() != PAD_ID:
      raise TokenizerError(f'{source}: id {PAD_ID} must be padding; train it with Tokenizer.train')
    self._specials = {token: self._model.piece_to_id(token) for token in SPECIAL_TOKENS}
    for token, index in self._specials.items():
      if not self._model.is_control(index):
        raise TokenizerError(
            f'{source}: {token!r} is not a control symbol; train it with Tokenizer.train')
    if self._model.piece_to_id('\n' + _TIE) == self._model.unk_id():
      raise TokenizerError(f'{source}: has no tie for words; train it with Tokenizer.train')

  @classmethod
  def train(cls, texts, vocab_size, max_piece_length=16) -> 'SentencePieceTokenizer':
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=map(_led_by_spaces, texts), model_writer=model, vocab_size=vocab_size,
        hard_vocab_limit=False, model_type='bpe', byte_fallback=True, character_coverage=1.0,
        normalization_rule_name='identity', add_dummy_prefix=False, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, split_digits=True,
        max_sentencepiece_length=max_piece_length, max_sentence_length=1 << 20, pad_id=PAD_ID,
        unk_id=1, bos_id=-1, eos_id=-1, user_defined_symbols=['\n', '\n' + _TIE],
        control_symbols=list(SPECIAL_TOKENS), num_threads=1, minloglevel=2)
    return cls(model.getvalue())

  @property
  def model_bytes(self) -> bytes:
    return self._model_bytes

  @property
  def vocab_size(self) -> int:
    return self._model.get_piece_size()

  def encode(self, text):
    return self._model.encode(_led_by_spaces(text))

  @functools.cached_property
  def _special_text(self):
    return {index: token for token, index in self._specials.items()}

  def _plain(self, ids):
    text = self._model.decode([index for index in ids if index != PAD_ID])
    return _TIED.sub('', text).removeprefix(' ')

  def special(self, token):
    return self._specials[token]

  def role_header(self, role):
    return [self._specials[f'<|im_start|>{role}\n']]


class HuggingFaceTokenizer(Tokenizer):
  """A `tokenizer.json` of a Qwen or another ChatML model, of the package tokenizers (extra `hf`).

  Tags that it lacks get ids behind its own; the tables of such models have spare rows for that. A
  message ends with <|im_end|>, and the newline behind it opens the next one, so that what comes out
  is ChatML to the letter.
  """

  file_name = 'tokenizer.json'

  def __init__(self, model_bytes: bytes, source: str = 'tokenizer.json'):
    """Raises TokenizerError where the file is unreadable."""
    import tokenizers  # an extra

    try:
      self._model = tokenizers.Tokenizer.from_str(model_bytes.decode('utf-8'))
    except Exception as error:  # the package raises nothing more specific
      raise TokenizerError(f'{source}: not a tokenizer.json ({error})') from error
    self._tags = {IM_END: '<|im_end|>'} | {
        tag: tag for tag in (THINK, END_THINK, PREDICTED, END_PREDICTED, SUBMIT)}
    self._model.add_special_tokens([
        tokenizers.AddedToken(tag, special=True, normalized=False)
        for tag in ('<|im_start|>', *self._tags.values())])
    self._model.encode_special_tokens = True  # text that spells a tag is text

  @functools.cached_property
  def model_bytes(self) -> bytes:
    return self._model.to_str().encode('utf-8')

  @property
  def vocab_size(self) -> int:
    return self._model.get_vocab_size()

  def encode(self, text):
    return self._model.encode(text, add_special_tokens=False).ids

  @functools.cached_property
  def _special_text(self):
    shown = {self._model.token_to_id(spelled): tag for tag, spelled in self._tags.items()}
    return {self._model.token_to_id('<|im_start|>'): '<|im_start|>', **shown}

  def _plain(self, ids):
    return self._model.decode(ids, skip_special_tokens=False)

  def special(self, token):
    return self._model.token_to_id(self._tags[token])

  def role_header(self, role):
    before = [] if role == 'system' else self.encode('\n')
    return [*before, self._model.token_to_id('<|im_start|>'), *self.encode(f'{role}\n')]


def _led_by_spaces(text: str) -> str:
  """`text` with every word led by a space; `Tokenizer.decode` takes those out that it adds."""
  start = ' ' if text[:1] == ' ' or text[:1].isalpha() else ''
  return _BARE_WORD.sub(_TIE + ' ', start + text)
