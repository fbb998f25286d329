"""A corpus becomes a registered seqio Task: vocabulary, units and cache are made once and kept under a data directory.

    <data_dir>/<name>-<fingerprint>/
      vocabulary.model     SentencePiece (or none, for bytes)
      lexicon.tsv          collocations with their counts and PMI
      gazetteer.json       words that are no names at the start of a sentence (for the rules; not with another tagger)
      LICENSES.json        how many documents under each licence, and their sources
      unigram.npy          int64 [vocabulary], how often training documents use each id
      summary.json         sizes and times
      cache/<name>/        seqio's cache of the documents: token, word, collocation and salient ids, licence and source

The folder is built beside its place and moved there when it is whole; a change of corpus or settings changes the
fingerprint.
"""

import collections
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import seqio
import tensorflow as tf
import tqdm

from .. import UserError
from . import cache, corpora, rows, vocabularies
from .units import annotate, rule_tagger, salience, words
from .units.collocations import build as build_lexicon
from .units.counting import LocalEngine
from .units.lexicon import Lexicon, Settings
from .units.segmentation import Segmenter

_VERSION = 4  # of what is made here; part of the fingerprint
_BATCH = 256  # documents annotated at a time
_CREDITS = ('id', 'license', 'source')  # of every cached document, as text


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask:
  """A corpus with its vocabulary and units.

  Attributes:
    name: the seqio task's name.
    corpus: where the documents come from.
    data_dir: where what is made is kept.
    vocabulary_size: ids of the SentencePiece vocabulary; None takes bytes.
    validation_one_in: one document in this many is held out, chosen by a hash of its id.
    lexicon: which collocations to take of the training documents.
    lexicon_file: a lexicon made before by `unmask lexicon build`, in place of one made here by `lexicon`.
    lexicon_of_other_corpus: whether `lexicon_file` may have been counted on other documents than these.
    tagger: finds salient spans; None takes the rules, with a gazetteer of this corpus.
    salient_labels: which of the tagger's labels are masked; 'NAME' stands for 'PER', 'ORG', 'LOC' and 'MISC' as well.
  """

  name: str
  corpus: corpora.Corpus
  data_dir: str
  vocabulary_size: int | None = 8192
  validation_one_in: int = 20
  lexicon: Settings = Settings()
  lexicon_file: str | None = None
  lexicon_of_other_corpus: bool = False
  tagger: salience.SpanTagger | None = None
  salient_labels: Sequence[str] = salience.SALIENT

  def __post_init__(self) -> None:
    salience.check_labels(self.salient_labels, self.tagger.labels if self.tagger else rule_tagger.LABELS)

  def folder(self) -> str:
    """Where everything made from this corpus under these settings lies."""
    settings = (
      _VERSION,
      self.vocabulary_size,
      self.validation_one_in,
      self.lexicon.described(),
      _sha1(self.lexicon_file),
      self.lexicon_of_other_corpus,
    )
    tagger = f'rules {rule_tagger.VERSION}' if self.tagger is None else self.tagger.fingerprint()
    identity = (settings, tagger, sorted(self.salient_labels), self.corpus.fingerprint())
    digest = hashlib.sha1(repr(identity).encode()).hexdigest()[:10]
    return os.path.join(os.path.expanduser(self.data_dir), f'{self.name}-{digest}')

  def training_fingerprint(self) -> str:
    """A name of the training documents that changes when they do; a lexicon keeps it."""
    digest = hashlib.sha1(repr((self.corpus.fingerprint(), self.validation_one_in)).encode()).hexdigest()[:16]
    return f'{type(self.corpus).__name__} {digest}'

  def training_texts(self) -> Iterator[str]:
    """The documents that are not held out."""
    for document in self.corpus.documents():
      if not corpora.is_validation(document['id'], self.validation_one_in):
        yield document['text']

  def prepare(self, say: Callable[[str], None] = print) -> str:
    """Makes what is missing and registers the task; returns the folder. `say` gets a line for each stage."""
    folder = self.folder()
    if not os.path.exists(os.path.join(folder, 'summary.json')):
      self._build(folder, say)
    self._register(folder)
    return folder

  def _build(self, folder: str, say: Callable[[str], None]) -> None:
    try:
      os.makedirs(os.path.dirname(folder), exist_ok=True)
      scratch = tempfile.mkdtemp(prefix=f'.{os.path.basename(folder)}-', dir=os.path.dirname(folder))
    except OSError as error:
      raise UserError(f'Cannot write under DATA_DIR {self.data_dir!r}: {error.strerror}.') from error
    try:
      summary = _Builder(self, scratch, say).run()
      with open(os.path.join(scratch, 'summary.json'), 'w') as file:
        json.dump(summary, file, indent=2)
      _publish(scratch, folder)
    finally:
      shutil.rmtree(scratch, ignore_errors=True)

  def _register(self, folder: str) -> None:
    vocabulary = load_vocabulary(folder)
    features = {
      name: seqio.Feature(
        vocabulary if name == 'targets' else seqio.PassThroughVocabulary(2**31 - 1), add_eos=False, dtype=tf.int32
      )
      for name in (*annotate.FEATURES, 'segment_ids')
    }
    # seqio reads the first folder that knows the name: ours must come before one of other settings.
    own = os.path.join(folder, 'cache')
    cache.check(os.path.join(own, self.name))
    seqio.utils.set_global_cache_dirs([own, *(path for path in seqio.utils.get_global_cache_dirs() if path != own)])
    if self.name in seqio.TaskRegistry.names():
      seqio.TaskRegistry.remove(self.name)
    seqio.TaskRegistry.add(
      self.name,
      source=seqio.FunctionDataSource(self._source(folder), splits=('train', 'validation')),
      preprocessors=[
        seqio.CacheDatasetPlaceholder(required=True),
        rows.to_rows(vocabularies.special_tokens(vocabulary), annotate.UNIT_FEATURES),
      ],
      output_features=features,
    )

  def _source(self, folder: str) -> Callable[..., tf.data.Dataset]:
    def documents(split: str, shuffle_files: bool = False, seed: int | None = None) -> tf.data.Dataset:
      del shuffle_files, seed
      raise UserError(f'Task {self.name} is read from its cache in {folder}; use use_cached=True.')

    return documents


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


