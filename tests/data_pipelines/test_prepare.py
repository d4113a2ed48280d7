"""The whole chain: JSONL, TFDS, seqio, packing, ArrayRecord, Grain."""

import collections
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from aw_jax.environments import episode, experts, registry
from aw_jax.evaluation.examples import turn_examples
from aw_jax.prompts import templates
from aw_jax.tokenizer import END_PREDICTED, IM_END, Tokenizer
from aw_jax.training import data
from aw_jax.trajectories import Trajectory, Turn, write_jsonl
from data_pipelines import (
  dataset_card,
  knowledge,
  packing,
  pools,
  prepare,
  records,
  sources,
  traces,
)
from data_pipelines.examples import DEFAULT, Switches
from experiments import stages

_SETTINGS = {'vocab_size': 400, 'seq_len': 384, 'seed': 7, 'progress': False}


def _hand_made(trajectory) -> list[Trajectory]:
  made = [trajectory(seed, policy=policy, num_turns=2 + seed % 7) for seed in range(0, 300, 3)
          for policy in ('noisy_expert', 'random')]
  redundant = trajectory(15)
  turn = Turn('echo one two three', 'one two three\n~$', redundant.task.initial_state)
  redundant = dataclasses.replace(redundant, turns=(turn,) * 4)
  return [*made, redundant, trajectory(5, num_turns=80)]


@pytest.fixture(scope='module')
def folders(tmp_path_factory, trajectory, write_folder):
  root = tmp_path_factory.mktemp('trajectories')
  write_folder(root / 'terminal', _hand_made(trajectory), shards=3)
  write_folder(root / 'mcp', [trajectory(s, domain='mcp') for s in range(0, 200, 5)])
  write_folder(root / 'validation', [trajectory(s, split='validation') for s in range(8, 200, 10)])
  return [str(root)]


@pytest.fixture(scope='module')
def prepared(tmp_path_factory, folders):
  out = str(tmp_path_factory.mktemp('out'))
  return out, prepare.prepare(folders, out, **_SETTINGS)


def _kept(folders, stage, split='train'):
  return [t for _, t in sources.read_kept(sources.find_shards(folders))
          if t.task.split == split and pools.is_in_stage(t, stage)]


def _records(out, name):
  return list(records.read_records(records.records_path(out, name)))


def _segments(record):
  """(id, tokens, loss weights) of every segment of a packed record."""
  for number, name in enumerate(record['ids'], 1):
    inside = record['segment_ids'] == number
    yield name, record['tokens'][inside], record['loss_weights'][inside]


@pytest.mark.parametrize('stage', ['cpt', 'agent'])
def test_packed_stages_hold_every_trajectory_of_their_pool_once(stage, prepared, folders):
  out, made = prepared
  found = collections.Counter(
      name for record in _records(out, stage) for name, _, _ in _segments(record))
  expected = collections.Counter(t.task.id for t in _kept(folders, stage))
  if stage == 'cpt':
    expected.update(f'{domain}/knowledge/{i}' for domain in ('terminal', 'mcp')
                    for i in range(len(knowledge.TEXTS[domain])))
  assert found == expected
  assert sum(made[stage]['examples'].values()) == found.total()
  assert made[stage]['turns_cut'] > 0  # of the episode of 80 turns
  assert made[stage]['padding_share'] < 0.1  # of so few rows; a real collection leaves 2 %


@pytest.mark.parametrize('stage, name', [('sft', 'sft_candidates'), ('rl', 'rl')])
def test_one_record_of_every_trajectory_of_the_pool(stage, name, prepared, folders):
  out, _ = prepared
  found = collections.Counter(record['id'] for record in _records(out, name))
  assert found == collections.Counter(t.task.id for t in _kept(folders, stage))


def test_pools_are_disjoint(prepared):
  out, _ = prepared
  ids = {'cpt': {name for r in _records(out, 'cpt') for name in r['ids']},
         'sft': {r['id'] for r in _records(out, 'sft_candidates')},
         'rl': {r['id'] for r in _records(out, 'rl')}}
  assert all(ids.values())
  assert not ids['cpt'] & ids['sft'] and not ids['cpt'] & ids['rl'] and not ids['sft'] & ids['rl']


