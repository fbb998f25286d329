"""Counts of n-grams become a lexicon: scores, ranks and the mixture of lengths (PMI-masking, arXiv 2010.01825).

This is the one definition. An engine only counts, twice: n-grams (`Engine.count`), then, for every lexicon size, how
many words it covers (`Engine.cover`). Nothing here depends on the order in which a corpus is read, and scores are
rounded before they are compared, so that engines agree to the byte.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from .lexicon import LENGTHS, LONGEST, Entry, Lexicon, Settings

NEVER = np.uint32(0xFFFFFFFF)  # the size of the lexicon that holds an n-gram which no lexicon holds
_DECIMALS = 9  # of a score; what differs only by the order of additions is a tie


class Level(NamedTuple):
  """The frequent n-grams of one length, in the order of their texts.

  Attributes:
    keys: uint64 [k], the place of its first n - 1 words among those of length n - 1, shifted left by 32, plus the
      number of its last word; ascending.
    counts: int64 [k].
  """

  keys: np.ndarray
  counts: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
  """The n-grams that occur more than `min_count` times, n = 1..5.

  Attributes:
    words: the frequent words, ascending; a word's number is its place here.
    levels: by length. Both (n-1)-grams inside an n-gram of a level are in the level before.
    totals: int, by length: all n-grams in the corpus, frequent or not.
  """

  words: Sequence[str]
  levels: Mapping[int, Level]
  totals: Mapping[int, int]

  def split(self, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each n-gram, the place of its first n - 1 words in their level and the number of its last: int64 [k] each."""
    keys = self.levels[n].keys
    return (keys >> np.uint64(32)).astype(np.int64), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)

  def suffixes(self) -> dict[int, np.ndarray]:
    """By length, the place of each n-gram's last n - 1 words in their level: int64 [k]."""
    found = {2: self.split(2)[1]}
    for n in range(3, LONGEST + 1):
      first, last = self.split(n)
      found[n] = np.searchsorted(self.levels[n - 1].keys, pack(found[n - 1][first], last))
    return found

  def texts(self, n: int, chosen: np.ndarray) -> list[tuple[str, ...]]:
    """The words of the n-grams at the places `chosen`, int64 [m]."""
    columns = []
    for length in range(n, 1, -1):
      first, last = self.split(length)
      columns.append(last[chosen])
      chosen = first[chosen]
    columns.append(chosen)
    return [tuple(self.words[i] for i in row) for row in np.stack(columns[::-1], axis=1).tolist()]


def pack(first: np.ndarray, last: np.ndarray) -> np.ndarray:
  """The key of each n-gram, uint64 [k]; see `Level`."""
  return (first.astype(np.uint64) << np.uint64(32)) | last.astype(np.uint64)


class Engine(Protocol):
  """Counts one corpus; every engine gives the same figures."""

  def count(self, min_count: int) -> Counts:
    """The n-grams seen more than `min_count` times, and the totals."""

  def cover(self, sizes: Mapping[int, np.ndarray]) -> np.ndarray:
    """int64 [largest size + 1]: how many words of the corpus the lexicon of each size covers that none smaller does.

    Args:
      sizes: by length 2..5, uint32 [k]: the smallest lexicon that holds each n-gram of `count`, NEVER where none does.
    """


