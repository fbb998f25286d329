"""The work on one shard of a corpus that is being prepared: the same in this process, in another one and on a worker
of Apache Beam.

A stage is a value that is called with the number of a shard and with `tick`, which it tells how many documents it has
done. It finds what earlier stages made in the folder of the build and gives back what is small.
"""

import collections
import contextlib
import dataclasses
import functools
import heapq
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import seqio

from .. import cache, spill, vocabularies
from ..corpora import Document
from ..units import annotate, counting, rule_tagger, salience, words
from ..units.lexicon import Lexicon
from ..units.segmentation import Segmenter

SPLITS = ('train', 'validation')
MODEL, TOKENIZER = 'vocabulary.model', 'tokenizer.json'  # a vocabulary's file: SentencePiece's, or Hugging Face's
_BATCH = 256  # documents annotated at a time ...
_BATCH_CHARACTERS = 2_000_000  # ... or fewer, of this many characters
_CREDITS = ('id', 'license', 'source')  # of every cached document, as text
_WORDS_IN_MEMORY = 2_000_000  # of a gazetteer's tally
_LONGEST_LINE = 100_000  # of what a vocabulary is trained on; SentencePiece leaves out lines above a MiB ...
_LONGEST_WORD = 60_000  # ... and ends the process at a word above 65,535 letters

Tick = Callable[[int], object]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What every stage must know.

  Attributes:
    folder: of the build; all workers see it under this name.
    name: the task's.
    shards: files of a split.
    validation_one_in: which documents are held out.
    tagger: None takes the rules with the gazetteer in the folder.
    salient_labels: which of its labels are masked.
  """

  folder: str
  name: str
  shards: int
  validation_one_in: int
  tagger: salience.SpanTagger | None
  salient_labels: Sequence[str]

  @property
  def spilled(self) -> str:
    """The folder of the sorted documents."""
    return os.path.join(self.folder, 'spilled')

  @property
  def cache(self) -> str:
    """The task's folder inside the cache."""
    return os.path.join(self.folder, 'cache', self.name)

  def path(self, name: str) -> str:
    """Of something that the build makes."""
    return os.path.join(self.folder, name)

  def chosen_tagger(self) -> salience.SpanTagger:
    """The task's, or the rules with the gazetteer that is in the folder by then."""
    return self.tagger or rule_tagger.RuleTagger(salience.Gazetteer.load(self.path('gazetteer.json')))

  def label_filter(self) -> salience.LabelFilter:
    """A new count of the spans that are masked."""
    return salience.LabelFilter(self.chosen_tagger(), self.salient_labels)

  def is_held_out(self, document: Document) -> bool:
    return spill.is_held_out(document, self.validation_one_in)

  def training(self, shard: int) -> Iterator[Document]:
    """The documents of a shard that are not held out."""
    return (document for document in spill.stream(self.spilled, shard) if not self.is_held_out(document))

  def training_texts(self) -> Iterator[str]:
    """Those of all shards."""
    return (document['text'] for shard in range(self.shards) for document in self.training(shard))

  def lines(self, share: float) -> Iterator[str]:
    """About this share of the lines of the training documents, chosen by a hash of where they stand."""
    for shard in range(self.shards):
      for document in self.training(shard):
        for number, line in enumerate(document['text'].split('\n')):
          if line.strip() and (share >= 1 or zlib.crc32(f'{number}:{document["id"]}'.encode()) < share * 2**32):
            has_giant = len(line) > _LONGEST_WORD and max(map(len, line.split(' '))) > _LONGEST_WORD
            size = _LONGEST_WORD if has_giant else _LONGEST_LINE
            yield from (line[start : start + size] for start in range(0, len(line), size))


@dataclasses.dataclass(frozen=True)
class WordForms:
  """Counts the forms of words for a gazetteer; writes lines of a form and its count, in order, and returns the path."""

  job: Job

  def __call__(self, shard: int, tick: Tick) -> str:
    folder = self.job.path(f'forms-{shard:05d}')
    os.makedirs(folder)
    tally = counting.WordTally(folder, _WORDS_IN_MEMORY)
    for batch in _batches(self.job.training(shard)):
      forms = collections.Counter(form for d in batch for form in salience.word_forms(words.texts(d['text'])))
      tally.add((f'{word} {is_lower:d}' for word, is_lower in forms), forms.values())
      tick(len(batch))
    path = os.path.join(folder, 'sums')
    with open(path, 'w', encoding='utf-8') as file:
      file.writelines(f'{form}\t{count}\n' for form, count in tally.items())
    return path


