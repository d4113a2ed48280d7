"""Chat rendering, strict parsing of what a model says, and the system prompts."""

import asyncio
import dataclasses
import functools
import importlib
import itertools
import pathlib
import re

import hypothesis
import hypothesis.strategies as st
import pytest

from aw_jax.environments import mcp_worlds, registry, web_actions
from aw_jax.environments.servers import shop
from aw_jax.prompts import chat, domains, templates
from aw_jax.prompts.chat import Prediction, parse_prediction
from aw_jax.prompts.facts import declared_tools
from aw_jax.tokenizer import (
  END_PREDICTED,
  END_THINK,
  IM_END,
  PREDICTED,
  SPECIAL_TOKENS,
  THINK,
  Tokenizer,
)
from aw_jax.trajectories import DOMAINS, Task, Verifier

BASE = pathlib.Path(__file__).resolve().parents[1] / 'checkpoints' / 'base'
TAGS = (THINK, END_THINK, PREDICTED, END_PREDICTED)
PLAIN = st.text(max_size=20).filter(lambda text: not any(tag in text for tag in TAGS))


@functools.cache
def tokenizer() -> Tokenizer:
  return Tokenizer.train([f'ls\necho {i} > file_{i}.txt\n' for i in range(100)], vocab_size=350)


def written(observation: str, thinking: str | None) -> str:
  thought = '' if thinking is None else f'{THINK}{thinking}{END_THINK}'
  return f'{thought}{PREDICTED}{observation}{END_PREDICTED}'


@hypothesis.given(PLAIN, st.none() | PLAIN, st.sampled_from(['', IM_END]))
def test_what_is_well_formed_parses(observation, thinking, end):
  expected = Prediction(observation, thinking or '')
  assert parse_prediction(written(observation, thinking) + end) == expected


def reference_parse(pieces: list[str]) -> Prediction | None:
  """The grammar on pieces, each a tag, the end token or tagless text, without a regex."""
  rest = list(pieces)

  def texts() -> str:
    found = []
    while rest and rest[0] not in TAGS:
      found.append(rest.pop(0))
    return ''.join(found)

  def take(tag: str) -> bool:
    return bool(rest) and rest.pop(0) == tag

  thinking = ''
  if rest[:1] == [THINK]:
    rest.pop(0)
    thinking = texts()
    if not take(END_THINK):
      return None
    if rest[:1] == ['\n']:
      rest.pop(0)
  if not take(PREDICTED):
    return None
  observation = texts()
  if not take(END_PREDICTED) or rest not in ([], [IM_END]):
    return None
  return Prediction(observation, thinking)


@hypothesis.settings(max_examples=10_000)
@hypothesis.given(st.lists(st.sampled_from([*TAGS, *TAGS, IM_END, 'a', '\n', 'x y']), max_size=8))
def test_parsing_agrees_with_the_grammar(pieces):
  assert parse_prediction(''.join(pieces)) == reference_parse(pieces)


@hypothesis.given(PLAIN, PLAIN, st.data())
def test_one_tag_too_many_or_too_few_is_refused(observation, thinking, data):
  text = written(observation, thinking)
  tag = data.draw(st.sampled_from(TAGS))
  assert parse_prediction(text.replace(tag, '', 1)) is None
  place = data.draw(st.integers(0, len(text)))
  assert parse_prediction(text[:place] + tag + text[place:]) is None


@pytest.mark.parametrize('text', [
  '', 'a.txt', f' {PREDICTED}a{END_PREDICTED}', f'{PREDICTED}a{END_PREDICTED} ',
  f'{PREDICTED}a{END_PREDICTED}{IM_END}{IM_END}', f'{PREDICTED}a',
  f'{PREDICTED}a{END_PREDICTED}{THINK}b{END_THINK}', f'{THINK}b{END_THINK}',
  f'{THINK}b{END_THINK}\n\n{PREDICTED}a{END_PREDICTED}', f'{PREDICTED.upper()}a{END_PREDICTED}',
])
def test_malformed_predictions_are_refused(text):
  assert parse_prediction(text) is None


HISTORY = [('echo hi > a.txt', ''), ('cat a.txt', 'hi\n')]

WORLD_MODEL_CHAT = """\
<|im_start|>system
You are a Linux terminal.<|im_end|>
<|im_start|>user
echo hi > a.txt<|im_end|>
<|im_start|>assistant
<predicted_observation></predicted_observation><|im_end|>
<|im_start|>user
cat a.txt<|im_end|>
<|im_start|>assistant
<predicted_observation>hi
</predicted_observation><|im_end|>
<|im_start|>user
ls<|im_end|>
<|im_start|>assistant
<think>One file.</think><predicted_observation>a.txt
</predicted_observation><|im_end|>
"""