def build(engine: Engine, settings: Settings, corpus: str, say: Callable[[str], None] = lambda line: None) -> Lexicon:
  """Counts, scores and chooses the collocations of a corpus.

  Args:
    engine: holds the corpus.
    settings: what to take.
    corpus: the corpus's fingerprint.
    say: gets a line for each stage.
  """
  counts = engine.count(settings.min_count)
  frequent = tuple(len(counts.levels[n].keys) for n in range(1, LONGEST + 1))
  say(f'{counts.totals[1]:,} words; n-grams above {settings.min_count}: {", ".join(f"{k:,}" for k in frequent[1:])}')
  scored = scores(counts, settings.measure)
  ranked = {n: rank(scored[n], counts.levels[n].counts, settings.measure) for n in LENGTHS}
  shares = dict(zip(LENGTHS, settings.shares, strict=True))
  sizes = {n: _sizes(ranked[n], shares[n], len(counts.levels[n].keys)) for n in LENGTHS}
  covered = np.cumsum(engine.cover(sizes)) / max(1, counts.totals[1])
  if settings.size is not None:
    size = settings.size
  else:
    size = min(int(np.searchsorted(covered, settings.coverage)), len(covered) - 1)
  entries = []
  for n in LENGTHS:
    chosen = ranked[n][: int(size * shares[n])]
    found = (counts.texts(n, chosen), counts.levels[n].counts[chosen].tolist(), scored[n][chosen].tolist())
    entries += map(Entry, *found)
  totals = tuple(counts.totals[n] for n in range(1, LONGEST + 1))
  coverage = float(covered[min(size, len(covered) - 1)])
  return Lexicon(tuple(entries), coverage, corpus, settings.described(), size, totals, frequent)


def scores(counts: Counts, measure: str) -> dict[int, np.ndarray]:
  """By length 2..5, float64 [k]: each n-gram's score; see `Settings` for the measures.

  The minimum over all 2^(n-1) - 1 segmentations is found by dynamic programming: the most probable segmentation of a
  prefix is one of a shorter prefix and one more part.
  """
  if measure == 'frequency':
    return {n: counts.levels[n].counts.astype(np.float64) for n in LENGTHS}
  log_prob = {n: np.log(level.counts / max(1, counts.totals[n])) for n, level in counts.levels.items()}
  suffixes = counts.suffixes()
  result = {}
  for n in LENGTHS:
    places = _places(counts, suffixes, n)
    part = {span: log_prob[span[1] - span[0]][at] for span, at in places.items()}
    if measure == 'naive_pmi':
      best = np.sum([part[i, i + 1] for i in range(n)], axis=0)
    else:
      prefix = {0: np.zeros(len(log_prob[n]))}
      for end in range(1, n + 1):
        starts = range(1 if end == n else 0, end)  # the whole n-gram is no segmentation of itself
        prefix[end] = np.max([prefix[start] + part[start, end] for start in starts], axis=0)
      best = prefix[n]
    result[n] = np.round((2 if measure == 'pmi_squared' else 1) * log_prob[n] - best, _DECIMALS)
  return result


def _places(counts: Counts, suffixes: Mapping[int, np.ndarray], n: int) -> dict[tuple[int, int], np.ndarray]:
  """For each range of words inside an n-gram, where that part lies in its level: int64 [k]."""
  places = {(0, n): np.arange(len(counts.levels[n].keys))}
  for length in range(n, 1, -1):
    first, _ = counts.split(length)
    for start in range(n - length + 1):
      whole = places[start, start + length]
      places[start, start + length - 1] = first[whole]
      places[start + 1, start + length] = suffixes[length][whole]
  return places


def rank(scored: np.ndarray, counts: np.ndarray, measure: str) -> np.ndarray:
  """int64 [m]: n-grams that may be taken, best first; ties go to the more frequent, then to the first by its text."""
  order = np.lexsort((-counts, -scored))  # stable, and levels are in the order of their texts
  return order[: np.count_nonzero(scored > 0)] if measure == 'pmi' else order


def _sizes(ranked: np.ndarray, share: float, number: int) -> np.ndarray:
  """uint32 [number]: the smallest size S with more than r entries of this length, int(S * share) > r, for rank r."""
  least = np.arange(1, len(ranked) + 1, dtype=np.float64)
  size = np.ceil(least / share)
  size += np.floor(size * share) < least  # where the share is no binary fraction
  size -= np.floor((size - 1) * share) >= least
  found = np.full(number, NEVER)
  found[ranked] = size.astype(np.uint32)
  return found
