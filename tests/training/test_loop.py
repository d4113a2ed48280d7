"""The one train loop: what it hands out, logs, saves, and when it stops."""

import concurrent.futures
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aw_jax.models.config import ModelConfig
from aw_jax.tokenizer import Tokenizer
from aw_jax.training.checkpoints import Checkpointer
from aw_jax.training.loop import DivergedError, LoopConfig, train
from aw_jax.training.metrics import JsonLinesWriter
from aw_jax.training.preemption import Preempted
from aw_jax.training.runner import read_metrics
from aw_jax.training.state import TrainState

MODEL = ModelConfig(vocab_size=300, width=8, layers=1, heads=2, kv_heads=1, head_dim=4, mlp_width=8)


@pytest.fixture(scope='module')
def tokenizer():
  return Tokenizer.train([f'hello {i} world\n' for i in range(50)], vocab_size=300)


class Run:
  """A state of one number, to which each step adds its batch; no model is needed."""

  def __init__(self, directory, tokenizer, loss_at=lambda step: 1.0, **lengths):
    self.directory, self.tokenizer, self.loss_at = directory, tokenizer, loss_at
    self.config = LoopConfig(
      **{'total_steps': 10, 'log_every': 3, 'checkpoint_every': 4, **lengths})
    self.asked: list[int] = []

  def batch_at(self, step, state):
    assert int(state.step) == step
    self.asked.append(step)
    return np.float32(step + 1), {'batch_size': 1.0}

  def step(self, state, batch):
    loss = jnp.float32(self.loss_at(int(state.step)))
    return TrainState(state.step + 1, state.params + batch * loss, ()), {'loss': loss}

  def __call__(self):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = TrainState(jnp.int32(0), jnp.float32(0), ())
    shardings = jax.tree.map(lambda _: sharding, state)
    self.checkpointer = Checkpointer(self.directory, MODEL, self.tokenizer)
    try:
      return train(self.config, state, shardings, self.step, self.batch_at, self.checkpointer,
                   lambda first: [JsonLinesWriter(self.directory / 'metrics.jsonl', first)])
    finally:
      if not isinstance(sys.exception(), Preempted):  # which has waited for what it saved
        self.checkpointer.wait()
      self.saved = self.checkpointer.latest_step()
      self.checkpointer.close()


def test_every_step_gets_its_own_batch_once(tmp_path, tokenizer):
  run = Run(tmp_path, tokenizer)
  state = run()
  assert run.asked == list(range(10)) and int(state.step) == 10
  assert float(state.params) == sum(range(1, 11))


def test_metrics_stand_at_the_interval_and_at_the_end(tmp_path, tokenizer):
  Run(tmp_path, tokenizer)()
  assert read_metrics(tmp_path) == [
    {'step': step, 'batch_size': 1.0, 'loss': 1.0} for step in (3, 6, 9, 10)]


def test_what_trainer_and_sampler_differ_in_is_logged_of_first_updates_alone(tmp_path, tokenizer):
  class Policy(Run):
    def step(self, state, batch):
      state, metrics = super().step(state, batch)
      return state, {**metrics, 'logprob_gap': state.params, 'entropy_estimate': state.params}

  Policy(tmp_path, tokenizer, total_steps=6, log_every=1, updates_per_batch=3)()
  found = read_metrics(tmp_path)
  assert [line['step'] for line in found if 'logprob_gap' in line] == [1, 4]
  assert all('entropy_estimate' in line for line in found) and len(found) == 6


def test_goes_on_from_the_newest_checkpoint(tmp_path, tokenizer):
  interrupted = Run(tmp_path, tokenizer)

  def stop(step, state):
    if step == 9:
      raise KeyboardInterrupt
    return Run.batch_at(interrupted, step, state)

  interrupted.batch_at = stop
  with pytest.raises(KeyboardInterrupt):
    interrupted()
  assert interrupted.saved == 8
  again = Run(tmp_path, tokenizer)
  state = again()
  assert again.asked == [8, 9] and float(state.params) == sum(range(1, 11))
  assert [line['step'] for line in read_metrics(tmp_path)] == [3, 6, 9, 10]


def test_a_finished_run_does_nothing(tmp_path, tokenizer):
  Run(tmp_path, tokenizer)()
  again = Run(tmp_path, tokenizer)
  assert float(again().params) == sum(range(1, 11)) and again.asked == []


def terminated_in(run, *steps):
  """`run`, which is sent SIGTERM while it waits for the batches of these steps."""

  def batch_at(step, state):
    if step in steps:
      signal.raise_signal(signal.SIGTERM)
    return Run.batch_at(run, step, state)

  run.batch_at = batch_at
  return run


@pytest.mark.parametrize(
  ('sent', 'updates', 'saved'), [(4, 1, 5), (4, 4, 8), (8, 4, 10), (9, 1, 10)])
def test_sigterm_saves_as_soon_as_it_may(tmp_path, tokenizer, sent, updates, saved):
  """Within the updates of one batch no run could go on as if unbroken; at its end it may stop."""
  handler = signal.getsignal(signal.SIGTERM)
  run = terminated_in(Run(tmp_path, tokenizer, updates_per_batch=updates), sent)
  with pytest.raises(Preempted, match=f'^train: ended by SIGTERM, step {saved} of 10 is saved; the '
                     'same command goes on from there$'):
    run()
  assert run.saved == saved and signal.getsignal(signal.SIGTERM) == handler
  again = Run(tmp_path, tokenizer)
  assert float(again().params) == sum(range(1, 11)) and again.asked == list(range(saved, 10))
  assert [line['step'] for line in read_metrics(tmp_path)] == [3, 6, 9, 10]


def test_a_second_sigterm_is_handled_as_before_the_run(tmp_path, tokenizer):
  handled = []
  handler = signal.signal(signal.SIGTERM, lambda *_: handled.append('second'))
  try:
    with pytest.raises(Preempted, match='step 8'):
      terminated_in(Run(tmp_path, tokenizer, updates_per_batch=4), 4, 5)()
  finally:
    signal.signal(signal.SIGTERM, handler)
  assert handled == ['second']


def test_in_another_thread_signals_are_left_alone(tmp_path, tokenizer):
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    assert float(pool.submit(Run(tmp_path, tokenizer)).result().params) == sum(range(1, 11))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number_aborts_and_names_the_steps(tmp_path, tokenizer, value):
  run = _sticky(Run(tmp_path, tokenizer, loss_at=lambda step: value if step == 7 else 1.0,
                    checkpoint_every=100))
  with pytest.raises(DivergedError, match=rf'train: loss is {value} at step 9; it was finite at '
                     'step 6.*look at batches 6 to 8'):
    run()
  assert [line['step'] for line in read_metrics(tmp_path)] == [3, 6]


def _sticky(run):
  """A loss stays what it has become: parameters that are no numbers do not recover."""
  loss_at = run.loss_at
  run.loss_at = lambda step: loss_at(min(step, 7))
  return run


def test_what_is_no_number_is_never_saved(tmp_path, tokenizer):
  """The checkpoint's step is not one that is logged; still, a restart must find a good state."""
  run = _sticky(Run(tmp_path, tokenizer, log_every=10, checkpoint_every=4,
                    loss_at=lambda step: float('nan') if step == 7 else 1.0))
  with pytest.raises(DivergedError, match='at step 8; it was finite at step 4'):
    run()
  assert run.saved == 4
  assert float(Run(tmp_path, tokenizer)().params) == sum(range(1, 11))
