"""The whole way in one command: real episodes, a world model, an agent trained inside it, a report.

    python -m experiments.quickstart --workdir=/tmp/agentworld

Leaves report.html, figure.png and results.json in the work directory. Interrupted and started again
with the same flags, it goes on where it was. `--config.init=scratch` does without the base
checkpoint; any other value of configs/base.py is changed the same way.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from aw_jax.evaluation import report, results
from aw_jax.trajectories import Trajectory, read_jsonl, write_atomically
from experiments import agent_stages, commands, measures, stages

with commands.config_errors():
  _CONFIG = config_flags.DEFINE_config_file(
      'config', 'configs/quickstart.py', 'Config file, see configs/base.py for its values.',
      lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)


class Stopwatch:
  """Seconds of each stage, added up over interruptions in {workdir}/seconds.json.

  A stage that runs notes its time every few seconds, so that a killed one loses no more than that.
  """

  def __init__(self, workdir: str, every: float = 5.0):
    self._path = os.path.join(workdir, 'seconds.json')
    self._every = every
    self.seconds: dict[str, float] = {}
    if os.path.exists(self._path):
      with open(self._path, encoding='utf-8') as file:
        self.seconds = json.load(file)

  def time(self, name: str, stage: Callable[[], Any]) -> Any:
    """Runs a stage, and adds what it took."""
    print(f'--- {name}', flush=True)
    start, before = time.monotonic(), self.seconds.get(name, 0.0)
    done = threading.Event()

    def note() -> None:
      self.seconds[name] = round(before + time.monotonic() - start, 2)
      write_atomically(self._path, json.dumps(self.seconds, indent=1))

    def keep_noting() -> None:
      while not done.wait(self._every):
        note()

    thread = threading.Thread(target=keep_noting, daemon=True, name='stopwatch')
    thread.start()
    try:
      return stage()
    finally:
      done.set()
      thread.join()
      note()


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Every stage that is not done yet; returns what goes into results.json."""
  if tuple(config.stages) != stages.WORLD_MODEL_STAGES:
    raise stages.StageError(
        'config.stages: the report needs all of them; experiments.study leaves some out')
  stages.require_even_batches(config)
  measures.require_known(config)
  stages.claim_workdir(config, workdir)
  watch = Stopwatch(workdir)
  watch.time('collect', lambda: stages.collect(config, workdir))
  watch.time('prepare', lambda: stages.prepare(config, workdir))
  baselines = watch.time('baselines', lambda: measures.measure_baselines(config, workdir))
  fidelity = {}
  for stage in stages.WORLD_MODEL_STAGES:
    watch.time(stage, lambda stage=stage: stages.train_stage(
        config, workdir, stage, stages.tensorboard_writers))
    fidelity[stage] = watch.time(
        f'measure {stage}', lambda stage=stage: measures.measure_stage(config, workdir, stage))
  for name in config.evaluate.also:
    fidelity[name] = watch.time(
        f'measure {name}', lambda name=name: measures.measure_stage(config, workdir, name))
  for seed in config.agent.seeds:
    watch.time('imitation', lambda seed=seed: agent_stages.imitate(
        config, workdir, seed, stages.tensorboard_writers))
    watch.time('agent', lambda seed=seed: agent_stages.improve(
        config, workdir, seed, stages.tensorboard_writers))
  agent = watch.time('closed loop', lambda: agent_stages.measure(config, workdir))
  predictors = {**fidelity, **baselines}
  return {
      'seconds': {**watch.seconds, 'total': round(sum(watch.seconds.values()), 2)},
      'world_model': {
          domain: {name: entry['domains'][domain] for name, entry in predictors.items()}
          for domain in config.domains},
      'subsets': measures.by_subset(config, predictors),
      'comparisons': measures.compare(config, workdir),
      'agent': agent, 'config': json.loads(config.to_json()), 'seed': config.seed,
      'commit': results.commit(), 'hardware': results.hardware(),
  }


def write_report(found: dict[str, Any], workdir: str) -> None:
  """results.json, report.html, figure.png, and the table on the terminal."""
  results.write(os.path.join(workdir, 'results.json'), found)
  world, first = found['config']['world'], found['config']['agent']['seeds'][0]
  folders = {**{stage: os.path.join(workdir, stage) for stage in stages.WORLD_MODEL_STAGES},
             'imitation': agent_stages.agent_directory(workdir, 'imitation', first),
             'agent': agent_stages.agent_directory(workdir, world, first)}

  extras = report.Extras(
      metrics=folders,
      transcripts=_transcripts(workdir, world, first))
  report.write_report(found, extras, workdir)
  report.print_table(found)
  print(f'\n{os.path.join(workdir, "report.html")}')


def _transcripts(workdir: str, world: str, seed: int, count: int = 8) -> list[report.Transcript]:
  """Imagined episodes beside the same actions in the real world, every domain and outcome."""
  imagined, real = (
      list(read_jsonl(agent_stages.episodes_path(workdir, world, seed, name)))
      for name in ('imagined', 'w2r'))
  pairs = [pair for pair in zip(imagined, real, strict=True) if pair[0].turns]
  pairs.sort(key=lambda pair: (pair[0].success != pair[1].success, -len(pair[0].turns)))
  step = max(1, len(pairs) // count)
  return [_transcript(*pair) for pair in pairs[::step][:count]]


def _transcript(imagined: Trajectory, real: Trajectory) -> report.Transcript:
  turns = []
  for turn, answer in itertools.zip_longest(imagined.turns, real.turns):
    if turn is not None:
      turns.append((turn.action, turn.observation, answer.observation if answer else None))
  checks = (imagined.verification, real.verification)
  if any(checks):
    turns.append((imagined.task.verifier.command,
                  *(check.observation if check else None for check in checks)))
  outcome = {True: 'solved', False: 'failed', None: 'broken'}
  return report.Transcript(
      f'{imagined.task.domain}: {imagined.task.instruction}', turns,
      f'In imagination {outcome[imagined.success]}, in the real world {outcome[real.success]}.')


def main():
  found = run(_CONFIG.value, _WORKDIR.value)
  write_report(found, _WORKDIR.value)


if __name__ == '__main__':
  commands.run(main, 'quickstart')
