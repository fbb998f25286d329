"""Figures and rules that single papers state, one test each."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from objective_table import SPECIAL, TABLE, corrupt, make_rows
from unmask import UserError
from unmask.objectives import (
  causal_masked,
  masked_lm,
  meap,
  meap_fine_tuning,
  next_token,
  pmi_masking,
  preprocessor,
  random,
  random_span,
  salient_span,
  salient_text_to_text,
  schedules,
)
from unmask.objectives.attention import BIDIRECTIONAL, AttentionSpec


def _documents(count: int, length: int, seed: int = 0) -> dict:
  return make_rows(np.random.default_rng(seed), count, length, segments=1, full=True)


def _spans(features: dict) -> np.ndarray:
  """Spans of each row: half of its sentinels."""
  return np.isin(features['decoder_input_tokens'], SPECIAL.sentinels).sum(axis=1) // 2


def test_cm3_realised_number_of_spans():
  """81.6 / 14.3 / 3.5 / 0.6 % for 1, 2, 3, 4 spans at 2,048 tokens, after the walk through n * n candidates."""
  features = corrupt(causal_masked.CausalMasked(), _documents(4000, 2050))
  spans = _spans(features)
  counts = np.bincount(np.minimum(spans, 4), minlength=5)
  assert counts[0] == 0
  assert scipy.stats.chisquare(counts[1:], np.array([0.816, 0.143, 0.035, 0.006]) * 4000).pvalue > 1e-3
  moved = features['corrupted'].sum(axis=1) - 3 * spans
  assert moved.mean() / 2048 == pytest.approx(0.375, abs=0.02)


def test_cm3_wanted_number_of_spans():
  """clamp(Poisson(1), 1, 16): 73.6 / 18.4 / 6.1 / 1.9 % before any candidate is rejected."""
  seeds = random.row_seeds(0, tf.zeros(20000, tf.int64), tf.range(20000, dtype=tf.int64))
  wanted = causal_masked.CausalMasked()._draw_counts(seeds, tf.fill([20000, 1], 100)).numpy().ravel()
  counts = np.bincount(np.minimum(wanted, 4), minlength=5)
  assert counts[0] == 0
  poisson = scipy.stats.poisson(1)
  expected = np.array([poisson.cdf(1), poisson.pmf(2), poisson.pmf(3), poisson.sf(3)]) * 20000
  assert scipy.stats.chisquare(counts[1:], expected).pvalue > 1e-3


def test_cm3_lengths_and_zero_weights():
  features = corrupt(causal_masked.CausalMasked(), _documents(300, 64))
  spans = _spans(features)
  real = (features['decoder_segment_ids'] > 0).sum(axis=1)
  np.testing.assert_array_equal(real, 64 + 3 * spans)
  unscored = (features['decoder_segment_ids'] > 0).sum(axis=1) - (features['decoder_loss_weights'] > 0).sum(axis=1)
  np.testing.assert_array_equal(unscored, 2 * spans + 1)  # sentinel targets, and the last position of the document
  ends = features['decoder_target_tokens'] == SPECIAL.end_of_span
  assert (features['decoder_loss_weights'][ends] == 1).all()
  np.testing.assert_array_equal(ends.sum(axis=1), spans)


def test_cm3_single_span_ends_are_uniform():
  """A lone span's two ends are the order statistics of two uniform draws: P(i in span) = 2 u (1 - u)."""
  # One span is wanted of every document: lone survivors of a clash would be longer than this.
  features = corrupt(causal_masked.CausalMasked(mean_spans=1e-6), _documents(6000, 42))
  assert (_spans(features) == 1).all()
  place = np.zeros(40)
  for inputs in features['decoder_input_tokens']:
    start = int(np.flatnonzero(inputs == SPECIAL.sentinels[0])[0]) - 1
    tail = int(np.flatnonzero(inputs == SPECIAL.sentinels[0])[1])
    size = int(np.flatnonzero(inputs == SPECIAL.end_of_span)[0]) - tail - 1
    place[start : start + size] += 1
  # Rounding as in the code: i is inside iff the lower draw is below (i + 1) / 40 and the higher one above (i + 0.5) /
  # 40.
  below, above = (np.arange(40) + 1) / 40, 1 - (np.arange(40) + 0.5) / 40
  expected = 2 * below * above - np.maximum(0, below - (1 - above)) ** 2
  np.testing.assert_allclose(place / 6000, expected, atol=0.025)