AGENT_CHAT = """\
<|im_start|>system
Write a file.<|im_end|>
<|im_start|>user
(empty)<|im_end|>
<|im_start|>assistant
echo hi > a.txt<|im_end|>
<|im_start|>user
<|im_end|>
<|im_start|>assistant
cat a.txt<|im_end|>
<|im_start|>user
hi
<|im_end|>
<|im_start|>assistant
<submit> done<|im_end|>
"""


def test_world_model_chat():
  t = tokenizer()
  ids = chat.world_model_context(t, 'You are a Linux terminal.', HISTORY)
  ids += chat.action_message(t, 'ls') + chat.prediction(t, 'a.txt\n', 'One file.')
  assert t.decode(ids) == WORLD_MODEL_CHAT


def test_agent_chat():
  t = tokenizer()
  ids = chat.agent_context(t, 'Write a file.', '(empty)', HISTORY)
  ids += chat.agent_action(t, '<submit> done')
  assert t.decode(ids) == AGENT_CHAT
  assert ids.count(t.special('<submit>')) == 1


@hypothesis.given(PLAIN, PLAIN)
def test_a_rendered_prediction_parses_back(observation, thinking):
  t = tokenizer()
  block = '\N{LOWER ONE EIGHTH BLOCK}'  # SentencePiece reads it as a space
  observation = observation.replace(block, ' ')
  thinking = thinking.replace(block, ' ')
  said = t.decode(chat.prediction(t, observation, thinking))
  assert parse_prediction(said) == Prediction(observation, thinking)
  assert chat.parse_thinking(said) == thinking


@pytest.mark.parametrize('text', ['', 'words', f'{PREDICTED}x', f'{THINK}no end',
                                  f' {THINK}t{END_THINK}', f'{THINK}{PREDICTED}t{END_THINK}'])
def test_a_turn_that_begins_without_thinking(text):
  assert chat.parse_thinking(text) == ''


@hypothesis.given(st.lists(st.sampled_from([*SPECIAL_TOKENS, 'ls', '\n']), max_size=4).map(''.join))
def test_nobody_can_forge_a_turn(text):
  """Whatever an action or observation says, the chat has the markup of its turns alone."""
  t = tokenizer()
  specials = [t.special(token) for token in SPECIAL_TOKENS]
  markup = [i for i in chat.world_model_context(t, text, [(text, text)]) if i in specials]
  plain = [i for i in chat.world_model_context(t, 's', [('a', 'o')]) if i in specials]
  assert markup == plain


def test_only_a_leading_submit_is_one_token():
  t = tokenizer()
  submit = t.special('<submit>')
  assert chat.agent_action(t, '<submit>') == [submit, t.special(IM_END)]
  assert submit not in chat.agent_action(t, 'echo <submit>')


def test_history_makes_a_longer_chat_with_the_same_beginning():
  """A cache that holds the chat so far is never invalidated by the next turn."""
  t = tokenizer()
  shorter = chat.world_model_context(t, 's', HISTORY[:1])
  assert chat.world_model_context(t, 's', HISTORY)[:len(shorter)] == shorter
  shorter = chat.agent_context(t, 's', 'f', HISTORY[:1])
  assert chat.agent_context(t, 's', 'f', HISTORY)[:len(shorter)] == shorter


# --- system prompts -------------------------------------------------------------------------------

# What checkpoints/base was trained on, letter by letter.
GOLDEN = {
    ('terminal', 'v0'): 'Simulate a Linux terminal. Files:\n== a.txt\none',
    ('terminal', 'v1'): 'You are a Linux terminal. Files:\n== a.txt\none',
    ('terminal', 'v2'): 'Predict what a Linux terminal answers. Files:\n== a.txt\none',
    ('terminal', 'v3'): 'Files:\n== a.txt\none\nAnswer as a Linux terminal.',
    ('mcp', 'v0'): 'Simulate tool servers. State:\n== a.txt\none',
    ('mcp', 'v1'): 'You are tool servers. State:\n== a.txt\none',
    ('mcp', 'v2'): 'Predict what tool servers answers. State:\n== a.txt\none',
    ('mcp', 'v3'): 'State:\n== a.txt\none\nAnswer as tool servers.',
}