def test_templates_are_disjoint(prepared, folders):
  out, _ = prepared
  tokenizer = Tokenizer.load(os.path.join(out, prepare.VOCABULARY_FILE))
  tasks = {t.task.id: t.task for stage in pools.POOLS for t in _kept(folders, stage)}
  prompts = {'sft': [(r['id'], r['dialogues'][0]['tokens'])
                     for r in _records(out, 'sft_candidates')],
             'rl': [(r['id'], r['prompt']) for r in _records(out, 'rl')],
             'cpt': [(name, tokens) for r in _records(out, 'cpt')
                     for name, tokens, _ in _segments(r) if '/knowledge/' not in name]}
  for stage, found in prompts.items():
    used = set()
    for name, tokens in found:
      system = tokenizer.decode(tokens).split(IM_END)[0].removeprefix('<|im_start|>system\n')
      task = tasks[name]
      used |= {template for names in templates.STAGE_TEMPLATES.values() for template in names
               if system == templates.world_model_prompt(
                   task.domain, task.initial_state, template)}
    assert used == set(DEFAULT.templates_of(stage))


def test_the_vocabulary_is_of_every_domain(tmp_path, write_folder, trajectory, monkeypatch):
  """Also where one domain alone would give it more text than it reads."""
  monkeypatch.setattr(prepare.vocabulary, 'MAX_CHARACTERS', 20_000)
  write_folder(tmp_path / 'in' / 'mcp_train', [trajectory(s, 'mcp') for s in range(200)], shards=8)
  spoken = [dataclasses.replace(t, turns=tuple(
      dataclasses.replace(turn, action='terminalword ' * 9) for turn in t.turns))
            for t in map(trajectory, range(200))]
  write_folder(tmp_path / 'in' / 'terminal_train', spoken, shards=8)
  prepare.prepare([str(tmp_path / 'in')], str(tmp_path / 'out'), ['cpt'], vocab_size=500,
                  progress=False)
  tokenizer = Tokenizer.load(str(tmp_path / 'out' / prepare.VOCABULARY_FILE))
  assert len(tokenizer.encode('terminalword')) == 1


def test_sidecars_report(prepared, folders):
  out, made = prepared
  tokenizer = Tokenizer.load(os.path.join(out, prepare.VOCABULARY_FILE))
  for stage, sidecar in made.items():
    rows = _records(out, records.record_name(stage))
    assert sidecar['records'] == len(rows) and sidecar['tokenizer'] == tokenizer.fingerprint
    assert (sidecar['stage'], sidecar['seq_len'], sidecar['seed']) == (stage, 384, 7)
    assert sidecar['tokens'] > 0 and sidecar['dropped'] == {}
    assert len(sidecar['sources']) == 7
  classes = made['cpt']['loss_mask_classes']
  assert set(classes) == {'terminal', 'mcp'}
  turns = sum(len(t.turns) + 1 for t in _kept(folders, 'cpt')) - made['cpt']['turns_cut']
  assert sum(sum(counts.values()) for counts in classes.values()) == turns
  assert classes['terminal']['echo'] == 4


def test_the_dataset_card_counts_what_is_there(prepared):
  out, made = prepared
  with open(os.path.join(out, dataset_card.FILE), encoding='utf-8') as file:
    text = file.read()
  for domain in ('mcp', 'terminal'):
    assert f'\n- {domain}: {"; ".join(dataset_card.LICENCES[domain])}\n' in text
  lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
  for stage, sidecar in made.items():
    name = records.record_name(stage)
    examples = sum(int(cells[3].replace(',', '')) for cells in lines
                   if len(cells) == 4 and cells[0] == name and cells[1] in ('mcp', 'terminal'))
    assert examples == sum(sidecar['examples'].values()) > 0
    longest = max(lengths['longest'] for lengths in sidecar['token_lengths'].values())
    assert longest == max(map(_longest, _records(out, name)))


def _longest(record) -> int:
  """Tokens of the longest example in a record of any stage."""
  if 'segment_ids' in record:
    return int(np.bincount(record['segment_ids'])[1:].max())
  if 'dialogues' in record:
    return max(len(dialogue['tokens']) for dialogue in record['dialogues'])
  return len(record['prompt'])


