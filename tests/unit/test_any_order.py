"""Masked diffusion's scorer: a bound from any number of orders, what all orders give, and blocks from left to right."""

import collections
import functools
import itertools

import numpy as np
import pytest
from markov_chain import CHAIN, MASK
from unmask import UserError
from unmask.launch.judging import answers
from unmask.launch.judging.runner import RowScores
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL, AttentionSpec, by_layer
from unmask.objectives.masked_diffusion import MaskedDiffusion
from unmask.objectives.scorers import AnyOrder
from unmask.objectives.scoring import Query
from unmask.tasks.questions.test import Item, Test

GAP = (3, 6)  # of the chain's texts, `bos` in front
ORDERS = list(itertools.permutations(range(*GAP)))
TEXT = np.array([2, 10, 12, 11, 11, 10, 12], np.int32)


def _wrong(inputs: np.ndarray, read: int, target: int) -> float:
  """Half the chain, half chance: a model whose orders disagree."""
  return _half(tuple(inputs.tolist()), read, target)


@functools.cache
def _half(inputs: tuple[int, ...], read: int, target: int) -> float:
  return float(np.log(0.5 * np.exp(CHAIN.masked(0)(np.array(inputs), read, target)) + 0.5 / 3))


def _in_order(tokens: np.ndarray, order: tuple[int, ...]) -> float:
  """log p of what fills the gap, revealed in this order by the wrong model."""
  inputs, total = tokens.copy(), 0.0
  inputs[list(order)] = MASK
  for i in order:
    total += _wrong(inputs, i, int(tokens[i]))
    inputs[i] = tokens[i]
  return total


def _by_sample(rows, log_prob=_wrong) -> dict[int, float]:
  totals: collections.Counter[int] = collections.Counter()
  for row in rows:
    totals[row.sample] += log_prob(row.inputs, int(row.reads[0]), int(row.targets[0]))
  return dict(totals)


def test_samples_are_orders_and_the_first_is_that_of_one_sample():
  query = Query(TEXT, (GAP,))
  one, rows = AnyOrder(mask=MASK).rows(query), AnyOrder(mask=MASK, samples=60).rows(query)
  for row, first in zip(one, rows, strict=False):
    assert (row.inputs.tolist(), row.reads.tolist()) == (first.inputs.tolist(), first.reads.tolist())
  assert {row.samples for row in one} == {1}
  assert {row.samples for row in rows} == {60}
  orders = [tuple(int(row.reads[0]) for row in rows[3 * k : 3 * k + 3]) for k in range(60)]
  assert set(orders) == set(ORDERS)  # every one of six among sixty
  for sample, score in _by_sample(rows).items():
    assert score == pytest.approx(_in_order(TEXT, orders[sample]))
  whole = AnyOrder(mask=MASK, samples=3).whole(TEXT)
  assert sorted(int(row.reads[0]) for row in whole) == sorted([*range(1, 7)] * 3)


def test_the_mean_is_a_bound_and_that_over_all_orders_is_what_many_samples_come_to():
  """In expectation over texts, whatever the number of samples: -log p of a wrong model is not below the entropy."""
  fillings = [
    np.array([*TEXT[:3], *filling, TEXT[6]], np.int32) for filling in itertools.product((10, 11, 12), repeat=3)
  ]
  p = np.array([CHAIN.p(**{f't{i}': int(t) for i, t in enumerate(text[1:])}) for text in fillings])
  p /= p.sum()
  entropy = -(p * np.log(p)).sum()
  exact = np.array([[_in_order(text, order) for order in ORDERS] for text in fillings]).mean(axis=1)
  assert -(p * exact).sum() > 1.02 * entropy
  for samples in (1, 2, 7):
    scorer = AnyOrder(mask=MASK, samples=samples)
    found = [np.mean(list(_by_sample(scorer.rows(Query(text, (GAP,)))).values())) for text in fillings]
    assert -(p * found).sum() > entropy
  scores = list(_by_sample(AnyOrder(mask=MASK, samples=600).rows(Query(TEXT, (GAP,)))).values())
  here = [_in_order(TEXT, order) for order in ORDERS]
  assert np.ptp(here) > 0.01
  assert np.mean(scores) == pytest.approx(np.mean(here), abs=5 * np.std(here) / np.sqrt(600))


