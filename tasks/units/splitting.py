"""`words.split` and `words.normalise` over millions of words: the same words, as numbers, by NumPy and Arrow."""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from . import words
from .lexicon import LONGEST

BREAK = np.uint32(0xFFFFFFFF)  # stands where an n-gram may not go on: at marks, line ends and document ends
_SPACE, _WORD, _MARK, _APOSTROPHE = range(4)


class Numbered(NamedTuple):
  """The words of some text.

  Attributes:
    numbers: uint32 [places], the number of each word, one BREAK between words that something visible divides, and one
      at the end.
    names: what the numbers stand for, normalised, no two the same.
    counts: int64 [names].
    totals: int64 [LONGEST], n-grams of 1, 2, ... words between breaks.
  """

  numbers: np.ndarray
  names: list[str]
  counts: np.ndarray
  totals: np.ndarray


@functools.cache
def _kinds() -> np.ndarray:
  """What each code point is, uint8 [0x110000], by the classes of Python's own expressions."""
  everything = ''.join(map(chr, range(0x110000)))
  kinds = np.full(len(everything), _MARK, np.uint8)
  for expression, kind in ((r'[^\S\n]', _SPACE), (r'\w', _WORD), ("['\u2019]", _APOSTROPHE)):
    kinds[[match.start() for match in re.finditer(expression, everything)]] = kind
  return kinds


def number(texts: Iterable[str]) -> Numbered:
  """The words of documents; no n-gram goes from one into the next."""
  characters = np.frombuffer(('\n'.join(texts) + '\n').encode('utf-32-le', 'surrogatepass'), np.uint32)
  kinds = _kinds()[characters]
  inside = kinds == _WORD
  apostrophes = np.flatnonzero(kinds == _APOSTROPHE)  # the last character, which is before the first, is a line end
  inner = inside[apostrophes + 1] & inside[apostrophes - 1]
  inside[apostrophes[inner]] = True
  edges = np.flatnonzero(np.diff(inside, prepend=False))
  begins, ends = edges[0::2], edges[1::2]
  marks = np.flatnonzero(kinds >= _MARK)
  broken = np.zeros(len(begins) + 1, bool)  # before each word, and behind the last
  broken[np.searchsorted(begins, marks[~inside[marks]])] = True
  numbers, names, counts = _dictionary(characters[inside], ends - begins)
  divided = np.full(len(begins) + np.count_nonzero(broken), BREAK)
  divided[np.arange(len(begins)) + np.cumsum(broken[:-1])] = numbers
  runs = np.diff(np.flatnonzero(broken), prepend=0)
  totals = np.array([np.maximum(runs - n, 0).sum() for n in range(LONGEST)])
  return Numbered(divided, names, counts, totals)


def _dictionary(characters: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, list[str], np.ndarray]:
  """Numbers, names and counts of words that stand one after the other, uint32 [characters], int64 [words].

  Spellings are told apart first, so that only distinct ones are normalised.
  """
  data = characters.tobytes().decode('utf-32-le').encode()
  ends = np.concatenate([[0], np.cumsum(lengths)])
  wide = np.flatnonzero(characters >= 0x80)  # of more than one byte in UTF-8
  more = 1 + (characters[wide] >= 0x800) + (characters[wide] >= 0x10000)
  ends += np.concatenate([[0], np.cumsum(more)])[np.searchsorted(wide, ends)]
  array = pa.LargeStringArray.from_buffers(len(lengths), pa.py_buffer(ends.astype(np.int64)), pa.py_buffer(data))
  spellings = array.dictionary_encode()
  names: dict[str, int] = {}
  number_of = [names.setdefault(words.normalise(text), len(names)) for text in spellings.dictionary.to_pylist()]
  numbers = np.array(number_of, np.uint32)[spellings.indices.to_numpy()]
  return numbers, list(names), np.bincount(numbers, minlength=len(names))


def pieces(texts: Iterable[str], most: int) -> Iterator[list[str]]:
  """Groups of documents of about `most` characters; a longer one is cut at line ends, where no n-gram goes on."""
  group, size = [], 0
  for text in texts:
    start = 0
    while start < len(text):
      end = len(text)
      if end - start > most:
        end = text.rfind('\n', start, start + most) + 1 or text.find('\n', start) + 1 or len(text)
      group.append(text[start:end])
      size += end - start
      start = end
      if size >= most:
        yield group
        group, size = [], 0
  if group:
    yield group
