"""System prompts of world models and agents: facts of a domain, laid out by a template.

    prompt := task description + action space + [initial state] + demonstrations + [instruction]

PAPER.md sections 1 and 2: twelve templates a domain, v0 to v11, those of the three stages disjoint.
Each has two sizes. 'short' is a line or two about the state, for a small model with a short
context. 'full' grows from a few lines (v0) to a full specification (v11): v0 to v3 introduce the
world, its actions and tools; those after add how observations look, the rules of the state, errors,
runtime metadata, how the state is to be read, and a demonstration. A new domain is one file of
facts (`aw_jax/prompts/domains`).
"""

import dataclasses
import json
from collections.abc import Callable, Sequence

from aw_jax.prompts.domains import FACTS
from aw_jax.prompts.facts import Facts, Tool, declared_tools
from aw_jax.tokenizer import END_PREDICTED, END_THINK, PREDICTED, THINK
from aw_jax.trajectories import Task

SIZES = ('short', 'full')
TEMPLATES = tuple(f'v{number}' for number in range(12))
# Of each stage, in the order in which a run that wants fewer of them takes them.
STAGE_TEMPLATES = {'rl': TEMPLATES[:1], 'cpt': TEMPLATES[1:2], 'sft': TEMPLATES[2:]}
_AGENT = 'You use {world}. Task: {instruction}'

# The lines of each short prompt. checkpoints/base was trained on v0 to v3, letter by letter.
_SHORT = {
    'v0': ('Simulate {world}. {state_name}:', '{state}'),
    'v1': ('You are {world}. {state_name}:', '{state}'),
    'v2': ('Predict what {world} answers. {state_name}:', '{state}'),
    'v3': ('{state_name}:', '{state}', 'Answer as {world}.'),
    'v4': ('Act as {world}. {state_name}:', '{state}'),
    'v5': ('{state_name}:', '{state}', 'Predict what {world} shows.'),
    'v6': ('Each message goes to {world}. {state_name}:', '{state}'),
    'v7': ('{state_name} of {world}:', '{state}', 'Answer each action.'),
    'v8': ('Say what each action in {world} gives. {state_name}:', '{state}'),
    'v9': ('World: {world}', '{state_name}:', '{state}'),
    'v10': ('Stand in for {world}. {state_name} at the start:', '{state}'),
    'v11': ('{state_name} at the start:', '{state}', 'Reply as {world} would.'),
}


class PromptError(ValueError):
  """No such domain, template or size; the message lists those there are."""


@dataclasses.dataclass(frozen=True)
class _Scene:
  """What one prompt is about: the domain, and what the task adds to it."""

  facts: Facts
  state: str
  tools: tuple[Tool, ...]
  goal: str


def _items(lines: Sequence[str]) -> str:
  return '\n'.join(f'- {line}' for line in lines)


def _tool_entry(tool: Tool) -> str:
  arguments = dict(tool.arguments)
  return f'{tool.name}: {tool.description} Arguments: {json.dumps(arguments, ensure_ascii=False)}'


def _action_line(scene: _Scene) -> str:
  """The action space in short: what an action is, and the tools by their signatures."""
  return '\n'.join([scene.facts.actions[0], *(tool.signature for tool in scene.tools)])


def _action_space(scene: _Scene) -> str:
  return _items([*scene.facts.actions, *map(_tool_entry, scene.tools)])


def _demonstration(scene: _Scene) -> str:
  turns = [f'Action: {action}\nObservation:\n{observation}'
           for action, observation in scene.facts.demonstration]
  before = f'{scene.facts.state_name} before:\n{scene.facts.demonstration_state}'
  return '\n\n'.join([before, *turns])


_ANSWER = (
    'Each message is an action. Answer it with what the environment shows, that and nothing else.')
_FORMAT = (
    _ANSWER,
    f'Put the observation between {PREDICTED} and {END_PREDICTED}. Reasoning, where there is any, '
    f'comes before it between {THINK} and {END_THINK}, and is not part of what is shown.',
    'Do not comment, praise or explain inside the observation. An action that is wrong is answered '
    'as the environment would answer it.',
    'What follows from the state and the actions so far must be exact; what nobody could know must '
    'be plausible, and agree with itself from then on.')

# Section name -> its title and its text; a section without text is left out.
_SECTIONS: dict[str, tuple[str, Callable[[_Scene], str]]] = {
    'purpose': ('Task', lambda scene: scene.facts.purpose),
    'answer': ('Answers', lambda scene: _ANSWER),
    'format': ('Format of answers', lambda scene: _items(_FORMAT)),
    'action_line': ('Actions', _action_line),
    'action_space': ('Action space', _action_space),
    'observations': ('Observations', lambda scene: _items(scene.facts.observations)),
    'rules': ('Rules of the state', lambda scene: _items(scene.facts.rules)),
    'errors': ('Errors', lambda scene: _items(scene.facts.errors)),
    'runtime': ('Runtime metadata', lambda scene: _items(scene.facts.runtime)),
    'reading': ('How to read the state', lambda scene: _items(scene.facts.state)),
    'goal': ('What the agent was asked to do', lambda scene: scene.goal),
    'state': ('', lambda scene: scene.state),  # titled by the domain's own name of it
    'demonstration': ('Demonstration', _demonstration),
}


@dataclasses.dataclass(frozen=True)
class _Layout:
  """A full prompt: an opening sentence about {world}, then sections under titles.

  Attributes:
    opening: the first line.
    heading: a section from its number, title and text.
    sections: names of `_SECTIONS`, in order.
  """

  opening: str
  heading: str
  sections: tuple[str, ...]