class _Builder:
  """One build, stage by stage. The corpus is read once and its words are found once."""

  def __init__(self, task: TextTask, folder: str, say: Callable[[str], None]):
    self._task, self._folder, self._say = task, folder, say
    self._began = time.monotonic()

  def run(self) -> dict:
    given = self._given_lexicon()
    documents = self._read()
    vocabulary = self._vocabulary(documents)
    training = [words.split(d['text']) for d in self._bar(documents, 'words') if not self._held_out(d)]
    lexicon = given or self._lexicon(documents)
    lexicon.save(self._path('lexicon.tsv'))
    source = f' of {lexicon.corpus}' if given else ''
    self._stage(f'lexicon: {len(lexicon.entries):,} collocations cover {lexicon.coverage:.1%} of the words{source}')
    tagger = salience.LabelFilter(self._task.tagger or self._rules(training), self._task.salient_labels)
    annotator = annotate.Annotator(vocabulary, Segmenter(lexicon), tagger)
    stats = self._cache(documents, annotator)
    self._stage(tagger.report())
    licenses = collections.Counter(d.get('license', 'not stated') for d in documents)
    self._save_json('LICENSES.json', {'documents': licenses, 'sources': [self._credit(d) for d in documents]})
    num_words = sum(sum(document.is_word()) for document in training)
    return {
      'name': self._task.name,
      'documents': len(documents),
      'training_words': num_words,
      'vocabulary_size': vocabulary.vocab_size,
      'lexicon_entries': len(lexicon.entries),
      'lexicon_coverage': lexicon.coverage,
      'splits': stats,
      'salient': tagger.counts(),
      'seconds': time.monotonic() - self._began,
    }

  def _given_lexicon(self) -> Lexicon | None:
    path = self._task.lexicon_file
    if path is None:
      return None
    lexicon = Lexicon.load(os.path.expanduser(path))
    if not self._task.lexicon_of_other_corpus:
      lexicon.require(self._task.training_fingerprint(), path)
    return lexicon

  def _lexicon(self, documents: list[corpora.Document]) -> Lexicon:
    texts = (document['text'] for document in documents if not self._held_out(document))
    with LocalEngine(texts, scratch_dir=self._folder) as engine:
      return build_lexicon(engine, self._task.lexicon, self._task.training_fingerprint())

  def _rules(self, training: list[words.Words]) -> salience.SpanTagger:
    gazetteer = salience.Gazetteer.build(training)
    gazetteer.save(self._path('gazetteer.json'))
    self._stage(f'gazetteer: {len(gazetteer.common):,} common words')
    return rule_tagger.RuleTagger(gazetteer)

  def _read(self) -> list[corpora.Document]:
    documents = list(self._bar(self._task.corpus.documents(), 'read'))
    # Sources come sorted; in a random order of documents a buffer of some thousand rows is enough to shuffle rows.
    documents.sort(key=lambda document: hashlib.sha1(document['id'].encode()).digest())
    held_out = sum(map(self._held_out, documents))
    if not documents or not held_out or held_out == len(documents):
      raise UserError(
        f'The corpus has {len(documents)} documents, of which {held_out} fall in the validation split; it needs some '
        'of both: add documents, split them with LocalText.separator, or lower VALIDATION_ONE_IN.'
      )
    self._stage(f'{len(documents):,} documents, {held_out:,} of them for validation')
    return documents

  def _vocabulary(self, documents: list[corpora.Document]) -> seqio.Vocabulary:
    size = self._task.vocabulary_size
    if size is None:
      return vocabularies.byte_vocabulary()
    lines = (line for d in documents if not self._held_out(d) for line in d['text'].split('\n') if line.strip())
    vocabularies.train_sentencepiece(lines, self._path('vocabulary.model'), size)
    self._stage(f'vocabulary of {size:,} ids')
    return load_vocabulary(self._folder)

  def _cache(self, documents: list[corpora.Document], annotator: annotate.Annotator) -> dict[str, dict[str, int]]:
    folder = os.path.join(self._folder, 'cache', self._task.name)
    counts = np.zeros(annotator.vocabulary.vocab_size, np.int64)
    stats = {}
    for split in ('train', 'validation'):
      chosen = [d for d in documents if self._held_out(d) == (split == 'validation')]
      examples = self._annotated(chosen, annotator, split, counts if split == 'train' else None)
      stats[split] = cache.write_split(folder, split, examples)
    cache.complete(folder)
    np.save(self._path('unigram.npy'), counts)
    self._stage(f'{stats["train"]["targets_tokens"]:,} training tokens with word, collocation and salient units')
    return stats

  def _annotated(
    self, documents: list[corpora.Document], annotator: annotate.Annotator, split: str, counts: np.ndarray | None
  ) -> Iterator[dict[str, np.ndarray | str]]:
    with tqdm.tqdm(total=len(documents), desc=f'units ({split})', unit='doc', leave=False, mininterval=1) as bar:
      for start in range(0, len(documents), _BATCH):
        batch = documents[start : start + _BATCH]
        for document, example in zip(batch, annotator.annotate([(d['id'], d['text']) for d in batch]), strict=True):
          if counts is not None:
            np.add.at(counts, example['targets'], 1)
          yield example | {name: document.get(name, '') for name in _CREDITS}
        bar.update(len(batch))

  def _held_out(self, document: corpora.Document) -> bool:
    return corpora.is_validation(document['id'], self._task.validation_one_in)

  def _credit(self, document: corpora.Document) -> dict[str, str]:
    return {name: document[name] for name in ('id', 'title', 'license', 'source') if name in document}

  def _bar(self, items: Iterable, what: str) -> Iterable:
    return tqdm.tqdm(items, desc=what, unit='doc', leave=False, mininterval=1)

  def _path(self, name: str) -> str:
    return os.path.join(self._folder, name)

  def _save_json(self, name: str, value: dict) -> None:
    with open(self._path(name), 'w') as file:
      json.dump(value, file)

  def _stage(self, line: str) -> None:
    self._say(f'[{time.monotonic() - self._began:5.1f} s] {line}')


def _sha1(path: str | None) -> str | None:
  """Of a lexicon file's content; UserError if there is none."""
  if path is None:
    return None
  try:
    with open(os.path.expanduser(path), 'rb') as file:
      return hashlib.file_digest(file, 'sha1').hexdigest()
  except OSError as error:
    raise UserError(f'Cannot read the lexicon {path}: {error.strerror}; mend TextTask.lexicon_file.') from error


def load_vocabulary(folder: str) -> seqio.Vocabulary:
  """The vocabulary of a prepared folder."""
  path = os.path.join(folder, 'vocabulary.model')
  return vocabularies.sentencepiece_vocabulary(path) if os.path.exists(path) else vocabularies.byte_vocabulary()