def test_sft_candidates_differ_in_their_thoughts_alone(prepared):
  out, _ = prepared
  tokenizer = Tokenizer.load(os.path.join(out, prepare.VOCABULARY_FILE))
  for record in _records(out, 'sft_candidates'):
    texts = [tokenizer.decode(dialogue['tokens']) for dialogue in record['dialogues']]
    assert len({re.sub('<think>.*?</think>', '', text, flags=re.DOTALL) for text in texts}) == 1
    assert len(texts) == 3 and texts[0].count(END_PREDICTED) == record['turns']
    for dialogue in record['dialogues']:
      assert len(dialogue['tokens']) == len(dialogue['loss_weights']) <= 384
      said = tokenizer.decode(dialogue['tokens'][dialogue['loss_weights'] > 0])
      assert said.count(END_PREDICTED) == record['turns'] and said.endswith(IM_END)


def test_rl_records_keep_the_truth(prepared, folders):
  out, _ = prepared
  by_task = {}
  for made in _kept(folders, 'rl'):
    turns = (*made.turns, made.verification)
    by_task.setdefault(made.task.id, []).append(
        [(turn.action, turn.observation, turn.changed_state) for turn in turns])
  for record in _records(out, 'rl'):
    found = (record['action'], record['observation'], record['changed_state'])
    assert any(found in turns[record['turn']:][:1] for turns in by_task[record['id']])
    assert record['runtime_metadata'].shape == (0, 2)


def test_the_loader_reads_what_was_prepared(prepared):
  out, made = prepared
  batches = data.batches(
      records.records_path(out, 'cpt'), 8, seed=0, tokenizer=made['cpt']['tokenizer'], seq_len=384)
  batch = batches(3)
  assert batch['tokens'].shape == (8, 384)
  assert (batch['loss_weights'][batch['positions'] == 0] == 0).all()
  assert len(data.batches(records.records_path(out, 'rl'), 4, seed=0)(0)) == 4


def test_validation_tasks_make_validation_records_alone(prepared, folders):
  out, _ = prepared
  made = prepare.prepare(folders, out, ['cpt', 'rl'], split='validation', **_SETTINGS)
  expected = collections.Counter(t.task.id for t in _kept(folders, 'cpt', 'validation'))
  assert collections.Counter(
      name for r in _records(out, 'cpt_validation') for name in r['ids']) == expected
  assert collections.Counter(r['id'] for r in _records(out, 'rl_validation')) == expected
  assert not made['cpt']['knowledge']


def _bytes(out):
  """name -> content of every file but the card, which counts what other tests put there too."""
  names = [f for f in os.listdir(out)
           if os.path.isfile(os.path.join(out, f)) and f != dataset_card.FILE]
  found = {}
  for name in names:
    with open(os.path.join(out, name), 'rb') as file:
      found[name] = file.read()
  return found


def test_same_input_and_seed_same_bytes(prepared, folders, tmp_path):
  out, _ = prepared
  copy = shutil.copytree(folders[0], tmp_path / 'elsewhere')
  prepare.prepare([str(copy)], str(tmp_path / 'out'), **_SETTINGS)
  again = _bytes(tmp_path / 'out')
  assert again == {name: content for name, content in _bytes(out).items() if name in again}
  other = prepare.prepare([str(copy)], str(tmp_path / 'out'), ['rl'], **{**_SETTINGS, 'seed': 8})
  assert other['rl']['seed'] == 8
  assert _bytes(tmp_path / 'out')['rl.array_record'] != again['rl.array_record']


def test_a_second_call_changes_no_file(prepared, folders):
  out, made = prepared
  times = {name: os.stat(os.path.join(out, name)).st_mtime_ns for name in os.listdir(out)}
  assert prepare.prepare(folders, out, **_SETTINGS) == made
  assert times == {name: os.stat(os.path.join(out, name)).st_mtime_ns for name in os.listdir(out)}


def test_without_the_mask_every_prediction_token_counts(folders, tmp_path, prepared):
  out, made = prepared
  plain = prepare.prepare(
      folders, str(tmp_path), ['cpt'], vocabulary_path=os.path.join(out, prepare.VOCABULARY_FILE),
      switches=Switches(loss_mask=False), **_SETTINGS)
  assert plain['cpt']['tokens'] == made['cpt']['tokens']
  assert plain['cpt']['loss_tokens'] > made['cpt']['loss_tokens']
  assert not os.path.exists(tmp_path / prepare.VOCABULARY_FILE)


