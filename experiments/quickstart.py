"""The whole way in one command: real episodes, a world model, an agent trained inside it, a report.

    python -m experiments.quickstart --workdir=/tmp/agentworld

Leaves report.html, figure.png and results.json in the work directory. Interrupted and started again
with the same flags, it goes on where it was. `--config.init=scratch` does without the base
checkpoint; any other value of configs/base.py is changed the same way.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from aw_jax.evaluation import report, results
from aw_jax.training.runner import read_metrics
from aw_jax.trajectories import read_jsonl, write_atomically
from experiments import agent_stages, commands, measures, stages

_CONFIG = config_flags.DEFINE_config_file(
    'config', 'configs/quickstart.py', 'Config file, see configs/base.py for its values.',
    lock_config=True)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run.', required=True)


class Stopwatch:
  """Seconds of each stage, added up over interruptions in {workdir}/seconds.json."""

  def __init__(self, workdir: str):
    self._path = os.path.join(workdir, 'seconds.json')
    self.seconds: dict[str, float] = {}
    if os.path.exists(self._path):
      with open(self._path, encoding='utf-8') as file:
        self.seconds = json.load(file)

  def time(self, name: str, stage: Callable[[], Any]) -> Any:
    """Runs a stage, and adds what it took."""
    logging.info('%s', name)
    start = time.monotonic()
    value = stage()
    elapsed = time.monotonic() - start
    self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 2)
    write_atomically(self._path, json.dumps(self.seconds, indent=1))
    return value


def claim_workdir(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Notes the config in the work directory. Raises StageError where another one made it."""
  found = stages.once(os.path.join(workdir, 'config.json'), lambda: json.loads(config.to_json()))
  wanted = json.loads(config.to_json())
  for key in sorted(set(found) | set(wanted)):
    if found.get(key) != wanted.get(key):
      raise stages.StageError(
          f'{workdir}: was made with config.{key} = {json.dumps(found.get(key))}, now it is '
          f'{json.dumps(wanted.get(key))}; use another --workdir')


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Every stage that is not done yet; returns what goes into results.json."""
  claim_workdir(config, workdir)
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
  watch.time('imitation', lambda: agent_stages.imitate(
      config, workdir, stages.tensorboard_writers))
  watch.time('agent', lambda: agent_stages.improve(config, workdir, stages.tensorboard_writers))
  agent = watch.time('closed loop', lambda: stages.once(
      os.path.join(workdir, 'evaluation', 'agent.json'),
      lambda: agent_stages.closed_loop(config, workdir)))
  predictors = {**fidelity, **baselines}
  return {
      'seconds': {**watch.seconds, 'total': round(sum(watch.seconds.values()), 2)},
      'world_model': {
          domain: {name: entry['domains'][domain] for name, entry in predictors.items()}
          for domain in config.domains},
      'agent': agent, 'config': json.loads(config.to_json()), 'seed': config.seed,
      'commit': results.commit(), 'hardware': results.hardware(),
  }


def write_report(found: dict[str, Any], workdir: str) -> None:
  """results.json, report.html, figure.png, and the table on the terminal."""
  results.write(os.path.join(workdir, 'results.json'), found)
  folders = {**{stage: os.path.join(workdir, stage) for stage in stages.WORLD_MODEL_STAGES},
             'imitation': agent_stages.agent_directory(workdir, 'imitation'),
             'agent': agent_stages.agent_directory(workdir, 'rl')}

  def played(name: str):
    return list(read_jsonl(os.path.join(workdir, 'evaluation', f'agent_{name}.jsonl')))

  def figures(stage: str):
    with open(os.path.join(workdir, 'evaluation', f'{stage}.json'), encoding='utf-8') as file:
      return json.load(file)['figures']

  extras = report.Extras(
      metrics={name: read_metrics(folder) for name, folder in folders.items()},
      fidelity={stage: figures(stage) for stage in stages.WORLD_MODEL_STAGES},
      imagined=played('imagined'), replayed=played('w2r'))
  report.write_report(found, extras, workdir)
  print(report.table(found))
  print(f'\n{os.path.join(workdir, "report.html")}')


def main(argv):
  commands.no_arguments(argv)
  with commands.clear_errors('quickstart'):
    found = run(_CONFIG.value, _WORKDIR.value)
    write_report(found, _WORKDIR.value)


if __name__ == '__main__':
  app.run(main)
