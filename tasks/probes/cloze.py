"""Span extraction made of any text: which name or date belongs in the gap?

A sentence of a document is the question, with one salient span hidden; the sentences around it are the passage, in
which the same span stands elsewhere. The model marks it there. So questions are made of text as in CNN/Daily Mail
(arXiv 1506.03340) and Who did What (1608.05457), and answered by a span as in SQuAD (1606.05250): names keep their
letters, there is no list to choose from. Unlike theirs, question and passage are of one document.

The answer is right at each of its mentions. A passage holds at least `_RIVALS` other salient spans. A document's title
is neither asked nor read: it would answer too many questions.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..corpora import Document
from ..units.salience import Span
from . import examples
from .examples import Example
from .material import Material

NAME = 'probe_span'
_RIVALS = 2
_MOST_PER_DOCUMENT = 8  # so that long documents do not outweigh the others
_FEWEST_WORDS = 5  # of a question, besides the gap
_SPECIAL_TOKENS = 4  # of a row: its ends, between its texts, and one for what tokens do at an edge
_ENDS = re.compile(r'\n+|(?<=[.!?])["\')\u201d]?\s+(?=["\'(\u201c]?[A-Z0-9])')
_ABBREVIATED = re.compile(r'(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Ft|No|vs|Jr|Sr|Gen|Col|Sen|Rep|Gov|c|ca))\.\Z')


def span(material: Material) -> examples.ProbeTask:
  """The probe; UserError if the corpus has no question for a split."""
  parts = {split: _some(material, split) for split in examples.SPLITS}
  return examples.build(NAME, 'Span that fills a gap', 'span', parts, material.sizes)


def _some(material: Material, split: str) -> Iterator[Example]:
  """Questions about documents in their random order, some more than are wanted: overlaps will be left out."""
  wanted = 1.25 * getattr(material.sizes, split) + 8
  found = 0
  for document in material.documents[split]:
    if found >= wanted:
      return
    for example in questions(document, material):
      found += 1
      yield example


class _Sentence(NamedTuple):
  start: int
  end: int
  tokens: int


def questions(document: Document, material: Material) -> list[Example]:
  """The questions that can be asked about a document, `_MOST_PER_DOCUMENT` at most and one a sentence."""
  text = _without_title(document)
  (spans,) = material.tagger.tag([text])
  counts: dict[str, int] = {}
  for found in spans:
    counts[text[found.start : found.end]] = counts.get(text[found.start : found.end], 0) + 1
  if max(counts.values(), default=0) < 2:
    return []
  (ids,) = material.encoder.encode([text])
  begins, _ = material.encoder.offsets(ids, text)
  sentences = [
    _Sentence(a, b, int(np.searchsorted(begins, b) - np.searchsorted(begins, a))) for a, b in split(text, spans)
  ]
  order = sorted(range(len(sentences)), key=lambda i: examples.place(f'{document["id"]} {i}'))
  asked: list[Example] = []
  for i in order:
    if len(asked) == _MOST_PER_DOCUMENT:
      break
    asked += _ask(document['id'], text, sentences, spans, i, counts, material.tokens('span') - _SPECIAL_TOKENS)
  return asked


def _ask(
  identity: str, text: str, sentences: list[_Sentence], spans: Sequence[Span], asked: int, counts: dict, room: int
) -> list[Example]:
  """One question about sentence `asked`, or none."""
  question = sentences[asked]
  inside = [one for one in spans if question.start <= one.start and one.end <= question.end]
  asking = text[question.start : question.end]
  name_of = lambda one: text[one.start : one.end]
  choice = [one for one in inside if counts[name_of(one)] > 1 and asking.count(name_of(one)) == 1]
  if not choice:
    return []
  first, last = _window(sentences, asked, room)
  left = text[first : question.start].rstrip()
  cut = question.end + len(text[question.end : last]) - len(text[question.end : last].lstrip())
  right = text[cut:last].rstrip()
  joint = len(left) + bool(left and right)
  passage = ' '.join(part for part in (left, right) if part)
  moved = [(one.start - first, one.end - first) for one in spans if first <= one.start and one.end <= question.start]
  moved += [(one.start - cut + joint, one.end - cut + joint) for one in spans if cut <= one.start and one.end <= last]
  names = [passage[start:end] for start, end in moved]
  choice = [one for one in choice if name_of(one) in names and len(set(names)) > _RIVALS]
  if not choice:
    return []
  hidden = min(choice, key=lambda one: examples.place(f'{identity} {one.start}'))
  answer = name_of(hidden)
  tagged = {place for place, name in zip(moved, names, strict=True) if name == answer}
  if len((text[question.start : hidden.start] + text[hidden.end : question.end]).split()) < _FEWEST_WORDS:
    return []
  return [
    Example(
      id=f'{identity}:{hidden.start}',
      cluster=identity,
      texts=(asking, passage),
      answers=tuple(sorted(tagged | _mentions(answer, passage))),
      gap=(hidden.start - question.start, hidden.end - question.start),
      candidates=tuple(moved),
    )
  ]


def _mentions(name: str, text: str) -> set[tuple[int, int]]:
  """Where a name stands as words of their own, perhaps inside a longer name."""
  return {found.span() for found in re.finditer(rf'(?<!\w){re.escape(name)}(?!\w)', text)}


def _window(sentences: list[_Sentence], asked: int, room: int) -> tuple[int, int]:
  """Where the passage begins and ends: as many sentences around the question as there is room for, those after it and
  those before it in turn."""
  first = last = asked
  room -= sentences[asked].tokens
  while True:
    after = last + 1 < len(sentences) and sentences[last + 1].tokens <= room
    if after:
      last += 1
      room -= sentences[last].tokens
    before = first > 0 and sentences[first - 1].tokens <= room
    if before:
      first -= 1
      room -= sentences[first].tokens
    if not (after or before):
      return sentences[first].start, sentences[last].end


def split(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
  """Sentences as half-open character ranges, by marks and capitals; none ends inside a span or behind an initial."""
  inside = {i for one in spans for i in range(one.start + 1, one.end)}
  edges, start = [], 0
  for match in _ENDS.finditer(text):
    is_line = '\n' in match.group()
    if not is_line and (match.start() in inside or _ABBREVIATED.search(text, start, match.start())):
      continue
    edges.append((start, match.start() + (len(match.group()) - len(match.group().lstrip('"\')\u201d')))))
    start = match.end()
  edges.append((start, len(text)))
  return [(a, b) for a, b in edges if text[a:b].strip()]


def _without_title(document: Document) -> str:
  """The text without a first line that repeats the title."""
  text, title = document['text'], document.get('title')
  return text[len(title) :].lstrip() if title and text.startswith(f'{title}\n') else text


def most_frequent(example: Example) -> str:
  """The baseline: the candidate that the passage mentions most often and the question does not; the earlier of two.

  That of arXiv 1506.03340, table 5, "exclusive frequency".
  """
  question, passage = example.texts
  shown = question[: example.gap[0]] + question[example.gap[1] :] if example.gap else question
  names = [passage[start:end] for start, end in sorted(example.candidates)]
  others = [name for name in names if name not in shown] or names
  return max(others, key=others.count, default='')
