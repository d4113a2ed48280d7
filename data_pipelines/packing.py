"""Packing of token sequences into rows of fixed length; NumPy alone.

Fields of a row (DESIGN.md section 3):
  tokens int32[L], loss_weights float32[L], segment_ids int32[L], positions int32[L].
Segments count from 1 within a row, 0 is padding; positions restart at 0 in every segment.
`loss_weights[i]` is the weight of predicting `tokens[i]` from the tokens before it in its segment,
so it is 0 at position 0.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

FIELDS = ('tokens', 'loss_weights', 'segment_ids', 'positions')


@dataclasses.dataclass(frozen=True)
class Example:
  """One sequence to train on.

  Attributes:
    tokens: int32[n].
    loss_weights: float32[n].
    ends: lengths to which the sequence may be cut, rising; of a dialogue, where its turns end.
  """

  tokens: np.ndarray
  loss_weights: np.ndarray
  ends: tuple[int, ...] = ()


def example(tokens: Sequence[int], loss_weights: Sequence[float], ends=()) -> Example:
  """An `Example` from any sequences. Raises ValueError where their lengths differ."""
  if len(tokens) != len(loss_weights):
    raise ValueError(f'{len(tokens)} tokens with {len(loss_weights)} loss weights')
  return Example(np.asarray(tokens, np.int32), np.asarray(loss_weights, np.float32), tuple(ends))


def shorten(item: Example, seq_len: int) -> Example | None:
  """`item` with whole turns cut from its end until it fits, None where no turn would be left."""
  if len(item.tokens) <= seq_len:
    return item
  end = max((end for end in item.ends if end <= seq_len), default=0)
  if not end:
    return None
  ends = tuple(e for e in item.ends if e <= end)
  return Example(item.tokens[:end], item.loss_weights[:end], ends)


class _FreeSpace:
  """The free space of every row, and the first row with enough of it in logarithmic time."""

  def __init__(self, rows: int, seq_len: int):
    self._size = 1 << max(rows - 1, 0).bit_length()
    self._most = [seq_len] * (2 * self._size)  # a heap-ordered tree of maxima

  def take(self, length: int) -> int:
    """Takes `length` in the first row that has it; returns the row."""
    node = 1
    while node < self._size:
      node = 2 * node if self._most[2 * node] >= length else 2 * node + 1
    row = node - self._size
    self._most[node] -= length
    while node > 1:
      node //= 2
      self._most[node] = max(self._most[2 * node], self._most[2 * node + 1])
    return row


def assign(lengths: Sequence[int], seq_len: int) -> list[list[int]]:
  """First-fit decreasing: which examples share a row.

  Args:
    lengths: of the examples, each from 1 to `seq_len`.
    seq_len: length of a row.
  Returns:
    Indices into `lengths`, one list a row; every index exactly once.
  Raises:
    ValueError: where a length is out of range.
  """
  for index, length in enumerate(lengths):
    if not 1 <= length <= seq_len:
      raise ValueError(f'example {index} has {length} tokens; a row holds 1 to {seq_len}')
  free = _FreeSpace(len(lengths), seq_len)
  rows: list[list[int]] = []
  for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    row = free.take(lengths[index])
    if row == len(rows):
      rows.append([])
    rows[row].append(index)
  return rows


def pack(examples: Sequence[Example], seq_len: int) -> dict[str, np.ndarray]:
  """Packs examples into rows.

  Args:
    examples: none longer than `seq_len` (see `shorten`).
    seq_len: L.
  Returns:
    The fields above, each [rows, L].
  Raises:
    ValueError: where an example is empty or too long.
  """
  return fill(examples, assign([len(e.tokens) for e in examples], seq_len), seq_len)


def fill(
    examples: Sequence[Example], rows: Sequence[Sequence[int]], seq_len: int
) -> dict[str, np.ndarray]:
  """The packed fields, each [rows, L], of `examples` shared out as `assign` says."""
  shape = (len(rows), seq_len)
  packed = {name: np.zeros(shape, np.float32 if name == 'loss_weights' else np.int32)
            for name in FIELDS}
  for row, members in enumerate(rows):
    start = 0
    for segment, index in enumerate(members, 1):
      item = examples[index]
      end = start + len(item.tokens)
      packed['tokens'][row, start:end] = item.tokens
      packed['loss_weights'][row, start:end] = item.loss_weights
      packed['loss_weights'][row, start] = 0  # nothing stands before it
      packed['segment_ids'][row, start:end] = segment
      packed['positions'][row, start:end] = np.arange(end - start)
      start = end
  return packed


def rows_of(packed: dict[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
  """Packed fields [rows, L] as one record a row, each field [L]."""
  return [dict(zip(FIELDS, values, strict=True))
          for values in zip(*(packed[name] for name in FIELDS), strict=True)]


def padding_share(packed: dict[str, np.ndarray]) -> float:
  """The share of positions that hold no token."""
  segment_ids = packed['segment_ids']
  return float(np.mean(segment_ids == 0)) if segment_ids.size else 0.0
