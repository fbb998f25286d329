"""Salient spans: what a tagger finds in a text, which of it is masked, and what the rules must know of the corpus.

REALM (arXiv 2002.08909, section 3.4) masks named entities and dates: `LabelFilter` keeps 'NAME' and 'DATE' by default.
`rule_tagger` finds them with nothing but the text, `spacy_tagger` with any spaCy pipeline.
"""

import collections
import dataclasses
import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from ... import UserError
from . import words

NAMES = ('PER', 'ORG', 'LOC', 'MISC')  # CoNLL-2003's four types, for all of which 'NAME' stands where labels are chosen
SALIENT = ('NAME', 'DATE')  # REALM's choice
SENTENCE_EDGES = frozenset({'.', '!', '?', ':', ';', '\n', '"', '\u201c', '\u201d', '\u2022', '(', '*'})

_MOST_WORDS = 1_000_000  # in a gazetteer


class Span(NamedTuple):
  """A half-open character range with its label: 'NAME' or one of `NAMES`, 'DATE', 'NUMBER', 'MONEY'."""

  start: int
  end: int
  label: str


class SpanTagger(Protocol):
  """Finds the spans of a text. One that is a dataclass of plain values is used by several processes at once."""

  @property
  def labels(self) -> tuple[str, ...]:
    """Every label that `tag` may give."""

  def fingerprint(self) -> str:
    """A string that changes when the spans of some text would; UserError if what the tagger needs is not there."""

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """The spans of each text: disjoint, in order, none empty, each inside one sentence and one line."""


class LabelFilter:
  """A tagger's spans of the chosen labels, counted as they pass.

  Attributes:
    documents: texts seen.
    salient_documents: texts that held a span.
    spans: how many spans of each label; 'NAME' counts all of `NAMES`.
  """

  def __init__(self, tagger: SpanTagger, labels: Sequence[str] = SALIENT):
    """UserError for a label that the tagger does not give."""
    check_labels(labels, tagger.labels)
    kept = {one for label in labels for one in (('NAME', *NAMES) if label == 'NAME' else (label,))}
    self.labels = tuple(label for label in tagger.labels if label in kept)
    self.documents = self.salient_documents = 0
    self.spans = collections.Counter[str](dict.fromkeys(labels, 0))
    self._tagger, self._counted_as = tagger, {one: one if one in labels else 'NAME' for one in kept}

  def fingerprint(self) -> str:
    return f'{self._tagger.fingerprint()} {sorted(self.labels)}'

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    found = [[span for span in spans if span.label in self._counted_as] for spans in self._tagger.tag(texts)]
    self.documents += len(found)
    self.salient_documents += sum(map(bool, found))
    self.spans.update(self._counted_as[span.label] for spans in found for span in spans)
    return found

  def counts(self) -> dict[str, int | dict[str, int]]:
    """What was counted so far: 'documents', 'salient_documents' and 'spans' by label."""
    return {
      'documents': self.documents,
      'salient_documents': self.salient_documents,
      'spans': dict(self.spans),
    }

  def add(self, counts: Mapping[str, Any]) -> None:
    """Takes over the `counts` of the same filter in another process."""
    self.documents += counts['documents']
    self.salient_documents += counts['salient_documents']
    self.spans.update(counts['spans'])

  def report(self) -> str:
    """The counts as a line."""
    if not self.salient_documents:
      return f'no salient span in any of {self.documents:,} documents: salient-span masking has nothing to mask here'
    spans = ', '.join(f'{count:,} {label}' for label, count in self.spans.items())
    return f'salient spans: {spans}, in {self.salient_documents:,} of {self.documents:,} documents'


def check_labels(labels: Sequence[str], known: Sequence[str]) -> None:
  """UserError unless every label is one that a tagger of `known` labels gives, or 'NAME'."""
  if isinstance(labels, str) or not labels:
    raise UserError(f"TextTask.salient_labels is {labels!r}; it is a list of labels such as ['NAME', 'DATE'].")
  if unknown := sorted(set(labels) - {*known, 'NAME'}):
    raise UserError(
      f'TextTask.salient_labels names {", ".join(map(repr, unknown))}, which the tagger does not find; choose among '
      f'{", ".join(dict.fromkeys(["NAME", *known]))}.'
    )


def word_forms(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
  """What a gazetteer counts of a document's words: each in lower case, and whether it is written so; without those that
  have a capital where a sentence may begin."""
  previous = '\n'
  for text in texts:
    if text[0].isalpha():
      if text[0].islower():
        yield text.lower(), True
      elif previous not in SENTENCE_EDGES:
        yield text.lower(), False
    previous = text


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
    forms: collections.Counter[tuple[str, bool]] = collections.Counter()
    for document in documents:
      forms.update(word_forms(document.texts))
    counted = {word for word, _ in forms}
    return cls.select((word, forms[word, True], forms[word, False]) for word in counted)

  @classmethod
  def select(cls, forms: Iterable[tuple[str, int, int]]) -> 'Gazetteer':
    """Chooses among (word, times in lower case, times capitalised inside a sentence), no word twice, in any order.

    Of more than a million words in lower case the most frequent million is looked at.
    """
    frequent = heapq.nlargest(_MOST_WORDS, ((lower, word, upper) for word, lower, upper in forms if lower))
    return cls(
      frozenset(word for lower, word, upper in frequent if upper < 4 * lower),
      frozenset(word for lower, word, upper in frequent if 20 * upper < lower),
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
