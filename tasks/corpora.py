"""Where text comes from. A corpus yields documents; everything after it is the same for all corpora.

A document is a dictionary with 'id' (unique in the corpus), 'text', and what is known of its 'title', 'license',
'source' and 'label' (a class, for probes; pretraining does not see it).
"""

import dataclasses
import glob
import hashlib
import itertools
import json
import os
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from .. import UserError

Document = dict[str, str]


class Corpus(Protocol):
  """A source of documents, in a fixed order."""

  def fingerprint(self) -> str:
    """A string that changes when the documents do."""

  def documents(self) -> Iterator[Document]:
    """All documents; raises UserError if there is nothing to read."""


@typing.runtime_checkable
class ShardedCorpus(Corpus, Protocol):
  """A corpus that several machines can read at once."""

  def shards(self) -> Sequence[Any]:
    """Its parts, as small values that `read` understands."""

  def read(self, shard: Any) -> Iterator[Document]:
    """The documents of one part; those of all parts in order are `documents()`."""


def require(task: Any) -> None:
  """Raises UserError unless the task has a corpus to read, as a TextTask has."""
  if not hasattr(task, 'corpus'):
    raise UserError(
      'There is no corpus to read: TASK is no TextTask; for a seqio Task take corpora.SeqioText as the TextTask.corpus.'
    )


def shards(corpus: Corpus) -> Sequence[Any]:
  """The parts of any corpus: one where it names none."""
  return corpus.shards() if isinstance(corpus, ShardedCorpus) else [None]


