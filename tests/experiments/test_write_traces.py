"""The commands that write traces and measure judges, as a user runs them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from configs import base
from experiments import stages
from tests.chat_server import running

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(name, *arguments, **environment):
  return subprocess.run(
    [sys.executable, '-m', f'experiments.{name}', *map(str, arguments)], cwd=ROOT,
    env=os.environ | environment, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A few real episodes with an MCP server."""
  out = tmp_path_factory.mktemp('mcp')
  run = command('collect', '--domain=mcp', '--episodes=8', '--pool=sft', f'--out={out}')
  assert run.returncode == 0, run.stderr
  return out


@pytest.mark.requires('bwrap')
def test_traces_without_a_model(folder, tmp_path):
  out = tmp_path / 'traces.jsonl'
  for _ in range(2):
    run = command('write_traces', f'--trajectories={folder}', f'--out={out}')
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith('mcp {"turns": ')
    assert '0 tokens of prompts' in run.stdout
  assert len(out.read_text().splitlines()) == 8


@pytest.mark.requires('bwrap')
def test_traces_by_models_with_their_cost(folder, tmp_path):
  def answer(body):
    if body['model'] == 'big':
      return '<trace>nothing to note</trace>'
    return '<score>5</score>'

  out = tmp_path / 'traces.jsonl'
  with running(answer) as server:
    arguments = (
      f'--trajectories={folder}', f'--out={out}', '--limit=2', '--input_price=2',
      '--output_price=8', '--teacher_model=big', f'--teacher_url={server.url}',
      f'--judge_url={server.url}')
    run = command('write_traces', *arguments, '--judge_model=small', OPENAI_API_KEY='')
    assert run.returncode == 0, run.stderr
    assert 'tokens, $' in run.stderr  # the progress line
    summary = json.loads((tmp_path / 'traces.jsonl.json').read_text())
    assert summary['cost'] == pytest.approx(len(server.requests) * (2 * 10 + 8 * 3) / 1e6)
    assert summary['retention']['mcp']['retention'] == 1
    run = command('write_traces', *arguments, '--judge_model=big')
    assert run.returncode == 1 and 'would judge its own traces' in run.stderr
    assert 'Traceback' not in run.stderr


@pytest.mark.requires('bwrap')
def test_validity_of_both_judges(folder, tmp_path):
  out = tmp_path / 'validity.json'
  run = command('judge_validity', f'--trajectories={folder}', '--turns=6', f'--out={out}')
  assert run.returncode == 0, run.stderr
  assert 'attacks; the largest rise of any score is 0.0000' in run.stdout
  figures = json.loads(out.read_text())
  assert figures['corruptions']['missing end']['means'][0] == 5
  grades = ''.join(f'<{name}>3</{name}>' for name in (
    'format', 'factuality', 'consistency', 'realism', 'quality'))
  with running(lambda body: grades) as server:
    run = command('judge_validity', f'--trajectories={folder}', '--turns=2', '--judge_model=grader',
                  f'--judge_url={server.url}', f'--cache={tmp_path / "cache"}',
                  '--measure=corruptions')
    assert run.returncode == 0, run.stderr
    assert '   3.00' in run.stdout and server.requests


def test_an_endpoint_that_is_not_there_is_one_sentence(tmp_path):
  run = command('write_traces', f'--trajectories={tmp_path}', f'--out={tmp_path / "x"}')
  assert run.returncode == 1 and 'no shard-*.jsonl here' in run.stderr
  assert 'Traceback' not in run.stderr


def test_the_judge_of_the_rl_stage(tmp_path):
  config = base.get_config()
  assert stages.judge_of(config.rl.judge, str(tmp_path)) is stages.REFERENCE_JUDGE
  config.rl.judge.model, config.rl.judge.url = 'grader', 'http://127.0.0.1:1/v1'
  assert isinstance(stages.judge_of(config.rl.judge, str(tmp_path)), stages.LlmJudge)
