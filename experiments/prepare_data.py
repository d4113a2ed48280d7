"""Turns collected trajectories into packed training records.

    python -m experiments.prepare_data --trajectories=/data/terminal,/data/mcp --out=/data/records
"""

import json

from absl import app, flags, logging

from aw_jax.prompts.templates import SIZES, STAGE_TEMPLATES
from aw_jax.tokenizer import TokenizerError
from aw_jax.trajectories import TrajectoryError
from data_pipelines import prepare
from data_pipelines.examples import TURNS, Switches
from data_pipelines.sources import SourceError
from data_pipelines.traces import TracesError

_TRAJECTORIES = flags.DEFINE_list(
    'trajectories', None, 'Folders of collected trajectories.', required=True)
_OUT = flags.DEFINE_string('out', None, 'Folder for the records.', required=True)
_STAGES = flags.DEFINE_list(
    'stages', ['cpt', 'sft', 'rl', 'agent'],
    'Which to prepare: cpt, sft, rl, agent, reasoning (dialogues with reasoning in every turn).')
_SPLIT = flags.DEFINE_enum('split', 'train', ['train', 'validation'], 'Of which tasks.')
_VOCABULARY = flags.DEFINE_string(
    'vocabulary', None, 'Vocabulary file, trained and saved where absent; {out}/vocabulary.model.')
_VOCAB_SIZE = flags.DEFINE_integer('vocab_size', 2048, 'Ids of a vocabulary trained here.')
_SEQ_LEN = flags.DEFINE_integer('seq_len', 512, 'Tokens a row.')
_SEED = flags.DEFINE_integer('seed', 0, 'Of every choice of turn, template and masked token.')
_TRACES = flags.DEFINE_string(
    'traces', None, 'Reasoning that experiments.write_traces wrote, for sft, reasoning and rl.')
_DEFAULT = Switches()
_LOSS_MASK = flags.DEFINE_bool(
    'loss_mask', _DEFAULT.loss_mask, 'Mask the loss by information (cpt).')
_PROMPTS = flags.DEFINE_enum(
    'prompts', _DEFAULT.prompts, SIZES,
    'Size of the system prompts: short ones for small models, or full specifications.')
_SFT_TEMPLATES = flags.DEFINE_integer(
    'sft_templates', _DEFAULT.sft_templates,
    'Of how many prompt templates sft draws: v2, v3, and so on.', lower_bound=1,
    upper_bound=len(STAGE_TEMPLATES['sft']))
_SFT_TURNS = flags.DEFINE_enum(
    'sft_turns', _DEFAULT.sft_turns, TURNS,
    'Turns of a trajectory that sft learns: one, or all of the dialogue.')
_RL_TURNS = flags.DEFINE_enum(
    'rl_turns', _DEFAULT.rl_turns, TURNS,
    'Turns of a trajectory that rl samples: one, or each that fits.')
_THINKING = flags.DEFINE_bool(
    'thinking', _DEFAULT.thinking, 'Teach reasoning before the prediction (sft, history of rl).')
_TRACE_TOKENS = flags.DEFINE_integer(
    'trace_tokens', _DEFAULT.trace_tokens, 'Tokens of the reasoning of one turn at most.',
    lower_bound=1)
_BEAM = flags.DEFINE_multi_string(
    'beam_options', [], 'Make the examples by an Apache Beam pipeline with this option, into '
    "seqio's offline cache, as in --beam_options=--runner=DirectRunner; may be repeated.")
_SKIP_RETRIES = flags.DEFINE_bool(
    'skip_retries', False, 'Leave out failures that were tried again at once.')


def _switches() -> Switches:
  return Switches(
      loss_mask=_LOSS_MASK.value, prompts=_PROMPTS.value, sft_templates=_SFT_TEMPLATES.value,
      sft_turns=_SFT_TURNS.value, rl_turns=_RL_TURNS.value, thinking=_THINKING.value,
      trace_tokens=_TRACE_TOKENS.value)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}')
  logging.set_verbosity(logging.WARNING)  # TFDS and seqio report every file they open
  try:
    made = prepare.prepare(
        _TRAJECTORIES.value, _OUT.value, _STAGES.value, vocabulary_path=_VOCABULARY.value,
        vocab_size=_VOCAB_SIZE.value, seq_len=_SEQ_LEN.value, seed=_SEED.value,
        switches=_switches(), skip_retries=_SKIP_RETRIES.value, traces=_TRACES.value,
        split=_SPLIT.value, beam_options=_BEAM.value)
  except (prepare.PrepareError, SourceError, TokenizerError, TracesError, TrajectoryError) as error:
    raise SystemExit(f'prepare_data: {error}') from error
  any_sidecar = next(iter(made.values()))  # what is left out is the same for every stage
  print('left out', json.dumps({
      'trajectories': any_sidecar['left_out'], 'turns': any_sidecar['skipped_turns']}))
  for stage, sidecar in made.items():
    shown = ('records', 'examples', 'dropped', 'tokens', 'padding_share', 'turns_cut',
             'loss_mask_classes')
    print(stage, json.dumps({key: sidecar[key] for key in shown if key in sidecar}))


if __name__ == '__main__':
  app.run(main)
