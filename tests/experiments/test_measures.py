"""What a stage's model answers to held-out turns, greedily and at temperature 1."""

import dataclasses

import pytest

from aw_jax.evaluation.examples import turn_examples
from aw_jax.imagination.world_model import WorldModel
from aw_jax.training.checkpoints import load_params
from configs import smoke
from experiments import measures, stages
from tests.data_pipelines.conftest import make_trajectory


@pytest.fixture(scope='module')
def base():
  return load_params(stages.BASE_CHECKPOINT)


@pytest.mark.parametrize('name', ['cpt', 'sft', 'cpt_sampled', 'sft_sampled'])
def test_answers(base, monkeypatch, name):
  """Of every turn one; what is sampled comes from temperature 1, after the model's own notes."""
  examples = turn_examples([make_trajectory(seed) for seed in range(2)])
  asked, predict = [], WorldModel.predict_batch

  def spy(self, queries, n=1, temperature=0.0, seed=0, progress=''):
    found = predict(self, queries, n, temperature, seed, progress)
    asked.append((queries, temperature, found))
    return found

  monkeypatch.setattr(WorldModel, 'predict_batch', spy)
  config = smoke.get_config()
  measure = measures.Measure.of(config, name)
  answers = measures.answer(config, *base, measure, examples)
  assert len(answers.texts) == len(answers.contexts) == len(examples)
  assert any(text is not None for text in answers.texts)
  if not measure.sampled:
    assert not asked
    return
  (queries, temperature, found), = asked
  assert temperature == 1.0
  assert [text for text, in ([one.text for one in group] for group in found)] == answers.texts
  assert [(q.history, q.action) for q in queries] == [(e.history, e.action) for e in examples]
  assert all(len(query.thoughts) == len(query.history) for query in queries)
  greedy = measures.answer(config, *base, dataclasses.replace(measure, sampled=False), examples)
  assert len(asked) == 1 and greedy.contexts[0][:20] == answers.contexts[0][:20]
