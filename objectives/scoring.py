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
from .attention import CAUSAL, AttentionSpec


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
  """

  inputs: np.ndarray
  reads: np.ndarray
  targets: np.ndarray
  gaps: np.ndarray
  prefix: int = 0


class Scorer(Protocol):
  """Turns queries into rows. A dataclass, so that a mixture can name the rule of one of its parts.

  Whatever the model, the reads of `rows`, and of `candidate` where they belong to a gap, cover every token of every gap
  exactly once, and those of `whole` every token but the first.
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


def _row(inputs: np.ndarray, reads: list[int], targets: list[int], gaps: list[int], prefix: int = 0) -> ScoringRow:
  of = lambda values: np.asarray(values, np.int32)
  return ScoringRow(of(inputs), of(reads), of(targets), of(gaps), prefix)


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


@dataclasses.dataclass(frozen=True)
class LeftToRight:
  """Negative log-likelihood: each token of a gap given all text before it. One pass for all gaps.

  Candidates are ranked by log p(candidate, text behind it | text before it), which is log p(candidate | both sides) but
  for a constant: the left-to-right reranking of InCoder (arXiv 2204.05999 section 4).
  """

  attention: AttentionSpec | None = None
  sees: str = 'left'

  @property
  def causal(self) -> Scorer | None:
    return None

  def begun(self, tokens: np.ndarray) -> np.ndarray:
    """A text as the model begins it."""
    return tokens

  def prefix(self, left: np.ndarray) -> int:
    """How many tokens of what stands before a gap are seen from both sides."""
    del left
    return 0

  def rows(self, query: Query) -> list[ScoringRow]:
    spots = [(i, gap) for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)]
    return [_before(query.tokens, spots)]

  def candidate(self, query: Query) -> list[ScoringRow]:
    of = {i: gap for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)}
    first, none = query.gaps[0][0], len(query.gaps)
    return [_before(query.tokens, [(i, of.get(i, none)) for i in range(first, len(query.tokens))])]

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return [_before(tokens, [(i, 0) for i in range(1, len(tokens))])]


def _before(tokens: np.ndarray, spots: list[tuple[int, int]], prefix: int = 0) -> ScoringRow:
  """Reads each (index, gap) at the position before it; what stands behind the last read is left out, nobody sees it."""
  index = [i for i, _ in spots]
  reads, gaps = [i - 1 for i in index], [gap for _, gap in spots]
  return _row(tokens[: max(index)], reads, [tokens[i] for i in index], gaps, prefix)


def _begun(tokens: np.ndarray, first: int | None) -> np.ndarray:
  """The tokens, with another one in front in place of `bos`."""
  return tokens if first is None else np.concatenate([[first], tokens[1:]]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class PrefixLeftToRight(LeftToRight):
  """Negative log-likelihood where all that stands before a gap is a prefix, seen from both sides. A pass a gap.

  A whole text has the shortest prefix, `bos`. `begin` stands in its place where the model knows a token of its own.
  """

  begin: int | None = None

  def begun(self, tokens: np.ndarray) -> np.ndarray:
    return _begun(tokens, self.begin)

  def prefix(self, left: np.ndarray) -> int:
    return len(left)

  def rows(self, query: Query) -> list[ScoringRow]:
    tokens, numbered = self.begun(query.tokens), enumerate(query.gaps)
    return [_before(tokens, [(i, gap) for i in range(start, end)], start) for gap, (start, end) in numbered]

  def candidate(self, query: Query) -> list[ScoringRow]:
    (row,) = super().candidate(query._replace(tokens=self.begun(query.tokens)))
    return [row._replace(prefix=query.gaps[0][0])]

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    (row,) = super().whole(self.begun(tokens))
    return [row._replace(prefix=1)]


@dataclasses.dataclass(frozen=True)
class PseudoLikelihood:
  """Masked scoring: all gaps are hidden at once; inside a gap tokens are revealed from left to right.

  So a gap's score is a product of conditional probabilities that sums to one over all fillings of its length. As many
  passes as the longest gap has tokens. With `shifted` (MNTP) token i is read from the output at i - 1; then the model
  can be run under causal attention too, as GPT-BERT is (arXiv 2410.24159 section 4).

  A whole text is scored by its pseudo-log-likelihood: one token hidden at a time, a pass a token (Salazar et al.,
  arXiv 1910.14659).
  """

  mask: int
  shifted: bool = False
  attention: AttentionSpec | None = None
  sees: str = 'left and right'

  @property
  def causal(self) -> Scorer | None:
    return LeftToRight(attention=CAUSAL) if self.shifted else None

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

  def candidate(self, query: Query) -> list[ScoringRow]:
    return self.rows(query)

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    rows = []
    for i in range(1, len(tokens)):
      inputs = np.array(tokens, np.int32)
      inputs[i] = self.mask
      rows.append(_row(inputs, [i - int(self.shifted)], [tokens[i]], [0]))
    return rows


@dataclasses.dataclass(frozen=True)
class AnyOrder(PseudoLikelihood):
  """Masked diffusion's bound of the log-likelihood, from one order in which tokens are revealed, drawn at random.

  All gaps are hidden at once, and each token is scored in its turn, given the text and the tokens before it in that
  order. On average over orders that is the bound of the loss (arXiv 2406.07524, section 3; any-order autoregression,
  arXiv 2110.02037), here with one sample: -log p is estimated from above. An order is a function of how long text and
  gaps are, so that candidates of one length are compared in the same one. A whole text is one gap behind `bos`.
  """

  def rows(self, query: Query) -> list[ScoringRow]:
    spots = [(i, gap) for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)]
    random = np.random.default_rng([len(query.tokens), *(edge for gap in query.gaps for edge in gap)])
    inputs, rows = np.array(query.tokens, np.int32), []
    inputs[[i for i, _ in spots]] = self.mask
    for number in random.permutation(len(spots)):
      i, gap = spots[number]
      rows.append(_row(inputs.copy(), [i], [query.tokens[i]], [gap]))
      inputs[i] = query.tokens[i]
    return rows

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return self.rows(Query(tokens, ((1, len(tokens)),)))


