"""What the os domain's families share: home directories, tool calls, and recipes made of them."""

import random
from collections.abc import Mapping, Sequence

from aw_jax.environments import desktop_host, desktop_screen
from aw_jax.environments.mcp import call_text
from aw_jax.environments.registry import Recipe
from aw_jax.trajectories import SUBMIT, Verifier

WORDS = ('amber', 'birch', 'cedar', 'delta', 'ember', 'fjord', 'grove', 'harbor', 'iris', 'juniper',
         'kettle', 'lantern', 'meadow', 'nectar', 'orchard', 'pepper', 'quartz', 'river', 'saffron',
         'timber', 'umber', 'violet', 'willow', 'yarrow', 'zephyr')
STEMS = ('agenda', 'budget', 'diary', 'draft', 'ideas', 'list', 'minutes', 'notes', 'plan',
         'recipe', 'report', 'summary')
FOLDERS = ('archive', 'drafts', 'inbox', 'letters', 'music', 'old', 'photos', 'shared', 'work')
_SPARE_TURNS = 6  # beyond the expert's


def click(label: str) -> str:
  """Clicks on what has this label."""
  return call_text('click', label=label)


def menu(*labels: str) -> list[str]:
  """Clicks through a menu."""
  return [click(label) for label in labels]


def double_click(label: str) -> str:
  """Opens what has this label."""
  return call_text('double_click', label=label)


def write(text: str) -> str:
  """Types."""
  return call_text('type', text=text)


def key(keys: str) -> str:
  """Presses keys."""
  return call_text('key', keys=keys)


def line(rng: random.Random, least: int = 2, most: int = 4) -> str:
  """A line of words."""
  return ' '.join(rng.sample(WORDS, rng.randint(least, most)))


def text(rng: random.Random, least: int = 1, most: int = 4) -> str:
  """Lines of words."""
  return ''.join(f'{line(rng)}\n' for _ in range(rng.randint(least, most)))


def names(rng: random.Random, count: int) -> list[str]:
  """Different file names."""
  return [f'{stem}.txt' for stem in rng.sample(STEMS, count)]


def clutter(rng: random.Random) -> dict[str, str]:
  """A few files that a task is not about."""
  return {f'{word}.md': text(rng, 1, 2) for word in rng.sample(WORDS, rng.randint(0, 2))}


def recipe(
    instruction: str, programs: Sequence[Sequence[str]], files: Mapping[str, str],
    plan: Sequence[str], verifier: Verifier, folders: Sequence[str] = (),
    answer: str = '') -> Recipe:
  """A recipe whose initial state is what a desktop so set up shows.

  Raises:
    BrokenEnvironmentError, MissingProgramError: where no desktop starts.
  """
  setup = {'files': dict(files), 'folders': list(folders),
           'programs': [list(command) for command in programs]}
  found = desktop_host.describe(setup)
  state = desktop_screen.state(desktop_screen.read(found['nodes'], {}), found['files'])
  return Recipe(instruction, setup, state, verifier, (*plan, f'{SUBMIT} {answer}'.strip()),
                max_turns=len(plan) + _SPARE_TURNS)


def file_says(path: str, expected: str) -> Verifier:
  """Passes where a file has this text (but for space at its end)."""
  return Verifier('command', expected, call_text('read_file', path=path))


def setting_is(name: str, value: str) -> Verifier:
  """Passes where a setting of the editor has this value."""
  return Verifier('command', value, call_text('read_setting', key=name))


def window_shows(title: str, expected: str) -> Verifier:
  """Passes where the first text of a window is this."""
  return Verifier('command', expected, call_text('read_text', window=title))


def files_are(files: Mapping[str, str], folders: Sequence[str] = ()) -> Verifier:
  """Passes where these and no other files and folders are there."""
  paths = {*files, *(f'{folder}/' for folder in folders)}
  for path in (*files, *folders):
    parts = path.split('/')
    paths |= {'/'.join(parts[:i]) + '/' for i in range(1, len(parts))}
  paths.discard('Trash/')  # it is no folder of the home directory
  expected = sorted(paths, key=lambda path: path.rstrip('/'))
  return Verifier('command', '\n'.join(expected), call_text('list_files'))