def _prepare_again(folders, prepared, out, stages, switches=DEFAULT, **settings):
  """With the vocabulary of `prepared`; returns the sidecars."""
  path = os.path.join(prepared[0], prepare.VOCABULARY_FILE)
  return prepare.prepare(folders, str(out), stages, vocabulary_path=path, switches=switches,
                         **{**_SETTINGS, **settings})


def test_rl_records_of_all_turns(prepared, folders, tmp_path):
  made = _prepare_again(folders, prepared, tmp_path, ['rl'], Switches(rl_turns='all'))
  every = _records(str(tmp_path), 'rl')
  assert made['rl']['rl_turns'] == 'all' and made['rl']['records'] == len(every)
  assert len(every) > made['rl']['examples']['terminal'] + made['rl']['examples']['mcp']
  by_key = {}
  for record in every:
    by_key.setdefault((record['id'], record['turn']), []).append(record)
  for one in _records(prepared[0], 'rl'):  # each of those that are drawn by default is there
    same = [r for r in by_key[one['id'], one['turn']] if r['action'] == one['action']
            and r['observation'] == one['observation']
            and r['prompt'].tolist() == one['prompt'].tolist()]
    assert same and same[0]['runtime_metadata'].shape == (0, 2)
  longest = max(len(t.turns) + 1 for t in _kept(folders, 'rl'))
  assert max(record['turn'] for record in every) < longest


def test_runtime_metadata_stays_with_its_turn(tmp_path, trajectory, write_folder):
  made = trajectory(83, num_turns=5)
  turns = tuple(dataclasses.replace(turn, runtime_metadata=((0, 1), (1, 2))[:index % 3])
                for index, turn in enumerate(made.turns))
  write_folder(tmp_path / 'in', [dataclasses.replace(made, turns=turns), trajectory(5)])
  prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), ['rl'],
                  switches=Switches(rl_turns='all'), **_SETTINGS)
  found = {record['turn']: record['runtime_metadata'].tolist()
           for record in _records(str(tmp_path / 'out'), 'rl')}
  assert found == {0: [], 1: [[0, 1]], 2: [[0, 1], [1, 2]], 3: [], 4: [[0, 1]], 5: []}


def test_rl_judges_by_the_reference_of_evaluation(tmp_path, trajectory, write_folder):
  """Also where nobody could see the initial state: what was there is pre-existing content then."""
  made = []
  for domain, hidden in (('terminal', False), ('mcp', False), ('mcp', True), ('search', True)):
    one = trajectory(83 + hidden, domain, num_turns=4)
    turns = tuple(dataclasses.replace(turn, runtime_metadata=((0, 1),)[:index % 2])
                  for index, turn in enumerate(one.turns))
    task = dataclasses.replace(one.task, initial_state=None) if hidden else one.task
    made.append(dataclasses.replace(one, task=task, turns=turns))
  for index, one in enumerate(made):
    write_folder(tmp_path / str(index), [one], shards=1)
  prepare.prepare([tmp_path / str(index) for index in range(len(made))], str(tmp_path / 'out'),
                  ['rl'], switches=Switches(rl_turns='all'), **_SETTINGS)
  found = {(record['domain'], record['id'], record['turn'] + 1): stages.rl_reference(record)
           for record in _records(str(tmp_path / 'out'), 'rl')}
  expected = {(turn.domain, turn.task_id, turn.turn_index): turn.reference
              for turn in turn_examples(made)}
  assert len(expected) == 16 and expected == {key: found[key] for key in expected}
  assert {key[0] for key in expected if expected[key].hidden_state} == {'mcp', 'search'}
  assert any(name == 'pre-existing' for reference in expected.values()
             for _, _, name in reference.content_types)


@pytest.mark.parametrize(('switches', 'candidates'), [
    (Switches(sft_turns='one'), 3), (Switches(sft_turns='one', thinking=False), 1),
    (Switches(thinking=False, sft_templates=10), 1)])