_PLAIN, _MARKDOWN = '{title}:\n{text}', '## {title}\n{text}'
_TAGS, _NUMBERED = '<{tag}>\n{text}\n</{tag}>', '{number}. {title}\n{text}'
_BRACKETS, _RULED = '[{title}]\n{text}', '=== {title} ===\n{text}'

_FULL = {
    'v0': _Layout('Simulate {world}.', _PLAIN, ('action_line', 'state')),
    'v1': _Layout('You are {world}.', _PLAIN, ('action_line', 'answer', 'state')),
    'v2': _Layout(
        'Predict what {world} answers.', _MARKDOWN, ('purpose', 'action_line', 'state')),
    'v3': _Layout(
        'Below is {world}, action by action.', _TAGS,
        ('purpose', 'action_line', 'state', 'answer')),
    'v4': _Layout(
        'Act as {world}.', _BRACKETS, ('purpose', 'action_space', 'answer', 'state')),
    'v5': _Layout(
        'An agent acts in {world}; you answer in its place.', _RULED,
        ('purpose', 'action_space', 'observations', 'answer', 'state')),
    'v6': _Layout(
        'The task is to simulate {world}.', _NUMBERED,
        ('purpose', 'action_space', 'rules', 'observations', 'answer', 'state')),
    'v7': _Layout(
        'You take the place of {world}.', _MARKDOWN,
        ('purpose', 'observations', 'action_space', 'errors', 'rules', 'answer', 'state')),
    'v8': _Layout(
        'World model of {world}.', _TAGS,
        ('purpose', 'action_space', 'rules', 'errors', 'observations', 'runtime', 'answer', 'goal',
         'state')),
    'v9': _Layout(
        'Everything an agent sees of {world} is written by you.', _PLAIN,
        ('purpose', 'action_space', 'observations', 'rules', 'errors', 'runtime', 'format', 'goal',
         'state')),
    'v10': _Layout(
        'How {world} behaves, with an example.', _BRACKETS,
        ('purpose', 'action_space', 'observations', 'rules', 'errors', 'runtime', 'format', 'goal',
         'state', 'demonstration')),
    'v11': _Layout(
        'Specification for a simulation of {world}.', _NUMBERED,
        ('purpose', 'format', 'action_space', 'observations', 'reading', 'rules', 'errors',
         'runtime', 'goal', 'state', 'demonstration')),
}


def facts_of(domain: str) -> Facts:
  """The facts of a domain. Raises PromptError where there are none."""
  if domain not in FACTS:
    raise PromptError(f'no prompts for domain {domain!r}; there are {", ".join(FACTS)}')
  return FACTS[domain]


def require_size(size: str) -> None:
  """Raises PromptError where there is no such size of prompts."""
  if size not in SIZES:
    raise PromptError(f'no prompts of size {size!r}; there are {", ".join(SIZES)}')


def require_template(template: str) -> None:
  """Raises PromptError where there is no such template."""
  if template not in TEMPLATES:
    raise PromptError(f'no template {template!r}; there are {", ".join(TEMPLATES)}')


def _full(layout: _Layout, scene: _Scene) -> str:
  parts = [layout.opening.format(world=scene.facts.world)]
  number = 0
  for name in layout.sections:
    title, make = _SECTIONS[name]
    text = make(scene)
    if not text:
      continue
    number += 1
    title = title or scene.facts.state_name
    parts.append(layout.heading.format(
        number=number, title=title, tag=title.lower().replace(' ', '_'), text=text))
  return '\n\n'.join(parts)


def world_model_prompt(
    domain: str, initial_state: str | None, template: str = 'v0', instruction: str = '', *,
    size: str = 'short', tools: Sequence[Tool] = (), goal: str = '') -> str:
  """The world model's system prompt (PAPER.md section 1).

  Args:
    domain: the environment's domain.
    initial_state: the state before the first action, None where it cannot be seen.
    template: one of TEMPLATES.
    instruction: an optional simulation instruction (PAPER.md section 7), appended.
    size: one of SIZES.
    tools: of a full prompt's action space.
    goal: what the agent was told, for the full prompts that say so (v8 to v11).
  Raises:
    PromptError: for an unknown domain, template or size.
  """
  facts = facts_of(domain)
  require_template(template)
  require_size(size)
  state = 'unknown' if initial_state is None else initial_state
  if size == 'short':
    prompt = '\n'.join(_SHORT[template]).format(
        world=facts.world, state_name=facts.state_name, state=state)
  else:
    prompt = _full(_FULL[template], _Scene(facts, state, tuple(tools), goal))
  return f'{prompt}\n{instruction}' if instruction else prompt


def task_prompt(
    task: Task, template: str = 'v0', instruction: str = '', size: str = 'short') -> str:
  """`world_model_prompt` of a task: its state, and in a full prompt its tools and its goal.

  The tools are those that the task declares (`facts.declared_tools`), else those of its server.
  """
  tools = declared_tools(task.setup)
  if tools is None:
    tools = facts_of(task.domain).toolsets.get(task.setup.get('server', ''), ())
  return world_model_prompt(
      task.domain, task.initial_state, template, instruction, size=size, tools=tools,
      goal=task.instruction)


def agent_prompt(domain: str, instruction: str) -> str:
  """The agent's system prompt. Raises PromptError for an unknown domain."""
  return _AGENT.format(world=facts_of(domain).world, instruction=instruction)
