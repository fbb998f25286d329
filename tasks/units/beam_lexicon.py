"""The distributed engine of the collocation lexicon: two Apache Beam pipelines, on any runner, by flags alone.

    --runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp --sdk_container_image=IMAGE
    --runner=FlinkRunner --flink_master=HOST:8081 --temp_location=/shared/tmp --environment_type=...

The first counts n-grams, the second, once they are scored, the words that each size of lexicon covers. Workers read the
corpus themselves, shard by shard where it has shards; only frequent n-grams come to the machine that starts this, by
way of files under --temp_location, which workers and it must share. Unlike the in-process engine it splits words with
`words.split` itself. Not in the default installation: `pip install -r requirements-beam.txt`.
"""

import collections
import contextlib
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ... import UserError
from .. import corpora, spill
from . import words
from .collocations import NEVER, Counts, Level, pack
from .lexicon import LENGTHS, LONGEST

try:
  import apache_beam as beam
  from apache_beam.io.filesystems import FileSystems
  from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, StandardOptions
except ImportError as error:
  raise UserError(
    f'The engine "beam" needs Apache Beam ({error}): pip install -r requirements-beam.txt, or use --engine=local.'
  ) from error

_TOTAL = '\t'  # begins the keys of totals, which are no n-grams


class BeamEngine:
  """Counts a corpus with Beam. A context manager: what was written under the temporary location goes when it is left.

  Args:
    corpus: read by the workers; it must be readable there.
    validation_one_in: documents of the validation split, `corpora.is_validation`, are not counted.
    flags: pipeline options, as on any Beam program's command line.
    longest: characters; a longer document is cut as in the cache, and no n-gram goes from one piece into the next.
  """

  def __init__(self, corpus: corpora.Corpus, validation_one_in: int, flags: Sequence[str], longest: int):
    self._corpus, self._one_in, self._longest = corpus, validation_one_in, longest
    self._flags = list(flags)

  def __enter__(self) -> 'BeamEngine':
    options = PipelineOptions(self._flags)
    runner = options.view_as(StandardOptions).runner or 'DirectRunner'
    place = options.view_as(GoogleCloudOptions).temp_location
    if not place and 'Direct' not in runner:
      raise UserError(f'{runner} needs --temp_location=PLACE behind "--", which its workers and this machine share.')
    try:
      self._folder = FileSystems.join(place or tempfile.gettempdir(), f'unmask-lexicon-{uuid.uuid4().hex}')
      FileSystems.mkdirs(self._folder)
    except Exception as error:  # each of Beam's file systems has its own
      raise UserError(f'Cannot write in --temp_location {place}: {str(error).splitlines()[0]}.') from error
    return self

  def __exit__(self, *exception) -> None:
    for place in (f'{self._folder}/', self._folder):  # all below it first: in some systems that is all there is
      with contextlib.suppress(OSError):
        FileSystems.delete([place])

  def count(self, min_count: int) -> Counts:
    """See `Engine.count`."""
    self._run('count', beam.FlatMap(_ngrams), min_count)
    found = dict(self._results('count'))
    totals = {n: found.pop(f'{_TOTAL}{n}', 0) for n in range(1, LONGEST + 1)}
    self._texts = {n: sorted(text for text in found if text.count(' ') == n - 1) for n in totals}
    return _counts(self._texts, found, totals)

  def cover(self, sizes: Mapping[int, np.ndarray]) -> np.ndarray:
    """See `Engine.cover`."""
    path = FileSystems.join(self._folder, 'sizes')
    with FileSystems.create(path) as file:
      for n, size in sizes.items():
        for text, least in zip(self._texts[n], size.tolist(), strict=True):
          if least != NEVER:
            file.write(f'{text}\t{least}\n'.encode())
    self._run('cover', beam.ParDo(_Cover(path)), 0)
    covered = {int(size): words for size, words in self._results('cover')}
    histogram = np.zeros(1 + max((int(s[s != NEVER].max(initial=0)) for s in sizes.values()), default=0), np.int64)
    histogram[list(covered)] = list(covered.values())
    return histogram

  def _run(self, name: str, pairs: beam.PTransform, more_than: int) -> None:
    """A pipeline from the training documents to files of sums by key; `pairs` gives keys and numbers."""
    with pipeline(self._flags) as root:
      _ = (
        root
        | 'shards' >> beam.Create(corpora.shards(self._corpus))
        | 'spread shards' >> beam.Reshuffle()
        | 'documents' >> beam.ParDo(_Texts(self._corpus, self._one_in, self._longest))
        | 'spread documents' >> beam.Reshuffle()
        | name >> pairs
        | 'sum' >> beam.CombinePerKey(sum)  # summed on the worker that counted first, then across workers
        | 'keep' >> beam.Filter(_is_kept, more_than)
        | 'lines' >> beam.MapTuple(lambda key, number: f'{key}\t{number}')
        | 'write' >> beam.io.WriteToText(FileSystems.join(self._folder, name), append_trailing_newlines=True)
      )

  def _results(self, name: str) -> Iterator[tuple[str, int]]:
    """What a pipeline wrote."""
    (match,) = FileSystems.match([FileSystems.join(self._folder, f'{name}-*')])
    for metadata in match.metadata_list:
      with FileSystems.open(metadata.path) as file:
        for line in file.read().decode().split('\n')[:-1]:
          key, _, number = line.rpartition('\t')
          yield key, int(number)


