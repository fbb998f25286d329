"""Figures and rules that single papers state, one test each."""

import numpy as np
import pytest
import scipy.stats
from objective_table import SPECIAL, corrupt, make_rows
from unmask import UserError
from unmask.objectives import causal_masked, masked_lm, meap, next_token, pmi_masking, salient_span
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
  import tensorflow as tf
  from unmask.objectives import random

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


@pytest.mark.parametrize('objective', [masked_lm.MaskedLM(unit='word'), pmi_masking.PMIMasking()])
def test_units_are_masked_whole(objective):
  rows = _documents(300, 64)
  chosen = corrupt(objective, rows)['corrupted'] > 0
  ids = rows[objective.units[0]]
  for row_ids, row_chosen in zip(ids, chosen, strict=True):
    for unit in set(row_ids.tolist()) - {0}:
      assert len(set(row_chosen[row_ids == unit].tolist())) == 1


def test_pmi_draws_once_a_unit_and_bert_once_a_token():
  rows = _documents(2000, 64)
  for objective, together in ((pmi_masking.PMIMasking(), True), (masked_lm.MaskedLM(unit='collocation'), False)):
    features = corrupt(objective, rows)
    mixed = 0
    for b in range(2000):
      chosen = features['corrupted'][b] > 0
      for unit in set(rows['collocation_ids'][b][chosen].tolist()):
        inside = rows['collocation_ids'][b] == unit
        masked = features['decoder_input_tokens'][b][inside] == SPECIAL.mask
        mixed += masked.any() and not masked.all()
    assert (mixed == 0) == together


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
    (lambda: salient_span.SalientSpan(rate=0.3), 'rate'),
    (lambda: salient_span.SalientSpan().check(8), 'needs at least 12'),
    (lambda: next_token.NextToken().check(2), 'at least 4'),
  ],
)
def test_bad_settings_are_named(make, match):
  with pytest.raises(UserError, match=match):
    make()
