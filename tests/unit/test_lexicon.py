"""The collocation lexicon against slow counting, and the segmenter against brute force."""

import collections
import itertools
import math
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from unmask.tasks.units import lexicon, words

_settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
_ALL = 2.0  # a coverage no lexicon reaches: every frequent n-gram of positive PMI is taken
_documents = st.lists(
  st.lists(st.sampled_from(['a', 'B', 'b', 'c', 'a', 'b', '.', '\n']), max_size=40).map(' '.join).map(words.split),
  max_size=4,
)


def _runs(documents):
  """Normalised words of each stretch without marks and line ends."""
  for document in documents:
    run = []
    for text, is_word in zip(document.texts, document.is_word(), strict=True):
      if is_word:
        run.append(words.normalise(text))
      else:
        yield run
        run = []
    yield run


def _counter(documents):
  """Occurrences of every n-gram, n = 1..5, by plain slicing."""
  counts = collections.Counter()
  for run in _runs(documents):
    for n in range(1, 6):
      counts.update(tuple(run[i : i + n]) for i in range(len(run) - n + 1))
  return counts


def _totals(counts):
  return {n: sum(count for ngram, count in counts.items() if len(ngram) == n) for n in range(1, 6)}


def _pmi(ngram, counts, totals):
  """Equation 3: the minimum over every one of the 2^(n-1) - 1 segmentations."""

  def log_prob(part):
    return math.log(counts[part] / totals[len(part)])

  n = len(ngram)
  values = []
  for inner in itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(1, n)):
    cuts = [0, *inner, n]
    values.append(log_prob(ngram) - sum(log_prob(ngram[b:e]) for b, e in itertools.pairwise(cuts)))
  return min(values)


def _covered(documents, ngrams):
  """Share of words that lie in an occurrence of one of `ngrams`."""
  total = covered = 0
  for run in _runs(documents):
    marks = [False] * len(run)
    for n in range(2, 6):
      for i in range(len(run) - n + 1):
        if tuple(run[i : i + n]) in ngrams:
          marks[i : i + n] = [True] * n
    total, covered = total + len(run), covered + sum(marks)
  return covered / max(1, total)


@hypothesis.given(_documents, st.integers(0, 3))
@_settings
def test_counts_and_pmi_are_those_of_a_slow_counter(documents, min_count):
  built = lexicon.build(iter(documents), min_count, _ALL)
  counts = _counter(documents)
  totals = _totals(counts)
  found = {entry.ngram: entry.count for entry in built.entries}
  assert len(found) == len(built.entries)
  for ngram, count in counts.items():
    if len(ngram) > 1:
      pmi = _pmi(ngram, counts, totals)
      if abs(pmi) > 1e-9:  # rounding decides about the others
        assert found.get(ngram) == (count if count > min_count and pmi > 0 else None)
  for entry in built.entries:
    assert entry.pmi == pytest.approx(_pmi(entry.ngram, counts, totals), abs=1e-9)


@hypothesis.given(_documents, st.integers(0, 3))
@_settings
def test_levels_hold_totals_and_places(documents, min_count):
  names, stream = lexicon._number(documents)
  levels = lexicon._count(stream, len(names), min_count)
  counts = _counter(documents)
  for n, total in _totals(counts).items():
    level = levels[n]
    assert level.total == total
    for number, (count, first) in enumerate(zip(level.counts, level.first, strict=True)):
      ngram = tuple(names[i] for i in stream[first : first + n])
      assert count == counts[ngram]
      assert (level.at == number).sum() == count
      assert np.flatnonzero(level.at == number)[0] == first
      assert level.log_prob()[number] == pytest.approx(math.log(counts[ngram] / total))


@hypothesis.given(_documents, st.integers(0, 2), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0, _ALL]))
@_settings
def test_coverage_and_shares(documents, min_count, coverage):
  built = lexicon.build(documents, min_count, coverage)
  everything = lexicon.build(documents, min_count, _ALL).entries
  available = {n: [e for e in everything if len(e.ngram) == n] for n in lexicon.SHARES}
  taken = {n: [e for e in built.entries if len(e.ngram) == n] for n in lexicon.SHARES}
  assert built.coverage == pytest.approx(_covered(documents, {e.ngram for e in built.entries}))
  assert built.coverage >= coverage or len(built.entries) == len(everything)

  def of_size(size):
    return {n: available[n][: int(size * share)] for n, share in lexicon.SHARES.items()}

  assert all(
    [e.pmi for e in entries] == sorted((e.pmi for e in entries), reverse=True) for entries in available.values()
  )
  largest = int(max(len(entries) / lexicon.SHARES[n] for n, entries in available.items()))
  sizes = [size for size in range(largest + 2) if of_size(size) == taken]
  assert sizes  # 50 / 25 / 12.5 / 12.5 % of some size, the best first
  if sizes[0] > 0:  # and no smaller lexicon would have done
    smaller = {e.ngram for entries in of_size(sizes[0] - 1).values() for e in entries}
    assert _covered(documents, smaller) < coverage


def test_shares_of_a_large_lexicon():
  rng = random.Random(0)
  text = ' '.join(str(rng.randrange(30)) for _ in range(8_000))
  built = lexicon.build([words.split(text)], 0, 0.5)
  sizes = [sum(len(e.ngram) == n for e in built.entries) for n in (2, 3, 4, 5)]
  assert sizes[0] == pytest.approx(2 * sizes[1], abs=2)
  assert sizes[1] == pytest.approx(2 * sizes[2], abs=2)
  assert sizes[2] == sizes[3] > 20
  assert 0.5 <= built.coverage < 0.52


