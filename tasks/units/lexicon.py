"""The collocation lexicon of PMI-masking (arXiv 2010.01825), counted in memory.

For word n-grams, n = 2..5, seen more than `min_count` times,

    PMI_n(w1..wn) = min over segmentations s of  log [ p(w1..wn) / prod_{part in s} p(part) ]          (equation 3)

with p(n-gram) = count / number of n-grams of that length in the corpus, and s any division into two or more contiguous
parts. N-grams are ranked per length and taken 50 / 25 / 12.5 / 12.5 % for n = 2, 3, 4, 5, as many as are needed until
`coverage` of the corpus's words lie in one of them (the paper's 800,000 entries cover about half of its corpus).
"""

import dataclasses
import itertools
import random
from collections.abc import Iterable, Sequence

import numpy as np

from . import words

SHARES = {2: 0.5, 3: 0.25, 4: 0.125, 5: 0.125}  # section 3 of the paper
_LONGEST = max(SHARES)

Ngram = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
  """An n-gram with its number of occurrences and its PMI_n in nats."""

  ngram: Ngram
  count: int
  pmi: float


@dataclasses.dataclass(frozen=True)
class Lexicon:
  """Collocations, best first within each length.

  Attributes:
    entries: all of them.
    coverage: share of the corpus's words that lie in an occurrence of an entry.
  """

  entries: tuple[Entry, ...]
  coverage: float

  def save(self, path: str) -> None:
    """Writes a tab-separated file: words, occurrences, PMI; the first line holds the coverage."""
    with open(path, 'w', encoding='utf-8') as file:
      file.write(f'# words\toccurrences\tpmi\tcoverage={self.coverage:.6f}\n')
      for entry in self.entries:
        file.write(f'{" ".join(entry.ngram)}\t{entry.count}\t{entry.pmi:.4f}\n')

  @classmethod
  def load(cls, path: str) -> 'Lexicon':
    """Reads what `save` wrote."""
    with open(path, encoding='utf-8') as file:
      coverage = float(file.readline().rsplit('coverage=', 1)[1])
      rows = (line.rstrip('\n').split('\t') for line in file)
      return cls(tuple(Entry(tuple(ngram.split(' ')), int(count), float(pmi)) for ngram, count, pmi in rows), coverage)


def build(documents: Iterable[words.Words], min_count: int = 10, coverage: float = 0.5) -> Lexicon:
  """Counts, scores and chooses the collocations of a corpus.

  Args:
    documents: the words of each document.
    min_count: n-grams seen this often or less are left out; 10 in the paper.
    coverage: share of words to cover, as far as the corpus has n-grams.
  """
  names, stream = _number(documents)
  levels = _count(stream, len(names), min_count)
  scores = {n: _pmi(levels, n) for n in SHARES}
  # An n-gram that its parts predict (PMI <= 0) is no collocation, however short the list of its length is.
  ranked = {n: np.argsort(-s, kind='stable')[: np.count_nonzero(s > 0)] for n, s in scores.items()}
  size = _size_for(coverage, levels, ranked, stream)
  entries = []
  for n, share in SHARES.items():
    level = levels[n]
    for index in ranked[n][: int(size * share)]:
      at = level.first[index]
      entries.append(
        Entry(tuple(names[i] for i in stream[at : at + n]), int(level.counts[index]), float(scores[n][index]))
      )
  return Lexicon(tuple(entries), _coverage(size, levels, ranked, stream))


def _number(documents: Iterable[words.Words]) -> tuple[list[str], np.ndarray]:
  """Word names, and the corpus as one array of word numbers with -1 at marks, line ends and document ends."""
  numbers: dict[str, int] = {}
  parts = []
  for document in documents:
    row = [
      numbers.setdefault(words.normalise(text), len(numbers)) if is_word else -1
      for text, is_word in zip(document.texts, document.is_word(), strict=True)
    ]
    parts.append(np.array([*row, -1], np.int64))
  return list(numbers), np.concatenate(parts) if parts else np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True)
class _Level:
  """The frequent n-grams of one length.

  Attributes:
    at: int64 [stream], the number of the frequent n-gram that starts at each place, -1 where none does.
    counts, first: occurrences of each, and where it first occurs.
    total: n-grams of this length in the corpus, frequent or not.
  """

  at: np.ndarray
  counts: np.ndarray
  first: np.ndarray
  total: int

  def log_prob(self) -> np.ndarray:
    return np.log(self.counts / max(1, self.total))


def _count(stream: np.ndarray, num_words: int, min_count: int) -> dict[int, _Level]:
  """Frequent n-grams for n = 1..5. Both (n-1)-grams inside a frequent n-gram are frequent, so only such places are
  counted.
  """
  levels = {}
  at, whole = stream, stream >= 0
  candidates = whole
  for n in range(1, _LONGEST + 1):
    if n > 1:
      tail = np.concatenate([stream[n - 1 :], np.full(n - 1, -1)])[: len(stream)]
      shifted = np.concatenate([at[1:], [-1]])
      whole = whole & (tail >= 0)
      candidates = (at >= 0) & (shifted >= 0)
      keys = at * num_words + tail
    else:
      keys = stream
    places = np.flatnonzero(candidates)
    _, first, inverse, counts = np.unique(keys[places], return_index=True, return_inverse=True, return_counts=True)
    # Words are all kept: a word is part of a segmentation however rare the entries that hold it are.
    frequent = counts > (min_count if n > 1 else 0)
    renumber = np.where(frequent, np.cumsum(frequent) - 1, -1)
    at = np.full(len(stream), -1, np.int64)
    at[places] = renumber[inverse]
    levels[n] = _Level(at, counts[frequent], places[first[frequent]], int(whole.sum()))
  return levels


