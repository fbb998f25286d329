"""Documents to token ids with their units, found once: words, collocations and salient spans.

Features of a document, int32 [tokens] each, `bos` and `eos` included (their units are 0)
  targets              token ids
  word_ids             1 + the index of the word, mark or line end that the token's first visible character lies in
  collocation_lengths  at the first token of a collocation the number of its tokens, elsewhere 0. Collocations lie in no
                       other one and may overlap in part; objectives tell them apart anew in every epoch
  collocation_ids      1 + the index of the first word of the token's collocation, or of its word alone, with overlaps
                       told apart once, at random
  salient_ids          1 + the index of the salient span that holds all of the token, else 0
"""

import dataclasses
import functools

import numpy as np
import seqio

from ..vocabularies import Encoder
from . import salience, segmentation, words
from .segmentation import Segmenter

UNIT_FEATURES = ('word_ids', 'collocation_lengths', 'collocation_ids', 'salient_ids')
FEATURES = ('targets', *UNIT_FEATURES)


@dataclasses.dataclass(frozen=True)
class Annotator:
  """Turns documents into features.

  Attributes:
    vocabulary: any seqio vocabulary with reserved ids that keeps the text as it is.
    segmenter: finds collocations.
    tagger: finds salient spans.
  """

  vocabulary: seqio.Vocabulary
  segmenter: Segmenter
  tagger: salience.SpanTagger

  @functools.cached_property
  def _encoder(self) -> Encoder:
    return Encoder(self.vocabulary)  # reads every piece of the vocabulary

  def annotate(self, documents: list[tuple[str, str]]) -> list[dict[str, np.ndarray]]:
    """Features of (id, text) pairs, in order."""
    encoder = self._encoder
    texts = [text for _, text in documents]
    found = zip(encoder.encode(texts), self.tagger.tag(texts), documents, strict=True)
    return [self._one(encoder, ids, identity, text, spans) for ids, spans, (identity, text) in found]

  def _one(
    self, encoder: Encoder, ids: np.ndarray, identity: str, text: str, spans: list[salience.Span]
  ) -> dict[str, np.ndarray]:
    begins, ends = encoder.offsets(ids, text)
    document = words.split(text)
    word_of = words.owner_of_characters(document.begins, document.ends, len(text))
    # A token of spaces alone may begin behind the last character.
    word = word_of[np.minimum(begins, max(0, len(text) - 1))] if len(text) else np.zeros(0, np.int64)
    entries = self.segmenter.entries(document)
    collocation = np.append(segmentation.units(entries, len(document.texts), identity), 0)[word]  # -1 reads the 0
    edges = np.array([(span.start, span.end) for span in spans], np.int64).reshape(-1, 2)
    span_of = words.owner_of_characters(edges[:, 0], edges[:, 1], len(text))
    span = span_of[np.minimum(begins, max(0, len(text) - 1))]
    whole = (span >= 0) & (ends <= np.append(edges[:, 1], 0)[span])
    special = encoder.special
    features = {
      'targets': (ids, special.bos, special.eos),
      'word_ids': (word + 1, 0, 0),
      'collocation_lengths': (_lengths(entries, word), 0, 0),
      'collocation_ids': (collocation, 0, 0),
      'salient_ids': (np.where(whole, span + 1, 0), 0, 0),
    }
    return {
      name: np.concatenate([[first], value, [last]]).astype(np.int32) for name, (value, first, last) in features.items()
    }


def _lengths(entries: list[tuple[int, int]], word: np.ndarray) -> np.ndarray:
  """Tokens of each entry, at its first one: int64 [tokens]; `word` is the word of each token, -1 for none."""
  lengths = np.zeros(len(word), np.int64)
  if not entries:
    return lengths
  inside = np.flatnonzero(word >= 0)
  edges = np.array(entries, np.int64)
  first = np.searchsorted(word[inside], edges[:, 0])
  past = np.searchsorted(word[inside], edges[:, 1])
  # An entry whose first word begins inside a token of the word before has no token of its own there.
  whole = (past > first) & (word[inside][np.minimum(first, len(inside) - 1)] == edges[:, 0])
  begin, last = inside[first[whole]], inside[past[whole] - 1]
  lengths[begin] = last + 1 - begin
  return lengths
