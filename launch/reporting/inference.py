"""How sure one can be: intervals over seeds, bootstrap over questions, paired tests, and one correction for all.

Two things are left to chance: the training run (the seed) and which questions were asked. A difference between two cells
is called found only if both tests find it, so its p-value is the larger of the two (an intersection-union test; Berger
1982, Technometrics 24, 295-300):

  seeds      a paired t-test of the differences by seed, for runs of one seed read the same rows in the same order. It
             needs three seeds.
  questions  a bootstrap that draws clusters of questions, the same ones for both cells, and with several seeds also draws
             seeds (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 386-411: rows and columns of a
             crossed table are drawn independently). It needs ten clusters.

Each column compares all pairs of cells, and p-values are adjusted by Holm's method over all of them (Holm 1979,
Scandinavian Journal of Statistics 6, 65-70). Comparing only with the cell that came out best would ask for less, and
finds a difference where there is none in 8 % (six cells) to 11 % (nine cells, five seeds) of columns instead of 5 %: which
cell is best is read from the same figures.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from .comparing import Cell, Sweep
from .reading import Test

LEVEL = 0.05
DRAWS = 10_000
MIN_SEEDS = 3
MIN_CLUSTERS = 10
_CHUNK_CELLS = 1 << 23


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and a 95 % interval: over 'seeds', over 'questions' (one model, other questions), or None that is known."""

  mean: float
  low: float
  high: float
  over: str | None

  @property
  def half(self) -> float:
    return (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Pair:
  """The difference first - second in the test's own unit.

  Attributes:
    p_seeds, p_questions: None where there are too few seeds or clusters of questions to test.
    p: the larger of those that there are; None if there is none.
    adjusted: p after Holm's correction over all pairs of the column.
  """

  first: str
  second: str
  difference: Interval
  p_seeds: float | None
  p_questions: float | None
  p: float | None
  adjusted: float | None = None

  @property
  def found(self) -> bool:
    return self.adjusted is not None and self.adjusted < LEVEL


@dataclasses.dataclass(frozen=True)
class Column:
  """One test over all cells that were asked it.

  Attributes:
    over: what differences were tested over: 'seeds and questions', 'questions' alone, 'seeds' alone, or None.
    leader: the cell whose mean is best.
    near: cells not told apart from the leader.
  """

  test: Test
  intervals: dict[str, Interval]
  pairs: tuple[Pair, ...]
  over: str | None
  leader: str
  near: tuple[str, ...]

  def mark(self, cell: str) -> str:
    """'best' of a leader told apart from every other cell; 'near' of the leaders of which that cannot be said.

    Nothing is marked in a column in which no cell is told apart from the leader, or in which there is one cell.
    """
    if len(self.intervals) < 2 or len(self.near) == len(self.intervals) - 1:
      return ''
    if cell == self.leader:
      return 'near' if self.near else 'best'
    return 'near' if cell in self.near else ''

  def pair(self, first: str, second: str) -> Pair | None:
    return next((pair for pair in self.pairs if {pair.first, pair.second} == {first, second}), None)


def student(values: Sequence[float]) -> Interval:
  """Mean and 95 % interval of independent values by Student's t; of one value no interval."""
  mean = float(np.mean(values))
  if len(values) < 2:
    return Interval(mean, mean, mean, None)
  half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
  return Interval(mean, mean - float(half), mean + float(half), 'seeds')


def paired_t(differences: Sequence[float]) -> float:
  """Two-sided p-value of a mean of zero, of two or more differences."""
  mean, deviation = np.mean(differences), np.std(differences, ddof=1)
  if deviation == 0:  # equal to the last bit
    return float(mean == 0)
  t = mean / deviation * len(differences) ** 0.5
  return float(2 * stats.t.sf(abs(t), len(differences) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
  """P-values adjusted by Holm's step-down method, in the order given."""
  p = np.asarray(p_values, float)
  order = np.argsort(p)
  stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
  adjusted = np.empty(len(p))
  adjusted[order] = np.minimum(1, stepped)
  return adjusted.tolist()


def ratio_arrays(test: Test) -> tuple[np.ndarray, np.ndarray] | None:
  """Of each item, what the primary figure sums above and below the line: float64 [items] each.

  None where the figure is no such ratio, as of a mean of means: then there is nothing to draw from.
  """
  arrays, figure = test.arrays, test.primary.figure
  above = {'loss': 'nll', 'accuracy': 'right', 'mrr': 'reciprocal_rank'}.get(figure, figure)
  below = {'loss': 'tokens', 'exact': 'gaps'}.get(figure) if test.kind == 'gaps' else None
  if test.kind != 'gaps' and above not in arrays:
    above = 'right'
  if above not in arrays or len(arrays[above]) == 0:
    return None
  tops = arrays[above].astype(float)
  bottoms = arrays[below].astype(float) if below else np.ones(len(tops))
  if not bottoms.sum() or not np.isclose(tops.sum() / bottoms.sum(), test.value, rtol=1e-5, atol=1e-7):
    return None
  return tops, bottoms


def _draw(tests: Mapping[tuple[str, int], Test], name: str) -> tuple[dict[tuple[str, int], np.ndarray], int]:
  """The primary figure of each run on the same `DRAWS` draws of clusters of questions; and how many clusters there are.

  Drawn are as many clusters as there are, with replacement.
  """
  ratios = {key: ratio_arrays(test) for key, test in tests.items()}
  if not ratios or any(ratio is None for ratio in ratios.values()):
    return {}, 0
  clusters = np.unique(next(iter(tests.values())).arrays['cluster'], return_inverse=True)[1]
  count = int(clusters.max()) + 1
  if count < MIN_CLUSTERS:
    return {}, count
  summed = [np.bincount(clusters, part, count) for ratio in ratios.values() if ratio for part in ratio]
  sums = np.stack(summed, axis=1)  # [clusters, 2 x runs]
  random = np.random.default_rng([zlib.crc32(name.encode()), count])
  drawn = []
  size = max(1, _CHUNK_CELLS // count)
  for start in range(0, DRAWS, size):
    many = min(size, DRAWS - start)
    picked = random.integers(count, size=(many, count)) + count * np.arange(many)[:, None]
    drawn.append(np.bincount(picked.ravel(), minlength=many * count).reshape(many, count) @ sums)
  totals = np.concatenate(drawn)
  with np.errstate(invalid='ignore', divide='ignore'):
    values = totals[:, 0::2] / totals[:, 1::2]  # of a draw without a token: nan, and left out below
  return {key: values[:, place] for place, key in enumerate(ratios)}, count


def _draw_seeds(drawn: Sequence[np.ndarray], name: str) -> np.ndarray:
  """The mean over seeds, which are drawn with replacement for each draw of questions: [DRAWS]."""
  stacked, count = np.stack(drawn), len(drawn)
  if count == 1:
    return stacked[0]
  random = np.random.default_rng([zlib.crc32(name.encode()), count, 1])
  return np.take_along_axis(stacked, random.integers(count, size=(count, stacked.shape[1])), axis=0).mean(0)


def _percentiles(mean: float, drawn: np.ndarray) -> Interval:
  low, high = np.nanpercentile(drawn, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
  return Interval(mean, float(low), float(high), 'questions')


def _crossing(drawn: np.ndarray) -> float:
  """Two-sided p-value: how often draws of a difference come to lie on the other side of zero, or on it."""
  drawn = drawn[~np.isnan(drawn)]
  tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
  return min(1.0, 2 * (tail + 1) / (len(drawn) + 1))


def column(sweep: Sweep, name: str) -> Column:
  """Intervals and comparisons of the cells that were asked the test."""
  cells = [cell for cell in sweep.cells if cell.asked(name)]
  tests = {(cell.name, run.seed): run.tests[name] for cell in cells for run in cell.asked(name)}
  drawn, _ = _draw(tests, name)
  intervals = {}
  for cell in cells:
    values = [run.tests[name].value for run in cell.asked(name)]
    intervals[cell.name] = student(values)
    key = (cell.name, cell.asked(name)[0].seed)
    if len(values) == 1 and key in drawn:
      intervals[cell.name] = _percentiles(values[0], drawn[key])
  pairs = _adjusted([_compare(*two, name, drawn) for two in itertools.combinations(cells, 2)])
  sign = sweep.tests[name].primary.sign
  leader = max(intervals, key=lambda cell: sign * intervals[cell].mean)
  apart = {frozenset((pair.first, pair.second)) for pair in pairs if pair.found}
  near = tuple(cell for cell in intervals if cell != leader and frozenset((cell, leader)) not in apart)
  return Column(sweep.tests[name], intervals, tuple(pairs), _over(pairs), leader, near)


def columns(sweep: Sweep) -> dict[str, Column]:
  """A column for each test, in order."""
  return {name: column(sweep, name) for name in sweep.tests}


def _compare(first: Cell, second: Cell, name: str, drawn: Mapping[tuple[str, int], np.ndarray]) -> Pair:
  mine, others = ({run.seed: run.tests[name].value for run in cell.asked(name)} for cell in (first, second))
  seeds = sorted(mine.keys() & others.keys())
  # Without a seed in common nothing is paired by seed: the cells' first runs stand for them, on the same questions.
  keys = [(seed, seed) for seed in seeds] or [(min(mine), min(others))]
  differences = [mine[a] - others[b] for a, b in keys]
  interval = student(differences)
  p_seeds = paired_t(differences) if len(seeds) >= MIN_SEEDS else None
  p_questions = None
  if (first.name, keys[0][0]) in drawn:
    each = [drawn[first.name, a] - drawn[second.name, b] for a, b in keys]
    means = _draw_seeds(each, name)
    p_questions = _crossing(means)
    if len(differences) == 1:
      interval = _percentiles(differences[0], means)
  found = [p for p in (p_seeds, p_questions) if p is not None]
  # With two seeds the questions alone would say too much: that the runs differ is no news, and no test tells why.
  p = max(found) if found and (p_seeds is not None or len(keys) == 1) else None
  return Pair(first.name, second.name, interval, p_seeds, p_questions, p)


def _adjusted(pairs: Sequence[Pair]) -> list[Pair]:
  tested = [pair.p for pair in pairs if pair.p is not None]
  # Pairs without a test count as comparisons that were not found.
  adjusted = iter(holm([*tested, *[1.0] * (len(pairs) - len(tested))]))
  return [pair if pair.p is None else dataclasses.replace(pair, adjusted=next(adjusted)) for pair in pairs]


def _over(pairs: Sequence[Pair]) -> str | None:
  tested = [pair for pair in pairs if pair.p is not None]
  if not tested:
    return None
  seeds = all(pair.p_seeds is not None for pair in tested)
  questions = all(pair.p_questions is not None for pair in tested)
  if seeds:
    return 'seeds and questions' if questions else 'seeds'
  return 'questions'
