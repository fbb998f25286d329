"""Words of a text, with their characters.

A word is a run of letters, digits and inner apostrophes; any other visible character is a mark of its own. Words
compare lower-cased. An n-gram never crosses a mark or a line end.
"""

import re
from typing import NamedTuple

import numpy as np

_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]|\n")
_LETTERS = re.compile(r"\w+(?:['\u2019]\w+)*")


class Words(NamedTuple):
  """A text's words and marks.

  Attributes:
    texts: each as it stands in the text.
    begins, ends: int64 [n], half-open character ranges.
  """

  texts: list[str]
  begins: np.ndarray
  ends: np.ndarray

  def is_word(self) -> list[bool]:
    """False for marks and line ends."""
    return [text[0].isalnum() or text[0] == '_' for text in self.texts]


def split(text: str) -> Words:
  """The words, marks and line ends of `text`, in order."""
  matches = list(_WORD.finditer(text))
  begins = np.fromiter((match.start() for match in matches), np.int64, len(matches))
  ends = np.fromiter((match.end() for match in matches), np.int64, len(matches))
  return Words([match.group() for match in matches], begins, ends)


def texts(text: str) -> list[str]:
  """`split(text).texts`, without the characters."""
  return _WORD.findall(text)


def count(text: str) -> int:
  """How many words there are in `text`, marks and line ends not counted."""
  return sum(1 for _ in _LETTERS.finditer(text))


def normalise(word: str) -> str:
  """The form in which words are counted and compared."""
  return word.lower().replace('\u2019', "'")


def owner_of_characters(begins: np.ndarray, ends: np.ndarray, length: int) -> np.ndarray:
  """Which of the disjoint, sorted ranges holds each character, -1 where none does; int64 [length]."""
  owner = np.full(length, -1, np.int64)
  sizes = ends - begins
  inside = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins, sizes)
  owner[inside] = np.repeat(np.arange(len(begins)), sizes)
  return owner
