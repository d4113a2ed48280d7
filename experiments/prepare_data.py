"""Turns collected trajectories into packed training records.

    python -m experiments.prepare_data --trajectories=/data/terminal,/data/mcp --out=/data/records
"""

import json

from absl import app, flags, logging

from aw_jax.tokenizer import TokenizerError
from aw_jax.trajectories import TrajectoryError
from data_pipelines import prepare
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
_LOSS_MASK = flags.DEFINE_bool('loss_mask', True, 'Mask the loss by information (cpt).')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}')
  logging.set_verbosity(logging.WARNING)  # TFDS and seqio report every file they open
  try:
    made = prepare.prepare(
        _TRAJECTORIES.value, _OUT.value, _STAGES.value, vocabulary_path=_VOCABULARY.value,
        vocab_size=_VOCAB_SIZE.value, seq_len=_SEQ_LEN.value, seed=_SEED.value,
        loss_mask=_LOSS_MASK.value, traces=_TRACES.value, split=_SPLIT.value)
  except (prepare.PrepareError, SourceError, TokenizerError, TracesError, TrajectoryError) as error:
    raise SystemExit(f'prepare_data: {error}') from error
  for stage, sidecar in made.items():
    shown = ('records', 'examples', 'dropped', 'tokens', 'padding_share', 'turns_cut',
             'loss_mask_classes')
    print(stage, json.dumps({key: sidecar[key] for key in shown if key in sidecar}))


if __name__ == '__main__':
  app.run(main)
