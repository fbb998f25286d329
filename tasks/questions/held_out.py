"""Held-out text with gaps: left to right, 15% masked by four kinds of units, a middle filled in."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ... import UserError
from .material import Material
from .segments import MARGIN, UNITS, spend
from .test import Item, Test, require_counts, settings_of

_PREFIXES = 8  # left-to-right questions of one segment
_SPENT = 0.8  # of the tokens to be hidden, that units must make at least


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftToRight:
  """Single tokens with nothing to their right.

  Attributes:
    gaps: how many at most, 8 of each segment used.
    seed: decides which; the same for every model of a comparison.
  """

  gaps: int = 800
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'gaps')

  def draw(self, material: Material) -> list[Test]:
    random = material.random('left_to_right', self.seed)
    items = []
    for segment in material.shuffled(random)[: -(-self.gaps // _PREFIXES)]:
      text = np.flatnonzero(segment.is_text)
      text = text[text >= MARGIN]
      spots = random.choice(text, size=min(_PREFIXES, len(text)), replace=False)
      items += [Item((segment.query((i, i + 1), end=i + 1),)) for i in sorted(spots)]
    return _tests(material, 'left_to_right', 'Left to right', 'held_out', items[: self.gaps], settings_of(self))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Masked:
  """15% of a segment's tokens hidden, chosen by units; the same for every model.

  Units are taken in a random order; one that exceeds what is left of the 15% is skipped (BERT's rule for whole words).
  Each unit is a gap. Segments whose units make less than 80% of the 15% are not asked.

  Attributes:
    segments: asked at most, of each kind of unit.
    rate: share of a segment's tokens; that of MLM (BERT), PMI-masking and others.
    units: of 'token', 'word', 'collocation' and 'salient'.
    seed: decides which.
  """

  segments: int = 96
  rate: float = 0.15
  units: Sequence[str] = UNITS
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'segments')
    if not 0 < self.rate < 1:
      raise UserError(f'Masked.rate is {self.rate}; it lies between 0 and 1.')
    unknown = sorted(set(self.units) - set(UNITS))
    if unknown:
      raise UserError(f'Masked.units holds {unknown[0]!r}; choose of {", ".join(UNITS)}.')

  def draw(self, material: Material) -> list[Test]:
    tests = []
    for unit in self.units:
      random = material.random(f'masked_{unit}', self.seed)
      items, hidden, tokens = [], 0, 0
      for segment in material.shuffled(random):
        budget = max(1, round(self.rate * len(segment.tokens)))
        gaps = spend(segment.runs(unit), budget, random)
        size = sum(end - start for start, end in gaps)
        if size < _SPENT * budget:
          continue
        items.append(Item((segment.query(*gaps),)))
        hidden, tokens = hidden + size, tokens + len(segment.tokens)
        if len(items) == self.segments:
          break
      title = f'Masked, {self.rate:.0%} by {"salient span" if unit == "salient" else unit}'
      of = settings_of(self) | {'unit': unit, 'hidden': hidden / max(1, tokens)}
      tests += _tests(material, f'masked_{unit}', title, 'held_out', items, of)
    return tests


@dataclasses.dataclass(frozen=True, kw_only=True)
class Infill:
  """A few tokens from the middle of a segment, with text on both sides.

  Attributes:
    gaps: {tokens of the middle: how many are asked at most}. Masked models need a pass for each token of one.
    seed: decides which.
  """

  gaps: Mapping[int, int] = dataclasses.field(default_factory=lambda: {1: 400, 3: 300, 8: 160, 32: 48})
  seed: int = 0

  def __post_init__(self) -> None:
    if not self.gaps or any(min(pair) < 1 for pair in self.gaps.items()):
      raise UserError(f'Infill.gaps is {dict(self.gaps)}; it is {{tokens: questions}}, each of at least 1.')

  def draw(self, material: Material) -> list[Test]:
    tests = []
    for size, count in self.gaps.items():
      random = material.random(f'infill_{size}', self.seed)
      items = []
      for segment in material.shuffled(random):
        last = len(segment.tokens) - MARGIN - size
        spots = [i for i in range(MARGIN, last + 1) if segment.is_text[i : i + size].all()]
        if spots and len(items) < count:
          start = spots[random.integers(len(spots))]
          items.append(Item((segment.query((start, start + size)),)))
      title = f'Infill {size} token{"s" if size > 1 else ""}'
      tests += _tests(material, f'infill_{size}', title, 'infill', items, settings_of(self))
    return tests


def _tests(material: Material, name: str, title: str, part: str, items: list[Item], settings: dict) -> list[Test]:
  """One test whose figure is the loss."""
  how: dict[str, Any] = {'title': title, 'part': part, 'kind': 'gaps', 'primary': 'loss', 'settings': settings}
  return material.test(items, 'no held-out segment has material for it.', name, **how)
