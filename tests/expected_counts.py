"""How many positions an objective corrupts in rows of one document, by its rule in plain Python: no code of ours.

Each takes clean rows, int32 [rows, length] by name, `bos` first and `eos` last, and gives the expected number of each
row, or of all.
"""

import itertools
import math
import random

import numpy as np

Rows = dict[str, np.ndarray]


def _text(rows: Rows) -> int:
  """Tokens between `bos` and `eos`."""
  return rows['targets'].shape[1] - 2


def causal_masked(rows: Rows) -> float:
  """CM3's walk: clamp(Poisson(1), 1, 16) spans of two sorted draws, n * n candidates; three tokens more a span."""
  rng, length, draws = random.Random(0), _text(rows), 20_000

  def moved() -> int:
    wanted, below = 0, math.exp(-1)
    product = rng.random()
    while product > below:
      wanted, product = wanted + 1, product * rng.random()
    wanted = min(max(wanted, 1), 16)
    spans = []
    turn = 0
    while len(spans) < wanted and (turn < wanted**2 or not spans):
      turn += 1
      low, high = sorted((rng.random(), rng.random()))
      low, high = math.floor(low * length), min(math.floor(high * length + 0.5), length)
      if low < high and all(high <= start or end <= low for start, end in spans):
        spans.append((low, high))
    return sum(end - start + 3 for start, end in spans)

  return sum(moved() for _ in range(draws)) / draws


def fill_in_the_middle(rate: float, characters: int):
  """Both cuts at every place between characters, of which each token has as many; PSM and SPM by halves.

  What is moved are four marks, the parts of tokens that are cut, the middle, and in SPM the prefix too.
  """

  def expected(rows: Rows) -> float:
    places = range(characters * _text(rows) + 1)
    total = 0.0
    for a, b in itertools.combinations_with_replacement(places, 2):
      (first, in_first), (second, in_second) = divmod(a, characters), divmod(b, characters)
      if in_first and first == second:  # the second cut moves to the token's end
        parts, middle = 2, 0
      else:
        parts = 2 * (in_first > 0) + 2 * (in_second > 0)
        middle = second - first - (in_first > 0)
      total += (1 if a == b else 2) * (4 + parts + middle + first / 2)
    return rate * total / len(places) ** 2

  return expected


def noise_strategies(rows: Rows) -> float:
  """Six strategies alike: all, all but 1..n - 1 from either side, all but some first blocks, one, a random share."""
  n = _text(rows)
  some = sum(n - kept for kept in range(1, n)) / (n - 1)
  blocks = [sum(n - -(-whole * n // blocks) for whole in range(1, blocks)) / (blocks - 1) for blocks in range(2, 7)]
  share = n / 2 + 1 / (n + 1)  # every number from 0 is as likely; none becomes one
  return (n + some + some + sum(blocks) / 5 + 1 + share) / 6


def _spans(ids: np.ndarray) -> list[int]:
  """Lengths of the runs of equal ids above 0."""
  return [len(list(run)) for number, run in itertools.groupby(ids.tolist()) if number]


def one_salient_span(more: int = 0):
  """Any span of ten tokens or fewer, all alike, and so many tokens more."""

  def expected(rows: Rows) -> np.ndarray:
    lengths = [[size for size in _spans(ids) if size <= 10] for ids in rows['salient_ids']]
    return np.array([more + sum(sizes) / len(sizes) for sizes in lengths])

  return expected


def salient_budget(rate: float):
  """The budget, or all spans where they have fewer tokens."""

  def expected(rows: Rows) -> np.ndarray:
    able = [sum(size for size in _spans(ids) if size <= 10) for ids in rows['salient_ids']]
    return np.minimum(able, round(rate * rows['targets'].shape[1]))

  return expected


def boundaries(rate: float, draws: int = 8):
  """ERNIE-Gram's [MASK]s: a share of what is left when entries that overlap were taken in a random order."""

  def units(lengths: list[int], rng: random.Random) -> int:
    entries = [(start, start + size) for start, size in enumerate(lengths) if 1 < size <= 16]
    rng.shuffle(entries)
    taken = []
    for start, end in entries:
      if all(end <= other or until <= start for other, until in taken):
        taken.append((start, end))
    return sum(start - end + 1 for start, end in taken)

  def expected(rows: Rows) -> np.ndarray:
    rng, n = random.Random(0), _text(rows)
    share = round(rate * rows['targets'].shape[1]) / n
    count = lambda row: n + sum(units(row.tolist(), rng) for _ in range(draws)) / draws
    return share * np.array([count(row) for row in rows['collocation_lengths']])

  return expected