@dataclasses.dataclass(frozen=True)
class Infill:
  """Causal-masked infilling: `left <mask:0> right <mask:0> gap`, one gap a pass (CM3 section 3.2).

  The other gaps of the query stay in the text. A gap with nothing to its right is scored as a continuation, without
  sentinels. The end token is not part of a gap's score, so that losses are per token of the same text for all scorers;
  candidates are ranked with it, so that those of several lengths can be compared.
  """

  sentinel: int
  end_of_span: int
  attention: AttentionSpec | None = None
  sees: str = 'left and right'

  @property
  def causal(self) -> Scorer | None:
    return None

  def rows(self, query: Query) -> list[ScoringRow]:
    return [self._pass(query, gap, end_token=False) for gap in range(len(query.gaps))]

  def candidate(self, query: Query) -> list[ScoringRow]:
    return [self._pass(query, gap, end_token=True) for gap in range(len(query.gaps))]

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return LeftToRight().whole(tokens)

  def prompt(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What the gap's tokens are written behind."""
    return np.concatenate([left, [self.sentinel], right, [self.sentinel]]) if len(right) else left

  def prefix(self, prompt: np.ndarray) -> int:
    """How much of it is seen from both sides."""
    del prompt
    return 0

  def closes(self, right: np.ndarray) -> bool:
    """Whether an end token follows the gap's tokens."""
    return len(right) > 0

  def _pass(self, query: Query, gap: int, end_token: bool) -> ScoringRow:
    start, end = query.gaps[gap]
    prompt = self.prompt(query.tokens[:start], query.tokens[end:])
    ends = end_token and self.closes(query.tokens[end:])
    numbers = [gap] * (end - start) + [len(query.gaps)] * ends
    spots = [(len(prompt) + i, number) for i, number in enumerate(numbers)]
    written = np.concatenate([prompt, query.tokens[start:end], [self.end_of_span] * ends]).astype(np.int32)
    return _before(written, spots, self.prefix(prompt))


@dataclasses.dataclass(frozen=True)
class FillIn(Infill):
  """Fill-in-the-middle's infilling: `<PRE> left <SUF> right <MID> gap <EOT>`, one gap a pass (FIM, arXiv 2207.14255).

  `sentinel` is <SUF> and `end_of_span` <EOT>. A gap with nothing to its right is a continuation, without marks.
  """

  pre: int = 0
  mid: int = 0

  def prompt(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    marked = np.concatenate([left[:1], [self.pre], left[1:], [self.sentinel], right, [self.mid]])
    return marked if len(right) else left


@dataclasses.dataclass(frozen=True)
class SpanInfill(Infill):
  """Span corruption's infilling: `left <mask:0> right <eoss> <mask:0> gap <eoss>`, one gap a pass.

  All before the second sentinel is seen from both sides (T5, arXiv 1910.10683, section 3.1.4, in one stack).

  A gap with nothing to its right is one like any other: the model has seen no continuations. A whole text is the gap
  behind `bos`. `begin` is as in `PrefixLeftToRight`.
  """

  begin: int | None = None

  def prompt(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([_begun(left, self.begin), [self.sentinel], right, [self.end_of_span, self.sentinel]])

  def prefix(self, prompt: np.ndarray) -> int:
    return len(prompt) - 1

  def closes(self, right: np.ndarray) -> bool:
    del right
    return True

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return self.rows(Query(tokens, ((1, len(tokens)),)))