def test_sft_records_by_switch(switches, candidates, prepared, folders, tmp_path):
  made = _prepare_again(folders, prepared, tmp_path, ['sft'], switches)
  assert {key: made['sft'][key] for key in dataclasses.asdict(switches)} == (
      dataclasses.asdict(switches))
  rows = _records(str(tmp_path), 'sft_candidates')
  assert {record['id'] for record in rows} == {t.task.id for t in _kept(folders, 'sft')}
  tokenizer = Tokenizer.load(os.path.join(prepared[0], prepare.VOCABULARY_FILE))
  thoughts = 0
  for record in rows:
    assert len(record['dialogues']) == candidates
    for dialogue in record['dialogues']:
      said = tokenizer.decode(dialogue['tokens'][dialogue['loss_weights'] > 0])
      assert said.count(END_PREDICTED) == record['turns']
      assert record['turns'] == 1 or switches.sft_turns == 'all'
      thoughts += said.count('<think>')
  assert (thoughts > 0) == switches.thinking


def test_full_prompts_need_longer_rows(prepared, folders, tmp_path):
  switches = Switches(prompts='full', sft_templates=10)
  made = _prepare_again(folders, prepared, tmp_path, ['rl'], switches)
  assert made['rl']['prompts'] == 'full'
  made = _prepare_again(folders, prepared, tmp_path / 'long', ['sft', 'cpt'], switches,
                        seq_len=4096)
  assert made['sft']['dropped'] == made['cpt']['dropped'] == {}
  tokenizer = Tokenizer.load(os.path.join(prepared[0], prepare.VOCABULARY_FILE))
  systems = {tokenizer.decode(r['dialogues'][0]['tokens']).split(IM_END)[0]
             for r in _records(str(tmp_path / 'long'), 'sft_candidates')}
  assert any('Specification for a simulation of' in system for system in systems)


def test_a_switch_that_is_turned_makes_the_records_anew(prepared, folders, tmp_path):
  def times():
    return os.stat(records.records_path(tmp_path, 'rl')).st_mtime_ns

  _prepare_again(folders, prepared, tmp_path, ['rl'])
  first = times()
  _prepare_again(folders, prepared, tmp_path, ['rl'])
  assert times() == first
  for switched in ({'switches': Switches(rl_turns='all')}, {'switches': Switches(prompts='full')},
                   {'switches': Switches(thinking=False)}, {'skip_retries': True}):
    before = times()
    _prepare_again(folders, prepared, tmp_path, ['rl'], **switched)
    assert times() != before


def test_what_filters_leave_out_is_in_the_sidecar_and_printed(tmp_path, trajectory, write_folder):
  made = trajectory(5)
  failed = Turn('cat x.txt', 'cat: x.txt: No such file or directory\n~$')
  comment = Turn('# think first', '~$')
  odd = dataclasses.replace(made, turns=(*made.turns, failed, failed, failed, comment))
  write_folder(tmp_path / 'in', [odd, trajectory(6), trajectory(7, num_turns=1)])
  run = subprocess.run(
      _command([tmp_path / 'in'], tmp_path / 'out', '--stages=cpt', '--skip_retries'),
      capture_output=True, text=True, timeout=120, check=True)
  sidecar = records.read_sidecar(records.records_path(tmp_path / 'out', 'cpt'))
  assert sidecar['left_out'] == {'fewer than 2 turns': 1}
  assert sidecar['skipped_turns'] == {'empty action': 1, 'retry cycle': 2}
  assert run.stdout.splitlines()[0] == (
      'left out {"trajectories": {"fewer than 2 turns": 1}, '
      '"turns": {"empty action": 1, "retry cycle": 2}}')
  turns = sum(sidecar['loss_mask_classes']['terminal'].values())
  assert turns == 2 * 5 + 1  # what is kept of both, checks included, and one failure


@pytest.mark.parametrize('arguments, message', [
    ({'stages': ['dpo']}, "unknown stage 'dpo'; known are cpt, sft, rl, agent"),
    ({'split': 'test'}, "split 'test': records are made of train and validation tasks only"),
])
def test_bad_arguments_are_said(arguments, message, folders, tmp_path):
  with pytest.raises(prepare.PrepareError, match=message):
    prepare.prepare(folders, str(tmp_path), **{**_SETTINGS, **arguments})


def test_a_stage_without_trajectories_is_said(tmp_path, trajectory, write_folder):
  write_folder(tmp_path / 'in', [trajectory(seed, policy='random') for seed in range(10)])
  message = "no example for stage 'agent' in split 'train' .* of the policy noisy_expert alone"
  with pytest.raises(prepare.PrepareError, match=message):
    prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), ['agent'], **_SETTINGS)
  with pytest.raises(prepare.PrepareError, match="no usable trajectory of split 'validation'"):
    prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), split='validation', **_SETTINGS)


