"""One preparation of a corpus, stage by stage, whichever engine does the work.

The corpus is read once and spilled (`spill`); everything after that reads the shards from disk. So memory holds a
document, a batch of them or a part of a shard, and what the stages find: the frequent n-grams, the gazetteer, the
vocabulary.
"""

import collections
import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import seqio
import tqdm

from ... import UserError
from .. import cache, corpora, spill, vocabularies
from ..units import collocations, counting, salience
from ..units.lexicon import Lexicon, Settings
from . import processes, stages
from .stages import Job

VOCABULARY_CHARACTERS = 50_000_000  # a vocabulary is trained on about this much text at most
_MANY = 40_000_000  # characters to annotate from which on other processes, which take seconds to start, are worth it
_MANY_TO_SPLIT = 400_000_000  # the same for words alone

Forms = Iterator[tuple[str, int, int]]  # as `Gazetteer.select` takes them


class Engine(Protocol):
  """Who does the work on the shards; all engines give the same."""

  def read(self, job: Job, corpus: corpora.Corpus, longest: int) -> spill.Counts:
    """Spills the corpus into `job.spilled`, cut into pieces of `longest` characters, and sorts its shards."""

  def forms(self, job: Job) -> Forms:
    """Each word of the training documents with how often it has each form."""

  def counter(self, job: Job, corpus: corpora.Corpus, longest: int) -> contextlib.AbstractContextManager:
    """A `collocations.Engine` that counts the training documents."""

  def annotate(self, job: Job) -> list[stages.Annotated]:
    """Annotates all shards."""


class LocalEngine:
  """This machine: one process, or one for each core where the corpus is large."""

  def __init__(self, count: int | None = None):
    """
    Args:
      count: of processes; None decides by the size of the corpus. The result does not depend on it.
    """
    self._count, self._characters = count, 0

  def read(self, job: Job, corpus: corpora.Corpus, longest: int) -> spill.Counts:
    """See `Engine.read`."""
    with spill.Spill(job.spilled, job.shards) as spilled:
      for document in _bar('read', iterable=corpus.documents()):
        for piece in spill.pieces(document, longest):
          spilled.put(piece)
    counts = sum((spill.sort(job.spilled, shard, job.validation_one_in) for shard in range(job.shards)), spill.Counts())
    self._characters = counts.characters
    return counts

  def forms(self, job: Job) -> Forms:
    """See `Engine.forms`."""
    return stages.merge_forms(self._run(stages.WordForms(job), 'words', _MANY_TO_SPLIT))

  @contextlib.contextmanager
  def counter(self, job: Job, corpus: corpora.Corpus, longest: int) -> Iterator[collocations.Engine]:
    """See `Engine.counter`."""
    del corpus, longest  # spilled
    with counting.LocalEngine(job.training_texts(), scratch_dir=job.folder) as engine:
      yield engine

  def annotate(self, job: Job) -> list[stages.Annotated]:
    """See `Engine.annotate`."""
    return self._run(stages.Annotate(job), 'units', _MANY)

  def _run(self, stage, what: str, many: int) -> list:
    shards = stage.job.shards
    count = self._count or (processes.available(shards) if self._characters >= many else 1)
    if count > 1 and not processes.can_be_sent(stage):
      count = 1  # another process would not find the user's tagger: his main module's, or no dataclass
    with _bar(what) as bar:
      return processes.run(stage, range(shards), count, bar.update)


def _bar(what: str, iterable=None) -> tqdm.tqdm:
  return tqdm.tqdm(iterable, desc=what, unit='doc', leave=False, mininterval=1)


