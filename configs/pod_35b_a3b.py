"""The shape of Qwen3.5-35B-A3B, as in Qwen-AgentWorld, on 64 chips of a TPU v5p (v5p:4x4x4).

    python -m experiments.compile_for_pod --config=configs/pod_35b_a3b.py --topology=v5p:4x4x4 \
        --stage=cpt

CPT and SFT in rows of 262,144 tokens, RL with prompts of 131,072, agents in imagination with
contexts of 32,768 and worlds of 131,072. Prompts are full specifications, and of a trajectory one
turn is learned in SFT and RL, as in the reference. `--config.init=FOLDER` starts from converted
weights.
"""

from configs import base


def pod(config, chips: int, cpt_rows: int, expert: int, rollout_expert: int, prompt_chips: int,
        max_tokens: int):
  """The lengths, meshes and batches that the pod configs share.

  Args:
    config: the base config with the model's shape.
    chips: of the pod.
    cpt_rows: rows of a batch of CPT and SFT, each over an equal share of the chips.
    expert: chips that share experts.
    rollout_expert: the same in rollouts of agents, where two models lie gathered but for experts
      and heads.
    prompt_chips: chips that share the eight samples of a prompt in RL.
    max_tokens: of a sample.
  """
  config.stage, config.init = 'cpt', 'scratch'
  config.data.update({
      'seq_len': 262_144, 'vocab_size': 248_320, 'prompts': 'full', 'sft_templates': 10,
      'turns': {'sft': 'one', 'rl': 'one'}, 'skip_retries': True,
      'trace_tokens': max_tokens // 2})
  config.model.update({
      'dtype': 'bfloat16', 'activation_dtype': 'bfloat16', 'cache_dtype': 'bfloat16',
      'scan_decode': True, 'remat': 'full'})
  for stage in (config.cpt, config.sft, config.agent.imitation, config.rl, config.agent.rl):
    stage.optimizer.name = 'adamw'
    stage.mesh = {
        'data': 1, 'fsdp': cpt_rows, 'context': -1, 'expert': expert, 'tensor': 1}
  config.cpt.rows = {'cpt': cpt_rows}
  config.sft.rows = {'sft': cpt_rows}
  prompts = chips // prompt_chips  # of a step
  config.rl.mesh.update({'fsdp': prompts})
  config.rl.update({
      'prompts': config.rl.updates_per_batch * prompts, 'train_groups': 0, 'group': 8,
      'max_prompt': 131_072, 'max_tokens': max_tokens, 'whole_rows': True})
  config.agent.rl.mesh = {
      'data': 1, 'fsdp': chips // (2 * rollout_expert), 'context': 1, 'expert': rollout_expert,
      'tensor': 2}
  config.agent.rl.update({'tasks': chips // rollout_expert, 'group': 8})  # two a share of rows
  config.agent.rollout.update({
      'turns': 32, 'max_action': 512, 'max_answer': 4096, 'max_observation': 2048,
      'agent_slots': 32_768, 'world_slots': 131_072})
  return config


def get_config():
  config = base.get_config()
  config.model.update({
      'width': 2048, 'layers': 40, 'heads': 16, 'kv_heads': 2, 'head_dim': 256, 'mlp_width': 0,
      'short_conv_width': 0})
  config.model.update(QWEN35)
  config.model.update({
      'delta_value_heads': 32, 'experts': 256, 'experts_per_token': 8, 'expert_width': 512,
      'shared_expert_width': 512})
  return pod(
      config, chips=64, cpt_rows=4, expert=4, rollout_expert=4, prompt_chips=64, max_tokens=8192)


# What all Qwen3.5 mixtures of experts have in common.
QWEN35 = {
    'rope_theta': 10_000_000.0, 'rotary_fraction': 0.25,
    'tied_embeddings': False, 'zero_centred_norm': True, 'attention_gate': True,
    'pattern': ('delta_net', 'delta_net', 'delta_net', 'attention'), 'delta_key_heads': 16,
    'delta_key_dim': 128, 'delta_value_dim': 128,
}