def test_what_does_not_fit_is_dropped_and_counted(tmp_path, trajectory, write_folder):
  long = trajectory(5)
  long = Trajectory(
      long.task, long.policy, (Turn('cat big', 'word ' * 500), *long.turns), long.submission)
  write_folder(tmp_path / 'in', [long, trajectory(6)])
  made = prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), ['cpt'], **_SETTINGS)
  assert made['cpt']['dropped'] == {'longer than seq_len': 1}
  assert made['cpt']['examples']['terminal'] == 1 + len(knowledge.TEXTS['terminal'])


def _command(folders, out, *more):
  flags = ['--vocab_size=400', '--seq_len=384', '--seed=7', *more]
  return [sys.executable, '-m', 'experiments.prepare_data',
          f'--trajectories={",".join(map(str, folders))}', f'--out={out}', *flags]


def _kill_when(folders, out, appears) -> None:
  """Starts the program and kills it as soon as a file like `appears` is there."""
  process = subprocess.Popen(
      _command(folders, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  deadline = time.monotonic() + 120
  while process.poll() is None and time.monotonic() < deadline:
    if any(appears in name for _, dirs, files in os.walk(out) for name in (*dirs, *files)):
      process.send_signal(signal.SIGKILL)
      break
    time.sleep(0.001)
  process.wait()
  assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(prepared, folders, tmp_path):
  out, _ = prepared
  for appears in ('incomplete', 'cpt.array_record'):
    _kill_when(folders, tmp_path, appears)
    for name in os.listdir(tmp_path):
      if name.endswith('.json') and not name.startswith('.'):
        path = str(tmp_path / name).replace('.json', records.SUFFIX)
        assert len(list(records.read_records(path))) == records.read_sidecar(path)['records']
  subprocess.run(_command(folders, tmp_path), check=True, capture_output=True, timeout=120)
  again = {name: content for name, content in _bytes(tmp_path).items() if name[0] != '.'}
  assert again == {name: content for name, content in _bytes(out).items() if name in again}
  assert len(again) == 9  # records and sidecar of four stages, and the vocabulary
  assert not [name for name in os.listdir(tmp_path) if 'partial' in name]


def test_the_program_says_what_is_wrong_in_one_sentence(tmp_path, trajectory, write_folder):
  write_folder(tmp_path, [trajectory(1), trajectory(9, split='test')], shards=1)
  run = subprocess.run(
      _command([tmp_path], tmp_path / 'out'), capture_output=True, text=True, timeout=120)
  assert run.returncode == 1 and not run.stdout
  last = run.stderr.strip().splitlines()[-1]
  assert last.startswith(f'prepare_data: {tmp_path}/shard-00000-of-00001.jsonl:2: task ')
  assert 'Traceback' not in run.stderr and 'cuda' not in run.stderr.lower()


# ---- no test task reaches training ----


def _fingerprint(task) -> str:
  return hashlib.sha256(f'{task.instruction}\n{task.initial_state}'.encode()).hexdigest()


def _prove_no_test_task(out, domain: str) -> None:
  """Every record names a train task of the registry that no test task equals."""
  test = list(registry.tasks(domain, 'test', 400)) + list(registry.tasks(domain, 'test', 400, 1))
  test_ids, test_fingerprints = {t.id for t in test}, {_fingerprint(t) for t in test}
  tokenizer = Tokenizer.load(os.path.join(out, prepare.VOCABULARY_FILE))
  for stage in pools.STAGES:
    rows = _records(out, records.record_name(stage))
    named = [(name, tokens) for r in rows if 'ids' in r for name, tokens, _ in _segments(r)]
    named += [(r['id'], r['prompt'] if 'prompt' in r else dialogue['tokens'])
              for r in rows if 'id' in r for dialogue in r.get('dialogues', ({},))]
    named = [(name, tokens) for name, tokens in named if '/knowledge/' not in name]
    assert named
    for name, tokens in named:
      _, family, seed = name.split('/')
      task = registry.make_task(domain, family, int(seed))
      assert task.split == 'train' and family not in registry.held_out(domain)
      assert name not in test_ids and _fingerprint(task) not in test_fingerprints
      if stage != 'agent':
        assert registry.stage_pool(task) == pools.pool_of_stage(stage)
      # The record really is of the task that it names.
      system = tokenizer.decode(tokens).split(IM_END)[0]
      told = task.instruction if stage == 'agent' else task.initial_state
      assert told is None or told in system  # some tool servers show no state


def _scripted(task) -> Trajectory:
  """An expert's episode with made-up observations: what is trained on is up to the task alone."""
  actions = [*registry.expert_plan(task)[:-1], 'ls', 'pwd']
  turns = tuple(Turn(action, f'done {i}\n~$') for i, action in enumerate(actions))
  return Trajectory(task, 'noisy_expert', turns, '', None, True)


@pytest.mark.parametrize('domain', ['terminal', 'mcp'])
def test_no_test_task_reached_training_by_hand(domain, tmp_path):
  tasks = list(registry.tasks(domain, 'train', 200))
  write_jsonl(tmp_path / 'in' / 'shard-0.jsonl', [_scripted(task) for task in tasks])
  prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), **_SETTINGS)
  _prove_no_test_task(str(tmp_path / 'out'), domain)


