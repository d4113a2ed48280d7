"""seqio tasks per domain and stage, and their mixtures.

Tasks are called `terminal_cpt`, `mcp_rl`, ...; the mixtures `cpt`, `reasoning`, `sft`,
`rl`, `agent`. They read
the TFDS dataset of `trajectories_builder`, keep the trajectories of their stage's pool, and turn
each into features with our own tokenizer and prompts; one that gives no example passes through
with the reason in `drop`, so that nothing is lost silently.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf

from aw_jax.trajectories import Trajectory, from_json
from data_pipelines import examples, knowledge, packing, pools, sources, trajectories_builder
from data_pipelines.examples import Options
from data_pipelines.loss_mask import CLASSES

KNOWLEDGE = 'knowledge'
_NO_ROOM = 'longer than seq_len'
_NO_TRACES = 'no written reasoning traces'

# Features of each stage: name -> dtype. All are vectors; the first few, which hold token ids or
# weights, are the task's output features and the rest passes through.
_DIALOGUE = {'tokens': tf.int32, 'loss_weights': tf.float32}
_DIALOGUE_EXTRA = {'turns_cut': tf.int32, 'classes': tf.int32}
_FEATURES = {
    'cpt': (_DIALOGUE, _DIALOGUE_EXTRA),
    'agent': (_DIALOGUE, _DIALOGUE_EXTRA),
    'reasoning': (_DIALOGUE, _DIALOGUE_EXTRA),
    'sft': (_DIALOGUE, {'lengths': tf.int32, 'turns': tf.int32}),
    'rl': ({'prompt': tf.int32},
           {'lengths': tf.int32, 'turn': tf.int32, 'runtime_metadata': tf.int32,
            'spans': tf.int32, 'changed_state': tf.int32, 'action': tf.string,
            'observation': tf.string, 'known': tf.string, 'hidden_state': tf.int32}),
}
_LABELS = ('id', 'domain', 'family')


def register(
    data_dir: str, domains: Sequence[str], stages: Sequence[str], options: Options,
    with_knowledge: bool = True) -> list[str]:
  """Adds the tasks and mixtures to seqio's registries, in place of any of those names.

  Args:
    data_dir: where `trajectories_builder.build` put the dataset.
    domains: the domains it holds.
    stages: of `pools.STAGES`.
    options: see there.
    with_knowledge: whether the cpt mixture has the texts of `knowledge` too.
  Returns:
    The names of the tasks.
  """
  added = []
  for stage in stages:
    names = [_add_task(data_dir, domain, stage, options) for domain in domains]
    if stage == 'cpt' and with_knowledge:
      names += [_add_knowledge_task(domain, options) for domain in domains
                if knowledge.TEXTS.get(domain)]
    added += names
    seqio.MixtureRegistry.remove(stage)
    # seqio's default stops at the first exhausted task and would lose the rest of the others.
    seqio.MixtureRegistry.add(
        stage, names, default_rate=1.0,
        sample_fn=functools.partial(
            tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=False))
  return added


def read(stage: str, split: str, seed: int, cached: bool = False) -> Iterator[dict[str, object]]:
  """The examples of a registered mixture, once, in an order that `seed` decides.

  Args:
    stage: of `pools.STAGES`.
    split: of the dataset.
    seed: of the order.
    cached: read them from seqio's offline cache (`caching.cache`), all before the first is yielded:
      what Beam wrote comes in any order.
  Yields:
    Vectors of the stage's features; `id`, `domain` and `family` as strings; `drop`, the reason why
    a trajectory gives no example, '' where it does.
  """
  dataset = seqio.get_mixture_or_task(stage).get_dataset(
      sequence_length=None, split=split, shuffle=False, seed=seed, num_epochs=1, use_cached=cached,
      passthrough_features=(*_LABELS, 'drop', *_FEATURES[stage][1]), try_in_mem_cache=False)
  found = ({key: value.decode() if isinstance(value, bytes) else value
            for key, value in example.items()} for example in dataset.as_numpy_iterator())
  return iter(sorted(found, key=functools.partial(_shuffled, seed))) if cached else found


def _shuffled(seed: int, example: Mapping[str, object]) -> bytes:
  """Sorts examples into an order that looks random and depends on seed and content alone."""
  content = [example['id'].encode(), *(np.asarray(example[key]).tobytes() for key in (
      'tokens', 'prompt') if key in example)]
  return hashlib.sha256(f'{seed}/'.encode() + b'/'.join(content)).digest()


def _output_features(stage: str, options: Options) -> dict[str, seqio.Feature]:
  vocabulary = seqio.PassThroughVocabulary(options.tokenizer.vocab_size)
  return {name: seqio.Feature(vocabulary, add_eos=False, dtype=dtype)
          for name, dtype in _FEATURES[stage][0].items()}


def _add(name: str, source, stage: str, options: Options, preprocessors) -> str:
  seqio.TaskRegistry.remove(name)
  seqio.TaskRegistry.add(
      name, source=source, preprocessors=preprocessors,
      output_features=_output_features(stage, options), shuffle_buffer_size=None)
  return name


def _add_task(data_dir: str, domain: str, stage: str, options: Options) -> str:
  source = seqio.TfdsDataSource(
      f'{trajectories_builder.NAME}:{trajectories_builder.VERSION}', tfds_data_dir=data_dir)
  convert = functools.partial(_CONVERT[stage], options=options)
  return _add(f'{domain}_{stage}', source, stage, options,
              [_select(domain, stage), _convert_each(stage, convert),
               seqio.CacheDatasetPlaceholder()])


def _add_knowledge_task(domain: str, options: Options) -> str:
  def dataset_fn(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    texts = knowledge.TEXTS[domain]
    return tf.data.Dataset.from_tensor_slices({
        'id': [f'{domain}/{KNOWLEDGE}/{i}' for i in range(len(texts))],
        'domain': [domain] * len(texts), 'family': [KNOWLEDGE] * len(texts),
        'trajectory': list(texts)})

  source = seqio.FunctionDataSource(dataset_fn, splits=['train'])
  convert = functools.partial(_knowledge_features, options=options)
  return _add(f'{domain}_{KNOWLEDGE}', source, 'cpt', options,
              [_convert_each('cpt', convert), seqio.CacheDatasetPlaceholder()])


def _select(domain: str, stage: str) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
  """Keeps the examples of a domain that belong to a stage; see `pools.is_in_stage`."""
  def keep(example):
    right_domain = example['domain'] == domain
    if stage == 'agent':
      return right_domain & (example['policy'] == pools.IMITATED_POLICY)
    in_pool = (example['pool'] == pools.pool_of_stage(stage)) | (example['pool'] == pools.ALL_POOLS)
    return right_domain & in_pool

  return lambda dataset: dataset.filter(keep)


def _convert_each(
    stage: str, convert: Callable[[str], Mapping[str, object] | str | None]
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
  """Maps the `trajectory` text of every example to the features of `stage`.

  `convert` returns the reason where there are none; None where there is no room.
  """
  dtypes = {name: dtype for part in _FEATURES[stage] for name, dtype in part.items()}

  def run(text: bytes) -> list[np.ndarray]:
    features = convert(text.decode())
    drop = features if isinstance(features, str) else _NO_ROOM if features is None else ''
    features = dict.fromkeys(dtypes, ()) if drop else features
    values = [_vector(features[name], dtype) for name, dtype in dtypes.items()]
    return [np.array(drop.encode(), object), *values]

  def convert_one(example):
    drop, *values = tf.numpy_function(
        run, [example['trajectory']], [tf.string, *dtypes.values()], stateful=False)
    result = {name: example[name] for name in _LABELS}
    result['drop'] = tf.ensure_shape(drop, [])
    for name, value in zip(dtypes, values, strict=True):
      result[name] = tf.ensure_shape(value, [None])
    return result

  return lambda dataset: dataset.map(convert_one)


def _vector(value, dtype: tf.DType) -> np.ndarray:
  if dtype == tf.string:
    return np.array([text.encode() for text in value], object)
  return np.asarray(value, dtype.as_numpy_dtype).reshape(-1)


def _read(text: str) -> Trajectory:
  return from_json(json.loads(text))


def _dialogue_features(item: packing.Example, classes: Sequence[str], options: Options):
  short = packing.shorten(item, options.seq_len)
  if short is None:
    return None
  kept = list(classes[:len(short.ends)])
  return {
      'tokens': short.tokens, 'loss_weights': short.loss_weights,
      'turns_cut': [len(item.ends) - len(short.ends)],
      'classes': [kept.count(name) for name in CLASSES]}


def _cpt_features(text: str, options: Options):
  item, classes = examples.cpt_example(
      options.tokenizer, _read(text), options.seed, options.switches)
  return _dialogue_features(item, classes, options)


def _knowledge_features(text: str, options: Options):
  return _dialogue_features(examples.knowledge_example(options.tokenizer, text), (), options)


def _agent_features(text: str, options: Options):
  return _dialogue_features(examples.agent_dialogue(options.tokenizer, _read(text)), (), options)


def _reasoning_features(text: str, options: Options):
  template, = options.switches.templates_of('cpt')
  trajectory = _read(text)
  if _lacks_traces(trajectory, options):
    return _NO_TRACES
  item = examples.reasoning_dialogue(
      options.tokenizer, trajectory, template, switches=options.switches, written=options.traces)
  return _dialogue_features(item, (), options)


def _lacks_traces(trajectory: Trajectory, options: Options) -> bool:
  return (options.switches.thinking and options.traces is not None
          and sources.key_of(trajectory) not in options.traces)


def _sft_features(text: str, options: Options):
  trajectory = _read(text)
  if _lacks_traces(trajectory, options):
    return _NO_TRACES
  made = examples.sft_candidates(
      options.tokenizer, trajectory, options.seq_len, options.seed, options.switches,
      options.traces)
  if made is None:
    return None
  return {
      'tokens': np.concatenate([item.tokens for item in made]),
      'loss_weights': np.concatenate([item.loss_weights for item in made]),
      'lengths': [len(item.tokens) for item in made], 'turns': [len(made[0].ends)]}


def _rl_features(text: str, options: Options):
  """The samples of a trajectory one after the other: `lengths` of prompts, `spans` of metadata."""
  samples = examples.rl_samples(
      options.tokenizer, _read(text), options.seq_len, options.seed, options.switches,
      options.traces)
  if not samples:
    return None
  turns = [sample.turn for sample in samples]
  return {
      'prompt': np.concatenate([sample.prompt for sample in samples]),
      'lengths': [len(sample.prompt) for sample in samples],
      'turn': [sample.index for sample in samples],
      'action': [turn.action for turn in turns],
      'observation': [turn.observation for turn in turns],
      'runtime_metadata': [span for turn in turns for span in turn.runtime_metadata],
      'spans': [len(turn.runtime_metadata) for turn in turns],
      'changed_state': [
          -1 if turn.changed_state is None else int(turn.changed_state) for turn in turns],
      'known': [sample.known for sample in samples],
      'hidden_state': [int(sample.hidden_state) for sample in samples]}


_CONVERT = {
    'cpt': _cpt_features, 'reasoning': _reasoning_features, 'sft': _sft_features,
    'rl': _rl_features, 'agent': _agent_features}