def merge_forms(paths: Sequence[str]) -> Iterator[tuple[str, int, int]]:
  """Each word of what `WordForms` wrote, with how often it is in lower case and how often not."""

  def read(file: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    for line in file:
      word, form, count = line.split()
      yield word, form, int(count)

  with contextlib.ExitStack() as stack:
    files = [read(stack.enter_context(open(path, encoding='utf-8'))) for path in paths]
    for word, same in itertools.groupby(heapq.merge(*files), key=lambda item: item[0]):
      counts = [0, 0]
      for _, form, count in same:
        counts[int(form)] += count
      yield word, counts[1], counts[0]


@dataclasses.dataclass
class Annotated:
  """What the annotation of a shard gives back.

  Attributes:
    stats: by split, as `cache.Writer` counts.
    specs: of the features.
    unigrams: int64 [vocabulary], uses of each id in training documents.
    training_words: of training documents.
    salient: as `salience.LabelFilter` counts.
    licenses: documents under each licence.
  """

  stats: dict[str, dict[str, int]]
  specs: dict[str, dict]
  unigrams: np.ndarray
  training_words: int
  salient: dict
  licenses: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Annotate:
  """Writes the shard's files of the cache, and its documents' credits as lines of JSON."""

  job: Job

  @functools.cached_property
  def _parts(self) -> tuple[seqio.Vocabulary, Segmenter, salience.SpanTagger]:
    job = self.job
    return load_vocabulary(job.folder), Segmenter(Lexicon.load(job.path('lexicon.tsv'))), job.chosen_tagger()

  def __call__(self, shard: int, tick: Tick) -> Annotated:
    job = self.job
    vocabulary, segmenter, given = self._parts
    tagger = salience.LabelFilter(given, job.salient_labels)
    annotator = annotate.Annotator(vocabulary, segmenter, tagger)
    unigrams, num_words = np.zeros(vocabulary.vocab_size, np.int64), 0
    licenses: collections.Counter[str] = collections.Counter()
    writers = {split: cache.Writer(job.cache, split, shard, job.shards) for split in SPLITS}
    with writers['train'], writers['validation'], open(credits_path(job, shard), 'w', encoding='utf-8') as credits:
      for batch in _batches(spill.stream(job.spilled, shard)):
        for document, example in zip(batch, annotator.annotate([(d['id'], d['text']) for d in batch]), strict=True):
          held_out = job.is_held_out(document)
          writers[SPLITS[held_out]].write(example | {name: document.get(name, '') for name in _CREDITS})
          if not held_out:
            np.add.at(unigrams, example['targets'], 1)
            num_words += words.count(document['text'])
          if spill.is_first(document):
            licenses[document.get('license', 'not stated')] += 1
            credits.write(json.dumps(_credit(document)) + '\n')
        tick(len(batch))
    return Annotated(
      stats={split: writer.stats for split, writer in writers.items()},
      specs=writers['train'].specs or writers['validation'].specs,
      unigrams=unigrams,
      training_words=num_words,
      salient=tagger.counts(),
      licenses=dict(licenses),
    )


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
  batch, size = [], 0
  for document in documents:
    batch.append(document)
    size += len(document['text'])
    if len(batch) >= _BATCH or size >= _BATCH_CHARACTERS:
      yield batch
      batch, size = [], 0
  if batch:
    yield batch


def credits_path(job: Job, shard: int) -> str:
  """Where the credits of a shard are written."""
  return job.path(f'credits-{shard:05d}')


def _credit(document: Document) -> dict[str, str]:
  known = document | {'id': spill.source_id(document)}
  return {name: known[name] for name in ('id', 'title', 'license', 'source') if name in known}


def load_vocabulary(folder: str) -> seqio.Vocabulary:
  """The vocabulary of a prepared folder."""
  for name in (MODEL, TOKENIZER):
    if os.path.exists(path := os.path.join(folder, name)):
      return vocabularies.from_file(path)
  return vocabularies.byte_vocabulary()