def test_cm3_untouched_share():
  spans = _spans(corrupt(causal_masked.CausalMasked(p_untouched=0.368), _documents(4000, 64)))
  assert scipy.stats.binomtest(int((spans == 0).sum()), 4000, 0.368).pvalue > 1e-3


def test_cm3_truncated_counts_are_incoders():
  """58.2 / 29.1 / 9.7 % for 1, 2, 3 spans wanted where the Poisson is drawn again until it lies inside its bounds."""
  seeds = random.row_seeds(0, tf.zeros(20000, tf.int64), tf.range(20000, dtype=tf.int64))
  objective = causal_masked.CausalMasked(bounds='truncate')
  counts = np.bincount(objective._draw_counts(seeds, tf.fill([20000, 1], 100)).numpy().ravel().clip(max=4))
  expected = np.array([0.582, 0.291, 0.097, 0.030]) * 20000
  assert counts[0] == 0
  assert scipy.stats.chisquare(counts[1:], expected).pvalue > 1e-3


def test_cm3_one_end_token_a_document_and_weighted_sentinels():
  rows = make_rows(np.random.default_rng(1), 300, 96, segments=3, full=True)
  usual = corrupt(causal_masked.CausalMasked(), rows)
  features = corrupt(causal_masked.CausalMasked(end_token='document', sentinel_weight=1.0), rows)
  for b in range(300):
    for segment in range(1, rows['segment_ids'][b].max() + 1):
      tokens = features['decoder_input_tokens'][b][features['decoder_segment_ids'][b] == segment]
      other = usual['decoder_input_tokens'][b][usual['decoder_segment_ids'][b] == segment]
      ends = np.flatnonzero(tokens == SPECIAL.end_of_span)
      spans = np.isin(tokens, SPECIAL.sentinels).sum() // 2
      assert ends.tolist() == ([len(tokens) - 1] if spans else [])
      assert tokens[tokens != SPECIAL.end_of_span].tolist() == other[other != SPECIAL.end_of_span].tolist()
      weights = features['decoder_loss_weights'][b][features['decoder_segment_ids'][b] == segment]
      assert weights.tolist() == [1.0] * (len(tokens) - 1) + [0.0]


@pytest.mark.parametrize('spans_per_row', [1, 4, 16])
def test_cm3_loses_no_supervised_token(spans_per_row):
  """Rows of L tokens fit in L + 3 n positions: every token but a segment's first is a target once."""
  rows = make_rows(np.random.default_rng(2), 400, 64, segments=6, full=True)
  features = corrupt(causal_masked.CausalMasked(spans_per_row=spans_per_row), rows)
  text = SPECIAL.is_text(features['decoder_target_tokens']) & (features['decoder_loss_weights'] > 0)
  np.testing.assert_array_equal(text.sum(axis=1), SPECIAL.is_text(rows['targets']).sum(axis=1))


def test_cm3_may_leave_every_document_of_a_batch_untouched():
  rows = _documents(3, 24)
  features = corrupt(causal_masked.CausalMasked(p_untouched=1.0, spans_per_row=2), rows)
  np.testing.assert_array_equal(features['decoder_input_tokens'][:, :24], rows['targets'])
  assert not features['corrupted'].any()


def test_cm3_lower_clamp_of_zero_is_metaseqs():
  """36.8 / 36.8 / 18.4 % of documents want 0, 1, 2 spans."""
  spans = _spans(corrupt(causal_masked.CausalMasked(min_spans=0), _documents(3000, 512)))
  assert scipy.stats.binomtest(int((spans == 0).sum()), 3000, 0.368).pvalue > 1e-3


