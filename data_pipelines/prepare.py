"""Collected trajectories to packed training records: the whole chain, stage by stage.

    folder/*/shard-*.jsonl -> TFDS -> seqio mixture of a stage -> packing -> {stage}.array_record

and `dataset_card.md`, which says what is in them.

Every step is written atomically and skipped where its result is there, so a killed run goes on
where it was.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tqdm
from absl import logging

from aw_jax.tokenizer import Tokenizer
from data_pipelines import dataset_card, examples, packing, pools, records, sources, vocabulary
from data_pipelines import traces as written_traces
from data_pipelines.examples import DEFAULT, Options, Switches, WrittenTraces
from data_pipelines.loss_mask import CLASSES

VOCABULARY_FILE = 'vocabulary.model'


class PrepareError(ValueError):
  """Records cannot be made; the message says why and what to do."""


def prepare(
    trajectories: Sequence[str], out: str, stages: Sequence[str] = pools.STAGES, *,
    vocabulary_path: str | None = None, vocab_size: int = 2048, seq_len: int = 512, seed: int = 0,
    switches: Switches = DEFAULT, skip_retries: bool = False, with_knowledge: bool = True,
    traces: str | None = None, split: str = 'train', beam_options: Sequence[str] = (),
    progress: bool = True) -> dict[str, dict[str, Any]]:
  """Makes the record files of `stages`.

  Args:
    trajectories: folders of collected trajectories.
    out: where records, vocabulary and the TFDS dataset go.
    stages: of `pools.STAGES`.
    vocabulary_path: read where it is there, else trained and saved; {out}/vocabulary.model by
      default.
    vocab_size: of a vocabulary that is trained here.
    seq_len: tokens a row.
    seed: of every choice of turn, template and masked token.
    switches: what an ablation may switch.
    skip_retries: whether failures that were tried again at once are left out (filters.py).
    with_knowledge: whether cpt has the texts of `data_pipelines.knowledge`.
    traces: file of reasoning traces that `traces.write` made, in place of the programmatic ones.
    split: 'train', or 'validation' for the same examples of validation tasks.
    beam_options: of an Apache Beam pipeline that makes the examples, into seqio's offline cache;
      they are then read in another order than without one. Without any they are made here.
    progress: whether to show progress bars.
  Returns:
    stage -> the sidecar of its record file.
  Raises:
    PrepareError: where a stage or split is unknown or has no trajectory, or a pipeline fails.
    SourceError, TrajectoryError: see `sources.read_kept`.
    TracesError: see `traces.read`, and where none are of these trajectories.
  """
  _check(stages, split)
  scan = sources.scan(trajectories, progress, skip_retries)
  if not scan.kept.get(split):
    raise PrepareError(
        f'{", ".join(map(str, trajectories))}: no usable trajectory of split {split!r} '
        f'(left out: {dict(scan.dropped)}); collect with --split={split}')
  tokenizer = _vocabulary(
      vocabulary_path or os.path.join(out, VOCABULARY_FILE), vocab_size, scan, switches)
  written = None if traces is None else written_traces.read(traces)
  options = Options(tokenizer, seq_len, seed, switches, written)
  job = _Job(scan, out, split, options, with_knowledge and split == 'train', tuple(beam_options),
             progress)
  made = {stage: job.run(stage) for stage in stages}
  dataset_card.write_for_records(out)
  return made


def _check(stages: Sequence[str], split: str) -> None:
  for stage in stages:
    if stage not in pools.STAGES:
      raise PrepareError(f'unknown stage {stage!r}; known are {", ".join(pools.STAGES)}')
  if split not in ('train', 'validation'):
    raise PrepareError(f'split {split!r}: records are made of train and validation tasks only')


def _vocabulary(
    path: str, vocab_size: int, scan: sources.Scan, switches: Switches) -> Tokenizer:
  if os.path.exists(path):
    return Tokenizer.load(path)
  if 'train' not in scan.kept:
    raise PrepareError(f'{path}: missing, and there are no train trajectories to make it from')
  logging.info('training a vocabulary of %d ids', vocab_size)
  kept = sources.read_kept(sources.in_turn(scan.shards), skip_retries=scan.skip_retries)
  tokenizer = vocabulary.train(
      (trajectory for _, trajectory in kept), vocab_size, list(scan.kept['train']), switches)
  tokenizer.save(path)
  return tokenizer


def _fingerprint(traces: WrittenTraces | None) -> str | None:
  if traces is None:
    return None
  return hashlib.sha256(json.dumps(traces, sort_keys=True).encode()).hexdigest()[:16]


def _remedy(stage: str) -> str:
  """What to do where a stage has no example."""
  if stage == 'agent':  # imported traces have none either
    return (f'it learns from episodes of the policy {pools.IMITATED_POLICY} alone: collect some, '
            'or leave agent out of --stages; or raise --seq_len')
  return 'collect more episodes or raise --seq_len'


@dataclasses.dataclass
class _Job:
  """One call of `prepare`."""

  scan: sources.Scan
  out: str
  split: str
  options: Options
  with_knowledge: bool
  beam_options: tuple[str, ...]
  progress: bool

  def run(self, stage: str) -> dict[str, Any]:
    """Makes one stage's records, unless they are there; returns their sidecar."""
    path = records.records_path(self.out, records.record_name(stage, self.split))
    request = self._request(stage)
    if records.exists(path):
      found = records.read_sidecar(path)
      if all(found.get(key) == value for key, value in request.items()):
        logging.info('%s: already there', path)
        return found
    tally = _Tally(self._written_traces(stage))
    made = _PACKERS[stage](self._examples(stage, tally), self.options.seq_len, tally)
    if not made:
      raise PrepareError(
          f'no example for stage {stage!r} in split {self.split!r} (dropped: '
          f'{dict(tally.dropped)}); {_remedy(stage)}')
    records.write_records(
        path, made, {**request, **tally.summary(stage), 'licences': self.scan.licences})
    return records.read_sidecar(path)

  def _request(self, stage: str) -> dict[str, Any]:
    options = self.options
    return {
        'stage': stage, 'split': self.split, 'seq_len': options.seq_len, 'seed': options.seed,
        'tokenizer': options.tokenizer.fingerprint, **dataclasses.asdict(options.switches),
        'knowledge': self.with_knowledge, 'traces': _fingerprint(options.traces),
        **({'cached': True} if self.beam_options else {}),
        **({'version': records.RL_VERSION} if stage == 'rl' else {}),
        'sources': self.scan.sources, 'left_out': self.scan.dropped,
        'skip_retries': self.scan.skip_retries, 'skipped_turns': self.scan.skipped_turns}

  def _cache(self, stage: str, names: Sequence[str], register: Callable[[], object]) -> None:
    """Fills seqio's offline cache, in a folder named by all that decides what the examples are."""
    try:
      from data_pipelines import caching  # an extra
    except ModuleNotFoundError as error:
      raise PrepareError(
          f"{error.name} is missing; --beam_options needs pip install -e '.[beam]'") from error
    request = {key: value for key, value in self._request(stage).items() if key != 'split'}
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    folder = os.path.join(os.path.abspath(self.out), 'cached', digest)
    try:
      caching.cache(names, folder, register, self.beam_options)
    except caching.CachingError as error:
      raise PrepareError(str(error)) from error

  def _written_traces(self, stage: str) -> dict[str, int]:
    """What becomes of the traces of this stage's turns. TracesError where there are none."""
    if self.options.traces is None or stage not in ('sft', 'rl'):
      return {}
    counts: collections.Counter = collections.Counter()
    for _, trajectory in sources.read_kept(
        sources.in_turn(self.scan.shards), skip_retries=self.scan.skip_retries):
      if trajectory.task.split == self.split and pools.is_in_stage(trajectory, stage):
        counts.update(examples.written_trace_counts(
            self.options.tokenizer, trajectory, self.options.traces, self.options.switches))
    if stage == 'sft' and not counts:
      raise written_traces.TracesError(
          'not one trajectory of SFT has traces in this file; write them of the same episodes, '
          'with the same --skip_retries')
    return dict(counts)

  def _examples(self, stage: str, tally: '_Tally') -> Iterator[dict[str, Any]]:
    """The examples of a stage as NumPy values; the tally sees every one, dropped ones too."""
    # TensorFlow takes seconds to import: only when something has to be made.
    from data_pipelines import quiet_tensorflow  # noqa: F401, I001  (first of all)
    from data_pipelines import tasks, trajectories_builder

    data_dir = os.path.join(self.out, 'tfds', self.scan.fingerprint)
    trajectories_builder.build(self.scan, data_dir, self.progress)
    domains = sorted(self.scan.kept[self.split])
    register = functools.partial(
        tasks.register, data_dir, domains, [stage], self.options, self.with_knowledge)
    names = register()
    if self.beam_options:
      self._cache(stage, names, register)
    bar = tqdm.tqdm(
        tasks.read(stage, self.split, self.options.seed, cached=bool(self.beam_options)),
        desc=f'prepare {records.record_name(stage, self.split)}', unit=' examples',
        disable=not self.progress)
    return (example for example in bar if tally.see(example))


