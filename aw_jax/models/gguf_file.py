"""Llama models in llama.cpp's GGUF, read as if they were a checkpoint of Hugging Face.

Needs the `gguf` package, which knows the format and its quantisations (the extra `hf`).
"""

import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_LAYER_NAMES = {
  'attn_norm': 'input_layernorm', 'attn_q': 'self_attn.q_proj', 'attn_k': 'self_attn.k_proj',
  'attn_v': 'self_attn.v_proj', 'attn_output': 'self_attn.o_proj',
  'ffn_norm': 'post_attention_layernorm', 'ffn_gate': 'mlp.gate_proj', 'ffn_up': 'mlp.up_proj',
  'ffn_down': 'mlp.down_proj'}
_NAMES = {'token_embd': 'model.embed_tokens', 'output_norm': 'model.norm', 'output': 'lm_head'}
_SPECIAL = (3, 4)  # types of tokens that are taken whole: control and user-defined
_REQUIRED = object()
_CONFIG_FIELDS = {
  'hidden_size': 'embedding_length', 'num_hidden_layers': 'block_count',
  'intermediate_size': 'feed_forward_length', 'num_attention_heads': 'attention.head_count',
  'num_key_value_heads': 'attention.head_count_kv',
  'rms_norm_eps': 'attention.layer_norm_rms_epsilon', 'rope_theta': 'rope.freq_base',
  'max_position_embeddings': 'context_length'}


class GgufError(ValueError):
  """A file is no GGUF, or not of a Llama; the message names it."""


class GgufFile(Mapping[str, np.ndarray]):
  """The tensors of a GGUF under Hugging Face's names, dequantised to float32 as they are read."""

  def __init__(self, path: str | os.PathLike):
    """Raises GgufError."""
    import gguf  # an extra

    self._path = path
    try:
      self._reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
      raise GgufError(f'{path}: cannot be read as GGUF ({error})') from error
    if self._field('general.architecture') != 'llama':
      raise GgufError(
        f'{path}: a {self._field("general.architecture")!r} model; only llama is read from GGUF')
    self._require_plain()
    self._tensors = {_name(tensor.name): tensor for tensor in self._reader.tensors}

  def _field(self, name: str, default: Any = _REQUIRED) -> Any:
    field = self._reader.get_field(name)
    if field is not None:
      return field.contents()
    if default is _REQUIRED:
      raise GgufError(f'{self._path}: {name} is missing')
    return default

  def _require_plain(self) -> None:
    """What is read here has heads of one width, rotated whole, and sees all that is before it."""
    width = self._field('llama.embedding_length') // self._field('llama.attention.head_count')
    plain = {
      'llama.rope.scaling.type': ('none',), 'llama.rope.dimension_count': (width,),
      'llama.attention.key_length': (width,), 'llama.attention.value_length': (width,),
      'llama.attention.sliding_window': (0,), 'llama.expert_count': (0,),
      'tokenizer.ggml.model': ('gpt2',), 'tokenizer.ggml.pre': ('gpt-2', 'smollm')}
    for name, allowed in plain.items():
      found = self._field(name, allowed[0])
      if found not in allowed:
        raise GgufError(
          f'{self._path}: {name} is {found!r}; of Llamas in GGUF those are read where it is '
          f'{" or ".join(map(repr, allowed))}')

  @functools.cached_property
  def config(self) -> dict[str, Any]:
    """The fields of a `config.json`."""
    fields = {theirs: self._field(f'llama.{name}') for theirs, name in _CONFIG_FIELDS.items()}
    ends = {f'{end}_token_id': self._field(f'tokenizer.ggml.{end}_token_id')
            for end in ('bos', 'eos')}
    return {
      **fields, **ends, 'model_type': 'llama',
      'vocab_size': len(self._field('tokenizer.ggml.tokens')),
      'tie_word_embeddings': 'lm_head.weight' not in self}

  def tokenizer_json(self) -> bytes:
    """The byte-level byte-pair encoding as a `tokenizer.json`."""
    import tokenizers  # an extra

    tokens = self._field('tokenizer.ggml.tokens')
    merges = [tuple(pair.split(' ')) for pair in self._field('tokenizer.ggml.merges')]
    model = tokenizers.Tokenizer(tokenizers.models.BPE(
      {token: index for index, token in enumerate(tokens)}, merges))
    parts = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if self._field('tokenizer.ggml.pre') == 'smollm':
      parts.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(parts)
    model.decoder = tokenizers.decoders.ByteLevel()
    kinds = self._field('tokenizer.ggml.token_type')
    model.add_special_tokens(
      [token for token, kind in zip(tokens, kinds, strict=True) if kind in _SPECIAL])
    return model.to_str().encode('utf-8')

  def __getitem__(self, name: str) -> np.ndarray:
    import gguf

    tensor = self._tensors[name]
    array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    heads = {'q_proj': 'num_attention_heads', 'k_proj': 'num_key_value_heads'}
    for part, field in heads.items():
      if f'.{part}.' in name:
        return _unpaired(array, self.config[field])
    return array

  def __iter__(self) -> Iterator[str]:
    return iter(self._tensors)

  def __len__(self) -> int:
    return len(self._tensors)


def _name(theirs: str) -> str:
  """'blk.3.attn_q.weight' -> 'model.layers.3.self_attn.q_proj.weight'."""
  stem, _, kind = theirs.rpartition('.')
  if not stem.startswith('blk.'):
    return f'{_NAMES.get(stem, stem)}.{kind}'
  _, layer, part = stem.split('.')
  return f'model.layers.{layer}.{_LAYER_NAMES.get(part, part)}.{kind}'


def _unpaired(array: np.ndarray, heads: int) -> np.ndarray:
  """llama.cpp rotates neighbours, Hugging Face halves: its rows come in pairs."""
  width = array.shape[0] // heads
  return array.reshape(heads, width // 2, 2, -1).swapaxes(1, 2).reshape(array.shape)
