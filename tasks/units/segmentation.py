"""Cuts a text into collocations of a lexicon and single words (section 3.2 of PMI-masking, arXiv 2010.01825)."""

import itertools
import random
from collections.abc import Iterable, Sequence

import numpy as np

from . import words
from .lexicon import SHARES, Lexicon


class Segmenter:
  """Cuts a text into collocations and single words (section 3.2 of the paper)."""

  def __init__(self, lexicon: Lexicon):
    self._entries = {entry.ngram for entry in lexicon.entries}
    self._heads = {ngram[:2] for ngram in self._entries}

  def entries(self, document: words.Words) -> list[tuple[int, int]]:
    """Occurrences of entries that lie in no longer one, half-open ranges of words; they may overlap in part."""
    return outermost(self.matches([words.normalise(text) for text in document.texts]))

  def matches(self, texts: Sequence[str]) -> list[tuple[int, int]]:
    """All occurrences of entries, half-open ranges of words, by start and then end."""
    found = []
    for i, head in enumerate(itertools.pairwise(texts)):
      if head in self._heads:
        found += [(i, i + n) for n in SHARES if tuple(texts[i : i + n]) in self._entries and i + n <= len(texts)]
    return found


def units(entries: Sequence[tuple[int, int]], count: int, seed: str) -> np.ndarray:
  """The unit of each of `count` words, marks and line ends: int64 [count], one more than the index of its first word.

  An entry inside a longer one gives way to it; of entries that overlap in part a random one is taken and the others'
  left over words stand alone.

  Args:
    entries: occurrences, half-open ranges of words.
    count: of words.
    seed: decides between overlapping entries.
  """
  result = np.arange(1, count + 1)
  for start, end in choose(entries, seed):
    result[start:end] = start + 1
  return result


def outermost(matches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
  """The ranges that lie in no other one, by start and, with it, by end."""
  longest: list[tuple[int, int]] = []
  for start, end in sorted(matches, key=lambda span: (span[0], -span[1])):
    if not longest or end > longest[-1][1]:
      longest.append((start, end))
  return longest


def choose(matches: Sequence[tuple[int, int]], seed: str) -> list[tuple[int, int]]:
  """Disjoint ranges: contained ones give way to longer ones, then overlaps are broken at random."""
  chosen: list[tuple[int, int]] = []
  for cluster in _clusters(outermost(matches)):
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
