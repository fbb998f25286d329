"""How fast and how large the lexicon's build is, beside a plain dictionary counter and a plain DuckDB query.

    python tests/benchmarks/lexicon.py --text=FILE.jsonl[.xz] [--parts=4,2,1] [--limit=300] [--memory=2048]

Each figure is from a child process of its own, which reads the file, splits it into words and finds the n-grams,
n = 2..5, of more than 10 occurrences; ours scores, ranks and writes the lexicon as well. At three sizes: every fourth
document, every second, all, which are first written to a plain file. Words a second are of wall time; MiB is the
largest resident set; the last column is the speed as a share of ours. All must find the same numbers of n-grams. A
child that takes longer than the limit is ended.
"""

import argparse
import collections
import itertools
import json
import lzma
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator


def part(path: str, every: int, place: str) -> int:
  """Writes every so-manieth line of a file; returns how many bytes."""
  opened = lzma.open(path, 'rb') if path.endswith('.xz') else open(path, 'rb')  # noqa: SIM115
  with opened as lines, open(place, 'wb') as file:
    file.writelines(itertools.islice(lines, 0, None, every))
  return os.path.getsize(place)


def texts(path: str) -> Iterator[str]:
  """The texts of a file with one JSON object a line."""
  with open(path, 'rb') as lines:
    for line in lines:
      yield json.loads(line)['text']


def ours(path: str, memory: int, scratch: str) -> tuple[int, list[int]]:
  from unmask.tasks.units import collocations, counting, lexicon

  with counting.LocalEngine(texts(path), memory << 20, scratch) as engine:
    built = collocations.build(engine, lexicon.Settings(), 'benchmark')
  built.save(os.path.join(scratch, 'lexicon.tsv'))
  return built.totals[0], list(built.frequent[1:])


def _words(path: str) -> Iterator[list[str | None]]:
  """Normalised words of a document, None at marks and line ends, by words.split."""
  from unmask.tasks.units import words

  for text in texts(path):
    split = words.split(text)
    yield [
      words.normalise(word) if is_word else None for word, is_word in zip(split.texts, split.is_word(), strict=True)
    ]


def dictionary(path: str, memory: int, scratch: str) -> tuple[int, list[int]]:
  """One dictionary from n-grams to counts."""
  del memory, scratch
  counts: collections.Counter[tuple[str | None, ...]] = collections.Counter()
  for document in _words(path):
    for n in range(1, 6):
      counts.update(zip(*(document[shift:] for shift in range(n)), strict=False))
  whole = [(len(ngram), count) for ngram, count in counts.items() if None not in ngram]
  frequent = collections.Counter(n for n, count in whole if count > 10)
  return sum(count for n, count in whole if n == 1), [frequent[n] for n in range(2, 6)]


def query(path: str, memory: int, scratch: str) -> tuple[int, list[int]]:
  """Words as rows of a table, and one query a length: neighbours by a window, grouped."""
  import duckdb
  import pyarrow as pa

  limits = {'memory_limit': f'{memory}MiB', 'temp_directory': scratch}
  database = duckdb.connect(os.path.join(scratch, 'words.duckdb'), config=limits)

  def batches() -> Iterator[pa.RecordBatch]:
    for group in _grouped(_words(path), 2000):
      yield pa.record_batch([pa.array([word for document in group for word in [*document, None]])], ['word'])

  words = pa.RecordBatchReader.from_batches(pa.schema([('word', pa.string())]), batches())
  database.register('source', words)
  database.execute('create table words as select row_number() over () as place, word from source')
  total = database.execute('select count(word) from words').fetchone()[0]
  found = []
  for n in range(2, 6):
    columns = ', '.join(f'lead(word, {i}) over (order by place) as w{i}' for i in range(1, n))
    names = ', '.join(['word', *(f'w{i}' for i in range(1, n))])
    present = ' and '.join(f'{name} is not null' for name in names.split(', '))
    groups = f'select {names} from (select word, {columns} from words) where {present} group by {names}'
    found.append(database.execute(f'select count(*) from ({groups} having count(*) > 10)').fetchone()[0])
  return total, found


def _grouped(items: Iterator, size: int) -> Iterator[list]:
  while group := list(itertools.islice(items, size)):
    yield group


def _child(counter, path, memory, answer):
  with tempfile.TemporaryDirectory() as scratch:
    began = time.monotonic()
    found = counter(path, memory, scratch)
    seconds = time.monotonic() - began
  answer.put((found, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(counter, path: str, memory: int, limit: float) -> tuple | None:
  """(words, n-grams), seconds and MiB of one child process; None if it was ended or ran out of memory."""
  context = multiprocessing.get_context('spawn')
  answer = context.Queue()
  child = context.Process(target=_child, args=(counter, path, memory, answer))
  child.start()
  child.join(limit)
  if child.is_alive():
    child.kill()
    child.join()
  return answer.get() if child.exitcode == 0 else None


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--text', required=True)
  parser.add_argument('--parts', default='4,2,1', help='every so-manieth document, for each size')
  parser.add_argument('--limit', type=float, default=300, help='seconds a child may take')
  parser.add_argument('--memory', type=int, default=2048, help='MiB for ours and for DuckDB')
  options = parser.parse_args()
  print(f'{"documents":>10} {"MB":>5} {"counter":>10} {"words":>12} {"s":>7} {"words/s":>10} {"MiB":>7} {"of ours":>8}')
  with tempfile.TemporaryDirectory() as folder:
    for every in map(int, options.parts.split(',')):
      place = os.path.join(folder, 'part.jsonl')
      size = f'{f"1 in {every}":>10} {part(options.text, every, place) / 1e6:5.0f}'
      _compare(place, size, options)


def _compare(place: str, size: str, options: argparse.Namespace) -> None:
  """Prints a line for each counter; exits if what they find differs."""
  numbers = {}
  for counter in (ours, dictionary, query):
    result = measure(counter, place, options.memory, options.limit)
    if result is None:
      print(f'{size} {counter.__name__:>10}  ended: more than {options.limit:.0f} s, or of memory', flush=True)
      continue
    (num_words, found), seconds, mebibytes = result
    numbers[counter.__name__] = (num_words, found, seconds)
    ratio = numbers['ours'][2] / seconds if 'ours' in numbers else float('nan')
    row = f'{num_words:12,} {seconds:7.1f} {num_words / seconds:10,.0f} {mebibytes:7,.0f} {ratio:8.3f}'
    print(f'{size} {counter.__name__:>10} {row}', flush=True)
  if len({(num_words, *counts) for num_words, counts, _ in numbers.values()}) != 1:
    sys.exit(f'The counters disagree: {numbers}')


if __name__ == '__main__':
  main()
