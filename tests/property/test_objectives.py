"""Properties that hold for every objective of the table, on random rows."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, TABLE, corrupt, make_rows

NAMES = sorted(TABLE)
pytestmark = pytest.mark.parametrize('name', NAMES)
_settings = hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
_seeds = st.integers(0, 2**31 - 1)


@hypothesis.given(rows_seed=_seeds, seed=_seeds, length=st.sampled_from([16, 33, 64]), segments=st.integers(1, 4))
@_settings
def test_corruption_is_undone_and_weights_are_right(name, rows_seed, seed, length, segments):
  entry = TABLE[name]
  objective = entry.make()
  rows = make_rows(np.random.default_rng(rows_seed), 6, length, segments)
  features = corrupt(objective, rows, seed)
  for b in range(6):
    row = {key: value[b] for key, value in features.items()}
    clean = {key: value[b] for key, value in rows.items()}
    np.testing.assert_array_equal(entry.restore(clean, row), clean['targets'])
    supervised = row['decoder_loss_weights'] > 0
    assert supervised.sum() <= objective.max_supervised(length)
    assert (row['decoder_segment_ids'][supervised] > 0).all()
    never = [SPECIAL.pad, SPECIAL.mask, *([] if entry.sentinels else SPECIAL.sentinels)]
    assert not np.isin(row['decoder_target_tokens'][supervised], never).any()
    if objective.shift:  # no target lies beyond its own segment
      where = np.flatnonzero(supervised)
      assert (row['decoder_segment_ids'][where] == row['decoder_segment_ids'][where + 1]).all()


@hypothesis.given(rows_seed=_seeds, seed=_seeds)
@_settings
def test_special_tokens_and_padding_are_left_alone(name, rows_seed, seed):
  rows = make_rows(np.random.default_rng(rows_seed), 6, 48)
  features = corrupt(TABLE[name].make(), rows, seed)
  inputs, segments = features['decoder_input_tokens'], features['decoder_segment_ids']
  assert (inputs[segments == 0] == 0).all()
  assert (features['decoder_loss_weights'][segments == 0] == 0).all()
  corrupted = features['corrupted']
  if TABLE[name].copies:  # the copy behind the row has its own
    inputs, corrupted = inputs[:, :48], corrupted[:, :48]
  for b in range(6):
    for special, here in ((SPECIAL.bos, TABLE[name].begin), (SPECIAL.eos, SPECIAL.eos)):
      assert (inputs[b] == here).sum() == (rows['targets'][b] == special).sum()
    edges = np.isin(rows['targets'][b], [SPECIAL.bos, SPECIAL.eos])
    if inputs.shape == rows['targets'].shape and not TABLE[name].sentinels:  # spans that are cut out move the rest
      assert not corrupted[b][edges].any()
      clean = np.where(rows['targets'][b] == SPECIAL.bos, TABLE[name].begin, rows['targets'][b])
      np.testing.assert_array_equal(inputs[b][edges], clean[edges])


def test_features_follow_the_contract(name):
  objective = TABLE[name].make()
  features = corrupt(objective, make_rows(np.random.default_rng(0), 5, 40), 3)
  for key, value in features.items():
    assert value.dtype == (np.float32 if key == 'decoder_loss_weights' else np.int32), key
    assert value.shape == (5, objective.model_length(40)), key
  for segments, positions in zip(features['decoder_segment_ids'], features['decoder_positions'], strict=True):
    for number in range(1, segments.max() + 1):
      found = positions[segments == number]
      if TABLE[name].streams:  # the second one takes positions of the first
        found = np.unique(found)
      np.testing.assert_array_equal(found, np.arange(len(found)))
  bidirectional = objective.attention.kind == 'bidirectional'
  if objective.attention.levels:
    bidirectional = features['decoder_levels'] == 0
  np.testing.assert_array_equal(
    features['decoder_causal_attention'], (features['decoder_segment_ids'] > 0) & bidirectional
  )


def test_no_target_is_seen_from_where_it_is_predicted(name):
  """Through any number of layers: what a scored position sees, and what is seen from there, is not its target."""
  objective = TABLE[name].make()
  features = corrupt(objective, make_rows(np.random.default_rng(5), 16, 40))
  if not (objective.shift and objective.reads_targets):
    return  # the target does not stand in the input: see test_hidden_tokens_leave_no_trace
  levels = features.get('decoder_levels', np.arange(features['corrupted'].shape[1])[None])
  same = features['decoder_segment_ids'][:, :, None] == features['decoder_segment_ids'][:, None, :]
  sees = same & (levels[:, None, :] <= levels[:, :, None])
  for _ in range(6):
    sees = sees @ sees
  assert features['decoder_loss_weights'].any()
  for row, scored in zip(*np.nonzero(features['decoder_loss_weights']), strict=True):
    assert not sees[row, scored, scored + 1]


@hypothesis.given(seed=_seeds, epoch=st.integers(0, 50))
@_settings
def test_a_row_does_not_depend_on_its_batch(name, seed, epoch):
  objective = TABLE[name].make()
  rows = make_rows(np.random.default_rng(seed), 8, 40)
  whole = corrupt(objective, rows, seed, epoch)
  again = corrupt(objective, rows, seed, epoch)
  for b in (0, 3, 7):
    alone = corrupt(objective, {key: value[b : b + 1] for key, value in rows.items()}, seed, epoch, first=b)
    for key in whole:
      np.testing.assert_array_equal(whole[key], again[key])
      np.testing.assert_array_equal(whole[key][b], alone[key][0])


def test_rows_seeds_and_epochs_are_independent(name):
  objective = TABLE[name].make()
  one = make_rows(np.random.default_rng(1), 1, 64, segments=1, full=True)
  same = {key: np.repeat(value, 200, axis=0) for key, value in one.items()}
  marks = ('decoder_input_tokens', 'decoder_loss_weights', 'corrupted')  # what is hidden, and what is asked
  read = lambda **more: np.concatenate(
    [value for key, value in corrupt(objective, same, **more).items() if key in marks], 1
  )
  masks = read()
  if not TABLE[name].draws:
    assert len(np.unique(masks, axis=0)) == 1
    return
  # 200 copies of one row: their corruptions differ from each other, and from those of another epoch and seed.
  distinct = 100 if TABLE[name].flat else 15 if TABLE[name].random else 5
  assert len(np.unique(masks, axis=0)) >= distinct
  for other in (read(epoch=1), read(seed=1)):
    assert (masks != other).any(axis=1).mean() > 0.5


def test_share_and_count(name):
  entry = TABLE[name]
  rows = make_rows(np.random.default_rng(2), 500, 128, segments=1, full=True)
  corrupted = corrupt(entry.make(), rows)['corrupted'].sum(axis=1)
  if entry.exact is not None:
    np.testing.assert_array_equal(corrupted, entry.exact(128))
  elif entry.share is not None:
    assert corrupted.mean() / 128 == pytest.approx(entry.share, abs=0.01)
    assert corrupted.max() <= entry.make().max_supervised(128)


def test_masked_share_is_flat_over_positions(name):
  entry = TABLE[name]
  if not entry.flat or entry.share == 0:
    # Nothing to be flat: spans reach the middle of a document more often by the paper's own rule, salient spans are
    # given.
    return
  length, count = 32, 8000
  rows = make_rows(np.random.default_rng(3), 1, length, segments=1, full=True)
  rows['word_ids'] = np.where(rows['targets'] >= SPECIAL.text[0], np.arange(1, length + 1)[None], 0)
  rows['collocation_lengths'] = np.zeros_like(rows['targets'])
  rows = {key: np.repeat(value.astype(np.int32), count, axis=0) for key, value in rows.items()}
  hits = corrupt(entry.make(), rows)['corrupted'].sum(axis=0)
  eligible = hits[1 : length - 1]  # bos and eos are never touched
  assert hits[0] == hits[-1] == 0
  # Exact counts make positions slightly less variable than a multinomial, so the test is, if anything, lenient.
  assert scipy.stats.chisquare(eligible).pvalue > 1e-3


def test_hidden_tokens_leave_no_trace(name):
  """Other tokens at the hidden positions give the same inputs: the model cannot know them."""
  entry = TABLE[name]
  objective = entry.make()
  if objective.reads_targets or not entry.hides:
    return  # causal models read earlier targets by design; the decoder's tests hold them back from later ones
  rows = make_rows(np.random.default_rng(4), 32, 64)
  features = corrupt(objective, rows)
  # Tokens that only the targets give back.
  unknown = features | {'decoder_target_tokens': np.full_like(features['decoder_target_tokens'], -1)}
  row = lambda values, b: {key: value[b] for key, value in values.items()}
  hidden = np.stack([entry.restore(row(rows, b), row(unknown, b)) == -1 for b in range(32)])
  assert hidden.sum() == (features['decoder_loss_weights'] > 0).sum()
  other = rows | {'targets': np.where(hidden, SPECIAL.text[0] + (rows['targets'] + 7) % 400, rows['targets'])}
  assert (other['targets'] != rows['targets'])[hidden].all()
  np.testing.assert_array_equal(corrupt(objective, other)['decoder_input_tokens'], features['decoder_input_tokens'])