def test_cm3_one_token_documents_and_too_many_spans():
  rows = {name: np.zeros((2, 12), np.int32) for name in ('targets', 'segment_ids')}
  rows['targets'][0, :9] = [2, 40, 1] * 3
  rows['segment_ids'][0, :9] = [1, 1, 1, 2, 2, 2, 3, 3, 3]
  rows['targets'][1, 0], rows['segment_ids'][1, 0] = 2, 1  # a document of which only bos is in the row
  features = corrupt(causal_masked.CausalMasked(spans_per_row=2), rows)
  np.testing.assert_array_equal(_spans(features), [2, 0])
  assert features['decoder_input_tokens'].shape == (2, 18)
  assert features['decoder_input_tokens'][1].tolist() == [2] + [0] * 17


def test_meap_keeps_targets_clean_and_the_last_input():
  features = corrupt(meap.MEAP(), _documents(2000, 64))
  assert not (features['decoder_target_tokens'] == SPECIAL.mask).any()
  np.testing.assert_array_equal((features['decoder_input_tokens'] == SPECIAL.mask).sum(axis=1), int(64 * 0.15))
  # The last real input is exempt even where it is ordinary text.
  rows = _documents(500, 64)
  rows['targets'][:, -1] = 99
  assert (corrupt(meap.MEAP(rate=0.9), rows)['decoder_input_tokens'][:, -1] == 99).all()
  clean = corrupt(next_token.NextToken(), _documents(2000, 64))
  np.testing.assert_array_equal(features['decoder_target_tokens'], clean['decoder_target_tokens'])
  np.testing.assert_array_equal(features['decoder_loss_weights'], clean['decoder_loss_weights'])


def test_meap_released_patterns():
  """51 sets of positions for all rows; rows of one length with one pattern are masked at the same places."""
  masks = corrupt(meap.MEAP(patterns=51), _documents(3000, 64))['corrupted']
  found, counts = np.unique(masks, axis=0, return_counts=True)
  assert len(found) == 51
  assert scipy.stats.chisquare(counts).pvalue > 1e-3
  assert len(np.unique(corrupt(meap.MEAP(), _documents(3000, 64))['corrupted'], axis=0)) > 2900


@pytest.mark.parametrize('name', sorted(set(TABLE) - {'next_token'}))
def test_static_masking_repeats_its_copies(name):
  objective = dataclasses.replace(TABLE[name].make(), static_copies=3)
  rows = _documents(50, 64) | {'example_id': np.arange(50)}
  block = preprocessor.corrupt_block(objective, SPECIAL, seed=5)
  masks = [block(rows | {'epoch': np.full(50, epoch)})['corrupted'].numpy() for epoch in range(7)]
  assert all((masks[epoch] == masks[epoch % 3]).all() for epoch in range(7))
  assert len({mask.tobytes() for mask in masks}) == 3


def test_seeds_share_no_rows_randomness():
  """Another seed is another draw, not the same draws for other rows."""
  ids = tf.range(100_000, dtype=tf.int64)
  seen = [
    random.row_seeds(seed, tf.zeros_like(ids), ids).numpy().view(np.uint64)[:, 0] for seed in (0, 1, 2, 42, 2**40)
  ]
  assert len(np.unique(np.concatenate(seen))) == 5 * 100_000


def test_cm3_room_is_shared_evenly_by_the_documents_of_a_row():
  rows = make_rows(np.random.default_rng(0), 1, 512, segments=1, full=True)
  rows['segment_ids'][:] = 1 + np.arange(512) // 32
  rows = {name: np.repeat(value, 2000, axis=0) for name, value in rows.items()}
  features = corrupt(causal_masked.CausalMasked(spans_per_row=8), rows)
  hit = [((features['corrupted'] > 0) & (features['decoder_segment_ids'] == n)).any(axis=1).sum() for n in range(1, 17)]
  assert scipy.stats.chisquare(hit).pvalue > 1e-3


