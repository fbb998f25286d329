"""The segmenter against brute force."""

import collections
import itertools

import hypothesis
import hypothesis.strategies as st
from unmask.tasks.units import lexicon, segmentation, words

_settings = hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
_documents = st.lists(
  st.lists(st.sampled_from(['a', 'B', 'b', 'c', 'a', 'b', '.', '\n']), max_size=40).map(' '.join).map(words.split),
  max_size=4,
)


def _segmenter(*ngrams):
  return segmentation.Segmenter(lexicon.Lexicon(tuple(lexicon.Entry(tuple(n.split()), 20, 1.0) for n in ngrams), 0.5))


def _units(segmenter, text: str, seed: str) -> tuple[int, ...]:
  document = words.split(text)
  return tuple(segmentation.units(segmenter.entries(document), len(document.texts), seed).tolist())


def test_a_contained_entry_gives_way():
  segmenter = _segmenter('new york', 'new york times', 'york times')
  text = 'The New York Times of New York'
  assert {_units(segmenter, text, str(seed)) for seed in range(20)} == {(1, 2, 2, 2, 5, 6, 6)}


def test_entries_that_overlap_in_part_are_drawn():
  segmenter = _segmenter('by the way', 'the way out')
  seen = collections.Counter(_units(segmenter, 'By the way out', str(seed)) for seed in range(200))
  assert set(seen) == {(1, 1, 1, 4), (1, 2, 2, 2)}
  assert min(seen.values()) > 60
  assert _units(segmenter, 'By the way out', '7') == _units(segmenter, 'By the way out', '7')
  assert segmenter.entries(words.split('By the way out')) == [(0, 3), (1, 4)]


@hypothesis.given(st.lists(st.tuples(st.integers(0, 20), st.integers(2, 5)), max_size=15), st.integers(0, 9))
@_settings
def test_choose(starts_and_sizes, seed):
  matches = [(start, start + size) for start, size in starts_and_sizes]
  chosen = segmentation.choose(matches, str(seed))
  contained = {a for a in matches for b in matches if a != b and b[0] <= a[0] and a[1] <= b[1]}
  outer = set(matches) - contained
  assert set(chosen) <= outer
  assert all(a[1] <= b[0] for a, b in itertools.pairwise(chosen))  # in order and disjoint
  for span in outer - set(chosen):  # none is left out without need
    assert any(span[0] < end and start < span[1] for start, end in chosen)
  for span in outer:  # one that overlaps no other is always taken
    if not any(span[0] < end and start < span[1] for start, end in outer - {span}):
      assert span in chosen
  assert segmentation.choose(matches[::-1], str(seed)) == chosen


@hypothesis.given(_documents, st.sets(st.lists(st.sampled_from('abc'), min_size=2, max_size=5).map(' '.join)))
@_settings
def test_matches_are_all_occurrences(documents, ngrams):
  segmenter = _segmenter(*ngrams)
  for document in documents:
    texts = [words.normalise(text) for text in document.texts]
    spans = [(i, i + n) for i in range(len(texts)) for n in range(2, 6) if i + n <= len(texts)]
    assert segmenter.matches(texts) == [(b, e) for b, e in spans if ' '.join(texts[b:e]) in ngrams]


def test_an_occurrence_at_the_end_is_no_longer_than_the_text():
  assert _segmenter('a b').matches(['x', 'a', 'b']) == [(1, 3)]


def test_units_never_cross_marks_and_line_ends():
  assert _units(_segmenter('x y'), 'x. y x\ny X  Y', 's') == (1, 2, 3, 4, 5, 6, 7, 7)
