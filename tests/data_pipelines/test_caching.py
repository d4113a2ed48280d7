"""Examples that a Beam pipeline made and cached are those made without one."""

import os
import subprocess
import sys

import pytest

from data_pipelines import prepare, records

pytestmark = pytest.mark.requires('apache_beam')
SETTINGS = {'vocab_size': 400, 'seq_len': 384, 'seed': 7, 'progress': False}
BEAM = ('--runner=DirectRunner',)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, trajectory, write_folder):
  root = tmp_path_factory.mktemp('trajectories')
  for domain in ('terminal', 'mcp'):
    write_folder(
        root / domain, [trajectory(s, domain, num_turns=2 + s % 5) for s in range(0, 200, 7)])
  return str(root)


def examples(out, name):
  """Of RL: what is asked and answered; of packed rows: the tasks whose dialogues they hold."""
  found = list(records.read_records(records.records_path(out, name)))
  if name == 'rl':
    return sorted((r['id'], r['turn'], r['prompt'].tobytes(), r['observation'], r['domain'],
                   str(r['changed_state'])) for r in found)
  return sorted(task for record in found for task in record['ids'])


def test_the_examples_are_the_same_and_made_once(folder, tmp_path):
  plain, cached, again = (str(tmp_path / name) for name in ('plain', 'cached', 'again'))
  made = prepare.prepare([folder], plain, ['cpt', 'rl'], **SETTINGS)
  vocabulary = os.path.join(plain, prepare.VOCABULARY_FILE)
  by_beam = prepare.prepare([folder], cached, ['cpt', 'rl'], vocabulary_path=vocabulary,
                            beam_options=BEAM, **SETTINGS)
  for stage in made:
    assert examples(cached, stage) == examples(plain, stage) != []
    for key in ('examples', 'families', 'token_lengths', 'tokens', 'dropped'):
      assert by_beam[stage][key] == made[stage][key]

  # A second process, with nothing registered, finds the cache and the same order in it.
  os.rename(os.path.join(cached, 'cpt.array_record'), again)
  subprocess.run(
      [sys.executable, '-m', 'experiments.prepare_data', f'--trajectories={folder}',
       f'--out={cached}', '--stages=cpt', f'--vocabulary={vocabulary}', '--seq_len=384', '--seed=7',
       '--beam_options=--runner=NoSuchRunner'], check=True, capture_output=True, timeout=240)
  with open(again, 'rb') as one, open(os.path.join(cached, 'cpt.array_record'), 'rb') as other:
    assert one.read() == other.read()


def test_a_pipeline_that_fails_is_one_sentence(folder, tmp_path):
  with pytest.raises(prepare.PrepareError, match='pipeline failed: .*NoSuchRunner.*run the same'):
    prepare.prepare([folder], str(tmp_path), ['rl'], beam_options=['--runner=NoSuchRunner'],
                    **SETTINGS)