@pytest.mark.parametrize('sizes', [[5, 5], [12, 1, 1], [3], [30, 4, 4, 4, 4, 4, 4, 4, 4, 2]])
@pytest.mark.parametrize('rate', [0.15, 0.5, 0.9, 1.0])
def test_every_unit_has_the_same_chance_whatever_the_budget(sizes, rate):
  row = np.concatenate([[size] + [0] * (size - 1) for size in sizes])
  rows, _ = _lengths(row.tolist())
  chosen = corrupt(pmi_masking.PMIMasking(rate=rate, max_overshoot=40), rows)['corrupted'][:, np.flatnonzero(row)]
  expected = min(max(1, round(rate * len(row))), len(row)) / len(row)
  np.testing.assert_allclose(chosen.mean(axis=0), expected, atol=4.5 * np.sqrt(0.25 / 4000))


@pytest.mark.parametrize(
  ('length', 'settings'),
  [(4, {}), (8, {}), (60, {'rate': 0.9}), (300, {'max_span_words': 1, 'rate': 0.5}), (300, {'max_span_words': 1})],
)
def test_random_spans_meet_their_count(length, settings):
  rows, _ = _lengths([0] * length)
  rows = {name: value[:200] for name, value in rows.items()}
  objective = random_span.RandomSpan(**settings)
  assert (corrupt(objective, rows)['corrupted'].sum(axis=1) == int(np.ceil(length * objective.rate))).mean() > 0.99


@pytest.mark.parametrize('name', sorted(TABLE))
def test_a_batch_of_no_rows(name):
  rows = {key: value[:0] for key, value in _documents(2, 64).items()}
  assert corrupt(TABLE[name].make(), rows)['decoder_input_tokens'].shape == (0, TABLE[name].make().model_length(64))


@pytest.mark.parametrize('make', [masked_lm.MaskedLM, pmi_masking.PMIMasking, meap.MEAP])
def test_rate_schedule(make):
  objective = make(rate=schedules.LinearRate(start=0.30, end=0.15, steps=100))
  rows = _documents(400, 128) | {'example_id': np.arange(400)}
  block = preprocessor.corrupt_block(objective, SPECIAL, seed=0)
  for step, share in ((0, 0.3), (50, 0.225), (100, 0.15), (10**9, 0.15)):
    corrupted = block(rows | {'step': np.full(400, step)})['corrupted'].numpy()
    assert corrupted.mean() == pytest.approx(share, abs=1 / 128)
    assert corrupted.sum(axis=1).max() <= objective.max_supervised(128)
  constant = preprocessor.corrupt_block(make(rate=0.15), SPECIAL, seed=0)(rows)
  for name, value in block(rows | {'step': np.full(400, 100)}).items():
    np.testing.assert_array_equal(value, constant[name])
  dataset = tf.data.Dataset.from_tensor_slices(rows)
  with pytest.raises(UserError, match='changes with the step'):
    preprocessor.corrupt_rows(objective, SPECIAL, 0)(dataset)


def test_bert_80_10_10():
  rows = _documents(3000, 128)
  features = corrupt(masked_lm.MaskedLM(), rows)
  chosen = features['decoder_loss_weights'] > 0
  inputs, clean = features['decoder_input_tokens'][chosen], rows['targets'][chosen]
  masked, kept = (inputs == SPECIAL.mask).sum(), (inputs == clean).sum()
  counts = [masked, len(inputs) - masked - kept, kept]
  # A random token is the original one with probability 1 / (number of ids), which counts as kept.
  same = 0.1 / (SPECIAL.text[1] - SPECIAL.text[0])
  assert scipy.stats.chisquare(counts, np.array([0.8, 0.1 - same, 0.1 + same]) * len(inputs)).pvalue > 1e-3
  randoms = inputs[(inputs != SPECIAL.mask) & (inputs != clean)]
  assert randoms.min() >= SPECIAL.text[0]
  assert randoms.max() < SPECIAL.text[1]
  bins = np.histogram(randoms, bins=12, range=SPECIAL.text)[0]
  assert scipy.stats.chisquare(bins).pvalue > 1e-3