def test_more_samples_are_nearer_to_the_mean_over_all_orders():
  """Texts of other lengths have other orders; the error's square falls by the number of samples."""

  def log_prob(inputs: np.ndarray, read: int, target: int) -> float:
    return float(np.random.default_rng([*inputs, read, target]).normal())

  errors = collections.defaultdict(list)
  for length in range(5, 65):
    tokens = np.arange(20, 20 + length, dtype=np.int32)
    exact = []
    for order in itertools.permutations((1, 2, 3)):
      inputs, total = tokens.copy(), 0.0
      inputs[1:4] = MASK
      for i in order:
        total += log_prob(inputs, i, int(tokens[i]))
        inputs[i] = tokens[i]
      exact.append(total)
    for samples in (1, 16):
      rows = AnyOrder(mask=MASK, samples=samples).rows(Query(tokens, ((1, 4),)))
      errors[samples].append(np.mean(list(_by_sample(rows, log_prob).values())) - np.mean(exact))
  assert np.square(errors[1]).mean() == pytest.approx(16 * np.square(errors[16]).mean(), rel=0.6)


def test_figures_are_means_over_samples():
  item = Item((Query(TEXT, ((1, 3), (4, 5)), 0),))
  test = Test(name='x', title='X', part='cloze', kind='gaps', primary='loss', items=[item])
  asked = answers.ask(test, AnyOrder(mask=MASK, samples=3))
  scores = [RowScores(np.array([-1.0 - one.row.sample]), one.row.targets + (one.row.sample == 2)) for one in asked]
  found = answers.answers(test, asked, scores, np.log(np.full(50, 1 / 50)))
  assert {name: float(value[0]) for name, value in found.items() if name != 'unigram'} == {
    'cluster': 0,
    'nll': 3 * (1 + 2 + 3) / 3,
    'tokens': 3,
    'hits': 2,  # none in the third sample
    'gaps': 2,
    'exact': pytest.approx(4 / 3),
  }
  assert found['unigram'][0] == pytest.approx(3 * np.log(50))


def test_blocks_are_revealed_from_left_to_right():
  """A model that sees no later block is exact in that order, and below itself in others."""
  block = 3

  def log_prob(inputs: np.ndarray, read: int, target: int) -> float:
    seen = np.where(np.arange(len(inputs)) // block <= read // block, inputs, MASK)
    return CHAIN.masked(0)(seen, read, target)

  exact = np.log(CHAIN.p(**{f't{i}': int(t) for i, t in enumerate(TEXT[1:])}))
  found = _by_sample(AnyOrder(mask=MASK, samples=8, block=block).whole(TEXT), log_prob)
  np.testing.assert_allclose(list(found.values()), exact)
  other = _by_sample(AnyOrder(mask=MASK, samples=8).whole(TEXT), log_prob)
  assert np.abs(np.array(list(other.values())) - exact).max() > 0.01
  orders = [[int(row.reads[0]) for row in AnyOrder(mask=MASK, block=block).whole(np.arange(n))] for n in range(6, 30)]
  assert all([i // block for i in order] == sorted(i // block for i in order) for order in orders)
  assert any(order != sorted(order) for order in orders)


def test_the_objective_makes_its_scorer():
  scorer = lambda **settings: MaskedDiffusion(**settings).scorer(_Special)
  assert scorer() == AnyOrder(mask=MASK)
  assert (
    repr(scorer()) == "AnyOrder(mask=4, shifted=False, attention=None, sees='left and right')"
  )  # as kept answers say
  assert repr(scorer(samples=5)).endswith(', samples=5)')
  assert repr(MaskedDiffusion(samples=5)) == repr(MaskedDiffusion())  # a run is the same
  blocks = scorer(attention=AttentionSpec(block=4))
  assert (blocks.block, blocks.sees) == (4, 'left, and right in its block')
  assert repr(blocks).endswith(', block=4)')
  rules = {CAUSAL: 1, BIDIRECTIONAL: 0, by_layer('01'): 0, AttentionSpec(ordered=(True, True), block=2): 2}
  assert {rule: scorer(attention=rule).block for rule in rules} == rules
  for wrong in (0, 1.5, True):
    with pytest.raises(UserError, match=r'MaskedDiffusion\.samples'):
      MaskedDiffusion(samples=wrong)


class _Special:
  mask = MASK