@pytest.mark.requires('bwrap')
def test_really_collected_trajectories_end_to_end(tmp_path):
  made = []
  with registry.make_environment('terminal') as environment:
    for task in registry.tasks('terminal', 'train', 60, seed=3):
      policy = experts.make_policy('noisy_expert', task)
      made.append(episode.run_episode(environment, task, policy, mark_changed_state=True))
  assert not any(t.error for t in made)
  write_jsonl(tmp_path / 'in' / 'shard-0.jsonl', made)
  sidecars = prepare.prepare([tmp_path / 'in'], str(tmp_path / 'out'), **_SETTINGS)
  _prove_no_test_task(str(tmp_path / 'out'), 'terminal')
  for stage in ('cpt', 'agent'):
    path = records.records_path(tmp_path / 'out', stage)
    batch = data.batches(path, 2, 0, tokenizer=sidecars[stage]['tokenizer'], seq_len=384)(0)
    assert np.isin(batch['loss_weights'], (0, 1)).all() and batch['loss_weights'].any()
    assert set(batch) == set(packing.FIELDS)


def test_written_traces_take_the_place_of_programmatic_ones(tmp_path, folders):
  kept = _kept(folders, 'sft')
  lines = [{'key': sources.key_of(t), 'domain': t.task.domain, 'turns': [
      {'candidates': ['cedar tiger'], 'scores': [5.0], 'chosen': 0}] * (len(t.turns) + 1)}
      for t in kept[::2]]
  path = tmp_path / 'traces.jsonl'
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  out = str(tmp_path / 'out')
  plain = prepare.prepare(folders, out, ['sft'], **_SETTINGS)['sft']
  made = prepare.prepare(folders, out, ['sft'], traces=str(path), **_SETTINGS)['sft']
  assert plain['traces'] is None and made['traces']
  assert made['dropped']['no written reasoning traces'] == len(kept) - len(lines)
  tokenizer = Tokenizer.load(out)
  records_made = _records(out, 'sft_candidates')
  assert records_made
  for record in records_made:
    dialogue, = record['dialogues']
    assert tokenizer.decode(dialogue['tokens'].tolist()).count('cedar tiger') == record['turns']
  turns = sum(len(line['turns']) for line in lines)
  assert made['written_traces'] == {'kept': turns, 'not_good_enough': 0, 'too_long': 0}
  assert 'written_traces' not in plain
  first = lines[0]['turns'][0]
  lines[0]['turns'][:2] = [{**first, 'candidates': ['cedar ' * 500]}, {**first, 'chosen': None}]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  made = prepare.prepare(folders, out, ['sft'], traces=str(path), **_SETTINGS)['sft']
  assert made['written_traces'] == {'kept': turns - 2, 'not_good_enough': 1, 'too_long': 1}
  path.write_text(json.dumps({'key': 'of another', 'domain': 'mcp', 'turns': []}) + '\n')
  with pytest.raises(traces.TracesError, match='with the same --skip_retries'):
    prepare.prepare(folders, out, ['sft'], traces=str(path), **_SETTINGS)
