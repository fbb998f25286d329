"""Scorers: what they ask a model, that what they add up to is a probability, and which one on a known distribution."""

import itertools

import numpy as np
import pytest
from markov_chain import CHAIN, END, MASK, SENTINEL
from unmask.objectives.attention import CAUSAL
from unmask.objectives.scorers import (
  AnyOrder,
  FillIn,
  Infill,
  LeftToRight,
  PrefixLeftToRight,
  PseudoLikelihood,
  SpanInfill,
  SuffixFirst,
)
from unmask.objectives.scoring import Query, ScoringRow

TOKENS = np.array([2, 10, 11, 12, 13, 14, 15], np.int32)
INFILL = Infill(sentinel=SENTINEL, end_of_span=END)
PREFIX, SPANS = PrefixLeftToRight(begin=30), SpanInfill(sentinel=SENTINEL, end_of_span=END, begin=31)
SCORERS = [LeftToRight(), PseudoLikelihood(mask=MASK), PseudoLikelihood(mask=MASK, shifted=True), INFILL, PREFIX, SPANS]
FIM = FillIn(sentinel=26, end_of_span=END, pre=25, mid=27)
SPM = SuffixFirst(sentinel=26, end_of_span=END, pre=25, mid=27)
SCORERS += [AnyOrder(mask=MASK), FIM, SPM]
CAUSAL_SCORERS = (LeftToRight, Infill)


@pytest.mark.parametrize('scorer', SCORERS, ids=repr)
def test_every_token_is_read_once(scorer):
  query = Query(TOKENS, ((1, 2), (3, 6)))
  for render, more in ((scorer.rows, False), (scorer.candidate, True)):
    reads = [pair for row in render(query) for pair in zip(row.gaps.tolist(), row.targets.tolist(), strict=True)]
    assert sorted(pair for pair in reads if pair[0] < 2) == [(0, 10), (1, 12), (1, 13), (1, 14)]
    assert more or len(reads) == 4
  assert sorted(int(target) for row in scorer.whole(TOKENS) for target in row.targets) == TOKENS[1:].tolist()