def _units_of(objective, rows: dict, seed: int = 0) -> np.ndarray:
  """The place of each token's unit, -1 for none, as the objective sees them when it corrupts these rows."""
  ids = np.arange(len(rows['targets']))
  seeds = random.row_seeds(seed, tf.zeros(len(ids), tf.int64), tf.constant(ids, tf.int64))
  return objective.unit_starts({name: tf.constant(value) for name, value in rows.items()}, seeds, SPECIAL).numpy()


_BY_UNIT = [
  masked_lm.MaskedLM(unit='word'),
  masked_lm.MaskedLM(unit='word', last_unit='chance'),
  masked_lm.MaskedLM(unit='collocation', overlaps='document'),
  pmi_masking.PMIMasking(),
]


@pytest.mark.parametrize('objective', _BY_UNIT)
def test_units_are_masked_whole(objective):
  rows = _documents(300, 64)
  chosen = corrupt(objective, rows)['corrupted'] > 0
  for row_units, row_chosen in zip(_units_of(objective, rows), chosen, strict=True):
    for unit in set(row_units.tolist()) - {-1}:
      assert len(set(row_chosen[row_units == unit].tolist())) == 1


def test_pmi_draws_once_a_unit_and_bert_once_a_token():
  rows = _documents(2000, 64)
  for objective, together in ((pmi_masking.PMIMasking(), True), (masked_lm.MaskedLM(unit='collocation'), False)):
    features, places = corrupt(objective, rows), _units_of(objective, rows)
    mixed = 0
    for b in range(2000):
      chosen = features['corrupted'][b] > 0
      for unit in set(places[b][chosen].tolist()):
        masked = features['decoder_input_tokens'][b][places[b] == unit] == SPECIAL.mask
        mixed += masked.any() and not masked.all()
    assert (mixed == 0) == together


def _lengths(row: list[int]) -> tuple[dict, np.ndarray]:
  """4,000 copies of one row whose tokens are words of their own, and the same without their collocations."""
  size = len(row)
  rows = {name: np.zeros((4000, size), np.int32) for name in ('segment_ids', 'word_ids', 'targets')}
  rows['segment_ids'] += 1
  rows['targets'] += 99
  rows['word_ids'] += np.arange(1, size + 1, dtype=np.int32)
  return rows | {'collocation_lengths': np.tile(np.array(row, np.int32), (4000, 1))}, np.arange(size)


def test_overlapping_entries_are_told_apart_at_random():
  """ "by the way out" is "by the way" + "out" as often as "by" + "the way out"."""
  rows, _ = _lengths([0, 3, 3, 0, 0, 0])
  found, counts = np.unique(_units_of(pmi_masking.PMIMasking(), rows), axis=0, return_counts=True)
  assert found.tolist() == [[0, 1, 1, 1, 4, 5], [0, 1, 2, 2, 2, 5]]
  assert scipy.stats.binomtest(int(counts[0]), 4000, 0.5).pvalue > 1e-3
  epochs = [_units_of(pmi_masking.PMIMasking(), rows, seed) for seed in (1, 2)]
  assert (epochs[0] != epochs[1]).any(axis=1).mean() > 0.4


def test_a_chain_of_entries_is_broken_as_by_taking_them_in_a_random_order():
  """Three entries in a chain: the middle one is taken first, and alone, in a third of the draws."""
  rows, _ = _lengths([2, 2, 2, 0, 0])
  found, counts = np.unique(_units_of(pmi_masking.PMIMasking(), rows), axis=0, return_counts=True)
  assert found.tolist() == [[0, 0, 2, 2, 4], [0, 1, 1, 3, 4]]
  assert scipy.stats.binomtest(int(counts[1]), 4000, 1 / 3).pvalue > 1e-3


def test_entries_that_a_row_edge_cuts_are_words():
  rows, words_alone = _lengths([0, 0, 0, 3, 0])
  assert (_units_of(pmi_masking.PMIMasking(), rows) == words_alone).all()


