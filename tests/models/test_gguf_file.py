"""Llamas in GGUF that are read, and those that would be read wrongly."""

import numpy as np
import pytest

from aw_jax.models import huggingface
from aw_jax.models.gguf_file import GgufError, GgufFile

pytestmark = pytest.mark.requires('gguf', 'tokenizers')

TENSORS = {
  'token_embd': (260, 32), 'output_norm': (32,), 'blk.0.attn_norm': (32,),
  'blk.0.ffn_norm': (32,), 'blk.0.attn_q': (32, 32), 'blk.0.attn_k': (16, 32),
  'blk.0.attn_v': (16, 32), 'blk.0.attn_output': (32, 32), 'blk.0.ffn_gate': (48, 32),
  'blk.0.ffn_up': (48, 32), 'blk.0.ffn_down': (32, 48)}


def written(path, change=lambda writer: None, pre='smollm'):
  """A random Llama of one layer whose vocabulary joins '1' and '2', and has a token of the user."""
  import gguf
  import tokenizers

  writer = gguf.GGUFWriter(path, 'llama')
  writer.add_embedding_length(32)
  writer.add_block_count(1)
  writer.add_feed_forward_length(48)
  writer.add_head_count(4)
  writer.add_head_count_kv(2)
  writer.add_layer_norm_rms_eps(1e-5)
  writer.add_rope_freq_base(1e4)
  writer.add_context_length(8192)
  writer.add_tokenizer_model('gpt2')
  writer.add_tokenizer_pre(pre)
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  writer.add_token_list([*alphabet, '<s>', '</s>', '<tool>', '12'])
  writer.add_token_types([1] * len(alphabet) + [3, 3, 4, 1])
  writer.add_token_merges(['1 2'])
  writer.add_bos_token_id(256)
  writer.add_eos_token_id(257)
  change(writer)
  rng = np.random.default_rng(0)
  for name, shape in TENSORS.items():
    writer.add_tensor(f'{name}.weight', rng.normal(0, 0.1, shape).astype(np.float32))
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


@pytest.mark.parametrize(('pre', 'number'), [('smollm', ['1', '2']), ('gpt-2', ['12'])])
def test_a_plain_llama_is_read(tmp_path, pre, number):
  import tokenizers

  file = GgufFile(written(tmp_path / 'model.gguf', pre=pre))
  config = huggingface.config_from_huggingface(file.config)
  assert (config.width, config.head_dim, config.rotary_width) == (32, 8, 8)
  huggingface.from_state_dict(file, config)
  tokenizer = tokenizers.Tokenizer.from_str(file.tokenizer_json().decode())
  assert tokenizer.encode('a<tool>12').tokens == ['a', '<tool>', *number]


@pytest.mark.parametrize(('name', 'change'), [
  ('rope.scaling.type', lambda writer: writer.add_string('llama.rope.scaling.type', 'linear')),
  ('rope.dimension_count', lambda writer: writer.add_rope_dimension_count(4)),
  ('attention.key_length', lambda writer: writer.add_key_length(16)),
  ('attention.sliding_window', lambda writer: writer.add_sliding_window(16)),
  ('expert_count', lambda writer: writer.add_expert_count(8))])
def test_what_the_decoder_does_not_do_is_refused(tmp_path, name, change):
  path = written(tmp_path / 'model.gguf', change)
  with pytest.raises(GgufError, match=rf'model\.gguf: llama\.{name} is '):
    GgufFile(path)


def test_another_way_of_splitting_text_is_refused(tmp_path):
  path = written(tmp_path / 'model.gguf', pre='llama-bpe')
  with pytest.raises(GgufError, match=r"\.pre is 'llama-bpe'; .* 'gpt-2' or 'smollm'"):
    GgufFile(path)
