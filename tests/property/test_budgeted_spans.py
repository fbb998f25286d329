"""Budgeted spans: what 4M's released code draws, keeps and cuts, counted, and beside its rule in plain Python."""

import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents, make_rows
from unmask import UserError
from unmask.objectives.budgeted_spans import BudgetedSpans

AMPLE = {'input_share': 2.0, 'target_share': 2.0}


def _sides(features: dict) -> tuple[np.ndarray, np.ndarray]:
  """Which positions are inputs and which targets, bool [batch, model_length]."""
  real, seen = features['decoder_segment_ids'] > 0, features['decoder_levels'] == 0
  return real & seen, real & ~seen


def _copies(count: int, length: int) -> dict:
  """Copies of one document whose tokens all differ, so that each tells its place."""
  rows = documents(1, length)
  rows['targets'][0, 1:-1] = SPECIAL.text[0] + np.arange(length - 2)
  return {name: np.repeat(value, count, axis=0) for name, value in rows.items()}


def _places(features: dict, side: np.ndarray, length: int) -> np.ndarray:
  """Which tokens of `_copies` stand on a side, bool [batch, length - 2]."""
  tokens = np.where(side, features['decoder_input_tokens'], 0)
  return np.stack([(tokens == token).any(axis=1) for token in SPECIAL.text[0] + np.arange(length - 2)], axis=1)


@pytest.mark.parametrize(('keep', 'inputs', 'targets'), [(0.5, 0.75, 0.75), (0.85, 0.98, 0.28), (1.0, 1.0, 0.0)])
def test_lengths_per_token(keep, inputs, targets):
  """p + p (1 - p) and (1 - p) + p (1 - p) a token, of a text of many."""
  features = corrupt(BudgetedSpans(keep_prob=keep, **AMPLE), documents(300, 514))
  read, asked = (side.sum(axis=1).mean() for side in _sides(features))
  ends = keep < 1
  assert (read - 2 - ends) / 512 == pytest.approx(inputs, abs=0.006)  # without `bos`, `eos` and the ends
  assert (asked - ends) / 512 == pytest.approx(targets, abs=0.006)


@pytest.mark.parametrize('shares', [(0.5, 0.5), (0.25, 0.75), (0.8, 0.1)])
@pytest.mark.parametrize('segments', [1, 3, 20])
def test_budgets_hold_and_are_used(shares, segments):
  objective = BudgetedSpans(input_share=shares[0], target_share=shares[1])
  rows = make_rows(np.random.default_rng(0), 300, 96, segments=segments, full=True)
  features = corrupt(objective, rows)
  read, asked = (side.sum(axis=1) for side in _sides(features))
  most = objective.budgets(96)
  assert objective.model_length(96) == sum(most) == features['corrupted'].shape[1]
  assert read.max() <= most[0]
  assert asked.max() <= most[1]
  assert (asked == most[1]).mean() > (0.2 if shares[1] < 0.7 else 0.0)
  assert read.mean() > (0.6 if segments < 20 else 0.5) * most[0]
  scored = features['decoder_loss_weights'].sum(axis=1)
  begun = np.array(
    [len(np.unique(ids[side])) for ids, side in zip(features['decoder_segment_ids'], _sides(features)[1], strict=True)]
  )
  np.testing.assert_array_equal(scored, asked - begun)  # a document's first sentinel is given


def test_rates_are_uniform_and_flat_over_positions():
  """With budgets for all, p ~ U[0, 1) makes every number of masked tokens equally likely, and every place."""
  count, length = 8000, 22
  features = corrupt(BudgetedSpans(**AMPLE), _copies(count, length))
  read, asked = _sides(features)
  kept, hidden = _places(features, read, length), _places(features, asked, length)
  assert (kept != hidden).all()
  assert scipy.stats.chisquare(np.bincount(hidden.sum(axis=1), minlength=length - 1)).pvalue > 1e-3
  z = (hidden.mean(axis=0) - 0.5) / np.sqrt(0.25 / count)
  assert np.abs(z).max() < 4.2


