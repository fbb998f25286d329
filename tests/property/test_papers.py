"""Figures and rules that single papers state, one test each; units are in test_units.py."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from objective_table import SPECIAL, TABLE, corrupt, documents, make_rows
from unmask import UserError
from unmask.objectives import (
  causal_masked,
  forgetful_causal,
  masked_lm,
  meap,
  meap_fine_tuning,
  next_token,
  pmi_masking,
  prefix_lm,
  preprocessor,
  random,
  random_span,
  salient_span,
  schedules,
)
from unmask.objectives.attention import BIDIRECTIONAL, AttentionSpec


def _spans(features: dict) -> np.ndarray:
  """Spans of each row: half of its sentinels."""
  return np.isin(features['decoder_input_tokens'], SPECIAL.sentinels).sum(axis=1) // 2


def test_cm3_realised_number_of_spans():
  """81.6 / 14.3 / 3.5 / 0.6 % for 1, 2, 3, 4 spans at 2,048 tokens, after the walk through n * n candidates."""
  features = corrupt(causal_masked.CausalMasked(), documents(4000, 2050))
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
  features = corrupt(causal_masked.CausalMasked(), documents(300, 64))
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
  features = corrupt(causal_masked.CausalMasked(mean_spans=1e-6), documents(6000, 42))
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
  spans = _spans(corrupt(causal_masked.CausalMasked(p_untouched=0.368), documents(4000, 64)))
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
  rows = documents(3, 24)
  features = corrupt(causal_masked.CausalMasked(p_untouched=1.0, spans_per_row=2), rows)
  np.testing.assert_array_equal(features['decoder_input_tokens'][:, :24], rows['targets'])
  assert not features['corrupted'].any()


def test_cm3_lower_clamp_of_zero_is_metaseqs():
  """36.8 / 36.8 / 18.4 % of documents want 0, 1, 2 spans."""
  spans = _spans(corrupt(causal_masked.CausalMasked(min_spans=0), documents(3000, 512)))
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
  features = corrupt(meap.MEAP(), documents(2000, 64))
  assert not (features['decoder_target_tokens'] == SPECIAL.mask).any()
  np.testing.assert_array_equal((features['decoder_input_tokens'] == SPECIAL.mask).sum(axis=1), int(64 * 0.15))
  # The last real input is exempt even where it is ordinary text.
  rows = documents(500, 64)
  rows['targets'][:, -1] = 99
  assert (corrupt(meap.MEAP(rate=0.9), rows)['decoder_input_tokens'][:, -1] == 99).all()
  clean = corrupt(next_token.NextToken(), documents(2000, 64))
  np.testing.assert_array_equal(features['decoder_target_tokens'], clean['decoder_target_tokens'])
  np.testing.assert_array_equal(features['decoder_loss_weights'], clean['decoder_loss_weights'])


def test_meap_released_patterns():
  """51 sets of positions for all rows; rows of one length with one pattern are masked at the same places."""
  masks = corrupt(meap.MEAP(patterns=51), documents(3000, 64))['corrupted']
  found, counts = np.unique(masks, axis=0, return_counts=True)
  assert len(found) == 51
  assert scipy.stats.chisquare(counts).pvalue > 1e-3
  assert len(np.unique(corrupt(meap.MEAP(), documents(3000, 64))['corrupted'], axis=0)) > 2900


@pytest.mark.parametrize('name', sorted(name for name, entry in TABLE.items() if entry.draws))
def test_static_masking_repeats_its_copies(name):
  objective = dataclasses.replace(TABLE[name].make(), static_copies=3)
  rows = documents(50, 64) | {'example_id': np.arange(50)}
  block = preprocessor.corrupt_block(objective, SPECIAL, seed=5)
  made = [block(rows | {'epoch': np.full(50, epoch)}) for epoch in range(7)]
  masks = [np.stack([one['corrupted'], one['decoder_loss_weights']]) for one in made]
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


@pytest.mark.parametrize('name', sorted(TABLE))
def test_a_batch_of_no_rows(name):
  rows = {key: value[:0] for key, value in documents(2, 64).items()}
  assert corrupt(TABLE[name].make(), rows)['decoder_input_tokens'].shape == (0, TABLE[name].make().model_length(64))


@pytest.mark.parametrize('make', [masked_lm.MaskedLM, pmi_masking.PMIMasking, meap.MEAP])
def test_rate_schedule(make):
  objective = make(rate=schedules.LinearRate(start=0.30, end=0.15, steps=100))
  rows = documents(400, 128) | {'example_id': np.arange(400)}
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
  rows = documents(3000, 128)
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


def test_meap_fine_tuning_counts_and_forms():
  """int(0.1 * answer) masked in the copy of an answer of more than 50 tokens, its end aside; others are not copied."""
  rows = documents(2, 128)
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
  rows = documents(200, 64)
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


def test_forgotten_tokens_are_seen_by_themselves_alone():
  features = corrupt(forgetful_causal.ForgetfulCausal(), documents(2000, 102))
  shares = features['corrupted'].sum(axis=1) / 102
  assert scipy.stats.kstest(shares / 0.15, 'uniform').statistic < 0.05  # counts of 0 to 15 are steps of it
  hidden = features['decoder_groups'] == 1
  np.testing.assert_array_equal(hidden, features['corrupted'] > 0)
  assert not hidden[:, 0].any()
  table = np.array(forgetful_causal.FORGETFUL.table)
  assert not table[:, 1].any()
  assert table[:, 0].all()
  assert (features['decoder_loss_weights'].sum(axis=1) == 101).all()


def test_prefixes_are_of_any_length_alike():
  """Uniform on 1..n - 1 (t5's `random_prefix_noise_mask`), for each document; UL2's S-denoiser keeps three quarters."""
  rows = {name: np.repeat(value, 6000, axis=0) for name, value in documents(1, 31).items()}
  prefix = (corrupt(prefix_lm.PrefixLM(), rows)['decoder_levels'] == 0).sum(axis=1)
  counts = np.bincount(prefix, minlength=32)
  assert counts[0] == counts[31] == 0
  assert scipy.stats.chisquare(counts[1:31]).pvalue > 1e-3
  features = corrupt(prefix_lm.PrefixLM(suffix_share=0.25), make_rows(np.random.default_rng(0), 50, 80))
  for levels, segments in zip(features['decoder_levels'], features['decoder_segment_ids'], strict=True):
    for number in range(1, segments.max() + 1):
      length, seen = (segments == number).sum(), ((segments == number) & (levels == 0)).sum()
      assert seen == max(1, round(0.75 * length))