def test_breaking_overlaps_equals_taking_entries_one_by_one():
  """Against a loop over the entries: disjoint, none left out that still fits, words where no entry is taken."""
  rows = make_rows(np.random.default_rng(7), 200, 96, segments=3)
  places = _units_of(pmi_masking.PMIMasking(), rows)
  for b in range(200):
    lengths, words = rows['collocation_lengths'][b], rows['word_ids'][b]
    entries = [(int(i), int(i + lengths[i])) for i in np.flatnonzero(lengths)]
    taken = [(i, j) for i, j in entries if (places[b][i:j] == i).all()]
    assert all(j <= k for (_, j), (k, _) in itertools.pairwise(taken))
    for i, j in set(entries) - set(taken):
      assert any(i < end and start < j for start, end in taken)
    expected = np.where(
      words > 0, np.maximum.accumulate(np.where(np.diff(words, prepend=-1) != 0, np.arange(96), 0)), -1
    )
    for i, j in taken:
      expected[i:j] = i
    np.testing.assert_array_equal(places[b], expected)


def test_long_collocations_are_masked_as_often_as_words():
  """The last unit of a row is taken by chance, so that a budget of 19 tokens has no favour for short units."""
  sizes = np.array([1, 2, 3, 5, 8, 12, 1, 2, 3, 5, 8, 12, 1, 2, 3, 5, 8, 12, 1, 2, 3, 5, 8, 12, 1])
  row = np.concatenate([[size] + [0] * (size - 1) for size in sizes])
  rows, _ = _lengths(row.tolist())
  starts = np.flatnonzero(row)
  chosen = corrupt(pmi_masking.PMIMasking(), rows)['corrupted'][:, starts]
  counts = np.array([chosen[:, sizes == size].sum() for size in (1, 2, 3, 5, 8, 12)])
  expected = (
    np.array([(sizes == size).sum() for size in (1, 2, 3, 5, 8, 12)]) * 4000 * round(0.15 * len(row)) / len(row)
  )
  assert scipy.stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3
  np.testing.assert_allclose(counts, expected, rtol=0.05)
  skipping = corrupt(pmi_masking.PMIMasking(last_unit='skip'), rows)['corrupted'][:, starts]
  assert skipping[:, sizes == 12].mean() < 0.1 < skipping[:, sizes == 1].mean()


def test_word_budget_is_spent_as_bert_spends_it():
  """No unit that still fits is left out, and the budget is never exceeded."""
  rows = _documents(500, 64)
  chosen = corrupt(masked_lm.MaskedLM(unit='word'), rows)['corrupted'] > 0
  for b in range(500):
    sizes = np.bincount(rows['word_ids'][b])[1:]
    spent = chosen[b].sum()
    assert spent <= round(64 * 0.15)
    left = [sizes[unit - 1] for unit in set(rows['word_ids'][b][~chosen[b]].tolist()) - {0}]
    assert min(left) > round(64 * 0.15) - spent


def test_salient_span_masks_one_whole_span_of_each_passage():
  rows = make_rows(np.random.default_rng(5), 400, 96, segments=3, full=True)
  features = corrupt(salient_span.SalientSpan(), rows)
  seen = set()
  for b in range(400):
    for segment in range(1, rows['segment_ids'][b].max() + 1):
      inside = rows['segment_ids'][b] == segment
      spans = set(rows['salient_ids'][b][inside].tolist()) - {0}
      spans = {s for s in spans if ((rows['salient_ids'][b] == s) & inside).sum() <= 10}
      chosen = (features['corrupted'][b] > 0) & inside
      hit = set(rows['salient_ids'][b][chosen].tolist())
      if not spans:
        assert not chosen.any()
        continue
      (span,) = hit
      seen.add((b, span))
      np.testing.assert_array_equal(chosen, (rows['salient_ids'][b] == span) & inside)
      assert (features['decoder_input_tokens'][b][chosen] == SPECIAL.mask).all()
  assert len(seen) > 400


