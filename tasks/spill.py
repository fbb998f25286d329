"""A corpus on its way to the cache: cut into pieces, divided into shards on disk, each in the order of its ids' hashes.

Nothing here depends on the order in which documents come, and nothing holds more than one document or `_MEMORY` bytes
of them: what becomes of a corpus is a function of its documents, whoever reads them.
"""

import contextlib
import dataclasses
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from . import corpora
from .corpora import Document

_MEMORY = 128 << 20  # bytes of a file that are sorted at a time
_MOST_PARTS = 256  # open files
_SOURCE = 'cut_from'  # of a piece: the id of its document
_NUMBER = 'piece'  # of a piece: '1', '2', ...


@dataclasses.dataclass
class Counts:
  """What was read.

  Attributes:
    documents: of the corpus; one that was cut counts once.
    held_out: how many of them are for validation.
    cut: how many were longer than the limit.
    pieces: what they were cut into.
    renamed: documents whose id another one had before.
    characters: of all documents.
    training_characters: of those that are not held out.
  """

  documents: int = 0
  held_out: int = 0
  cut: int = 0
  pieces: int = 0
  renamed: int = 0
  characters: int = 0
  training_characters: int = 0

  def __add__(self, other: 'Counts') -> 'Counts':
    return Counts(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def pieces(document: Document, longest: int) -> Iterator[Document]:
  """The document, or the pieces of one of more than `longest` characters.

  A piece ends behind the last line end in its first `longest` characters, else behind the last space, else after
  `longest` characters, and together they are the text. Their ids are 'id#1', 'id#2', ...; one of nothing visible is
  left out.
  """
  text = document['text']
  if len(text) <= longest:
    yield document
    return
  start, number = 0, 0
  while start < len(text):
    end = len(text)
    if end - start > longest:
      end = start + longest
      end = text.rfind('\n', start, end) + 1 or text.rfind(' ', start, end) + 1 or end
    piece = text[start:end]
    start = end
    if piece.strip():
      number += 1
      identity = document['id']
      yield document | {'id': f'{identity}#{number}', 'text': piece, _SOURCE: identity, _NUMBER: str(number)}


def is_first(document: Document) -> bool:
  """Whether this is a whole document or the first piece of one."""
  return document.get(_NUMBER, '1') == '1'


def source_id(document: Document) -> str:
  """The id that the corpus gave; pieces of one document share it."""
  return document.get(_SOURCE, document['id'])


def is_held_out(document: Document, one_in: int) -> bool:
  """Whether a document or piece belongs to the validation split: all pieces of a document go the same way."""
  return corpora.is_validation(source_id(document), one_in)


def training_texts(documents: Iterable[Document], one_in: int, longest: int) -> Iterator[str]:
  """The texts of documents as a corpus gives them that are not held out, cut as in the cache."""
  for document in documents:
    if not is_held_out(document, one_in):
      for piece in pieces(document, longest):
        yield piece['text']


def _hash(identity: str) -> bytes:
  return hashlib.sha1(identity.encode()).digest()


def shard_of(identity: str, shards: int) -> int:
  """The file that a document or piece goes to."""
  # Other bits than those that decide over the split and over the order inside the file.
  return int.from_bytes(_hash(identity)[8:16], 'big') % shards


class Spill:
  """Divides documents among the files of a folder, as they come. A context manager: the files are closed at its end."""

  def __init__(self, folder: str, shards: int, only: int | None = None):
    """
    Args:
      folder: made if it is not there.
      shards: how many files.
      only: the one shard that all documents are of; None opens every file.
    """
    self._folder, self._shards, self._only = folder, shards, only
    self._files: dict[int, BinaryIO] = {}

  def __enter__(self) -> 'Spill':
    os.makedirs(self._folder, exist_ok=True)
    for shard in range(self._shards) if self._only is None else [self._only]:
      self._files[shard] = open(_raw(self._folder, shard), 'wb')
    return self

  def __exit__(self, *exception) -> None:
    for file in self._files.values():
      file.close()

  def put(self, document: Document) -> None:
    """Puts a document or piece by as it is."""
    _dump(document, self._files[shard_of(document['id'], self._shards)])


def sort(folder: str, shard: int, one_in: int) -> Counts:
  """Puts what was spilled of a shard in the order of the hashes of ids; one in `one_in` documents is for validation.

  Of documents with the same id the first, by text, keeps it; the others become 'id~2', 'id~3', ... and stay in its
  split.
  """
  raw, counts = _raw(folder, shard), Counts()
  parts = min(_MOST_PARTS, 1 + os.path.getsize(raw) // _MEMORY)
  with open(sorted_path(folder, shard), 'wb') as out:
    for path in _parted(raw, parts):
      last, repeats = '', 0
      for document in sorted(_load(path), key=_order):
        repeats = repeats + 1 if document['id'] == last else 0
        last = document['id']
        if repeats:
          document = {_SOURCE: last} | document | {'id': f'{last}~{repeats + 1}'}
        _dump(document, out)
        _count(counts, document, one_in)
        counts.renamed += bool(repeats)
      os.remove(path)
  return counts


def _order(document: Document) -> tuple:
  return _hash(document['id']), document['text'], sorted(document.items())


def _count(counts: Counts, document: Document, one_in: int) -> None:
  first, is_piece, size = is_first(document), _NUMBER in document, len(document['text'])
  held_out = is_held_out(document, one_in)
  counts.documents += first
  counts.held_out += first and held_out
  counts.cut += first and is_piece
  counts.pieces += is_piece
  counts.characters += size
  counts.training_characters += 0 if held_out else size


def _parted(path: str, parts: int) -> list[str]:
  """The file, or files of documents that come one after the other in the order, removing it."""
  if parts == 1:
    return [path]
  paths = [f'{path}.{part}' for part in range(parts)]
  with contextlib.ExitStack() as stack:
    files = [stack.enter_context(open(name, 'wb')) for name in paths]
    for document in _load(path):
      _dump(document, files[int.from_bytes(_hash(document['id'])[:4], 'big') * parts >> 32])
  os.remove(path)
  return paths


def stream(folder: str, shard: int) -> Iterator[Document]:
  """The documents of a shard that was sorted, in order."""
  return _load(sorted_path(folder, shard))


def _dump(document: Document, file: BinaryIO) -> None:
  """Writes how many texts there are, names and values in turn, how long each is, and the texts."""
  parts = [text.encode('utf-8', 'surrogatepass') for item in document.items() for text in item]
  file.write(struct.pack(f'<{1 + len(parts)}Q', len(parts), *map(len, parts)) + b''.join(parts))


def _load(path: str) -> Iterator[Document]:
  with open(path, 'rb') as file:
    while count := file.read(8):
      parts = int.from_bytes(count, 'little')
      sizes = struct.unpack(f'<{parts}Q', file.read(8 * parts))
      texts = [file.read(size).decode('utf-8', 'surrogatepass') for size in sizes]
      yield dict(zip(texts[::2], texts[1::2], strict=True))


def _raw(folder: str, shard: int) -> str:
  return os.path.join(folder, f'{shard:05d}.raw')


def sorted_path(folder: str, shard: int) -> str:
  """Where `sort` puts a shard."""
  return os.path.join(folder, f'{shard:05d}.sorted')
