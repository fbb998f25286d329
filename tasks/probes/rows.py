"""Examples as rows for the decoder: `bos question eos passage eos`, or `bos text eos`, and padding.

All of a row is one segment. Texts that are too long together lose tokens at the end of the longest (BERT's rule).
Where a text has a gap, one [MASK] stands for it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..vocabularies import Encoder
from .examples import Example


@dataclasses.dataclass(frozen=True)
class Rows:
  """Encoded examples.

  Attributes:
    features: 'tokens', int32 [n, length]; 'lengths', int32 [n]; and of a classification 'labels', int32 [n]; of a
      span extraction bool [n, length] 'passage' (where an answer may be), 'starts' and 'ends' (first and last tokens of
      right answers).
    characters: int64 [n, length, 2], of a span extraction: the range of the passage's characters of each token.
  """

  features: dict[str, np.ndarray]
  characters: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.features['lengths'])

  def answerable(self) -> np.ndarray:
    """Bool [n]: whether a right answer is in the row."""
    return np.logical_and(self.features['starts'].any(1), self.features['ends'].any(1))

  def take(self, index: np.ndarray) -> dict[str, np.ndarray]:
    """The features of some rows."""
    return {name: value[index] for name, value in self.features.items()}


def encode(examples: Sequence[Example], encoder: Encoder, length: int, is_span: bool) -> Rows:
  """Rows of `length` tokens."""
  special, count = encoder.special, len(examples)
  tokens, lengths = np.zeros((count, length), np.int32), np.zeros(count, np.int32)
  masks = np.zeros((3, count, length), bool)  # passage, starts, ends
  characters = np.zeros((count, length, 2), np.int64)
  for i, (example, texts) in enumerate(zip(examples, _encoded(examples, encoder), strict=True)):
    parts = _shortened([ids for ids, _, _ in texts], length - 1 - len(texts))
    row = np.concatenate([[special.bos], *(np.append(part, special.eos) for part in parts)])
    tokens[i, : len(row)], lengths[i] = row, len(row)
    if is_span:
      _, begins, ends = texts[-1]
      size = len(parts[-1])
      place = slice(len(row) - 1 - size, len(row) - 1)
      begins, ends = begins[:size], ends[:size]
      masks[0, i, place] = True
      for start, end in example.answers:
        inside = np.flatnonzero((ends > start) & (begins < end))
        if len(inside) and ends[inside[-1]] >= end:  # the row holds all of it
          masks[1, i, place.start + inside[0]] = masks[2, i, place.start + inside[-1]] = True
      characters[i, place] = np.stack([begins, ends], 1)
  features = {'tokens': tokens, 'lengths': lengths}
  if not is_span:
    labels = np.array([example.label for example in examples], np.int32)
    return Rows(features | {'labels': labels})
  return Rows(features | dict(zip(('passage', 'starts', 'ends'), masks, strict=True)), characters)


def needed_length(examples: Sequence[Example], encoder: Encoder, most: int) -> int:
  """The shortest multiple of 8 that holds every row whole, `most` at most."""
  longest = max(1 + sum(1 + len(ids) for ids, _, _ in texts) for texts in _encoded(examples, encoder))
  return min(most, -(-longest // 8) * 8)


def _encoded(examples: Sequence[Example], encoder: Encoder) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
  """For each text of each example its ids, and the first and one-past-last character of each."""
  flat = [text for example in examples for text in example.texts]
  encoded = iter(zip(encoder.encode(flat), flat, strict=True))
  result = []
  for example in examples:
    texts = []
    for number in range(len(example.texts)):
      ids, text = next(encoded)
      begins, ends = encoder.offsets(ids, text)
      if example.gap is not None and number == 0:
        hidden = np.flatnonzero((ends > example.gap[0]) & (begins < example.gap[1]))
        keep = np.r_[: hidden[0] + 1, hidden[-1] + 1 : len(ids)]
        ids = np.where(np.arange(len(ids)) == hidden[0], encoder.special.mask, ids)[keep]
        begins, ends = begins[keep], ends[keep]
      texts.append((ids, begins, ends))
    result.append(texts)
  return result


def _shortened(parts: list[np.ndarray], room: int) -> list[np.ndarray]:
  """The texts, cut at the end of whichever is the longest until all fit."""
  sizes = [len(part) for part in parts]
  while sum(sizes) > room:
    longest = sizes.index(max(sizes))
    second = max((size for i, size in enumerate(sizes) if i != longest), default=0)
    sizes[longest] -= min(sum(sizes) - room, max(1, sizes[longest] - second))
  return [part[:size] for part, size in zip(parts, sizes, strict=True)]