def test_salient_span_is_chosen_uniformly():
  rows = _documents(1, 64)
  rows['salient_ids'][:] = 0
  for number, start in enumerate((2, 10, 20, 33, 50), 1):
    rows['salient_ids'][0, start : start + number] = number
  rows = {key: np.repeat(value, 5000, axis=0) for key, value in rows.items()}
  chosen = corrupt(salient_span.SalientSpan(), rows)['corrupted'] > 0
  counts = [chosen[:, start].sum() for start in (2, 10, 20, 33, 50)]
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_salient_span_knows_rows_without_an_example():
  rows = _documents(4, 64)
  rows['salient_ids'][1] = 0
  rows['salient_ids'][2] = np.where(rows['targets'][2] > 31, 1, 0)  # one span of 62 tokens, above the limit
  assert salient_span.SalientSpan().keep(rows, SPECIAL).numpy().tolist() == [True, False, False, True]


def test_salient_text_to_text_gives_each_span_once_in_turn():
  rows = _documents(1, 64)
  rows['salient_ids'][:] = 0
  for number, start in enumerate((2, 10, 20, 33, 50), 1):
    rows['salient_ids'][0, start : start + number] = number
  rows['salient_ids'][0, 38:49] = 9  # eleven tokens: too long to make an example
  objective = salient_text_to_text.SalientTextToText(spans_per_row=2)
  targets = []
  for epoch in range(10):
    features = corrupt(objective, rows, seed=3, epoch=epoch)
    scored = features['decoder_target_tokens'][0][features['decoder_loss_weights'][0] > 0]
    assert scored[-1] == SPECIAL.end_of_span
    targets.append(scored[:-1].tolist())
  spans = [rows['targets'][0, start : start + n].tolist() for n, start in enumerate((2, 10, 20, 33, 50), 1)]
  assert sorted(targets[:5]) == sorted(spans)
  assert targets[:5] == targets[5:]
  assert len({tuple(corrupt(objective, rows, seed)['decoder_target_tokens'][0]) for seed in range(40)}) == 5


def _spanbert(words: np.ndarray, budget: int, generator: np.random.Generator) -> set[int]:
  """SpanBERT's masking of a row whose tokens all may be masked, a draw at a time."""
  mass = 0.8 ** np.arange(10)
  masked: list[int] = []
  while len(masked) < budget:
    anchor = generator.integers(len(words))
    size = 1 + generator.choice(10, p=mass / mass.sum())
    if anchor in masked:
      continue
    reached = np.flatnonzero((words >= words[anchor]) & (words < words[anchor] + size))
    masked += [i for i in reached.tolist() if i not in masked][: budget - len(masked)]
  return set(masked)


def test_random_spans_are_drawn_as_spanbert_draws_them():
  """Against a plain loop: the share of draws in which each token, and each pair of neighbours, is masked."""
  rows = _documents(1, 66, seed=11)
  words = rows['word_ids'][0, 1:-1]
  generator = np.random.default_rng(0)
  budget = int(np.ceil(66 * 0.15))
  slow = np.zeros((3000, 64), bool)
  for draw in slow:
    draw[list(_spanbert(words, budget, generator))] = True
  rows = {name: np.repeat(value, 3000, axis=0) for name, value in rows.items()}
  fast = corrupt(random_span.RandomSpan(), rows)['corrupted'][:, 1:-1] > 0
  assert (fast.sum(axis=1) == budget).all()
  for one, other in ((fast, slow), (fast[:, 1:] & fast[:, :-1], slow[:, 1:] & slow[:, :-1])):
    p = (one.mean(axis=0) + other.mean(axis=0)) / 2
    error = np.sqrt(2 * p * (1 - p) / 3000)
    assert np.abs(one.mean(axis=0) - other.mean(axis=0)).max() / error.max() < 4.5
  runs = lambda masks: (np.diff(masks.astype(int), axis=1, prepend=0) == 1).sum(axis=1)
  assert runs(fast).mean() == pytest.approx(runs(slow).mean(), abs=0.08)


