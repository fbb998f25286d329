"""The collocation lexicon against plain dictionaries and every segmentation spelt out; its file against damage."""

import collections
import dataclasses
import itertools
import json
import math
import random

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import unmask
from unmask.tasks.units import collocations, counting, lexicon, words

_settings = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
_ALL = 10**6
_documents = st.lists(
  st.lists(st.sampled_from(['a', 'B', 'b', 'c', 'a', 'b', '.', '\n']), max_size=40).map(' '.join), max_size=4
)


def _build(documents, **settings):
  with counting.LocalEngine(documents, threads=2) as engine:
    return collocations.build(engine, lexicon.Settings(**settings), 'a corpus')


def _runs(documents):
  """Normalised words of each stretch without marks and line ends."""
  for text in documents:
    document, run = words.split(text), []
    for word, is_word in zip(document.texts, document.is_word(), strict=True):
      if is_word:
        run.append(words.normalise(word))
      else:
        yield run
        run = []
    yield run


def _count(documents):
  """Occurrences of every n-gram, n = 1..5, by plain slicing."""
  counts = collections.Counter()
  for run in _runs(documents):
    for n in range(1, 6):
      counts.update(tuple(run[i : i + n]) for i in range(len(run) - n + 1))
  return counts


def _totals(counts):
  return {n: sum(count for ngram, count in counts.items() if len(ngram) == n) for n in range(1, 6)}


def _score(measure, ngram, counts, totals):
  """Equation 3 and its relatives, over every one of the 2^(n-1) - 1 segmentations."""

  def log_prob(part):
    return math.log(counts[part] / totals[len(part)])

  n = len(ngram)
  whole = log_prob(ngram)
  if measure == 'frequency':
    return counts[ngram]
  if measure == 'naive_pmi':
    return whole - sum(log_prob((word,)) for word in ngram)
  values = []
  for inner in itertools.chain.from_iterable(itertools.combinations(range(1, n), k) for k in range(1, n)):
    parts = sum(log_prob(ngram[b:e]) for b, e in itertools.pairwise([0, *inner, n]))
    values.append((2 if measure == 'pmi_squared' else 1) * whole - parts)
  return min(values)


def _ranked(documents, measure, min_count):
  """By length, (score, count, n-gram), best first."""
  counts = _count(documents)
  totals = _totals(counts)
  ranked = {n: [] for n in range(2, 6)}
  for ngram, count in counts.items():
    if len(ngram) > 1 and count > min_count:
      score = round(_score(measure, ngram, counts, totals), 9)
      if measure != 'pmi' or score > 0:
        ranked[len(ngram)].append((score, count, ngram))
  return {n: sorted(found, key=lambda e: (-e[0], -e[1], ' '.join(e[2]))) for n, found in ranked.items()}


def _mixed(ranked, size, shares=(0.5, 0.25, 0.125, 0.125)):
  return [e for n, share in zip(range(2, 6), shares, strict=True) for e in ranked[n][: int(size * share)]]


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


@hypothesis.given(
  _documents, st.sampled_from(lexicon.MEASURES), st.integers(0, 3), st.sampled_from([0, 1, 2, 7, 8, 9, 16, 40, _ALL])
)
@_settings
def test_lexicon_of_a_size(documents, measure, min_count, size):
  built = _build(documents, measure=measure, min_count=min_count, size=size)
  expected = _mixed(_ranked(documents, measure, min_count), size)
  assert [(e.ngram, e.count) for e in built.entries] == [(ngram, count) for _, count, ngram in expected]
  assert [e.score for e in built.entries] == pytest.approx([score for score, _, _ in expected], abs=2e-9)
  assert built.coverage == pytest.approx(_covered(documents, {ngram for _, _, ngram in expected}))
  counts = _count(documents)
  assert built.totals == tuple(_totals(counts).values())
  frequent = collections.Counter(len(ngram) for ngram, count in counts.items() if count > min_count)
  assert built.frequent == tuple(frequent[n] for n in range(1, 6))


@hypothesis.given(
  _documents,
  st.sampled_from(lexicon.MEASURES),
  st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0]),
  st.sampled_from([(0.5, 0.25, 0.125, 0.125), (0.1, 0.3, 0.3, 0.3), (0.7, 0.1, 0.1, 0.1)]),
)
@_settings
def test_lexicon_of_a_coverage_is_the_smallest(documents, measure, coverage, shares):
  built = _build(documents, measure=measure, min_count=1, coverage=coverage, shares=shares)
  ranked = _ranked(documents, measure, 1)
  for size in range(_ALL):
    entries = _mixed(ranked, size, shares)
    share = _covered(documents, {ngram for _, _, ngram in entries})
    if share >= coverage or len(entries) == sum(map(len, ranked.values())):
      break
  assert [e.ngram for e in built.entries] == [ngram for _, _, ngram in entries]
  assert built.coverage == pytest.approx(share)
  assert built.size == size


