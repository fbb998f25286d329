"""The in-process engine of the collocation lexicon: one machine, memory bounded, what does not fit goes to disk.

The corpus is read once. Its words become files of numbers in a scratch folder, a file for some millions of characters
(a chunk), which ends with a break, so that no n-gram goes from one chunk into the next. A pass over the chunks then
counts each length: an n-gram can only be frequent where both (n-1)-grams in it are, so only such places are counted.
Their keys are written to as many files (buckets) as memory asks for, by a hash, and each bucket is sorted alone. A
further pass notes where the frequent n-grams stand.

In memory at any time are a few chunks or buckets and the frequent words and n-grams themselves, which are the result.
"""

import collections
import concurrent.futures
import contextlib
import heapq
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from ... import UserError
from . import splitting
from .collocations import NEVER, Counts, Level, pack
from .lexicon import LENGTHS, LONGEST

_ABSENT = splitting.BREAK  # where no frequent n-gram starts
_LARGEST_CHUNK = 1 << 21  # characters; more is no faster
_BYTES_A_CHARACTER = 48  # what a chunk takes at most while it is split, text and all
_BYTES_A_KEY = 48  # what a bucket takes while it is sorted
_BYTES_A_NAME = 200  # what a word takes in a dictionary
_MOST_BUCKETS = 256  # open files
_MOST_RUNS = 64  # open files
_LEAST_MEMORY = 1 << 20

_T = TypeVar('_T')
_R = TypeVar('_R')


