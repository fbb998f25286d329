"""How a model gives log-probabilities to tokens in gaps: one rendering of a query per kind of model. NumPy only.

A query is a piece of text with gaps. A scorer turns it into rows for the model: the inputs, the output positions to
read, and the token each read is scored against. The judge runs the rows of any scorer through the same function, so
that all models answer the same queries, each in its own way. What a scorer lets the model see is part of its answer,
and `sees` says it.

Greedy decoding needs no decoding loop here: a gap is filled exactly by greedy decoding iff, with the true tokens before
each read in place, every read's best token is the true one.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np


class Query(NamedTuple):
  """Token ids with gaps.

  Attributes:
    tokens: int32 [length], the clean text from `bos` on; what follows a gap is its right context.
    gaps: half-open (start, end) ranges to score, in order, not empty, not touching index 0.
    cluster: queries of one cluster are about the same text, so their scores are not independent.
  """

  tokens: np.ndarray
  gaps: tuple[tuple[int, int], ...]
  cluster: int = 0


class ScoringRow(NamedTuple):
  """One row for the model.

  Attributes:
    inputs: int32 [length], what the model reads.
    reads: int32 [n], output positions to read.
    targets: int32 [n], the token each read is scored against.
    gaps: int32 [n], which gap of the query each read belongs to.
  """

  inputs: np.ndarray
  reads: np.ndarray
  targets: np.ndarray
  gaps: np.ndarray


class Scorer(Protocol):
  """Turns queries into rows; `sees` names what each scored token is conditioned on."""

  @property
  def sees(self) -> str:
    """What a scored token is conditioned on."""

  def rows(self, query: Query) -> list[ScoringRow]:
    """Rows whose reads cover every token of every gap exactly once."""


def _row(inputs: np.ndarray, reads: list[int], targets: list[int], gaps: list[int]) -> ScoringRow:
  return ScoringRow(*(np.asarray(x, np.int32) for x in (inputs, reads, targets, gaps)))


@dataclasses.dataclass(frozen=True)
class LeftToRight:
  """Negative log-likelihood: each token of a gap given all text before it. One pass for all gaps."""

  sees: str = 'left'

  def rows(self, query: Query) -> list[ScoringRow]:
    spots = [(i, gap) for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)]
    index = [i for i, _ in spots]
    return [_row(query.tokens, [i - 1 for i in index], [query.tokens[i] for i in index], [gap for _, gap in spots])]


@dataclasses.dataclass(frozen=True)
class PseudoLikelihood:
  """Masked scoring: all gaps are hidden at once; inside a gap tokens are revealed from left to right.

  So a gap's score is a product of conditional probabilities that sums to one over all fillings of its length. As many
  passes as the longest gap has tokens. With `shifted` (MNTP) token i is read from the output at i - 1.
  """

  mask: int
  shifted: bool = False
  sees: str = 'left and right'

  def rows(self, query: Query) -> list[ScoringRow]:
    rows = []
    for revealed in range(max(end - start for start, end in query.gaps)):
      inputs = np.array(query.tokens, np.int32)
      reads, gaps = [], []
      for gap, (start, end) in enumerate(query.gaps):
        inputs[min(start + revealed, end) : end] = self.mask
        if start + revealed < end:
          reads.append(start + revealed)
          gaps.append(gap)
      rows.append(_row(inputs, [i - int(self.shifted) for i in reads], [query.tokens[i] for i in reads], gaps))
    return rows


@dataclasses.dataclass(frozen=True)
class Infill:
  """Causal-masked infilling: `left <mask:0> right <mask:0> gap`, one gap a pass (CM3 section 3.2).

  The other gaps of the query stay in the text. A gap with nothing to its right is scored as a continuation, without
  sentinels. The end token is not part of the score, so that losses are per token of the same text for all scorers.
  """

  sentinel: int
  end_of_span: int
  sees: str = 'left and right'

  def rows(self, query: Query) -> list[ScoringRow]:
    rows = []
    for gap, (start, end) in enumerate(query.gaps):
      if end == len(query.tokens):
        inputs, first = query.tokens, start - 1
      else:
        left, right = query.tokens[:start], query.tokens[end:]
        inputs = np.concatenate([left, [self.sentinel], right, [self.sentinel], query.tokens[start:end]])
        first = len(query.tokens) - (end - start) + 1
      targets = list(query.tokens[start:end])
      rows.append(_row(inputs, list(range(first, first + len(targets))), targets, [gap] * len(targets)))
    return rows