def _plain(generator: np.random.Generator, length: int, most: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
  """The released rule on one text whose two ends are kept: which tokens are kept, and which asked for."""
  keep = generator.random()
  while True:
    masked = [False, *(generator.random(length - 2) >= keep).tolist(), False]
    targets = []
    for i in range(length):
      targets += [None] * (masked[i] and not masked[i - 1]) + [i] * masked[i]
    targets += [None] * any(masked)
    spans = targets[:-1].count(None)
    if length - sum(masked) + spans + any(masked) <= most[0]:
      break
    keep *= 0.9
  if len(targets) > most[1]:
    marks = [i for i, token in enumerate(targets) if token is None]
    begin = marks[generator.integers(len(marks) - 1)]
    if len(targets) - begin < most[1]:
      begin = next(mark for mark in marks if len(targets) - mark <= most[1])
    targets = targets[begin : begin + most[1]]
  asked = np.isin(np.arange(1, length - 1), [token for token in targets if token is not None])
  return ~np.array(masked[1:-1]), asked


@pytest.mark.parametrize('shares', [(0.5, 0.5), (0.75, 0.3)])
def test_what_is_kept_and_asked_is_distributed_as_in_the_released_code(shares):
  count, length = 6000, 40
  objective = BudgetedSpans(input_share=shares[0], target_share=shares[1])
  features = corrupt(objective, _copies(count, length))
  generator = np.random.default_rng(0)
  theirs = [_plain(generator, length, objective.budgets(length)) for _ in range(count)]
  for number, side in enumerate(_sides(features)):
    ours, plain = _places(features, side, length), np.array([one[number] for one in theirs])
    for x, y in ((ours, plain), (ours[:, 1:] & ours[:, :-1], plain[:, 1:] & plain[:, :-1])):  # and how long spans are
      share = (x.mean(axis=0) + y.mean(axis=0)) / 2
      z = (x.mean(axis=0) - y.mean(axis=0)) / np.sqrt(2 * share * (1 - share) / count)
      assert np.abs(z).max() < 4.2, z  # of 40 normal numbers one in a thousand times
    assert scipy.stats.ks_2samp(ours.sum(axis=1), plain.sum(axis=1)).pvalue > 1e-3


def test_documents_draw_their_own_rates():
  rows = make_rows(np.random.default_rng(0), 1500, 128, segments=1, full=True)
  for name in rows:
    rows[name][:, 64:] = rows[name][:, :64]
  rows['targets'][:, 63::64] = SPECIAL.eos
  rows['segment_ids'][:, 64:] = 2
  features = corrupt(BudgetedSpans(**AMPLE), rows)
  read, _ = _sides(features)
  ordinary = read & SPECIAL.is_text(features['decoder_input_tokens'])
  shares = [(ordinary & (features['decoder_segment_ids'] == number)).sum(axis=1) / 62 for number in (1, 2)]
  for share in shares:
    assert scipy.stats.kstest(share, 'uniform').statistic < 0.06
  assert abs(np.corrcoef(*shares)[0, 1]) < 0.1


def test_no_budget_is_too_small_for_the_back_off():
  """Nothing is kept but what marks a document, if nothing else fits; and what has no room even so is not read."""
  features = corrupt(BudgetedSpans(keep_prob=1.0, input_share=0.1), documents(50, 40))
  assert (
    features['decoder_input_tokens'][:, :4].tolist()
    == [[SPECIAL.bos, SPECIAL.sentinels[0], SPECIAL.eos, SPECIAL.end_of_span]] * 50
  )
  rows = make_rows(np.random.default_rng(0), 50, 40, segments=6, full=True)
  features = corrupt(BudgetedSpans(input_share=0.2), rows)
  assert (features['decoder_segment_ids'].max(axis=1) == np.minimum(rows['segment_ids'].max(axis=1), 2)).all()
  with pytest.raises(UserError, match='room for 3 inputs and 15 targets in rows of 30 tokens'):
    BudgetedSpans(input_share=0.1).check(30)
  with pytest.raises(UserError, match=r'keep_prob is 1\.5'):
    BudgetedSpans(keep_prob=1.5)
