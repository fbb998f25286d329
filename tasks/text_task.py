"""A corpus becomes a registered seqio Task: vocabulary, units and cache are made once and kept under a data directory.

    <data_dir>/<name>-<fingerprint>/
      vocabulary.model     SentencePiece (or none, for bytes)
      lexicon.tsv          collocations with their counts and PMI
      gazetteer.json       words that are no names at the start of a sentence (for the rules; not with another tagger)
      LICENSES.json        how many documents under each licence, and the sources of all
      unigram.npy          int64 [vocabulary], how often training documents use each id
      summary.json         sizes and times
      cache/<name>/        seqio's cache of the documents: token, word, collocation and salient ids, licence and source

The folder is built beside its place and moved there when it is whole; a change of corpus or settings changes the
fingerprint. A corpus may have any size: what does not fit in memory is kept on disk, about twice the text while the
folder is built (`preparation`). Nothing of what is made depends on the order in which documents are read.

A document's file in the cache is decided by a hash of its id; inside a file documents are in the order of another one,
at random that is. Of documents with the same id one keeps it, the others become 'id~2', 'id~3', ...
"""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence

from .. import UserError
from . import corpora, prepared, spill
from .preparation import builder, stages
from .units import rule_tagger, salience
from .units.lexicon import Lexicon, Settings

