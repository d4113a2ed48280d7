"""The pods' programs, built and compiled for virtual CPU devices; .ci/run compiles one for TPUs."""

import jax
import pytest

from configs import pod_35b_a3b, pod_397b_a17b
from experiments import compile_for_pod, program_costs
from experiments.compile_for_pod import PodError


def tiny_config():
  config = pod_35b_a3b.get_config()
  config.model.update({
    'width': 32, 'layers': 2, 'pattern': ('delta_net', 'attention'), 'heads': 4, 'head_dim': 16,
    'delta_key_heads': 2, 'delta_value_heads': 4, 'delta_key_dim': 8, 'delta_value_dim': 8,
    'experts': 4, 'experts_per_token': 2, 'expert_width': 16, 'shared_expert_width': 16,
    'attention_kind': 'blocks'})
  config.data.update({'seq_len': 64, 'vocab_size': 256})
  for stage in (config.cpt, config.sft, config.rl, config.agent.rl):
    stage.mesh = {'data': 1, 'fsdp': 1, 'context': 1, 'expert': 2, 'tensor': 1}
  config.cpt.rows, config.sft.rows = {'cpt': 1}, {'sft': 1}
  config.rl.update({'prompts': 4, 'group': 2, 'max_prompt': 48, 'max_tokens': 16})
  config.agent.rl.update({'tasks': 2, 'group': 2})
  config.agent.rollout.update({
    'turns': 2, 'max_action': 8, 'max_answer': 16, 'max_observation': 8, 'agent_slots': 256,
    'world_slots': 512})
  return config


@pytest.mark.slow
@pytest.mark.parametrize('stage', compile_for_pod.STAGES)
def test_every_stage_compiles_and_is_described(stage, monkeypatch):
  monkeypatch.setattr(compile_for_pod, 'pod_devices',
                      lambda topology: (program_costs.CHIPS['v5p'], jax.devices()))
  found = compile_for_pod.compile_stage(tiny_config(), stage, 'v5p:2x1x1')
  assert found['mesh']['expert'] == found['devices'] == 2
  assert found['bytes']['temporary'] > 0
  assert sum(traffic['bytes'] for traffic in found['collectives'].values()) > 0
  if stage != 'imagine':
    # Of the parameters a token meets, all but the looked-up embedding are multiplied three times.
    assert found['flops'] > 6 * found['tokens'] * 256 * 32
  text = compile_for_pod.describe(found)
  assert f'{stage} on v5p:2x1x1: 2 chips as expert 2;' in text and 'no step can be faster' in text


@pytest.mark.parametrize(
  ('module', 'billions', 'active'), [(pod_35b_a3b, 35, 3), (pod_397b_a17b, 397, 17)])
def test_the_shapes_have_as_many_parameters_as_their_names_say(module, billions, active):
  config = module.get_config()
  model = compile_for_pod.pod_model(config)
  count = compile_for_pod.count_parameters(model)
  assert count / 1e9 == pytest.approx(billions, rel=0.02)
  unused = (model.experts - model.experts_per_token) * 3 * model.width * model.expert_width
  assert (count - model.layers * unused) / 1e9 == pytest.approx(active, abs=1)


@pytest.mark.parametrize(('topology', 'reason'), [
  ('v9:2x2', "chip 'v9' is not one of v5p, v5e, v6e"), ('v5p:nonsense', '--topology=v5p:nonsense')])
def test_a_pod_that_does_not_exist_is_one_sentence(topology, reason):
  with pytest.raises(PodError, match=reason):
    compile_for_pod.pod_devices(topology)
