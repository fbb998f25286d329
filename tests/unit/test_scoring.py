"""Scorers: what they ask a model, and that what they add up to is a probability."""

import itertools

import numpy as np
from unmask.objectives.scoring import Infill, LeftToRight, PseudoLikelihood, Query

TOKENS = np.array([2, 10, 11, 12, 13, 14, 15], np.int32)
SCORERS = [
  LeftToRight(),
  PseudoLikelihood(mask=4),
  PseudoLikelihood(mask=4, shifted=True),
  Infill(sentinel=6, end_of_span=5),
]


def test_every_token_of_every_gap_is_read_once():
  query = Query(TOKENS, ((1, 2), (3, 6)))
  for scorer in SCORERS:
    rows = scorer.rows(query)
    asked = [(int(gap), int(target)) for row in rows for gap, target in zip(row.gaps, row.targets, strict=True)]
    assert sorted(asked) == [(0, 10), (1, 12), (1, 13), (1, 14)], scorer


def test_left_to_right_reads_before_each_token():
  (row,) = LeftToRight().rows(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == TOKENS.tolist()
  assert row.reads.tolist() == [2, 3]


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


def test_infill_is_cm3s_prompt():
  (row,) = Infill(sentinel=6, end_of_span=5).rows(Query(TOKENS, ((3, 5),)))
  assert row.inputs.tolist() == [2, 10, 11, 6, 14, 15, 6, 12, 13]
  assert row.reads.tolist() == [6, 7]
  (plain,) = Infill(sentinel=6, end_of_span=5).rows(Query(TOKENS, ((5, 7),)))
  assert plain.inputs.tolist() == TOKENS.tolist()
  assert plain.reads.tolist() == [4, 5]


def test_scores_of_all_fillings_sum_to_one():
  """With any conditional model, a gap's probabilities over all fillings of its length are a distribution."""
  vocabulary = [10, 11, 12]

  def log_prob(inputs: np.ndarray, read: int, target: int) -> float:
    # A model that sees all of its input: a hash of it gives the logits.
    seed = abs(hash((inputs.tobytes(), int(read)))) % 2**32
    logits = np.random.default_rng(seed).normal(size=3)
    return float(logits[vocabulary.index(target)] - np.log(np.exp(logits).sum()))

  for scorer in SCORERS[1:]:
    total = 0.0
    for filling in itertools.product(vocabulary, repeat=2):
      tokens = np.array([2, 20, *filling, 21, 22], np.int32)
      rows = scorer.rows(Query(tokens, ((2, 4),)))
      score = 0.0
      for row in rows:
        for read, target in zip(row.reads, row.targets, strict=True):
          # Causal scorers may not look past the read.
          seen = row.inputs[: read + 1] if isinstance(scorer, Infill) else row.inputs
          score += log_prob(seen, read, int(target))
      total += np.exp(score)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
