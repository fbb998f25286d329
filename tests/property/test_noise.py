"""MDiff4STR's strategies, each by itself and mixed, and token replacement."""

import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, documents, make_rows
from unmask import UserError
from unmask.objectives.noise_strategies import STRATEGIES, NoiseStrategies
from unmask.objectives.token_replacement import TokenReplacement

COUNT, LENGTH = 3000, 14  # of which twelve are text


def _masks(strategy: str) -> np.ndarray:
  """Bool [rows, 12]."""
  rows = {name: np.repeat(value, COUNT, axis=0) for name, value in documents(1, LENGTH).items()}
  return corrupt(NoiseStrategies(shares={strategy: 1.0}), rows)['corrupted'][:, 1:-1] > 0


@pytest.mark.parametrize(('strategy', 'flip'), [('prefix', False), ('suffix', True)])
def test_a_prefix_or_a_suffix_of_any_length_is_kept(strategy, flip):
  masks = _masks(strategy)
  masks = masks[:, ::-1] if flip else masks
  kept = (~masks).sum(axis=1)
  assert all((~mask[:n]).all() and mask[n:].all() for mask, n in zip(masks, kept, strict=True))
  assert scipy.stats.chisquare(np.bincount(kept, minlength=13)[1:12]).pvalue > 1e-3
  assert 1 <= kept.min() <= kept.max() <= 11


def test_blocks_are_kept_from_the_front():
  """Twelve tokens in 2 to 6 blocks, each number alike, and each number of kept blocks but all."""
  kept = (~_masks('blocks')).sum(axis=1)
  wanted = np.zeros(13)
  for blocks in range(2, 7):
    for whole in range(1, blocks):
      wanted[-(-whole * 12 // blocks)] += 1 / 5 / (blocks - 1)
  counts = np.bincount(kept, minlength=13)
  assert scipy.stats.chisquare(counts[wanted > 0], wanted[wanted > 0] * COUNT).pvalue > 1e-3
  assert counts[wanted == 0].sum() == 0


def test_all_one_and_random():
  assert _masks('all').all()
  one = _masks('one')
  assert (one.sum(axis=1) == 1).all()
  assert scipy.stats.chisquare(one.sum(axis=0)).pvalue > 1e-3
  random = _masks('random')
  sizes = np.bincount(random.sum(axis=1), minlength=13)
  assert sizes[0] == 0
  assert scipy.stats.chisquare(sizes[2:]).pvalue > 1e-3  # a uniform rate gives each number alike; 0 became 1
  assert sizes[1] == pytest.approx(2 * COUNT / 13, rel=0.2)


def test_a_passage_counts_by_its_length():
  rows = make_rows(np.random.default_rng(0), 200, 60)
  features = corrupt(NoiseStrategies(), rows)
  text = (rows['targets'] >= SPECIAL.text[0]) & (rows['segment_ids'] > 0)
  for b in range(200):
    for number in range(1, rows['segment_ids'][b].max() + 1):
      mine = rows['segment_ids'][b] == number
      weight = features['decoder_loss_weights'][b][mine].sum()
      assert weight == pytest.approx((text[b] & mine).sum(), rel=1e-5)
  ones = np.ones_like(features['decoder_loss_weights'])
  (term,) = NoiseStrategies().loss(ones, features['decoder_loss_weights'], features).values()
  assert float(term.numerator / term.denominator) == pytest.approx(1.0, rel=1e-5)


def test_strategies_are_drawn_by_their_shares():
  rows = {name: np.repeat(value, COUNT, axis=0) for name, value in documents(1, LENGTH).items()}
  masks = corrupt(NoiseStrategies(shares={'all': 3, 'one': 1}), rows)['corrupted'].sum(axis=1)
  assert (masks == 12).mean() == pytest.approx(0.75, abs=0.03)
  assert set(masks.tolist()) == {1, 12}
  assert list(NoiseStrategies(shares={'one': 1, 'all': 3}).shares) == ['all', 'one']  # in whatever order they are given
  assert set(NoiseStrategies().shares) == set(STRATEGIES)


@pytest.mark.parametrize('shares', [{}, {'some': 1.0}, {'all': 0}, {'all': True}, 'all', {'all': float('nan')}])
def test_senseless_shares_are_refused(shares):
  with pytest.raises(UserError, match=r'NoiseStrategies\.shares'):
    NoiseStrategies(shares=shares)


def test_replaced_tokens_are_any_and_all_are_told():
  rows = documents(400, 64)
  features = corrupt(TokenReplacement(rate=0.3), rows)
  replaced = features['corrupted'] > 0
  assert replaced[:, 1:-1].mean() == pytest.approx(0.3, abs=0.01)
  assert (features['decoder_loss_weights'][:, 1:-1] == 1).all()
  assert (features['decoder_input_tokens'] == rows['targets'])[~replaced].all()
  drawn = features['decoder_input_tokens'][replaced]
  assert (drawn.min(), drawn.max()) == (SPECIAL.text[0], SPECIAL.text[1] - 1)
  assert scipy.stats.chisquare(np.bincount(drawn - SPECIAL.text[0])).pvalue > 1e-3
  shares = corrupt(TokenReplacement(), rows)['corrupted'][:, 1:-1].mean(axis=1)
  assert scipy.stats.kstest(shares, 'uniform').pvalue > 1e-3  # each row has a rate of its own
