"""The preparation of a corpus on Apache Beam: the stages of `builder`, with each shard a unit of work on any runner.

    --runner=FlinkRunner --flink_master=HOST:8081 --temp_location=/shared/tmp --environment_type=...

Workers read the corpus themselves, part by part where it has parts, and exchange its documents by a GroupByKey on
their shard. What they make goes straight to the folder that is built under the task's data_dir: all workers and the
machine that starts this must see that folder under the same name, so it is one of a network file system, not of one
machine nor of an object store. A worker sorts its shard on the disk of that folder, a part at a time; a shard is the
largest piece of work, so a large corpus wants `TextTask.shards` a few times as many as there are workers.

The vocabulary is trained by the machine that starts this, on lines that `builder` chooses; the lexicon is counted by
its own engine (`units.beam_lexicon`). Not in the default installation: `pip install -r requirements-beam.txt`.
"""

import collections
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ... import UserError
from .. import corpora, spill
from ..corpora import Document
from ..units import beam_lexicon, salience, words
from ..units.beam_lexicon import PipelineOptions, StandardOptions, beam
from . import plain, stages
from .stages import Job

_APART = ('DataflowRunner',)  # their workers see no file of ours


class BeamEngine:
  """`builder.Engine` on Beam.

  Args:
    flags: pipeline options, as on any Beam program's command line.

  Raises:
    UserError: the runner's workers cannot see a folder of this machine.
  """

  def __init__(self, flags: Sequence[str] = ()):
    self._flags = list(flags)
    runner = PipelineOptions(self._flags).view_as(StandardOptions).runner or 'DirectRunner'
    if runner.rpartition('.')[2] in _APART:
      raise UserError(
        f'The workers of {runner} cannot write to DATA_DIR, which they must share with this machine; prepare with a '
        'runner whose workers mount it, such as FlinkRunner or SparkRunner, or with --engine=local.'
      )

  def read(self, job: Job, corpus: corpora.Corpus, longest: int) -> spill.Counts:
    """See `builder.Engine.read`."""
    os.makedirs(job.spilled)
    self._check_shared(job)
    with beam_lexicon.pipeline(self._flags) as pipeline:
      _ = (
        pipeline
        | 'parts' >> beam.Create(corpora.shards(corpus))
        | 'spread parts' >> beam.Reshuffle()
        | 'documents' >> beam.ParDo(_Read(corpus, longest, job.shards))
        | 'shards' >> beam.GroupByKey()
        | 'sort' >> beam.ParDo(_Sort(job))
        | 'counts' >> beam.ParDo(_Write(job.path('counts')))
      )
    counts = _collected(job.path('counts'))
    for shard in set(range(job.shards)) - set(counts):  # nothing fell there
      with spill.Spill(job.spilled, job.shards, only=shard):
        pass
      counts[shard] = spill.sort(job.spilled, shard, job.validation_one_in)
    return sum((counts[shard] for shard in sorted(counts)), spill.Counts())

  def forms(self, job: Job) -> Iterator[tuple[str, int, int]]:
    """See `builder.Engine.forms`."""
    place = job.path('forms-00000')
    os.makedirs(place)
    with beam_lexicon.pipeline(self._flags) as pipeline:
      _ = (
        pipeline
        | 'shards' >> beam.Create(range(job.shards))
        | 'spread shards' >> beam.Reshuffle()
        | 'forms' >> beam.ParDo(_Forms(job))
        | 'sum' >> beam.CombinePerKey(_AddPairs())
        | 'lines' >> beam.Map(json.dumps)
        | 'write' >> beam.io.WriteToText(os.path.join(place, 'sums'))
      )
    for path in sorted(glob.glob(os.path.join(place, 'sums-*'))):
      with open(path, encoding='utf-8') as file:
        for line in file:
          word, (lower, upper) = json.loads(line)
          yield word, lower, upper

  def counter(self, job: Job, corpus: corpora.Corpus, longest: int) -> beam_lexicon.BeamEngine:
    """See `builder.Engine.counter`."""
    return beam_lexicon.BeamEngine(corpus, job.validation_one_in, self._flags, longest)

  def annotate(self, job: Job) -> list[stages.Annotated]:
    """See `builder.Engine.annotate`."""
    with beam_lexicon.pipeline(self._flags) as pipeline:
      _ = (
        pipeline
        | 'shards' >> beam.Create(range(job.shards))
        | 'spread shards' >> beam.Reshuffle()
        | 'annotate' >> beam.ParDo(_Annotate(job))
        | 'results' >> beam.ParDo(_Write(job.path('results')))
      )
    found = _collected(job.path('results'))
    return [found[shard] for shard in range(job.shards)]

  def _check_shared(self, job: Job) -> None:
    """UserError before any work where workers do not see the folder that is built."""
    with beam_lexicon.pipeline(self._flags) as pipeline:
      _ = pipeline | 'folder' >> beam.Create([job.spilled]) | 'is there' >> beam.Map(_require_folder)


