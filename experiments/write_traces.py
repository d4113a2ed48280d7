"""Writes reasoning traces for collected trajectories: a teacher proposes, a judge chooses.

    python -m experiments.write_traces --trajectories=/data/mcp --out=/data/traces.jsonl
    python -m experiments.write_traces --trajectories=/data/mcp --out=/data/traces.jsonl \
        --teacher_model=MODEL --teacher_url=http://127.0.0.1:8000/v1 \
        --judge_model=OTHER --judge_url=http://127.0.0.1:8001/v1
    python -m experiments.prepare_data --trajectories=/data/mcp --out=/data/records \
        --stages=sft --traces=/data/traces.jsonl

Without models the teacher notes what the state says, and the judge measures how well a trace is
grounded in it. Run again with the same flags, it goes on where it was.
"""

import asyncio
import contextlib
import json

from absl import app, flags, logging

from aw_jax.prompts.templates import PromptError
from aw_jax.rewards.chat_endpoint import (
    ChatSession,
    Endpoint,
    EndpointError,
    Messages,
    RequestRefusedError,
    Usage,
)
from aw_jax.trajectories import TrajectoryError
from data_pipelines import pools, reasoning, sources, teachers, traces
from experiments import endpoint_flags

_TRAJECTORIES = flags.DEFINE_list(
    'trajectories', None, 'Folders of collected trajectories.', required=True)
_OUT = flags.DEFINE_string('out', None, 'File for the traces, JSON lines.', required=True)
_STAGE = flags.DEFINE_enum(
    'stage', 'sft', ['all', *pools.STAGES], 'Only trajectories that this stage trains on.')
_SKIP_RETRIES = flags.DEFINE_bool(
    'skip_retries', False, 'Leave out failures that were tried again at once; as prepare_data is '
    'told to.')
_LIMIT = flags.DEFINE_integer('limit', None, 'Trajectories at most.', lower_bound=1)
_THRESHOLD = flags.DEFINE_float('threshold', 4.0, 'The lowest score, of 1 to 5, that is kept.')
_MAX_WORDS = flags.DEFINE_integer(
    'max_words', reasoning.MAX_TOKENS, 'Words and signs of a trace at most.', lower_bound=1)
_CONCURRENCY = flags.DEFINE_integer('concurrency', 8, 'Trajectories at a time.', lower_bound=1)
_INPUT_PRICE = flags.DEFINE_float(
    'input_price', 0.0, 'Dollars for a million tokens of prompts; the progress line sums them.')
_OUTPUT_PRICE = flags.DEFINE_float(
    'output_price', 0.0, 'Dollars for a million tokens of answers.')
_TEACHER = endpoint_flags.define('teacher', 'the teacher, in place of the programmatic one', 0.7)
_JUDGE = endpoint_flags.define('judge', 'the judge, in place of measured grounding', 0.0)


_REFUSALS = 16  # without one answer, before it is not the single request that is wrong


def _name(endpoint: Endpoint | None, program: str) -> str:
  return program if endpoint is None else f'{endpoint.model} at {endpoint.url or "OpenAI"}'


def _or_nothing(session: ChatSession) -> teachers.Complete:
  """Answers of the session; none to what it refuses, such as a history too long for it."""
  async def complete(messages: Messages) -> str:
    try:
      return await session.complete(messages)
    except RequestRefusedError as error:
      if session.usage.refused >= _REFUSALS and not session.usage.requests:
        raise  # nothing works as it is asked
      logging.log_first_n(logging.WARNING, 'counts as no trace: %s', 1, error)
      return ''

  return complete


async def _write() -> dict[str, object]:
  teacher_endpoint, judge_endpoint = _TEACHER.endpoint(), _JUDGE.endpoint()
  names = _name(teacher_endpoint, 'programmatic'), _name(judge_endpoint, 'grounding')
  if names[0] == names[1]:
    raise traces.TracesError(
        f'{names[0]} would judge its own traces; name another --judge_model, or none')
  job = traces.Job(
      sources.find_shards(_TRAJECTORIES.value), None if _STAGE.value == 'all' else _STAGE.value,
      _LIMIT.value, _THRESHOLD.value,
      {'teacher': names[0], 'judge': names[1], 'max_words': _MAX_WORDS.value},
      _CONCURRENCY.value, (_INPUT_PRICE.value, _OUTPUT_PRICE.value), _SKIP_RETRIES.value)
  usage = Usage()
  async with contextlib.AsyncExitStack() as stack:
    teacher, judge = teachers.ProgrammaticTeacher(), teachers.GroundingJudge(_MAX_WORDS.value)
    if teacher_endpoint:
      session = await stack.enter_async_context(ChatSession(teacher_endpoint, usage))
      teacher = teachers.LlmTeacher(_or_nothing(session), _MAX_WORDS.value)
    if judge_endpoint:
      session = await stack.enter_async_context(ChatSession(judge_endpoint, usage))
      judge = teachers.LlmTraceJudge(_or_nothing(session))
    return await traces.write(
        job, teacher, judge, _OUT.value,
        tokens=lambda: (usage.prompt_tokens, usage.completion_tokens))


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
  try:
    summary = asyncio.run(_write())
  except (EndpointError, PromptError, traces.TracesError, sources.SourceError,
          TrajectoryError) as error:
    raise SystemExit(f'write_traces: {error}') from error
  for domain, kept in summary['retention'].items():
    print(domain, json.dumps(kept))
  prompts, answers = summary['tokens']
  print(f'{summary["trajectories"]} trajectories; {prompts:,} tokens of prompts and {answers:,} of '
        f'answers, ${summary["cost"]:.2f}')


if __name__ == '__main__':
  app.run(main)
