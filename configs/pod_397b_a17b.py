"""The shape of Qwen3.5-397B-A17B on 1,024 chips of a TPU v5p (v5p:8x8x16).

    python -m experiments.compile_for_pod --config=configs/pod_397b_a17b.py --topology=v5p:8x8x16 \
        --stage=cpt

Lengths as in configs/pod_35b_a3b.py.
"""

from configs import base, pod_35b_a3b


def get_config():
  config = base.get_config()
  config.model.update({
      'width': 4096, 'layers': 60, 'heads': 32, 'kv_heads': 2, 'head_dim': 256, 'mlp_width': 0,
      'short_conv_width': 0})
  config.model.update(pod_35b_a3b.QWEN35)
  config.model.update({
      'delta_value_heads': 64, 'experts': 512, 'experts_per_token': 10, 'expert_width': 1024,
      'shared_expert_width': 1024})
  return pod_35b_a3b.pod(
      config, chips=1024, cpt_rows=16, expert=8, rollout_expert=32, prompt_chips=512,
      max_tokens=65_536)
