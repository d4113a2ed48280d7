"""Families of the text editor, Mousepad."""

import random

from aw_jax.environments.desktop_tasks import recipes as r
from aw_jax.environments.registry import Family, Recipe

_SAVE = r.key('ctrl+s')
# Menu, entry, setting; all are off at first.
_SWITCHES = (
    ('View', 'Line Numbers', 'show-line-numbers'), ('Document', 'Word Wrap', 'word-wrap'),
    ('Document', 'Auto Indent', 'auto-indent'))
_CASES = {'To Uppercase': str.upper, 'To Title Case': str.title}


def write(seed: int, rng: random.Random) -> Recipe:
  """Add a line at the end of the file that is open."""
  del seed
  (name,), content, new = r.names(rng, 1), r.text(rng), r.line(rng)
  return r.recipe(
      f'Add the line "{new}" at the end of {name}, which is open, and save it.',
      [['mousepad', name]], {name: content, **r.clutter(rng)},
      [r.key('ctrl+end'), r.write(new), _SAVE], r.file_says(name, content + new))


def new(seed: int, rng: random.Random) -> Recipe:
  """Write a file that is not there yet."""
  del seed
  (name,), first = r.names(rng, 1), r.line(rng)
  return r.recipe(
      f'Write "{first}" into the empty document that is open, and save it as {name} in the home '
      'folder.', [['mousepad']], r.clutter(rng),
      [r.write(first), _SAVE, r.key('ctrl+a'), r.write(name), r.click('Save')],
      r.file_says(name, first))


def save_as(seed: int, rng: random.Random) -> Recipe:
  """Save the file that is open under another name, changed or not."""
  del seed
  (name, other), content, first = r.names(rng, 2), r.text(rng), r.line(rng, 1, 2)
  return r.recipe(
      f'Put the line "{first}" before the first line of {name}, which is open, and save that as '
      f'{other}; leave {name} as it is.', [['mousepad', name]], {name: content, **r.clutter(rng)},
      [r.write(first), r.key('enter'), *r.menu('File', 'Save As...'), r.key('ctrl+a'),
       r.write(other), r.click('Save')], r.file_says(other, f'{first}\n{content}'))


def replace(seed: int, rng: random.Random) -> Recipe:
  """Replace a word everywhere."""
  del seed
  (name,), (old, new_word) = r.names(rng, 1), rng.sample(r.WORDS, 2)
  lines = [rng.sample((old, *rng.sample(r.WORDS, 2)), 3) for _ in range(rng.randint(2, 4))]
  content = ''.join(f'{" ".join(line)}\n' for line in lines)
  return r.recipe(
      f'Replace every "{old}" in {name}, which is open, by "{new_word}" and save it.',
      [['mousepad', name]], {name: content, **r.clutter(rng)},
      [*r.menu('Search', 'Find and Replace...'), r.write(old), r.key('tab'),
       r.write(new_word), r.click('Replace all in:'), r.click('Replace All'), r.click('Close'),
       _SAVE], r.file_says(name, content.replace(old, new_word)))


def open_other(seed: int, rng: random.Random) -> Recipe:
  """Open another file through the dialog, and write into it."""
  del seed
  (name, other), first = r.names(rng, 2), r.line(rng)
  files = {name: r.text(rng), other: r.text(rng)}
  return r.recipe(
      f'Open {other} in the editor, put the line "{first}" before its first line, and save it.',
      [['mousepad', name]], {**files, **r.clutter(rng)},
      [*r.menu('File', 'Open...'), r.double_click(other), r.write(first), r.key('enter'), _SAVE],
      r.file_says(other, f'{first}\n{files[other]}'))


def delete_line(seed: int, rng: random.Random) -> Recipe:
  """Delete one line of the file that is open."""
  del seed
  (name,) = r.names(rng, 1)
  lines = [r.line(rng) for _ in range(rng.randint(3, 5))]
  place = rng.randrange(min(len(lines), 4))
  left = [line for number, line in enumerate(lines) if number != place]
  return r.recipe(
      f'Delete line {place + 1} of {name}, which is open, and save it.',
      [['mousepad', name]], {name: '\n'.join(lines) + '\n', **r.clutter(rng)},
      [*[r.key('down')] * place, *r.menu('Edit', 'Delete Line'), _SAVE],
      r.file_says(name, '\n'.join(left)))


def setting(seed: int, rng: random.Random) -> Recipe:
  """Turn on a setting of the editor."""
  del seed
  (name,), (above, label, setting_name) = r.names(rng, 1), rng.choice(_SWITCHES)
  return r.recipe(
      f'Turn on "{label}" in the editor.', [['mousepad', name]],
      {name: r.text(rng), **r.clutter(rng)}, r.menu(above, label),
      r.setting_is(setting_name, 'true'))


def change_case(seed: int, rng: random.Random) -> Recipe:
  """Convert the whole file to another case."""
  del seed
  (name,), content, label = r.names(rng, 1), r.text(rng), rng.choice(list(_CASES))
  return r.recipe(
      f'Convert the whole text of {name}, which is open, with "{label}" and save it.',
      [['mousepad', name]], {name: content, **r.clutter(rng)},
      [r.key('ctrl+a'), *r.menu('Edit', 'Convert', label), _SAVE],
      r.file_says(name, _CASES[label](content)))


FAMILIES = tuple(Family(f'editor_{make.__name__}', make) for make in (
    write, new, save_as, replace, open_other, delete_line, setting, change_case))
