"""Questions that stand in the training text, found by n-grams of words.

GPT-3's rule (arXiv 2005.14165, appendix C): text in lower case without punctuation; an item overlaps if an n-gram of it
stands in the training text, n being the 5th percentile of the items' lengths in words, at least 8 and at most 13. An
item of fewer words overlaps if all of it stands there. Ours: an item of fewer than 5 words is too short to tell and
does not, and nothing is done about n-grams that are frequent in the training text.
"""

import collections
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from ... import UserError
from ..units import words as words_lib
from .material import Material
from .test import Test

_LOWEST, _HIGHEST = 8, 13  # arXiv 2005.14165, appendix C
_SHORTEST = 5  # words; by so many the training text is looked through
_VERSION = 1
Gram = tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
  """What is done about questions that the models may have been trained on.

  Attributes:
    action: 'flag' says what share of a test's items overlaps, 'drop' leaves them out, 'refuse' stops where the share is
      above `most`, 'ignore' does not look.
    most: share of a test's items, for 'refuse'.
    ngram: words; None takes GPT-3's rule.
    tokens: of the training text looked through at most; None takes all.
  """

  action: Literal['flag', 'drop', 'refuse', 'ignore'] = 'flag'
  most: float = 0.0
  ngram: int | None = None
  tokens: int | None = 200_000_000

  def __post_init__(self) -> None:
    if self.ngram is not None and self.ngram < _SHORTEST:
      raise UserError(f'Overlap.ngram is {self.ngram}; it is a number of words from {_SHORTEST}, or None.')
    if not 0 <= self.most <= 1:
      raise UserError(f'Overlap.most is {self.most}; it is a share from 0 to 1.')

  def judged(self, tests: Sequence[Test], material: Material) -> list[Test]:
    """The tests with their `overlap`, without the items that overlap if these are dropped.

    Raises:
      UserError: too many of a test's items overlap, and that is to be refused.
    """
    if self.action == 'ignore':
      return list(tests)
    result = []
    for test, hits in zip(tests, self.find(tests, material), strict=True):
      share = float(hits.mean())
      if self.action == 'refuse' and share > self.most:
        raise UserError(
          f'{share:.1%} of the {len(hits):,} items of {test.name} share {self._words(test, material)} words in a row '
          "with the training text; hold out other text, set Overlap.action to 'drop' or 'flag', or raise Overlap.most."
        )
      if self.action == 'drop':
        kept = [item for item, hit in zip(test.items, hits, strict=True) if not hit]
        if not kept:
          material.notes.append(f'{test.name} is left out: all of its items overlap with the training text.')
          continue
        if len(kept) < len(hits):
          material.notes.append(
            f'{test.name}: {len(hits) - len(kept)} items that stand in the training text are dropped.'
          )
        test, share = dataclasses.replace(test, items=kept), 0.0
      result.append(dataclasses.replace(test, overlap=share))
    return result

  def find(self, tests: Sequence[Test], material: Material) -> list[np.ndarray]:
    """Of each test, which items overlap: bool [items]."""
    grams = [self._grams(test, material) for test in tests]
    wanted = {gram for of_test in grams for of_item in of_test for gram in of_item}
    found = self._remembered(wanted, material)
    return [np.array([not found.isdisjoint(of_item) for of_item in of_test], bool) for of_test in grams]

  def _words(self, test: Test, material: Material) -> int:
    return self.ngram or _n_of([len(item) for item in _texts(test, material)])

  def _grams(self, test: Test, material: Material) -> list[list[Gram]]:
    texts = _texts(test, material)
    n = self.ngram or _n_of([len(text) for text in texts])
    return [grams_of(text, n) for text in texts]

  def _remembered(self, wanted: set[Gram], material: Material) -> set[Gram]:
    """Those that stand in the training text; kept beside our own corpora, which takes as long to read as to judge."""
    digest = hashlib.sha1(json.dumps([_VERSION, self.tokens, sorted(wanted)]).encode()).hexdigest()[:16]
    folder = material.source.folder
    path = os.path.join(folder, f'overlap-{digest}.json') if folder else None
    if path and os.path.exists(path):
      try:
        with open(path) as file:
          return {tuple(gram) for gram in json.load(file)}
      except (OSError, ValueError, TypeError):
        pass  # made again
    found = search(wanted, _limited(material, self.tokens))
    if path:
      _keep(path, json.dumps(sorted(found)))
    return found


def _keep(path: str, text: str) -> None:
  """Writes a file if that is possible."""
  scratch = f'{path}.{os.getpid()}.tmp'
  try:
    with open(scratch, 'w') as file:
      file.write(text)
    os.replace(scratch, path)
  except OSError:  # a corpus that others prepared may be read-only
    if os.path.exists(scratch):
      os.unlink(scratch)


def _limited(material: Material, most: int | None) -> Iterable[str]:
  read = 0
  for document in material.source.documents('train'):
    if most is not None and read >= most:
      return
    read += len(document['targets'])
    yield material.text(document['targets'])


def words_of(text: str) -> list[str]:
  """Words in lower case, without punctuation."""
  return [words_lib.normalise(word) for word in words_lib.texts(text) if word[0].isalnum() or word[0] == '_']


def _texts(test: Test, material: Material) -> list[list[str]]:
  return [words_of(material.text(item.candidates[0].tokens)) for item in test.items]


def _n_of(lengths: Sequence[int]) -> int:
  """GPT-3's n for items of these lengths in words."""
  return int(np.clip(np.percentile(lengths, 5), _LOWEST, _HIGHEST))


def grams_of(words: Sequence[str], n: int) -> list[Gram]:
  """The n-grams of a text, or the whole of it if it is shorter; none if it is too short to tell."""
  if len(words) < _SHORTEST:
    return []
  return [tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))]


def search(wanted: set[Gram], texts: Iterable[str]) -> set[Gram]:
  """Those of the n-grams, each of at least 5 words, that stand in one of the texts."""
  by_beginning: dict[Gram, list[Gram]] = collections.defaultdict(list)
  for gram in wanted:
    by_beginning[gram[:_SHORTEST]].append(gram)
  found: set[Gram] = set()
  for text in texts:
    words = words_of(text)
    for i, beginning in enumerate(zip(*(words[k:] for k in range(_SHORTEST)), strict=False)):
      if beginning in by_beginning:
        found.update(gram for gram in by_beginning[beginning] if tuple(words[i : i + len(gram)]) == gram)
  return found
