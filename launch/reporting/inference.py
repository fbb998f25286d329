"""How sure one can be: intervals over seeds, bootstrap over questions, paired tests, and one correction for all.

Two things are left to chance: the training run (the seed) and which questions were asked. A difference between two
cells is called found only if both tests find it, so its p-value is the larger of the two (an intersection-union test;
Berger 1982, Technometrics 24, 295-300):

  seeds      a paired t-test of the differences by seed, for runs of one seed read the same rows in the same order. It
             needs three seeds.
  questions  a bootstrap that draws clusters of questions, the same ones for both cells, and with several seeds also
             draws seeds (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 386-411: rows and
             columns of a crossed table are drawn independently). It needs ten clusters.

Each test compares all pairs of cells, and p-values are adjusted over all of them by Holm's method (1979, Scandinavian
Journal of Statistics 6, 65-70) with Shaffer's factors (1986, Journal of the American Statistical Association 81,
826-831). Comparing only with the cell that came out best would ask for less, and finds a difference where there is none
in 8 % (six cells, three seeds) to 11 % (nine cells, five seeds) of columns instead of 5 %: which cell is best is read
from the same figures.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from . import resampling
from .comparing import Cell, Sweep
from .reading import Test

LEVEL = 0.05
MIN_SEEDS = 3


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
    adjusted: p after the correction over all pairs of the column.
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


def shaffer(p_values: Sequence[float], cells: int) -> list[float]:
  """P-values of all pairs of `cells` cells, adjusted by Holm's step-down method with Shaffer's factors, in order.

  Holm multiplies the i-th smallest of m by m - i + 1, as many as may still be true. But not any number of pairs can be
  equal: after one difference among six cells at most 10 of the 14 other pairs can.
  """
  p = np.asarray(p_values, float)
  possible = np.array(sorted(_equal_pairs(cells)))
  left = np.arange(len(p), 0, -1)
  factors = possible[np.searchsorted(possible, left, side='right') - 1]
  order = np.argsort(p)
  adjusted = np.empty(len(p))
  adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.maximum(1, factors)))
  return adjusted.tolist()


@functools.cache
def _equal_pairs(cells: int) -> frozenset[int]:
  """How many pairs can be equal: of all ways to put cells into groups of equals."""
  if cells < 2:
    return frozenset({0})
  return frozenset(math.comb(size, 2) + rest for size in range(1, cells + 1) for rest in _equal_pairs(cells - size))


def smallest_found(seeds: int, cells: int) -> float:
  """The least mean difference, in its standard deviations over seeds, that is found first among so many cells."""
  return float(stats.t.isf(LEVEL / math.comb(cells, 2) / 2, seeds - 1)) / seeds**0.5


def _percentiles(mean: float, drawn: np.ndarray) -> Interval:
  low, high = np.nanpercentile(drawn, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
  return Interval(mean, float(low), float(high), 'questions')


def column(sweep: Sweep, name: str) -> Column:
  """Intervals and comparisons of the cells that were asked the test."""
  cells = [cell for cell in sweep.cells if cell.asked(name)]
  tests = {(cell.name, run.seed): run.tests[name] for cell in cells for run in cell.asked(name)}
  drawn, _ = resampling.draw(tests, name)
  intervals = {}
  for cell in cells:
    values = [run.tests[name].value for run in cell.asked(name)]
    intervals[cell.name] = student(values)
    key = (cell.name, cell.asked(name)[0].seed)
    if len(values) == 1 and key in drawn:
      intervals[cell.name] = _percentiles(values[0], drawn[key])
  pairs = _adjusted([_compare(*two, name, drawn) for two in itertools.combinations(cells, 2)], len(cells))
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
    means = resampling.draw_seeds(each, name)
    p_questions = resampling.crossing(means)
    if len(differences) == 1:
      interval = _percentiles(differences[0], means)
  found = [p for p in (p_seeds, p_questions) if p is not None]
  # With two seeds the questions alone would say too much: that the runs differ is no news, and no test tells why.
  p = max(found) if found and (p_seeds is not None or len(keys) == 1) else None
  return Pair(first.name, second.name, interval, p_seeds, p_questions, p)


def _adjusted(pairs: Sequence[Pair], cells: int) -> list[Pair]:
  tested = [pair.p for pair in pairs if pair.p is not None]
  # Pairs without a test count as comparisons that were not found.
  adjusted = iter(shaffer([*tested, *[1.0] * (len(pairs) - len(tested))], cells))
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