@pytest.mark.parametrize(('domain', 'template'), GOLDEN)
def test_the_prompts_of_the_base_checkpoint_are_as_they_were(domain, template):
  golden = GOLDEN[domain, template]
  assert templates.world_model_prompt(domain, '== a.txt\none', template) == golden
  instructed = templates.world_model_prompt(domain, '== a.txt\none', template, 'Fail.')
  assert instructed == f'{golden}\nFail.'
  # A task has nothing to add to a short prompt.
  task = a_task(domain, setup={'server': 'shop', 'tools': [{'name': 'get'}]})
  assert templates.task_prompt(task, template) == golden


def test_the_agents_prompt_is_as_it_was():
  assert templates.agent_prompt('terminal', 'Go.') == 'You use a Linux terminal. Task: Go.'
  assert templates.agent_prompt('mcp', 'Go.') == 'You use tool servers. Task: Go.'


def a_task(domain: str, state: str | None = '== a.txt\none', setup=None) -> Task:
  return Task(f'{domain}/f/0', domain, 'f', 'train', 0, 'Find the {key} of it.', state, setup or {},
              Verifier('answer', 'x'), 12)


def test_stages_share_no_template_and_there_are_twelve():
  used = [name for names in templates.STAGE_TEMPLATES.values() for name in names]
  assert sorted(used) == sorted(templates.TEMPLATES) and len(set(used)) == len(used) == 12
  assert templates.STAGE_TEMPLATES['rl'] == ('v0',) and templates.STAGE_TEMPLATES['cpt'] == ('v1',)


@pytest.mark.parametrize('size', templates.SIZES)
@pytest.mark.parametrize('domain', DOMAINS)
def test_every_domain_has_twelve_different_prompts(domain, size):
  state = 'a.txt: {world} {0}\n'
  prompts = {name: templates.world_model_prompt(domain, state, name, 'Be brief.', size=size)
             for name in templates.TEMPLATES}
  assert len(set(prompts.values())) == 12
  facts = domains.FACTS[domain]
  for prompt in prompts.values():
    assert state in prompt and prompt.endswith('\nBe brief.')  # the instruction comes last
    assert facts.world in prompt and facts.state_name.lower() in prompt.lower()
  unknown = templates.world_model_prompt(domain, None, 'v3', size=size)
  assert 'unknown' in unknown


@pytest.mark.parametrize('domain', DOMAINS)
def test_short_prompts_are_about_as_long_as_those_of_the_base(domain):
  """In tokens of its vocabulary; the words of other domains it spells letter by letter."""
  vocabulary = Tokenizer.load(BASE)
  known = domain in ('terminal', 'mcp')
  length = {name: len(vocabulary.encode(templates.world_model_prompt(domain, '', name)))
            for name in templates.TEMPLATES}
  longest = max(length[f'v{number}'] for number in range(4))
  assert all(length[name] <= longest + (14 if known else 24) for name in templates.TEMPLATES)
  assert all(templates.world_model_prompt(domain, '', name).count('\n') <= 3
             for name in templates.TEMPLATES)


@pytest.mark.parametrize('domain', DOMAINS)
def test_full_prompts_grow_from_a_few_lines_to_a_specification(domain):
  task = a_task(domain)
  sizes = [len(templates.task_prompt(task, name, size='full')) for name in templates.TEMPLATES]
  assert all(one <= other for one, other in itertools.pairwise(sizes))
  shared = len(templates.task_prompt(task, 'v0')) + sum(
      len(tool.signature) + 1 for tool in domains.FACTS[domain].toolsets.get('', ()))
  assert sizes[0] < shared + 220 and sizes[-1] > shared + 2500
  full = templates.task_prompt(task, 'v11', size='full')
  facts = domains.FACTS[domain]
  for lines in (facts.actions, facts.observations, facts.state, facts.rules, facts.errors,
                facts.runtime, (facts.purpose, facts.demonstration_state, task.instruction)):
    assert all(line in full for line in lines)
  for action, observation in facts.demonstration:
    assert action in full and observation in full


@pytest.mark.parametrize('domain', DOMAINS)
def test_the_facts_of_a_domain_are_all_there(domain):
  facts = domains.FACTS[domain]
  for field in dataclasses.fields(facts):
    assert getattr(facts, field.name) or field.name == 'toolsets'
  lines = [*facts.actions, *facts.observations, *facts.state, *facts.rules, *facts.errors,
           *facts.runtime]
  assert len(set(lines)) == len(lines) and all(line == line.strip() for line in lines)
  assert 2 <= len(facts.demonstration) <= 4


