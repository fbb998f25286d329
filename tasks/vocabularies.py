"""Vocabularies with every objective's special ids reserved once."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable

import numpy as np
import sentencepiece
import seqio
from sentencepiece import sentencepiece_model_pb2

from .. import UserError
from ..objectives.special_tokens import Fragments, SpecialTokens
from . import fragments
from .hugging_face import HuggingFaceVocabulary

NUM_SENTINELS = 16  # CM3's largest number of masks (arXiv 2201.07520, section 2)
_SENTINELS = [f'<mask:{i}>' for i in range(NUM_SENTINELS)]
SPARE = tuple(f'<special:{i}>' for i in range(10))  # marks of single objectives: mode tokens, prefix/suffix/middle, ...
RESERVED = ('[MASK]', '<eoss>', *_SENTINELS)  # what objectives need besides pad, eos and bos
_CONTROL = [*RESERVED, *SPARE]
BYTE_EXTRA_IDS = len(_CONTROL) + 1  # the byte vocabulary has no bos of its own


def train_sentencepiece(lines: Iterable[str], path: str, size: int) -> None:
  """Trains a byte-pair vocabulary and writes it to `path`.

  Identity normalisation and byte fallback: encoding and decoding give every text back, and no token is unknown. The one
  exception is U+2581, SentencePiece's own mark for a space, which comes back as one.

  Args:
    lines: text, a line an item.
    path: the '.model' file to write.
    size: number of ids, the reserved ones included.
  """
  model = _ModelFile(path)
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      model_type='bpe',
      vocab_size=size,
      byte_fallback=True,
      split_digits=True,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False,
      max_sentence_length=1 << 20,
      input_sentence_size=500_000,
      shuffle_input_sentence=True,
      pad_id=0,
      eos_id=1,
      bos_id=2,
      unk_id=3,
      control_symbols=_CONTROL,
      num_threads=os.cpu_count() or 1,
      minloglevel=2,
    )
  except (RuntimeError, OSError) as error:
    raise UserError(
      f'Cannot train a vocabulary of {size} ids on this corpus ({str(error).strip().splitlines()[-1]}); '
      'the corpus may be too small: lower VOCABULARY_SIZE, or use the byte vocabulary.'
    ) from error
  model.save()


class _ModelFile:
  """What the trainer writes to; kept in memory until it is whole."""

  def __init__(self, path: str):
    self._path, self._data = path, b''

  def write(self, data: bytes) -> None:
    self._data += data

  def save(self) -> None:
    with open(self._path, 'wb') as file:
      file.write(self._data)


def byte_vocabulary() -> seqio.ByteVocabulary:
  """UTF-8 bytes, with the special ids at the end."""
  return seqio.ByteVocabulary(extra_ids=BYTE_EXTRA_IDS)


def from_file(path: str) -> seqio.Vocabulary:
  """The vocabulary of a SentencePiece model or a Hugging Face tokenizer.json, which has the reserved ids.

  Raises:
    UserError: it is missing, damaged, or has them not.
  """
  is_json = path.endswith('.json')
  vocabulary = HuggingFaceVocabulary(path) if is_json else sentencepiece_vocabulary(path)
  try:
    special_tokens(vocabulary)
  except UserError as error:
    raise UserError(f'{path} has no reserved ids ({error}); give it some: unmask convert-vocab.') from error
  return vocabulary


def sentencepiece_vocabulary(path: str) -> seqio.SentencePieceVocabulary:
  """The vocabulary of a '.model' file; UserError if it is missing or damaged."""
  try:
    vocabulary = seqio.SentencePieceVocabulary(path)
    _ = vocabulary.vocab_size  # loads the file
  except Exception as error:  # sentencepiece and TensorFlow raise their own kinds
    raise UserError(f'{path} is not a readable SentencePiece model ({type(error).__name__}).') from error
  return vocabulary


def special_tokens(vocabulary: seqio.Vocabulary) -> SpecialTokens:
  """The reserved ids of a vocabulary.

  Vocabularies trained or converted here have them by name; any other seqio vocabulary needs `extra_ids`, of which the
  last ones are taken: [MASK], end of span, the sentinels, and bos where the vocabulary has none.
  """
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    processor = vocabulary.tokenizer
    if all(processor.is_control(processor.piece_to_id(name)) for name in RESERVED):
      return _named(vocabulary.sp_model)
  if isinstance(vocabulary, HuggingFaceVocabulary):
    return vocabulary.special_tokens(RESERVED, SPARE)
  size, extra = vocabulary.vocab_size, vocabulary.extra_ids
  needed = NUM_SENTINELS + 3
  if extra < needed:
    raise UserError(
      f'The vocabulary has extra_ids={extra}; objectives need {needed} reserved ids: give it extra_ids={needed}, or '
      'convert its file by `unmask convert-vocab`.'
    )
  bos = getattr(vocabulary, 'bos_id', None) if isinstance(vocabulary, seqio.SentencePieceVocabulary) else None
  bos = bos if bos is not None and bos > 0 else size - needed
  low = 1 + max(
    i
    for i in (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id, bos if bos < size - extra else 0)
    if i is not None
  )
  return SpecialTokens(
    pad=0,
    eos=vocabulary.eos_id or 1,
    bos=bos,
    mask=size - 1,
    end_of_span=size - 2,
    sentinels=tuple(size - 3 - i for i in range(NUM_SENTINELS)),
    text=(low, size - extra),
    spare=tuple(range(size - needed - 1, size - min(extra, needed + len(SPARE)) - 1, -1)),
    fragments=_fragments(vocabulary),
  )


def _fragments(vocabulary: seqio.Vocabulary) -> Callable[[], Fragments] | None:
  """Of a vocabulary that was not made here; None where its tokens have no characters of their own."""
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return functools.partial(fragments.of_sentencepiece, vocabulary.sp_model)
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return functools.partial(fragments.of_bytes, vocabulary.vocab_size)
  return None


def check_reserved(model: bytes, where: str) -> None:
  """Raises UserError if the reserved ids of a SentencePiece model cannot be used, naming where it is from."""
  try:
    _named(model)
  except UserError as error:
    raise UserError(f'{where}: {error}') from error


@functools.lru_cache(maxsize=8)  # asked for with every token that is shown
def _named(model: bytes) -> SpecialTokens:
  """The reserved ids by their names; UserError if ordinary pieces do not lie beside each other."""
  processor = sentencepiece.SentencePieceProcessor(model_proto=model)
  proto = sentencepiece_model_pb2.ModelProto.FromString(model)
  kinds = (proto.SentencePiece.NORMAL, proto.SentencePiece.BYTE)
  ordinary = [i for i, piece in enumerate(proto.pieces) if piece.type in kinds]
  mask, end_of_span, *sentinels = (processor.piece_to_id(name) for name in RESERVED)
  low, high = ordinary[0], ordinary[-1] + 1
  inside = [i for i in (mask, end_of_span, *sentinels) if low <= i < high]
  if low < 1 or inside or min(processor.eos_id(), processor.bos_id()) < 1:
    raise UserError(
      'The SentencePiece model needs bos and eos, no ordinary piece at id 0, which is padding, and its reserved ids '
      'before or behind all ordinary pieces.'
    )
  return SpecialTokens(
    pad=0,
    eos=processor.eos_id(),
    bos=processor.bos_id(),
    mask=mask,
    end_of_span=end_of_span,
    sentinels=tuple(sentinels),
    text=(low, high),
    spare=tuple(i for i in map(processor.piece_to_id, SPARE) if processor.is_control(i) and not low <= i < high),
    fragments=functools.partial(fragments.of_sentencepiece, model),
  )


def fingerprint(vocabulary: seqio.Vocabulary) -> str:
  """Tells vocabularies apart by content: equal ids mean equal text iff fingerprints are equal."""
  content: object = type(vocabulary).__name__
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    content = vocabulary.sp_model
  elif isinstance(vocabulary, HuggingFaceVocabulary):
    content = vocabulary.content
  return hashlib.sha1(repr((content, special_tokens(vocabulary))).encode()).hexdigest()[:16]


class Encoder:
  """Text to ids with character offsets, in batches."""

  def __init__(self, vocabulary: seqio.Vocabulary):
    self.vocabulary = vocabulary
    self.special = special_tokens(vocabulary)
    self._lengths, self._spaces, self._prefix = _piece_lengths(vocabulary)

  def encode(self, texts: list[str]) -> list[np.ndarray]:
    """Ids without bos and eos, int32 each."""
    if isinstance(self.vocabulary, seqio.SentencePieceVocabulary):
      ids = self.vocabulary.tokenizer.encode(texts, num_threads=os.cpu_count() or 1)
    elif isinstance(self.vocabulary, HuggingFaceVocabulary):
      ids = [found.ids for found in self.vocabulary.tokenizer.encode_batch(texts, add_special_tokens=False)]
    else:
      ids = [self.vocabulary.encode(text) for text in texts]
    return [np.asarray(row, np.int32) for row in ids]

  def offsets(self, ids: np.ndarray, text: str) -> tuple[np.ndarray, np.ndarray]:
    """First and one-past-last character of each token, the leading space left out; UserError if they do not add up."""
    if isinstance(self.vocabulary, HuggingFaceVocabulary):
      return self.vocabulary.offsets(text)
    ends = np.cumsum(self._lengths[ids]) - self._prefix
    if len(ids) and ends[-1] != len(text):
      raise UserError(
        'The vocabulary changes the text (normalisation), so units cannot be placed on its tokens; train one with '
        'identity normalisation or mask tokens only.'
      )
    # A continuation byte adds no character: it lies in the one its lead byte began. A space alone has no visible
    # character and begins where the next one does.
    lengths = np.maximum(self._lengths[ids], 1)
    return np.maximum(ends - lengths + self._spaces[ids], 0), ends

  def decode(self, ids: Iterable[int]) -> str:
    """Text of ordinary ids; special ids are shown by name, padding is left out."""
    return decode(self.vocabulary, ids)


def _piece_lengths(vocabulary: seqio.Vocabulary) -> tuple[np.ndarray, np.ndarray, int]:
  """Characters of each id, how many of them are a leading space, and the artificial space before a text."""
  size = vocabulary.vocab_size
  lengths, spaces = np.zeros(size, np.int64), np.zeros(size, np.int64)
  if isinstance(vocabulary, HuggingFaceVocabulary):
    return lengths, spaces, 0  # it says itself where its tokens lie
  if not isinstance(vocabulary, seqio.SentencePieceVocabulary):
    data = np.arange(256)
    lengths[3 : 3 + 256] = (data < 0x80) | (data >= 0xC0)
    return lengths, spaces, 0
  processor = vocabulary.tokenizer
  for i in range(processor.vocab_size()):
    piece = processor.id_to_piece(i)
    if processor.is_byte(i):
      byte = int(piece[3:5], 16)
      lengths[i] = byte < 0x80 or byte >= 0xC0  # continuation bytes add no character
    elif not processor.is_control(i):
      lengths[i] = len(piece)
      spaces[i] = piece.startswith('\u2581')
  return lengths, spaces, 1


def token_name(vocabulary: seqio.Vocabulary, token: int) -> str:
  """One id as a person reads it: a piece with its leading space, or the name of a special id."""
  if isinstance(vocabulary, HuggingFaceVocabulary):
    return vocabulary.names[int(token)] if vocabulary.is_special(token) else vocabulary.decode([int(token)])
  special = special_tokens(vocabulary)
  names = {
    special.pad: '<pad>',
    special.eos: '</s>',
    special.bos: '<s>',
    special.mask: '[MASK]',
    special.end_of_span: '<eoss>',
  }
  names |= {sentinel: f'<mask:{i}>' for i, sentinel in enumerate(special.sentinels)}
  names |= dict(zip(special.spare, SPARE, strict=False))  # a vocabulary may have fewer
  if token in names:
    return names[token]
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    piece = vocabulary.tokenizer.id_to_piece(int(token)).replace('\u2581', ' ')
    return '\u23ce' if piece == '<0x0A>' else piece
  return vocabulary.decode([int(token)])


def decode(vocabulary: seqio.Vocabulary, ids: Iterable[int]) -> str:
  """Text of ids; special ids are shown by name, padding is left out."""
  special = special_tokens(vocabulary)
  text, run = [], []

  def flush() -> None:
    if run:
      text.append(vocabulary.decode(run))
      run.clear()

  for token in map(int, ids):
    if special.text[0] <= token < special.text[1]:
      run.append(token)
    elif token != special.pad:
      flush()
      text.append(token_name(vocabulary, token))
  flush()
  return ' '.join(text)
