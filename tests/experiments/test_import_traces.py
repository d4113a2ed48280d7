"""The command: public traces to trajectories, and from these to training records."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TRACES = ROOT / 'tests/data_pipelines/importers/traces'


def run(command, *arguments):
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{command}', *arguments], cwd=ROOT, capture_output=True,
    text=True, timeout=300, check=False, env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3'})


def test_traces_of_three_formats_become_records(tmp_path):
  found = {}
  for name, pattern in (('openai_chat', 'tau*.json'), ('swe_agent', '*.traj'),
                        ('asciicast', 'garden.cast')):
    path, = TRACES.glob(pattern)
    made = run('import_traces', f'--format={name}', f'--input={path}', f'--out={tmp_path / name}',
               '--split=train', '--licence=MIT')
    assert made.returncode == 0, made.stderr
    assert 'episodes_left_out' in made.stdout
    report = json.loads((tmp_path / name / 'report.json').read_text())
    found[name] = report['episodes_kept'], report['turns_kept']
    card = (tmp_path / name / 'dataset_card.md').read_text()
    assert ': imported traces: MIT\n' in card and '--licence=MIT' in card
  assert found == {'openai_chat': (3, 7), 'swe_agent': (1, 11), 'asciicast': (2, 10)}
  folders = ','.join(str(tmp_path / name / 'train') for name in found)
  # A handful of tasks need not fall into the pool of every stage; the vocabulary needs them all.
  made = run('prepare_data', f'--trajectories={folders}', f'--out={tmp_path / "records"}',
             '--stages=cpt', '--seq_len=2048', '--vocab_size=600', '--prompts=full')
  assert made.returncode == 0, made.stderr[-2000:]
  assert 'left out {"trajectories": {}, "turns": {}}' in made.stdout
  sidecar = json.loads((tmp_path / 'records/cpt.json').read_text())
  assert len(sidecar['sources']) == 3 and sidecar['dropped'] == {}
  card = (tmp_path / 'records/dataset_card.md').read_text()
  assert card.count(': imported traces: MIT\n') == 3 and 'Apache' not in card


@pytest.mark.parametrize(('arguments', 'message'), [
  (['--format=swe_agent', '--input=none.traj'], 'none.traj: no such file or folder'),
  (['--format=swe_agent', f'--input={TRACES / "README.md"}'], 'README.md:1: not JSON'),
  (['--format=asciicast', f'--input={TRACES}', '--prompt=('], 'is no regular expression'),
  (['--format=openai_chat', f'--input={TRACES}', f'--tools={TRACES / "garden.cast"}'],
   'garden.cast:2: not JSON'),
])
def test_what_is_wrong_is_one_sentence(tmp_path, arguments, message):
  refused = run('import_traces', *arguments, f'--out={tmp_path / "out"}')
  assert refused.returncode != 0 and 'Traceback' not in refused.stderr
  assert message in refused.stderr.strip().splitlines()[-1]


def test_a_full_disk_is_one_sentence_and_the_command_goes_on(tmp_path):
  """No file may be larger than the one that says what the import is for."""
  arguments = ('import_traces', '--format=swe_agent', f'--input={next(TRACES.glob("*.traj"))}',
               f'--out={tmp_path / "out"}')
  full = subprocess.run(
    ['bash', '-c', 'ulimit -f 4; exec "$@"', 'bash', sys.executable, '-m',
     f'experiments.{arguments[0]}', *arguments[1:]],
    cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'PYTHONDONTWRITEBYTECODE': '1'})
  assert full.returncode != 0 and 'Traceback' not in full.stderr
  assert (f'import_traces: cannot write to {tmp_path / "out"}: File too large; mend that'
          in full.stderr)
  assert run(*arguments).returncode == 0
