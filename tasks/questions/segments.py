"""A held-out piece of a document and the units in it. NumPy only."""

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np

from ...objectives.base import SpecialTokens
from ...objectives.scoring import Query

SHORTEST = 32  # tokens of a segment worth asking about
MARGIN = 8  # tokens of text on each side of a gap that claims to have text there
UNITS = ('token', 'word', 'collocation', 'salient')


@dataclasses.dataclass(frozen=True)
class Segment:
  """One segment of a held-out row.

  Attributes:
    number: of the segment, the cluster of all queries about it.
    tokens: int32 [n], `bos` first.
    is_text: bool [n].
    ids: by unit, int32 [n]: 0 outside units, else which one a token is in. A corpus without a kind of unit has 0s.
  """

  number: int
  tokens: np.ndarray
  is_text: np.ndarray
  ids: dict[str, np.ndarray]

  @classmethod
  def of_row(cls, number: int, row: Mapping[str, np.ndarray], inside: np.ndarray, special: SpecialTokens) -> 'Segment':
    """The part of a row where `inside`, bool [length], is true."""
    tokens = row['targets'][inside]
    ids = {
      unit: np.asarray(row[f'{unit}_ids'])[inside] if f'{unit}_ids' in row else np.zeros_like(tokens)
      for unit in UNITS[1:]
    }
    return cls(number, tokens, np.asarray(special.is_text(tokens)), ids)

  def runs(self, unit: str) -> list[tuple[int, int]]:
    """Half-open ranges of the segment's units, all of them text; `unit` is one of UNITS."""
    if unit == 'token':
      return [(int(i), int(i) + 1) for i in np.flatnonzero(self.is_text)]
    ids = self.ids[unit]
    return [(a, b) for a, b in runs_of(ids) if ids[a] > 0 and self.is_text[a:b].all()]

  def query(self, *gaps: tuple[int, int], end: int | None = None) -> Query:
    """About the first `end` tokens, all of them by default."""
    return Query(self.tokens[:end], tuple((int(a), int(b)) for a, b in gaps), self.number)


def runs_of(ids: np.ndarray) -> list[tuple[int, int]]:
  """Half-open ranges of equal neighbours; no id is -1."""
  return list(itertools.pairwise(np.flatnonzero(np.diff(ids, prepend=-1, append=-1)).tolist()))


def spend(units: list[tuple[int, int]], budget: int, random: np.random.Generator) -> list[tuple[int, int]]:
  """Units in a random order, one that exceeds what is left of `budget` tokens skipped (BERT's rule); sorted."""
  chosen = []
  for i in random.permutation(len(units)):
    start, end = units[i]
    if end - start <= budget:
      chosen.append((start, end))
      budget -= end - start
    if not budget:
      break
  return sorted(chosen)
