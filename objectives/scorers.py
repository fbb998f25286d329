"""The scorers: how models of each kind are asked. NumPy only; `scoring` is the contract."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from .attention import CAUSAL, AttentionSpec
from .scoring import Query, Scorer, ScoringRow, before, begun, row


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
    return [before(query.tokens, spots)]

  def candidate(self, query: Query) -> list[ScoringRow]:
    of = {i: gap for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)}
    first, none = query.gaps[0][0], len(query.gaps)
    return [before(query.tokens, [(i, of.get(i, none)) for i in range(first, len(query.tokens))])]

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return [before(tokens, [(i, 0) for i in range(1, len(tokens))])]


@dataclasses.dataclass(frozen=True)
class PrefixLeftToRight(LeftToRight):
  """Negative log-likelihood where all that stands before a gap is a prefix, seen from both sides. A pass a gap.

  A whole text has the shortest prefix, `bos`. `begin` stands in its place where the model knows a token of its own.
  """

  begin: int | None = None

  def begun(self, tokens: np.ndarray) -> np.ndarray:
    return begun(tokens, self.begin)

  def prefix(self, left: np.ndarray) -> int:
    return len(left)

  def rows(self, query: Query) -> list[ScoringRow]:
    tokens, numbered = self.begun(query.tokens), enumerate(query.gaps)
    return [before(tokens, [(i, gap) for i in range(start, end)], start) for gap, (start, end) in numbered]

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
      rows.append(row(inputs, [i - int(self.shifted) for i in reads], [query.tokens[i] for i in reads], gaps))
    return rows

  def candidate(self, query: Query) -> list[ScoringRow]:
    return self.rows(query)

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    rows = []
    for i in range(1, len(tokens)):
      inputs = np.array(tokens, np.int32)
      inputs[i] = self.mask
      rows.append(row(inputs, [i - int(self.shifted)], [tokens[i]], [0]))
    return rows


@dataclasses.dataclass(frozen=True)
class AnyOrder(PseudoLikelihood):
  """Masked diffusion's bound of the log-likelihood, from orders in which tokens are revealed, drawn at random.

  All gaps are hidden at once, and each token is scored in its turn, given the text and the tokens before it in that
  order. The mean over all orders is the bound of the loss (arXiv 2406.07524, section 3; any-order autoregression,
  arXiv 2110.02037); that over some drawn ones is it on average, and so at most log p on average. Orders are a function
  of how long text and gaps are, so that candidates of one length are compared in the same ones. A whole text is one gap
  behind `bos`.

  Attributes:
    samples: orders drawn, a pass a token each; the first ones are the same whatever their number.
    block: tokens of a block, of models that see blocks of a text from left to right: these come in that order, and only
      inside a block is it drawn. 0 for models that see both sides.
  """

  samples: int = 1
  block: int = 0

  def __repr__(self) -> str:
    # The judge keeps answers by this text, and older ones know of neither.
    samples = f', samples={self.samples}' if self.samples > 1 else ''
    block = f', block={self.block}' if self.block else ''
    return f'{super().__repr__()[:-1]}{samples}{block})'

  @classmethod
  def under(cls, attention: AttentionSpec, mask: int, samples: int = 1) -> 'AnyOrder':
    """Of a model that was trained under an attention rule."""
    sees = {0: 'left and right', 1: 'left'}.get(attention.blocks, 'left, and right in its block')
    return cls(mask, sees=sees, samples=samples, block=attention.blocks)

  def rows(self, query: Query) -> list[ScoringRow]:
    spots = [(i, gap) for gap, (start, end) in enumerate(query.gaps) for i in range(start, end)]
    random = np.random.default_rng([len(query.tokens), *(edge for gap in query.gaps for edge in gap)])
    rows = []
    for sample in range(self.samples):
      order = [spots[number] for number in random.permutation(len(spots))]
      if self.block:
        order.sort(key=lambda spot: spot[0] // self.block)  # stable: as drawn inside a block
      rows += [one._replace(samples=self.samples, sample=sample) for one in self._revealed(query.tokens, order)]
    return rows

  def _revealed(self, tokens: np.ndarray, order: list[tuple[int, int]]) -> Iterator[ScoringRow]:
    """A row for each (index, gap), given what was before it in the order."""
    inputs = np.array(tokens, np.int32)
    inputs[[i for i, _ in order]] = self.mask
    for i, gap in order:
      yield row(inputs.copy(), [i], [tokens[i]], [gap])
      inputs[i] = tokens[i]

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
    return before(written, spots, self.prefix(prompt))


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
class SuffixFirst(FillIn):
  """Fill-in-the-middle in its other form, SPM: `<PRE> <SUF> right <MID> left gap <EOT>`, one gap a pass."""

  def prompt(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    marked = np.concatenate([left[:1], [self.pre, self.sentinel], right, [self.mid], left[1:]])
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
    return np.concatenate([begun(left, self.begin), [self.sentinel], right, [self.end_of_span, self.sentinel]])

  def prefix(self, prompt: np.ndarray) -> int:
    return len(prompt) - 1

  def closes(self, right: np.ndarray) -> bool:
    del right
    return True

  def whole(self, tokens: np.ndarray) -> list[ScoringRow]:
    return self.rows(Query(tokens, ((1, len(tokens)),)))
