"""Held-out questions that every model is asked alike, whatever its objective.

All are made of the same material: segments of validation rows with gaps (`objectives.scoring.Query`), drawn with a
fixed seed.

  left_to_right  single tokens with nothing to their right
  masked         15% of a segment's tokens, each a gap of its own, all at once
  infill         a few tokens from the middle of a segment, text on both sides
  salient        one whole salient span of a segment, text on both sides
"""

import dataclasses
import itertools

import numpy as np

from .. import UserError
from ..objectives.scoring import Query
from .pipeline import Source

TESTS = ('left_to_right', 'masked', 'infill', 'salient')
_MARGIN = 8  # tokens of text on each side of a gap that claims to have text there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
  """How many questions of each kind.

  Attributes:
    left_to_right: gaps, 8 of each segment used.
    masked: segments with 15% of their tokens hidden.
    infill: gaps of `infill_tokens` tokens.
    salient: gaps.
    infill_tokens: length of the middle that is to be filled in.
    seed: decides segments and gaps; the same for every model of a comparison.
  """

  left_to_right: int = 1600
  masked: int = 128
  infill: int = 600
  salient: int = 600
  infill_tokens: int = 3
  seed: int = 0

  def draw(self, source: Source) -> dict[str, list[Query]]:
    """Queries by test; UserError if the held-out text has no segment of 32 tokens."""
    random = np.random.default_rng(self.seed)
    segments = _segments(source)
    if not segments:
      raise UserError('The validation split has no segment of 32 tokens to ask questions about; hold out more text.')
    random.shuffle(segments)
    cycle = segments * (1 + max(self.masked, self.infill, self.left_to_right // 8) // len(segments))
    salient = [s for s in segments if _spans(s[1])]
    return {
      'left_to_right': [q for s in cycle[: self.left_to_right // 8] for q in _prefixes(s[0], random)],
      'masked': [_masked(s[0], source, random) for s in cycle[: self.masked]],
      'infill': [_middle(s[0], self.infill_tokens, random) for s in cycle[: self.infill]],
      'salient': [_salient(s, random) for s in salient[: self.salient]],
    }


def _segments(source: Source) -> list[tuple[np.ndarray, np.ndarray]]:
  """(tokens, salient ids) of the held-out segments of at least 32 tokens."""
  found = []
  for row in source.rows('validation').as_numpy_iterator():
    salient = row.get('salient_ids', np.zeros_like(row['targets']))
    for number in range(1, row['segment_ids'].max() + 1):
      inside = row['segment_ids'] == number
      if inside.sum() >= 32:
        found.append((row['targets'][inside], salient[inside]))
  return found


def _prefixes(tokens: np.ndarray, random: np.random.Generator) -> list[Query]:
  """Eight single tokens, each the last of its text."""
  spots = random.choice(np.arange(_MARGIN, len(tokens)), size=8, replace=False)
  return [Query(tokens[: spot + 1], ((int(spot), int(spot) + 1),)) for spot in sorted(spots)]


def _masked(tokens: np.ndarray, source: Source, random: np.random.Generator) -> Query:
  text = np.flatnonzero(source.special.is_text(tokens))
  chosen = random.choice(text, size=max(1, round(0.15 * len(tokens))), replace=False)
  return Query(tokens, tuple((int(i), int(i) + 1) for i in sorted(chosen)))


def _middle(tokens: np.ndarray, count: int, random: np.random.Generator) -> Query:
  start = int(random.integers(_MARGIN, len(tokens) - _MARGIN - count))
  return Query(tokens, ((start, start + count),))


def _spans(salient: np.ndarray, longest: int = 10) -> list[tuple[int, int]]:
  """Runs of one salient id with text on both sides."""
  edges = np.flatnonzero(np.diff(np.concatenate([[-1], salient, [-1]])))
  runs = [(int(a), int(b)) for a, b in itertools.pairwise(edges) if salient[a] > 0]
  return [(a, b) for a, b in runs if a >= 2 and b <= len(salient) - 2 and b - a <= longest]


def _salient(segment: tuple[np.ndarray, np.ndarray], random: np.random.Generator) -> Query:
  spans = _spans(segment[1])
  return Query(segment[0], (spans[int(random.integers(len(spans)))],))