def test_a_full_prompt_shows_the_tools_a_task_declares():
  declared = [
      {'type': 'function', 'function': {
          'name': 'book', 'description': 'Book a flight.', 'parameters': {
              'type': 'object', 'required': ['flight'], 'properties': {
                  'flight': {'type': 'string'}, 'cabin': {'enum': ['economy', 'business']},
                  'bags': {'type': ['integer', 'null']}, 'note': {}}}}},
      {'name': 'cancel', 'description': 'Cancel it.', 'inputSchema': {'type': 'object'}}]
  tools = declared_tools({'tools': declared})
  assert [tool.signature for tool in tools] == [
      'book(flight: string, cabin?: "economy" | "business", bags?: integer | null, note?: any)',
      'cancel()']
  task = a_task('mcp', setup={'server': 'shop', 'tools': declared})
  for name in templates.TEMPLATES:
    prompt = templates.task_prompt(task, name, size='full')
    assert 'book' in prompt and 'cancel' in prompt and 'find_customer' not in prompt
    shown = 'Book a flight.' in prompt and '"flight": "string"' in prompt
    assert shown == (int(name[1:]) >= 4)
  assert declared_tools({}) is None and declared_tools({'tools': 'all'}) is None
  assert declared_tools({'tools': []}) == ()


@pytest.mark.parametrize('server', mcp_worlds.SERVERS)
def test_our_servers_tools_are_those_that_prompts_name(server):
  """Their names, and which arguments they have and need."""
  tools = asyncio.run(real_server(server).list_tools())
  found = {tool.name: {(name if name in schema(tool).get('required', ()) else f'{name}?')
                       for name in schema(tool).get('properties', {})} for tool in tools}
  told = {tool.name: {name for name, _ in tool.arguments}
          for tool in domains.FACTS['mcp'].toolsets[server]}
  assert told == found
  prompt = templates.task_prompt(a_task('mcp', setup={'server': server}), 'v0', size='full')
  assert all(tool.signature in prompt for tool in domains.FACTS['mcp'].toolsets[server])


def schema(tool) -> dict:
  return getattr(tool, 'input_schema', None) or tool.inputSchema


def real_server(name: str):
  if name == 'shop':
    return shop.create_server('none.db')
  if name == 'time':
    return importlib.import_module('mcp_server_time.server').create_server('UTC')
  return importlib.import_module('mcp_server_git.server').create_server(None)


def test_the_browsers_actions_are_those_that_prompts_name():
  told = {tool.name: [name for name, _ in tool.arguments]
          for tool in domains.FACTS['web'].toolsets['']}
  assert told == {
      name: [key if default is web_actions.REQUIRED else f'{key}?'
             for key, default in arguments.items()]
      for name, arguments in web_actions.SIGNATURES.items()}


WEB = pytest.mark.requires('chromium', 'playwright', 'miniwob')


@pytest.mark.requires('bwrap')
@pytest.mark.parametrize(('domain', 'setup'), [
    ('terminal', {'files': {'fruit.txt': 'pear\napple\n'}}),
    ('mcp', {'server': 'shop', 'customers': [[3, 'Ada Bell', 'Oslo']],
             'products': [[41, 'lamp', 12, 5]], 'orders': [[101, 3, 41, 1, 12, 'shipped']]}),
    ('search', {'documents': [
        document.split('\n', 2)
        for document in domains.FACTS['search'].demonstration_state[3:].split('\n== ')]}),
    pytest.param('web', {'site': 'miniwob', 'path': '/miniwob/login-user.html', 'seed': 1},
                 marks=WEB)])
def test_demonstrations_are_what_the_real_world_answers(domain, setup):
  check_demonstration(domain, setup)


@pytest.mark.requires('desktop')
def test_the_desktops_demonstration_is_what_the_real_one_answers():
  check_demonstration('os', {'files': {'list.txt': 'milk\n'},
                             'programs': [['mousepad', 'list.txt']]})


def check_demonstration(domain, setup):
  facts = domains.FACTS[domain]
  with registry.make_environment(domain) as environment:
    environment.reset(a_task(domain, facts.demonstration_state, setup))
    assert environment.snapshot() == facts.demonstration_state
    for action, observation in facts.demonstration:
      assert environment.step(action).observation == observation


def test_unknown_names_are_listed():
  with pytest.raises(templates.PromptError, match=re.escape(
      "no prompts for domain 'shell'; there are terminal, mcp, search")):
    templates.world_model_prompt('shell', 'x')
  with pytest.raises(templates.PromptError):
    templates.agent_prompt('shell', 'y')
  with pytest.raises(templates.PromptError, match=re.escape("no template 'v99'; there are v0, v1")):
    templates.world_model_prompt('terminal', None, 'v99')
  with pytest.raises(templates.PromptError, match="size 'tall'; there are short, full"):
    templates.world_model_prompt('terminal', None, size='tall')