def _require_folder(folder: str) -> None:
  if not os.path.isdir(folder):
    raise UserError(f'A worker of Beam does not see {folder}; DATA_DIR must be a folder that all workers share.')


class _Read(beam.DoFn):
  """The documents of a part of the corpus, cut, by shard."""

  def __init__(self, corpus: corpora.Corpus, longest: int, shards: int):
    self._corpus, self._longest, self._shards = corpus, longest, shards

  def process(self, part: Any) -> Iterator[tuple[int, Document]]:
    for document in corpora.read(self._corpus, part):
      for piece in spill.pieces(document, self._longest):
        yield spill.shard_of(piece['id'], self._shards), piece


class _Sort(beam.DoFn):
  """Writes a shard's documents in order."""

  def __init__(self, job: Job):
    self._job = job

  def process(self, found: tuple[int, Iterable[Document]]) -> Iterator[tuple[int, spill.Counts]]:
    shard, documents = found
    job = self._job
    with tempfile.TemporaryDirectory(dir=job.spilled) as place:  # of its own: a runner may try a shard twice at a time
      with spill.Spill(place, job.shards, only=shard) as spilled:
        for document in documents:
          spilled.put(document)
      counts = spill.sort(place, shard, job.validation_one_in)
      os.replace(spill.sorted_path(place, shard), spill.sorted_path(job.spilled, shard))
    yield shard, counts


class _Forms(beam.DoFn):
  """(word, (times in lower case, times with a capital)) of a shard, summed by document."""

  def __init__(self, job: Job):
    self._job = job

  def process(self, shard: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for document in self._job.training(shard):
      forms = collections.Counter(salience.word_forms(words.texts(document['text'])))
      for (word, is_lower), count in forms.items():
        yield word, (count, 0) if is_lower else (0, count)


class _AddPairs(beam.CombineFn):
  def create_accumulator(self) -> tuple[int, int]:
    return 0, 0

  def add_input(self, mutable_accumulator: tuple[int, int], element: tuple[int, int]) -> tuple[int, int]:
    return mutable_accumulator[0] + element[0], mutable_accumulator[1] + element[1]

  def merge_accumulators(self, accumulators: Iterable[tuple[int, int]]) -> tuple[int, int]:
    lower, upper = zip(*accumulators, strict=True)
    return sum(lower), sum(upper)

  def extract_output(self, accumulator: tuple[int, int]) -> tuple[int, int]:
    return accumulator


class _Annotate(beam.DoFn):
  """Annotates a shard. A shard that two workers do twice is the same both times."""

  def __init__(self, job: Job):
    self._job = job

  def setup(self) -> None:
    self._stage = stages.Annotate(self._job)

  def process(self, shard: int) -> Iterator[tuple[int, stages.Annotated]]:
    yield shard, self._stage(shard, lambda n: None)


class _Write(beam.DoFn):
  """Puts what was found of a shard where the machine that starts the pipeline reads it."""

  def __init__(self, folder: str):
    self._folder = folder

  def process(self, found: tuple[int, Any]) -> None:
    os.makedirs(self._folder, exist_ok=True)
    with open(os.path.join(self._folder, f'{found[0]:05d}'), 'wb') as file:
      file.write(plain.dump(found))


def _collected(folder: str) -> dict[int, Any]:
  """What `_Write` wrote, by shard; removes it."""
  result = {}
  for path in sorted(glob.glob(os.path.join(folder, '*'))):
    with open(path, 'rb') as file:
      shard, value = plain.load(file.read(), plain.among(spill.Counts, stages.Annotated))
      result[shard] = value
  shutil.rmtree(folder, ignore_errors=True)
  return result
