"""Bad input to the commands gets one clear sentence that names file, line, field and remedy."""

import dataclasses
import os
import pathlib
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from aw_jax import trajectories
from aw_jax.models.config import ModelConfig, ModelConfigError
from aw_jax.models.decoder import init_params
from aw_jax.tokenizer import Tokenizer
from aw_jax.training.checkpoints import Checkpointer, CheckpointError, load_params
from aw_jax.training.state import TrainState
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier

ROOT = pathlib.Path(__file__).resolve().parents[1]


def refusal(*arguments: str, **environment: str) -> str:
  """The one line with which a command refuses, on stderr, after what it may have logged."""
  run = subprocess.run(
    [sys.executable, '-m', *arguments], cwd=ROOT, env=os.environ | environment,
    capture_output=True, text=True, timeout=180, check=False)
  assert run.returncode not in (0, -9), run.stdout
  assert 'Traceback' not in run.stderr, run.stderr
  return run.stderr


def trajectory_folder(folder: pathlib.Path) -> pathlib.Path:
  """A folder with one good record and one torn in the middle."""
  task = Task(
    id='terminal/count/10', domain='terminal', family='count', split='train', seed=10,
    instruction='Count.', initial_state='', setup={}, verifier=Verifier('answer', '1'), max_turns=3)
  folder.mkdir()
  path = folder / 'shard-00000-of-00001.jsonl'
  trajectories.write_jsonl(path, [Trajectory(task, 'expert', (Turn('ls', 'a\n'),), '1')] * 2)
  path.write_bytes(path.read_bytes()[:-40])
  return path


def test_torn_line_stops_the_preparation_and_leaves_the_data(tmp_path):
  path = trajectory_folder(tmp_path / 'terminal')
  before = path.read_bytes()
  message = refusal(
    'experiments.prepare_data', f'--trajectories={path.parent}', f'--out={tmp_path / "records"}')
  assert f'{path}:2: ' in message and 'torn' in message
  assert path.read_bytes() == before


def test_missing_folder_is_named(tmp_path):
  message = refusal(
    'experiments.prepare_data', f'--trajectories={tmp_path / "none"}', f'--out={tmp_path}/records')
  assert str(tmp_path / 'none') in message


def test_missing_program_says_how_to_install_it(tmp_path):
  message = refusal(
    'experiments.collect', '--domain=terminal', '--episodes=1', f'--out={tmp_path / "out"}',
    PATH=str(tmp_path))
  assert 'bwrap' in message and 'apt-get install -y bubblewrap' in message


