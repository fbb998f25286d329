"""Questions about vectors of held-out text: which texts belong together."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from ... import UserError
from ...objectives.scoring import Query
from .material import Material, sample
from .segments import Segment
from .test import Item, Test, require_choice, require_counts, settings_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class PassageHalves:
  """Which second half goes with a first half, by how near the vectors of the two are.

  The idea is the inverse cloze task's (arXiv 1906.00300, section 4), in which a sentence is to find its context among
  others; nothing is trained here. All halves have as many tokens, so that no length tells which is right, and the other
  candidates are of other documents.

  Attributes:
    passages: questions at most, one of each segment used.
    candidates: in each question, the right one included.
    half: tokens of a half, as a share of the model's rows, below 1/2. Segments that are too short are not used.
    seed: decides which.
  """

  passages: int = 300
  candidates: int = 20
  half: float = 0.25
  seed: int = 0

  def __post_init__(self) -> None:
    require_counts(self, 'passages', 'candidates')
    require_choice(self, self.candidates)
    if not 0 < self.half < 0.5:
      raise UserError(f'PassageHalves.half is {self.half}; it is a share of the row above 0 and below 1/2.')

  def draw(self, material: Material) -> list[Test]:
    random, size = material.random('passage_halves', self.seed), max(1, int(self.half * material.text_length))
    documents = documents_of(material.segments, material.special.eos)
    able = [one for one in material.shuffled(random) if one.is_text[1 : 1 + 2 * size].sum() == 2 * size]
    # Text that stands in several places is one candidate, and never beside itself.
    pool = {one.tokens[1 + size : 1 + 2 * size].tobytes(): one for one in able}
    items: list[Item] = []
    for one in able:
      if len(items) == self.passages:
        break
      first, right = one.tokens[: 1 + size], one.tokens[1 + size : 1 + 2 * size]
      number = documents[one.number]
      others = [text for text, of in pool.items() if documents[of.number] != number and text != right.tobytes()]
      if len(others) < self.candidates - 1:
        continue
      chosen = [np.frombuffer(text, right.dtype) for text in sample(others, self.candidates - 1, random)]
      halves = [np.concatenate([first, second]) for second in (right, *chosen)]
      items.append(Item(tuple(Query(tokens, ((1 + size, 1 + 2 * size),), number) for tokens in halves)))
    return material.test(
      items,
      f'fewer than {self.candidates} held-out documents have a passage of {2 * size} tokens.',
      'passage_halves',
      title='Halves of a passage, by vectors',
      part='vectors',
      kind='choices',
      primary='accuracy',
      embedded=True,
      settings=settings_of(self),
    )


def documents_of(segments: Sequence[Segment], eos: int) -> dict[int, int]:
  """A number for the document of each segment, by the segment's, which are in the corpus's order.

  Where a document's end lies in a segment that is not among them, the next document has its number: what differs is of
  different documents for certain.
  """
  ends = [int(one.tokens[-1] == eos) for one in segments]
  return {one.number: before for one, before in zip(segments, itertools.accumulate(ends, initial=0), strict=False)}
