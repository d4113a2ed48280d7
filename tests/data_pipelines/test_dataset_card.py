"""The page beside a dataset: its counts are those of the files."""

import dataclasses
import re

import pytest

from aw_jax.environments import registry
from data_pipelines import dataset_card, loss_mask
from data_pipelines.examples import world_model_turns


def rows_of(text: str, title: str) -> list[list[str]]:
  """The cells below the header of the table under a title."""
  section = text.split(f'## {title}', 1)[1].split('\n## ')[0]
  lines = [line for line in section.splitlines() if line.startswith('|')][2:]
  return [[cell.strip().replace(',', '') for cell in line.strip('|').split('|')] for line in lines]


def test_trajectories_are_counted(tmp_path, trajectory):
  lost = dataclasses.replace(trajectory(9), success=False)
  found = [trajectory(1), trajectory(2), trajectory(3, 'mcp', policy='expert'), lost,
           trajectory(8, split='validation')]
  dataset_card.write_for_trajectories(tmp_path, iter(found), 'the command')
  text = (tmp_path / dataset_card.FILE).read_text()
  assert '`the command`' in text
  assert rows_of(text, 'Episodes') == [
      ['mcp', 'copy', 'train', '1', '1'], ['terminal', 'copy', 'train', '3', '2'],
      ['terminal', 'copy', 'validation', '1', '1']]
  assert rows_of(text, 'Who acted') == [
      ['mcp', 'expert', '1'], ['terminal', 'noisy_expert', '4']]
  turns = [turn for t in found if t.task.domain == 'terminal' for turn in world_model_turns(t)]
  classes = [loss_mask.classify(turn.action, turn.observation) for turn in turns]
  assert rows_of(text, 'Turns by class')[1] == [
      'terminal', *(str(classes.count(name)) for name in loss_mask.CLASSES)]
  lengths = sorted(len(turn.observation) for turn in turns)
  cells = rows_of(text, 'Characters of an observation')[1]
  assert cells[1] == str(len(turns)) and cells[-1] == str(lengths[-1])
  assert sum(length <= int(cells[3]) for length in lengths) >= 0.9 * len(lengths)
  assert '- mcp: ' in text and 'MIT' in text


def test_nothing_collected_is_a_page_without_tables(tmp_path):
  dataset_card.write_for_trajectories(tmp_path, (), 'the command')
  assert not re.findall(r'^\|', (tmp_path / dataset_card.FILE).read_text(), re.MULTILINE)


def test_a_source_without_a_known_licence_says_so(tmp_path, trajectory):
  dataset_card.write_for_trajectories(tmp_path, [trajectory(1, 'web')], 'the command', {})
  assert '- web: not known' in (tmp_path / dataset_card.FILE).read_text()


@pytest.mark.parametrize('domain', registry.domains())
def test_the_licences_of_every_domain_are_named(domain):
  assert dataset_card.LICENCES[domain]
