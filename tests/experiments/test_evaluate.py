"""The benchmark's command on a published file, by a model behind an endpoint."""

import json
import pathlib
import subprocess
import sys

import pytest

from aw_jax.evaluation import bench
from tests.chat_server import running

ROOT = pathlib.Path(__file__).resolve().parents[2]


def evaluate(workdir, *arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.evaluate', f'--workdir={workdir}', *arguments], cwd=ROOT,
    capture_output=True, text=True, timeout=180, check=False)


def published(turn):
  """A sample of a domain that no machine has without a device."""
  return {
    'task': 'android', 'id': turn, 'prompt': ['tap 1', 'tap 2'][:turn],
    'current_prompt': f'tap {turn}',
    'response': [f'{bench.LEAD}\n\nscreen 1\n', f'{bench.LEAD}\nscreen 2'][:turn],
    'system_str': 'You are a phone.', 'turn_idx': turn, 'total_turns': 2}


def test_a_published_file_is_answered_by_a_model_and_by_the_baselines_there_are(tmp_path):
  path = tmp_path / 'android_test.jsonl'
  path.write_text(''.join(json.dumps(published(turn)) + '\n' for turn in (1, 2)))

  def answer(body):
    number = body['messages'][-1]['content'][-1]
    return f'It changes.\n<predicted_observation>\nscreen {number}\n</predicted_observation>'

  with running(answer) as server:
    done = evaluate(
      tmp_path / 'out', f'--config.files=("{path}",)', '--config.endpoint.model=m',
      f'--config.endpoint.url={server.url}', '--config.endpoint.temperature=0.5',
      '--config.bootstrap=20')
  assert done.returncode == 0, done.stderr[-2000:]
  assert {(body['temperature'], body['max_tokens']) for body in server.requests} == {(0.5, 8192)}
  asked = [body['messages'] for body in server.requests]
  assert [messages[2]['content'] for messages in asked if len(messages) > 2] == [
    '<predicted_observation>screen 1</predicted_observation>']
  figures = json.loads((tmp_path / 'out' / 'bench.json').read_text())['figures']
  assert set(figures) == {'model', 'copy_last'}
  found = {name: [domains['all']['all'][metric]['mean'] for metric in (
    'exact_match', 'valid', 'judged', 'rubric_judged')] for name, domains in figures.items()}
  assert found['model'] == [1, 1, 1, 100]
  assert found['copy_last'][:3] == [0, 0.5, 1]  # of a first turn it knows nothing
  left_out = 'nearest_action and ngram are left out of android: no train episodes'
  assert left_out in done.stdout and left_out in (tmp_path / 'out' / 'bench.md').read_text()


@pytest.mark.parametrize(('flag', 'message'), [
  ('--config.template=v12', "no template 'v12'; there are v0, "),
  ('--config.prompts=long', "no prompts of size 'long'; there are short, full")])
def test_unknown_prompts_are_refused_before_anything_is_collected(tmp_path, flag, message):
  done = evaluate(tmp_path / 'out', flag)
  assert done.returncode != 0 and message in done.stderr and 'Traceback' not in done.stderr
  assert not (tmp_path / 'out').exists()
