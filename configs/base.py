"""Every value an experiment may change, with the defaults of the quickstart's small models.

Other configs are this one with a few values replaced. On the command line:
`--config.cpt.steps=500`; a key that does not exist is refused by name.
"""

import ml_collections


def stage(steps: int, peak_lr: float, **fields) -> ml_collections.ConfigDict:
  """A stage of next-token prediction: what `run_stage` needs, and the stage's own fields.

  `rows` are the packed rows of a batch from each record file.
  """
  return ml_collections.ConfigDict({
      'steps': steps, 'log_every': 10, 'checkpoint_every': 100,
      'optimizer': {
          'name': 'muon', 'peak_lr': peak_lr, 'warmup_steps': 20, 'schedule': 'cosine',
          'final_lr_ratio': 0.1, 'weight_decay': 0.01, 'clip_norm': 1.0, 'adam_lr_ratio': 0.15,
      },
      'mesh': {'data': -1, 'fsdp': 1, 'context': 1, 'expert': 1, 'tensor': 1}, **fields,
  })


def policy_stage(steps: int, peak_lr: float, **fields) -> ml_collections.ConfigDict:
  """A stage of policy gradient: small steps of AdamW, few of which cost much.

  `clip` is how far from 1 an importance ratio counts. 0.2 is meant for the ratio of a 'token'. That
  of a 'sequence' is a mean over its tokens and at these step sizes moves by thousandths: there 0.2
  clips nothing (`clip_fraction` in metrics.jsonl), where GSPO itself takes about 3e-4.
  """
  config = stage(
      steps, peak_lr, group=8, temperature=1.0, updates_per_batch=4, clip=0.2, ratio='sequence',
      **fields)
  config.update({'log_every': 1, 'checkpoint_every': 4})
  config.optimizer.update({
      'name': 'adamw', 'schedule': 'constant', 'weight_decay': 0.0, 'warmup_steps': 2})
  return config


def get_config() -> ml_collections.ConfigDict:
  """The quickstart's config."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  # 'base' starts from the checkpoint kept in the repository, 'scratch' from random parameters and
  # a vocabulary of its own; any other value is the folder of a checkpoint.
  config.init = 'base'
  config.domains = ('terminal', 'mcp')
  config.stages = ('cpt', 'sft', 'rl')  # of the world model; one left out is skipped

  config.collect = ml_collections.ConfigDict({
      'workers': 2,
      'train_pool': None,  # or one stage's tasks only: 'cpt', 'sft', 'rl'
      'train_episodes': {'terminal': 2000, 'mcp': 600},
      'test_episodes': {'terminal': 120, 'mcp': 80},  # of the split that is evaluated on
      'train_policies': {'expert': 0.1, 'noisy_expert': 0.4, 'explorer': 0.2, 'tracker': 0.3},
      'test_policies': {'expert': 0.2, 'noisy_expert': 0.4, 'explorer': 0.4, 'tracker': 0.0},
  })
  config.data = ml_collections.ConfigDict({
      'seq_len': 1024, 'vocab_size': 2048, 'loss_mask': True,
      'stages': ('cpt', 'sft', 'rl', 'agent'),  # which to pack records for
      'prompts': 'short',  # or 'full': up to whole specifications, of 100 to 1900 tokens
      'sft_templates': 2,  # of how many prompt templates SFT draws, 1 to 10
      # Of a trajectory: 'one' turn as in the reference, or 'all': whole dialogues in SFT, in RL a
      # sample for each turn that fits.
      'turns': {'sft': 'all', 'rl': 'one'},
      'thinking': True,  # whether SFT teaches to think; `agent.thinking` lets the simulator
      'traces': '',  # file of experiments.write_traces; '': programmatic ones
      'trace_tokens': 64,  # of a turn's reasoning at most; room for it is in rl.max_tokens
      'skip_retries': False,  # whether failures that were tried again at once are left out
  })
  config.model = ml_collections.ConfigDict({  # aw_jax/models/config.py says what each is
      'width': 192, 'layers': 5, 'heads': 4, 'kv_heads': 2, 'head_dim': 48, 'mlp_width': 576,
      'short_conv_width': 4,
      'rope_theta': 10_000.0, 'rotary_fraction': 1.0, 'norm_epsilon': 1e-6,
      'tied_embeddings': True, 'qk_norm': True, 'zero_centred_norm': False,
      'attention_gate': False, 'pattern': ('attention',),
      'delta_key_heads': 0, 'delta_value_heads': 0, 'delta_key_dim': 0, 'delta_value_dim': 0,
      'delta_conv_width': 4,
      'experts': 0, 'experts_per_token': 0, 'expert_width': 0, 'shared_expert_width': 0,
      'normalise_router': True, 'router_loss_weight': 1e-3,
      'dtype': 'bfloat16', 'activation_dtype': 'float32', 'cache_dtype': 'float32',
      'attention_kind': 'auto', 'query_block': 128, 'scan_decode': False, 'remat': 'none',
  })
  config.cpt = stage(50, 2e-3, rows={'cpt': 4})
  config.sft = stage(50, 2e-3, rows={'sft': 4}, threshold=0.0, samples=4000)
  config.rl = policy_stage(
      20, 1e-4, prompts=64, max_tokens=160, max_prompt=512, rubric_weight=0.9,
      # Of a batch, those whose rewards differ first; 0: all. After SFT three groups of four agree
      # and teach nothing.
      train_groups=16,
      # Of the prompts: one part is judged while the device samples the next. 0: up to four where
      # a language model judges, as many as give each device the same number; else one.
      parts=0,
      correct_gap=False,  # True: ratios to the trainer's log-probs, weighted by trainer / sampler
      kl_weight=0.0,  # of the divergence from the model it starts from
      # A language model as the judge: its name, and an endpoint such as http://127.0.0.1:8000/v1
      # ('': OpenAI's). Without a name the reference judge, a program, judges.
      judge={'model': '', 'url': '', 'key_variable': 'OPENAI_API_KEY', 'concurrency': 16,
             'retries': 5, 'timeout': 120.0, 'max_tokens': 1024},
      whole_rows=False)  # True: each sample a row with its prompt, split over the mesh's context
  config.evaluate = ml_collections.ConfigDict({
      'split': 'test',  # 'validation' to compare settings: what was chosen on test proves nothing
      'turns_per_domain': 280, 'batch_size': 32, 'max_tokens': 208, 'max_thinking': 72,
      'max_prompt': 1024, 'bootstrap': 1000,
      # 'cpt_thinking': after CPT too, with thinking allowed. 'sft_sampled', 'rl_sampled': at
      # temperature 1, which is what RL trains. 'sft_v0': after SFT, with the prompts of RL.
      'also': (),
  })
  config.world = 'imagined'  # where the agent trains: 'imagined', 'real' or 'mixed'
  config.agent = ml_collections.ConfigDict({
      'seeds': (0,),  # an agent each, imitation included; the world model is shared
      'init': 'world_model',  # 'world_model': from the base checkpoint or CPT; 'scratch'
      'imitation': stage(60, 3e-3, rows={'agent': 4}),
      'rl': policy_stage(16, 3e-4, tasks=8),
      'world_model': 'rl',  # which stage's world model is the simulator
      'thinking': True,  # whether the simulator may think; not after 'cpt' alone
      'rollout': {
          'turns': 8, 'max_action': 48, 'max_answer': 192, 'max_observation': 128,
          'agent_slots': 512, 'world_slots': 1280,
      },
      'environments': 16,
      'evaluation_tasks': 80,  # domains in turn
      'evaluation_temperature': 1.0,
  })
  return config
