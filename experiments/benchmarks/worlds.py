"""Speed of what no accelerator does: judging predictions, collecting from real environments."""

import contextlib
import json
import os
import random
import re
import tempfile
from collections.abc import Iterator, Sequence

from aw_jax.environments.collect import collect
from aw_jax.rewards.content import Reference
from aw_jax.rewards.reward import rewards
from aw_jax.tokenizer import END_PREDICTED, PREDICTED
from experiments.benchmarks.timing import Measured, take_turns


def observation(domain: str, draw: random.Random) -> str:
  """A made-up observation of a dozen lines: a file listing, or a tool's JSON."""
  words = ['notes', 'report', 'alpha', 'todo', 'config', 'data', 'summary', 'inventory']
  if domain == 'mcp':
    items = [{'id': draw.randrange(1000), 'name': draw.choice(words), 'stock': draw.randrange(99)}
             for _ in range(4)]
    return json.dumps({'items': items, 'next_page': None}, indent=2)
  return ''.join(
    f'-rw-r--r-- 1 user user {draw.randrange(9999):4d} {draw.choice(words)}_{i}.txt\n'
    for i in range(12))


def judged_batch(
    domain: str, draw: random.Random, groups: int, group: int
) -> tuple[list[str], list[Reference]]:
  """Generated turns with their truths: in each group one is exact, the others have wrong words."""
  texts, references = [], []
  for _ in range(groups):
    truth = observation(domain, draw)
    reference = Reference(domain, 'ls -l', truth, known=truth[:40])
    for sample in range(group):
      words = re.split(r'(\W+)', truth)
      for _ in range(sample):
        words[draw.randrange(len(words))] = draw.choice(['draft', '17', 'old'])
      texts.append(f'{PREDICTED}{"".join(words)}{END_PREDICTED}')
      references.append(reference)
  return texts, references


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
  """Keeps this thread on one core, where the system can."""
  if not hasattr(os, 'sched_setaffinity'):
    yield
    return
  allowed = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {max(allowed)})
  try:
    yield
  finally:
    os.sched_setaffinity(0, allowed)


def measure_rewards(*, predictions: int, group: int, repetitions: int) -> list[Measured]:
  """Predictions a second that one core judges: rubric and rule verifier.

  Args:
    predictions: of one measurement.
    group: judged against the same truth.
    repetitions: see `take_turns`.
  """
  draw, domains = random.Random(0), ('terminal', 'mcp')
  # New truths for each measurement: what a reference derives once is work too.
  batches = {domain: [judged_batch(domain, draw, predictions // group, group)
                      for _ in range(repetitions + 1)] for domain in domains}
  systems = {domain: (lambda domain=domain: len(rewards(*batches[domain].pop()).total))
             for domain in domains}
  with _one_core():
    return take_turns('rewards', 'rewards/s', systems, repetitions)


def measure_collect(
    *, domains: Sequence[str], episodes: int, workers: int, repetitions: int) -> list[Measured]:
  """Steps/s of the collector with counterfactual replay, start of its workers included.

  Args:
    domains: that are collected from.
    episodes: of one measurement.
    workers: processes.
    repetitions: see `take_turns`.
  Raises:
    MissingProgramError: where a domain's programs are missing.
  """
  def run(domain):
    with tempfile.TemporaryDirectory() as folder:
      return collect(domain, episodes, folder, workers=workers, progress=False)['steps']

  systems = {domain: (lambda domain=domain: run(domain)) for domain in domains}
  return take_turns('collect', 'steps/s', systems, repetitions)
