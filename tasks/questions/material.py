"""What questions are made of: held-out segments with their units, training text, the vocabulary and its words."""

import collections
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..pipeline import Source
from ..units import words
from .segments import SHORTEST, Segment, runs_of
from .test import Item, Test

_MOST_ROWS = 20_000  # held-out rows that segments are taken from, in the corpus's order, which is random
_MOST_TOKENS = 20_000_000  # of training text in which spans are counted
_FEWEST_WORDS = 64  # that a pool of words needs
Ids = tuple[int, ...]


T = TypeVar('T')


def sample(pool: Sequence[T], count: int, random: np.random.Generator) -> list[T]:
  """So many different ones, in a random order."""
  return [pool[i] for i in random.choice(len(pool), size=count, replace=False)]


class Material:
  """An opened corpus as the questions see it. Everything is found when it is first asked for.

  Attributes:
    source: the corpus.
    special: its vocabulary's reserved ids.
    text_length: tokens of a row: no question may be longer.
    notes: what was left out of the suite and why, a line each.
  """

  def __init__(self, source: Source):
    self.source, self.special, self.text_length = source, source.special, source.config.text_length
    self.notes: list[str] = []

  def random(self, name: str, seed: int) -> np.random.Generator:
    """A generator of a test's own, so that no test depends on which others are asked."""
    return np.random.default_rng([seed, *name.encode()])

  @functools.cached_property
  def segments(self) -> list[Segment]:
    """Held-out segments of at least SHORTEST tokens."""
    found: list[Segment] = []
    for row in self.source.rows('validation').take(_MOST_ROWS).as_numpy_iterator():
      for number in range(1, row['segment_ids'].max() + 1):
        inside = row['segment_ids'] == number
        if inside.sum() >= SHORTEST:
          found.append(Segment.of_row(len(found), row, inside, self.special))
    return [segment for segment in found if segment.is_text.sum() >= SHORTEST - 2]

  def shuffled(self, random: np.random.Generator) -> list[Segment]:
    """The segments in a random order."""
    return [self.segments[i] for i in random.permutation(len(self.segments))]

  @functools.cached_property
  def span_counts(self) -> collections.Counter[Ids]:
    """How often each salient span stands in the training text; held-out ones that do not are there with 0."""
    counts: collections.Counter[Ids] = collections.Counter()
    for segment in self.segments:
      for start, end in segment.runs('salient'):
        counts[tuple(segment.tokens[start:end].tolist())] = 0
    read = 0
    for document in self.source.documents('train', ('salient_ids',)):
      ids, tokens = document.get('salient_ids'), document['targets']
      if ids is None or read > _MOST_TOKENS:
        break
      read += len(tokens)
      counts.update(tuple(tokens[a:b].tolist()) for a, b in runs_of(ids) if ids[a] > 0)
    return counts

  @functools.cached_property
  def text_of(self) -> Callable[[int], str]:
    """The text of one id."""
    return functools.cache(lambda token: self.source.vocabulary.decode([token]))

  def text(self, tokens: np.ndarray) -> str:
    """The text of ordinary ids; the others are left out."""
    return self.source.vocabulary.decode(tokens[self.special.is_text(tokens)].tolist())

  def encode(self, text: str) -> list[int]:
    """Ids of a text that begins a document, `bos` in front."""
    return [self.special.bos, *self.source.vocabulary.encode(text)]

  def continuation(self, before: str, after: str) -> list[int]:
    """Ids of `after` where it stands behind `before`; the two together give the ids of the joined text."""
    first, both = self.encode(before), self.encode(before + after)
    return both[len(first) :] if both[: len(first)] == first else self.source.vocabulary.encode(after.lstrip())

  @functools.cached_property
  def word_pool(self) -> list[str]:
    """Words of four letters and more that two held-out segments hold, in the alphabet's order, that all have the same
    number of tokens behind a space: the smallest number of which there are enough words, else the most frequent one.
    """
    counts: collections.Counter[str] = collections.Counter()
    for segment in self.segments[:4000]:
      counts.update(set(words.texts(self.text(segment.tokens))))  # its first and last may be cut
    ordinary = (word for word, count in counts.items() if count > 1 and word.isascii() and word.isalpha())
    return self.alike([word for word in sorted(ordinary) if word.islower() and len(word) >= 4])

  def alike(self, known: Sequence[str]) -> list[str]:
    """Those of the words that have the same number of tokens behind a space, see `word_pool`."""
    by_size: dict[int, list[str]] = collections.defaultdict(list)
    for word in known:
      by_size[len(self.continuation('A', f' {word}'))].append(word)
    enough = sorted(size for size, pool in by_size.items() if len(pool) >= _FEWEST_WORDS)
    return by_size[enough[0]] if enough else max(by_size.values(), key=len, default=[])

  @functools.cached_property
  def log_unigram(self) -> np.ndarray:
    """The baseline that sees nothing: log of each id's share of the training tokens, one added to each count; float64
    [vocabulary].
    """
    source = self.source
    size = source.vocabulary.vocab_size
    counts = np.zeros(size)
    path = os.path.join(source.folder, 'unigram.npy') if source.folder else None
    if path and os.path.exists(path):
      counts[:] = np.load(path)[:size]
    else:
      for row in source.rows('train').take(20_000).as_numpy_iterator():
        np.add.at(counts, row['targets'][row['segment_ids'] > 0], 1)
    return np.log((counts + 1) / (counts.sum() + size))

  def test(self, items: Sequence[Item], without: str, name: str, **how: Any) -> list[Test]:
    """The test `name` of these items; a note instead if there are none.

    Args:
      without: why there are none, for the note.
      how: all else of a `Test`.
    """
    if not items:
      self.notes.append(f'{name} is left out: {without}')
      return []
    return [Test(name=name, items=items, **how)]