@pytest.mark.requires('bwrap')
@pytest.mark.parametrize('room', [0, 5])
def test_full_disk_is_said_and_costs_no_episode(tmp_path, room):
  """A collection on a disk that is full at once (room for 0 pages of 4 KiB), or after a while."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  collect = (f'{sys.executable} -m experiments.collect --domain=terminal --episodes=6 '
             f'--episodes_per_shard=2 --workers=1 --out={disk}/out')
  pages = 256
  script = (f'head -c {(pages - room) * 4096} /dev/zero > {disk}/ballast; {collect}; echo rc $?; '
            f'rm {disk}/ballast; {collect} && cp -r {disk}/out {tmp_path}/copy')
  privileges = ['--cap-add', 'ALL'] if os.geteuid() == 0 else []  # to start sandboxes inside
  run = subprocess.run(
    ['bwrap', '--dev-bind', '/', '/', *privileges, '--size', str(pages * 4096), '--tmpfs',
     str(disk), 'bash', '-c', script],
    cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
  assert run.returncode == 0 and 'rc 1' in run.stdout, run.stderr
  assert 'Traceback' not in run.stderr
  said, = [line for line in run.stderr.split('\n') if line.startswith('collect: ')]
  assert said == (
    f'collect: cannot write to {disk}/out: No space left on device; mend that and run the '
    'same command again, which keeps the shards that are whole, or choose another directory')
  shards = sorted((tmp_path / 'copy').glob('shard-*'))
  episodes = [one for path in shards for one in trajectories.read_jsonl(path, 'terminal')]
  assert len(shards) == 3 and len({one.task.id for one in episodes}) == 6
  assert not any(one.error for one in episodes)


@pytest.mark.requires('bwrap')
def test_a_card_that_cannot_be_written_is_said(tmp_path):
  (tmp_path / 'dataset_card.md').mkdir()
  message = refusal(
    'experiments.collect', '--domain=terminal', '--episodes=1', f'--out={tmp_path}')
  assert f'collect: cannot write to {tmp_path}: Is a directory; mend that' in message
  assert len(list(tmp_path.glob('shard-*'))) == 1


def test_unknown_domain_lists_those_there_are(tmp_path):
  message = refusal('experiments.collect', '--domain=shell', f'--out={tmp_path / "out"}')
  assert "unknown domain 'shell'" in message and 'terminal' in message


@pytest.mark.parametrize('command', ['quickstart', 'train', 'train_rl', 'train_agent'])
def test_config_key_that_does_not_exist_is_named(tmp_path, command):
  message = refusal(
    f'experiments.{command}', f'--workdir={tmp_path / "run"}', '--config=configs/base.py',
    '--config.model.width=3', '--config.model.widht=3')
  assert '--config.model.widht: there is no \'widht\' there. Did you mean "width"' in message
  assert not (tmp_path / 'run').exists()


def test_config_file_that_does_not_exist_is_named(tmp_path):
  message = refusal(
    'experiments.train', f'--workdir={tmp_path / "run"}', '--config=configs/none.py')
  assert '--config: no such file: configs/none.py' in message


def test_config_value_of_another_type_is_named(tmp_path):
  message = refusal('experiments.train', f'--workdir={tmp_path / "run"}', '--config.cpt.steps=many')
  assert 'cpt.steps' in message and 'many' in message


MODEL = ModelConfig(vocab_size=300, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp_width=8)


def vocabulary(word: str = 'hello') -> Tokenizer:
  return Tokenizer.train([f'{word} {i} world\n' for i in range(50)], vocab_size=300)


def test_model_field_that_does_not_exist_is_named():
  with pytest.raises(ModelConfigError, match=r'model\.widht: no such field; there are vocab_size'):
    ModelConfig.from_dict(MODEL.to_dict() | {'widht': 3})
  with pytest.raises(ModelConfigError, match=r'model\.width: missing'):
    ModelConfig.from_dict({'vocab_size': 3})


@pytest.mark.parametrize(('name', 'value'), [
  ('width', '8'), ('layers', 1.0), ('heads', True), ('rope_theta', None), ('qk_norm', 1),
  ('pattern', 'attention'), ('dtype', 16)])
def test_model_field_of_another_type_is_named(name, value):
  with pytest.raises(ModelConfigError, match=rf'model\.{name}: of type '):
    dataclasses.replace(MODEL, **{name: value})


def test_checkpoint_of_another_model_is_refused_and_kept(tmp_path):
  params = nn.unbox(init_params(MODEL, jax.random.key(0)))
  first = Checkpointer(tmp_path, MODEL, vocabulary())
  first.save(TrainState(jnp.int32(3), params, ()))
  first.close()
  other = ModelConfig.from_dict(MODEL.to_dict() | {'width': 16})
  with pytest.raises(CheckpointError, match=rf'{tmp_path}.*width = 8.*16'):
    Checkpointer(tmp_path, other, vocabulary())
  restored, config, _ = load_params(tmp_path)
  assert config == MODEL
  jax.tree.map(lambda a, b: (a == b).all() or pytest.fail('changed'), restored, params)


def test_checkpoint_of_another_vocabulary_is_refused(tmp_path):
  Checkpointer(tmp_path, MODEL, vocabulary()).close()
  with pytest.raises(CheckpointError, match='vocabulary'):
    Checkpointer(tmp_path, MODEL, vocabulary('other'))


def test_folder_without_a_checkpoint_is_named(tmp_path):
  with pytest.raises(CheckpointError, match=f'{tmp_path}.*train one first'):
    load_params(tmp_path)
  Checkpointer(tmp_path, MODEL, vocabulary()).close()
  with pytest.raises(CheckpointError, match=f'{tmp_path}: no finished step'):
    load_params(tmp_path)
