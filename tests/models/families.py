"""A random tiny model of transformers for every architecture, and ours with the same parameters."""

import functools

from aw_jax.models import huggingface

COMMON = {
  'vocab_size': 160, 'hidden_size': 48, 'num_attention_heads': 6, 'num_key_value_heads': 2,
  'head_dim': 16, 'max_position_embeddings': 4096, 'rms_norm_eps': 1e-6, 'initializer_range': 0.1,
  'attn_implementation': 'eager', 'bos_token_id': None, 'eos_token_id': None, 'pad_token_id': None,
  'rope_parameters': {'rope_type': 'default', 'rope_theta': 1e6}}
DENSE = {'num_hidden_layers': 3, 'intermediate_size': 80}
EXPERTS = {'num_experts': 8, 'num_experts_per_tok': 3, 'moe_intermediate_size': 24}
DELTA = {
  'linear_num_key_heads': 2, 'linear_num_value_heads': 4, 'linear_key_head_dim': 12,
  'linear_value_head_dim': 10, 'linear_conv_kernel_dim': 4,
  # With 8 layers at 0.1 one rounding of the embedding moves transformers' own logits by 8e-4.
  'num_hidden_layers': 4, 'initializer_range': 0.06,
  'rope_parameters': {
    'rope_type': 'default', 'rope_theta': 1e6, 'partial_rotary_factor': 0.25,
    'mrope_section': [1, 1, 0]}}

# Name -> (config class, model class, fields).
FAMILIES = {
  'qwen3': ('Qwen3Config', 'Qwen3ForCausalLM', DENSE | {'tie_word_embeddings': False}),
  'qwen3_tied': ('Qwen3Config', 'Qwen3ForCausalLM', DENSE | {'tie_word_embeddings': True}),
  'qwen3_moe': ('Qwen3MoeConfig', 'Qwen3MoeForCausalLM',
                EXPERTS | {'num_hidden_layers': 2, 'norm_topk_prob': True}),
  'qwen3_moe_unnormalised': ('Qwen3MoeConfig', 'Qwen3MoeForCausalLM',
                             EXPERTS | {'num_hidden_layers': 2, 'norm_topk_prob': False}),
  'qwen3_5': ('Qwen3_5TextConfig', 'Qwen3_5ForCausalLM',
              DELTA | {'intermediate_size': 80, 'tie_word_embeddings': True}),
  'qwen3_5_moe': ('Qwen3_5MoeTextConfig', 'Qwen3_5MoeForCausalLM',
                  DELTA | EXPERTS | {'shared_expert_intermediate_size': 20}),
  'llama': ('LlamaConfig', 'LlamaForCausalLM',
            DENSE | {'head_dim': 8, 'tie_word_embeddings': True}),
}


@functools.cache
def models(name: str):
  """(transformers model in float32, our config, our parameters), random and the same."""
  import torch
  import transformers

  torch.manual_seed(0)
  torch.set_num_threads(1)
  config_name, model_name, fields = FAMILIES[name]
  theirs = getattr(transformers, config_name)(**COMMON | fields)
  model = getattr(transformers, model_name)(theirs).eval().to(torch.float32)
  with torch.no_grad():
    for path, parameter in model.named_parameters():
      if 'norm' in path:  # norms of ones, or of zeros, would hide one that is left out or misplaced
        parameter.add_(torch.empty_like(parameter).uniform_(-0.5, 0.5))
      if path.endswith('mlp.gate.weight'):  # begins at zero: every expert alike
        parameter.normal_(0, 0.5)
  config = huggingface.config_from_huggingface(theirs.to_dict(), dtype='float32')
  return model, config, huggingface.from_state_dict(model.state_dict(), config)
