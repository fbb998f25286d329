"""Cloze questions about units of held-out text: which salient span stood here, and what fills a collocation."""

import bisect
import collections
import dataclasses
from typing import Any

import numpy as np

from ...objectives.scoring import Query
from .material import Ids, Material, sample
from .segments import Segment, runs_of
from .test import Item, Test, require_choice, require_counts, settings_of

_LONGEST = 10  # tokens of a span that is asked about
_WINDOW = 50  # spans of the nearest frequency that a question's other candidates are drawn from


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntityCloze:
  """Which salient span stood in the gap, with text on both sides.

  The other candidates are salient spans of the training and held-out text with as many tokens, with digits if and only
  if the right one has some, and of the frequencies in the training text nearest to its own. So neither length nor
  frequency nor the difference of names and dates tells which is right. The idea is LAMA's (arXiv 1909.01066, a rank
  among candidates) on the spans of salient-span masking (arXiv 2002.08909); the matching is ours.

  Attributes:
    spans: questions at most, one of each segment used.
    candidates: in each question, the right one included.
    seed: decides which.
  """

  spans: int = 160
  candidates: int = 10
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'spans', 'candidates')
    require_choice(self, self.candidates)

  def draw(self, material: Material) -> list[Test]:
    random = material.random('entity_cloze', self.seed)
    pools = Pools(material)
    items = []
    for segment in material.shuffled(random):
      if len(items) == self.spans:
        break
      spans = inner(segment, 'salient')
      if not spans:
        continue
      start, end = spans[random.integers(len(spans))]
      right = tuple(segment.tokens[start:end].tolist())
      others = pools.near(right, self.candidates - 1, random)
      if len(others) == self.candidates - 1:
        items.append(Item(tuple(_filled(segment, start, end, span) for span in (right, *others))))
    return material.test(
      items,
      'the text has too few salient spans.',
      'entity_cloze',
      title='Entity cloze',
      part='cloze',
      kind='choices',
      primary='accuracy',
      settings=settings_of(self),
    )


class Pools:
  """Salient spans by what must be alike in candidates, each pool sorted by frequency."""

  def __init__(self, material: Material):
    self._material, self._counts = material, material.span_counts
    pools: dict[tuple[int, bool], list[Ids]] = collections.defaultdict(list)
    for span in self._counts:
      pools[self._kind(span)].append(span)
    self._pools = {kind: sorted(spans, key=lambda span: (self._counts[span], span)) for kind, spans in pools.items()}

  def _kind(self, span: Ids) -> tuple[int, bool]:
    text = self._material.text_of
    return len(span), any(character.isdigit() for token in span for character in text(token))

  def near(self, span: Ids, count: int, random: np.random.Generator) -> list[Ids]:
    """So many other spans of its kind with frequencies near its own; fewer where there are not enough."""
    pool = self._pools[self._kind(span)]
    place = bisect.bisect_left(pool, (self._counts[span], span), key=lambda other: (self._counts[other], other))
    begin = max(0, min(place - _WINDOW // 2, len(pool) - _WINDOW))
    text = ''.join(map(self._material.text_of, span)).strip().lower()
    window = [
      other
      for other in pool[begin : begin + _WINDOW]
      if ''.join(map(self._material.text_of, other)).strip().lower() != text
    ]
    if len(window) < count:
      return window
    return sample(window, count, random)


def _filled(segment: Segment, start: int, end: int, span: Ids) -> Query:
  tokens = np.concatenate([segment.tokens[:start], np.array(span, np.int32), segment.tokens[end:]])
  return Query(tokens, ((start, start + len(span)),), segment.number)


def inner(segment: Segment, unit: str) -> list[tuple[int, int]]:
  """The segment's units of at most 10 tokens with text on both sides."""
  longest = len(segment.tokens) - 2
  return [(a, b) for a, b in segment.runs(unit) if a >= 2 and b <= longest and b - a <= _LONGEST]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CollocationCloze:
  """One word of a collocation hidden, and in a second test the whole of the same collocation.

  What PMI-masking is about (arXiv 2010.01825): a word of a collocation is guessed from the rest of it, the whole must
  be guessed from the text around. The gap between the two tests is the local short cut.

  Attributes:
    units: collocations of two words and more at most, one of each segment used.
    seed: decides which.
  """

  units: int = 300
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'units')

  def draw(self, material: Material) -> list[Test]:
    random = material.random('collocation', self.seed)
    words, units = [], []
    for segment in material.shuffled(random):
      found = [(unit, inside) for unit in inner(segment, 'collocation') if len(inside := _words(segment, *unit)) > 1]
      if not found or len(units) == self.units:
        continue
      unit, inside = found[random.integers(len(found))]
      words.append(Item((segment.query(inside[random.integers(len(inside))]),)))
      units.append(Item((segment.query(unit),)))
    if not units:
      material.notes.append('collocation_word and collocation_unit are left out: the text has no collocations.')
      return []
    how: dict[str, Any] = {'part': 'cloze', 'kind': 'gaps', 'primary': 'loss', 'settings': settings_of(self)}
    return [
      Test(name='collocation_word', title='Collocation, one word of it', items=words, **how),
      Test(name='collocation_unit', title='Collocation, the whole', items=units, **how),
    ]


def _words(segment: Segment, start: int, end: int) -> list[tuple[int, int]]:
  """The words of a unit, as ranges."""
  return [(start + a, start + b) for a, b in runs_of(segment.ids['word'][start:end])]
