"""Salient spans: names and dates, by rules that need nothing but the text.

REALM (arXiv 2002.08909, section 3.4) and T5+SSM take named entities from a tagger trained on CoNLL-2003 and dates
from a regular expression. Ours is a heuristic in their place: runs of capitalised words, and dates. At the start of a
sentence, where every word is capitalised, a lone word counts only if the corpus mostly writes it with a capital
elsewhere; that knowledge, the gazetteer, is built from the corpus. Spans never cross a sentence end.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np

from . import words


class Span(NamedTuple):
  """A half-open character range with its label, 'NAME' or 'DATE'."""

  start: int
  end: int
  label: str


class SpanTagger(Protocol):
  """Finds the salient spans of a text: disjoint, in order, each inside one sentence."""

  def tag(self, text: str, document: words.Words) -> list[Span]:
    """The spans of `text`, whose words are `document`."""


_MONTH = 'January|February|March|April|May|June|July|August|September|October|November|December'
_YEAR = r'(?:1\d{3}|20\d{2})'
_DATE = re.compile(
  rf'\b(?:(?:\d{{1,2}}(?:st|nd|rd|th)?[^\S\n]+(?:of[^\S\n]+)?)?(?:{_MONTH})(?:[^\S\n]+\d{{1,2}}(?:st|nd|rd|th)?)?(?:,?[^\S\n]+{_YEAR})?'
  rf'|\d{{1,4}}[^\S\n]?(?:BCE?|AD|CE)\b|{_YEAR}s?(?:[^\S\n]?[-\u2013][^\S\n]?{_YEAR}s?)?'
  r'|(?:\d{1,2}(?:st|nd|rd|th))[^\S\n]+(?:century|centuries|millennium))(?!\w|[.,]\d)',
)
_MODAL_MAY = re.compile(r'May(?!\s+\d)')  # "May" without a number is the month too rarely to tag it
_CONNECTORS = {'of', 'de', 'la', 'le', 'van', 'von', 'der', 'den', 'du', 'del', 'di', 'da', 'al', 'bin', 'ibn', 'y'}
_NEVER = {'i', "i'm", "i've", "i'll", "i'd", 'mr', 'mrs', 'ms', 'dr', 'sir', 'bce', 'bc', 'ad', 'ce'}
_SENTENCE_END = {'.', '!', '?', ':', ';', '\n', '"', '\u201c', '\u201d', '\u2022', '(', '*'}


@dataclasses.dataclass(frozen=True)
class Gazetteer:
  """How the corpus writes words that a sentence may begin with.

  Attributes:
    common: words mostly written in lower case; alone at the start of a sentence they are no names ("Human geography").
    function: words hardly ever capitalised inside a sentence; no name begins with them there ("In April", "The Nile").
  """

  common: frozenset[str]
  function: frozenset[str]

  @classmethod
  def build(cls, documents: Iterable[words.Words]) -> 'Gazetteer':
    """Counts each word's forms inside sentences: common below 4 capitals to 1, function below 1 to 20."""
    upper: collections.Counter[str] = collections.Counter()
    lower: collections.Counter[str] = collections.Counter()
    for document in documents:
      previous = '\n'
      for text in document.texts:
        if text[0].isalpha():
          if text[0].islower():
            lower[text.lower()] += 1
          elif previous not in _SENTENCE_END:
            upper[text.lower()] += 1
        previous = text
    return cls(
      frozenset(word for word, count in lower.items() if upper[word] < 4 * count),
      frozenset(word for word, count in lower.items() if 20 * upper[word] < count),
    )

  def save(self, path: str) -> None:
    """Writes JSON."""
    with open(path, 'w', encoding='utf-8') as file:
      json.dump({'common': sorted(self.common), 'function': sorted(self.function)}, file)

  @classmethod
  def load(cls, path: str) -> 'Gazetteer':
    """Reads what `save` wrote."""
    with open(path, encoding='utf-8') as file:
      lists = json.load(file)
    return cls(frozenset(lists['common']), frozenset(lists['function']))


@dataclasses.dataclass(frozen=True)
class RuleTagger:
  """Dates by expression, names by capitals and the gazetteer."""

  gazetteer: Gazetteer

  def tag(self, text: str, document: words.Words) -> list[Span]:
    dates = [
      Span(match.start(), match.end(), 'DATE')
      for match in _DATE.finditer(text)
      if not _MODAL_MAY.fullmatch(match.group())
    ]
    taken = words.owner_of_characters(
      np.array([span.start for span in dates], np.int64), np.array([span.end for span in dates], np.int64), len(text)
    )
    names = [span for span in self._names(text, document) if (taken[span.start : span.end] < 0).all()]
    return sorted(dates + names)

  def _names(self, text: str, document: words.Words) -> Iterable[Span]:
    texts, begins, ends = document.texts, document.begins.tolist(), document.ends.tolist()
    i, count = 0, len(texts)
    while i < count:
      if not texts[i][0].isupper() or words.normalise(texts[i]) in _NEVER:
        i += 1
        continue
      last = i
      while (following := self._continues(text, texts, begins, ends, last)) is not None:
        last = following
      at_start = i == 0 or texts[i - 1] in _SENTENCE_END
      if at_start and last > i and texts[i].lower() in self.gazetteer.function:
        i += 1 if texts[i + 1][0].isupper() else 2  # "In April": the name begins one word later
        at_start = False
      if not (at_start and last == i and texts[i].lower() in self.gazetteer.common) and (last > i or len(texts[i]) > 1):
        yield Span(begins[i], ends[last] - 2 * texts[last].endswith(("'s", '\u2019s')), 'NAME')
      i = last + 1

  def _continues(self, text: str, texts: list[str], begins: list[int], ends: list[int], i: int) -> int | None:
    """The next word of the name that word i belongs to, or None: over spaces, hyphens, initials' dots, connectors."""
    if i + 1 >= len(texts):
      return None
    gap = text[ends[i] : begins[i + 1]]
    following = texts[i + 1]
    if gap == ' ' and following[0].isupper() and words.normalise(following) not in _NEVER:
      return i + 1
    if i + 2 < len(texts):
      adjoining = gap == '' and text[ends[i + 1] : begins[i + 2]] in ('', ' ')
      after = texts[i + 2]
      initial = following == '.' and adjoining and len(texts[i]) == 1
      if initial and after[0].isupper() and after.lower() not in self.gazetteer.function:
        return i + 2
      if following == '-' and gap == '' and ends[i + 1] == begins[i + 2] and after[0].isupper():
        return i + 2
      if following in _CONNECTORS and gap == ' ' and after[0].isupper() and text[ends[i + 1] : begins[i + 2]] == ' ':
        return i + 2
    return None