_VERSION = 5  # of what is made here; part of the fingerprint
_MOST_SHARDS = 512  # open files
_NAME = re.compile(r'[\w.:#]+\Z')


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask:
  """A corpus with its vocabulary and units.

  Attributes:
    name: the seqio task's name.
    corpus: where the documents come from.
    data_dir: where what is made is kept.
    vocabulary_size: ids of the SentencePiece vocabulary; None takes bytes.
    vocabulary_file: a vocabulary made before, in place of one trained here: a SentencePiece model, or a Hugging Face
      tokenizer.json, with the reserved ids (`unmask convert-vocab`). `vocabulary_size` is of no use then.
    validation_one_in: one document in this many is held out, chosen by a hash of its id.
    lexicon: which collocations to take of the training documents.
    lexicon_file: a lexicon made before by `unmask lexicon build`, in place of one made here by `lexicon`.
    lexicon_of_other_corpus: whether `lexicon_file` may have been counted on other documents than these.
    tagger: finds salient spans; None takes the rules, with a gazetteer of this corpus.
    salient_labels: which of the tagger's labels are masked; 'NAME' stands for 'PER', 'ORG', 'LOC' and 'MISC' as well.
    shards: files of a split of the cache, at least as many as hosts that read it; with Apache Beam, what can be worked
      on at once.
    longest_document: characters; a longer document is cut at line ends, else at spaces, else anywhere, into pieces that
      are documents of their own in the same split.
  """

  name: str
  corpus: corpora.Corpus
  data_dir: str
  vocabulary_size: int | None = 8192
  vocabulary_file: str | None = None
  validation_one_in: int = 20
  lexicon: Settings = Settings()
  lexicon_file: str | None = None
  lexicon_of_other_corpus: bool = False
  tagger: salience.SpanTagger | None = None
  salient_labels: Sequence[str] = salience.SALIENT
  shards: int = 8
  longest_document: int = 1_000_000

  def __post_init__(self) -> None:
    if not _NAME.match(self.name):
      raise UserError(f'TextTask.name is {self.name!r}; it is of letters, digits and the marks . : _ #, as in seqio.')
    if not 1 <= self.shards <= _MOST_SHARDS:
      raise UserError(f'TextTask.shards is {self.shards}; it is 1 to {_MOST_SHARDS}.')
    if self.validation_one_in < 2:
      raise UserError(
        f'TextTask.validation_one_in is {self.validation_one_in}; it is 2 or more: some text must be left.'
      )
    if self.vocabulary_size is not None and not 0 < self.vocabulary_size < 2**31:
      raise UserError(f'TextTask.vocabulary_size is {self.vocabulary_size}; it is a number of ids, or None for bytes.')
    if self.longest_document < 1:
      raise UserError(f'TextTask.longest_document is {self.longest_document}; it is a number of characters, 1 or more.')
    salience.check_labels(self.salient_labels, self.tagger.labels if self.tagger else rule_tagger.LABELS)

  def folder(self) -> str:
    """Where everything made from this corpus under these settings lies."""
    settings = (
      _VERSION,
      self.vocabulary_size,
      self.validation_one_in,
      self.lexicon.described(),
      _sha1(self.lexicon_file, 'lexicon_file'),
      self.lexicon_of_other_corpus,
      self.shards,
      self.longest_document,
    )
    if self.vocabulary_file is not None:
      settings = (*settings[:1], *settings[2:], 'vocabulary', _sha1(self.vocabulary_file, 'vocabulary_file'))
    tagger = f'rules {rule_tagger.VERSION}' if self.tagger is None else self.tagger.fingerprint()
    identity = (settings, tagger, sorted(self.salient_labels), self.corpus.fingerprint())
    digest = hashlib.sha1(repr(identity).encode()).hexdigest()[:10]
    return os.path.join(os.path.expanduser(self.data_dir), f'{self.name}-{digest}')

  def training_fingerprint(self) -> str:
    """A name of the training documents that changes when they do; a lexicon keeps it."""
    digest = hashlib.sha1(repr((self.corpus.fingerprint(), self.validation_one_in)).encode()).hexdigest()[:16]
    return f'{type(self.corpus).__name__} {digest}'

  def training_texts(self) -> Iterator[str]:
    """The documents that are not held out, cut as in the cache."""
    return spill.training_texts(self.corpus.documents(), self.validation_one_in, self.longest_document)

  def prepare(self, say: Callable[[str], None] = print, engine: builder.Engine | None = None) -> str:
    """Makes what is missing and registers the task; returns the folder.

    Args:
      say: gets a line for each stage; none where all is there.
      engine: who does the work; None takes this machine. What is made does not depend on it.

    Raises:
      UserError: the corpus cannot be read, is too small or is no text, or data_dir cannot be written.
    """
    folder = self.folder()
    if not os.path.exists(os.path.join(folder, 'summary.json')):
      self._build(folder, say, engine or builder.LocalEngine())
    prepared.register(self.name, folder)
    return folder

  def _build(self, folder: str, say: Callable[[str], None], engine: builder.Engine) -> None:
    try:
      os.makedirs(os.path.dirname(folder), exist_ok=True)
      scratch = tempfile.mkdtemp(prefix=f'.{os.path.basename(folder)}-', dir=os.path.dirname(folder))
    except OSError as error:
      raise UserError(f'Cannot write under DATA_DIR {self.data_dir!r}: {error.strerror}.') from error
    try:
      summary = self._builder(scratch, say, engine).run(self.corpus, self.longest_document)
      with open(os.path.join(scratch, 'summary.json'), 'w') as file:
        json.dump(summary, file, indent=2)
      _publish(scratch, folder)
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise
      raise UserError(
        f'There is no room left under DATA_DIR {self.data_dir!r}; a corpus needs about six times its text there.'
      ) from error
    finally:
      shutil.rmtree(scratch, ignore_errors=True)

  def _builder(self, scratch: str, say: Callable[[str], None], engine: builder.Engine) -> builder.Builder:
    job = stages.Job(
      folder=scratch,
      name=self.name,
      shards=self.shards,
      validation_one_in=self.validation_one_in,
      tagger=self.tagger,
      salient_labels=tuple(self.salient_labels),
    )
    return builder.Builder(
      job,
      engine,
      say,
      vocabulary=self.vocabulary_size if self.vocabulary_file is None else os.path.expanduser(self.vocabulary_file),
      lexicon=self._given_lexicon() or self.lexicon,
      training_fingerprint=self.training_fingerprint(),
    )

  def _given_lexicon(self) -> Lexicon | None:
    path = self.lexicon_file
    if path is None:
      return None
    lexicon = Lexicon.load(os.path.expanduser(path))
    if not self.lexicon_of_other_corpus:
      lexicon.require(self.training_fingerprint(), path)
    return lexicon


def _publish(scratch: str, folder: str) -> None:
  """Moves what was made to its place, readable as the user's other files are."""
  umask = os.umask(0)
  os.umask(umask)
  os.chmod(scratch, 0o777 & ~umask)
  try:
    os.replace(scratch, folder)
  except OSError:
    if os.path.exists(os.path.join(folder, 'summary.json')):
      return  # another process was first; what it made is the same
    shutil.rmtree(folder)  # the place was taken by something half-made or damaged
    os.replace(scratch, folder)


def _sha1(path: str | None, setting: str) -> str | None:
  """Of the content of a file that a setting names; UserError if there is none."""
  if path is None:
    return None
  try:
    with open(os.path.expanduser(path), 'rb') as file:
      return hashlib.file_digest(file, 'sha1').hexdigest()
  except OSError as error:
    what = setting.removesuffix('_file')
    raise UserError(f'Cannot read the {what} {path}: {error.strerror}; mend TextTask.{setting}.') from error
