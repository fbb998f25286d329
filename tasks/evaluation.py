"""Held-out questions that every model is asked alike, whatever its objective.

All are made of the same material: segments of validation rows with gaps (`objectives.scoring.Query`), drawn with a
fixed seed.

  left_to_right  single tokens with nothing to their right
  masked         15% of a segment's tokens, each a gap of its own, all at once
  infill         a few tokens from the middle of a segment, text on both sides
  salient        one whole salient span of a segment, text on both sides
"""

import dataclasses
import hashlib
import itertools

import numpy as np

from .. import UserError
from ..objectives.scoring import Query
from .pipeline import Source

TESTS = ('left_to_right', 'masked', 'infill', 'salient')
_SHORTEST = 32  # tokens of a segment worth asking about
_MARGIN = 8  # tokens of text on each side of a gap that claims to have text there


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
  """How many questions of each kind, at most: no segment is asked twice the same way.

  Attributes:
    left_to_right: gaps, 8 of each segment used.
    masked: segments with 15% of their tokens hidden.
    infill: gaps of `infill_tokens` tokens.
    salient: gaps.
    infill_tokens: length of the middle that is to be filled in, 1 to 12.
    seed: decides segments and gaps; the same for every model of a comparison.
  """

  left_to_right: int = 1600
  masked: int = 128
  infill: int = 600
  salient: int = 600
  infill_tokens: int = 3
  seed: int = 0

  def __post_init__(self) -> None:
    if not 1 <= self.infill_tokens <= _SHORTEST - 2 * _MARGIN - 4:
      raise UserError(f'Questions.infill_tokens is {self.infill_tokens}; it must lie in [1, 12].')

  def draw(self, source: Source) -> dict[str, list[Query]]:
    """Queries by test, only of tests that the text has material for; UserError if that is none."""
    random = np.random.default_rng(self.seed)
    segments = _segments(source)
    random.shuffle(segments)
    salient = [segment for segment in segments if segment.spans()]
    queries = {
      'left_to_right': [q for s in segments[: self.left_to_right // 8] for q in s.prefixes(random)],
      'masked': [s.masked(random) for s in segments[: self.masked]],
      'infill': [s.middle(self.infill_tokens, random) for s in segments[: self.infill]],
      'salient': [s.salient(random) for s in salient[: self.salient]],
    }
    if not segments:
      raise UserError(
        f'The held-out rows have no segment of {_SHORTEST} tokens to ask questions about; hold out more text, or use '
        'longer rows.'
      )
    return {name: asked for name, asked in queries.items() if asked}


def digest(queries: dict[str, list[Query]]) -> str:
  """Tells whether two models were asked the same."""
  result = hashlib.sha1()
  for name, asked in queries.items():
    for query in asked:
      result.update(repr((name, query.gaps, query.cluster)).encode() + query.tokens.tobytes())
  return result.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Segment:
  """A held-out piece of a document: its number, its token ids, which of them are text, and their salient ids."""

  number: int
  tokens: np.ndarray
  is_text: np.ndarray
  salient_ids: np.ndarray

  def _query(self, end: int, *gaps: tuple[int, int]) -> Query:
    return Query(self.tokens[:end], tuple((int(a), int(b)) for a, b in gaps), self.number)

  def prefixes(self, random: np.random.Generator) -> list[Query]:
    """Eight single tokens, each the last of its text."""
    text = np.flatnonzero(self.is_text)
    spots = random.choice(text[text >= _MARGIN], size=8, replace=False)
    return [self._query(spot + 1, (spot, spot + 1)) for spot in sorted(spots)]

  def masked(self, random: np.random.Generator) -> Query:
    """15% of the tokens."""
    count = max(1, round(0.15 * len(self.tokens)))
    chosen = random.choice(np.flatnonzero(self.is_text), size=count, replace=False)
    return self._query(len(self.tokens), *((i, i + 1) for i in sorted(chosen)))

  def middle(self, count: int, random: np.random.Generator) -> Query:
    """`count` tokens with text on both sides."""
    start = int(random.integers(_MARGIN, len(self.tokens) - _MARGIN - count))
    return self._query(len(self.tokens), (start, start + count))

  def spans(self, longest: int = 10) -> list[tuple[int, int]]:
    """Runs of one salient id with text on both sides."""
    ids = self.salient_ids
    edges = np.flatnonzero(np.diff(np.concatenate([[-1], ids, [-1]])))
    runs = [(int(a), int(b)) for a, b in itertools.pairwise(edges) if ids[a] > 0]
    return [(a, b) for a, b in runs if a >= 2 and b <= len(ids) - 2 and b - a <= longest]

  def salient(self, random: np.random.Generator) -> Query:
    """One whole salient span."""
    spans = self.spans()
    return self._query(len(self.tokens), spans[int(random.integers(len(spans)))])


def _segments(source: Source) -> list[_Segment]:
  """The held-out segments of at least `_SHORTEST` tokens."""
  found = []
  for row in source.rows('validation').as_numpy_iterator():
    salient = row.get('salient_ids', np.zeros_like(row['targets']))
    for number in range(1, row['segment_ids'].max() + 1):
      inside = row['segment_ids'] == number
      tokens = row['targets'][inside]
      is_text = np.asarray(source.special.is_text(tokens))
      if is_text.sum() >= _SHORTEST - 2:
        found.append(_Segment(len(found), tokens, is_text, salient[inside]))
  return found