@contextlib.contextmanager
def pipeline(flags: Sequence[str]) -> Iterator[beam.Pipeline]:
  """A pipeline that runs when it is left; UserError for what a worker raised or Beam refuses."""
  try:
    with beam.Pipeline(options=PipelineOptions(list(flags))) as root:
      yield root
  except UserError as error:  # raised by a worker that shares this process; Beam adds where
    raise UserError(str(error).split(' [while running')[0]) from error
  except ValueError as error:
    raise UserError(f'Beam refuses to start: {str(error).splitlines()[0]}; mend the flags behind "--".') from error


class _Texts(beam.DoFn):
  """Reads the training documents of a shard."""

  def __init__(self, corpus: corpora.Corpus, validation_one_in: int, longest: int):
    self._corpus, self._one_in, self._longest = corpus, validation_one_in, longest

  def process(self, shard: Any) -> Iterator[str]:
    return spill.training_texts(corpora.read(self._corpus, shard), self._one_in, self._longest)


def _runs(text: str) -> Iterator[list[str]]:
  """Normalised words of each stretch without marks and line ends."""
  document, run = words.split(text), []
  for word, is_word in zip(document.texts, document.is_word(), strict=True):
    if is_word:
      run.append(words.normalise(word))
    elif run:
      yield run
      run = []
  if run:
    yield run


def _ngrams(text: str) -> Iterable[tuple[str, int]]:
  """A document's n-grams, n = 1..5, and how many there are of each length."""
  counts: collections.Counter[str] = collections.Counter()
  for run in _runs(text):
    for n in range(1, min(LONGEST, len(run)) + 1):
      counts.update(' '.join(run[start : start + n]) for start in range(len(run) - n + 1))
      counts[f'{_TOTAL}{n}'] += len(run) - n + 1
  return counts.items()


def _is_kept(pair: tuple[Any, int], more_than: int) -> bool:
  return pair[1] > more_than or str(pair[0]).startswith(_TOTAL)


class _Cover(beam.DoFn):
  """For each word of a document, the smallest lexicon that covers it: (size, words) pairs."""

  def __init__(self, path: str):
    self._path = path

  def setup(self):
    with FileSystems.open(self._path) as file:
      lines = file.read().decode().split('\n')[:-1]
    self._sizes = {ngram: int(size) for ngram, _, size in (line.partition('\t') for line in lines)}

  def process(self, text: str):
    counts: collections.Counter[int] = collections.Counter()
    for run in _runs(text):
      smallest = [int(NEVER)] * len(run)
      for n in LENGTHS:
        for start in range(len(run) - n + 1):
          size = self._sizes.get(' '.join(run[start : start + n]), NEVER)
          for at in range(start, start + n):
            smallest[at] = min(smallest[at], int(size))
      counts.update(smallest)
    del counts[int(NEVER)]
    yield from counts.items()


def _counts(texts: Mapping[int, list[str]], found: Mapping[str, int], totals: Mapping[int, int]) -> Counts:
  """The same table as the in-process engine makes. A space sorts before what words are made of, so the order of
  n-grams by their texts is that by their words.
  """
  levels = {}
  number_of = {word: number for number, word in enumerate(texts[1])}
  places = dict.fromkeys([''], 0)
  for n, ngrams in texts.items():
    parts = [ngram.rpartition(' ') for ngram in ngrams]
    first = np.array([places[head] for head, _, _ in parts], np.uint64)
    last = np.array([number_of[tail] for _, _, tail in parts], np.uint64)
    levels[n] = Level(pack(first, last), np.array([found[ngram] for ngram in ngrams], np.int64))
    places = {ngram: place for place, ngram in enumerate(ngrams)}
  return Counts(texts[1], levels, totals)