def test_ties_go_to_the_frequent_and_then_to_the_first_by_text():
  text = 'x y. x y. p q. p q. p q. A b. a B. d e. d e. '
  built = _build([text], measure='frequency', min_count=0, size=_ALL)
  assert [' '.join(e.ngram) for e in built.entries] == ['p q', 'a b', 'd e', 'x y']
  by_pmi = _build([text], min_count=0, size=_ALL)  # 'p q' is the least surprising, the others tie
  assert [' '.join(e.ngram) for e in by_pmi.entries] == ['a b', 'd e', 'x y', 'p q']


def test_shares_of_a_large_lexicon():
  rng = random.Random(0)
  text = ' '.join(str(rng.randrange(30)) for _ in range(8_000))
  built = _build([text], min_count=0, coverage=0.5)
  sizes = [len(built.of_length(n)) for n in (2, 3, 4, 5)]
  assert sizes[0] == pytest.approx(2 * sizes[1], abs=2)
  assert sizes[1] == pytest.approx(2 * sizes[2], abs=2)
  assert sizes[2] == sizes[3] > 20
  assert 0.5 <= built.coverage < 0.52


def test_kuala_lumpur_is_scores_far_below_kuala_lumpur_but_not_naively():
  rng = random.Random(1)
  filler = [f'w{i}' for i in range(60)]
  lines = []
  for i in range(400):
    line = [rng.choice(filler) for _ in range(6)] + ['is'] + [rng.choice(filler) for _ in range(6)]
    if i % 10 == 0:
      line = ['kuala', 'lumpur', 'is', *line]
    lines.append(' '.join(line))
  text = ['\n'.join(lines)]
  pmi, naive = (
    {' '.join(e.ngram): e.score for e in _build(text, measure=measure, size=_ALL).entries}
    for measure in ('pmi', 'naive_pmi')
  )
  assert pmi['kuala lumpur'] > pmi['kuala lumpur is'] + 2
  assert naive['kuala lumpur is'] > naive['kuala lumpur']
  # Counted by hand, the best split leaves only 'is' to chance: 3-grams 'kuala lumpur is' 40, 2-grams 40, 'is' 440.
  num_words = 400 * 13 + 40 * 3
  expected = math.log(40 / (num_words - 800)) - math.log(40 / (num_words - 400)) - math.log(440 / num_words)
  assert pmi['kuala lumpur is'] == pytest.approx(expected)


def test_ngrams_never_cross_marks_line_ends_or_documents():
  document = 'x y. x y\nx y; x y'
  built = _build([document, document], min_count=0, size=_ALL)
  assert {entry.ngram for entry in built.entries} == {('x', 'y')}
  assert built.totals == (16, 8, 0, 0, 0)


@pytest.mark.parametrize('documents', [[], ['. \n'], [''], ['one two three']])
def test_nothing_to_count(documents):
  built = _build(documents, min_count=1)
  assert (built.entries, built.coverage) == ((), 0.0)


@pytest.mark.parametrize(
  'wrong',
  [
    {'measure': 'PMI'},
    {'min_count': -1},
    {'size': -1},
    {'coverage': 1.5},
    {'shares': (0.5, 0.5)},
    {'shares': (0.5, 0.5, 0.5, 0.5)},
    {'shares': (1.0, 0, 0, 0)},
  ],
)
def test_settings_are_checked(wrong):
  with pytest.raises(unmask.UserError, match=f'{next(iter(wrong))} is '):
    lexicon.Settings(**wrong)


def test_settings_tell_what_matters():
  assert lexicon.Settings(size=9, coverage=0.1).described() == lexicon.Settings(size=9).described()
  variants = [{}, {'measure': 'frequency'}, {'min_count': 3}, {'size': 9}, {'coverage': 0.4}, {'shares': (0.25,) * 4}]
  assert len({json.dumps(lexicon.Settings(**variant).described()) for variant in variants}) == len(variants)


_TEXT = "The caf\u00e9\u2019s door and the caf\u00e9's door; d\u00e9j\u00e0 vu, d\u00e9j\u00e0 vu"


@pytest.fixture(name='saved')
def _saved(tmp_path):
  built = _build([_TEXT], min_count=1, size=_ALL)
  assert len(built.entries) >= 4
  path = tmp_path / 'folder' / 'lexicon.tsv'
  built.save(str(path))
  return built, path


def test_save_and_load(saved, tmp_path):
  built, path = saved
  assert [p.name for p in path.parent.iterdir()] == ['lexicon.tsv']  # nothing half-made beside it
  loaded = lexicon.Lexicon.load(str(path))
  assert [(e.ngram, e.count) for e in loaded.entries] == [(e.ngram, e.count) for e in built.entries]
  assert [e.score for e in loaded.entries] == pytest.approx([e.score for e in built.entries], abs=1e-6)
  assert dataclasses.replace(loaded, entries=()) == dataclasses.replace(built, entries=())
  loaded.save(str(tmp_path / 'again.tsv'))
  assert (tmp_path / 'again.tsv').read_bytes() == path.read_bytes()
  lexicon.Lexicon((), 0.0).save(str(path))
  assert lexicon.Lexicon.load(str(path)) == lexicon.Lexicon((), 0.0)


