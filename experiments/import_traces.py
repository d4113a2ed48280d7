"""Imports public traces of agents into folders of trajectories, cleaned, with a report.

    python -m experiments.import_traces --format=openai_chat --input=airline.json \
        --out=/data/airline
    python -m experiments.prepare_data --trajectories=/data/airline/train --out=/data/records \
        --stages=cpt,sft,rl

Formats: openai_chat, conversations with tool calls in OpenAI's messages (JSON, or JSON lines;
tau-bench's files as they are); swe_agent, *.traj of SWE-agent; agentworldbench, the files
{domain}_test.jsonl; asciicast, terminal recordings *.cast of asciinema, v2 and v3.

Trajectories go to {out}/{split}/{domain}. The split is a function of what the task asks: the same
task from another file falls into the same split, 80 % of the tasks into train, 10 % into
validation, 10 % into test. AgentWorldBench is a benchmark and all of it is test. Everything that is
left out is counted by reason in {out}/report.json; {out}/dataset_card.md says what is there. The
training stages divide the tasks further, so that of a few tasks a stage may have none.
"""

import json
import shlex
import sys

from absl import app, flags

from aw_jax.trajectories import DOMAINS, SPLITS
from data_pipelines import dataset_card
from data_pipelines.importers import common, run

_FORMAT = flags.DEFINE_enum(
    'format', None, list(run.FORMATS), 'What the files are.', required=True)
_INPUT = flags.DEFINE_list('input', None, 'Files, or folders of them.', required=True)
_OUT = flags.DEFINE_string('out', None, 'Folder for trajectories and report.', required=True)
_DOMAIN = flags.DEFINE_enum(
    'domain', None, DOMAINS, 'Of the environment; by default what the format is for: mcp, swe, '
    'terminal, or what the name of a benchmark file says.')
_FAMILY = flags.DEFINE_string(
    'family', None, 'Name for this kind of task; by default from the file or the format.')
_POLICY = flags.DEFINE_string('policy', None, 'Who acted, such as the name of the model.')
_TOOLS = flags.DEFINE_string(
    'tools', None, 'JSON file with the declared tools, of traces that declare none themselves: '
    'an episode that calls another one is left out (mcp, swe).')
_PROMPT = flags.DEFINE_string(
    'prompt', None, 'Regular expression of the shell prompt in a recording, where it is unusual.')
_SPLIT = flags.DEFINE_enum(
    'split', None, SPLITS, 'Of all tasks, in place of a split by task.')
_LICENCE = flags.DEFINE_string(
    'licence', 'unknown', 'Of the traces, noted in the report, the card and every episode.')
_DEFAULT = run.Cleaning()
_SKIP_RETRIES = flags.DEFINE_bool(
    'skip_retries', _DEFAULT.skip_retries, 'Leave out failures that were tried again at once.')
_MIN_QUALITY = flags.DEFINE_float(
    'min_quality', _DEFAULT.min_quality, 'The lowest quality, of 0 to 1, of an episode that is '
    'kept: the mean of the shares of its turns that were answered, did not fail, and are no '
    'repetition.', lower_bound=0, upper_bound=1)


def _settings() -> common.Settings:
  tools = None if _TOOLS.value is None else common.read_tools(_TOOLS.value)
  return common.Settings(_DOMAIN.value, _FAMILY.value, _POLICY.value, tools, _PROMPT.value)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    report = run.import_traces(
        _FORMAT.value, _INPUT.value, _OUT.value, settings=_settings(),
        cleaning=run.Cleaning(_SKIP_RETRIES.value, _MIN_QUALITY.value), split=_SPLIT.value,
        licence=_LICENCE.value)
    with run.writing(_OUT.value):
      dataset_card.write_for_trajectories(
          _OUT.value, run.read_kept(_OUT.value),
          shlex.join(['python', '-m', 'experiments.import_traces', *sys.argv[1:]]),
          dict.fromkeys(DOMAINS, (dataset_card.imported(_LICENCE.value),)))
  except common.TraceError as error:
    raise SystemExit(f'import_traces: {error}') from error
  for name in ('records', 'episodes_read', 'turns_read', 'set_apart', 'observations_denoised',
               'episodes_left_out', 'turns_left_out_with_them', 'turns_skipped', 'episodes_kept',
               'turns_kept', 'episodes_by_split', 'tool_calls', 'rewards', 'quality'):
    print(name, json.dumps(report[name], ensure_ascii=False))


if __name__ == '__main__':
  app.run(main)
