"""Masking by units: words, collocations, salient and random spans, against the papers and plain loops."""

import itertools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from objective_table import SPECIAL, corrupt, documents, make_rows
from unmask.objectives import (
  masked_lm,
  pmi_masking,
  random,
  random_span,
  salient_span,
  salient_text_to_text,
)


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
  rows = documents(300, 64)
  chosen = corrupt(objective, rows)['corrupted'] > 0
  for row_units, row_chosen in zip(_units_of(objective, rows), chosen, strict=True):
    for unit in set(row_units.tolist()) - {-1}:
      assert len(set(row_chosen[row_units == unit].tolist())) == 1


def test_pmi_draws_once_a_unit_and_bert_once_a_token():
  rows = documents(2000, 64)
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


@pytest.mark.parametrize('sizes', [[5, 5], [12, 1, 1], [3], [30, 4, 4, 4, 4, 4, 4, 4, 4, 2]])
@pytest.mark.parametrize('rate', [0.15, 0.5, 0.9, 1.0])
def test_every_unit_has_the_same_chance_whatever_the_budget(sizes, rate):
  row = np.concatenate([[size] + [0] * (size - 1) for size in sizes])
  rows, _ = _lengths(row.tolist())
  chosen = corrupt(pmi_masking.PMIMasking(rate=rate, max_overshoot=40), rows)['corrupted'][:, np.flatnonzero(row)]
  expected = min(max(1, round(rate * len(row))), len(row)) / len(row)
  np.testing.assert_allclose(chosen.mean(axis=0), expected, atol=4.5 * np.sqrt(0.25 / 4000))


def test_word_budget_is_spent_as_bert_spends_it():
  """No unit that still fits is left out, and the budget is never exceeded."""
  rows = documents(500, 64)
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


def test_integers_go_up_to_what_a_graph_knows():
  seeds, high = random.row_seeds(0, tf.zeros(2000, tf.int64), tf.range(2000, dtype=tf.int64)), tf.constant(7)
  drawn = random.integers(seeds, 0, 1, 3, high).numpy()
  np.testing.assert_array_equal(drawn, random.integers(seeds, 0, 1, 3, 7))
  assert scipy.stats.chisquare(np.bincount(drawn[:, 0])[3:]).pvalue > 1e-3
  assert drawn.max() == 6


def test_salient_span_is_chosen_uniformly():
  rows = documents(1, 64)
  rows['salient_ids'][:] = 0
  for number, start in enumerate((2, 10, 20, 33, 50), 1):
    rows['salient_ids'][0, start : start + number] = number
  rows = {key: np.repeat(value, 5000, axis=0) for key, value in rows.items()}
  chosen = corrupt(salient_span.SalientSpan(), rows)['corrupted'] > 0
  counts = [chosen[:, start].sum() for start in (2, 10, 20, 33, 50)]
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_salient_span_knows_rows_without_an_example():
  rows = documents(4, 64)
  rows['salient_ids'][1] = 0
  rows['salient_ids'][2] = np.where(rows['targets'][2] > 31, 1, 0)  # one span of 62 tokens, above the limit
  assert salient_span.SalientSpan().keep(rows, SPECIAL).numpy().tolist() == [True, False, False, True]


def test_salient_text_to_text_gives_each_span_once_in_turn():
  rows = documents(1, 64)
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
  rows = documents(1, 66, seed=11)
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


@pytest.mark.parametrize(
  ('length', 'settings'),
  [(4, {}), (8, {}), (60, {'rate': 0.9}), (300, {'max_span_words': 1, 'rate': 0.5}), (300, {'max_span_words': 1})],
)
def test_random_spans_meet_their_count(length, settings):
  rows, _ = _lengths([0] * length)
  rows = {name: value[:200] for name, value in rows.items()}
  objective = random_span.RandomSpan(**settings)
  assert (corrupt(objective, rows)['corrupted'].sum(axis=1) == int(np.ceil(length * objective.rate))).mean() > 0.99