def test_the_file_is_as_documented(saved):
  built, path = saved
  magic, header, *lines = path.read_text(encoding='utf-8').split('\n')
  assert magic == 'unmask lexicon 1'
  fields = json.loads(header)
  assert fields['corpus'] == 'a corpus'
  assert fields['totals'] == list(built.totals)
  assert fields['frequent'] == list(built.frequent)
  assert fields['settings'] == {'measure': 'pmi', 'min_count': 1, 'size': _ALL, 'shares': [0.5, 0.25, 0.125, 0.125]}
  assert fields['coverage'] == built.coverage
  assert fields['entries'] == len(built.entries) == len(lines) - 1
  assert lines[0].split('\t')[:2] == [' '.join(built.entries[0].ngram), str(built.entries[0].count)]


@pytest.mark.parametrize(
  ('damage', 'sign'),
  [
    (lambda data: b'', 'is no lexicon file'),
    (lambda data: b'# words\toccurrences\tpmi\tcoverage=0.5\nnew york\t12\t3.0\n', 'is no lexicon file'),
    (lambda data: b'\x80\x81' * 500, 'is no lexicon file'),
    (lambda data: data.replace(b'lexicon 1', b'lexicon 2', 1), 'has format 2'),
    (lambda data: data[:-1], 'is damaged'),
    (lambda data: data[: data.rindex(b'\n', 0, -1) + 1], 'is damaged'),
    (lambda data: data[: len(data) // 3], 'is damaged'),
    (lambda data: data + b'more words\t11\t0.5\n', 'is damaged'),
    (lambda data: data.replace(b'\t2\t', b'\t3\t', 1), 'is damaged'),
    (lambda data: data.replace(b'a corpus', b'b corpus', 1), 'is damaged'),
    (lambda data: data.split(b'\n', 1)[0], 'is damaged'),
    (lambda data: data.replace(b'{', b'[', 1), 'is damaged'),
    (lambda data: data.split(b'\n', 1)[0] + b'\n{}\n', 'is damaged'),
  ],
)
def test_damaged_files(saved, damage, sign):
  _, path = saved
  data = path.read_bytes()
  assert damage(data) != data
  path.write_bytes(damage(data))
  with pytest.raises(unmask.UserError, match=sign) as caught:
    lexicon.Lexicon.load(str(path))
  assert str(path) in str(caught.value)


def test_other_corpora_and_word_rules_are_refused(saved, monkeypatch):
  built, path = saved
  built.require('a corpus', str(path))
  with pytest.raises(unmask.UserError, match=r"lexicon\.tsv.*'a corpus'.*'another corpus'"):
    built.require('another corpus', str(path))
  monkeypatch.setattr(lexicon, 'WORDS_VERSION', 7)
  with pytest.raises(unmask.UserError, match=r'version 1 .*version 7'):
    lexicon.Lexicon.load(str(path))


def test_unreadable_and_unwritable_places(saved):
  built, path = saved
  with pytest.raises(unmask.UserError, match='Cannot read the lexicon'):
    lexicon.Lexicon.load(str(path.parent))
  with pytest.raises(unmask.UserError, match='Cannot write the lexicon'):
    built.save(str(path / 'below.tsv'))
  path.unlink()
  with pytest.raises(unmask.UserError, match='Cannot read the lexicon'):
    lexicon.Lexicon.load(str(path))


def test_words_version_is_raised_when_words_change():
  """If this fails, words are split otherwise than before: raise WORDS_VERSION and mend the digest."""
  text = "Don't 3.5% na\u00efve\u2019s snake_case \u65e5\u672c\u3002 \u0130stanbul "
  text += "a--b x'' 'y' O\u2019Neil\u00b2 \U0001d400b\n\u00bd\u2028e\u0301"
  found = [words.normalise(word) for word in words.split(text).texts]
  expected = ["don't", '3', '.', '5', '%', "na\u00efve's", 'snake_case', '\u65e5\u672c', '\u3002']
  expected += ['i\u0307stanbul', 'a', '-', '-', 'b', 'x', "'", "'", "'", 'y', "'", "o'neil\u00b2", '\U0001d400b', '\n']
  assert (lexicon.WORDS_VERSION, found) == (1, [*expected, '\u00bd', 'e', '\u0301'])


@hypothesis.given(st.floats(0.001, 1), st.integers(1, 200))
@hypothesis.example(1 / 49, 60)  # here rank / share is rounded down
@hypothesis.example(0.7, 60)  # and here up
@_settings
def test_sizes_are_the_smallest_that_hold_a_rank(share, number):
  sizes = collocations._sizes(np.arange(number), share, number + 1)
  assert sizes[number] == collocations.NEVER
  for rank in range(number):
    size = int(sizes[rank])
    assert int(size * share) > rank >= int((size - 1) * share)