class _Tally:
  """Counts of a stage, for its sidecar."""

  def __init__(self, written_traces: Mapping[str, int]):
    self._written_traces = dict(written_traces)
    self.examples: collections.Counter = collections.Counter()  # by domain
    self.families: dict[str, collections.Counter] = {}  # by domain
    self.lengths: dict[str, list[int]] = {}  # in tokens, by domain
    self.dropped: collections.Counter = collections.Counter()  # by reason
    self.classes: dict[str, np.ndarray] = {}  # by domain
    self.turns_cut = 0
    self.numbers: dict[str, Any] = {}  # what the packer adds

  def see(self, example: dict[str, Any]) -> bool:
    """Counts an example; False where it was dropped."""
    if example['drop']:
      self.dropped[example['drop']] += 1
      return False
    domain = example['domain']
    self.examples[domain] += 1
    self.families.setdefault(domain, collections.Counter())[example['family']] += 1
    self.lengths.setdefault(domain, []).extend(
        map(int, example['lengths']) if 'lengths' in example else [len(example['tokens'])])
    if 'classes' in example:
      self.turns_cut += int(example['turns_cut'].sum())
      if example['classes'].size:
        self.classes[domain] = self.classes.get(domain, 0) + example['classes']
    return True

  def summary(self, stage: str) -> dict[str, Any]:
    result = {
        'examples': dict(self.examples), 'dropped': dict(self.dropped),
        'families': {domain: dict(sorted(counts.items()))
                     for domain, counts in sorted(self.families.items())},
        'token_lengths': {domain: dataset_card.quantiles(lengths)
                          for domain, lengths in sorted(self.lengths.items())},
        **self.numbers}
    if stage in ('cpt', 'reasoning', 'agent'):
      result['turns_cut'] = self.turns_cut
    if self._written_traces:
      result['written_traces'] = self._written_traces
    if stage == 'cpt':
      result['loss_mask_classes'] = {
          domain: dict(zip(CLASSES, map(int, counts), strict=True))
          for domain, counts in sorted(self.classes.items())}
    return result


