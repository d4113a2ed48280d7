"""Every notebook runs from top to bottom, on the base checkpoint."""

import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[2] / 'colab').glob('*.ipynb'))


def test_there_are_notebooks():
  assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.requires('bwrap')
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, monkeypatch):
  monkeypatch.setenv('AW_EPISODES', '3')
  monkeypatch.setenv('MPLBACKEND', 'agg')
  notebook = nbformat.read(path, as_version=4)
  assert not any(cell.get('outputs') for cell in notebook.cells), 'clear the outputs'
  client = NotebookClient(notebook, timeout=300, resources={'metadata': {'path': path.parent}})
  client.execute()
  text = ''.join(output.get('text', '') for cell in notebook.cells
                 for output in cell.get('outputs', []))
  assert '$ cat notes.txt' in text and 'green apple' in text