def read(corpus: Corpus, shard: Any) -> Iterator[Document]:
  """The documents of one of `shards(corpus)`."""
  return corpus.read(shard) if isinstance(corpus, ShardedCorpus) else corpus.documents()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalText:
  """Text files on this machine.

  Attributes:
    pattern: a glob. A '.jsonl' or '.json' file has one JSON object a line; any other file is one document, or several
      where `separator` is given.
    text_field: the field of a JSON line that holds the text.
    separator: splits a plain text file into documents, for example '\\n\\n\\n', for which a shell wants quotes within
      quotes: --gin.LocalText.separator="'\\n\\n\\n'"; None keeps the file whole.
    label_field: the field of a JSON line that holds its class, text or a whole number, where there is one.
  """

  pattern: str
  text_field: str = 'text'
  separator: str | None = None
  label_field: str = 'label'

  def _paths(self) -> list[str]:
    paths = sorted(path for path in glob.glob(os.path.expanduser(self.pattern), recursive=True) if os.path.isfile(path))
    if not paths:
      raise UserError(f'No file matches LocalText.pattern={self.pattern!r}.')
    for path in paths:
      if not os.access(path, os.R_OK):
        raise UserError(f'{path} cannot be read; mend its permissions or the pattern.')
    return paths

  def fingerprint(self) -> str:
    digest = hashlib.sha1(repr((self.text_field, self.separator)).encode())
    for path, name in self._named_paths():
      with open(path, 'rb') as file:
        digest.update(name.encode() + hashlib.file_digest(file, 'sha1').digest())
    return digest.hexdigest()

  def documents(self) -> Iterator[Document]:
    found = False
    for shard in self.shards():
      for document in self.read(shard):
        found = True
        yield document
    if not found:
      raise UserError(f'The corpus is empty: no file of LocalText.pattern={self.pattern!r} holds any text.')

  def shards(self) -> list[tuple[str, str]]:
    return self._named_paths()

  def read(self, shard: tuple[str, str]) -> Iterator[Document]:
    path, name = shard
    texts = self._json_lines if path.endswith(('.jsonl', '.json')) else self._plain
    for identity, text, label in texts(path, name):
      if text.strip():
        yield {'id': identity, 'text': text, 'source': path} | ({'label': label} if label else {})

  def _named_paths(self) -> list[tuple[str, str]]:
    """Paths with their names inside the folder they share: ids, and so the split, survive a move of the corpus."""
    paths = self._paths()
    root = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return [(path, os.path.relpath(path, root)) for path in paths]

  def _plain(self, path: str, name: str) -> Iterator[tuple[str, str, str]]:
    with open(path, 'rb') as file:
      text = decode(file.read(), path)
    parts = text.split(self.separator) if self.separator else [text]
    for number, part in enumerate(parts):
      yield f'{name}:{number}', part, ''

  def _json_lines(self, path: str, name: str) -> Iterator[tuple[str, str, str]]:
    with open(path, 'rb') as lines:
      for number, line in enumerate(lines, 1):
        if not line.strip():
          continue
        text = decode(line, f'{path} line {number}')
        try:
          record = json.loads(text)
          value = record[self.text_field]
          if not isinstance(value, str):
            raise TypeError(f'it holds {type(value).__name__}')
          identity = f'{name}:{record.get("id", number)}'
          label = record.get(self.label_field)
          label = str(label) if isinstance(label, str | int) else ''
          identity.encode(), value.encode(), label.encode()  # a lone surrogate is no text
        except (ValueError, KeyError, TypeError, RecursionError) as error:
          raise UserError(
            f'{path} line {number} is not a JSON object with text in a {self.text_field!r} field ({error}); '
            'set LocalText.text_field or mend the line.'
          ) from error
        yield identity, value, label


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsText:
  """Any TensorFlow Datasets dataset with a text feature, such as 'c4/en:3.1.0' or 'wikipedia/20230601.en'.

  Attributes:
    name: the dataset's name in TFDS.
    split: which split to read; ours are made from it by document.
    text_field: the feature that holds the text.
    data_dir: where TFDS keeps prepared datasets; None is its own default.
  """

  name: str
  split: str = 'train'
  text_field: str = 'text'
  data_dir: str | None = None

  def fingerprint(self) -> str:
    return repr((self.name, self.split, self.text_field, 'in order'))

  def documents(self) -> Iterator[Document]:
    return self.read((self.split, 0))

  def shards(self) -> list[tuple[str, int]]:
    """Ranges of records, one for each file of the prepared dataset, with the number of the first."""
    import tensorflow_datasets as tfds

    try:
      builder = tfds.builder(self.name, data_dir=self.data_dir)
      lengths = builder.info.splits[self.split].shard_lengths if self.split in builder.info.splits else []
    except Exception:  # `read` says what is wrong
      lengths = []
    if len(lengths) < 2:
      return [(self.split, 0)]
    ends = list(itertools.accumulate(lengths, initial=0))
    return [(f'{self.split}[{begin}:{end}]', begin) for begin, end in itertools.pairwise(ends) if end > begin]

  def read(self, shard: tuple[str, int]) -> Iterator[Document]:
    import tensorflow_datasets as tfds

    split, first = shard
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1)  # file by file: a record's number is its place
    try:
      dataset = tfds.load(self.name, split=split, data_dir=self.data_dir, shuffle_files=False, read_config=one_by_one)
    except Exception as error:  # TFDS raises many kinds: an unknown name, no network, a missing split
      reason = str(error).strip().split('\n')[0]
      raise UserError(f'TFDS cannot give {self.name!r} split {split!r}: {reason}') from error
    if self.text_field not in dataset.element_spec:
      raise UserError(f'{self.name} has no feature {self.text_field!r}; it has {", ".join(dataset.element_spec)}.')
    if dataset.element_spec[self.text_field].dtype != 'string':
      raise UserError(f'The feature {self.text_field!r} of {self.name} is no text; set TfdsText.text_field.')
    for number, record in enumerate(dataset.as_numpy_iterator(), first):
      yield {'id': f'{self.name}:{number}', 'text': decode(record[self.text_field], self.name), 'source': self.name}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SeqioText:
  """The text of a seqio Task that somebody registered, as its source gives it, before any preprocessor.

  Attributes:
    task: the Task's name.
    split: which of its splits to read; ours are made from it by document.
    text_field: the feature that holds the text; None takes the first there is of 'text', 'targets' and 'inputs'.
  """

  task: str
  split: str = 'train'
  text_field: str | None = None

  def fingerprint(self) -> str:
    """The Task's name and, where its source knows it, how many examples there are; not what they say."""
    return repr((self.task, self.split, self.text_field, self._source().num_input_examples(self.split)))

  def _source(self) -> Any:
    import seqio

    if self.task not in seqio.TaskRegistry.names():
      raise UserError(f'There is no seqio Task {self.task!r}; import the module that registers it in a gin file.')
    source = seqio.TaskRegistry.get(self.task).source
    if self.split not in source.splits:
      raise UserError(f'The Task {self.task} has no split {self.split!r}; it has {", ".join(source.splits)}.')
    return source

  def documents(self) -> Iterator[Document]:
    dataset = self._source().get_dataset(self.split, shuffle=False)
    strings = [name for name, spec in dataset.element_spec.items() if getattr(spec, 'dtype', None) == 'string']
    field = self.text_field or next((name for name in ('text', 'targets', 'inputs') if name in strings), None)
    if field not in strings:
      raise UserError(
        f'The source of the Task {self.task} has no text {field or "feature"!r}; of its features '
        f'{", ".join(dataset.element_spec)} set SeqioText.text_field to one that holds text.'
      )
    for number, record in enumerate(dataset.as_numpy_iterator()):
      identity = f'{self.task}/{self.split}:{number}'
      yield {'id': identity, 'text': decode(record[field], identity), 'source': self.task}


def decode(data: bytes, name: str) -> str:
  """UTF-8 text; UserError naming `name` if the bytes are not text."""
  try:
    text = data.decode('utf-8')
  except UnicodeDecodeError as error:
    raise UserError(f'{name} is not UTF-8 text (byte {error.start}); convert it or leave it out.') from error
  control = sum(text.count(chr(code)) for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 14, 15, 16, 127))
  if control > 0.01 * max(1, len(text)):
    raise UserError(f'{name} looks like binary data, not text ({control} control characters); leave it out.')
  return text


def is_validation(identity: str, one_in: int) -> bool:
  """Whether a document belongs to the validation split: one in `one_in`, by a hash of its id alone."""
  return int(hashlib.sha1(identity.encode()).hexdigest(), 16) % one_in == 0
