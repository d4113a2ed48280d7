"""The worlds behind the servers filesystem and memory: their files, and their state as text.

The state of a filesystem is every file with its text, and the folders that are empty; of a
knowledge graph, a line for each entity with its notes and for each relation. What an agent wrote
without end is cut.
"""

import json
import os
from collections.abc import Sequence
from typing import Any

_GRAPH = 'memory.jsonl'
_MOST_FILES = 60
_MOST_CHARACTERS = 1500  # of one file, and of one line of a graph
_MOST_LINES = 100  # of a graph


def files(setup: dict[str, Any]) -> dict[str, bytes]:
  """path -> content of a setup's initial state."""
  if setup['server'] == 'filesystem':
    return {path: text.encode() for path, text in setup['files'].items()}
  lines = [{'type': 'entity', 'name': name, 'entityType': kind, 'observations': notes}
           for name, kind, notes in setup['entities']]
  lines += [{'type': 'relation', 'from': source, 'to': target, 'relationType': kind}
            for source, kind, target in setup['relations']]
  return {_GRAPH: '\n'.join(json.dumps(line, ensure_ascii=False) for line in lines).encode()}


def state(setup: dict[str, Any]) -> str:
  """A setup's initial state as text."""
  if setup['server'] == 'filesystem':
    return _render_files(setup['files'])
  return _render_graph(setup['entities'], setup['relations'])


def read_files(folder: str) -> str:
  """The state of a filesystem in `folder`."""
  found: dict[str, str | None] = {}
  for place, folders, names in os.walk(folder):
    within = os.path.relpath(place, folder)
    if not folders and not names and within != '.':
      found[within] = None
    for name in names:
      found[os.path.normpath(f'{within}/{name}')] = _read(os.path.join(place, name))
    if len(found) > _MOST_FILES:
      break
  return _render_files(found)


def read_graph(folder: str) -> str:
  """The state of the knowledge graph in `folder`."""
  entities, relations = [], []
  try:
    with open(os.path.join(folder, _GRAPH), encoding='utf-8') as file:
      lines = [json.loads(line) for line in file if line.strip()]
    for line in lines:
      if line['type'] == 'entity':
        entities.append([line['name'], line['entityType'], line['observations']])
      else:
        relations.append([line['from'], line['relationType'], line['to']])
  except (OSError, ValueError, KeyError):
    return '(damaged graph)'
  return _render_graph(entities, relations)


def indented(value: Any) -> str:
  """A value as these servers write it."""
  return json.dumps(value, indent=2, ensure_ascii=False)


def _read(path: str) -> str:
  descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
  with open(descriptor, 'rb') as file:
    return file.read(4 * _MOST_CHARACTERS).decode('utf-8', 'replace')


def _render_files(found: dict[str, str | None]) -> str:
  """Each file with its text, in the order of paths; None stands for an empty folder."""
  lines = []
  for path, text in sorted(found.items())[:_MOST_FILES]:
    if text is None:
      lines.append(f'== {path}/')
      continue
    lines.append(f'== {path}')
    if text:
      lines += _cut(text).removesuffix('\n').split('\n')
  return '\n'.join(lines)


def _render_graph(entities: Sequence[Sequence[Any]], relations: Sequence[Sequence[str]]) -> str:
  lines = [f'{name} ({kind})' + (': ' if notes else '') + '; '.join(notes)
           for name, kind, notes in entities]
  lines += [f'{source} -- {kind} -> {target}' for source, kind, target in relations]
  return '\n'.join(_cut(' '.join(line.split())) for line in lines[:_MOST_LINES])


def _cut(text: str) -> str:
  return text if len(text) <= _MOST_CHARACTERS else f'{text[:_MOST_CHARACTERS]} [cut]'