def _pmi(levels: dict[int, _Level], n: int) -> np.ndarray:
  """PMI_n of every frequent n-gram, by dynamic programming over the best segmentation of each prefix."""
  log_prob = {m: levels[m].log_prob() for m in range(1, n + 1)}
  first = levels[n].first

  def part(start: int, end: int) -> np.ndarray:
    m = end - start
    return log_prob[m][levels[m].at[first + start]]

  best = [np.zeros(len(first))]
  for end in range(1, n + 1):
    starts = range(1, end) if end == n else range(end)  # the whole n-gram is no segmentation of itself
    best.append(np.max([best[start] + part(start, end) for start in starts], axis=0) if len(first) else np.zeros(0))
  return log_prob[n] - best[n]


def _coverage(size: int, levels: dict[int, _Level], ranked: dict[int, np.ndarray], stream: np.ndarray) -> float:
  """Share of words inside an occurrence of one of the entries of a lexicon of `size`."""
  edges = np.zeros(len(stream) + _LONGEST + 1, np.int64)
  for n, share in SHARES.items():
    chosen = np.zeros(len(levels[n].counts) + 1, bool)  # the last one stands for "no frequent n-gram here"
    chosen[ranked[n][: int(size * share)]] = True
    places = np.flatnonzero(chosen[levels[n].at])
    np.add.at(edges, places, 1)
    np.add.at(edges, places + n, -1)
  covered = np.cumsum(edges)[: len(stream)] > 0
  return float(covered.sum() / max(1, (stream >= 0).sum()))


def _size_for(coverage: float, levels: dict[int, _Level], ranked: dict[int, np.ndarray], stream: np.ndarray) -> int:
  """The smallest lexicon that covers the share, or the largest there is."""
  low, high = 0, int(max(len(ranked[n]) / share for n, share in SHARES.items())) + 1
  while low < high:
    middle = (low + high) // 2
    if _coverage(middle, levels, ranked, stream) >= coverage:
      high = middle
    else:
      low = middle + 1
  return low


class Segmenter:
  """Cuts a text into collocations and single words (section 3.2 of the paper)."""

  def __init__(self, lexicon: Lexicon):
    self._entries = {entry.ngram for entry in lexicon.entries}
    self._heads = {ngram[:2] for ngram in self._entries}

  def units(self, document: words.Words, seed: str) -> np.ndarray:
    """The unit of every word, mark and line end: int64 [words], one more than the index of the unit's first word.

    An entry inside a longer one gives way to it; of entries that overlap in part a random one is taken and the
    others' left over words stand alone.

    Args:
      document: words and marks.
      seed: decides between overlapping entries.
    """
    texts = [words.normalise(text) for text in document.texts]
    units = np.arange(1, len(texts) + 1)
    for start, end in choose(self.matches(texts), seed):
      units[start:end] = start + 1
    return units

  def matches(self, texts: Sequence[str]) -> list[tuple[int, int]]:
    """All occurrences of entries, half-open ranges of words, by start and then end."""
    found = []
    for i, head in enumerate(itertools.pairwise(texts)):
      if head in self._heads:
        found += [(i, i + n) for n in SHARES if tuple(texts[i : i + n]) in self._entries and i + n <= len(texts)]
    return found


def choose(matches: Sequence[tuple[int, int]], seed: str) -> list[tuple[int, int]]:
  """Disjoint ranges: contained ones give way to longer ones, then overlaps are broken at random."""
  longest: list[tuple[int, int]] = []
  for start, end in sorted(matches, key=lambda span: (span[0], -span[1])):
    if not longest or end > longest[-1][1]:
      longest.append((start, end))
  chosen: list[tuple[int, int]] = []
  for cluster in _clusters(longest):
    if len(cluster) > 1:
      random.Random(f'{seed}:{cluster[0][0]}').shuffle(cluster)
    taken: list[tuple[int, int]] = []
    for start, end in cluster:
      if all(end <= other_start or other_end <= start for other_start, other_end in taken):
        taken.append((start, end))
    chosen += sorted(taken)
  return chosen


def _clusters(spans: Sequence[tuple[int, int]]) -> Iterable[list[tuple[int, int]]]:
  """Groups of ranges that hang together by overlaps; `spans` sorted by start and, with it, by end."""
  cluster: list[tuple[int, int]] = []
  for span in spans:
    if cluster and span[0] >= cluster[-1][1]:
      yield cluster
      cluster = []
    cluster.append(span)
  if cluster:
    yield cluster