def test_meap_fine_tuning_counts_and_forms():
  """int(0.1 * answer) masked in the copy of an answer of more than 50 tokens, its end aside; others are not copied."""
  rows = _documents(2, 128)
  rows['answer_ids'][:] = 0
  rows['answer_ids'][0, 67:128], rows['answer_ids'][1, 77:128] = 1, 1  # 60 tokens and the end, and 50 and the end
  joined, separate = (corrupt(meap_fine_tuning.MEAPFineTuning(form=form), rows) for form in ('joined', 'separate'))
  for features, segment in ((joined, 1), (separate, 2)):
    assert (features['decoder_input_tokens'] == SPECIAL.mask).sum(axis=1).tolist() == [6, 0]
    assert features['decoder_loss_weights'].sum(axis=1).tolist() == [61 + 6, 51]
    assert set(features['decoder_segment_ids'][0, 128:].tolist()) == {segment}
    assert not features['decoder_segment_ids'][1, 128:].any()
  assert joined['decoder_positions'][0].tolist() == list(range(256))
  assert separate['decoder_positions'][0].tolist() == [*range(128), *range(128)]


def test_mntp_reads_token_i_from_the_output_before_it():
  rows = _documents(200, 64)
  rows['targets'][:, 0] = 77  # a segment that begins with ordinary text: still never masked
  features = corrupt(masked_lm.MaskedLM(shifted=True, mask_prob=1.0, random_prob=0.0), rows)
  masked = features['decoder_input_tokens'] == SPECIAL.mask
  assert not masked[:, 0].any()
  np.testing.assert_array_equal(np.roll(masked, -1, axis=1), features['decoder_loss_weights'] > 0)
  scored = features['decoder_loss_weights'] > 0
  np.testing.assert_array_equal(features['decoder_target_tokens'][scored], rows['targets'][masked])


@pytest.mark.parametrize('spec', [BIDIRECTIONAL, AttentionSpec(ordered=(True, False))])
def test_next_token_losses_refuse_attention_that_sees_the_target(spec):
  for objective in (next_token.NextToken, meap.MEAP, causal_masked.CausalMasked):
    with pytest.raises(UserError, match='every layer must be causal'):
      objective(attention=spec)
  masked_lm.MaskedLM(shifted=True, attention=spec)  # its targets are masked: allowed


@pytest.mark.parametrize(
  ('make', 'match'),
  [
    (lambda: meap.MEAP(rate=1.5), 'MEAP.rate is 1.5'),
    (lambda: masked_lm.MaskedLM(mask_prob=0.95, random_prob=0.2), 'random_prob'),
    (lambda: masked_lm.MaskedLM(unit='syllable'), 'syllable'),
    (lambda: causal_masked.CausalMasked(max_spans=17), 'max_spans'),
    (lambda: causal_masked.CausalMasked(end_token='row'), "end_token is 'row'; choose one of span, document"),
    (lambda: masked_lm.MaskedLM(last_unit='cut'), 'last_unit'),
    (lambda: masked_lm.MaskedLM(static_copies=-1), 'static_copies'),
    (lambda: meap.MEAP(patterns=-1), 'patterns'),
    (lambda: schedules.LinearRate(start=0.3, end=0.15, steps=0), 'steps'),
    (lambda: masked_lm.MaskedLM(rate=schedules.LinearRate(start=3, end=0.15, steps=9)), 'start is 3'),
    (lambda: salient_span.SalientSpan(rate=0.3), 'rate'),
    (lambda: salient_span.SalientSpan(unit='word'), "unit is 'word'"),
    (lambda: random_span.RandomSpan(last_unit='chance'), 'last_unit'),
    (lambda: causal_masked.CausalMasked(mean_spans=800.0), 'mean_spans'),
    (lambda: salient_span.SalientSpan().check(8), 'needs at least 12'),
    (lambda: next_token.NextToken().check(2), 'at least 4'),
  ],
)
def test_bad_settings_are_named(make, match):
  with pytest.raises(UserError, match=match):
    make()