class Builder:
  """Makes everything of a prepared folder but its place."""

  def __init__(
    self,
    job: Job,
    engine: Engine,
    say: Callable[[str], None],
    *,
    vocabulary: int | str | None,
    lexicon: Lexicon | Settings,
    training_fingerprint: str,
  ):
    """
    Args:
      job: where, and for which task.
      engine: does the work on shards.
      say: gets a line for each stage.
      vocabulary: ids of one to train, or the file of one made before; None takes bytes.
      lexicon: one made before, or what to take of this corpus.
      training_fingerprint: goes into the lexicon.
    """
    self._job, self._engine, self._say = job, engine, say
    self._wanted, self._lexicon, self._fingerprint = vocabulary, lexicon, training_fingerprint
    self._began = time.monotonic()

  def run(self, corpus: corpora.Corpus, longest: int) -> dict:
    """All stages; returns the summary. UserError if the corpus cannot be read or is too small."""
    job = self._job
    counts = self._read(corpus, longest)
    vocabulary = self._vocabulary(counts)
    lexicon = self._collocations(corpus, longest)
    self._gazetteer()
    parts, salient = self._annotate(vocabulary)
    shutil.rmtree(job.spilled)
    return {
      'name': job.name,
      'documents': counts.documents,
      'cut_documents': counts.cut,
      'pieces': counts.pieces,
      'renamed_documents': counts.renamed,
      'training_words': sum(part.training_words for part in parts),
      'vocabulary_size': vocabulary.vocab_size,
      'lexicon_entries': len(lexicon.entries),
      'lexicon_coverage': lexicon.coverage,
      'splits': {split: self._stats(parts, split) for split in stages.SPLITS},
      'salient': salient.counts(),
      'seconds': time.monotonic() - self._began,
    }

  def _read(self, corpus: corpora.Corpus, longest: int) -> spill.Counts:
    counts = self._engine.read(self._job, corpus, longest)
    if not 0 < counts.held_out < counts.documents:
      raise UserError(
        f'Documents found: {counts.documents:,}, of which in the validation split: {counts.held_out:,}; some must be '
        'in it and some not: add documents, lower VALIDATION_ONE_IN, or split files of plain text, at line ends for '
        """example by --gin.LocalText.separator="'\\n'"."""
      )
    line = f'{counts.documents:,} documents, {counts.held_out:,} of them for validation'
    if counts.cut:
      line += f'; {counts.cut:,} of more than {longest:,} characters cut into {counts.pieces:,} pieces'
    if counts.renamed:
      line += f'; {counts.renamed:,} with the id of another one renamed'
    self._stage(line)
    return counts

  def _vocabulary(self, counts: spill.Counts) -> seqio.Vocabulary:
    wanted = self._wanted
    if wanted is None:
      return vocabularies.byte_vocabulary()
    if isinstance(wanted, str):
      given = vocabularies.from_file(wanted)
      shutil.copyfile(wanted, self._job.path(stages.TOKENIZER if wanted.endswith('.json') else stages.MODEL))
      self._stage(f'vocabulary of {given.vocab_size:,} ids, from {wanted}')
      return stages.load_vocabulary(self._job.folder)
    share = VOCABULARY_CHARACTERS / counts.training_characters
    path = self._job.path(stages.MODEL)
    vocabularies.train_sentencepiece(self._job.lines(share), path, wanted)
    of = f', trained on {share:.1%} of the lines' if share < 1 else ''
    self._stage(f'vocabulary of {wanted:,} ids{of}')
    return stages.load_vocabulary(self._job.folder)

  def _collocations(self, corpus: corpora.Corpus, longest: int) -> Lexicon:
    lexicon, source = self._lexicon, ''
    if isinstance(lexicon, Lexicon):
      source = f' of {lexicon.corpus}'
    else:
      with self._engine.counter(self._job, corpus, longest) as engine:
        lexicon = collocations.build(engine, lexicon, self._fingerprint)
    lexicon.save(self._job.path('lexicon.tsv'))
    self._stage(f'lexicon: {len(lexicon.entries):,} collocations cover {lexicon.coverage:.1%} of the words{source}')
    return lexicon

  def _gazetteer(self) -> None:
    if self._job.tagger is not None:
      return
    gazetteer = salience.Gazetteer.select(self._engine.forms(self._job))
    gazetteer.save(self._job.path('gazetteer.json'))
    for shard in range(self._job.shards):
      shutil.rmtree(self._job.path(f'forms-{shard:05d}'), ignore_errors=True)
    self._stage(f'gazetteer: {len(gazetteer.common):,} common words')

  def _annotate(self, vocabulary: seqio.Vocabulary) -> tuple[list[stages.Annotated], salience.LabelFilter]:
    job = self._job
    parts = self._engine.annotate(job)
    specs = next(part.specs for part in parts if part.specs)
    for split in stages.SPLITS:
      cache.describe(job.cache, split, job.shards, specs, self._stats(parts, split))
    cache.complete(job.cache)
    np.save(job.path('unigram.npy'), np.sum([part.unigrams for part in parts], axis=0))
    tokens = self._stats(parts, 'train')['targets_tokens']
    self._stage(f'{tokens:,} training tokens with word, collocation and salient units')
    salient = job.label_filter()
    for part in parts:
      salient.add(part.salient)
    self._stage(salient.report())
    self._credits(sum((collections.Counter(part.licenses) for part in parts), collections.Counter()))
    return parts, salient

  def _stats(self, parts: list[stages.Annotated], split: str) -> dict[str, int]:
    names = parts[0].stats[split]
    return {name: sum(part.stats[split][name] for part in parts) for name in names}

  def _credits(self, licenses: collections.Counter[str]) -> None:
    """Written line by line: there is a credit for every document."""
    paths = [stages.credits_path(self._job, shard) for shard in range(self._job.shards)]
    with open(self._job.path('LICENSES.json'), 'w', encoding='utf-8') as out:
      out.write(f'{{"documents": {json.dumps(dict(sorted(licenses.items())))}, "sources": [\n')
      with contextlib.ExitStack() as stack:
        files = [stack.enter_context(open(path, encoding='utf-8')) for path in paths]
        for number, line in enumerate(itertools.chain.from_iterable(files)):
          out.write((',\n' if number else '') + line.rstrip('\n'))
      out.write('\n]}\n')
    for path in paths:
      os.remove(path)

  def _stage(self, line: str) -> None:
    self._say(f'[{time.monotonic() - self._began:5.1f} s] {line}')