def test_kuala_lumpur_is_scores_far_below_kuala_lumpur():
  rng = random.Random(1)
  filler = [f'w{i}' for i in range(60)]
  lines = []
  for i in range(400):
    line = [rng.choice(filler) for _ in range(6)] + ['is'] + [rng.choice(filler) for _ in range(6)]
    if i % 10 == 0:
      line = ['kuala', 'lumpur', 'is', *line]
    lines.append(' '.join(line))
  built = lexicon.build([words.split('\n'.join(lines))], 10, _ALL)
  pmi = {' '.join(entry.ngram): entry.pmi for entry in built.entries}
  assert pmi['kuala lumpur'] > pmi['kuala lumpur is'] + 2
  # Counted by hand, the best split leaves only 'is' to chance: 3-grams 'kuala lumpur is' 40, 2-grams 40, 'is' 440.
  num_words = 400 * 13 + 40 * 3
  expected = math.log(40 / (num_words - 800)) - math.log(40 / (num_words - 400)) - math.log(440 / num_words)
  assert pmi['kuala lumpur is'] == pytest.approx(expected)


def test_ngrams_never_cross_marks_line_ends_or_documents():
  document = words.split('x y. x y\nx y; x y')
  built = lexicon.build([document, document], 0, _ALL)
  assert {entry.ngram for entry in built.entries} == {('x', 'y')}
  segmenter = lexicon.Segmenter(built)
  units = segmenter.units(words.split('x. y x\ny X  Y'), 's')
  assert units.tolist() == [1, 2, 3, 4, 5, 6, 7, 7]


def test_nothing_to_count():
  assert lexicon.build([], 0, 0.5) == lexicon.Lexicon((), 0.0)
  assert lexicon.build([words.split('. \n')], 0, 0.5) == lexicon.Lexicon((), 0.0)
  assert lexicon.build([words.split('one two three')], 1, 0.5) == lexicon.Lexicon((), 0.0)


def test_save_and_load(tmp_path):
  document = words.split("The caf\u00e9\u2019s door and the caf\u00e9's door; d\u00e9j\u00e0 vu, d\u00e9j\u00e0 vu")
  built = lexicon.build([document], 1, _ALL)
  assert len(built.entries) >= 4
  built.save(str(tmp_path / 'lexicon.tsv'))
  loaded = lexicon.Lexicon.load(str(tmp_path / 'lexicon.tsv'))
  assert [(e.ngram, e.count) for e in loaded.entries] == [(e.ngram, e.count) for e in built.entries]
  assert [e.pmi for e in loaded.entries] == pytest.approx([e.pmi for e in built.entries], abs=1e-4)
  assert loaded.coverage == pytest.approx(built.coverage, abs=1e-6)
  lexicon.Lexicon((), 0.0).save(str(tmp_path / 'empty.tsv'))
  assert lexicon.Lexicon.load(str(tmp_path / 'empty.tsv')) == lexicon.Lexicon((), 0.0)


def _segmenter(*ngrams):
  return lexicon.Segmenter(lexicon.Lexicon(tuple(lexicon.Entry(tuple(n.split()), 20, 1.0) for n in ngrams), 0.5))


def test_a_contained_entry_gives_way():
  segmenter = _segmenter('new york', 'new york times', 'york times')
  document = words.split('The New York Times of New York')
  assert {tuple(segmenter.units(document, str(seed))) for seed in range(20)} == {(1, 2, 2, 2, 5, 6, 6)}


def test_entries_that_overlap_in_part_are_drawn():
  segmenter = _segmenter('by the way', 'the way out')
  document = words.split('By the way out')
  seen = collections.Counter(tuple(segmenter.units(document, str(seed))) for seed in range(200))
  assert set(seen) == {(1, 1, 1, 4), (1, 2, 2, 2)}
  assert min(seen.values()) > 60
  assert (segmenter.units(document, '7') == segmenter.units(document, '7')).all()


@hypothesis.given(st.lists(st.tuples(st.integers(0, 20), st.integers(2, 5)), max_size=15), st.integers(0, 9))
@_settings
def test_choose(starts_and_sizes, seed):
  matches = [(start, start + size) for start, size in starts_and_sizes]
  chosen = lexicon.choose(matches, str(seed))
  contained = {a for a in matches for b in matches if a != b and b[0] <= a[0] and a[1] <= b[1]}
  outer = set(matches) - contained
  assert set(chosen) <= outer
  assert all(a[1] <= b[0] for a, b in itertools.pairwise(chosen))  # in order and disjoint
  for span in outer - set(chosen):  # none is left out without need
    assert any(span[0] < end and start < span[1] for start, end in chosen)
  for span in outer:  # one that overlaps no other is always taken
    if not any(span[0] < end and start < span[1] for start, end in outer - {span}):
      assert span in chosen
  assert lexicon.choose(matches[::-1], str(seed)) == chosen


@hypothesis.given(_documents, st.integers(0, 2))
@_settings
def test_matches_are_all_occurrences(documents, min_count):
  built = lexicon.build(documents, min_count, _ALL)
  entries = {entry.ngram for entry in built.entries}
  for document in documents:
    texts = [words.normalise(text) for text in document.texts]
    spans = [(i, i + n) for i in range(len(texts)) for n in range(2, 6) if i + n <= len(texts)]
    assert lexicon.Segmenter(built).matches(texts) == [(b, e) for b, e in spans if tuple(texts[b:e]) in entries]
