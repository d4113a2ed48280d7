"""What the commands do with their work directory: once, whole, and by one config."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from aw_jax.trajectories import TrajectoryError
from configs import base, smoke
from data_pipelines import records
from experiments import agent_stages, stages
from experiments.stages import StageError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def refusal(*arguments, **environment):
  """The one sentence with which a command refuses."""
  run = subprocess.run(
    [sys.executable, '-m', *arguments], cwd=ROOT, env=os.environ | environment,
    capture_output=True, text=True, timeout=180, check=False)
  assert run.returncode == 1 and 'Traceback' not in run.stderr, run.stderr
  return run.stderr.strip().splitlines()[-1]


def test_once_computes_once(tmp_path):
  calls = []

  def compute():
    calls.append(1)
    return {'found': [1.5, None]}

  path = tmp_path / 'evaluation' / 'x.json'
  for _ in range(2):
    assert stages.once(path, compute) == {'found': [1.5, None]}
  assert len(calls) == 1


def test_once_leaves_nothing_of_what_failed(tmp_path):
  def fail():
    raise RuntimeError('no')

  with pytest.raises(RuntimeError):
    stages.once(tmp_path / 'x.json', fail)
  with pytest.raises(TypeError):
    stages.once(tmp_path / 'x.json', lambda: object())
  assert list(tmp_path.iterdir()) == []
  assert stages.once(tmp_path / 'x.json', lambda: 3) == 3


def test_a_checkpoint_of_another_decoder_is_refused_by_field():
  config = base.get_config()
  params, model = stages.load_start(config, stages.BASE_CHECKPOINT)
  assert (model.width, model.dtype) == (config.model.width, 'bfloat16')
  config.model.dtype, config.model.remat = 'float32', 'full'  # how it runs is the config's to say
  assert stages.load_start(config, stages.BASE_CHECKPOINT)[1] == dataclasses.replace(
    model, dtype='float32', remat='full')
  config.model.layers = 7
  with pytest.raises(StageError, match=r'config.model.layers is 7, but .*base has \d; .*scratch'):
    stages.load_start(config, stages.BASE_CHECKPOINT)


def test_what_cannot_be_trained_is_refused_before_any_work(tmp_path):
  message = refusal('experiments.train', '--config=configs/base.py', f'--workdir={tmp_path}')
  assert message == ("train: config.stage: 'cpt' or 'sft', is None; use configs/cpt.py or sft.py")
  config = base.get_config()
  config.domains = ('terminal', 'moon')
  with pytest.raises(StageError, match="'moon' is not one of mcp, terminal"):
    stages.collect(config, str(tmp_path))
  with pytest.raises(StageError, match="rl: no checkpoint; train the stage 'rl' first"):
    stages.require_world_model(base.get_config(), str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_a_work_directory_belongs_to_one_config(tmp_path):
  config = base.get_config()
  stages.claim_workdir(config, str(tmp_path))
  stages.claim_workdir(base.get_config(), str(tmp_path))
  config.cpt.optimizer.peak_lr = 0.5
  with pytest.raises(StageError) as error:
    stages.claim_workdir(config, str(tmp_path))
  before = base.get_config().cpt.optimizer.peak_lr
  assert str(error.value) == (
    f'{tmp_path}: was made with config.cpt.optimizer.peak_lr = {before}, now it is 0.5; '
    'use another --workdir')
  assert json.loads((tmp_path / 'config.json').read_text()) == json.loads(
    base.get_config().to_json())


def test_what_a_config_is_run_on_may_change(tmp_path):
  config = base.get_config()
  stages.claim_workdir(config, str(tmp_path))
  config.cpt.mesh.data, config.agent.rl.mesh.fsdp, config.collect.workers = 4, 2, 7
  config.rl.parts = 2
  config.model.update({'remat': 'full', 'query_block': 64, 'cache_dtype': 'bfloat16'})
  stages.claim_workdir(config, str(tmp_path))
  config.model.dtype = 'float32'
  with pytest.raises(StageError, match='config.model.dtype'):
    stages.claim_workdir(config, str(tmp_path))


@pytest.mark.parametrize(('flags', 'message'), [
  (('--num_processes=2',), '--num_processes and --process_id need --coordinator=HOST:PORT'),
  (('--coordinator=127.0.0.1:80', '--num_processes=2', '--process_id=2'),
   '--coordinator=127.0.0.1:80 needs --num_processes and a --process_id below it, from 0')])
def test_flags_of_several_processes_belong_together(tmp_path, flags, message):
  assert message in refusal('experiments.train', f'--workdir={tmp_path / "run"}', *flags)
  assert not (tmp_path / 'run').exists()


def test_missing_stages_say_what_to_run_first(tmp_path):
  config = base.get_config()
  for stage, needed in (('sft', 'cpt'), ('rl', 'sft')):
    with pytest.raises(StageError, match=f"no checkpoint; train the stage '{needed}' first"):
      stages.train_stage(config, str(tmp_path), stage)
  config.init = str(tmp_path / 'none')
  with pytest.raises(StageError, match=r'no checkpoint in .*none; use --config.init=scratch'):
    stages.init_directory(config)
  config.agent.init = 'nothing'
  config.init = 'base'
  with pytest.raises(StageError, match="agent.init: 'world_model' or 'scratch', is 'nothing'"):
    agent_stages.imitate(config, str(tmp_path), 0)
  with pytest.raises(StageError, match="'dream' is not one of imagined, real, mixed"):
    with agent_stages.open_world(config, str(tmp_path), 'dream', None, None, 1):
      pass


def test_whole_records_need_no_episodes(tmp_path, monkeypatch):
  """Carried alone, and of this config; where there are episodes, they decide."""
  config = base.get_config()
  config.data.stages = ('cpt', 'sft')
  calls = []
  monkeypatch.setattr(stages, 'collect', lambda *_: calls.append('collect'))
  monkeypatch.setattr(stages, 'prepare', lambda *_: calls.append('prepare'))
  made = {'seed': 0, 'seq_len': 1024, **stages.data_switches(config)}
  for name in ('cpt', 'sft_candidates'):
    stages.ensure_data(config, str(tmp_path))
    assert calls == ['collect', 'prepare']
    calls.clear()
    records.write_records(stages.records_path(str(tmp_path), name), [{'id': 'a'}], made)
  stages.ensure_data(config, str(tmp_path))
  assert not calls
  config.data.loss_mask = False
  with pytest.raises(StageError, match='cpt.json: made with config.data.loss_mask = true, the '
                                       'config says false'):
    stages.ensure_data(config, str(tmp_path))
  (tmp_path / 'trajectories').mkdir()
  stages.ensure_data(config, str(tmp_path))
  assert calls == ['collect', 'prepare']


def test_records_of_rl_that_lack_what_could_be_known_are_refused(tmp_path):
  config = base.get_config()
  config.data.stages = ('rl',)
  made = {'stage': 'rl', 'seed': 0, 'seq_len': 1024, **stages.data_switches(config)}
  path = stages.records_path(str(tmp_path), 'rl')
  records.write_records(path, [{'id': 'a'}], made)
  with pytest.raises(StageError, match='rl.json: made before .* prepare the data anew'):
    stages.ensure_data(config, str(tmp_path))
  records.write_records(path, [{'id': 'a'}], {**made, 'version': records.RL_VERSION})
  stages.ensure_data(config, str(tmp_path))


def test_rl_samples_in_parts_where_a_model_judges():
  c = base.get_config().rl
  assert stages.sampling_parts(c, devices=2) == 1
  c.judge.model = 'grader'
  for prompts, parts in ((64, 4), (8, 4), (12, 3), (4, 2), (2, 1), (7, 1)):
    c.prompts = prompts
    assert stages.sampling_parts(c, devices=2) == parts
  c.parts = 7
  assert stages.sampling_parts(c, devices=2) == 7


def test_by_the_rule_alone_records_without_one_are_left_out(tmp_path):
  config, tokenizer = base.get_config(), stages.load_tokenizer(base.get_config(), str(tmp_path))
  for weight, kept in ((0.9, ['terminal', 'search']), (0.0, ['terminal'])):
    config.rl.rubric_weight = weight
    assert kept == [domain for domain in ('terminal', 'search') if stages.teaches(
      config, tokenizer, {'domain': domain, 'prompt': [1], 'observation': 'a'})]
  config.domains = ('search',)
  with pytest.raises(StageError, match='rl.rubric_weight: 0 is the rule alone, and search has'):
    stages.rl(config, str(tmp_path))


def test_task_batches_go_through_the_domains_without_repeating():
  tasks = [task for index in range(4)
           for task in agent_stages.task_batch(('terminal', 'mcp'), 'train', 4 * index, 4, seed=0)]
  assert [task.domain for task in tasks] == ['terminal', 'mcp'] * 8
  assert len({task.id for task in tasks}) == 16
  config = smoke.get_config()
  for split in ('test', 'validation'):
    config.evaluate.split = split
    held_out = agent_stages.held_out_tasks(config)
    assert {task.split for task in held_out} == {split}
    assert not {task.id for task in held_out} & {task.id for task in tasks}


def test_nothing_is_evaluated_on_what_was_trained_on(tmp_path):
  config = smoke.get_config()
  config.evaluate.split = 'train'
  with pytest.raises(StageError, match="evaluate.split: 'validation' or 'test', is 'train'"):
    stages.collect(config, str(tmp_path))
  assert not list(tmp_path.iterdir())


def episodes(workdir, *lines):
  """A folder of collected episodes with one shard."""
  folder = pathlib.Path(stages.trajectories_folder(str(workdir), 'terminal', 'train'))
  folder.mkdir(parents=True)
  path = folder / 'shard-00000-of-00001.jsonl'
  path.write_text(''.join(lines))
  return path


TASK = {
  'id': 'terminal/x/1', 'domain': 'terminal', 'family': 'x', 'split': 'train', 'seed': 1,
  'instruction': 'Do.', 'initial_state': '', 'setup': {}, 'max_turns': 3,
  'verifier': {'kind': 'answer', 'expected': '1'}}
GOOD = {'task': TASK, 'policy': 'expert', 'turns': [{'action': 'ls', 'observation': 'a'}]}


def line(value):
  return json.dumps(value) + '\n'


@pytest.mark.parametrize(('bad', 'message'), [
  ('{"task": {"id"\n', r':2: not JSON: .*column'),
  (json.dumps(GOOD)[:-5], ':2: not JSON: .*a torn line, without end; collect this file again'),
  (line({**GOOD, 'turns': [{'action': 'ls'}]}), r':2\.turns\[0\]\.observation: missing'),
  (line({**GOOD, 'turns': [{'action': ' ', 'observation': ''}]}), r':2\.turns\[0\]\.action: empty'),
  (line({**GOOD, 'task': {**TASK, 'domain': 'mcp'}}), r":2\.task\.domain: 'mcp' in a file of")])
def test_corrupt_episodes_are_named_by_file_line_and_field(tmp_path, bad, message):
  path = episodes(tmp_path, line(GOOD), bad)
  config = base.get_config()
  config.domains = ('terminal',)
  with pytest.raises(TrajectoryError, match=str(path) + message):
    stages.read_trajectories(config, str(tmp_path), 'train')
  assert path.read_text() == line(GOOD) + bad


def test_broken_episodes_are_left_out(tmp_path):
  episodes(tmp_path, line(GOOD), line({**GOOD, 'error': 'the sandbox died'}), line(GOOD))
  config = base.get_config()
  config.domains = ('terminal',)
  assert len(stages.read_trajectories(config, str(tmp_path), 'train')) == 2


def test_a_key_that_does_not_exist_is_one_sentence(tmp_path):
  message = refusal('experiments.train', f'--workdir={tmp_path / "run"}', '--config.cpt.stepz=3')
  assert message == (
    '--config.cpt.stepz: there is no \'stepz\' there. Did you mean "steps" instead of "stepz"? '
    'configs/base.py has all values.')
  assert not (tmp_path / 'run').exists()


def test_a_missing_bwrap_says_how_to_install_it(tmp_path):
  empty = tmp_path / 'bin'
  empty.mkdir()
  message = refusal('experiments.train', f'--workdir={tmp_path / "run"}', PATH=str(empty))
  assert message.startswith('train: ')
  assert 'bwrap' in message and 'apt-get install -y bubblewrap' in message
