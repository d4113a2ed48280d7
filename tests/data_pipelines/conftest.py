"""Hand-made trajectories that follow the schema."""

import functools
import os

import pytest

from aw_jax.tokenizer import Tokenizer
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier, write_jsonl

_WORDS = ('apple', 'river', 'stone', 'cloud', 'amber', 'maple', 'ocean', 'tiger', 'lemon', 'cedar')


def _word(seed: int, place: int) -> str:
  return _WORDS[(seed * 7 + place * 3) % len(_WORDS)]


def _state(files: dict[str, list[str]]) -> str:
  return '\n'.join(line for name in sorted(files) for line in (f'== {name}', *files[name]))


def _task(seed: int, domain: str, split: str, max_turns: int, initial_state: str) -> Task:
  return Task(
      id=f'{domain}/copy/{seed}', domain=domain, family='copy', split=split, seed=seed,
      instruction=f'Write {_word(seed, 5)} to copy.txt, number {seed}.',
      initial_state=initial_state, setup={}, max_turns=max_turns,
      verifier=Verifier('command', f'{_word(seed, 5)}\n~$', 'cat copy.txt'))


def make_trajectory(
    seed: int, domain: str = 'terminal', split: str = 'train', policy: str = 'noisy_expert',
    num_turns: int = 4, error: str = '') -> Trajectory:
  """An episode that reads two files, writes a third, and reads that again, over and over."""
  files = {f'{_word(seed, 1)}.txt': [_word(seed, 2), _word(seed, 3)], 'notes.txt': [str(seed)]}
  task = _task(seed, domain, split, num_turns, _state(files))
  turns = []
  for number in range(num_turns):
    name = sorted(files)[number % len(files)]
    if number % 3 == 2:
      files = {**files, 'copy.txt': [*files.get('copy.txt', []), _word(seed, number)]}
      action, printed = f'echo {_word(seed, number)} >> copy.txt', ''
    else:
      action, printed = f'cat {name}', ''.join(f'{line}\n' for line in files[name])
    turns.append(Turn(action, f'{printed}~$', _state(files), changed_state=name == 'copy.txt'))
  verification = None if error else Turn('cat copy.txt', f'{_word(seed, 5)}\n~$')
  return Trajectory(
      task, policy, tuple(turns), '', verification, None if error else True, error)


@pytest.fixture(scope='session')
def trajectory():
  """`make_trajectory`, for tests in need of one episode of their own making."""
  return make_trajectory


@pytest.fixture(scope='session')
def write_folder():
  """Writes trajectories as a collector does: (folder, trajectories, shards)."""
  def write(folder, trajectories, shards: int = 2):
    trajectories = list(trajectories)
    for shard in range(shards):
      path = os.path.join(folder, f'shard-{shard:05d}-of-{shards:05d}.jsonl')
      write_jsonl(path, trajectories[shard::shards])
  return write


@functools.cache
def _tokenizer() -> Tokenizer:
  texts = []
  for seed in range(30):
    made = make_trajectory(seed)
    texts += [made.task.instruction, made.task.initial_state]
    texts += [text for turn in made.turns for text in (turn.action, turn.observation)]
  return Tokenizer.train(texts, 400)


@pytest.fixture(scope='session')
def tokenizer() -> Tokenizer:
  """A small vocabulary of the hand-made trajectories."""
  return _tokenizer()
