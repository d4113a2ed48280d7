"""The baselines on hand-made trajectories."""

import random

import numpy as np
import pytest

from aw_jax.evaluation.baselines import CopyLastObservation, NearestAction
from aw_jax.evaluation.examples import turn_examples
from aw_jax.evaluation.fidelity import evaluate
from aw_jax.evaluation.ngram import NGram, _frame
from aw_jax.tokenizer import Tokenizer
from aw_jax.trajectories import Task, Trajectory, Turn, Verifier

WORDS = 'amber birch cedar delta ember fjord grove heron inlet jetty knoll larch'.split()


def trajectory(state, *turns, domain='terminal', number=0):
  task = Task(f'{domain}/made/{number}', domain, 'made', 'train', number, 'Do it.', state, {},
              Verifier('answer', ''), 8)
  return Trajectory(task, 'expert', tuple(Turn(*pair) for pair in turns))


def episode(seed):
  """A file is read, a directory made, the file read again."""
  rng = random.Random(seed)
  name, content = f'{rng.choice(WORDS)}.txt', '\n'.join(rng.sample(WORDS, 3))
  cat = (f'cat {name}', f'{content}\n~$')
  return trajectory(f'== {name}', cat, (f'mkdir {rng.choice(WORDS)}', '~$'), cat,
                    ('cat none', 'cat: none: No such file or directory\n~$'), number=seed)


def examples_of(*trajectories):
  return turn_examples(trajectories, held_out_families=())


TRAIN = [episode(seed) for seed in range(300)]
TEST = examples_of(*(episode(seed) for seed in range(1000, 1010)))


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train(
    [text for t in TRAIN for turn in t.turns for text in (turn.action, turn.observation)], 400)


@pytest.fixture(scope='module')
def ngram(tokenizer):
  return NGram(tokenizer, TRAIN)


def test_copy_last_observation():
  predict = CopyLastObservation([
    trajectory('', ('a', 'usual\n~$')), trajectory('', ('b', 'usual\n~$'), ('a', 'x')),
    trajectory('', ('c', 'rare\n~$')), trajectory('', ('c', 'ok'), domain='mcp'),
    trajectory('')])
  first, second = examples_of(trajectory('', ('a', '?'), ('b', '?')))
  assert predict([first, second]) == ['usual\n~$', '?']
  assert predict(examples_of(trajectory('', ('a', '?'), domain='mcp'))) == ['ok']
  assert predict(examples_of(trajectory('', ('a', '?'), domain='search'))) == [None]


def test_nearest_action_then_nearest_state():
  predict = NearestAction([
    trajectory('== a.txt\nred', ('cat a.txt', 'red\n~$'), ('rm a.txt', '~$')),
    trajectory('== a.txt\nblue sky', ('cat a.txt', 'blue sky\n~$')),
    trajectory('== b.txt\nblue', ('cat b.txt', 'blue\n~$'))])
  ask = lambda state, action: predict(examples_of(trajectory(state, (action, '?'))))
  assert ask('', 'rm b.txt') == ['~$']
  assert ask('== a.txt\nblue sky', 'cat a.txt') == ['blue sky\n~$']
  assert ask('== a.txt\nred', 'cat a.txt') == ['red\n~$']
  assert ask('', 'cat b.txt now') == ['blue\n~$']
  assert ask('', 'unheard-of') != [None]
  assert predict(examples_of(trajectory('', ('a', '?'), domain='mcp'))) == [None]


def test_nearest_action_sees_what_happened_before():
  predict = NearestAction([
    trajectory('', ('ls', 'old.txt\n~$')),
    trajectory('', ('touch new.txt', '~$'), ('ls', 'new.txt\nold.txt\n~$'))])
  example = examples_of(trajectory('', ('touch new.txt', '~$'), ('ls', '?')))[1]
  assert predict([example]) == ['new.txt\nold.txt\n~$']


def test_ngram_probabilities_sum_to_one(ngram, tokenizer):
  for example in [*TEST[:6], *examples_of(trajectory(None, ('never {seen}', 'ünheard\n~$')))]:
    target = tokenizer.encode(example.observation)
    for length in (0, 1, len(target) // 2, len(target)):
      probabilities = ngram.distribution(example, target[:length])
      assert probabilities.shape == (tokenizer.vocab_size,)
      assert probabilities.min() > 0
      assert probabilities.sum() == pytest.approx(1, abs=1e-9)


def test_ngram_nll_is_that_of_its_distribution(ngram, tokenizer):
  example = TEST[0]
  target = [*tokenizer.encode(example.observation), tokenizer.special('</predicted_observation>')]
  steps = [ngram.distribution(example, target[:i])[token] for i, token in enumerate(target)]
  found = ngram.nll([example])
  assert found.mean == pytest.approx(-np.log(steps).mean()) and found.n == 1


def test_ngram_learns_the_commands_and_copies_from_the_dialogue(ngram):
  report = evaluate(ngram, TEST, resamples=20)
  right = {turn: report.get('exact_match', subset=f'turn_{turn}').mean for turn in (1, 2, 3, 4)}
  assert right[2] == right[4] == 1  # mkdir is silent, the error is always the same
  assert right[1] == 0 and right[3] >= 0.8  # nobody can know the file; later it was read before
  nearest = evaluate(NearestAction(TRAIN), TEST, resamples=20)
  assert report.get('exact_match').mean > nearest.get('exact_match').mean


def test_ngram_is_surer_of_the_truth_than_of_noise(ngram):
  noise = examples_of(trajectory('', ('cat x', 'zq vjw\nkxx\n~$')))
  assert ngram.nll(TEST).mean < 0.5 < ngram.nll(noise).mean


def test_ngram_without_tuning_data(tokenizer):
  predict = NGram(tokenizer, TRAIN[:5])
  example = TEST[0]
  assert predict.distribution(example, []).sum() == pytest.approx(1)
  assert len(predict(TEST[:2])) == 2


def test_ngram_stops(tokenizer):
  predict = NGram(tokenizer, TRAIN, max_tokens=3)
  assert all(len(tokenizer.encode(text)) <= 4 for text in predict(TEST[:4]))


@pytest.mark.parametrize('action, frame', [
  ('ls', 'ls'), ('sort -r a.txt | head -n 2', 'sort -r | head -n'),
  ('cat a>b', 'cat >'), ('echo x >> y && ls', 'echo >> && ls'), ('', ''),
  ('{"name": "get", "arguments": {"b": 1, "a": 2}}', 'get a b'), ('{"name"', 'not a call'),
  ('{"name": "get"}', 'get'), ('{"name": "get", "arguments": 3}', 'not a call')])
def test_frame(action, frame):
  assert _frame(action) == frame
