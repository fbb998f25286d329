"""Tokens cut between two characters: what each part is in the vocabulary's own tokens."""

import functools

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from ..objectives.special_tokens import Fragments


@functools.lru_cache(maxsize=2)
def of_sentencepiece(model: bytes) -> Fragments:
  """Of a SentencePiece model: its own encoding of each part of each piece, in the middle of a text."""
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  proto.normalizer_spec.add_dummy_prefix = False  # a part begins no text
  proto.normalizer_spec.remove_extra_whitespaces = False
  processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
  size = processor.vocab_size()
  characters, first = np.zeros(size, np.int32), np.zeros(size, np.int32)
  left: list[str] = []
  right: list[str] = []
  for token in range(size):
    if processor.is_byte(token):
      byte = int(processor.id_to_piece(token)[3:5], 16)
      characters[token] = not 0x80 <= byte < 0xC0  # a continuation byte adds no character
    elif not processor.is_control(token) and not processor.is_unknown(token) and not processor.is_unused(token):
      text = processor.id_to_piece(token).replace('\u2581', ' ')
      characters[token], first[token] = len(text), len(left)
      left += [text[:cut] for cut in range(1, len(text))]
      right += [text[cut:] for cut in range(1, len(text))]
  return Fragments(characters, first, _wide(processor.encode(left)), _wide(processor.encode(right)))


def of_bytes(size: int, low: int = 3) -> Fragments:
  """Of seqio's ByteVocabulary, whose tokens are bytes and cannot be cut."""
  characters, data = np.zeros(size, np.int32), np.arange(256)
  characters[low : low + 256] = (data < 0x80) | (data >= 0xC0)
  return Fragments(characters, np.zeros(size, np.int32), _wide([]), _wide([]))


def _wide(rows: list[list[int]]) -> np.ndarray:
  """Rows of ids, filled up with 0: int32 [rows, the longest]; at least one of one."""
  wide = np.zeros((max(1, len(rows)), max([1, *map(len, rows)])), np.int32)
  for row, ids in zip(wide, rows, strict=False):
    row[: len(ids)] = ids
  return wide
