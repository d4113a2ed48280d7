"""System prompts of world models and agents: facts of a domain, laid out by a template.

PAPER.md section 2: the templates of the three stages are disjoint; RL uses v0, CPT v1, SFT v2 and
up. A small model's context is short, so these are short.
"""

from aw_jax.trajectories import DOMAINS

# What a world model is told of each domain: what it simulates, and what its state is called.
_FACTS = {
    'terminal': ('a Linux terminal', 'Files'),
    'mcp': ('tool servers', 'State'),
}
_LAYOUTS = {
    'v0': 'Simulate {world}. {state_name}:\n{state}',
    'v1': 'You are {world}. {state_name}:\n{state}',
    'v2': 'Predict what {world} answers. {state_name}:\n{state}',
    'v3': '{state_name}:\n{state}\nAnswer as {world}.',
}
STAGE_TEMPLATES = {'rl': ('v0',), 'cpt': ('v1',), 'sft': ('v2', 'v3')}
_AGENT = 'You use {world}. Task: {instruction}'


class PromptError(ValueError):
  """No such domain or template; the message lists those there are."""


def _facts(domain: str) -> tuple[str, str]:
  if domain not in _FACTS:
    known = ', '.join(_FACTS)
    other = ' (not built yet)' if domain in DOMAINS else ''
    raise PromptError(f'no prompts for domain {domain!r}{other}; there are {known}')
  return _FACTS[domain]


def world_model_prompt(
    domain: str, initial_state: str | None, template: str = 'v0', instruction: str = ''
) -> str:
  """The world model's system prompt (PAPER.md section 1).

  Args:
    domain: the environment's domain.
    initial_state: the state before the first action, None where it cannot be seen.
    template: 'v0', 'v1', ...
    instruction: an optional simulation instruction (PAPER.md section 7), appended.
  Raises:
    PromptError: for an unknown domain or template.
  """
  world, state_name = _facts(domain)
  if template not in _LAYOUTS:
    raise PromptError(f'no template {template!r}; there are {", ".join(_LAYOUTS)}')
  state = 'unknown' if initial_state is None else initial_state
  prompt = _LAYOUTS[template].format(world=world, state_name=state_name, state=state)
  return f'{prompt}\n{instruction}' if instruction else prompt


def agent_prompt(domain: str, instruction: str) -> str:
  """The agent's system prompt. Raises PromptError for an unknown domain."""
  return _AGENT.format(world=_facts(domain)[0], instruction=instruction)