class LocalEngine:
  """Counts documents on this machine. A context manager: the scratch folder goes when it is left.

  Attributes:
    chunks: how many files the words are in, once `count` has read the corpus.
    buckets: by length, how many files the keys were divided into; for length 1, how often words were put by.
  """

  def __init__(
    self,
    texts: Iterable[str],
    memory_limit: int = 2 << 30,
    scratch_dir: str | None = None,
    threads: int | None = None,
  ):
    """
    Args:
      texts: the documents, read once.
      memory_limit: bytes for what is being worked on; the interpreter, one document and the result come on top.
      scratch_dir: where spilled words go, some 30 bytes a word; None takes the system's temporary folder.
      threads: as many as there are cores, up to 8, unless given.
    """
    if memory_limit < _LEAST_MEMORY:
      raise UserError(f'The lexicon needs a memory limit of 1 MiB or more, not {memory_limit} bytes.')
    self._texts = texts
    self._threads = threads or min(8, os.cpu_count() or 1)
    self._memory = memory_limit // (self._threads + 2)  # as many chunks or buckets are held at a time
    self._scratch_dir = scratch_dir
    self.chunks = 0
    self.buckets: dict[int, int] = {}

  def __enter__(self) -> 'LocalEngine':
    try:
      self._folder = tempfile.mkdtemp(prefix='unmask-lexicon-', dir=self._scratch_dir)
    except OSError as error:
      raise UserError(f'Cannot make a scratch folder in {self._scratch_dir!r}: {error.strerror}.') from error
    self._pool = concurrent.futures.ThreadPoolExecutor(self._threads)
    return self

  def __exit__(self, *exception) -> None:
    self._pool.shutdown(cancel_futures=True)
    shutil.rmtree(self._folder, ignore_errors=True)

  def count(self, min_count: int) -> Counts:
    """See `Engine.count`."""
    totals, most = np.zeros(LONGEST, np.int64), max(1, min(_LARGEST_CHUNK, self._memory // _BYTES_A_CHARACTER))
    tally = WordTally(self._folder, self._memory // _BYTES_A_NAME)
    for found in self._each(self._split, enumerate(splitting.pieces(self._texts, most))):
      self.chunks += 1
      totals += found.totals
      tally.add(found.names, found.counts.tolist())
    words, counts = tally.frequent(min_count)
    self.buckets[1] = tally.spilled
    number_of = {word: number for number, word in enumerate(words)}
    self._all_chunks(lambda chunk: self._renumber(chunk, number_of))
    levels = {1: Level(np.arange(len(words), dtype=np.uint64), counts)}
    for n in LENGTHS:
      levels[n] = self._group(n, int(levels[n - 1].counts.sum()), min_count)
      self._all_chunks(lambda chunk, n=n: self._locate(chunk, n, levels[n].keys))
    return Counts(words, levels, {n: int(totals[n - 1]) for n in range(1, LONGEST + 1)})

  def cover(self, sizes: Mapping[int, np.ndarray]) -> np.ndarray:
    """See `Engine.cover`."""
    finite = [size[size != NEVER] for size in sizes.values()]
    histogram = np.zeros(1 + max((int(size.max()) for size in finite if len(size)), default=0), np.int64)
    extended = {n: np.append(size, NEVER) for n, size in sizes.items()}
    for found, words in self._each(lambda chunk: self._covered(chunk, extended), range(self.chunks)):
      histogram[found] += words
    return histogram

  def _all_chunks(self, function: Callable[[int], None]) -> None:
    for _ in self._each(function, range(self.chunks)):
      pass

  def _each(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """The function's values in order, made by all threads; as few items as keep them busy are held at a time."""
    pending: collections.deque[concurrent.futures.Future[_R]] = collections.deque()
    for item in items:
      pending.append(self._pool.submit(function, item))
      if len(pending) > self._threads:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()

  def _split(self, numbered: tuple[int, list[str]]) -> splitting.Numbered:
    """Writes a chunk's words, numbered by themselves; returns the rest of what was found."""
    chunk, texts = numbered
    found = splitting.number(texts)
    self._write(found.numbers, chunk, 1)
    with open(self._path(f'{chunk}.names'), 'wb') as file:
      file.write('\n'.join(found.names).encode())
    return found._replace(numbers=found.numbers[:0])

  def _renumber(self, chunk: int, number_of: Mapping[str, int]) -> None:
    """Gives a chunk's words the numbers of the whole corpus; rare words are in no frequent n-gram and need none."""
    with open(self._path(f'{chunk}.names'), 'rb') as file:
      names = file.read().decode().split('\n')
    numbers = np.array([*(number_of.get(name, _ABSENT) for name in names), _ABSENT], np.uint32)
    self._write(numbers[np.minimum(self._read(chunk, 1), len(numbers) - 1)], chunk, 1)

  def _keys(self, chunk: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Where n-grams start that may be frequent, int64 [m], and their keys, uint64 [m]."""
    words, shorter = self._read(chunk, 1), self._read(chunk, n - 1)
    present = shorter != _ABSENT
    at = np.flatnonzero(present[:-1] & present[1:])
    return at, pack(shorter[at], words[at + (n - 1)])

  def _group(self, n: int, most: int, min_count: int) -> Level:
    """The frequent keys of all chunks, of which there are `most` or fewer."""
    number = self.buckets[n] = min(_MOST_BUCKETS, 1 + most * _BYTES_A_KEY // self._memory)
    paths = [self._path(f'bucket.{bucket}') for bucket in range(number)]
    with contextlib.ExitStack() as stack:
      files = [stack.enter_context(open(path, 'wb')) for path in paths]
      for parts in self._each(lambda chunk: _divide(self._keys(chunk, n)[1], number), range(self.chunks)):
        for file, part in zip(files, parts, strict=True):
          part.tofile(file)
    tallies = list(self._each(lambda path: _tally(path, self._memory // _BYTES_A_KEY, min_count), paths))
    keys, counts = (np.concatenate(arrays) for arrays in zip(*tallies, strict=True))
    order = np.argsort(keys)
    return Level(keys[order], counts[order])

  def _locate(self, chunk: int, n: int, frequent: np.ndarray) -> None:
    """Writes which frequent n-gram starts at each place of a chunk."""
    at, keys = self._keys(chunk, n)
    places = np.searchsorted(frequent, keys)
    hit = np.append(frequent, np.uint64(0))[places] == keys
    hit &= places < len(frequent)
    found = np.full(self._length(chunk), _ABSENT)
    found[at[hit]] = places[hit]
    self._write(found, chunk, n)

  def _covered(self, chunk: int, sizes: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest sizes that cover words of a chunk, and how many words each does."""
    smallest = np.full(self._length(chunk), NEVER)
    for n, size in sizes.items():
      here = size[np.minimum(self._read(chunk, n), len(size) - 1)]
      for shift in range(min(n, len(here))):
        np.minimum(smallest[shift:], here[: len(here) - shift], out=smallest[shift:])
    return np.unique(smallest[smallest != NEVER], return_counts=True)

  def _path(self, name: str) -> str:
    return os.path.join(self._folder, name)

  def _write(self, array: np.ndarray, chunk: int, n: int) -> None:
    array.tofile(self._path(f'{chunk}.{n}'))

  def _read(self, chunk: int, n: int) -> np.ndarray:
    return np.fromfile(self._path(f'{chunk}.{n}'), np.uint32)

  def _length(self, chunk: int) -> int:
    return os.path.getsize(self._path(f'{chunk}.1')) // 4


class WordTally:
  """Adds up words by name; sorted runs of names go to disk when there are more than `most`."""

  def __init__(self, folder: str, most: int):
    self._folder, self._most = folder, most
    self._totals: dict[str, int] = {}
    self._runs: list[str] = []
    self.spilled = 0

  def add(self, names: Iterable[str], counts: Iterable[int]) -> None:
    totals = self._totals
    for name, count in zip(names, counts, strict=True):
      totals[name] = totals.get(name, 0) + count
    if len(totals) > self._most:
      self._spill(sorted(totals.items()))
      totals.clear()
      if len(self._runs) >= _MOST_RUNS:
        runs, self._runs = self._runs, []
        self._spill(self._merged(runs))

  def frequent(self, min_count: int) -> tuple[list[str], np.ndarray]:
    """Those above `min_count`, ascending, and their counts, int64."""
    kept = [item for item in self.items() if item[1] > min_count]
    return [name for name, _ in kept], np.array([count for _, count in kept], np.int64)

  def items(self) -> Iterator[tuple[str, int]]:
    """Names, ascending, with their sums; can be read once."""
    return self._merged(self._runs, sorted(self._totals.items()))

  def _spill(self, items: Iterable[tuple[str, int]]) -> None:
    self._runs.append(os.path.join(self._folder, f'run.{self.spilled}'))
    self.spilled += 1
    with open(self._runs[-1], 'w', encoding='utf-8') as file:
      file.writelines(f'{name}\t{count}\n' for name, count in items)

  def _merged(self, runs: list[str], rest: Iterable[tuple[str, int]] = ()) -> Iterator[tuple[str, int]]:
    with contextlib.ExitStack() as stack:
      files = [stack.enter_context(open(path, encoding='utf-8')) for path in runs]
      pairs = [((name, int(count)) for name, _, count in (line.partition('\t') for line in file)) for file in files]
      for name, same in itertools.groupby(heapq.merge(*pairs, rest), key=lambda pair: pair[0]):
        yield name, sum(count for _, count in same)
    for path in runs:
      os.remove(path)


def _divide(keys: np.ndarray, number: int) -> list[np.ndarray]:
  """The keys of each bucket: by the upper bits of a multiplicative hash, which scatters neighbours."""
  if number == 1:
    return [keys]
  bucket = ((keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) * np.uint64(number) >> np.uint64(32)
  bucket = bucket.astype(np.uint8)
  ends = np.cumsum(np.bincount(bucket, minlength=number))
  return np.split(keys[np.argsort(bucket, kind='stable')], ends[:-1])


def _tally(path: str, most: int, min_count: int) -> tuple[np.ndarray, np.ndarray]:
  """The keys that a file holds more than `min_count` times, ascending, and how often; reads `most` at a time."""
  keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
  with open(path, 'rb') as file:
    while len(part := np.fromfile(file, np.uint64, max(1, most))):
      part.sort()
      starts = np.flatnonzero(np.concatenate([[True], part[1:] != part[:-1]]))
      new, times = part[starts], np.diff(starts, append=len(part))
      if len(keys):  # what a bucket holds beyond memory is mostly the same few keys again
        new, times = np.concatenate([keys, new]), np.concatenate([counts, times])
        order = np.argsort(new, kind='stable')
        new, times = new[order], times[order]
        starts = np.flatnonzero(np.concatenate([[True], new[1:] != new[:-1]]))
        new, times = new[starts], np.add.reduceat(times, starts)
      keys, counts = new, times
  os.remove(path)
  frequent = counts > min_count
  return keys[frequent], counts[frequent]