def _packed_records(examples, seq_len: int, tally: _Tally) -> list[dict[str, Any]]:
  """Rows of packed dialogues; `ids` are the tasks of a row's segments."""
  found = [(e['id'], packing.example(e['tokens'], e['loss_weights'])) for e in examples]
  if not found:
    return []
  ids, items = zip(*found, strict=True)
  rows = packing.assign([len(item.tokens) for item in items], seq_len)
  packed = packing.fill(items, rows, seq_len)
  tally.numbers = {
      'tokens': int((packed['segment_ids'] > 0).sum()),
      'loss_tokens': float(packed['loss_weights'].sum()),
      'padding_share': round(packing.padding_share(packed), 4)}
  return [{**record, 'ids': [ids[i] for i in row]}
          for record, row in zip(packing.rows_of(packed), rows, strict=True)]


def _split_at(values: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
  return np.split(values, np.cumsum(lengths)[:-1])


def _sft_records(examples, seq_len: int, tally: _Tally) -> list[dict[str, Any]]:
  """`dialogues`: a list of the candidates, each with `tokens` and `loss_weights`."""
  del seq_len
  made = [{
      'dialogues': [
          {'tokens': tokens, 'loss_weights': weights} for tokens, weights in zip(
              _split_at(e['tokens'], e['lengths']), _split_at(e['loss_weights'], e['lengths']),
              strict=True)],
      'turns': int(e['turns'][0]), 'id': e['id'], 'domain': e['domain'], 'family': e['family'],
  } for e in examples]
  tally.numbers = {'tokens': sum(len(d['tokens']) for r in made for d in r['dialogues'])}
  return made


def _rl_records(examples, seq_len: int, tally: _Tally) -> list[dict[str, Any]]:
  """A record for every sample of every trajectory."""
  del seq_len
  made = [{
      'prompt': prompt,
      'action': action.decode(), 'observation': observation.decode(),
      'runtime_metadata': spans,
      'changed_state': None if changed < 0 else bool(changed),
      'known': known.decode(), 'hidden_state': bool(hidden),
      'id': e['id'], 'domain': e['domain'], 'family': e['family'], 'turn': int(turn),
  } for e in examples for prompt, action, observation, spans, changed, known, hidden, turn in zip(
      _split_at(e['prompt'], e['lengths']), e['action'], e['observation'],
      _split_at(e['runtime_metadata'].reshape(-1, 2), e['spans']), e['changed_state'], e['known'],
      e['hidden_state'], e['turn'], strict=True)]
  tally.numbers = {'tokens': sum(len(r['prompt']) for r in made)}
  return made


_PACKERS = {
    'cpt': _packed_records, 'reasoning': _packed_records, 'agent': _packed_records,
    'sft': _sft_records, 'rl': _rl_records}
