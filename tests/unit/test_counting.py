"""Words in bulk against words one by one, and counting in little memory against counting in much."""

import pathlib
import random
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import unmask
from unmask.tasks.units import collocations, counting, lexicon, splitting, words

_settings = hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
_TEXT = st.text(st.one_of(st.characters(), st.sampled_from("ab1_ '\u2019.\n-\t\u00e9A")), max_size=40)


def _slowly(texts):
  """Normalised words with None where n-grams end, without one before the first word, and n-grams by length."""
  places, totals, run = [], [0] * 5, 0
  for text in texts:
    document = words.split(text)
    for word, is_word in [*zip(document.texts, document.is_word(), strict=True), ('\n', False)]:
      if is_word:
        places.append(words.normalise(word))
        run += 1
        totals = [total + (run > n) for n, total in enumerate(totals)]
      else:
        run = 0
        if places and places[-1] is not None:
          places.append(None)
  return places, totals


def _check(texts):
  found = splitting.number(texts)
  names = [found.names[number] if number != splitting.BREAK else None for number in found.numbers.tolist()]
  places, totals = _slowly(texts)
  assert names[names[:1] == [None] :] == places  # a first break says nothing
  assert found.totals.tolist() == totals
  assert len(set(found.names)) == len(found.names)
  assert found.counts.tolist() == [names.count(name) for name in found.names]


@hypothesis.given(st.lists(_TEXT, max_size=4))
@hypothesis.example(["don\u2019t 'x\u2019 y''z rock'n\u2019roll'", "'a"])
@_settings
def test_words_in_bulk_are_the_words(texts):
  _check(texts)


def test_all_of_unicode():
  """Every code point between letters, behind an apostrophe and before a space is treated as words.split does."""
  text = ''.join(f"a{c}b'{c} " for c in map(chr, range(0x110000)))
  places, totals = _slowly([text])
  found = splitting.number([text])
  assert found.totals.tolist() == totals
  names = np.array([*found.names, None], object)[np.minimum(found.numbers, len(found.names))].tolist()
  assert names[names[:1] == [None] :] == places


@hypothesis.given(st.lists(st.text(st.sampled_from('ab \n'), max_size=30), max_size=5), st.integers(1, 12))
@_settings
def test_pieces_end_at_line_ends_or_documents(texts, most):
  groups = list(splitting.pieces(texts, most))
  pieces = [piece for group in groups for piece in group]
  assert ''.join(pieces) == ''.join(texts)
  ends = np.cumsum([len(text) for text in texts])
  place = 0
  for piece in pieces:
    place += len(piece)
    assert piece
    assert piece[-1] == '\n' or place in ends
    assert len(piece) <= most or '\n' not in piece[:most]
  for group in groups[:-1]:
    assert sum(map(len, group)) >= most > sum(map(len, group[:-1]))


def _zipf(seed, documents, length, vocabulary):
  rng = np.random.default_rng(seed)
  for _ in range(documents):
    numbers = rng.zipf(1.3, length) % vocabulary
    breaks = rng.random(length) < 0.05
    yield ' '.join(f'w{number}{"." if end else ""}' for number, end in zip(numbers, breaks, strict=True))


def _build(texts, memory_limit, scratch, min_count=2):
  with counting.LocalEngine(texts, memory_limit, str(scratch), threads=2) as engine:
    built = collocations.build(engine, lexicon.Settings(min_count=min_count), 'c')
    return built, engine.chunks, dict(engine.buckets)


def test_little_memory_spills_and_finds_the_same(tmp_path):
  texts = list(_zipf(0, 300, 1000, 30_000))
  splitting.number(['warm'])
  peaks, results = [], []
  for limit in (1 << 30, 8 << 20):
    tracemalloc.start()
    try:
      results.append(_build(iter(texts), limit, tmp_path))
      peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
      tracemalloc.stop()
    assert not list(tmp_path.iterdir())
  (much, chunks, buckets), (little, more_chunks, more_buckets) = results
  assert chunks == 1
  assert more_chunks > 10
  assert buckets == {1: 0, 2: 1, 3: 1, 4: 1, 5: 1}
  assert more_buckets[1] > 0
  assert min(more_buckets[n] for n in (2, 3)) > 2
  assert much == little
  result = 300 * sum(much.frequent)  # bytes of what is found, names included
  assert peaks[1] < (8 << 20) + result < peaks[0]


def test_counting_does_not_depend_on_the_order_of_documents(tmp_path):
  texts = list(_zipf(1, 40, 100, 300))
  shuffled = texts.copy()
  random.Random(0).shuffle(shuffled)
  assert _build(texts, 1 << 20, tmp_path) == _build(shuffled, 1 << 20, tmp_path)


@hypothesis.given(st.lists(st.tuples(st.text('ab\u00e9', min_size=1, max_size=2), st.integers(1, 5)), max_size=40))
@_settings
def test_words_put_by_are_added_up(pairs):
  import collections
  import tempfile

  expected = collections.Counter()
  with tempfile.TemporaryDirectory() as folder:
    tally = counting.WordTally(folder, 2)
    for name, count in pairs:
      tally.add([name], [count])
      expected[name] += count
    found, counts = tally.frequent(1)
    assert not list(pathlib.Path(folder).iterdir())
  assert dict(zip(found, counts.tolist(), strict=True)) == {n: c for n, c in expected.items() if c > 1}
  assert found == sorted(found)


def test_many_runs_of_words_are_merged(tmp_path, monkeypatch):
  monkeypatch.setattr(counting, '_MOST_RUNS', 3)
  tally = counting.WordTally(str(tmp_path), 1)
  for number in range(100):
    tally.add([f'n{number % 7}', f'n{number % 5}'], [1, 1])
    assert len(list(tmp_path.iterdir())) <= 3
  names, counts = tally.frequent(0)
  assert counts.tolist() == [sum((i % 7 == n) + (i % 5 == n) for i in range(100)) for n in range(7)]
  assert names == [f'n{n}' for n in range(7)]


@hypothesis.given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.integers(1, 256))
@_settings
def test_keys_are_divided_once_and_alike(keys, number):
  keys = np.array(keys * 2, np.uint64)
  parts = counting._divide(keys, number)
  assert len(parts) == number
  assert sorted(np.concatenate(parts).tolist()) == sorted(keys.tolist())
  assert sum(len(set(part.tolist())) for part in parts) == len(set(keys.tolist()))


def test_a_failing_corpus_leaves_nothing(tmp_path):
  def texts():
    yield 'some text ' * 100
    raise unmask.UserError('The corpus ends badly.')

  with pytest.raises(unmask.UserError, match='ends badly'):
    _build(texts(), 1 << 20, tmp_path)
  assert not list(tmp_path.iterdir())


def test_bad_limits_and_folders(tmp_path):
  with pytest.raises(unmask.UserError, match='1 MiB'):
    counting.LocalEngine([], 1000)
  with pytest.raises(unmask.UserError, match='nowhere'):
    counting.LocalEngine([], scratch_dir=str(tmp_path / 'nowhere')).__enter__()