def test_left_to_right_reads_before_each_token():
  (row,) = LeftToRight().rows(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == TOKENS[:4].tolist()  # nobody sees what stands behind the last read
  assert row.reads.tolist() == [2, 3]
  (row,) = LeftToRight().candidate(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == TOKENS[:6].tolist()
  assert row.reads.tolist() == [2, 3, 4, 5]
  assert row.gaps.tolist() == [0, 0, 1, 1]
  (row,) = LeftToRight().whole(TOKENS)
  assert row.reads.tolist() == [0, 1, 2, 3, 4, 5]


def test_pseudo_likelihood_hides_all_gaps_and_reveals_from_the_left():
  rows = PseudoLikelihood(mask=4).rows(Query(TOKENS, ((1, 2), (3, 6))))
  assert [row.inputs.tolist() for row in rows] == [
    [2, 4, 11, 4, 4, 4, 15],
    [2, 10, 11, 12, 4, 4, 15],
    [2, 10, 11, 12, 13, 4, 15],
  ]
  assert [row.reads.tolist() for row in rows] == [[1, 3], [4], [5]]
  shifted = PseudoLikelihood(mask=4, shifted=True).rows(Query(TOKENS, ((1, 2), (3, 6))))
  assert [row.reads.tolist() for row in shifted] == [[0, 2], [3], [4]]


def test_a_whole_text_hides_one_token_at_a_time():
  for shifted in (False, True):
    rows = PseudoLikelihood(mask=4, shifted=shifted).whole(TOKENS)
    assert len(rows) == 6
    for i, row in enumerate(rows, 1):
      assert row.inputs.tolist() == [*TOKENS[:i], 4, *TOKENS[i + 1 :]]
      assert row.reads.tolist() == [i - shifted]
      assert row.targets.tolist() == [TOKENS[i]]


def test_infill_is_cm3s_prompt():
  query = Query(TOKENS, ((3, 5),))
  (row,) = INFILL.rows(query)
  assert row.inputs.tolist() == [2, 10, 11, 6, 14, 15, 6, 12]
  assert row.reads.tolist() == [6, 7]
  (row,) = INFILL.candidate(query)
  assert row.inputs.tolist() == [2, 10, 11, 6, 14, 15, 6, 12, 13]
  assert row.targets.tolist() == [12, 13, END]
  assert row.gaps.tolist() == [0, 0, 1]
  for render in (INFILL.rows, INFILL.candidate):  # a continuation
    (plain,) = render(Query(TOKENS, ((5, 7),)))
    assert plain.inputs.tolist() == TOKENS[:6].tolist()
    assert plain.reads.tolist() == [4, 5]


def test_any_order_reveals_in_an_order_of_its_own():
  scorer, query = AnyOrder(mask=MASK), Query(TOKENS, ((1, 3), (4, 7)))
  rows = scorer.rows(query)
  assert [(row.inputs == MASK).sum() for row in rows] == [5, 4, 3, 2, 1]
  assert all(row.inputs[row.reads[0]] == MASK for row in rows)
  order = [int(row.reads[0]) for row in rows]
  assert sorted(order) == [1, 2, 4, 5, 6]
  other = Query(np.where(TOKENS == 2, 2, TOKENS + 50), query.gaps)  # other words, the same order
  assert [int(row.reads[0]) for row in scorer.rows(other)] == order
  orders = {tuple(int(row.reads[0]) for row in scorer.whole(np.arange(2, 2 + size))) for size in range(5, 12)}
  assert any(order != tuple(sorted(order)) for order in orders)


def test_a_prefix_is_what_stands_before_the_gap():
  query = Query(TOKENS, ((1, 2), (3, 5)))
  first, second = PREFIX.rows(query)
  assert (first.inputs.tolist(), first.prefix, first.reads.tolist()) == ([30], 1, [0])
  assert (second.inputs.tolist(), second.prefix, second.reads.tolist()) == ([30, 10, 11, 12], 3, [2, 3])
  (row,) = PREFIX.candidate(query)
  assert (row.inputs.tolist(), row.prefix) == ([30, *TOKENS[1:6]], 1)
  (row,) = PREFIX.whole(TOKENS)
  assert (row.inputs.tolist(), row.prefix) == ([30, *TOKENS[1:6]], 1)


def test_span_infill_is_span_corruptions_own_form():
  query = Query(TOKENS, ((3, 5),))
  (row,) = SPANS.candidate(query)
  assert row.inputs.tolist() == [31, 10, 11, SENTINEL, 14, 15, END, SENTINEL, 12, 13]
  assert row.prefix == 7  # as in training, the second sentinel is the first that is predicted
  assert row.targets.tolist() == [12, 13, END]
  (row,) = SPANS.rows(Query(TOKENS, ((5, 7),)))
  assert row.inputs.tolist() == [31, *TOKENS[1:5], SENTINEL, END, SENTINEL, 14]
  (row,) = SPANS.whole(TOKENS)
  assert row.inputs.tolist() == [31, SENTINEL, END, SENTINEL, *TOKENS[1:6]]


def test_fill_in_is_the_papers_prompt():
  (row,) = FIM.candidate(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == [2, 25, 10, 11, 26, 14, 15, 27, 12, 13]
  assert row.targets.tolist() == [12, 13, END]
  (row,) = SPM.candidate(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == [2, 25, 26, 14, 15, 27, 10, 11, 12, 13]
  assert (row.reads.tolist(), row.targets.tolist()) == ([7, 8, 9], [12, 13, END])
  for scorer in (FIM, SPM):
    (plain,) = scorer.rows(Query(TOKENS, ((5, 7),)))
    assert plain.inputs.tolist() == TOKENS[:6].tolist()


def test_who_has_a_left_to_right_form_beside_its_own():
  assert PseudoLikelihood(mask=4, shifted=True).causal == LeftToRight(attention=CAUSAL)
  assert [scorer.causal for scorer in SCORERS if scorer != SCORERS[2]] == [None] * 8


def _sum(scorer, rows: list[ScoringRow], log_prob) -> float:
  """Adds up all reads; a causal model is not shown what stands behind one."""
  total = 0.0
  for row in rows:
    for read, target in zip(row.reads, row.targets, strict=True):
      seen = row.inputs[: read + 1] if isinstance(scorer, CAUSAL_SCORERS) else row.inputs
      total += log_prob(seen, int(read), int(target))
  return total


def test_scores_of_all_fillings_sum_to_one():
  """With any conditional model, a gap's probabilities over all fillings of its length are a distribution."""
  vocabulary = [10, 11, 12]

  def log_prob(inputs: np.ndarray, read: int, target: int) -> float:
    # A model that sees all of its input: a hash of it gives the logits.
    seed = abs(hash((inputs.tobytes(), int(read)))) % 2**32
    logits = np.random.default_rng(seed).normal(size=3)
    return float(logits[vocabulary.index(target)] - np.log(np.exp(logits).sum()))

  for scorer in SCORERS:
    total = 0.0
    for filling in itertools.product(vocabulary, repeat=2):
      tokens = np.array([2, 20, *filling, 21, 22], np.int32)
      total += np.exp(_sum(scorer, scorer.rows(Query(tokens, ((2, 4),))), log_prob))
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


MODELS = [
  (LeftToRight(), CHAIN.left_to_right),
  (PseudoLikelihood(mask=MASK), CHAIN.masked(0)),
  (PseudoLikelihood(mask=MASK, shifted=True), CHAIN.masked(1)),
  (INFILL, CHAIN.infill),
  (AnyOrder(mask=MASK), CHAIN.masked(0)),
]
TEXTS = [(10, 12, 11, 11, 10, 12), (12, 12, 12, 10, 11, 11), (11, 10, 10, 12, 12, 10)]


def _named(text, places) -> dict[str, int]:
  return {f't{i}': text[i] for i in places}


@pytest.mark.parametrize('text', TEXTS)
@pytest.mark.parametrize(('scorer', 'model'), MODELS, ids=lambda value: type(value).__name__)
def test_exact_on_a_markov_chain(scorer, model, text):
  """With a model that knows the chain each score is the probability that its formula names."""
  tokens = np.array([2, *text], np.int32)
  for start, end in ((1, 2), (2, 5), (3, 5), (4, 7)):
    others = [i for i in range(6) if not start - 1 <= i < end - 1]
    whole, both = CHAIN.p(**_named(text, range(6))), CHAIN.p(**_named(text, others))
    left = CHAIN.p(**_named(text, range(start - 1)))
    gap = CHAIN.p(**_named(text, range(end - 1))) / left if isinstance(scorer, LeftToRight) else whole / both
    query = Query(tokens, ((start, end),))
    assert _sum(scorer, scorer.rows(query), model) == pytest.approx(np.log(gap))
    # Candidates: of both sides, for a left-to-right model up to what all candidates share.
    shared = both / left if isinstance(scorer, LeftToRight) else 1.0
    assert _sum(scorer, scorer.candidate(query), model) == pytest.approx(np.log(whole / both * shared))
  if type(scorer) is PseudoLikelihood:
    exact = sum(
      np.log(CHAIN.p(**_named(text, range(6))) / CHAIN.p(**_named(text, set(range(6)) - {i}))) for i in range(6)
    )
  else:
    exact = np.log(CHAIN.p(**_named(text, range(6))))
  assert _sum(scorer, scorer.whole(tokens), model) == pytest.approx(exact)
