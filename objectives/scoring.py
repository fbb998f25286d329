"""How a model gives log-probabilities to tokens: one rendering of a query per kind of model. NumPy only.

A query is a piece of text with gaps, or a whole text. A scorer turns it into rows for the model: the inputs, the output
positions to read, and the token each read is scored against. The judge runs the rows of any scorer through the same
function, so that all models answer the same queries, each in its own way. What a scorer lets the model see is part of
its answer, and `sees` says it.

Greedy decoding needs no decoding loop here: a gap is filled exactly by greedy decoding iff, with the true tokens before
each read in place, every read's best token is the true one.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from .. import UserError
from .attention import AttentionSpec


class Query(NamedTuple):
  """Token ids with gaps.

  Attributes:
    tokens: int32 [length], the clean text from `bos` on; what follows a gap is its right context.
    gaps: half-open (start, end) ranges to score, in order, not empty, not touching index 0. None at all asks for the
      whole text.
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
    gaps: int32 [n], which gap of the query each read belongs to; as many as there are gaps for a read that belongs to
      none (see `Scorer.candidate`).
    prefix: so many tokens in front see each other, and all others see them; what is behind them is causal. Only for
      models whose attention has levels.
    samples: how many answers of a query the scorer gives, each with all its tokens; their mean is its score.
    sample: which of them this row belongs to, from 0.
  """

  inputs: np.ndarray
  reads: np.ndarray
  targets: np.ndarray
  gaps: np.ndarray
  prefix: int = 0
  samples: int = 1
  sample: int = 0


class Scorer(Protocol):
  """Turns queries into rows. A dataclass, so that a mixture can name the rule of one of its parts.

  Whatever the model, the reads of `rows`, and of `candidate` where they belong to a gap, cover every token of every gap
  exactly once, and those of `whole` every token but the first; in each sample where there are several.
  """

  @property
  def sees(self) -> str:
    """What a scored token is conditioned on."""

  @property
  def attention(self) -> AttentionSpec | None:
    """The rule to run the rows under; None is the one that the model was trained with."""

  @property
  def causal(self) -> 'Scorer | None':
    """A left-to-right scorer of the same model, where it has one beside this."""

  def rows(self, query: Query) -> list[ScoringRow]:
    """log p of what fills the gaps, token by token."""

  def candidate(self, query: Query) -> list[ScoringRow]:
    """Rows whose scores, summed, rank texts that differ in what fills their gaps."""

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    """Rows whose scores, summed, are the text's (pseudo-)log-likelihood; `bos` stands in front and is not scored."""


@dataclasses.dataclass(frozen=True)
class Unscored:
  """In a scorer's place: the model gives no log-probability to what stands in a gap, and is asked nothing.

  Attributes:
    why: in words, after 'has no scorer: '.
  """

  why: str
  attention: AttentionSpec | None = None
  sees: str = 'nothing'

  @property
  def causal(self) -> None:
    return None

  def rows(self, query: Query) -> list[ScoringRow]:
    raise UserError(f'The model has no scorer: {self.why}.')

  candidate = rows

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    raise UserError(f'The model has no scorer: {self.why}.')


def left_to_right(scorer: Scorer, attention: AttentionSpec) -> bool:
  """Whether one causal pass over a clean text gives every token its probability by what stands left of it.

  So do models that predict the next token, whatever else they learned, and those that read a masked one from the output
  before, which are then run under causal attention. A model that predicts a token in its own place does not: what
  stands there unmasked is what it would be asked for.

  Args:
    scorer: an objective's.
    attention: the rule of that objective.
  """
  tokens = np.arange(7, 12, dtype=np.int32)
  for one in (scorer, scorer.causal):
    if one is None or isinstance(one, Unscored) or (one.attention or attention).kind != 'causal':
      continue
    found, wanted = one.whole(tokens), before(tokens, [(i, 0) for i in range(1, len(tokens))])
    if len(found) == 1 and all(np.array_equal(a, b) for a, b in zip(found[0], wanted, strict=True)):
      return True
  return False


def row(inputs: np.ndarray, reads: list[int], targets: list[int], gaps: list[int], prefix: int = 0) -> ScoringRow:
  of = lambda values: np.asarray(values, np.int32)
  return ScoringRow(of(inputs), of(reads), of(targets), of(gaps), prefix)


def before(tokens: np.ndarray, spots: list[tuple[int, int]], prefix: int = 0) -> ScoringRow:
  """Reads each (index, gap) at the position before it; what stands behind the last read is left out, nobody sees it."""
  index = [i for i, _ in spots]
  reads, gaps = [i - 1 for i in index], [gap for _, gap in spots]
  return row(tokens[: max(index)], reads, [tokens[i] for i in index], gaps, prefix)


def begun(tokens: np.ndarray, first: int | None) -> np.ndarray:
  """The tokens, with another one in front in place of `bos`."""
  return tokens if first is None else np.concatenate([[first], tokens[1:]]).astype(np.int32)
